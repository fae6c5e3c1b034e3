//! Finds a program in `PATH`.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// No folder of the path holds the executable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no executable `{}` in PATH ({})", name.display(), path.display())]
pub struct NotInPath {
    /// The bare name of the executable.
    pub name: PathBuf,
    /// The value of `PATH` that was searched.
    pub path: PathBuf,
}

impl NotInPath {
    /// What to do: name the file by its path if it lies in `folder`, which no shell and no daemon searches; `otherwise` if not.
    pub fn next_step(&self, folder: &Path, otherwise: &str) -> String {
        if let Some(step) = without_arguments(&self.name) {
            return step;
        }
        let is_beside = folder.join(&self.name).is_file();
        if is_beside { format!("write \"./{}\"", self.name.display()) } else { otherwise.to_owned() }
    }
}

/// What to do where the name of a program has arguments behind it, as on the command line of a shell; `None` where it has none.
pub fn without_arguments(program: &Path) -> Option<String> {
    let (program, arguments) = program.to_str()?.split_once(" -")?;
    let arguments = format!("-{arguments}");
    let arguments: Vec<String> = arguments.split_whitespace().map(|argument| format!("{argument:?}")).collect();
    Some(format!("a program is named without arguments: write \"{program}\", and `args = [{}]`", arguments.join(", ")))
}

/// The absolute path of `binary`: a bare name is looked up in `search_path` (the value of PATH), any other path is made absolute.
///
/// # Errors
/// If no absolute folder of the path holds an executable file of that name.
pub fn find_program(binary: &Path, search_path: Option<&OsStr>) -> Result<PathBuf, NotInPath> {
    if binary.components().count() != 1 || binary.is_absolute() {
        return Ok(std::path::absolute(binary).unwrap_or_else(|_| binary.to_owned()));
    }
    let search_path = search_path.unwrap_or_default();
    std::env::split_paths(search_path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(binary))
        .find(|candidate| is_executable(candidate))
        .ok_or_else(|| NotInPath { name: binary.to_owned(), path: search_path.into() })
}

/// Whether this is a file that any user may execute.
pub fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_looked_up_and_a_path_is_not() {
        let folder = tempfile::tempdir().expect("tempdir");
        let (first, second) = (folder.path().join("first"), folder.path().join("second"));
        for (folder, mode) in [(&first, 0o644), (&second, 0o755)] {
            std::fs::create_dir(folder).expect("create");
            let file = folder.join("llama-server");
            std::fs::write(&file, "").expect("write");
            std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).expect("chmod");
        }
        let search_path = std::env::join_paths([Path::new("relative"), &first, &second]).expect("join");
        let found = find_program(Path::new("llama-server"), Some(&search_path));
        assert_eq!(found, Ok(second.join("llama-server")), "the first is not executable");
        assert_eq!(find_program(Path::new("/no/such/file"), Some(&search_path)), Ok("/no/such/file".into()));
        let other = find_program(Path::new("llama-other"), Some(&search_path)).expect_err("nowhere");
        assert_eq!(other.next_step(&second, "install it"), "install it");
        std::fs::write(second.join("llama-other"), "").expect("write");
        assert_eq!(other.next_step(&second, "install it"), "write \"./llama-other\"");
        assert!(find_program(Path::new("llama-server"), None).is_err());
    }
}

//! What a llama-server executable is: where it lies, which build it is, which options it lists.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use llama_warden_events::BinaryIdentity;

use crate::help::OptionList;

/// What an executable said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BinaryProfile {
    /// The executable, absolute.
    pub path: PathBuf,
    /// Which build it is.
    pub version: Version,
    /// What its help lists; `None` if that could not be read.
    pub options: Option<OptionList>,
    /// The same, as events carry it. Shared by every launch.
    pub identity: Arc<BinaryIdentity>,
}

impl BinaryProfile {
    /// The profile of an executable that told this.
    pub fn new(path: PathBuf, version: Version, options: Option<OptionList>) -> Self {
        let identity = BinaryIdentity {
            binary: path.clone(),
            version: version.short_name().map(Arc::from),
            build: version.build,
            options: options.as_ref().map(OptionList::shared_names).unwrap_or_default(),
        };
        Self { path, version, options, identity: identity.into() }
    }

    /// The profile of an executable that told nothing.
    pub fn unknown(path: PathBuf) -> Self {
        Self::new(path, Version::default(), None)
    }
}

/// What `--version` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Version {
    /// The build number. Every llama-server inside llama-cpp-python says 1, whatever its age.
    pub build: Option<u64>,
}

impl Version {
    /// Reads `version: 0.7.0 (build 11669, commit Debian)`, `version: 9093 (unknown)` or `version: 1 (4227c9b)`, which
    /// may stand below lines of a device library.
    pub fn parse(text: &str) -> Self {
        let line = text.lines().find_map(|line| line.trim().strip_prefix("version: "));
        let build = line.and_then(|line| leading_number(line.split_once("(build ").map_or(line, |(_, after)| after)));
        Self { build }
    }

    /// The build in short form, `b11669`; `None` where the number names no build.
    pub fn short_name(&self) -> Option<String> {
        self.build.filter(|build| *build > 1).map(|build| format!("b{build}"))
    }
}

/// Why an executable was not found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no executable `{}` in PATH ({})", name.display(), path.display())]
pub struct NotInPath {
    /// What was looked for.
    pub name: PathBuf,
    /// Where.
    pub path: PathBuf,
}

/// Where `binary` lies: a bare name is looked up in `search_path` (the value of PATH), anything else stays as it is.
///
/// # Errors
/// If no folder of the path holds an executable file of that name.
pub fn resolve(binary: &Path, search_path: Option<&OsStr>) -> Result<PathBuf, NotInPath> {
    if binary.components().count() != 1 || binary.is_absolute() {
        return Ok(std::path::absolute(binary).unwrap_or_else(|_| binary.to_owned()));
    }
    let search_path = search_path.unwrap_or_default();
    std::env::split_paths(search_path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(binary))
        .find(|candidate| is_executable_file(candidate))
        .ok_or_else(|| NotInPath { name: binary.to_owned(), path: search_path.into() })
}

fn is_executable_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

fn leading_number(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let is_whole_word = !text[end..].starts_with('.');
    text[..end].parse().ok().filter(|_| is_whole_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_is_read_from_every_wording_of_the_version() {
        let cases = [
            ("version: 0.7.0 (build 11669, commit Debian)\nbuilt with GNU 16.2.0", Some(11669), Some("b11669")),
            ("version: 0.6.0-dev (build 11434, commit unknown)", Some(11434), Some("b11434")),
            ("ggml_cuda_init: found 1 device\nversion: 9093 (unknown)\n", Some(9093), Some("b9093")),
            ("version: 1 (4227c9b)", Some(1), None),
            ("version: 0.7.0", None, None),
            ("error: unknown argument: --version", None, None),
            ("version: 99999999999999999999999", None, None),
            ("", None, None),
        ];
        for (text, build, short_name) in cases {
            let version = Version::parse(text);
            assert_eq!((version.build, version.short_name().as_deref()), (build, short_name), "{text:?}");
        }
    }

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
        let found = resolve(Path::new("llama-server"), Some(&search_path));
        assert_eq!(found, Ok(second.join("llama-server")), "the first is not executable");
        assert_eq!(resolve(Path::new("/no/such/file"), Some(&search_path)), Ok("/no/such/file".into()));
        assert!(resolve(Path::new("llama-other"), Some(&search_path)).is_err());
        assert!(resolve(Path::new("llama-server"), None).is_err());
    }
}

//! Makes unpacked Debian programs run from a private folder, beside an older C library.
//!
//! patchelf writes the paths of the loader and of the libraries into each program. A wrapper script would be simpler, but a
//! test that observes the process must see the program itself under the pid that it spawned.
//!
//! ```text
//! tree/bin    the programs, the data that lies beside them, and ggml's back ends, which ggml looks for beside the executable
//! tree/lib    the loader and all libraries, those in subfolders of the library path included
//! tree/fonts  the fonts, where the packages have any
//! tree/lua    the libraries in Lua 5.1, which is the version that nginx runs, where the packages have any
//! ```

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Recipe, USR_BIN};
use crate::error::{Error, OnPath};
use crate::shell;

/// Folders of modules that these programs do not load. The last ones have libraries of Lua under the names that those for 5.1 have.
const MODULE_FOLDERS: [&str; 8] = ["gconv", "engines-3", "ossl-modules", "audit", "security", "5.2", "5.3", "5.4"];

/// Folders of data, and their names in the tree.
const DATA_FOLDERS: [(&str, &str); 2] = [("usr/share/fonts", "fonts"), ("usr/share/lua/5.1", "lua")];

/// Collects the programs of `recipe` and their libraries from `unpacked` into `tree`, so that they run once `tree` lies at `place`.
///
/// # Errors
/// When a program or the loader is missing, or patchelf fails.
pub fn relocate(unpacked: &Path, tree: &Path, place: &Path, recipe: &Recipe) -> Result<(), Error> {
    let (bin, lib) = (tree.join("bin"), tree.join("lib"));
    for folder in [&bin, &lib] {
        fs::create_dir_all(folder).on("create", folder)?;
    }
    collect_libraries(&unpacked.join("usr/lib"), &lib, &bin)?;
    let programs = unpacked.join(recipe.folder);
    for program in recipe.programs {
        let from = programs.join(program);
        // Some packages have only a link there.
        let from = fs::canonicalize(&from).on("find the program", &from)?;
        fs::rename(&from, bin.join(program)).on("find the program", &from)?;
    }
    if recipe.folder != USR_BIN {
        for from in regular_files(&programs)? {
            fs::rename(&from, bin.join(from.file_name().unwrap_or_default())).on("move", &from)?;
        }
    }
    for (folder, name) in DATA_FOLDERS {
        let folder = unpacked.join(folder);
        if folder.is_dir() {
            fs::rename(&folder, tree.join(name)).on("move", &folder)?;
        }
    }
    let patchelf = Patchelf { loader: loader(&lib)?, lib: lib.clone(), program: unpacked.join("usr/bin/patchelf") };
    for library in regular_files(&lib)? {
        // The loader ignores the program's path for a library that has a RUNPATH of its own.
        if patchelf.run(&["--print-rpath"], &library).is_ok_and(|path| !path.trim().is_empty()) {
            patchelf.run(&["--remove-rpath"], &library)?;
        }
    }
    let interpreter = place.join("lib").join(patchelf.loader.file_name().unwrap_or_default());
    let interpreter = interpreter.display().to_string();
    for program in recipe.programs {
        // RPATH, unlike RUNPATH, also applies to libraries that the program's libraries load.
        let settings = ["--set-interpreter", &interpreter, "--force-rpath", "--set-rpath", "$ORIGIN/../lib"];
        patchelf.run(&settings, &bin.join(program))?;
    }
    Ok(())
}

/// Debian's patchelf, run by the unpacked loader and libraries, since this machine's may be too old for it.
struct Patchelf {
    loader: PathBuf,
    lib: PathBuf,
    program: PathBuf,
}

impl Patchelf {
    fn run(&self, arguments: &[&str], file: &Path) -> Result<String, Error> {
        let mut command = Command::new(&self.loader);
        command.arg("--library-path").args([&self.lib, &self.program]).args(arguments).arg(file);
        shell::read(&mut command)
    }
}

fn collect_libraries(from: &Path, lib: &Path, bin: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(from).on("list", from)? {
        let path = entry.on("list", from)?.path();
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default().to_owned();
        if path.is_dir() && !path.is_symlink() {
            if !MODULE_FOLDERS.contains(&name.as_str()) {
                collect_libraries(&path, lib, bin)?;
            }
        } else if name.starts_with("libggml-cpu") && name.ends_with(".so") {
            fs::rename(&path, bin.join(&name)).on("move", &path)?;
        } else if name.ends_with(".so") || name.contains(".so.") {
            place_library(&path, &lib.join(&name))?;
        }
    }
    Ok(())
}

/// Moves a library to `to`. All of them lie side by side then: a link into another folder leads to its neighbour. Of two that have one
/// name, as a program's own and that of its distribution, the file stays, not the link.
fn place_library(path: &Path, to: &Path) -> Result<(), Error> {
    match fs::read_link(path).ok().as_deref().and_then(Path::file_name) {
        Some(file) if Some(file) == to.file_name() || to.symlink_metadata().is_ok() => Ok(()),
        Some(file) => symlink(file, to).on("link", path),
        None => fs::rename(path, to).on("move", path),
    }
}

/// The dynamic loader among the collected libraries, `ld-linux-x86-64.so.2` on amd64.
fn loader(lib: &Path) -> Result<PathBuf, Error> {
    let is_loader = |path: &PathBuf| {
        path.file_name()
            .and_then(OsStr::to_str)
            .is_some_and(|name| name.starts_with("ld-linux") || name.starts_with("ld64"))
    };
    regular_files(lib)?.into_iter().find(is_loader).ok_or_else(|| {
        Error::missing(
            format!("no dynamic loader among the libraries in {}", lib.display()),
            "this architecture's libc6 is laid out differently: install llama-server yourself and set LLAMA_SERVER",
        )
    })
}

fn regular_files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).on("list", folder)? {
        let path = entry.on("list", folder)?.path();
        if path.is_file() && !path.is_symlink() {
            files.push(path);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_of_all_folders_lie_side_by_side_and_a_file_stays_where_a_link_has_its_name() {
        let folder = tempfile::tempdir().expect("makes a folder");
        let (from, lib) = (folder.path().join("from"), folder.path().join("lib"));
        for below in ["from/own", "from/shared/deep", "lib"] {
            fs::create_dir_all(folder.path().join(below)).expect("makes a folder");
        }
        for (file, text) in [("own/libv.so.1", "own"), ("shared/libv.so.1.4", "shared"), ("shared/deep/libx.so", "x")] {
            fs::write(from.join(file), text).expect("writes");
        }
        for (link, to) in [
            ("shared/libv.so.1", "libv.so.1.4"),
            ("liby.so", "shared/deep/libx.so"),
            ("libx.so", "shared/deep/libx.so"),
        ] {
            symlink(to, from.join(link)).expect("links");
        }
        collect_libraries(&from, &lib, folder.path()).expect("collects");
        let read = |name: &str| fs::read_to_string(lib.join(name)).expect("leads to a file");
        assert_eq!(["libv.so.1", "libv.so.1.4", "libx.so", "liby.so"].map(read), ["own", "shared", "x", "x"]);
    }
}

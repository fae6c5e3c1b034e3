//! Builds llama-warden as it is shipped: with the profile `dist`, and guided by how often each block of code runs for real requests
//! (profile-guided optimization, PGO).
//!
//! The counts are kept beside the code, as the list of functions that a daemon runs is, so that two builds of one commit by one compiler
//! give the same program. They go by the names of functions, in which is a hash of the compiler, of the profile, and of the versions and
//! features of all crates below. For a function of another name, and for one that has changed since, the compiler does what it does without
//! counts.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cargo::cargo;
use crate::error::{Error, OnPath};
use crate::{paths, shell};

/// The counts, from the root of the checkout, as LLVM writes them in text. `cargo xtask pgo` writes them.
const COUNTS: &str = "crates/bin/llama-warden/requests.proftext";

const PACKAGE: &str = "llama-warden";

/// The platform of the counts. Cargo is told it: the names of functions depend on that.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// Builds llama-warden, and returns its path. Symbols stay in it if `has_symbols`.
///
/// # Errors
/// When it does not build, or LLVM's tools are not installed.
pub fn build(has_symbols: bool) -> Result<PathBuf, Error> {
    let mut flags = vec![without_paths()];
    // A flag, since the profile's own setting is a part of the hash.
    flags.extend(has_symbols.then(|| "-Cstrip=none".to_owned()));
    if !is_platform() {
        return in_folder(&flags, &paths::target());
    }
    let kept = paths::root().join(COUNTS);
    let counts = fs::read_to_string(&kept).on("read", &kept)?;
    // Cargo builds anew when a flag changes, not when a file does that it names: the name changes with the content.
    let indexed = paths::target().join(format!("requests-{}.profdata", hash(&counts)));
    shell::run(llvm_profdata()?.args(["merge", "--sparse", "-o"]).args([&indexed, &kept]))?;
    flags.push(format!("-Cprofile-use={}", indexed.display()));
    let program = in_folder(&flags, &paths::target())?;
    if !fits(&counts, &program.with_file_name("deps"))? {
        eprintln!("warning: {COUNTS} names functions of other builds, and makes nothing faster");
        eprintln!("  next step: cargo xtask pgo");
    }
    Ok(program)
}

/// Builds an instrumented llama-warden, and returns its path. A process of it that ends adds how often its blocks ran to a file in
/// `counts`.
///
/// # Errors
/// When it does not build, or this is not the platform of the counts.
pub fn build_instrumented(counts: &Path) -> Result<PathBuf, Error> {
    if !is_platform() {
        return Err(Error::missing("the counts are not those of this platform", format!("run it on {PLATFORM}")));
    }
    let flags = [without_paths(), format!("-Cprofile-generate={}", counts.display())];
    // In a folder of its own: it has the name of what is shipped.
    in_folder(&flags, &paths::target().join("instrumented"))
}

/// Keeps counts, in text, for the builds to come, and returns where.
///
/// # Errors
/// When they cannot be written.
pub fn keep_counts(counts: &str) -> Result<PathBuf, Error> {
    let path = paths::root().join(COUNTS);
    let text = format!("# Written by `cargo xtask pgo`, read by `cargo xtask dist`.\n{counts}");
    fs::write(&path, text).on("write", &path)?;
    Ok(path)
}

/// Prepares LLVM's tool for counts, in the version of the compiler.
///
/// # Errors
/// When it is not installed.
pub fn llvm_profdata() -> Result<Command, Error> {
    let libraries = shell::read(Command::new("rustc").args(["--print", "target-libdir"]).current_dir(paths::root()))?;
    let tool = Path::new(libraries.trim()).with_file_name("bin/llvm-profdata");
    match tool.is_file() {
        true => Ok(Command::new(tool)),
        false => Err(Error::missing("the compiler has no llvm-profdata", "rustup component add llvm-tools")),
    }
}

/// Builds into a build folder. Another package beside this one could change the features of crates, and so the names of functions.
fn in_folder(flags: &[String], folder: &Path) -> Result<PathBuf, Error> {
    let mut build = cargo();
    build.args(["build", "--locked", "--profile", "dist", "--bins", "--package", PACKAGE]);
    build.env("CARGO_TARGET_DIR", folder);
    // Separated by a character that no path has.
    build.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    let mut built = folder.to_owned();
    if is_platform() {
        build.args(["--target", PLATFORM]);
        built.push(PLATFORM);
    }
    shell::run(&mut build)?;
    Ok(built.join("dist").join(PACKAGE))
}

const fn is_platform() -> bool {
    cfg!(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))
}

/// The paths of this machine do not get into a program.
fn without_paths() -> String {
    format!("--remap-path-prefix={}=/src", paths::root().display())
}

/// Whether functions that the counts name are in the router, as it lies in the folder of its build.
fn fits(counts: &str, folder: &Path) -> Result<bool, Error> {
    let names = counts.lines().filter(|line| line.starts_with("_ZN") && line.contains("router"));
    let patterns = folder.join("router-functions.txt");
    fs::write(&patterns, names.fold(String::new(), |all, name| all + name + "\n")).on("write", &patterns)?;
    let libraries = fs::read_dir(folder).on("list", folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let router =
        libraries.filter(|path| name(path).starts_with("libllama_warden_router-") && name(path).ends_with(".rlib"));
    let found = shell::status(
        Command::new("grep").args(["--quiet", "--text", "--fixed-strings", "--file"]).arg(&patterns).args(router),
    )?;
    Ok(found.success())
}

fn hash(text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_fit_a_router_with_functions_of_their_names() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let counts =
            |hash: &str| format!("# a comment\n:ir\n_ZN19llama_warden_router5route17h{hash}E\n# Func Hash:\n1\n");
        assert!(!fits(&counts("01"), folder.path()).expect("read"), "there is no router");
        for (library, name) in
            [("router-1.rlib", "5route17h01E"), ("router-1.rmeta", "5route17h02E"), ("keys-1.rlib", "5route17h03E")]
        {
            let content = [b"\xff\0_ZN19llama_warden_router", name.as_bytes(), b"\0"].concat();
            fs::write(folder.path().join(format!("libllama_warden_{library}")), content).expect("writable");
        }
        let found = ["01", "02", "03"].map(|hash| fits(&counts(hash), folder.path()).expect("read"));
        assert_eq!(found, [true, false, false]);
        assert!(!fits("", folder.path()).expect("read"));
    }
}

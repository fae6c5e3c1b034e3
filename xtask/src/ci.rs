//! `cargo xtask ci`: runs all checks, then all tests, each under a heading and with its duration.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use xtask::cargo::cargo;
use xtask::error::{Error, OnPath};
use xtask::{paths, shell};

use crate::{schema, test, tidy};

/// A check, and the command that repeats it by hand.
type Step = (&'static str, fn() -> Result<(), Error>);

/// The checks, quickest first.
const STEPS: [Step; 7] = [
    ("cargo fmt --all --check", format),
    ("cargo xtask tidy", tidy::run),
    ("cargo clippy --workspace --all-targets -- -D warnings", clippy),
    ("cargo clippy --workspace --all-targets --all-features -- -D warnings", clippy_of_all_features),
    ("cargo doc --workspace --no-deps --document-private-items", doc),
    ("cargo xtask schema --check", schema::check),
    ("cargo test --manifest-path examples/*/Cargo.toml", examples),
];

/// Runs all steps up to the first that fails.
///
/// # Errors
/// The error of the failed check.
pub fn run() -> Result<ExitCode, Error> {
    for (command, step) in STEPS {
        eprintln!("\n== {command}");
        let started = Instant::now();
        step()?;
        eprintln!("== passed after {:.1} s", started.elapsed().as_secs_f64());
    }
    // No line follows the tests: the runner's summary has their duration and must come last.
    eprintln!("\n== cargo xtask test");
    test::run(&test::TestOptions::default())
}

fn format() -> Result<(), Error> {
    shell::run(cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> Result<(), Error> {
    shell::run(cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))
}

/// Checks features that are off by default too; their libraries are loaded at run time and need not be installed.
fn clippy_of_all_features() -> Result<(), Error> {
    let clippy = ["clippy", "--workspace", "--all-targets", "--all-features", "--quiet", "--", "-D", "warnings"];
    shell::run(cargo().args(clippy))
}

fn doc() -> Result<(), Error> {
    let doc = ["doc", "--workspace", "--no-deps", "--document-private-items", "--quiet"];
    shell::run(cargo().args(doc).env("RUSTDOCFLAGS", "-Dwarnings"))
}

/// Tests the examples, which are packages outside the workspace as those of third parties are, in the same build folder.
fn examples() -> Result<(), Error> {
    let folder = paths::root().join("examples");
    let mut manifests: Vec<PathBuf> = fs::read_dir(&folder)
        .on("list", &folder)?
        .filter_map(|entry| Some(entry.ok()?.path().join("Cargo.toml")))
        .filter(|manifest| manifest.is_file())
        .collect();
    manifests.sort();
    for manifest in manifests {
        let mut test = cargo();
        test.args(["test", "--quiet", "--manifest-path"]).arg(&manifest).env("CARGO_TARGET_DIR", paths::target());
        shell::run(&mut test)?;
    }
    Ok(())
}

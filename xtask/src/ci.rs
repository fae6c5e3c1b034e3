//! `cargo xtask ci`: runs all checks, then all tests, each under a heading and with its duration.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use llama_warden_test_parts::cargo::cargo;
use llama_warden_test_parts::error::{Error, OnPath};
use llama_warden_test_parts::{paths, shell};

use crate::{deny, faults, fuzz, schema, test, tidy};

/// A check, which gets the command that repeats it by hand.
type Step = (&'static str, fn(&str) -> Result<(), Error>);

/// The checks, quickest first.
const STEPS: [Step; 10] = [
    ("cargo fmt --all --check", run_cargo),
    ("cargo xtask tidy", |_| tidy::run()),
    ("cargo xtask faults --check", |_| faults::check()),
    ("cargo xtask deny", |_| deny::run(&deny::DenyOptions::default())),
    ("cargo clippy --workspace --all-targets -- -D warnings", run_cargo),
    // Features that are off by default too; their libraries are loaded at run time and need not be installed.
    ("cargo clippy --workspace --all-targets --all-features -- -D warnings", run_cargo),
    // The flag for examples, of which the workspace has none, brings the features of clippy's build, so that both share it.
    ("cargo doc --workspace --no-deps --document-private-items --lib --bins --examples", run_cargo),
    ("cargo xtask schema --check", |_| schema::check()),
    ("cargo test --manifest-path examples/*/Cargo.toml", |_| examples()),
    // Long enough to try the inputs of the repository and many changes of each.
    ("cargo xtask fuzz --seconds 8", |_| fuzz::run(&fuzz::FuzzOptions { seconds: 8, targets: Vec::new() })),
];

/// Runs all steps up to the first that fails.
///
/// # Errors
/// The error of the failed check.
pub fn run() -> Result<ExitCode, Error> {
    for (command, step) in STEPS {
        eprintln!("\n== {command}");
        let started = Instant::now();
        step(command)?;
        eprintln!("== passed after {:.1} s", started.elapsed().as_secs_f64());
    }
    // No line follows the tests: the runner's summary has their duration and must come last.
    eprintln!("\n== cargo xtask test");
    test::run(&test::TestOptions::default())
}

/// Runs `command`, which is cargo, with the progress of cargo off and the warnings of rustdoc as errors.
fn run_cargo(command: &str) -> Result<(), Error> {
    let arguments = command.split(' ').skip(1);
    shell::run(cargo().args(arguments).env("CARGO_TERM_QUIET", "true").env("RUSTDOCFLAGS", "-Dwarnings"))
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

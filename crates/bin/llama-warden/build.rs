//! Says of which commit this build is: `LLAMA_WARDEN_VERSION` is `0.1.0`, or `0.1.0 (1a2b3c4d5)` where the commit is known.
//!
//! The commit comes from `LLAMA_WARDEN_COMMIT` in the environment of the build, else from git. A source archive has neither.
//!
//! In optimized builds, the functions that a daemon runs lie together in the program. The kernel maps 64 KiB around each page that is
//! touched, so that a daemon whose functions lie between all others has nearly the whole program in memory.

use std::process::Command;

/// A linker script, written by `cargo xtask functions`.
const FUNCTIONS: &str = "daemon-functions.ld";

fn main() {
    println!("cargo::rerun-if-env-changed=LLAMA_WARDEN_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    let given = std::env::var("LLAMA_WARDEN_COMMIT").ok().filter(|commit| !commit.is_empty());
    let version = env!("CARGO_PKG_VERSION");
    match given.or_else(commit) {
        Some(commit) => println!("cargo::rustc-env=LLAMA_WARDEN_VERSION={version} ({commit})"),
        None => println!("cargo::rustc-env=LLAMA_WARDEN_VERSION={version}"),
    }
    place_functions();
}

/// Gives the linker the list of functions that a daemon runs. Where the default linker is none that was tried with it, and in builds for
/// tests, they lie where they happen to.
fn place_functions() {
    println!("cargo::rerun-if-changed={FUNCTIONS}");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    let is_tried = is("CARGO_CFG_TARGET_ARCH", "x86_64") && is("CARGO_CFG_TARGET_ENV", "gnu");
    if is("PROFILE", "release") && is_tried {
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{}/{FUNCTIONS}", env!("CARGO_MANIFEST_DIR"));
    }
}

/// The commit that git has checked out here.
fn commit() -> Option<String> {
    // Sources that were unpacked inside another repository are not of its commit.
    if git(&["rev-parse", "--show-prefix"])? != "crates/bin/llama-warden/" {
        return None;
    }
    // The log of HEAD grows with every commit and checkout.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
    git(&["rev-parse", "--short=9", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

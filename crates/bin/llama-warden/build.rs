//! Says of which commit this build is: `LLAMA_WARDEN_VERSION` is `0.1.0`, or `0.1.0 (1a2b3c4d5)` where the commit is known.
//!
//! The commit comes from `LLAMA_WARDEN_COMMIT` in the environment of the build, else from git. A source archive has neither.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=LLAMA_WARDEN_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    let given = std::env::var("LLAMA_WARDEN_COMMIT").ok().filter(|commit| !commit.is_empty());
    let version = env!("CARGO_PKG_VERSION");
    match given.or_else(commit) {
        Some(commit) => println!("cargo::rustc-env=LLAMA_WARDEN_VERSION={version} ({commit})"),
        None => println!("cargo::rustc-env=LLAMA_WARDEN_VERSION={version}"),
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

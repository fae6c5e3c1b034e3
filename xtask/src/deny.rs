//! `cargo xtask deny`: checks third-party crates by the rules in `deny.toml`, with cargo-deny.

use std::process::Command;

use llama_warden_test_parts::error::Error;
use llama_warden_test_parts::{paths, python, shell};

/// How strict the check is.
#[derive(Debug, Default, clap::Args)]
pub struct DenyOptions {
    /// Fail where the database of advisories cannot be had, instead of saying that advisories were not checked
    #[arg(long)]
    advisories: bool,
}

/// Checks licences, sources and versions, and advisories where their database can be had.
///
/// # Errors
/// When a rule is broken, or cargo-deny cannot be provided.
pub fn run(options: &DenyOptions) -> Result<(), Error> {
    let program = python::cargo_deny()?;
    let deny = || {
        let mut command = Command::new(&program);
        // The graph of a crate that is denied has a hundred lines, and the list above it says all.
        command.current_dir(paths::root()).args(["--log-level", "error"]).env("GIT_TERMINAL_PROMPT", "0");
        command
    };
    // Warnings are rules of deny.toml that nothing needs any more.
    let check = ["check", "--hide-inclusion-graph", "--deny", "warnings"];
    shell::run(deny().args(check).args(["bans", "licenses", "sources"]))?;
    // The database is a repository on GitHub, which a machine that reaches registries alone does not reach.
    match shell::read(deny().args(["fetch", "db"])) {
        Ok(_) => shell::run(deny().args(check).arg("advisories")),
        Err(error) if options.advisories => Err(error),
        Err(error) => {
            eprintln!("warning: ADVISORIES ARE NOT CHECKED, since their database cannot be had: {error}");
            eprintln!("  next step: `cargo xtask deny --advisories` on a machine that reaches GitHub");
            Ok(())
        }
    }
}

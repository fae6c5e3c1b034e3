//! Calling cargo from a program that cargo itself started.

use std::env;
use std::process::Command;

use crate::paths;

/// Variables that `cargo run` sets to describe this package; inherited, they would make build scripts of others run again.
const OURS: [&str; 5] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE"];

/// The cargo that started us, at the root of the checkout, without what it told us about ourselves.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        if OURS.iter().any(|ours| name.to_string_lossy().starts_with(ours)) {
            command.env_remove(name);
        }
    }
    command.current_dir(paths::root());
    command
}

//! Calls cargo from a program that cargo itself started.

use std::env;
use std::process::Command;

use crate::paths;

/// Beginnings of the variables that `cargo run` sets to describe this package. Build scripts that inherited them would run
/// again, because cargo tracks them.
const PACKAGE_VARIABLES: [&str; 5] =
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE"];

/// Prepares the cargo that started this program, at the root of the checkout, without the variables about this package.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        if PACKAGE_VARIABLES.iter().any(|variable| name.to_string_lossy().starts_with(variable)) {
            command.env_remove(name);
        }
    }
    command.current_dir(paths::root());
    command
}

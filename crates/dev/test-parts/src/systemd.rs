//! Provides systemd-analyze, with which a test checks the units.

use std::path::PathBuf;
use std::process::Command;

use crate::debian::{self, Recipe, USR_BIN};
use crate::error::Error;
use crate::shell;

const DEBIAN: Recipe =
    Recipe { name: "systemd-debian", packages: &["systemd"], folder: USR_BIN, programs: &["systemd-analyze"] };

/// Returns the path of systemd-analyze: the one on PATH, else Debian's, unpacked but not installed.
///
/// # Errors
/// When none can be provided, with the next step.
pub fn provide() -> Result<PathBuf, Error> {
    if let Some(program) = shell::on_path("systemd-analyze")
        && shell::version(&mut Command::new(&program)).is_ok()
    {
        return Ok(program);
    }
    Ok(debian::provide(&DEBIAN)?.join("systemd-analyze"))
}

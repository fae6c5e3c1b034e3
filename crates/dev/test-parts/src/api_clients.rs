//! Provides the clients of OpenAI's and Anthropic's interfaces, with which the tests ask the router.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, OnPath};
use crate::parts::CachedPart;
use crate::shell;

/// The clients for Python, in the versions that the tests are written for.
const PYTHON: [&str; 3] = ["openai==3.57.0", "anthropic==2.14.0", "langchain-openai==1.7.4"];

/// Those for JavaScript.
const NODE: [&str; 2] = ["openai@6.49.0", "@anthropic-ai/sdk@1.14.0"];

/// The list of what is installed, in the folder that interpreters have to search.
const LIST: &str = "PACKAGES";

/// The lists of the installed packages, as environment variables for tests.
///
/// # Errors
/// When an interpreter is missing, or the packages cannot be installed.
pub fn provide() -> Result<Vec<(&'static str, PathBuf)>, Error> {
    Ok(vec![("LLAMA_WARDEN_TEST_PYTHON_CLIENTS", python()?), ("LLAMA_WARDEN_TEST_NODE_CLIENTS", node()?)])
}

fn python() -> Result<PathBuf, Error> {
    let part = CachedPart::open("clients-python")?;
    if let Some(tree) = part.intact().filter(|tree| is_of(tree, &PYTHON)) {
        // Some of the packages are compiled for one version of Python.
        let imports = "import openai, anthropic, langchain_openai";
        let mut python = Command::new("python3");
        python.args(["-B", "-c", imports]).env("PYTHONPATH", tree);
        if shell::read(&mut python).is_ok() {
            return Ok(tree.join(LIST));
        }
    }
    needs("python3", "install python3 with pip")?;
    eprintln!("clients-python: installing {}", PYTHON.join(", "));
    let draft = part.draft()?;
    let options = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"];
    shell::read(Command::new("python3").args(options).arg("--target").arg(draft.tree()).args(PYTHON))?;
    list(&draft.tree(), &PYTHON)?;
    Ok(draft.publish()?.join(LIST))
}

fn node() -> Result<PathBuf, Error> {
    let part = CachedPart::open("clients-node")?;
    let modules = |tree: &Path| tree.join("node_modules");
    if let Some(tree) = part.intact().filter(|tree| is_of(&modules(tree), &NODE)) {
        return Ok(modules(tree).join(LIST));
    }
    for program in ["node", "npm"] {
        needs(program, "install nodejs and npm")?;
    }
    eprintln!("clients-node: installing {}", NODE.join(", "));
    let draft = part.draft()?;
    fs::create_dir_all(draft.tree()).on("create", &draft.tree())?;
    let options = ["install", "--no-audit", "--no-fund", "--no-save", "--ignore-scripts", "--prefix"];
    shell::read(Command::new("npm").args(options).arg(draft.tree()).args(NODE))?;
    list(&modules(&draft.tree()), &NODE)?;
    Ok(modules(&draft.publish()?).join(LIST))
}

fn needs(program: &str, next: &str) -> Result<(), Error> {
    match shell::on_path(program) {
        Some(_) => Ok(()),
        None => Err(Error::missing(format!("there is no `{program}` on PATH"), next)),
    }
}

fn list(folder: &Path, packages: &[&str]) -> Result<(), Error> {
    let path = folder.join(LIST);
    fs::write(&path, packages.join("\n")).on("write", &path)
}

/// Whether these packages were installed into the folder, and not those of another version of the tests.
fn is_of(folder: &Path, packages: &[&str]) -> bool {
    fs::read_to_string(folder.join(LIST)).is_ok_and(|listed| listed == packages.join("\n"))
}

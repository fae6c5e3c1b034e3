//! Builds the programs to measure, and provides folders and models for them.
//!
//! Speed is measured with the `release` profile, which everybody builds. Memory is measured with `dist`, the profile of what
//! is shipped: most of an idle daemon's memory is program text, which `dist` keeps small.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use llama_warden_test_parts::cargo::cargo;
use llama_warden_test_parts::error::{Error, OnPath};
use llama_warden_test_parts::{paths, shell, shipped};
use llama_warden_tiny_gguf::TinyModel;
use tempfile::TempDir;

/// Paths of the programs that are measured.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The daemon `llama-warden`.
    pub daemon: PathBuf,
    /// The double of llama-server.
    pub stand_in: PathBuf,
    /// Whether this benchmark built them. Programs in a folder that the user named are measured as they are.
    is_built: bool,
}

impl Programs {
    /// Builds them with the `release` profile.
    ///
    /// # Errors
    /// When they do not build.
    pub fn build() -> Result<Self, Error> {
        let packages = ["--package", "llama-warden", "--package", "llama-warden-stand-in"];
        shell::run(cargo().args(["build", "--release", "--bins"]).args(packages))?;
        Ok(Self { is_built: true, ..Self::in_folder(&paths::target().join("release"))? })
    }

    /// A daemon that was built otherwise, and a double of llama-server for it.
    ///
    /// # Errors
    /// When the double does not build.
    pub fn of_daemon(daemon: PathBuf) -> Result<Self, Error> {
        shell::run(cargo().args(["build", "--release", "--bins", "--package", "llama-warden-stand-in"]))?;
        let stand_in = find(&paths::target().join("release"), "stand-in-llama-server")?;
        Ok(Self { daemon, stand_in, is_built: true })
    }

    /// Returns the same programs with the daemon built by the `dist` profile.
    ///
    /// # Errors
    /// When it does not build.
    pub fn as_shipped(&self) -> Result<Self, Error> {
        if !self.is_built {
            return Ok(self.clone());
        }
        eprintln!("bench: building the `dist` profile, which takes minutes");
        let daemon = shipped::build(false)?;
        let program = fs::read(&daemon).on("read", &daemon)?;
        if program.windows(FAIL_POINT.len()).any(|at| at == FAIL_POINT) {
            return Err(Error::missing(
                format!("{} has fail points", daemon.display()),
                "see docs/decisions/0025-fail-points.md",
            ));
        }
        Ok(self.with_daemon(daemon))
    }

    /// Returns the same programs with another one as the daemon.
    pub fn with_daemon(&self, daemon: PathBuf) -> Self {
        Self { daemon, ..self.clone() }
    }

    /// Finds them in `folder`.
    ///
    /// # Errors
    /// When one of them is missing.
    pub fn in_folder(folder: &Path) -> Result<Self, Error> {
        let [daemon, stand_in] = [find(folder, "llama-warden")?, find(folder, "stand-in-llama-server")?];
        Ok(Self { daemon, stand_in, is_built: false })
    }
}

fn find(folder: &Path, name: &str) -> Result<PathBuf, Error> {
    let path = folder.join(name);
    path.canonicalize().on("find", &path)
}

/// Runs the benchmark `name` of a crate of the workspace, which measures what this program cannot reach, and returns its output.
///
/// # Errors
/// When it does not build or run.
pub fn run_crate_bench(package: &str, name: &str, arguments: &[&OsStr]) -> Result<String, Error> {
    let bench = ["bench", "--quiet", "--package", package, "--bench", name, "--"];
    shell::read(cargo().args(bench).args(arguments))
}

/// Creates an empty folder that is removed with the value.
///
/// # Errors
/// When it cannot be created.
pub fn empty_folder() -> Result<TempDir, Error> {
    let parent = paths::target().join("tmp");
    fs::create_dir_all(&parent).on("create", &parent)?;
    tempfile::Builder::new().prefix("bench-").tempdir_in(&parent).on("create a folder in", &parent)
}

/// Writes a random model of at least `bytes` bytes, which a real llama-server loads, into `folder` and returns its path.
///
/// # Errors
/// When the file cannot be written.
pub fn model(folder: &Path, name: &str, bytes: u64) -> Result<PathBuf, Error> {
    let path = folder.join(format!("{name}.gguf"));
    TinyModel::new(name).at_least_bytes(bytes).write(&path).on("write", &path)?;
    Ok(path)
}

/// The variable that names a fail point. What is shipped does not know it.
const FAIL_POINT: &[u8] = b"LLAMA_WARDEN_FAIL_POINT";

/// `path` as a TOML string.
pub fn quoted(path: &Path) -> String {
    toml::Value::String(path.display().to_string()).to_string()
}

/// `path` as one word of a shell script.
pub fn shell_word(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

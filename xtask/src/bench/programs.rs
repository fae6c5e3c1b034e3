//! What is measured: builds of our programs, and a folder to run them in.
//!
//! Speed is measured with the `release` profile, which everybody builds. What stays in memory is measured with `dist`, the
//! profile of what is shipped: most of it is the text of the program, and `dist` is about having less of that.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use llama_warden_tiny_gguf::TinyModel;
use tempfile::TempDir;

use crate::cargo::cargo;
use crate::error::{Error, OnPath};
use crate::{paths, shell};

/// The programs that are measured.
#[derive(Debug)]
pub struct Programs {
    /// The daemon.
    pub daemon: PathBuf,
    /// The double of llama-server.
    pub stand_in: PathBuf,
    origin: Origin,
}

/// Where programs come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// We built them.
    Built,
    /// Somebody else did; they are measured as they are.
    Given,
}

impl Programs {
    /// Builds them as they are released.
    ///
    /// # Errors
    /// When they do not build.
    pub fn build() -> Result<Self, Error> {
        let packages = ["--package", "llama-warden", "--package", "llama-warden-stand-in"];
        shell::run(cargo().args(["build", "--release", "--bins"]).args(packages))?;
        Ok(Self { origin: Origin::Built, ..Self::in_folder(&paths::target().join("release"))? })
    }

    /// The same with the daemon as it is shipped.
    ///
    /// # Errors
    /// When it does not build.
    pub fn as_shipped(&self) -> Result<Self, Error> {
        let daemon = match self.origin {
            Origin::Given => self.daemon.clone(),
            Origin::Built => {
                eprintln!("bench: building the `dist` profile, which takes minutes");
                shell::run(cargo().args(["build", "--profile", "dist", "--bins", "--package", "llama-warden"]))?;
                find(&paths::target().join("dist"), "llama-warden")?
            }
        };
        Ok(Self { daemon, stand_in: self.stand_in.clone(), origin: self.origin })
    }

    /// Takes those that lie in `folder`.
    ///
    /// # Errors
    /// When one of them does not.
    pub fn in_folder(folder: &Path) -> Result<Self, Error> {
        let [daemon, stand_in] = [find(folder, "llama-warden")?, find(folder, "stand-in-llama-server")?];
        Ok(Self { daemon, stand_in, origin: Origin::Given })
    }
}

fn find(folder: &Path, name: &str) -> Result<PathBuf, Error> {
    let path = folder.join(name);
    path.canonicalize().on("find", &path)
}

/// An empty folder that is gone with the value.
///
/// # Errors
/// Whatever the file system says.
pub fn empty_folder() -> Result<TempDir, Error> {
    let parent = paths::target().join("tmp");
    std::fs::create_dir_all(&parent).on("create", &parent)?;
    tempfile::Builder::new().prefix("bench-").tempdir_in(&parent).on("create a folder in", &parent)
}

/// Writes a random model that a real llama-server loads into `folder` and returns where it is; `bytes` is its least size.
///
/// # Errors
/// Whatever the file system says.
pub fn model(folder: &Path, name: &str, bytes: u64) -> Result<PathBuf, Error> {
    let path = folder.join(format!("{name}.gguf"));
    TinyModel::new(name).at_least_bytes(bytes).write(&path).on("write", &path)?;
    Ok(path)
}

/// As many different ports as asked for, free at the moment.
///
/// # Errors
/// When the kernel has no more.
pub fn free_ports(count: usize) -> Result<Vec<u16>, Error> {
    let loopback = Path::new("127.0.0.1:0");
    // All are held until the last is found, so that none is given out twice.
    let held: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").on("bind", loopback)).collect::<Result<_, _>>()?;
    held.iter().map(|listener| listener.local_addr().map(|address| address.port()).on("bind", loopback)).collect()
}

/// A path as a string in a configuration.
pub fn quoted(path: &Path) -> String {
    toml::Value::String(path.display().to_string()).to_string()
}

/// A path as a word of a shell script.
pub fn shell_word(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

//! Builds the programs to measure, and provides folders, models and ports for them.
//!
//! Speed is measured with the `release` profile, which everybody builds. Memory is measured with `dist`, the profile of what
//! is shipped: most of an idle daemon's memory is program text, which `dist` keeps small.

use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};

use llama_warden_test_parts::cargo::cargo;
use llama_warden_test_parts::error::{Error, OnPath};
use llama_warden_test_parts::{paths, shell};
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

    /// Returns the same programs with the daemon built by the `dist` profile.
    ///
    /// # Errors
    /// When it does not build.
    pub fn as_shipped(&self) -> Result<Self, Error> {
        if !self.is_built {
            return Ok(self.clone());
        }
        eprintln!("bench: building the `dist` profile, which takes minutes");
        shell::run(cargo().args(["build", "--profile", "dist", "--bins", "--package", "llama-warden"]))?;
        let daemon = find(&paths::target().join("dist"), "llama-warden")?;
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

/// The first port to try. The range lies below the kernel's ephemeral ports, so that no other program is given one of them
/// between the check here and the launch of its server.
const FIRST_PORT: u16 = 10_000;
/// How many ports to try.
const PORTS: u16 = 20_000;

/// Returns `count` ports that are free now and that this process has not returned before.
///
/// # Errors
/// When there are not enough free ports.
pub fn free_ports(count: usize) -> Result<Vec<u16>, Error> {
    static TRIED: AtomicU16 = AtomicU16::new(0);
    // Two benchmarks at the same time start at different ports.
    let offset = (std::process::id() % u32::from(PORTS)) as u16;
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let untried = std::iter::repeat_with(|| TRIED.fetch_add(1, Ordering::Relaxed)).take_while(|tried| *tried < PORTS);
    let ports: Vec<u16> =
        untried.map(|tried| FIRST_PORT + (offset + tried) % PORTS).filter(is_free).take(count).collect();
    if ports.len() == count {
        return Ok(ports);
    }
    let next = "see with `ss -tln` who listens on so many";
    Err(Error::missing(format!("no {count} free ports from {FIRST_PORT} to {}", FIRST_PORT + PORTS), next))
}

/// `path` as a TOML string.
pub fn quoted(path: &Path) -> String {
    toml::Value::String(path.display().to_string()).to_string()
}

/// `path` as one word of a shell script.
pub fn shell_word(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_out_twice_or_while_somebody_listens() {
        let first = free_ports(2).unwrap();
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, first[1] + 1)).ok();
        let second = free_ports(2).unwrap();
        assert!(first.iter().all(|port| !second.contains(port)), "{first:?} {second:?}");
        assert!(taken.is_none() || !second.contains(&(first[1] + 1)), "{first:?} {second:?}");
    }
}

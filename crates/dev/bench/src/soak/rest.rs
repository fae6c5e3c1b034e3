//! What a daemon holds while no server runs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use llama_warden_test_parts::error::{Error, OnPath};

use crate::procfs;

/// Threads that may come between two rests: the blocking pool keeps a thread for a while after its last work.
const THREADS: u64 = 2;
/// Descriptors that may come: connections that are being closed.
const DESCRIPTORS: u64 = 2;
/// Growth of memory that is not a leak, in KiB: freed memory that the allocator keeps.
const MEMORY: u64 = 1024;
/// Growth of the guardian's or a shim's memory that is not a leak, in KiB.
const SMALL_MEMORY: u64 = 64;
/// The command line of a guardian.
const GUARDIAN: &[u8] = b"warden-guardian\0";
/// Growth of the state directory, in KiB: its event log is rotated at 256 KiB, and one older file is kept.
const STATE: u64 = 768;

/// What a daemon and its guardian hold at a moment without servers. Memory is in KiB.
#[derive(Debug, Clone, Copy)]
pub struct RestSample {
    descriptors: u64,
    threads: u64,
    resident: u64,
    private: u64,
    /// Processes whose parent is the daemon, without zombies.
    children: u64,
    zombies: u64,
    guardian_descriptors: u64,
    guardian_private: u64,
    /// Shims whose program is gone.
    shims: u64,
    /// Private memory of the largest shim just before the servers were stopped.
    largest_shim: u64,
    state: u64,
}

/// An early and a late value.
#[derive(Debug)]
pub struct RestComparison {
    /// What is compared.
    pub what: &'static str,
    /// The median of the early rests.
    pub early: u64,
    /// The median of the late rests.
    pub late: u64,
    /// The growth that is none.
    pub tolerance: u64,
}

impl RestComparison {
    /// Whether the value did not grow.
    pub const fn is_flat(&self) -> bool {
        self.late <= self.early + self.tolerance
    }
}

impl RestSample {
    /// Measures the daemon `pid`, which keeps its state in `state_dir`. `largest_shim` was measured when servers ran.
    ///
    /// # Errors
    /// When there is no such process, or it has no guardian.
    pub fn take(pid: u32, state_dir: &Path, largest_shim: u64) -> Result<Self, Error> {
        let entries = |pid: u32, name: &str| {
            let folder = format!("/proc/{pid}/{name}");
            fs::read_dir(&folder).on("list", Path::new(&folder)).map(|entries| entries.count() as u64)
        };
        let guardian = guardian(pid)?;
        let memory = procfs::memory(pid)?;
        let children = procfs::children(pid);
        let zombies = children.values().filter(|state| **state == 'Z').count() as u64;
        Ok(Self {
            descriptors: entries(pid, "fd")?,
            threads: entries(pid, "task")?,
            resident: memory.resident,
            private: memory.anonymous,
            children: children.len() as u64 - zombies,
            zombies,
            guardian_descriptors: entries(guardian, "fd")?,
            guardian_private: procfs::memory(guardian)?.anonymous,
            shims: procfs::children(guardian).len() as u64,
            largest_shim,
            state: folder_size(state_dir) / 1024,
        })
    }
}

/// The guardian of the daemon `pid`: the child that was started under this name.
fn guardian(pid: u32) -> Result<u32, Error> {
    let is_guardian = |child: &u32| fs::read(format!("/proc/{child}/cmdline")).is_ok_and(|line| line == GUARDIAN);
    procfs::children(pid)
        .into_keys()
        .find(is_guardian)
        .ok_or_else(|| Error::missing(format!("daemon {pid} has no guardian"), "read the log of the daemon"))
}

/// The private memory of the largest shim that runs now, in KiB; 0 without any.
///
/// # Errors
/// When the daemon has no guardian.
pub fn largest_shim(daemon: u32) -> Result<u64, Error> {
    let shims = procfs::children(guardian(daemon)?).into_keys();
    // A shim may end between the list and its measurement.
    Ok(shims.filter_map(|shim| procfs::memory(shim).ok()).map(|memory| memory.anonymous).max().unwrap_or_default())
}

/// Compares the first samples with the last ones. Processes are not compared but counted: at rest there is none beyond those that
/// the daemon had before its first server.
pub fn compare(idle: &RestSample, samples: &[RestSample]) -> Vec<RestComparison> {
    let window = (samples.len() / 3).max(1).min(samples.len());
    let (early, late) = (&samples[..window], &samples[samples.len() - window..]);
    let row = |what, value: fn(&RestSample) -> u64, tolerance| RestComparison {
        what,
        early: median(early.iter().map(value)),
        late: median(late.iter().map(value)),
        tolerance,
    };
    let most = |value: fn(&RestSample) -> u64| samples.iter().map(value).max().unwrap_or_default();
    vec![
        row("descriptors", |sample| sample.descriptors, DESCRIPTORS),
        row("threads", |sample| sample.threads, THREADS),
        row("resident memory, KiB", |sample| sample.resident, MEMORY),
        row("private memory, KiB", |sample| sample.private, MEMORY),
        row("guardian descriptors", |sample| sample.guardian_descriptors, 0),
        row("guardian private, KiB", |sample| sample.guardian_private, SMALL_MEMORY),
        row("largest shim, KiB", |sample| sample.largest_shim, SMALL_MEMORY),
        row("state directory, KiB", |sample| sample.state, STATE),
        RestComparison { what: "most children", early: idle.children, late: most(|s| s.children), tolerance: 0 },
        RestComparison { what: "most shims", early: idle.shims, late: most(|s| s.shims), tolerance: 0 },
        RestComparison { what: "most zombies", early: idle.zombies, late: most(|s| s.zombies), tolerance: 0 },
    ]
}

fn median(values: impl Iterator<Item = u64>) -> u64 {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Bytes on disk of the files below a folder.
fn folder_size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => folder_size(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(size).sum()
}

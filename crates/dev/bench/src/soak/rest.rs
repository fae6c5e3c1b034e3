//! What a daemon holds while no server runs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use xtask::error::{Error, OnPath};

use crate::procfs;

/// Threads that may come between two rests: the blocking pool keeps a thread for a while after its last work.
const THREADS: u64 = 2;
/// Descriptors that may come: connections that are being closed.
const DESCRIPTORS: u64 = 2;
/// Growth of memory that is not a leak, in KiB: freed memory that the allocator keeps.
const MEMORY: u64 = 1024;
/// Growth of the state directory, in KiB: its event log is rotated at 256 KiB, and one older file is kept.
const STATE: u64 = 768;

/// What a daemon holds at a moment without servers. Memory is in KiB.
#[derive(Debug, Clone, Copy)]
pub struct RestSample {
    descriptors: u64,
    threads: u64,
    resident: u64,
    private: u64,
    /// Processes whose parent is the daemon, without zombies.
    children: u64,
    zombies: u64,
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
    /// Measures the daemon `pid`, which keeps its state in `state_dir`.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn take(pid: u32, state_dir: &Path) -> Result<Self, Error> {
        let entries = |name: &str| {
            let folder = format!("/proc/{pid}/{name}");
            fs::read_dir(&folder).on("list", Path::new(&folder)).map(|entries| entries.count() as u64)
        };
        let memory = procfs::memory(pid)?;
        let children = procfs::children(pid);
        let zombies = children.values().filter(|state| **state == 'Z').count() as u64;
        Ok(Self {
            descriptors: entries("fd")?,
            threads: entries("task")?,
            resident: memory.resident,
            private: memory.anonymous,
            children: children.len() as u64 - zombies,
            zombies,
            state: folder_size(state_dir) / 1024,
        })
    }
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
        row("state directory, KiB", |sample| sample.state, STATE),
        RestComparison { what: "most children", early: idle.children, late: most(|s| s.children), tolerance: 0 },
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

//! Kills the processes that were left behind when the shim of their launch was killed: those that carry its tag, and those that carry
//! none but hold its lock.
//!
//! For each process a handle is opened before it is checked a second time and killed, so that no stranger with a reused id is hit.

use std::collections::BTreeSet;
use std::fmt;

use llama_warden_procfs::{ProcessStat, process_ids};
use llama_warden_support::blocking;
use tokio::time::{Instant, timeout_at};

use super::guardian;
use super::launch_tag::LaunchTag;
use super::lock::InstanceLock;
use super::process_handle::ProcessHandle;

/// Selects the processes of a launch, whatever their parent is: those with any of these traits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessSelector {
    /// The tag in the environment that it was started with.
    pub tag: Option<LaunchTag>,
    /// Tags of processes that are left alone.
    pub spared: Vec<LaunchTag>,
    /// The lock that it holds.
    pub lock: Option<InstanceLock>,
    /// Leaves a process alone that is below a living shim or guardian, and waits until then for it to end.
    pub orphans_only: Option<Instant>,
}

/// The result of a sweep.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sweep {
    /// Number of processes that were found and have ended.
    pub killed: u32,
    /// Processes that had not ended at the deadline.
    pub survivors: Vec<Survivor>,
}

/// A process that outlived a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survivor {
    /// A process that does not die, or may not be killed by us.
    Process(u32),
    /// A holder of the lock whose open files we may not read.
    Hidden,
    /// A process that is of no launch and has locked the file. It is left alone.
    Stranger(u32),
    /// A process below a shim that lives. It is left alone.
    Attended(u32),
}

impl fmt::Display for Survivor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(pid) | Self::Attended(pid) => write!(f, "process {pid}"),
            Self::Hidden => f.write_str("a process of another user"),
            Self::Stranger(pid) => write!(f, "process {pid}, which is no server's"),
        }
    }
}

/// Kills every living process that `selector` selects, until none is left or `deadline` has
/// passed.
pub async fn sweep(selector: &ProcessSelector, deadline: Instant) -> Sweep {
    let mut seen = BTreeSet::new();
    loop {
        let found = find(selector).await;
        if found.survivors.is_empty() {
            if let (Some(attended), Some(patience)) = (found.attended.first(), selector.orphans_only)
                && timeout_at(patience, attended.handle.exited()).await.is_ok()
            {
                continue;
            }
            return Sweep { killed: count(&seen), survivors: found.survivors() };
        }
        for survivor in &found.survivors {
            // One that we may not kill is still there at the deadline, and is reported as a survivor.
            let _ = survivor.handle.kill();
        }
        seen.extend(found.survivors.iter().map(|survivor| survivor.pid));
        for survivor in found.survivors {
            if timeout_at(deadline, survivor.handle.exited()).await.is_err() {
                let left = find(selector).await.survivors();
                seen.retain(|pid| !left.contains(&Survivor::Process(*pid)));
                return Sweep { killed: count(&seen), survivors: left };
            }
        }
    }
}

/// A living process with a handle of it.
struct FoundProcess {
    pid: u32,
    handle: ProcessHandle,
}

#[derive(Default)]
struct SearchResult {
    survivors: Vec<FoundProcess>,
    /// Those that are meant and left alone.
    attended: Vec<FoundProcess>,
    /// Who holds the lock and is not to be killed, or cannot be seen.
    other_holder: Option<Survivor>,
}

impl SearchResult {
    fn survivors(&self) -> Vec<Survivor> {
        let seen = self.survivors.iter().map(|survivor| Survivor::Process(survivor.pid));
        let attended = self.attended.iter().map(|attended| Survivor::Attended(attended.pid));
        seen.chain(attended).chain(self.other_holder).collect()
    }
}

/// Searches all processes off the runtime's thread; reads a few files for each.
async fn find(selector: &ProcessSelector) -> SearchResult {
    let selector = selector.clone();
    let search = move || {
        let mut meant = find_all(|pid| {
            selector.tag.as_ref().is_some_and(|tag| tag.is_of(pid)) && !selector.spared.iter().any(|tag| tag.is_of(pid))
        });
        let mut other_holder = None;
        // Reading the open files of every process costs far more, and is needed for escaped descendants only.
        if let Some(lock) = selector.lock.as_ref().filter(|lock| meant.is_empty() && lock.is_held()) {
            meant = find_all(|pid| lock.is_held_by(pid));
            let stranger = meant.is_empty().then(|| others().find(|pid| lock.is_kept_by(*pid)));
            // Asked again: the last visible holder, or the stranger, may have ended since.
            other_holder = stranger
                .filter(|_| lock.is_held())
                .map(|stranger| stranger.map_or(Survivor::Hidden, Survivor::Stranger));
        }
        let is_attended = |found: &FoundProcess| selector.orphans_only.is_some() && guardian::is_above(found.pid);
        let (attended, survivors) = meant.into_iter().partition(is_attended);
        SearchResult { survivors, attended, other_holder }
    };
    // An error means that the runtime shuts down, and the next start looks again.
    blocking(search).await.unwrap_or_default()
}

/// Opens a handle of each living process that `is_meant` accepts, and checks it again through the handle.
fn find_all(is_meant: impl Fn(u32) -> bool) -> Vec<FoundProcess> {
    let is_survivor = |pid: u32| ProcessStat::of(pid).is_some_and(|stat| !stat.is_zombie()) && is_meant(pid);
    let found = |pid: u32| {
        let handle = ProcessHandle::new(pid).ok()?;
        is_survivor(pid).then_some(FoundProcess { pid, handle })
    };
    others().filter(|pid| is_survivor(*pid)).filter_map(found).collect()
}

/// Every process but this one, which may be asking for the lock just now.
fn others() -> impl Iterator<Item = u32> {
    process_ids().filter(|pid| *pid != std::process::id())
}

fn count(seen: &BTreeSet<u32>) -> u32 {
    u32::try_from(seen.len()).unwrap_or(u32::MAX)
}

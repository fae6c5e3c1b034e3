//! Kills what outlived a server: the rest of its process group, whoever left the group but has_tag its tag, and whoever
//! scrubbed that too but holds its lock.
//!
//! The server itself is a zombie meanwhile, which keeps the group's id from being given to others. Each survivor is
//! found before it is looked at a second time and killed, so that no stranger with a recycled id is hit.

use std::collections::BTreeSet;
use std::fmt;

use llama_warden_support::blocking;
use nix::sys::signal::{Signal, killpg};
use nix::unistd;
use tokio::time::{Instant, timeout_at};

use super::launch_tag::LaunchTag;
use super::lock::InstanceLock;
use super::proc::{self, ProcStat};
use super::process_handle::ProcessHandle;

/// By what the processes of a launch are recognised, whoever their parent is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ProcessSelector {
    /// The group that the server leads, or led as long as it is not reaped.
    pub(crate) group: Option<u32>,
    pub(crate) tag: Option<LaunchTag>,
    pub(crate) lock: Option<InstanceLock>,
}

/// What a sweep did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sweep {
    /// How many processes were found and are gone.
    pub(crate) killed: u32,
    /// Who was still there at the deadline.
    pub(crate) survivors: Vec<Survivor>,
}

/// Somebody who outlived a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Survivor {
    /// A process that does not die, or may not be killed by us.
    Process(u32),
    /// Somebody who holds the lock and whose files we may not see.
    Hidden,
}

impl fmt::Display for Survivor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(pid) => write!(f, "process {pid}"),
            Self::Hidden => f.write_str("a process of another user"),
        }
    }
}

/// Kills every living process with one of `selector`, except the leader of the group, until none is left or `deadline` has
/// passed.
pub(crate) async fn sweep(selector: &ProcessSelector, deadline: Instant) -> Sweep {
    let mut seen = BTreeSet::new();
    loop {
        let found = find(selector).await;
        if found.survivors.is_empty() {
            return Sweep { killed: count(&seen), survivors: found.survivors() };
        }
        kill(selector.group, &found.survivors);
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

/// A living process, found.
struct FoundProcess {
    pid: u32,
    handle: ProcessHandle,
}

#[derive(Default)]
struct Found {
    survivors: Vec<FoundProcess>,
    /// The lock is held by nobody who can be seen.
    has_hidden_holder: bool,
}

impl Found {
    fn survivors(&self) -> Vec<Survivor> {
        let seen = self.survivors.iter().map(|survivor| Survivor::Process(survivor.pid));
        seen.chain(self.has_hidden_holder.then_some(Survivor::Hidden)).collect()
    }
}

/// Reads a few files for each process of the machine, off the runtime's threads.
async fn find(selector: &ProcessSelector) -> Found {
    let selector = selector.clone();
    let search = move || {
        let survivors = find_all(&selector, |pid| selector.matches(pid));
        // Looking at everybody's open files costs far more, and only who hides well needs it.
        match &selector.lock {
            Some(lock) if survivors.is_empty() && lock.is_held() => {
                let survivors = find_all(&selector, |pid| lock.is_held_by(pid));
                Found { has_hidden_holder: survivors.is_empty() && lock.is_held(), survivors }
            }
            _ => Found { survivors, has_hidden_holder: false },
        }
    };
    // The join fails only while the runtime shuts down; the children die with the spawner's thread then.
    blocking(search).await.unwrap_or_default()
}

/// Pins each living process that is meant, which is asked again once it is found.
fn find_all(selector: &ProcessSelector, is_meant: impl Fn(u32) -> bool) -> Vec<FoundProcess> {
    let is_survivor = |pid: u32| {
        let is_other = Some(pid) != selector.group && pid != std::process::id();
        is_other && ProcStat::of(pid).is_some_and(|stat| !stat.is_zombie) && is_meant(pid)
    };
    let found = |pid: u32| {
        let handle = ProcessHandle::new(pid).ok()?;
        is_survivor(pid).then_some(FoundProcess { pid, handle })
    };
    proc::processes().filter(|pid| is_survivor(*pid)).filter_map(found).collect()
}

impl ProcessSelector {
    /// Whether a process is of the group or has_tag the tag.
    fn matches(&self, pid: u32) -> bool {
        let of_group = self.group.is_some() && ProcStat::of(pid).map(|stat| stat.group) == self.group;
        of_group || self.tag.as_ref().is_some_and(|tag| proc::has_tag(pid, tag))
    }
}

fn kill(group: Option<u32>, survivors: &[FoundProcess]) {
    // The whole group in one step, or a fork bomb would outrun us. It may be empty: ESRCH says so.
    if let Some(group) = group.and_then(|group| i32::try_from(group).ok()) {
        let _ = killpg(unistd::Pid::from_raw(group), Signal::SIGKILL);
    }
    for survivor in survivors {
        // One that may not be killed is still there at the deadline, and reported.
        let _ = survivor.handle.kill();
    }
}

fn count(seen: &BTreeSet<u32>) -> u32 {
    u32::try_from(seen.len()).unwrap_or(u32::MAX)
}

//! Kills what outlived a server: the rest of its process group, whoever left the group but carries its marker, and whoever
//! scrubbed that too but holds its lock.
//!
//! The server itself is a zombie meanwhile, which keeps the group's id from being given to others. Each survivor is
//! pinned before it is looked at a second time and killed, so that no stranger with a recycled id is hit.

use std::collections::BTreeSet;
use std::fmt;

use llama_warden_support::blocking;
use nix::sys::signal::{Signal, killpg};
use nix::unistd;
use tokio::time::{Instant, timeout_at};

use crate::environment::Marker;
use crate::lock::InstanceLock;
use crate::pin::ProcessPin;
use crate::proc::{self, Stat};

/// By what the processes of a launch are recognised, whoever their parent is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Traces {
    /// The group that the server leads, or led as long as it is not reaped.
    pub(crate) group: Option<u32>,
    pub(crate) marker: Option<Marker>,
    pub(crate) lock: Option<InstanceLock>,
}

/// What a sweep did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sweep {
    /// How many processes were found and are gone.
    pub(crate) killed: u32,
    /// Who was still there at the deadline.
    pub(crate) left: Vec<Left>,
}

/// Somebody who outlived a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// A process that does not die, or may not be killed by us.
    Process(u32),
    /// Somebody who holds the lock and whose files we may not see.
    Hidden,
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(pid) => write!(f, "process {pid}"),
            Self::Hidden => f.write_str("a process of another user"),
        }
    }
}

/// Kills every living process with one of `traces`, except the leader of the group, until none is left or `deadline` has
/// passed.
pub(crate) async fn sweep(traces: &Traces, deadline: Instant) -> Sweep {
    let mut seen = BTreeSet::new();
    loop {
        let found = find(traces).await;
        if found.survivors.is_empty() {
            return Sweep { killed: count(&seen), left: found.left() };
        }
        kill(traces.group, &found.survivors);
        seen.extend(found.survivors.iter().map(|survivor| survivor.pid));
        for survivor in found.survivors {
            if timeout_at(deadline, survivor.pin.exited()).await.is_err() {
                let left = find(traces).await.left();
                seen.retain(|pid| !left.contains(&Left::Process(*pid)));
                return Sweep { killed: count(&seen), left };
            }
        }
    }
}

/// A living process, pinned.
struct Survivor {
    pid: u32,
    pin: ProcessPin,
}

#[derive(Default)]
struct Found {
    survivors: Vec<Survivor>,
    /// The lock is held by nobody who can be seen.
    is_hidden: bool,
}

impl Found {
    fn left(&self) -> Vec<Left> {
        let seen = self.survivors.iter().map(|survivor| Left::Process(survivor.pid));
        seen.chain(self.is_hidden.then_some(Left::Hidden)).collect()
    }
}

/// Reads a few files for each process of the machine, off the runtime's threads.
async fn find(traces: &Traces) -> Found {
    let traces = traces.clone();
    let search = move || {
        let survivors = pin_all(&traces, |pid| traces.claim(pid));
        // Looking at everybody's open files costs far more, and only who hides well needs it.
        match &traces.lock {
            Some(lock) if survivors.is_empty() && lock.is_held() => {
                let survivors = pin_all(&traces, |pid| lock.is_held_by(pid));
                Found { is_hidden: survivors.is_empty() && lock.is_held(), survivors }
            }
            _ => Found { survivors, is_hidden: false },
        }
    };
    // The join fails only while the runtime shuts down; the children die with the spawner's thread then.
    blocking(search).await.unwrap_or_default()
}

/// Pins each living process that is meant, which is asked again once it is pinned.
fn pin_all(traces: &Traces, is_meant: impl Fn(u32) -> bool) -> Vec<Survivor> {
    let is_survivor = |pid: u32| {
        let is_other = Some(pid) != traces.group && pid != std::process::id();
        is_other && Stat::of(pid).is_some_and(|stat| !stat.is_zombie()) && is_meant(pid)
    };
    let pinned = |pid: u32| {
        let pin = ProcessPin::new(pid).ok()?;
        is_survivor(pid).then_some(Survivor { pid, pin })
    };
    proc::processes().filter(|pid| is_survivor(*pid)).filter_map(pinned).collect()
}

impl Traces {
    /// Whether a process is of the group or carries the marker.
    fn claim(&self, pid: u32) -> bool {
        let of_group = self.group.is_some() && Stat::of(pid).map(|stat| stat.group) == self.group;
        of_group || self.marker.as_ref().is_some_and(|marker| proc::carries(pid, marker))
    }
}

fn kill(group: Option<u32>, survivors: &[Survivor]) {
    // The whole group in one step, or a fork bomb would outrun us. It may be empty: ESRCH says so.
    if let Some(group) = group.and_then(|group| i32::try_from(group).ok()) {
        let _ = killpg(unistd::Pid::from_raw(group), Signal::SIGKILL);
    }
    for survivor in survivors {
        // One that may not be killed is still there at the deadline, and reported.
        let _ = survivor.pin.kill();
    }
}

fn count(seen: &BTreeSet<u32>) -> u32 {
    u32::try_from(seen.len()).unwrap_or(u32::MAX)
}

//! Kills what outlived a server: the rest of its process group, and whoever left the group but carries its marker.
//!
//! The server itself is a zombie meanwhile, which keeps the group's id from being given to others. Each survivor is
//! pinned by a pidfd before it is looked at a second time and killed, so that no stranger with a recycled id is hit.

use std::collections::BTreeSet;

use nix::sys::signal::{Signal, killpg};
use nix::unistd;
use tokio::time::{Instant, timeout_at};

use crate::environment::Marker;
use crate::pidfd::Pidfd;
use crate::proc::{self, Stat};

/// What a sweep did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sweep {
    /// How many processes were found and are gone.
    pub(crate) killed: u32,
    /// The ids of those that were still there at the deadline.
    pub(crate) left: Vec<u32>,
}

/// Kills every living process of `group`, except its leader, and every one that carries `marker`, until none is left or
/// `deadline` has passed.
pub(crate) async fn sweep(group: Option<u32>, marker: Option<&Marker>, deadline: Instant) -> Sweep {
    let mut seen = BTreeSet::new();
    loop {
        let survivors = find(group, marker).await;
        if survivors.is_empty() {
            return Sweep { killed: count(&seen), left: Vec::new() };
        }
        kill(group, &survivors);
        seen.extend(survivors.iter().map(|survivor| survivor.pid));
        for survivor in survivors {
            if timeout_at(deadline, survivor.pidfd.exited()).await.is_err() {
                let left: Vec<u32> = find(group, marker).await.iter().map(|survivor| survivor.pid).collect();
                seen.retain(|pid| !left.contains(pid));
                return Sweep { killed: count(&seen), left };
            }
        }
    }
}

/// A living process, pinned.
struct Survivor {
    pid: u32,
    pidfd: Pidfd,
}

impl Survivor {
    fn pin(pid: u32, group: Option<u32>, marker: Option<&Marker>) -> Option<Self> {
        let pidfd = Pidfd::open(pid).ok()?;
        is_survivor(pid, group, marker).then_some(Self { pid, pidfd })
    }
}

/// Reads a few files for each process of the machine, off the runtime's threads.
async fn find(group: Option<u32>, marker: Option<&Marker>) -> Vec<Survivor> {
    let marker = marker.cloned();
    let search = move || {
        proc::processes()
            .filter(|pid| is_survivor(*pid, group, marker.as_ref()))
            .filter_map(|pid| Survivor::pin(pid, group, marker.as_ref()))
            .collect()
    };
    // The join fails only while the runtime shuts down; the children die with the spawner's thread then.
    tokio::task::spawn_blocking(search).await.unwrap_or_default()
}

fn is_survivor(pid: u32, group: Option<u32>, marker: Option<&Marker>) -> bool {
    let is_other = Some(pid) != group && pid != std::process::id();
    is_other
        && Stat::of(pid).is_some_and(|stat| {
            !stat.is_zombie && (Some(stat.group) == group || marker.is_some_and(|marker| proc::carries(pid, marker)))
        })
}

fn kill(group: Option<u32>, survivors: &[Survivor]) {
    // The whole group in one step, or a fork bomb would outrun us. It may be empty: ESRCH says so.
    if let Some(group) = group.and_then(|group| i32::try_from(group).ok()) {
        let _ = killpg(unistd::Pid::from_raw(group), Signal::SIGKILL);
    }
    for survivor in survivors {
        // One that may not be killed is still there at the deadline, and reported.
        let _ = survivor.pidfd.kill();
    }
}

fn count(seen: &BTreeSet<u32>) -> u32 {
    u32::try_from(seen.len()).unwrap_or(u32::MAX)
}

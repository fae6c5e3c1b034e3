//! Reaps orphans: processes that are not ours and became our children because their parents died.
//!
//! Only process 1 of a container and a subreaper get any. A wait for *any* child would steal the status of a
//! llama-server (measured: 86 of 100 lost), so that zombies are looked up in `/proc` and reaped one by one, by id.

use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::proc::{self, Stat};
use crate::spawner::Children;

/// Listens for ended children, if this process can get orphans; `None` if it cannot.
pub(crate) fn orphan_notices() -> std::io::Result<Option<Signal>> {
    let is_init = std::process::id() == 1;
    if is_init || nix::sys::prctl::get_child_subreaper().unwrap_or(false) {
        signal(SignalKind::child()).map(Some)
    } else {
        Ok(None)
    }
}

/// Reaps every zombie that is our child and is not in `children`; returns how many.
pub(crate) fn reap_orphans(children: &Children) -> usize {
    // Held over the look and the reaping: a child that is made meanwhile would look like an orphan.
    let ours = children.lock();
    let this = std::process::id();
    proc::processes()
        .filter_map(Stat::of)
        .filter(|stat| stat.is_zombie && stat.parent == this && !ours.contains(&stat.pid))
        .filter_map(|orphan| reap_now(orphan.pid))
        .count()
}

/// Ends a child that nobody waits for any more. Takes as long as the kernel needs to kill it.
pub(crate) fn kill_and_reap(pid: u32, children: &Children) {
    if let Some(target) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        // It can only have ended by itself before, and then there is nothing to kill.
        let _ = rustix::process::kill_process(target, rustix::process::Signal::KILL);
        let _ = waitid(WaitId::Pid(target), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
    }
    reap_child(pid, children);
}

/// Takes the status of a child that has ended; `None` if somebody else did, or if it still runs.
pub(crate) fn reap_child(pid: u32, children: &Children) -> Option<WaitIdStatus> {
    // Held until the child is out of the set: from the wait on, a new child may get its id.
    let mut children = children.lock();
    let status = reap_now(pid);
    children.remove(&pid);
    status
}

fn reap_now(pid: u32) -> Option<WaitIdStatus> {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).ok()?)?;
    waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG).ok().flatten()
}

//! The children and descendants of this process, a subreaper with one thread.
//!
//! The kernel gives every orphan below a subreaper to it (`PR_SET_CHILD_SUBREAPER`), whatever session, user or environment the
//! orphan has. So killing the own children until there is none leaves no descendant, and `ECHILD` proves it. A child that is not
//! reaped keeps its id: a signal to it reaches no stranger.

use std::collections::{BTreeSet, VecDeque};
use std::fs;

use llama_warden_events::{ProcessEnd, Signal};
use llama_warden_procfs::{ProcessStat, process_ids};
use nix::errno::Errno;
use nix::sys::signal::{self, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid as waitid_any};
use nix::unistd;
use rustix::process::{
    Pid, PidfdFlags, WaitId, WaitIdOptions, WaitIdStatus, WaitOptions, pidfd_open, pidfd_send_signal, wait, waitid,
};

/// What the kernel says of the children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChildNews {
    /// There is no child, and so no descendant.
    NoChild,
    /// No child has ended.
    NoneEnded,
    /// This child has ended, and is not reaped.
    Ended(u32),
    /// A child that was not known has ended and is reaped.
    Reaped(u32),
}

/// Asks for a child that has ended. Does not reap one of `known`, which the caller wants the status of.
pub(crate) fn next_ended(known: Option<u32>) -> ChildNews {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    match waitid_any(Id::All, flags) {
        Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) => ChildNews::Ended(pid.as_raw().unsigned_abs()),
        Ok(_) => ChildNews::NoneEnded,
        Err(Errno::ECHILD) => ChildNews::NoChild,
        // A signal that the wrapper has no name for ended it. The other wrapper knows the number but not whose.
        Err(_) => match known.filter(|known| has_ended(*known)) {
            Some(known) => ChildNews::Ended(known),
            None => match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, _))) => ChildNews::Reaped(pid.as_raw_nonzero().get().unsigned_abs()),
                _ => ChildNews::NoneEnded,
            },
        },
    }
}

/// Reaps a child that has ended, and returns how. From here on its id may be reused.
pub(crate) fn reap(pid: u32) -> ProcessEnd {
    let status = raw(pid).and_then(|pid| waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG).ok());
    status.flatten().map_or(ProcessEnd::Unknown, |status| end_of(&status))
}

fn has_ended(pid: u32) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    raw(pid).is_some_and(|pid| matches!(waitid(WaitId::Pid(pid), options), Ok(Some(_))))
}

fn end_of(status: &WaitIdStatus) -> ProcessEnd {
    let code = status.exit_status().and_then(|code| u8::try_from(code).ok());
    let signal = status.terminating_signal().and_then(|number| Signal::from_number(number).ok());
    match (code, signal) {
        (Some(code), _) => ProcessEnd::Exited { code },
        (None, Some(signal)) => ProcessEnd::Signaled { signal, core_dumped: status.dumped() },
        (None, None) => ProcessEnd::Unknown,
    }
}

/// The children of this process.
pub(crate) fn children() -> Vec<u32> {
    match fs::read_to_string("/proc/thread-self/children") {
        Ok(list) => list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect(),
        Err(_) => searched_children(std::process::id()),
    }
}

/// The children of another process.
fn children_of(parent: u32) -> Vec<u32> {
    match llama_warden_procfs::children(parent) {
        // It has none, or the kernel lists none.
        none if none.is_empty() && !fs::exists("/proc/thread-self/children").unwrap_or(true) => {
            searched_children(parent)
        }
        children => children.into(),
    }
}

/// The children of a process on a kernel without CONFIG_PROC_CHILDREN.
fn searched_children(parent: u32) -> Vec<u32> {
    let is_child = |pid: &u32| ProcessStat::of(*pid).is_some_and(|stat| stat.parent == parent);
    process_ids().filter(is_child).collect()
}

/// Sends KILL to every child, except those that are spared. Returns to how many.
pub(crate) fn kill_children(is_spared: impl Fn(u32) -> bool) -> usize {
    let children: Vec<u32> = children().into_iter().filter(|pid| !is_spared(*pid)).collect();
    for pid in &children {
        // EPERM: a set-user-ID program. It stays, and is reported.
        let _ = kill(nix_pid(*pid), signal::Signal::SIGKILL);
    }
    children.len()
}

/// Most descendants outside the group that get a signal other than KILL: a tree that grows faster than it is walked has no end.
const MOST_SIGNALLED: usize = 10_000;

/// Sends a signal to the group that `leader` leads, and to every descendant outside it; then CONT, if a stopped process would not
/// see the signal otherwise. `leader` is a child that is not reaped, or `None`.
///
/// The kernel lets no child of a group's member escape from a signal to the group. Outside, the children of a process are listed after
/// it got the signal, and those of this process until no new one is among them: so none is missed that is born, or given to this
/// process, meanwhile.
///
/// # Errors
/// The first error of the kernel that is not "no such process".
pub(crate) fn signal_all(number: i32, leader: Option<u32>) -> Result<(), Errno> {
    let mut result = Ok(());
    let mut note = |sent: Result<(), Errno>| match sent {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => result = result.and(Err(error)),
    };
    let named = signal::Signal::try_from(number)?;
    let signals = || [Some(named), stays_pending(named).then_some(signal::Signal::SIGCONT)].into_iter().flatten();
    if let Some(leader) = leader {
        signals().for_each(|signal| note(killpg(nix_pid(leader), signal)));
    }
    let own = std::process::id();
    let mut seen = BTreeSet::new();
    loop {
        let mut due: VecDeque<(u32, u32)> = children().into_iter().map(|child| (child, own)).collect();
        due.retain(|(pid, _)| !seen.contains(pid));
        if due.is_empty() {
            return result;
        }
        while let Some((pid, parent)) = due.pop_front() {
            if seen.len() >= MOST_SIGNALLED {
                return result;
            }
            if !seen.insert(pid) {
                continue;
            }
            // Without `/proc`, which may hide the processes of other users.
            let is_in_group = leader.is_some_and(|leader| unistd::getpgid(Some(nix_pid(pid))) == Ok(nix_pid(leader)));
            if !is_in_group {
                signals().for_each(|signal| note(signal_descendant(pid, parent, signal)));
            }
            due.extend(children_of(pid).into_iter().map(|child| (child, pid)));
        }
    }
}

/// Sends a signal to a process through a handle, if it is still the child of `parent` or was given to this process.
fn signal_descendant(pid: u32, parent: u32, signal: signal::Signal) -> Result<(), Errno> {
    if parent == std::process::id() {
        // Only this process reaps it, so that its id is its own.
        return kill(nix_pid(pid), signal);
    }
    let (Some(handle), Some(number)) = (raw(pid), rustix::process::Signal::from_named_raw(signal as i32)) else {
        return Err(Errno::ESRCH);
    };
    let is_ours = || {
        let parent_now = ProcessStat::of(pid).map(|stat| stat.parent);
        parent_now == Some(parent) || parent_now == Some(std::process::id())
    };
    match pidfd_open(handle, PidfdFlags::empty()) {
        Ok(handle) if is_ours() => {
            pidfd_send_signal(handle, number).map_err(|error| Errno::from_raw(error.raw_os_error()))
        }
        Ok(_) => Err(Errno::ESRCH),
        // A kernel without handles: the parent may reap it in this moment, and its id be given away.
        Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) if is_ours() => kill(nix_pid(pid), signal),
        Err(_) => Err(Errno::ESRCH),
    }
}

/// Kills the group of a child that has ended and is not reaped, which keeps the group's id from being reused.
pub(crate) fn kill_group(leader: u32) {
    // An error means that the group is empty.
    let _ = killpg(nix_pid(leader), signal::Signal::SIGKILL);
}

fn stays_pending(signal: signal::Signal) -> bool {
    use signal::Signal::{SIGCONT, SIGKILL, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU};
    !matches!(signal, SIGKILL | SIGCONT | SIGSTOP | SIGTSTP | SIGTTIN | SIGTTOU)
}

fn nix_pid(pid: u32) -> unistd::Pid {
    // Every process id of the kernel fits; another number names no process.
    unistd::Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX))
}

fn raw(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_kernel_that_lists_no_children_is_searched_for_them() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("spawns");
        let (listed, searched) = (children(), searched_children(std::process::id()));
        assert!(listed.contains(&child.id()) && searched.contains(&child.id()), "{listed:?} {searched:?}");
        child.kill().and_then(|()| child.wait()).expect("ours");
        assert!(!searched_children(std::process::id()).contains(&child.id()));
    }
}

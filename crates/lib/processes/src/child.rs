//! A child process that is not reaped, as a value with one owner. Dropping it kills the child.
//!
//! Until a child is reaped, the kernel gives neither its id nor the id of its group to another process: a signal that is sent
//! through an [`UnreapedChild`] never reaches a stranger.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitIdStatus, waitid};

/// The ids of all children that are not reaped, shared with the reaper of orphans.
#[derive(Debug, Clone, Default)]
pub struct ChildSet(Arc<Mutex<BTreeSet<u32>>>);

impl ChildSet {
    /// Locks the set. While it is locked, no child is made and none is reaped.
    pub fn lock(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A child that is not reaped yet.
#[derive(Debug)]
pub struct UnreapedChild {
    pid: u32,
    children: ChildSet,
    is_reaped: bool,
}

impl UnreapedChild {
    /// Takes ownership of a child that was just made and whose id is in the set.
    pub fn new(pid: u32, children: ChildSet) -> Self {
        Self { pid, children, is_reaped: false }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends `signal` to the whole group of the child.
    pub fn signal(&self, signal: Signal) -> Result<(), Errno> {
        signal_group(self.pid, signal)
    }

    /// Reaps a child that has ended; `None` if another process reaped it. From here on its id may be reused.
    pub fn reap(mut self) -> Option<WaitIdStatus> {
        self.is_reaped = true;
        reap(self.pid, &self.children)
    }
}

impl Drop for UnreapedChild {
    fn drop(&mut self) {
        if self.is_reaped {
            return;
        }
        // An error means that it has ended by itself.
        let _ = signal_group(self.pid, Signal::SIGKILL);
        let (pid, children) = (self.pid, self.children.clone());
        let reap = move || {
            wait(pid);
            reap(pid, &children);
        };
        // On a thread, because the kernel may need a moment to end it. Without one the zombie stays until the daemon ends.
        let _ = std::thread::Builder::new().name("reap".into()).spawn(reap);
    }
}

/// Reaps a process that has ended without consulting the set: for orphans, whose ids are not in it.
pub fn reap_now(pid: u32) -> Option<WaitIdStatus> {
    waitid(WaitId::Pid(raw(pid)?), WaitIdOptions::EXITED | WaitIdOptions::NOHANG).ok().flatten()
}

fn reap(pid: u32, children: &ChildSet) -> Option<WaitIdStatus> {
    // Locked until the child is out of the set: after the wait, a new child may get its id.
    let mut children = children.lock();
    let status = reap_now(pid);
    children.remove(&pid);
    status
}

/// Blocks until a child has ended; does not reap it.
fn wait(pid: u32) {
    let Some(pid) = raw(pid) else { return };
    let ended = || waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
    while matches!(ended(), Err(rustix::io::Errno::INTR)) {}
}

fn signal_group(pid: u32, signal: Signal) -> Result<(), Errno> {
    let pid = unistd::Pid::from_raw(i32::try_from(pid).map_err(|_| Errno::ESRCH)?);
    match killpg(pid, signal) {
        // There is no such group yet if the shim has not called setsid.
        Err(Errno::ESRCH) => kill(pid, signal),
        result => result,
    }
}

fn raw(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

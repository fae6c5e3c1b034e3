//! One child with the notice of its exit: delivers signals to its group, sweeps its descendants, reaps its status last.
//!
//! Dropping it kills the child, like every [`UnreapedChild`]: no process outlives a cancelled task.

use std::io;

use llama_warden_events::{ProcessEnd, Signal};
use llama_warden_procfs::ProcessStat;
use nix::errno::Errno;
use nix::sys::signal;
use rustix::process::WaitIdStatus;
use tokio::time::Instant;

use super::child::UnreapedChild;
use super::process_handle::ProcessHandle;
use super::spawner::Spawner;
use super::sweep::{self, ProcessSelector, Sweep};

/// A child and the means to wait for its exit.
#[derive(Debug)]
pub struct ChildProcess {
    child: UnreapedChild,
    pin: ProcessHandle,
    /// Kept alive because the kernel kills the child when the thread that made it ends.
    _spawner: Spawner,
}

/// A signal that was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// The kernel's wrapper has no name for it.
    #[error("signal {0} has no name that the kernel's wrapper takes")]
    Unnamed(Signal),
    /// The kernel refused it.
    #[error("cannot send {signal} to process group {group}: {errno}")]
    Refused {
        /// The signal.
        signal: Signal,
        /// The group that the process leads.
        group: u32,
        /// The error of the kernel.
        errno: Errno,
    },
}

impl ChildProcess {
    /// Takes ownership of a child that `spawner` made. On an error the child is killed.
    pub fn new(spawner: &Spawner, child: UnreapedChild) -> io::Result<Self> {
        let pin = ProcessHandle::new(child.pid())?;
        Ok(Self { child, pin, _spawner: spawner.clone() })
    }

    /// Its process id, which stays its own until it is reaped.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// The start time in clock ticks since the machine booted; 0 if `/proc` cannot be read.
    pub fn start_ticks(&self) -> u64 {
        // A child that is not reaped has a stat file even if it has ended.
        ProcessStat::of(self.pid()).map_or(0, |stat| stat.start_ticks)
    }

    /// Sends `signal` to the whole group, then CONT if a stopped process would not see the signal otherwise.
    pub fn deliver(&self, signal: Signal) -> Result<(), SignalError> {
        let named = signal::Signal::try_from(signal.number()).map_err(|_| SignalError::Unnamed(signal))?;
        let refused = |errno| SignalError::Refused { signal, group: self.pid(), errno };
        self.child.signal(named).map_err(refused)?;
        if stays_pending(named) {
            self.child.signal(signal::Signal::SIGCONT).map_err(refused)?;
        }
        Ok(())
    }

    /// Completes once the child has ended. Safe to cancel; one task waits at a time.
    pub fn exited(&self) -> impl Future<Output = io::Result<()>> + Unpin {
        self.pin.exited()
    }

    /// Kills the processes that outlived the child: those that `selector` selects, and those of the child's group.
    pub async fn sweep(&self, selector: ProcessSelector, deadline: Instant) -> Sweep {
        sweep::sweep(&ProcessSelector { group: Some(self.pid()), ..selector }, deadline).await
    }

    /// Reaps a child that has ended. From here on its id may belong to another process.
    pub fn reap(self) -> ProcessEnd {
        // A status is lost only if another part of this process waits for any child.
        self.child.reap().map_or(ProcessEnd::Unknown, |status| end_of(&status))
    }
}

fn stays_pending(signal: signal::Signal) -> bool {
    use signal::Signal::{SIGCONT, SIGKILL, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU};
    !matches!(signal, SIGKILL | SIGCONT | SIGSTOP | SIGTSTP | SIGTTIN | SIGTTOU)
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

#[cfg(test)]
mod tests;

//! One child: signals to its group, its exit, and its status, which is taken last.
//!
//! Dropped, it is killed, as every [`UnreapedChild`] is: nothing outlives a task that was cancelled.

use std::io;

use llama_warden_events::{ProcessEnd, Signal};
use nix::errno::Errno;
use nix::sys::signal;
use rustix::process::WaitIdStatus;
use tokio::time::Instant;

use super::child::UnreapedChild;
use super::proc::ProcStat;
use super::process_handle::ProcessHandle;
use super::spawner::Spawner;
use super::sweep::{self, ProcessSelector, Sweep};

/// A child whose exit is awaited.
#[derive(Debug)]
pub(crate) struct ChildProcess {
    child: UnreapedChild,
    pin: ProcessHandle,
    /// The kernel kills the child when the thread that made it ends.
    _spawner: Spawner,
}

/// A signal was not sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignalError {
    #[error("signal {0} has no name that the kernel's wrapper takes")]
    Unnamed(Signal),
    #[error("cannot send {signal} to process group {group}: {errno}")]
    Refused { signal: Signal, group: u32, errno: Errno },
}

impl ChildProcess {
    /// Takes charge of a child that `spawner` made. If that fails the child is killed.
    pub(crate) fn new(spawner: &Spawner, child: UnreapedChild) -> io::Result<Self> {
        let pin = ProcessHandle::new(child.pid())?;
        Ok(Self { child, pin, _spawner: spawner.clone() })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// In clock ticks since the machine booted; 0 if `/proc` cannot be read.
    pub(crate) fn start_ticks(&self) -> u64 {
        // A child that is not reaped has a stat, also when it has ended.
        ProcStat::of(self.pid()).map_or(0, |stat| stat.start_ticks)
    }

    /// Sends `signal` to the whole group. A signal that a stopped process would not see is followed by CONT.
    pub(crate) fn deliver(&self, signal: Signal) -> Result<(), SignalError> {
        let named = signal::Signal::try_from(signal.number()).map_err(|_| SignalError::Unnamed(signal))?;
        let refused = |errno| SignalError::Refused { signal, group: self.pid(), errno };
        self.child.signal(named).map_err(refused)?;
        if stays_pending(named) {
            self.child.signal(signal::Signal::SIGCONT).map_err(refused)?;
        }
        Ok(())
    }

    /// Completes when the child has ended, at once if it has already. Safe to cancel; one task waits at a time.
    pub(crate) fn exited(&self) -> impl Future<Output = io::Result<()>> + Unpin {
        self.pin.exited()
    }

    /// Kills what outlived the child, by these `selector` and the group that it led. See [`sweep::sweep`].
    pub(crate) async fn sweep(&self, selector: ProcessSelector, deadline: Instant) -> Sweep {
        sweep::sweep(&ProcessSelector { group: Some(self.pid()), ..selector }, deadline).await
    }

    /// Takes the status of a child that has ended. From here on its id may belong to somebody else.
    pub(crate) fn reap(self) -> ProcessEnd {
        // Somebody else's wait for any child is the one way to lose a status.
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
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::process::spawn_request::{ShimProgram, SpawnRequest};

    async fn shell(spawner: &Spawner, script: &str) -> ChildProcess {
        let request = SpawnRequest {
            shim: ShimProgram::None,
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: Default::default(),
            lock: None,
        };
        let spawned = spawner.spawn(request).await.expect("spawns");
        ChildProcess::new(spawner, spawned.child).expect("is watched")
    }

    async fn end(process: ChildProcess) -> ProcessEnd {
        let exited = tokio::time::timeout(Duration::from_secs(20), process.exited()).await;
        exited.expect("ends").expect("is awaited");
        process.reap()
    }

    #[tokio::test]
    async fn every_exit_code_and_every_fatal_signal_is_recorded() {
        let spawner = Spawner::start().expect("starts");
        for code in 0..=255 {
            let process = shell(&spawner, &format!("exit {code}")).await;
            assert_eq!(end(process).await, ProcessEnd::Exited { code });
        }
        // Those that stop, continue or are ignored by default do not end anything; 32 and 33 belong to the C library.
        let harmless = [17, 18, 19, 20, 21, 22, 23, 28, 32, 33];
        for number in (1..=64).filter(|number| !harmless.contains(number)) {
            let process = shell(&spawner, &format!("ulimit -c 0; kill -{number} $$; read never")).await;
            let expected = Signal::from_number(number).expect("a signal");
            let end = end(process).await;
            assert!(matches!(end, ProcessEnd::Signaled { signal, .. } if signal == expected), "{expected}: {end:?}");
        }
        assert!(spawner.children().lock().is_empty());
    }

    /// C5.
    #[tokio::test]
    async fn no_exit_is_lost_however_early_it_comes() {
        let spawner = Spawner::start().expect("starts");
        for round in 0..1000 {
            let process = shell(&spawner, "exit 7").await;
            if round % 2 == 0 {
                tokio::task::yield_now().await;
            }
            assert_eq!(end(process).await, ProcessEnd::Exited { code: 7 }, "round {round}");
        }
    }

    #[tokio::test]
    async fn a_stopped_process_sees_term() {
        let spawner = Spawner::start().expect("starts");
        let process = shell(&spawner, "kill -STOP $$; exit 3").await;
        process.deliver(Signal::TERM).expect("is sent");
        let end = end(process).await;
        assert!(matches!(end, ProcessEnd::Signaled { signal: Signal::TERM, .. }), "{end:?}");
    }

    #[tokio::test]
    async fn a_dropped_process_is_killed_and_reaped() {
        let spawner = Spawner::start().expect("starts");
        let process = shell(&spawner, "sleep 60; :").await;
        let watched = ProcessHandle::new(process.pid()).expect("exists");
        drop(process);
        tokio::time::timeout(Duration::from_secs(20), watched.exited()).await.expect("ends").expect("is awaited");
    }

    #[tokio::test]
    async fn a_signal_without_a_name_is_refused() {
        let spawner = Spawner::start().expect("starts");
        let process = shell(&spawner, "exit 0").await;
        let unnamed = Signal::from_number(40).expect("a signal");
        assert!(matches!(process.deliver(unnamed), Err(SignalError::Unnamed(_))));
        end(process).await;
    }
}

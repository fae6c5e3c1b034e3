//! A handle of one process that never refers to another process with the same id: a pidfd, or polling where there is none.
//!
//! Kernels before 5.3 and some sandboxes give no pidfd. There, the end of a process that was left behind is polled every 20 ms, and a
//! process that is not our child is identified by id and start time. Between a poll and a signal its id may, in theory, be given
//! to another process. A warning about it is logged once.

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Once;
use std::time::Duration;

use llama_warden_procfs::ProcessStat;
use nix::errno::Errno;
use nix::sys::signal;
use nix::unistd;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Pause between two polls of a process without a pidfd.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A handle of a process that exists, or of a zombie that is not reaped.
#[derive(Debug)]
pub struct ProcessHandle(Backend);

#[derive(Debug)]
enum Backend {
    Descriptor(AsyncFd<OwnedFd>),
    Poll(PolledProcess),
}

/// Identifies a process, as long as its id is not reused within a clock tick.
#[derive(Debug)]
struct PolledProcess {
    pid: Pid,
    /// Start time; 0 if `/proc` cannot be read.
    start_ticks: u64,
}

impl ProcessHandle {
    /// Opens a handle of the process that has this id now. Must be called in a runtime.
    pub fn new(pid: u32) -> io::Result<Self> {
        match Self::by_descriptor(pid) {
            Err(error) if is_unavailable(&error) => {
                warn_once(&error);
                Self::by_polling(pid)
            }
            pinned => pinned,
        }
    }

    #[expect(deprecated, reason = "what replaces it is an unsafe function, whose demand an OwnedFd meets")]
    fn by_descriptor(pid: u32) -> io::Result<Self> {
        let pidfd = pidfd_open(raw(pid)?, PidfdFlags::empty())?;
        AsyncFd::with_interest(pidfd, Interest::READABLE).map(|pidfd| Self(Backend::Descriptor(pidfd)))
    }

    fn by_polling(pid: u32) -> io::Result<Self> {
        let polled =
            PolledProcess { pid: raw(pid)?, start_ticks: ProcessStat::of(pid).map_or(0, |stat| stat.start_ticks) };
        Ok(Self(Backend::Poll(polled)))
    }

    /// Completes once the process has ended. Safe to cancel; one task waits at a time. Polled by hand to stay small, since it is
    /// awaited for months.
    pub fn exited(&self) -> impl Future<Output = io::Result<()>> + Unpin {
        let mut polling = None;
        poll_fn(move |context| match &self.0 {
            // A pidfd stays readable after the end, so that its readiness is never cleared.
            Backend::Descriptor(pidfd) => pidfd.poll_read_ready(context).map_ok(drop),
            Backend::Poll(polled) => {
                polling.get_or_insert_with(|| Box::pin(polled.ended())).as_mut().poll(context).map(Ok)
            }
        })
    }

    /// Kills the process, if it still runs.
    pub fn kill(&self) -> io::Result<()> {
        match &self.0 {
            Backend::Descriptor(pidfd) => Ok(pidfd_send_signal(pidfd.get_ref(), Signal::KILL)?),
            Backend::Poll(polled) if polled.has_ended() => Err(Errno::ESRCH.into()),
            Backend::Poll(polled) => {
                Ok(signal::kill(unistd::Pid::from_raw(polled.pid.as_raw_nonzero().get()), signal::Signal::SIGKILL)?)
            }
        }
    }
}

impl PolledProcess {
    async fn ended(&self) {
        while !self.has_ended() {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    fn has_ended(&self) -> bool {
        // Without NOWAIT this would reap the child, and free its id.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(WaitId::Pid(self.pid), options) {
            Ok(ended) => ended.is_some(),
            // Not our child: it has ended if `/proc` does not show it any more.
            Err(_) => ProcessStat::of(self.pid.as_raw_nonzero().get().unsigned_abs())
                .is_none_or(|stat| stat.is_zombie() || stat.start_ticks != self.start_ticks),
        }
    }
}

/// ENOSYS: a kernel without pidfd. EPERM: the answer of older container runtimes to calls that they do not know.
fn is_unavailable(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::ENOSYS | Errno::EPERM))
}

/// Warns now, if the kernel gives no pidfds.
pub fn announce_polling() {
    if let Err(error) = pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).map_err(io::Error::from)
        && is_unavailable(&error)
    {
        warn_once(&error);
    }
}

fn warn_once(error: &io::Error) {
    static WARNED: Once = Once::new();
    WARNED.call_once(|| {
        tracing::warn!(%error, "no pidfd here: the ends of processes that are left behind are polled every {POLL_INTERVAL:?}");
    });
}

fn raw(pid: u32) -> io::Result<Pid> {
    Ok(i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::ESRCH)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn sleeper() -> Child {
        Command::new("/bin/sleep").arg("60").spawn().expect("spawns")
    }

    /// Fault S17: a kernel or sandbox without pidfds.
    #[tokio::test]
    async fn a_process_is_killed_and_its_end_is_seen_in_either_way() {
        for pin in [ProcessHandle::by_descriptor, ProcessHandle::by_polling] {
            let mut child = sleeper();
            let pinned = pin(child.id()).expect("exists");
            pinned.kill().expect("runs");
            tokio::time::timeout(PATIENCE, pinned.exited()).await.expect("ends").expect("is awaited");
            let status = child.wait().expect("its status is still there");
            assert_eq!(status.signal(), Some(9));
            tokio::time::timeout(PATIENCE, pinned.exited()).await.expect("stays ended").expect("is awaited");
            assert!(pinned.kill().is_err(), "its id is not its own any more");
        }
    }

    #[tokio::test]
    async fn a_stranger_with_the_same_id_is_not_the_process() {
        let mut child = sleeper();
        // Process 1 is not our child, and started long before.
        let recycled = PolledProcess { pid: raw(1).expect("exists"), start_ticks: u64::MAX };
        assert!(recycled.has_ended() && ProcessHandle(Backend::Poll(recycled)).kill().is_err());
        child.kill().expect("ours");
        child.wait().expect("ended");
    }
}

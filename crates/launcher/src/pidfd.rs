//! A process by descriptor: it stays the same process, whatever becomes of its id.

use std::io;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A process that exists, or a zombie that is not reaped.
#[derive(Debug)]
pub(crate) struct Pidfd(AsyncFd<OwnedFd>);

impl Pidfd {
    /// Opens the process that has this id now. Needs a runtime.
    #[expect(deprecated, reason = "what replaces it is an unsafe function, whose demand an OwnedFd meets")]
    pub(crate) fn open(pid: u32) -> io::Result<Self> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::ESRCH)?;
        let pidfd = pidfd_open(raw, PidfdFlags::empty())?;
        AsyncFd::with_interest(pidfd, Interest::READABLE).map(Self)
    }

    /// Completes when the process has ended, at once if it has already. Safe to cancel.
    pub(crate) async fn exited(&self) -> io::Result<()> {
        // The descriptor stays readable for good, so that the readiness is never cleared.
        self.0.readable().await.map(drop)
    }

    /// Kills the process, if it still runs.
    pub(crate) fn kill(&self) -> io::Result<()> {
        Ok(pidfd_send_signal(self.0.get_ref(), Signal::KILL)?)
    }
}

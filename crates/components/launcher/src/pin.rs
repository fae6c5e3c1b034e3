//! A process that stays the same one, whatever becomes of its id: by descriptor, or by looking where there is none.
//!
//! Kernels before 5.3 and some sandboxes give no pidfd. Then the end of a process is looked for every [`LOOK_INTERVAL`], and a
//! process that is not our child is known by its id and start time: between a look and a signal its id may, in theory,
//! become another's. That this is so is logged once.

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Once;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal;
use nix::unistd;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::proc::Stat;

/// Pause between two looks at a process without a descriptor.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A process that exists, or a zombie that is not reaped.
#[derive(Debug)]
pub(crate) struct ProcessPin(Way);

#[derive(Debug)]
enum Way {
    Descriptor(AsyncFd<OwnedFd>),
    Look(Looked),
}

/// Names a process for good, as long as ids are not recycled within a clock tick.
#[derive(Debug)]
struct Looked {
    pid: Pid,
    /// 0 where `/proc` cannot be read.
    start_ticks: u64,
}

impl ProcessPin {
    /// Pins the process that has this id now. Needs a runtime.
    pub(crate) fn new(pid: u32) -> io::Result<Self> {
        match Self::by_descriptor(pid) {
            Err(error) if is_unavailable(&error) => {
                announce(&error);
                Self::by_look(pid)
            }
            pinned => pinned,
        }
    }

    #[expect(deprecated, reason = "what replaces it is an unsafe function, whose demand an OwnedFd meets")]
    fn by_descriptor(pid: u32) -> io::Result<Self> {
        let pidfd = pidfd_open(raw(pid)?, PidfdFlags::empty())?;
        AsyncFd::with_interest(pidfd, Interest::READABLE).map(|pidfd| Self(Way::Descriptor(pidfd)))
    }

    fn by_look(pid: u32) -> io::Result<Self> {
        let looked = Looked { pid: raw(pid)?, start_ticks: Stat::of(pid).map_or(0, |stat| stat.start_ticks) };
        Ok(Self(Way::Look(looked)))
    }

    /// Completes when the process has ended, at once if it has already. Safe to cancel; one task waits at a time. As small
    /// as can be, since it is awaited for months.
    pub(crate) fn exited(&self) -> impl Future<Output = io::Result<()>> + Unpin {
        let mut looking = None;
        poll_fn(move |context| match &self.0 {
            // The descriptor stays readable for good, so that the readiness is never cleared.
            Way::Descriptor(pidfd) => pidfd.poll_read_ready(context).map_ok(drop),
            Way::Look(looked) => looking.get_or_insert_with(|| Box::pin(looked.ended())).as_mut().poll(context).map(Ok),
        })
    }

    /// Kills the process, if it still runs.
    pub(crate) fn kill(&self) -> io::Result<()> {
        match &self.0 {
            Way::Descriptor(pidfd) => Ok(pidfd_send_signal(pidfd.get_ref(), Signal::KILL)?),
            Way::Look(looked) if looked.has_ended() => Err(Errno::ESRCH.into()),
            Way::Look(looked) => {
                Ok(signal::kill(unistd::Pid::from_raw(looked.pid.as_raw_nonzero().get()), signal::Signal::SIGKILL)?)
            }
        }
    }
}

impl Looked {
    async fn ended(&self) {
        while !self.has_ended() {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    fn has_ended(&self) -> bool {
        // Without NOWAIT this would take the status, and with it the claim to the id.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(WaitId::Pid(self.pid), options) {
            Ok(ended) => ended.is_some(),
            // Not our child: what `/proc` does not show is gone.
            Err(_) => Stat::of(self.pid.as_raw_nonzero().get().unsigned_abs())
                .is_none_or(|stat| stat.is_zombie() || stat.start_ticks != self.start_ticks),
        }
    }
}

/// ENOSYS is a kernel without it; EPERM is what older container runtimes answer for calls that they do not know.
fn is_unavailable(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::ENOSYS | Errno::EPERM))
}

fn announce(error: &io::Error) {
    static ANNOUNCED: Once = Once::new();
    ANNOUNCED.call_once(|| {
        tracing::warn!(%error, "no pidfd here: the ends of processes are looked for every {LOOK_INTERVAL:?}");
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

    /// S17.
    #[tokio::test]
    async fn a_process_is_killed_and_its_end_is_seen_in_either_way() {
        for pin in [ProcessPin::by_descriptor, ProcessPin::by_look] {
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
        // Process 1 is nobody's child here, and started long before.
        let recycled = Looked { pid: raw(1).expect("exists"), start_ticks: u64::MAX };
        assert!(recycled.has_ended() && ProcessPin(Way::Look(recycled)).kill().is_err());
        child.kill().expect("ours");
        child.wait().expect("ended");
    }
}

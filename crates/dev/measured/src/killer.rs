//! Kills a server without its daemon's knowledge, and observes its death independently of the daemon.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;
use std::time::SystemTime;

use llama_warden_test_parts::error::{Error, OnPath};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::daemon::WAIT_LIMIT;

/// A kill and the death that follows, in wall time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WitnessedKill {
    /// Just before KILL was sent.
    pub begun: SystemTime,
    /// When a thread of this program that polls the process saw that it is dead.
    pub witnessed: SystemTime,
}

/// Kills process `pid` and waits for its death.
///
/// # Errors
/// When there is no such process, or it lives longer than [`WAIT_LIMIT`].
pub fn kill(pid: u64) -> Result<WitnessedKill, Error> {
    try_kill(pid).on("kill", Path::new(&format!("/proc/{pid}")))
}

fn try_kill(pid: u64) -> io::Result<WitnessedKill> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    thread::scope(|scope| {
        let witness = scope.spawn(|| death(&process));
        let begun = SystemTime::now();
        pidfd_send_signal(&process, Signal::KILL)?;
        let witnessed = witness.join().map_err(|_| io::Error::other("the witness panicked"))??;
        Ok(WitnessedKill { begun, witnessed })
    })
}

/// Waits until the process is dead: its pidfd becomes readable then, before anybody reaps it.
fn death(process: &OwnedFd) -> io::Result<SystemTime> {
    let wait_limit = Timespec::try_from(WAIT_LIMIT).map_err(io::Error::other)?;
    match poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&wait_limit))? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(SystemTime::now()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_killed_process_is_dead_when_it_is_witnessed() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let killing = kill(child.id().into()).unwrap();
        assert!(killing.begun < killing.witnessed);
        assert_eq!(child.try_wait().unwrap().and_then(|status| status.signal()), Some(9));
        assert!(kill(child.id().into()).is_err());
    }
}

//! Locks the state directory: one daemon each.
//!
//! The kernel releases the lock when the process ends, however it ends; the file's content only names the holder for
//! people. Children do not inherit the lock: the shim binds their life to the daemon's.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use llama_warden_procfs::ProcessStat;

use crate::errno::{is_disk_full, next_step_for};
use crate::exit::{CommandFailure, Exit};

/// Longest time that a lock may outlive its holder. A child that was being forked when the daemon was killed keeps a copy
/// of the descriptor until its exec, milliseconds later.
const RELEASE_WAIT: Duration = Duration::from_secs(2);

/// Pause between two attempts at such a lock.
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// A locked state directory. Dropping it releases the lock.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Creates the directory (mode 0700) if it is missing, and locks it.
    ///
    /// # Errors
    /// [`Exit::Held`] if another daemon holds it, with that daemon's pid; [`Exit::Failed`] if it cannot be written.
    pub fn acquire(path: &Path) -> Result<Self, CommandFailure> {
        let unusable = |what: &str, error: &std::io::Error| {
            CommandFailure::failed(format!("cannot {what} the state directory {}: {error}", path.display()))
                .next_step(next_step_for(error).unwrap_or("name another folder as daemon.state-dir"))
        };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| unusable("create", &error))?;
        let path = fs::canonicalize(path).map_err(|error| unusable("resolve", &error))?;
        let file = path.join("daemon.lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&file)
            .map_err(|error| unusable("open daemon.lock in", &error))?;
        let deadline = Instant::now() + RELEASE_WAIT;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(unusable("lock daemon.lock in", &error)),
            }
            let holder = read_holder(&mut lock);
            if holder.is_none_or(is_running) || Instant::now() >= deadline {
                return Err(held(&path, holder));
            }
            // flock(2) has no timeout: it either fails at once or blocks for ever. So this polls.
            thread::sleep(RETRY_INTERVAL);
        }
        // The pid is for people and for the poll above; the lock itself does not depend on it.
        let written =
            lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| writeln!(lock, "{}", std::process::id()));
        match written {
            Err(error) if is_disk_full(&error) => {
                tracing::warn!(%error, "the disk of the state directory is full; what it should keep is lost at the next start");
            }
            written => written.map_err(|error| unusable("write daemon.lock in", &error))?,
        }
        Ok(Self { path, _lock: lock })
    }

    /// The directory, as an absolute path without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of the control socket in it.
    pub fn control_socket(&self) -> PathBuf {
        control_socket(&self.path)
    }
}

/// The path of the control socket in a state directory.
pub fn control_socket(state_dir: &Path) -> PathBuf {
    state_dir.join("control.sock")
}

/// The pid of the latest holder; `None` if it has not written it yet.
fn read_holder(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.rewind().and_then(|()| lock.read_to_string(&mut text)).ok()?;
    text.trim().parse().ok()
}

/// Whether the process exists and is no zombie: the kernel has closed a zombie's descriptors.
fn is_running(pid: u32) -> bool {
    ProcessStat::of(pid).is_some_and(|stat| !stat.is_zombie())
}

fn held(path: &Path, holder: Option<u32>) -> CommandFailure {
    let holder = holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
    CommandFailure::new(Exit::Held, format!("the state directory {} is held by {holder}", path.display())).next_step(
        "talk to that daemon (llama-warden status), end it (llama-warden down), or name another daemon.state-dir",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::FailureMessage;

    #[test]
    fn a_second_daemon_is_refused_and_told_who_holds_the_directory() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let path = parent.path().join("state");
        let first = StateDir::acquire(&path).expect("free");
        let refused = StateDir::acquire(&path).expect_err("held");
        assert_eq!(refused.exit, Exit::Held);
        let FailureMessage::Text { message, .. } = refused.message else { panic!("a sentence") };
        assert!(message.ends_with(&format!("process {}", std::process::id())), "{message}");
        drop(first);
        StateDir::acquire(&path).expect("free again");
    }

    /// S3, S6.
    #[test]
    fn a_lock_that_outlives_its_holder_for_a_moment_is_waited_for() {
        let path = tempfile::tempdir().expect("a temporary directory");
        let mut ended = std::process::Command::new("true").spawn().expect("spawns");
        ended.wait().expect("ended");
        let copy = File::create(path.path().join("daemon.lock")).expect("is made");
        copy.lock().expect("free");
        (&copy).write_all(ended.id().to_string().as_bytes()).expect("fits");
        let released = thread::spawn(move || {
            // await: the first attempt of the other thread, which no event announces.
            thread::sleep(Duration::from_millis(100));
            drop(copy);
        });
        StateDir::acquire(path.path()).expect("its holder is gone");
        released.join().expect("no panic");
    }
}

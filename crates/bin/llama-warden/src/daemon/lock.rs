//! One daemon per state directory.
//!
//! The lock is the kernel's and goes with the process, however it ends; the file's content only tells people who holds
//! it. Children do not inherit the lock: their life is bound to the daemon's in another way.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use llama_warden_procfs::ProcessStat;

use crate::exit::{Exit, Failure};

/// How long a lock may outlive its holder. A child that was being made when the daemon was killed has a copy of the descriptor
/// until its exec, milliseconds later.
const LAST_BREATH: Duration = Duration::from_secs(2);

/// Pause between two looks at such a lock.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// The exclusive right to a state directory, as long as it is kept.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Makes the directory (0700) where it is missing, and locks it.
    ///
    /// # Errors
    /// [`Exit::Held`] where another daemon has it, naming that daemon; [`Exit::Failed`] where it cannot be written.
    pub fn acquire(path: &Path) -> Result<Self, Failure> {
        let unusable = |what: &str, error: &std::io::Error| {
            Failure::new(Exit::Failed, format!("{what} in the state directory {}: {error}", path.display()))
                .next_step("give it to the user who runs llama-warden, or name another one as daemon.state-dir")
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| unusable("cannot make what is missing", &error))?;
        let path = fs::canonicalize(path).map_err(|error| unusable("cannot find the way", &error))?;
        let file = path.join("daemon.lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&file)
            .map_err(|error| unusable("cannot open daemon.lock", &error))?;
        let deadline = Instant::now() + LAST_BREATH;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(unusable("cannot lock daemon.lock", &error)),
            }
            let holder = read_holder(&mut lock);
            if holder.is_none_or(is_running) || Instant::now() >= deadline {
                return Err(held(&path, holder));
            }
            // The kernel tells nobody of a lock that becomes free but who waits for it without a limit.
            thread::sleep(LOOK_INTERVAL);
        }
        // Who holds it, for people; the lock itself does not depend on it.
        let written =
            lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| writeln!(lock, "{}", std::process::id()));
        written.map_err(|error| unusable("cannot write daemon.lock", &error))?;
        Ok(Self { path, _lock: lock })
    }

    /// The directory, as an absolute path without links.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The process that took the lock last; `None` where it has not said so yet.
fn read_holder(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.rewind().and_then(|()| lock.read_to_string(&mut text)).ok()?;
    text.trim().parse().ok()
}

/// A zombie holds nothing any more.
fn is_running(pid: u32) -> bool {
    ProcessStat::of(pid).is_some_and(|stat| !stat.is_zombie())
}

fn held(path: &Path, holder: Option<u32>) -> Failure {
    let holder = holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
    Failure::new(Exit::Held, format!("the state directory {} is held by {holder}", path.display())).next_step(
        "talk to that daemon (llama-warden status), end it (llama-warden down), or name another daemon.state-dir",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Told;

    #[test]
    fn a_second_daemon_is_refused_and_told_who_holds_the_directory() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let path = parent.path().join("state");
        let first = StateDir::acquire(&path).expect("free");
        let refused = StateDir::acquire(&path).expect_err("held");
        assert_eq!(refused.exit, Exit::Held);
        let Told::Text { message, .. } = refused.told else { panic!("a sentence") };
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
            // await: the first look of the other thread, of which nothing tells.
            thread::sleep(Duration::from_millis(100));
            drop(copy);
        });
        StateDir::acquire(path.path()).expect("its holder is gone");
        released.join().expect("no panic");
    }
}

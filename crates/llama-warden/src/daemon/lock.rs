//! One daemon per state directory.
//!
//! The lock is the kernel's and goes with the process, however it ends; the file's content only tells people who holds
//! it. Children do not inherit the lock: their life is bound to the daemon's in another way.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::exit::{Exit, Failure};

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
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(&path, &mut lock)),
            Err(TryLockError::Error(error)) => return Err(unusable("cannot lock daemon.lock", &error)),
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

fn held(path: &Path, lock: &mut File) -> Failure {
    let mut holder = String::new();
    let holder = match lock.read_to_string(&mut holder) {
        Ok(_) if !holder.trim().is_empty() => format!("process {}", holder.trim()),
        _ => "another process".to_owned(),
    };
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
}

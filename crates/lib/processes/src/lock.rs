//! The instance lock: a file that every process of a launch holds open. It finds a descendant that escaped, that is, cleared
//! its environment and left its group and session.
//!
//! The shim opens the file of its server for writing, takes a shared lock on it, and lets exec keep it. The kernel frees the
//! lock when the last descendant that inherited it has ended (flock(2)): a free lock proves that no process of the launch
//! is left. The daemon opens the file for reading only, so that it is never taken for a holder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::IntoRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use llama_warden_events::ServerId;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// The name of the folder in the state directory.
const FOLDER: &str = "locks";

/// Permission bit of an entry of `/proc/PID/fd` whose file is open for writing.
const OPEN_FOR_WRITING: u32 = 0o200;

/// The lock of one server. All its launches use the same file, because they never overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceLock {
    path: PathBuf,
}

impl InstanceLock {
    /// The lock of a server. Creates the file if it is missing.
    ///
    /// # Errors
    /// If the state directory cannot be written.
    pub fn create(state_dir: &Path, server: &ServerId) -> io::Result<Self> {
        fs::create_dir_all(Self::folder(state_dir))?;
        let lock = Self::existing(state_dir, server);
        OpenOptions::new().write(true).create(true).truncate(false).open(&lock.path)?;
        Ok(lock)
    }

    /// The folder of all locks.
    pub fn folder(state_dir: &Path) -> PathBuf {
        state_dir.join(FOLDER)
    }

    /// The lock of a server whose file [`Self::create`] has created.
    pub fn existing(state_dir: &Path, server: &ServerId) -> Self {
        Self { path: Self::folder(state_dir).join(server.as_str()) }
    }

    /// The locks of all servers that were ever launched.
    pub fn all(state_dir: &Path) -> Vec<Self> {
        let entries = fs::read_dir(Self::folder(state_dir)).into_iter().flatten().flatten();
        entries.map(|entry| Self { path: entry.path() }).collect()
    }

    /// The file that is locked.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether any process holds it. `false` on a file system without locks: tag and group still find processes there.
    pub fn is_held(&self) -> bool {
        let Ok(file) = File::open(&self.path) else { return false };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => true,
            Err(TryLockError::Error(error)) => {
                tracing::debug!(path = %self.path.display(), %error, "a lock cannot be asked for");
                false
            }
            Ok(()) => {
                // Unlocked explicitly: a process that is just being made may have a copy of the descriptor.
                let _ = file.unlock();
                false
            }
        }
    }

    /// Whether process `pid` holds it. `false` if its open files cannot be read.
    pub fn is_held_by(&self, pid: u32) -> bool {
        let Ok(lock) = fs::metadata(&self.path) else { return false };
        let is_it = |entry: &fs::DirEntry| {
            let is_writing = entry.metadata().is_ok_and(|link| link.mode() & OPEN_FOR_WRITING != 0);
            let target = fs::metadata(entry.path());
            is_writing && target.is_ok_and(|target| (target.dev(), target.ino()) == (lock.dev(), lock.ino()))
        };
        fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten().any(|entry| is_it(&entry))
    }
}

/// Takes a share of the lock at `path` for this process, for the program that it executes, and for its descendants.
pub fn hold(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.lock_shared()?;
    fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty()))?;
    // The descriptor is leaked on purpose: it stays open until the last descendant has ended.
    let _ = file.into_raw_fd();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_as_long_as_a_holder_has_it_open() {
        let state_dir = tempfile::tempdir().expect("tempdir");
        let server = ServerId::new("a").expect("valid");
        let lock = InstanceLock::create(state_dir.path(), &server).expect("is made");
        assert!(!lock.is_held());
        let holder = OpenOptions::new().write(true).open(lock.path()).expect("opens");
        holder.lock_shared().expect("is free");
        assert!(lock.is_held() && lock.is_held_by(std::process::id()));
        drop(holder);
        let reader = File::open(lock.path()).expect("opens");
        assert!(!lock.is_held() && !lock.is_held_by(std::process::id()), "who only reads is no holder");
        drop(reader);
        assert_eq!(InstanceLock::all(state_dir.path()), [lock]);
    }
}

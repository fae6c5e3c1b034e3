//! The instance lock: a file that every process of a launch holds open. It finds a descendant that escaped, that is, cleared
//! its environment and left its group and session.
//!
//! The shim opens the file of its server for writing, takes a shared lock on it, and lets exec keep it. The kernel frees the
//! lock when the last descendant that inherited it has ended (flock(2)): a free lock proves that no process of the launch
//! is left. The daemon opens the file for reading only, so that it is never taken for a holder. Nor is a process that has
//! the file open without a shared lock: an editor, or a stranger that locks it exclusively.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use llama_warden_events::ServerId;
use llama_warden_support::open_regular;

/// The name of the folder in the state directory.
const FOLDER: &str = "locks";

/// Permission bit of an entry of `/proc/PID/fd` whose file is open for writing.
const OPEN_FOR_WRITING: u32 = 0o200;

/// How the kernel calls a shared lock in `/proc/PID/fdinfo`, and one that excludes others.
const SHARED: &str = "READ";
const EXCLUSIVE: &str = "WRITE";

/// The lock of one server. All its launches use the same file, because they never overlap. A value keeps the file open, so
/// that holders are found even after the file was removed or replaced.
#[derive(Debug, Clone)]
pub struct InstanceLock {
    path: PathBuf,
    file: Arc<File>,
}

impl PartialEq for InstanceLock {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path && Arc::ptr_eq(&self.file, &other.file)
    }
}

impl Eq for InstanceLock {}

impl InstanceLock {
    /// The lock of a server. Creates the file if it is missing.
    ///
    /// # Errors
    /// If the state directory cannot be written, or something else is in the place of the file.
    pub fn create(state_dir: &Path, server: &ServerId) -> io::Result<Self> {
        // The state directory itself is its holder's to make: one without its lock would be nobody's.
        match fs::create_dir(Self::folder(state_dir)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let path = Self::folder(state_dir).join(server.as_str());
        open_regular(&path, OpenOptions::new().write(true).create(true).truncate(false))?;
        Self::open(path)
    }

    /// The folder of all locks.
    pub fn folder(state_dir: &Path) -> PathBuf {
        state_dir.join(FOLDER)
    }

    /// The locks of all servers that were ever launched.
    pub fn all(state_dir: &Path) -> Vec<Self> {
        let entries = fs::read_dir(Self::folder(state_dir)).into_iter().flatten().flatten();
        entries.filter_map(|entry| Self::open(entry.path()).ok()).collect()
    }

    fn open(path: PathBuf) -> io::Result<Self> {
        let file = Arc::new(open_regular(&path, OpenOptions::new().read(true))?);
        Ok(Self { path, file })
    }

    /// The file that is locked.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether any process holds it. `false` on a file system without locks: tag and group still find processes there.
    pub fn is_held(&self) -> bool {
        match self.file.try_lock() {
            Err(TryLockError::WouldBlock) => true,
            Err(TryLockError::Error(error)) => {
                tracing::debug!(path = %self.path.display(), %error, "a lock cannot be asked for");
                false
            }
            Ok(()) => {
                // Unlocked explicitly: a process that is just being made may have a copy of the descriptor.
                let _ = self.file.unlock();
                false
            }
        }
    }

    /// Whether process `pid` holds it as a process of a launch does. `false` if its open files cannot be read.
    pub fn is_held_by(&self, pid: u32) -> bool {
        self.descriptors(pid).any(|entry| {
            let is_writing = entry.metadata().is_ok_and(|link| link.mode() & OPEN_FOR_WRITING != 0);
            is_writing && has_lock(pid, &entry, SHARED)
        })
    }

    /// Whether process `pid` has locked the file for itself alone, as no process of a launch does.
    pub fn is_kept_by(&self, pid: u32) -> bool {
        self.descriptors(pid).any(|entry| has_lock(pid, &entry, EXCLUSIVE))
    }

    /// The descriptors of a process that have the file open.
    fn descriptors(&self, pid: u32) -> impl Iterator<Item = fs::DirEntry> {
        let id = |found: fs::Metadata| (found.dev(), found.ino());
        let lock = self.file.metadata().ok().map(id);
        let is_it = move |entry: &fs::DirEntry| lock.is_some() && fs::metadata(entry.path()).ok().map(id) == lock;
        fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten().filter(is_it)
    }
}

/// Whether the file behind a descriptor is locked through it, or through the one that it was inherited from.
fn has_lock(pid: u32, descriptor: &fs::DirEntry, kind: &str) -> bool {
    let number = descriptor.file_name();
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", number.display())).unwrap_or_default();
    let locks = info.lines().filter_map(|line| line.strip_prefix("lock:"));
    locks.map(|lock| lock.split_whitespace()).any(|mut words| {
        // Number, kind of call, whether it binds others, and how it is held.
        words.nth(1) == Some("FLOCK") && words.nth(1) == Some(kind)
    })
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
        // Explicitly: a process that another test just makes has a copy of the descriptor.
        holder.unlock().expect("is held");
        drop(holder);
        let reader = File::open(lock.path()).expect("opens");
        assert!(!lock.is_held() && !lock.is_held_by(std::process::id()), "who only reads is no holder");
        drop(reader);
        let stranger = OpenOptions::new().write(true).open(lock.path()).expect("opens");
        assert!(!lock.is_held_by(std::process::id()), "who has it open and no lock on it is no holder");
        stranger.lock().expect("is free");
        let own = std::process::id();
        assert!(lock.is_held() && lock.is_kept_by(own) && !lock.is_held_by(own), "who shuts others out is no holder");
        stranger.unlock().expect("is held");
        drop(stranger);
        let all = InstanceLock::all(state_dir.path());
        assert!(matches!(&all[..], [one] if one.path() == lock.path()), "{all:?}");
    }

    #[test]
    fn a_holder_is_found_after_the_state_directory_was_removed() {
        let state_dir = tempfile::tempdir().expect("tempdir");
        let server = ServerId::new("a").expect("valid");
        let lock = InstanceLock::create(state_dir.path(), &server).expect("is made");
        let holder = OpenOptions::new().write(true).open(lock.path()).expect("opens");
        holder.lock_shared().expect("is free");
        fs::remove_dir_all(state_dir.path()).expect("is ours");
        let missing = InstanceLock::create(state_dir.path(), &server).expect_err("nobody has made it anew");
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        fs::create_dir(state_dir.path()).expect("is ours");
        let next = InstanceLock::create(state_dir.path(), &server).expect("is made anew");
        assert!(lock.is_held() && lock.is_held_by(std::process::id()));
        assert!(!next.is_held() && !next.is_held_by(std::process::id()), "another file, which nobody holds");
    }
}

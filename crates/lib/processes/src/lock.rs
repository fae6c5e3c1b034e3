//! The instance lock: a file that every process of a launch holds open. It finds a descendant that escaped, that is, cleared
//! its environment and left its group and session.
//!
//! The shim opens the file of its server for writing, takes a shared lock on it, and lets exec keep it. The kernel frees the
//! lock when the last descendant that inherited it has ended (flock(2)): a free lock proves that no process of the launch
//! is left.
//!
//! A holder is told from a stranger that has locked the file, too, by the descriptor itself: the shim moves it to a position in the
//! file that nobody comes to by chance (`MARK`). The position is one for all that have inherited the descriptor, and nobody else has it,
//! so that it survives an environment that was cleared, another session and another user.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use llama_warden_events::ServerId;
use llama_warden_support::open_regular;

/// The name of the folder in the state directory.
const FOLDER: &str = "locks";

/// The position of a descriptor that a shim has made: `llam` as a number, which every file system knows as a position, and which the
/// kernel shows in `/proc/PID/fdinfo`.
pub(crate) const MARK: u64 = 0x6c6c_616d;

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
        self.descriptors(pid).any(|held| held.has_mark && held.is_locked)
    }

    /// Whether process `pid` has locked the file in a way in which no process of a launch does.
    pub fn is_kept_by(&self, pid: u32) -> bool {
        self.descriptors(pid).any(|held| !held.has_mark && held.is_locked)
    }

    /// The descriptors of a process that have the file open.
    fn descriptors(&self, pid: u32) -> impl Iterator<Item = HeldDescriptor> {
        let id = |found: fs::Metadata| (found.dev(), found.ino());
        let lock = self.file.metadata().ok().map(id);
        let is_it = move |entry: &fs::DirEntry| lock.is_some() && fs::metadata(entry.path()).ok().map(id) == lock;
        let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten().filter(is_it);
        entries.map(move |entry| {
            let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", entry.file_name().display()));
            HeldDescriptor::parse(&info.unwrap_or_default())
        })
    }
}

/// What the kernel tells of an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct HeldDescriptor {
    has_mark: bool,
    /// Through it, or through the one that it was inherited from.
    is_locked: bool,
}

impl HeldDescriptor {
    fn parse(info: &str) -> Self {
        let fields = || info.lines().filter_map(|line| line.split_once(':'));
        let has_mark = fields().any(|(name, value)| name == "pos" && value.trim().parse() == Ok(MARK));
        // Number of the lock, kind of call, whether it binds others, and how it is held.
        let is_locked =
            fields().any(|(name, value)| name == "lock" && value.split_whitespace().nth(1) == Some("FLOCK"));
        Self { has_mark, is_locked }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom};

    use super::*;

    #[test]
    fn a_lock_is_held_as_long_as_a_holder_has_it_open() {
        let state_dir = tempfile::tempdir().expect("tempdir");
        let server = ServerId::new("a").expect("valid");
        let lock = InstanceLock::create(state_dir.path(), &server).expect("is made");
        assert!(!lock.is_held());
        let own = std::process::id();
        let mut holder = OpenOptions::new().write(true).open(lock.path()).expect("opens");
        holder.lock_shared().expect("is free");
        assert!(
            lock.is_held() && lock.is_kept_by(own) && !lock.is_held_by(own),
            "who locks it as shims do is a stranger"
        );
        holder.seek(SeekFrom::Start(MARK)).expect("every file system can");
        assert!(lock.is_held() && lock.is_held_by(own) && !lock.is_kept_by(own));
        // Explicitly: a process that another test just makes has a copy of the descriptor.
        holder.unlock().expect("is held");
        assert!(!lock.is_held_by(own), "who has it open and no lock on it is no holder");
        let stranger = OpenOptions::new().write(true).open(lock.path()).expect("opens");
        for lock_it in [File::lock, File::lock_shared] {
            lock_it(&stranger).expect("is free");
            assert!(lock.is_held() && lock.is_kept_by(own) && !lock.is_held_by(own));
            stranger.unlock().expect("is held");
        }
        let all = InstanceLock::all(state_dir.path());
        assert!(matches!(&all[..], [one] if one.path() == lock.path()), "{all:?}");
    }

    #[test]
    fn a_holder_is_found_after_the_state_directory_was_removed() {
        let state_dir = tempfile::tempdir().expect("tempdir");
        let server = ServerId::new("a").expect("valid");
        let lock = InstanceLock::create(state_dir.path(), &server).expect("is made");
        let mut holder = OpenOptions::new().write(true).open(lock.path()).expect("opens");
        holder.lock_shared().expect("is free");
        holder.seek(SeekFrom::Start(MARK)).expect("every file system can");
        fs::remove_dir_all(state_dir.path()).expect("is ours");
        let missing = InstanceLock::create(state_dir.path(), &server).expect_err("nobody has made it anew");
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        fs::create_dir(state_dir.path()).expect("is ours");
        let next = InstanceLock::create(state_dir.path(), &server).expect("is made anew");
        assert!(lock.is_held() && lock.is_held_by(std::process::id()));
        assert!(!next.is_held() && !next.is_held_by(std::process::id()), "another file, which nobody holds");
    }
}

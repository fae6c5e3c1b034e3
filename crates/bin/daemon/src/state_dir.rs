//! Locks the state directory: one daemon each, and a folder of its own.
//!
//! Whoever can write the folder could replace the daemon's files by links. Such a folder, and one that has been in use for something
//! else, is refused and left as it is: `state-dir = "."` must not take a project's folder from its other users.
//!
//! The kernel releases the lock when the process ends, however it ends; the file's content only names the holder for
//! people. Children do not inherit the lock: the shim binds their life to the daemon's.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use llama_warden_exit::{CommandFailure, Exit, next_step_for};
use llama_warden_inventory::control_socket;
use llama_warden_processes::leftovers::hand_down;
use llama_warden_procfs::ProcessStat;
use llama_warden_support::{is_disk_full, lock};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::geteuid;

use crate::state_folder::{Folder, LOCK, id, in_the_way};

/// Longest part of the lock that is read: it names a process.
const MAX_LOCK: u64 = 32;

/// Longest time that a lock may outlive its holder. A child that was being forked when the daemon was killed keeps a copy
/// of the descriptor until its exec, milliseconds later.
const RELEASE_WAIT: Duration = Duration::from_secs(2);

/// Pause between two attempts at such a lock.
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// A locked state directory. Dropping the last clone releases the lock.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
    held: Arc<Mutex<HeldLock>>,
}

#[derive(Debug)]
struct HeldLock {
    lock: File,
    /// Device and inode number of the directory.
    folder: (u64, u64),
}

impl HeldLock {
    /// Where the directory is now; `None` if it was removed.
    fn moved_to(&self) -> Option<PathBuf> {
        let lock = fs::read_link(format!("/proc/self/fd/{}", self.lock.as_raw_fd())).ok()?;
        let is_it = id(&fs::symlink_metadata(&lock).ok()?) == id(&self.lock.metadata().ok()?);
        lock.parent().filter(|_| is_it).map(Path::to_owned)
    }
}

/// What a look at the state directory found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateLook {
    /// It is as it should be.
    Held,
    /// It was gone, or another one; now there is one that is locked.
    Regained,
}

impl StateDir {
    /// Creates the directory (mode 0700) if it is missing, and locks it.
    ///
    /// # Errors
    /// [`Exit::Held`] if another daemon holds it, with that daemon's pid; [`Exit::Usage`] if it is not the daemon's alone;
    /// [`Exit::Failed`] if it cannot be written.
    pub fn acquire(path: &Path) -> Result<Self, CommandFailure> {
        let (path, held) = acquire(path, None)?;
        Ok(Self { path, held: Arc::new(Mutex::new(held)) })
    }

    /// Looks at the directory that a daemon would take, and makes and changes nothing. One that is not there is no fault.
    ///
    /// # Errors
    /// As [`Self::acquire`].
    pub fn examine(path: &Path) -> Result<(), CommandFailure> {
        let unusable = |error: &io::Error| unusable(path, "inspect", error);
        let link = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            found => found.map_err(|error| unusable(&error))?,
        };
        let folder = Folder::inspect(path.to_owned(), link.uid()).map_err(|error| unusable(&error))?;
        folder.check(geteuid().as_raw(), None)?;
        if !path.join(LOCK).exists() {
            return Ok(());
        }
        let mut lock = open_lock(&path.join(LOCK)).map_err(|error| unusable(&error))?;
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => Err(held(path, read_holder(&mut lock))),
            _ => Ok(()),
        }
    }

    /// The process that has held a directory last; `None` if none is known.
    pub fn holder(path: &Path) -> Option<u32> {
        read_holder(&mut open_lock(&path.join(LOCK)).ok()?)
    }

    /// Looks whether the path still leads to the directory that is held. If it does not, makes it and locks it again. May block.
    ///
    /// # Errors
    /// As [`Self::acquire`].
    pub fn look(&self) -> Result<StateLook, CommandFailure> {
        let mut held = lock(&self.held);
        let named = fs::symlink_metadata(self.lock_path()).map(|found| id(&found));
        if let (Ok(named), Ok(own)) = (named, held.lock.metadata())
            && named == id(&own)
        {
            let user = geteuid().as_raw();
            let folder =
                Folder::inspect(self.path.clone(), user).map_err(|error| unusable(&self.path, "inspect", &error))?;
            folder.check(user, None)?;
            return Ok(StateLook::Held);
        }
        let (_, new) = acquire(&self.path, Some(held.folder))?;
        // Before its lock is released: the next daemon of a directory that was only renamed would take this one's servers for left
        // behind.
        if let Some(moved) = held.moved_to() {
            hand_down(&moved, &self.path);
        }
        *held = new;
        Ok(StateLook::Regained)
    }

    /// The directory, as an absolute path without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file that is locked.
    pub fn lock_path(&self) -> PathBuf {
        self.path.join(LOCK)
    }

    /// The path of the control socket in it.
    pub fn control_socket(&self) -> PathBuf {
        control_socket(&self.path)
    }
}

fn unusable(path: &Path, what: &str, error: &io::Error) -> CommandFailure {
    CommandFailure::failed(format!("cannot {what} the state directory {}: {error}", path.display()))
        .next_step(next_step_for(error).unwrap_or("name another folder as daemon.state-dir"))
}

/// Makes and locks a directory. `former` is the one that this daemon held there: it may have files and no lock.
fn acquire(path: &Path, former: Option<(u64, u64)>) -> Result<(PathBuf, HeldLock), CommandFailure> {
    let given = path;
    let unusable = |what: &str, error: &io::Error| unusable(given, what, error);
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| {
        match (error.kind(), in_the_way(path)) {
            (ErrorKind::AlreadyExists | ErrorKind::NotADirectory, Some((place, what))) => {
                CommandFailure::usage(format!("cannot create the state directory {}: {what}", path.display()))
                    .next_step(format!("remove {}, or name another folder as daemon.state-dir", place.display()))
            }
            _ => unusable("create", &error),
        }
    })?;
    let link = fs::symlink_metadata(path).map_err(|error| unusable("inspect", &error))?;
    let path = fs::canonicalize(path).map_err(|error| unusable("resolve", &error))?;
    let folder = Folder::inspect(path.clone(), link.uid()).map_err(|error| unusable("inspect", &error))?;
    folder.check(geteuid().as_raw(), former)?;
    let mut lock = open_lock(&path.join(LOCK)).map_err(|error| unusable("open daemon.lock in", &error))?;
    let deadline = Instant::now() + RELEASE_WAIT;
    loop {
        match lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(unusable("lock daemon.lock in", &error)),
        }
        let holder = read_holder(&mut lock);
        if holder.is_none_or(is_running) || Instant::now() >= deadline {
            // What ended has not got it, whatever the file says.
            return Err(held(&path, holder.filter(|holder| is_running(*holder))));
        }
        // flock(2) has no timeout: it either fails at once or blocks for ever. So this polls.
        thread::sleep(RETRY_INTERVAL);
    }
    // The pid is for people and for the poll above; the lock itself does not depend on it.
    let written = lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| writeln!(lock, "{}", std::process::id()));
    match written {
        Err(error) if is_disk_full(&error) => {
            tracing::warn!(%error, "the disk of the state directory is full; what it should keep is lost at the next start");
        }
        written => written.map_err(|error| unusable("write daemon.lock in", &error))?,
    }
    Ok((path, HeldLock { lock, folder: folder.id }))
}

/// Opens the lock, or makes it. Follows no link and changes no content: the file may be another daemon's, or one that a link in a
/// folder that was open before leads to.
fn open_lock(path: &Path) -> io::Result<File> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
    let lock = options.open(path).map_err(|error| match error.raw_os_error() {
        Some(errno) if errno == Errno::ELOOP as i32 => io::Error::other("it is a symbolic link; remove it"),
        _ => error,
    })?;
    let found = lock.metadata()?;
    if !found.is_file() || found.nlink() != 1 || found.uid() != geteuid().as_raw() {
        return Err(io::Error::other("it is not a file of llama-warden's own; remove it"));
    }
    Ok(lock)
}

/// The pid of the latest holder; `None` if it has not written it yet.
fn read_holder(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.rewind().and_then(|()| lock.take(MAX_LOCK).read_to_string(&mut text)).ok()?;
    text.trim().parse().ok()
}

/// Whether the process exists and is no zombie: the kernel has closed a zombie's descriptors.
fn is_running(pid: u32) -> bool {
    ProcessStat::of(pid).is_some_and(|stat| !stat.is_zombie())
}

fn held(path: &Path, holder: Option<u32>) -> CommandFailure {
    let holder = holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
    CommandFailure::new(Exit::Held, format!("the state directory {} is held by {holder}", path.display())).next_step(
        "name another daemon.state-dir for another project, talk to that daemon (llama-warden status), or end it \
         (llama-warden down)",
    )
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use llama_warden_exit::FailureMessage;

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

    /// Faults S3 and S6.
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

    fn refusal(path: &Path) -> String {
        let failure = StateDir::acquire(path).expect_err("refused");
        let FailureMessage::Text { message, next_step } = failure.message else { panic!("a sentence") };
        format!("{} {message}; {}", failure.exit.code(), next_step.expect("says what to do"))
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("ours");
    }

    /// Fault S28.
    #[test]
    fn a_folder_that_others_can_write_is_refused_and_left_as_it_was() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        for (open, closes) in [(0o1777, false), (0o777, true), (0o770, true), (0o702, true)] {
            set_mode(parent.path(), open);
            let refused = refusal(parent.path());
            assert!(refused.starts_with("2 cannot use the state directory"), "{refused}");
            assert!(
                refused.contains(&format!("(mode {open:04o})")) && refused.contains("/llama-warden\""),
                "{refused}"
            );
            assert_eq!((refused.contains("chmod 700"), mode(parent.path())), (closes, open), "{refused}");
            assert_eq!(fs::read_dir(parent.path()).expect("readable").count(), 0);
        }
        set_mode(parent.path(), 0o755);
        drop(StateDir::acquire(parent.path()).expect("others may look"));
        assert_eq!((mode(parent.path()), mode(&parent.path().join(LOCK))), (0o755, 0o600));
    }

    #[test]
    fn what_is_in_the_way_of_the_folder_is_named_with_what_to_do() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let (file, dangling, ring) =
            (parent.path().join("file"), parent.path().join("gone"), parent.path().join("ring"));
        fs::write(&file, "").expect("ours");
        std::os::unix::fs::symlink("/no/such/folder", &dangling).expect("ours");
        std::os::unix::fs::symlink(&ring, &ring).expect("ours");
        for (path, place, what) in [
            (file.clone(), &file, "is not a folder"),
            (file.join("deep/state"), &file, "is not a folder"),
            (dangling.clone(), &dangling, "is a link that leads to no folder"),
            (dangling.join("state"), &dangling, "is a link that leads to no folder"),
            (ring.clone(), &ring, "is a link that leads to no folder"),
        ] {
            let refused = refusal(&path);
            assert!(refused.contains(&format!("{} {what}; remove {}", place.display(), place.display())), "{refused}");
        }
    }

    /// Fault S28.
    #[test]
    fn a_folder_with_files_of_others_is_refused_and_left_as_it_was() {
        let project = tempfile::tempdir().expect("a temporary directory");
        set_mode(project.path(), 0o755);
        fs::write(project.path().join("llama-warden.toml"), "").expect("ours");
        let refused = refusal(project.path());
        assert!(refused.starts_with("2 ") && refused.contains("such as `llama-warden.toml`"), "{refused}");
        assert_eq!((fs::read_dir(project.path()).expect("readable").count(), mode(project.path())), (1, 0o755));
        let own = project.path().join("llama-warden");
        drop(StateDir::acquire(&own).expect("is made"));
        assert_eq!(mode(&own), 0o700);
        // What components keep there is theirs.
        fs::write(own.join("pages.log"), "").expect("ours");
        drop(StateDir::acquire(&own).expect("it has a lock"));
    }

    #[test]
    fn a_folder_of_another_user_and_one_with_entries_of_another_user_are_refused() {
        let entry = |name: &str, owner| (name.to_owned(), owner);
        let folder = |owner, owner_of_link, entries: &[(String, u32)]| {
            let (path, entries) = ("/state".into(), entries.to_vec());
            Folder { path, id: (0, 0), owner, owner_of_link, mode: 0o700, entries }
        };
        let owners = [(7, 7, true), (7, 0, true), (0, 0, false), (8, 7, false), (7, 8, false)];
        for (owner, owner_of_link, passes) in owners {
            assert_eq!(folder(owner, owner_of_link, &[]).check(7, None).is_ok(), passes, "{owner} {owner_of_link}");
        }
        let (lock, log) = (entry(LOCK, 7), entry("events.jsonl", 7));
        folder(7, 7, &[lock.clone(), log]).check(7, None).expect("all of it is ours");
        let planted = folder(7, 7, &[lock, entry("events.jsonl", 8)]).check(7, None).expect_err("another user's");
        let FailureMessage::Text { message, .. } = planted.message else { panic!("a sentence") };
        assert!(message.ends_with("`events.jsonl` in it belongs to user 8"), "{message}");
    }

    /// Fault S28.
    #[test]
    fn a_lock_that_is_a_link_is_not_followed() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let (precious, state) = (parent.path().join("precious"), parent.path().join("state"));
        fs::write(&precious, "precious").expect("ours");
        fs::create_dir(&state).expect("ours");
        set_mode(&state, 0o700);
        let lock = state.join(LOCK);
        for link in [std::os::unix::fs::symlink::<&Path, &Path>, |from: &Path, to: &Path| fs::hard_link(from, to)] {
            link(&precious, &lock).expect("ours");
            let refused = refusal(&state);
            assert!(refused.contains("daemon.lock") && refused.contains("remove it"), "{refused}");
            assert_eq!(fs::read_to_string(&precious).expect("readable"), "precious");
            fs::remove_file(&lock).expect("ours");
        }
        nix::unistd::mkfifo(&lock, nix::sys::stat::Mode::S_IRWXU).expect("ours");
        assert!(refusal(&state).contains("remove it"));
    }

    #[test]
    fn a_directory_that_was_removed_is_locked_again_unless_another_daemon_was_faster() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let path = parent.path().join("state");
        let first = StateDir::acquire(&path).expect("free");
        assert_eq!(first.look().expect("ours"), StateLook::Held);
        // The lock alone: the rest is ours, whatever is in it.
        fs::write(path.join("events.jsonl"), "").expect("ours");
        fs::remove_file(first.lock_path()).expect("ours");
        assert_eq!(first.look().expect("free"), StateLook::Regained);
        for removed in [true, false] {
            if removed {
                fs::remove_dir_all(&path).expect("ours");
            } else {
                fs::rename(&path, parent.path().join("elsewhere")).expect("ours");
            }
            assert_eq!(first.look().expect("free"), StateLook::Regained);
            let written = fs::read_to_string(parent.path().join("elsewhere/boots")).unwrap_or_default();
            let names_the_new = written.trim_end().ends_with(&path.display().to_string());
            assert_ne!(removed, names_the_new, "what was renamed is a copy of the new one: {written}");
            assert_eq!((first.look().expect("ours"), mode(&path)), (StateLook::Held, 0o700));
            assert_eq!(StateDir::acquire(&path).expect_err("held").exit, Exit::Held);
        }
        fs::set_permissions(&path, Permissions::from_mode(0o777)).expect("ours");
        assert_eq!(first.look().expect_err("open").exit, Exit::Usage);
        // Somebody's folder in its place is left as it is.
        fs::remove_dir_all(&path).expect("ours");
        fs::create_dir(&path).and_then(|()| fs::write(path.join("precious"), "")).expect("ours");
        assert_eq!(first.look().expect_err("somebody's").exit, Exit::Usage);
        fs::remove_dir_all(&path).expect("ours");
        let second = StateDir::acquire(&path).expect("free");
        assert_eq!(first.look().expect_err("held").exit, Exit::Held);
        drop(second);
        assert_eq!(first.look().expect("free again"), StateLook::Regained);
    }
}

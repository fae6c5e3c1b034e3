//! Tells of what the kernel notices about the state directory: about its lock, itself, and the directories above it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A place was removed, or has another name or other rights. Not what happens in it: the daemon writes there all the time.
const OF_ITSELF: AddWatchFlags =
    AddWatchFlags::IN_ATTRIB.union(AddWatchFlags::IN_DELETE_SELF).union(AddWatchFlags::IN_MOVE_SELF);

/// The kernel's notices about a lock and the directories that lead to it.
#[derive(Debug)]
pub struct StateNotices(AsyncFd<NoticeQueue>);

#[derive(Debug)]
struct NoticeQueue(Inotify);

impl AsRawFd for NoticeQueue {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl StateNotices {
    /// Watches the lock at `path` and every directory above it, as they are now.
    ///
    /// # Errors
    /// The kernel refuses, or there is no lock. A directory that may not be read is not watched, which is no error.
    #[expect(
        deprecated,
        reason = "what replaces it is an unsafe function, whose demand is met: the queue keeps its descriptor"
    )]
    pub fn about(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        inotify.add_watch(path, OF_ITSELF)?;
        for directory in path.ancestors().skip(1).filter(|directory| directory.is_absolute()) {
            match inotify.add_watch(directory, OF_ITSELF) {
                Ok(_) => {}
                Err(Errno::EACCES) => tracing::debug!(path = %directory.display(), "the kernel tells nothing of it"),
                Err(error) => return Err(error.into()),
            }
        }
        AsyncFd::with_interest(NoticeQueue(inotify), Interest::READABLE).map(Self)
    }

    /// Waits for notices. Safe to cancel.
    pub async fn next(&self) {
        loop {
            // Without the runtime's driver nothing is to be watched any more.
            let Ok(mut ready) = self.0.readable().await else { return };
            match ready.try_io(|queue| Ok(queue.get_ref().0.read_events()?)) {
                Err(_would_block) => {}
                Ok(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::*;

    /// Longest wait for a notice, and how long none is to come.
    const PATIENCE: Duration = Duration::from_secs(10);
    const SILENCE: Duration = Duration::from_millis(100);

    async fn is_noticed(change: impl FnOnce(&Path)) -> bool {
        let above = tempfile::tempdir().expect("a temporary directory");
        let state = above.path().join("above/state");
        fs::create_dir_all(&state).expect("writable");
        let lock = state.join("daemon.lock");
        // Held, so that the kernel keeps it.
        let _held = fs::File::create(&lock).expect("writable");
        let notices = StateNotices::about(&lock).expect("the kernel has room");
        let notice = tokio::time::timeout(SILENCE, notices.next());
        assert!(notice.await.is_err(), "nothing has happened yet");
        change(&state);
        let told = tokio::time::timeout(PATIENCE, notices.next()).await.is_ok();
        told && tokio::time::timeout(SILENCE, notices.next()).await.is_err()
    }

    #[tokio::test]
    async fn what_happens_to_the_lock_and_to_each_directory_above_is_noticed_once() {
        assert!(is_noticed(|state| fs::remove_file(state.join("daemon.lock")).expect("ours")).await);
        assert!(is_noticed(|state| fs::rename(state, state.with_extension("old")).expect("ours")).await);
        let above = |state: &Path| state.parent().expect("made above").to_owned();
        assert!(is_noticed(|state| fs::rename(above(state), above(state).with_extension("old")).expect("ours")).await);
        let open = fs::Permissions::from_mode(0o777);
        assert!(is_noticed(|state| fs::set_permissions(state, open).expect("ours")).await);
    }

    #[tokio::test]
    async fn what_the_daemon_writes_is_not_noticed() {
        let state = tempfile::tempdir().expect("a temporary directory");
        let lock = state.path().join("daemon.lock");
        fs::write(&lock, "").expect("writable");
        let notices = StateNotices::about(&lock).expect("the kernel has room");
        fs::write(state.path().join("events.jsonl"), "an event\n").expect("writable");
        fs::write(&lock, "12345\n").expect("writable");
        assert!(tokio::time::timeout(SILENCE, notices.next()).await.is_err());
        fs::remove_file(&lock).expect("ours");
        tokio::time::timeout(PATIENCE, notices.next()).await.expect("the removal");
    }

    #[tokio::test]
    async fn a_lock_that_is_not_there_is_an_error() {
        let state = tempfile::tempdir().expect("a temporary directory");
        let error = StateNotices::about(&state.path().join("daemon.lock")).expect_err("no such file");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}

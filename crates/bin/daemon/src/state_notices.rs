//! Tells of what the kernel notices about the state directory: about its lock, itself, and the directories above it.

use std::io;
use std::path::Path;

use llama_warden_support::{KernelNotices, WantedChanges};
use nix::errno::Errno;
use nix::unistd::{AccessFlags, eaccess};

/// Notices about the lock at `path` and every directory above it, as they are now: that one was removed, or has another name or other
/// rights. Not what happens in them: the daemon writes there all the time. Call it within a tokio runtime.
///
/// # Errors
/// The kernel refuses, or there is no lock. A directory that may not be read is not watched, which is no error.
pub fn state_notices(path: &Path) -> io::Result<KernelNotices> {
    let notices = KernelNotices::new()?;
    let places = path.ancestors().filter(|place| place.is_absolute() && !is_closed(place));
    notices.watch_only(places.map(|place| (place, WantedChanges::OfItself)))?;
    Ok(notices)
}

/// Whether the kernel tells nothing of the place, since this user may not read it.
fn is_closed(place: &Path) -> bool {
    eaccess(place, AccessFlags::R_OK) == Err(Errno::EACCES)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use llama_warden_support::next_notice;

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
        let notices = state_notices(&lock).expect("the kernel has room");
        let notice = tokio::time::timeout(SILENCE, next_notice(Some(&notices)));
        assert!(notice.await.is_err(), "nothing has happened yet");
        change(&state);
        let told = tokio::time::timeout(PATIENCE, next_notice(Some(&notices))).await.is_ok();
        told && tokio::time::timeout(SILENCE, next_notice(Some(&notices))).await.is_err()
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
        let notices = state_notices(&lock).expect("the kernel has room");
        fs::write(state.path().join("events.jsonl"), "an event\n").expect("writable");
        fs::write(&lock, "12345\n").expect("writable");
        assert!(tokio::time::timeout(SILENCE, next_notice(Some(&notices))).await.is_err());
        fs::remove_file(&lock).expect("ours");
        tokio::time::timeout(PATIENCE, next_notice(Some(&notices))).await.expect("the removal");
    }

    #[tokio::test]
    async fn a_lock_that_is_not_there_is_an_error() {
        let state = tempfile::tempdir().expect("a temporary directory");
        let error = state_notices(&state.path().join("daemon.lock")).expect_err("no such file");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}

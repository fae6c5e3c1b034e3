//! The kernel's notices of changes of files and directories (inotify(7)), read by the tokio runtime.
//!
//! There is no thread that could be refused, and a change that nobody asked for is not told: neither is reading, which readers of a
//! watched file do themselves. The kernel keeps notices until they are read, and many at once are one change. Network file systems
//! give none for what other machines change.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::future;
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Mutex;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::lock;

/// Bytes of notices that are read at once. One notice has up to 272.
const BUFFER: usize = 4096;

/// The place was removed, or has another name or other rights, or its file system was unmounted.
const OF_ITSELF: WatchFlags = WatchFlags::ATTRIB.union(WatchFlags::DELETE_SELF).union(WatchFlags::MOVE_SELF);

/// What is in a directory came, went, got another name or other rights, or was closed by one who could write to it.
const OF_ENTRIES: WatchFlags = OF_ITSELF
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::CLOSE_WRITE);

/// And each write.
const OF_CONTENT: WatchFlags = OF_ENTRIES.union(WatchFlags::MODIFY);

/// The changes of a file or directory that are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WantedChanges {
    /// It is removed, or gets another name or other rights.
    OfItself,
    /// And those of the entries of these names in a directory, but not the single writes to them.
    OfEntries(BTreeSet<OsString>),
    /// And those of everything in a file or directory, single writes included.
    OfContent,
}

impl WantedChanges {
    const fn flags(&self) -> WatchFlags {
        match self {
            Self::OfItself => OF_ITSELF,
            Self::OfEntries(_) => OF_ENTRIES,
            Self::OfContent => OF_CONTENT,
        }
    }

    /// Whether a notice of `entry` in the place is wanted; `None` is the place itself.
    fn concern(&self, entry: Option<&OsStr>) -> bool {
        match (self, entry) {
            (_, None) | (Self::OfContent, _) => true,
            (Self::OfItself, _) => false,
            (Self::OfEntries(names), Some(entry)) => names.contains(entry),
        }
    }

    /// The changes that either of two wants.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::OfContent, _) | (_, Self::OfContent) => Self::OfContent,
            (Self::OfItself, wanted) | (wanted, Self::OfItself) => wanted,
            (Self::OfEntries(mut names), Self::OfEntries(others)) => {
                names.extend(others);
                Self::OfEntries(names)
            }
        }
    }
}

/// Notices of the kernel about some places.
///
/// A watch is on what has the path when it begins, an inode, and stays with that. So a reader watches the places again before each
/// read.
#[derive(Debug)]
pub struct KernelNotices {
    queue: AsyncFd<OwnedFd>,
    /// What is wanted of each watch, by its number. The kernel gives no number twice.
    watched: Mutex<Watches>,
}

type Watches = BTreeMap<i32, WantedChanges>;

impl KernelNotices {
    /// Notices of no place yet. Call it within a tokio runtime.
    ///
    /// # Errors
    /// The kernel refuses: a limit is reached.
    #[expect(deprecated, reason = "what replaces it is an unsafe function, whose demand an OwnedFd meets")]
    pub fn new() -> io::Result<Self> {
        let queue = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(|error| match error {
            Errno::MFILE => told(error, "no more files can be opened, or fs.inotify.max_user_instances is reached"),
            error => error.into(),
        })?;
        Ok(Self { queue: AsyncFd::with_interest(queue, Interest::READABLE)?, watched: Mutex::default() })
    }

    /// Watches these places as they are now, and no others. Changes from the end of this call on are noticed, so that a read after it
    /// misses none.
    ///
    /// # Errors
    /// There is no such path, it may not be read, or a limit is reached: the first such error. The other places are watched all the same.
    pub fn watch_only<'a>(&self, places: impl IntoIterator<Item = (&'a Path, WantedChanges)>) -> io::Result<()> {
        let mut watched = Watches::new();
        let mut added = Ok(());
        for (path, wanted) in places {
            added = added.and(self.add(&mut watched, path, wanted));
        }
        // Not while the places are looked at: a disk may never answer, and the runtime's thread takes this lock.
        let mut known = lock(&self.watched);
        let former = mem::replace(&mut *known, watched);
        for gone in former.into_keys().filter(|watch| !known.contains_key(watch)) {
            // Fails if what was watched is gone, and the watch with it.
            let _ = inotify::remove_watch(&self.queue, gone);
        }
        added
    }

    fn add(&self, watched: &mut Watches, path: &Path, wanted: WantedChanges) -> io::Result<()> {
        // Two paths may lead to one place, which has one watch then.
        let flags = wanted.flags() | WatchFlags::MASK_ADD;
        let watch = inotify::add_watch(&self.queue, path, flags).map_err(|error| refused(error, path))?;
        let wanted = match watched.remove(&watch) {
            Some(known) => known.and(wanted),
            None => wanted,
        };
        watched.insert(watch, wanted);
        Ok(())
    }

    /// Waits for a notice that is wanted, or for the loss of notices.
    async fn next(&self) {
        loop {
            let Ok(mut ready) = self.queue.readable().await else {
                // The runtime ends.
                return future::pending().await;
            };
            match ready.try_io(|queue| Ok(self.read(queue.get_ref())?)) {
                Ok(Ok(false)) | Err(_) => {}
                // An error may mean lost notices.
                Ok(Ok(true) | Err(_)) => return,
            }
        }
    }

    /// Reads notices, and returns whether one of them is wanted.
    fn read(&self, queue: &OwnedFd) -> Result<bool, Errno> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut notices = Reader::new(queue, &mut buffer);
        let watched = lock(&self.watched);
        let mut is_wanted = false;
        loop {
            let notice = notices.next()?;
            if notice.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                is_wanted = true;
            } else if !notice.events().contains(ReadFlags::IGNORED) {
                // The end of a watch, above, comes after a notice of its cause. One of a former watch came before the latest read.
                let entry = notice.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                is_wanted |= watched.get(&notice.wd()).is_some_and(|wanted| wanted.concern(entry));
            }
            if notices.is_buffer_empty() {
                return Ok(is_wanted);
            }
        }
    }
}

/// Waits for the next notice that is wanted, or the loss of notices; for ever where there are no notices. Safe to cancel: a change
/// between two waits is told by the next one.
pub async fn next_notice(notices: Option<&KernelNotices>) {
    match notices {
        Some(notices) => notices.next().await,
        None => future::pending().await,
    }
}

/// Why a path is not watched.
fn refused(error: Errno, path: &Path) -> io::Error {
    let why = match error {
        // What inotify_add_watch(2) says for its limit, which has nothing to do with a disk.
        Errno::NOSPC => "the limit of watches, fs.inotify.max_user_watches, is reached".to_owned(),
        error => io::Error::from(error).to_string(),
    };
    told(error, format!("{}: {why}", path.display()))
}

fn told(error: Errno, text: impl Into<String>) -> io::Error {
    io::Error::new(io::Error::from(error).kind(), text.into())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions, Permissions};
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::*;

    /// Longest wait for a notice, and how long none is to come.
    const PATIENCE: Duration = Duration::from_secs(10);
    const SILENCE: Duration = Duration::from_millis(50);

    fn on(places: &[(&Path, WantedChanges)]) -> KernelNotices {
        let notices = KernelNotices::new().expect("the kernel has room");
        notices.watch_only(places.iter().cloned()).expect("watched");
        notices
    }

    async fn is_told(notices: &KernelNotices) -> bool {
        let told = tokio::time::timeout(PATIENCE, notices.next()).await.is_ok();
        // One change may have several notices, which need not come together.
        while tokio::time::timeout(SILENCE, notices.next()).await.is_ok() {}
        told
    }

    async fn is_silent(notices: &KernelNotices) -> bool {
        tokio::time::timeout(SILENCE, notices.next()).await.is_err()
    }

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary directory")
    }

    fn names(names: &[&str]) -> WantedChanges {
        WantedChanges::OfEntries(names.iter().map(OsString::from).collect())
    }

    #[tokio::test]
    async fn entries_of_the_wanted_names_are_told_and_no_others() {
        let folder = folder();
        let at = |name: &str| folder.path().join(name);
        let notices = on(&[(folder.path(), names(&["a", "b"]))]);
        fs::write(at("c"), "1").expect("writable");
        fs::rename(at("c"), at("d")).expect("writable");
        fs::remove_file(at("d")).expect("writable");
        assert!(is_silent(&notices).await, "neighbours");
        fs::write(at("a"), "1").expect("writable");
        assert!(is_told(&notices).await, "created");
        let mut open = OpenOptions::new().append(true).open(at("a")).expect("writable");
        open.write_all(b"2").expect("writable");
        assert!(is_silent(&notices).await, "a single write");
        drop(open);
        assert!(is_told(&notices).await, "closed by its writer");
        fs::read(at("a")).expect("readable");
        fs::read_dir(folder.path()).expect("readable").for_each(drop);
        assert!(is_silent(&notices).await, "readers");
        fs::set_permissions(at("a"), Permissions::from_mode(0o600)).expect("ours");
        assert!(is_told(&notices).await, "other rights");
        fs::rename(at("a"), at("c")).expect("writable");
        assert!(is_told(&notices).await, "renamed from");
        fs::rename(at("c"), at("b")).expect("writable");
        assert!(is_told(&notices).await, "renamed to");
        fs::remove_file(at("b")).expect("writable");
        assert!(is_told(&notices).await, "removed");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("ours");
        assert!(is_told(&notices).await, "the directory itself");
    }

    #[tokio::test]
    async fn each_write_to_a_content_is_told_and_none_to_a_place_itself() {
        let folder = folder();
        let file = folder.path().join("a");
        fs::write(&file, "1").expect("writable");
        let content = on(&[(&file, WantedChanges::OfContent)]);
        let entries = on(&[(folder.path(), WantedChanges::OfContent)]);
        let itself = on(&[(&file, WantedChanges::OfItself), (folder.path(), WantedChanges::OfItself)]);
        let mut open = OpenOptions::new().append(true).open(&file).expect("writable");
        open.write_all(b"2").expect("writable");
        assert!(is_told(&content).await && is_told(&entries).await);
        fs::read(&file).expect("readable");
        assert!(is_silent(&content).await && is_silent(&entries).await, "readers");
        fs::write(folder.path().join("b"), "1").expect("writable");
        assert!(is_silent(&content).await && is_told(&entries).await, "another file");
        assert!(is_silent(&itself).await);
        fs::rename(&file, folder.path().join("c")).expect("writable");
        assert!(is_told(&content).await && is_told(&entries).await && is_told(&itself).await);
    }

    #[tokio::test]
    async fn a_place_that_was_replaced_is_watched_again_and_the_former_one_no_more() {
        let folder = folder();
        let (path, former) = (folder.path().join("a"), folder.path().join("former"));
        let watch = |notices: &KernelNotices| notices.watch_only([(path.as_path(), WantedChanges::OfContent)]);
        fs::write(&path, "1").expect("writable");
        let notices = KernelNotices::new().expect("the kernel has room");
        watch(&notices).expect("it is there");
        watch(&notices).expect("again, which changes nothing");
        fs::rename(&path, &former).expect("writable");
        fs::write(&path, "2").expect("writable");
        assert!(is_told(&notices).await, "renamed");
        watch(&notices).expect("it is there");
        fs::write(&former, "3").expect("writable");
        assert!(is_silent(&notices).await, "the former one");
        fs::write(&path, "4").expect("writable");
        assert!(is_told(&notices).await, "the new one");
        fs::remove_file(&path).expect("writable");
        assert!(is_told(&notices).await, "removed");
        let refused = watch(&notices).expect_err("gone");
        assert_eq!(refused.kind(), io::ErrorKind::NotFound);
        assert!(refused.to_string().contains(&format!("{}: No such file", path.display())), "{refused}");
        fs::write(&path, "5").expect("writable");
        watch(&notices).expect("it is back");
        assert!(is_silent(&notices).await, "what was before the watch");
        fs::write(&path, "6").expect("writable");
        assert!(is_told(&notices).await, "what came back");
    }

    #[tokio::test]
    async fn the_first_refused_place_is_told_and_the_others_are_watched() {
        let folder = folder();
        let (none, never) = (folder.path().join("none"), folder.path().join("never"));
        let notices = KernelNotices::new().expect("the kernel has room");
        let places = [(none.as_path(), WantedChanges::OfItself), (folder.path(), names(&["none"]))];
        let refused = notices.watch_only(places.into_iter().chain([(never.as_path(), WantedChanges::OfItself)]));
        assert!(refused.expect_err("none").to_string().contains("/none: "));
        fs::write(&none, "").expect("writable");
        assert!(is_told(&notices).await);
    }

    #[tokio::test]
    async fn two_paths_to_one_directory_are_one_watch_that_wants_what_either_wants() {
        let folder = folder();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(".", &link).expect("writable");
        let notices = on(&[(folder.path(), names(&["a"])), (&link, names(&["b"]))]);
        for (name, is_wanted) in [("a", true), ("b", true), ("c", false)] {
            fs::write(folder.path().join(name), "").expect("writable");
            assert_eq!(
                if is_wanted { is_told(&notices).await } else { !is_silent(&notices).await },
                is_wanted,
                "{name}"
            );
        }
        let all = WantedChanges::OfContent;
        for other in [WantedChanges::OfItself, names(&["a"]), WantedChanges::OfContent] {
            assert_eq!((all.clone().and(other.clone()), other.and(all.clone())), (all.clone(), all.clone()));
        }
        assert_eq!(names(&["a"]).and(WantedChanges::OfItself), names(&["a"]));
    }

    #[tokio::test]
    async fn lost_notices_are_a_change() {
        let folder = folder();
        let files = ["b", "c"].map(|name| folder.path().join(name));
        files.iter().for_each(|file| fs::write(file, "").expect("writable"));
        let notices = on(&[(folder.path(), names(&["a"]))]);
        let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").expect("a limit");
        let limit: usize = limit.trim().parse().expect("a number");
        // By turns: the kernel makes one of the same notice twice.
        let change = |times: usize| {
            let rights = Permissions::from_mode(0o600);
            (0..times).for_each(|time| fs::set_permissions(&files[time % 2], rights.clone()).expect("ours"));
        };
        change(limit / 2);
        assert!(is_silent(&notices).await, "neighbours");
        change(limit + 2);
        assert!(is_told(&notices).await, "the queue was full");
        fs::write(folder.path().join("a"), "").expect("writable");
        assert!(is_told(&notices).await, "and it goes on");
    }

    #[tokio::test]
    async fn a_change_between_two_waits_is_told_by_the_next_one_and_many_are_one() {
        let folder = folder();
        let notices = on(&[(folder.path(), WantedChanges::OfContent)]);
        assert!(is_silent(&notices).await);
        for name in ["a", "b", "c"] {
            fs::write(folder.path().join(name), "1").expect("writable");
        }
        next_notice(Some(&notices)).await;
        assert!(is_silent(&notices).await, "they were one");
        assert!(tokio::time::timeout(SILENCE, next_notice(None)).await.is_err());
    }

    #[test]
    fn a_limit_of_the_kernel_is_named_as_what_it_is() {
        let refused = refused(Errno::NOSPC, Path::new("/a"));
        assert_eq!(refused.to_string(), "/a: the limit of watches, fs.inotify.max_user_watches, is reached");
    }
}

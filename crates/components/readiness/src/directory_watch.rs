//! Notices changes in a directory that may not exist yet, or that is replaced as a whole.
//!
//! It watches the directory, not the files: editors and Kubernetes replace files by renames and symbolic links, and an inotify
//! watch follows the old inode. It also watches the nearest ancestor that exists, to see the directory appear, disappear, or
//! be swapped.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use llama_warden_support::try_thread;
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// A watch on one directory.
#[derive(Debug)]
pub(crate) struct DirectoryWatch {
    directory: PathBuf,
    watcher: RecommendedWatcher,
    watched: Vec<PathBuf>,
    /// Notified on each change. It keeps one permit: a change between two waits is not lost, and many changes are one.
    changes: Arc<Notify>,
}

impl DirectoryWatch {
    /// Watches `directory` (absolute).
    ///
    /// # Errors
    /// If the kernel grants no more watches.
    pub(crate) fn new(directory: &Path) -> notify::Result<Self> {
        // The library panics where the kernel gives it no thread, and aborts the process when it is dropped then.
        try_thread().map_err(notify::Error::io)?;
        let changes = Arc::new(Notify::new());
        let (notifier, wanted) = (changes.clone(), directory.to_owned());
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // An error means that events may be lost: treat it as a change.
            if event.map_or(true, |event| concerns(&event, &wanted)) {
                notifier.notify_one();
            }
        })?;
        let mut watch = Self { directory: directory.to_owned(), watcher, watched: Vec::new(), changes };
        watch.arm()?;
        Ok(watch)
    }

    /// Waits for the next change.
    pub(crate) async fn changed(&self) {
        self.changes.notified().await;
    }

    /// Watches the directory that is at the path now, which may be another one than before.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(crate) fn arm(&mut self) -> notify::Result<()> {
        for path in self.watched.drain(..) {
            // The path may be gone, and its watch with it.
            let _ = self.watcher.unwatch(&path);
        }
        if let Some(ancestor) = self.directory.ancestors().skip(1).find(|ancestor| ancestor.is_dir()) {
            self.watcher.watch(ancestor, RecursiveMode::NonRecursive)?;
            self.watched.push(ancestor.to_owned());
        }
        // If the directory appears after this check, the watch on the ancestor reports it.
        if self.directory.is_dir() {
            self.watcher.watch(&self.directory, RecursiveMode::NonRecursive)?;
            self.watched.push(self.directory.clone());
        }
        Ok(())
    }
}

/// Whether an event may have changed the directory's content. Reading, which we do ourselves, does not.
fn concerns(event: &notify::Event, directory: &Path) -> bool {
    let changes = match event.kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        _ => true,
    };
    // An ancestor may be busy: only the directory and the path to it count.
    changes && event.paths.iter().any(|path| path.starts_with(directory) || directory.starts_with(path))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use super::*;

    async fn expect_change(watch: &mut DirectoryWatch, what: &str) {
        let changed = tokio::time::timeout(Duration::from_secs(20), watch.changed()).await;
        assert!(changed.is_ok(), "{what} was not noticed");
        watch.arm().expect("arms");
    }

    /// Consumes the notifications of what was done so far, which come from the kernel within a moment.
    async fn drain(watch: &mut DirectoryWatch) {
        while tokio::time::timeout(Duration::from_millis(100), watch.changed()).await.is_ok() {}
    }

    #[tokio::test]
    async fn a_directory_is_seen_to_come_change_and_be_replaced() {
        let root = tempfile::tempdir().expect("makes a directory");
        let directory = root.path().join("not/yet/there");
        let mut watch = DirectoryWatch::new(&directory).expect("watches");
        fs::create_dir_all(&directory).expect("creates");
        // Each level is noticed, and the next one watched.
        while watch.watched.last() != Some(&directory) {
            expect_change(&mut watch, "a new directory").await;
        }
        drain(&mut watch).await;
        fs::write(directory.join("a.toml"), "").expect("writes");
        expect_change(&mut watch, "a new file").await;
        drain(&mut watch).await;
        fs::rename(&directory, root.path().join("old")).expect("renames");
        fs::create_dir(&directory).expect("creates");
        expect_change(&mut watch, "another directory in its place").await;
        drain(&mut watch).await;
        fs::write(directory.join("b.toml"), "").expect("writes");
        expect_change(&mut watch, "a file in the new directory").await;
    }

    #[tokio::test]
    async fn a_swap_of_links_as_kubernetes_does_it_is_seen() {
        let root = tempfile::tempdir().expect("makes a directory");
        let directory = root.path().join("packs");
        for version in ["..1", "..2"] {
            fs::create_dir_all(directory.join(version)).expect("creates");
            fs::write(directory.join(version).join("a.toml"), version).expect("writes");
        }
        symlink("..1", directory.join("..data")).expect("links");
        symlink("..data/a.toml", directory.join("a.toml")).expect("links");
        let mut watch = DirectoryWatch::new(&directory).expect("watches");
        symlink("..2", directory.join("..data_tmp")).expect("links");
        fs::rename(directory.join("..data_tmp"), directory.join("..data")).expect("renames");
        expect_change(&mut watch, "the swap").await;
        assert_eq!(fs::read_to_string(directory.join("a.toml")).expect("reads"), "..2");
    }

    #[tokio::test]
    async fn reading_and_what_happens_beside_the_directory_is_no_change() {
        let root = tempfile::tempdir().expect("makes a directory");
        let directory = root.path().join("packs");
        fs::create_dir(&directory).expect("creates");
        fs::write(directory.join("a.toml"), "").expect("writes");
        let mut watch = DirectoryWatch::new(&directory).expect("watches");
        drain(&mut watch).await;
        fs::read(directory.join("a.toml")).expect("reads");
        fs::read_dir(&directory).expect("lists").for_each(drop);
        fs::write(root.path().join("beside"), "").expect("writes");
        let noticed = tokio::time::timeout(Duration::from_millis(300), watch.changed()).await;
        assert!(noticed.is_err(), "a change was noticed");
    }
}

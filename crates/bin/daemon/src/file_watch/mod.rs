//! Watches the places where a change of one file shows, by the notices of the kernel.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use llama_warden_support::{lock, try_thread};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

mod local;
mod places;

use local::is_local;
use places::{Places, places_of};

/// Watches a file.
#[derive(Debug)]
pub struct FileWatch {
    path: PathBuf,
    /// `None` if the kernel refuses one.
    pub(crate) watcher: Option<RecommendedWatcher>,
    /// What is watched now.
    places: Arc<Mutex<Places>>,
    /// Every change in the watched places is one of this machine.
    are_local: bool,
    /// Notified on each change. It stores one permit, so a change between two waits is not lost, and many become one.
    changes: Arc<Notify>,
    warn: fn(&Path, &notify::Error),
}

impl FileWatch {
    /// Watches the file at `path`, an absolute path. `warn` is called if the kernel refuses its notices.
    pub fn new(path: PathBuf, warn: fn(&Path, &notify::Error)) -> Self {
        let changes = Arc::new(Notify::new());
        let places = Arc::<Mutex<Places>>::default();
        let (notifier, known) = (changes.clone(), places.clone());
        let on_event = move |event: notify::Result<notify::Event>| {
            // The notices of our own reading are left out, and those of neighbours, which may be logs. An error may mean lost
            // notices, so it notifies too.
            let is_other = |event: notify::Event| {
                matches!(event.kind, EventKind::Access(_)) || !lock(&known).concerns(&event.paths)
            };
            if !event.is_ok_and(is_other) {
                notifier.notify_one();
            }
        };
        // The library panics where the kernel gives it no thread, and aborts the process when it is dropped then.
        let watcher = try_thread().map_err(notify::Error::io).and_then(|()| notify::recommended_watcher(on_event));
        let watcher = watcher.inspect_err(|error| warn(&path, error)).ok();
        let mut watch = Self { path, watcher, places, are_local: false, changes, warn };
        watch.arm();
        // For changes between the reader's first look and the watch.
        watch.changes.notify_one();
        watch
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Notified on each change.
    pub fn changes(&self) -> Arc<Notify> {
        self.changes.clone()
    }

    /// Whether the kernel tells of every change in the watched places.
    pub fn gives_notices(&self) -> bool {
        self.watcher.is_some() && self.are_local
    }

    /// Watches the places of the path as they are now, and no others. Call it before the file is read: a change after that is
    /// noticed.
    pub fn arm(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let places = places_of(&self.path);
        let former = std::mem::replace(&mut *lock(&self.places), places.clone());
        for gone in former.watched.difference(&places.watched) {
            // Fails if the place is gone, and the watch with it.
            let _ = watcher.unwatch(gone);
        }
        // All of them, watched or not: a place may have been replaced by another of the same name.
        let arm = |place: &PathBuf| watcher.watch(place, RecursiveMode::NonRecursive);
        let armed = places.watched.iter().try_for_each(arm);
        if let Err(error) = &armed
            && former.watched != places.watched
        {
            (self.warn)(&self.path, error);
        }
        self.are_local = armed.is_ok() && places.watched.iter().all(|place| is_local(place));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_is_written_beside_the_file_wakes_nobody() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        // Notices have real paths.
        let folder = folder.path().canonicalize().expect("it is there");
        let path = folder.join("a.toml");
        fs::write(&path, "1").expect("writable");
        let watch = FileWatch::new(path.clone(), |path, error| panic!("{}: {error}", path.display()));
        let changes = watch.changes();
        changes.notified().await;
        fs::write(folder.join("a.log"), "a line").expect("writable");
        fs::rename(folder.join("a.log"), folder.join("a.log.1")).expect("writable");
        let woken = tokio::time::timeout(Duration::from_millis(100), changes.notified()).await;
        assert!(woken.is_err(), "a log was written");
        for change in [|path: &Path| fs::write(path, "2"), |path: &Path| fs::remove_file(path)] {
            change(&path).expect("writable");
            tokio::time::timeout(Duration::from_secs(10), changes.notified()).await.expect("a change of the file");
        }
    }
}

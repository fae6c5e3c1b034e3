//! Watches the places where a change of one file shows, by the notices of the kernel.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use llama_warden_support::{KernelNotices, WantedChanges};

mod local;
mod places;

use local::is_local;
use places::places_of;

/// Watches a file.
#[derive(Debug)]
pub struct FileWatch {
    path: PathBuf,
    /// `None` if the kernel refuses them.
    pub(crate) notices: Option<Arc<KernelNotices>>,
    /// What is watched now.
    places: BTreeMap<PathBuf, WantedChanges>,
    /// Every change in the watched places is one of this machine.
    are_local: bool,
    warn: fn(&Path, &io::Error),
}

impl FileWatch {
    /// Watches the file at `path`, an absolute path, within a tokio runtime. `warn` is called if the kernel refuses its notices.
    ///
    /// A reader that has read the file before has to look once more: it may have changed between.
    pub fn new(path: PathBuf, warn: fn(&Path, &io::Error)) -> Self {
        let notices = KernelNotices::new().inspect_err(|error| warn(&path, error)).ok().map(Arc::new);
        let mut watch = Self { path, notices, places: BTreeMap::new(), are_local: false, warn };
        watch.arm();
        watch
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The notices of changes; `None` if the kernel refuses them. Those of neighbours are left out, which may be logs.
    pub fn notices(&self) -> Option<Arc<KernelNotices>> {
        self.notices.clone()
    }

    /// Whether the kernel tells of every change in the watched places.
    pub fn gives_notices(&self) -> bool {
        self.notices.is_some() && self.are_local
    }

    /// Watches the places of the path as they are now, and no others. Call it before the file is read: a change after that is
    /// noticed.
    pub fn arm(&mut self) {
        let Some(notices) = &self.notices else { return };
        let places = places_of(&self.path);
        let armed = notices.watch_only(places.iter().map(|(place, wanted)| (place.as_path(), wanted.clone())));
        if let Err(error) = &armed
            && !places.keys().eq(self.places.keys())
        {
            (self.warn)(&self.path, error);
        }
        self.are_local = armed.is_ok() && places.keys().all(|place| is_local(place));
        self.places = places;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use llama_warden_support::next_notice;

    use super::*;

    #[tokio::test]
    async fn what_is_written_beside_the_file_wakes_nobody() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let folder = folder.path();
        let path = folder.join("a.toml");
        fs::write(&path, "1").expect("writable");
        let watch = FileWatch::new(path.clone(), |path, error| panic!("{}: {error}", path.display()));
        let notices = watch.notices();
        let changed = || next_notice(notices.as_deref());
        fs::write(folder.join("a.log"), "a line").expect("writable");
        fs::rename(folder.join("a.log"), folder.join("a.log.1")).expect("writable");
        let woken = tokio::time::timeout(Duration::from_millis(100), changed()).await;
        assert!(woken.is_err(), "a log was written");
        for change in [|path: &Path| fs::write(path, "2"), |path: &Path| fs::remove_file(path)] {
            change(&path).expect("writable");
            tokio::time::timeout(Duration::from_secs(10), changed()).await.expect("a change of the file");
        }
    }
}

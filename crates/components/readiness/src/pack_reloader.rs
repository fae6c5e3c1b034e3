//! The packs in force, reloaded from their directory while the daemon runs.
//!
//! Changes are debounced: the directory is scanned when it has been quiet for [`QUIET`], or at the latest [`LATEST`] after the
//! first change. Valid packs are in force from the next launch on; a running launch keeps its pack.

use std::path::PathBuf;
use std::time::Duration;

use llama_warden_detectors::{Pack, PackSet};
use llama_warden_events::Event;
use llama_warden_plugin_files::{ReloadChanges, ReloadTracker, ScanResult};
use llama_warden_support::{BlockingError, blocking};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::directory_watch::DirectoryWatch;

/// How long the directory has to be quiet before a scan: an editor saves in several steps.
const QUIET: Duration = Duration::from_millis(200);
/// Longest time from a change to the scan, however much else changes.
const LATEST: Duration = Duration::from_secs(2);

/// The packs in force, and the watch on their directory.
#[derive(Debug)]
pub(crate) struct PackReloader {
    tracker: ReloadTracker<Pack>,
    directory: Option<PathBuf>,
    watch: Option<DirectoryWatch>,
    debounce: Option<Debounce>,
    scan: Option<JoinHandle<Result<ScanResult<Pack>, BlockingError>>>,
}

/// Changes that are not scanned yet: the times of the first and of the last one.
#[derive(Debug, Clone, Copy)]
struct Debounce {
    began: Instant,
    last: Instant,
}

impl Debounce {
    fn due(&self) -> Instant {
        (self.last + QUIET).min(self.began + LATEST)
    }
}

impl PackReloader {
    /// Starts with `packs`. Reloads from `directory` once [`Self::open`] was called.
    pub(crate) const fn new(packs: PackSet, directory: Option<PathBuf>) -> Self {
        Self { tracker: ReloadTracker::new(packs), directory, watch: None, debounce: None, scan: None }
    }

    /// The packs in force.
    pub(crate) const fn packs(&self) -> &PackSet {
        self.tracker.files()
    }

    /// Starts to watch, and scans once: files may have changed since the packs were loaded.
    pub(crate) fn open(&mut self) {
        let Some(directory) = &self.directory else { return };
        match DirectoryWatch::new(directory) {
            Ok(watch) => self.watch = Some(watch),
            // Not fatal: the loaded packs stay in force, and a restart loads others.
            Err(error) => {
                tracing::warn!(%error, directory = %directory.display(), "changed detector packs will not be noticed");
            }
        }
        self.mark_changed();
    }

    /// Waits for a change, scans, and returns the event to publish; `None` if the scan found nothing new.
    ///
    /// Safe to cancel: all progress is in `self`, and the next call continues.
    pub(crate) async fn next_reload(&mut self) -> Option<Event> {
        loop {
            if let Some(scan) = &mut self.scan {
                let scanned = scan.await;
                self.scan = None;
                // A scan that failed as a whole changes nothing. The next change starts another one.
                return scanned.ok().and_then(Result::ok).and_then(|scan| self.tracker.apply(scan)).map(reloaded);
            }
            let due = self.debounce.map_or_else(Instant::now, |debounce| debounce.due());
            tokio::select! {
                () = self.change() => self.mark_changed(),
                () = tokio::time::sleep_until(due), if self.debounce.is_some() => self.start_scan(),
            }
        }
    }

    async fn change(&self) {
        match &self.watch {
            Some(watch) => watch.changed().await,
            None => std::future::pending().await,
        }
    }

    fn mark_changed(&mut self) {
        let now = Instant::now();
        self.debounce.get_or_insert(Debounce { began: now, last: now }).last = now;
    }

    fn start_scan(&mut self) {
        self.debounce = None;
        let Some(directory) = self.directory.clone() else { return };
        // Watch before the scan, so that a change during the scan is noticed.
        if let Some(Err(error)) = self.watch.as_ref().map(DirectoryWatch::arm) {
            tracing::warn!(%error, directory = %directory.display(), "the detector directory cannot be watched any more");
        }
        let packs = self.packs().clone();
        // Reading files and compiling patterns may block: not on this thread.
        self.scan = Some(tokio::spawn(blocking(move || packs.scan(&directory))));
    }
}

fn reloaded(ReloadChanges { loaded, removed, refused }: ReloadChanges) -> Event {
    Event::DetectorsReloaded { packs: loaded.into(), removed: removed.into(), refused: refused.into() }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use llama_warden_events::FileRefusal;

    use super::*;

    const BROKEN: &str = "name = 'mine'\n[[pattern]]\nverdict = 'ready'\nregex = '('\n";

    fn pack(word: &str) -> String {
        format!("name = 'mine'\n[[pattern]]\nverdict = 'ready'\nregex = '^{word}$'\n")
    }

    async fn next_reload(reloader: &mut PackReloader) -> (Vec<String>, Vec<String>, Vec<FileRefusal>) {
        let news = async {
            loop {
                if let Some(event) = reloader.next_reload().await {
                    return event;
                }
            }
        };
        match tokio::time::timeout(Duration::from_secs(20), news).await.expect("is noticed") {
            Event::DetectorsReloaded { packs, removed, refused } => (packs.into(), removed.into(), refused.into()),
            other => panic!("{other:?}"),
        }
    }

    fn open(directory: &Path) -> PackReloader {
        let packs = PackSet::load(directory).expect("loads");
        let mut reloader = PackReloader::new(packs, Some(directory.to_owned()));
        reloader.open();
        reloader
    }

    fn regex(reloader: &PackReloader) -> Option<String> {
        Some(reloader.packs().get("mine")?.patterns()[0].regex.to_string())
    }

    #[tokio::test]
    async fn files_are_taken_up_refused_and_let_go_as_they_change() {
        let root = tempfile::tempdir().expect("makes a directory");
        let directory = root.path().join("packs");
        let file = directory.join("mine.toml");
        let mut reloader = open(&directory);
        fs::create_dir(&directory).expect("creates");
        fs::write(&file, pack("one")).expect("writes");
        assert_eq!(next_reload(&mut reloader).await, (vec!["mine".to_owned()], vec![], vec![]));
        assert_eq!(regex(&reloader).as_deref(), Some("^one$"));
        fs::write(&file, BROKEN).expect("writes");
        let (packs, removed, refused) = next_reload(&mut reloader).await;
        assert!(packs.is_empty() && removed.is_empty(), "{packs:?} {removed:?}");
        assert_eq!((refused[0].line, refused[0].column, &refused[0].file), (Some(4), Some(9), &file), "{refused:?}");
        assert!(refused[0].message.contains("unclosed group") && !refused[0].advice.is_empty(), "{refused:?}");
        assert_eq!(regex(&reloader).as_deref(), Some("^one$"), "what was in force stays");
        // The way in which editors save: beside, then renamed.
        let beside = directory.join(".mine.toml.new");
        fs::write(&beside, pack("two")).expect("writes");
        fs::rename(&beside, &file).expect("renames");
        assert_eq!(next_reload(&mut reloader).await, (vec!["mine".to_owned()], vec![], vec![]));
        assert_eq!(regex(&reloader).as_deref(), Some("^two$"));
        fs::remove_dir_all(&directory).expect("removes");
        assert_eq!(next_reload(&mut reloader).await, (vec![], vec!["mine".to_owned()], vec![]));
        assert_eq!(regex(&reloader), None);
    }

    #[tokio::test]
    async fn a_file_that_changed_between_the_load_and_the_watch_is_taken_up() {
        let directory = tempfile::tempdir().expect("makes a directory");
        let packs = PackSet::load(directory.path()).expect("loads");
        let mut reloader = PackReloader::new(packs, Some(directory.path().to_owned()));
        fs::write(directory.path().join("mine.toml"), pack("one")).expect("writes");
        reloader.open();
        assert_eq!(next_reload(&mut reloader).await.0, ["mine"]);
    }

    #[tokio::test]
    async fn an_unchanged_directory_is_not_spoken_of() {
        let directory = tempfile::tempdir().expect("makes a directory");
        fs::write(directory.path().join("mine.toml"), pack("one")).expect("writes");
        let mut reloader = open(directory.path());
        assert_eq!(reloader.next_reload().await, None);
    }
}

//! The packs in force, renewed while the daemon runs.
//!
//! A change in the directory is looked at when it has been quiet for [`QUIET`], or [`LATEST`] after its beginning. What is valid
//! is in force from the next launch on; a launch that runs keeps the pack that it began with.

use std::path::PathBuf;
use std::time::Duration;

use llama_warden_detectors::{Pack, PackSet};
use llama_warden_events::Event;
use llama_warden_plugin_files::{ReloadChanges, ReloadTracker, ScanResult};
use llama_warden_support::{BlockingError, blocking};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::directory_watch::DirectoryWatch;

/// How long nothing may change before the directory is looked at: an editor writes in several steps.
const QUIET: Duration = Duration::from_millis(200);
/// Longest time from a change to the look, however much else changes.
const LATEST: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub(crate) struct Shelf {
    packs: ReloadTracker<Pack>,
    directory: Option<PathBuf>,
    watch: Option<DirectoryWatch>,
    unrest: Option<Unrest>,
    survey: Option<JoinHandle<Result<ScanResult<Pack>, BlockingError>>>,
}

/// A change that was not looked at yet.
#[derive(Debug, Clone, Copy)]
struct Unrest {
    began: Instant,
    last: Instant,
}

impl Unrest {
    fn look_at(&self) -> Instant {
        (self.last + QUIET).min(self.began + LATEST)
    }
}

impl Shelf {
    /// The packs of `library`, renewed from `directory` once [`Self::open`] was called.
    pub(crate) const fn new(library: PackSet, directory: Option<PathBuf>) -> Self {
        Self { packs: ReloadTracker::new(library), directory, watch: None, unrest: None, survey: None }
    }

    /// The packs in force.
    pub(crate) const fn library(&self) -> &PackSet {
        self.packs.files()
    }

    /// Begins to watch. Files that changed since the library was loaded are looked at, too.
    pub(crate) fn open(&mut self) {
        let Some(directory) = &self.directory else { return };
        match DirectoryWatch::new(directory) {
            Ok(watch) => self.watch = Some(watch),
            // The packs that were loaded stay in force, and a restart takes up others.
            Err(error) => {
                tracing::warn!(%error, directory = %directory.display(), "changed detector packs will not be noticed");
            }
        }
        self.stir();
    }

    /// Waits for a change and takes it up. The result is what to publish; nothing where the directory says what it said
    /// before. Cancelled, it goes on where it was with the next call.
    pub(crate) async fn renewed(&mut self) -> Option<Event> {
        loop {
            if let Some(survey) = &mut self.survey {
                let surveyed = survey.await;
                self.survey = None;
                // A look that failed as a whole changes nothing; the next change leads to another one.
                return surveyed.ok().and_then(Result::ok).and_then(|survey| self.packs.apply(survey)).map(reloaded);
            }
            let Some(unrest) = self.unrest else {
                self.change().await;
                self.stir();
                continue;
            };
            tokio::select! {
                () = self.change() => self.stir(),
                () = tokio::time::sleep_until(unrest.look_at()) => self.look(),
            }
        }
    }

    async fn change(&self) {
        match &self.watch {
            Some(watch) => watch.changed().await,
            None => std::future::pending().await,
        }
    }

    fn stir(&mut self) {
        let now = Instant::now();
        let began = self.unrest.map_or(now, |unrest| unrest.began);
        self.unrest = Some(Unrest { began, last: now });
    }

    fn look(&mut self) {
        self.unrest = None;
        let Some(directory) = self.directory.clone() else { return };
        // Watched before it is read: what changes meanwhile is noticed.
        if let Some(Err(error)) = self.watch.as_mut().map(DirectoryWatch::arm) {
            tracing::warn!(%error, directory = %directory.display(), "the detector directory cannot be watched any more");
        }
        let library = self.library().clone();
        // Files and patterns of any size take their time elsewhere.
        self.survey = Some(tokio::spawn(blocking(move || library.scan(&directory))));
    }
}

/// The news as they are published.
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

    async fn renewed(shelf: &mut Shelf) -> (Vec<String>, Vec<String>, Vec<FileRefusal>) {
        let news = async {
            loop {
                if let Some(event) = shelf.renewed().await {
                    return event;
                }
            }
        };
        match tokio::time::timeout(Duration::from_secs(20), news).await.expect("is noticed") {
            Event::DetectorsReloaded { packs, removed, refused } => (packs.into(), removed.into(), refused.into()),
            other => panic!("{other:?}"),
        }
    }

    fn open(directory: &Path) -> Shelf {
        let library = PackSet::load(directory).expect("loads");
        let mut shelf = Shelf::new(library, Some(directory.to_owned()));
        shelf.open();
        shelf
    }

    fn words(shelf: &Shelf) -> Option<String> {
        Some(shelf.library().get("mine")?.patterns()[0].regex.to_string())
    }

    #[tokio::test]
    async fn files_are_taken_up_refused_and_let_go_as_they_change() {
        let root = tempfile::tempdir().expect("makes a directory");
        let directory = root.path().join("packs");
        let file = directory.join("mine.toml");
        let mut shelf = open(&directory);
        fs::create_dir(&directory).expect("creates");
        fs::write(&file, pack("one")).expect("writes");
        assert_eq!(renewed(&mut shelf).await, (vec!["mine".to_owned()], vec![], vec![]));
        assert_eq!(words(&shelf).as_deref(), Some("^one$"));
        fs::write(&file, BROKEN).expect("writes");
        let (packs, removed, refused) = renewed(&mut shelf).await;
        assert!(packs.is_empty() && removed.is_empty(), "{packs:?} {removed:?}");
        assert_eq!((refused[0].line, refused[0].column, &refused[0].file), (Some(4), Some(9), &file), "{refused:?}");
        assert!(refused[0].message.contains("unclosed group") && !refused[0].advice.is_empty(), "{refused:?}");
        assert_eq!(words(&shelf).as_deref(), Some("^one$"), "what was in force stays");
        // The way in which editors save: beside, then renamed.
        let beside = directory.join(".mine.toml.new");
        fs::write(&beside, pack("two")).expect("writes");
        fs::rename(&beside, &file).expect("renames");
        assert_eq!(renewed(&mut shelf).await, (vec!["mine".to_owned()], vec![], vec![]));
        assert_eq!(words(&shelf).as_deref(), Some("^two$"));
        fs::remove_dir_all(&directory).expect("removes");
        assert_eq!(renewed(&mut shelf).await, (vec![], vec!["mine".to_owned()], vec![]));
        assert_eq!(words(&shelf), None);
    }

    #[tokio::test]
    async fn a_file_that_changed_between_the_load_and_the_watch_is_taken_up() {
        let directory = tempfile::tempdir().expect("makes a directory");
        let library = PackSet::load(directory.path()).expect("loads");
        let mut shelf = Shelf::new(library, Some(directory.path().to_owned()));
        fs::write(directory.path().join("mine.toml"), pack("one")).expect("writes");
        shelf.open();
        assert_eq!(renewed(&mut shelf).await.0, ["mine"]);
    }

    #[tokio::test]
    async fn an_unchanged_directory_is_not_spoken_of() {
        let directory = tempfile::tempdir().expect("makes a directory");
        fs::write(directory.path().join("mine.toml"), pack("one")).expect("writes");
        let mut shelf = open(directory.path());
        assert_eq!(shelf.renewed().await, None);
    }
}

//! The dialects in force, renewed while the daemon runs: the folder is looked at before each launch.
//!
//! Nothing is watched, since nothing but a launch needs a dialect. The files are few and small, and read where waiting
//! for a disk holds up this launch alone.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use llama_warden_dialects::{Dialect, DialectSet};
use llama_warden_plugin_files::{ReloadChanges, ReloadTracker};
use llama_warden_support::blocking;

/// See the module.
#[derive(Debug)]
pub(crate) struct DialectReloader {
    tracker: Arc<Mutex<ReloadTracker<Dialect>>>,
    directory: Option<PathBuf>,
}

impl DialectReloader {
    /// The dialects of `library`, renewed from `directory`.
    pub(crate) fn new(library: DialectSet, directory: Option<PathBuf>) -> Self {
        Self { tracker: Arc::new(Mutex::new(ReloadTracker::new(library))), directory }
    }

    /// The dialects in force from now on, and what changed since the last look.
    pub(crate) async fn reload(&self) -> (DialectSet, Option<ReloadChanges>) {
        let tracker = Arc::clone(&self.tracker);
        let Some(directory) = self.directory.clone() else { return (current(&tracker), None) };
        let reloaded = blocking(move || {
            // Held during the look: two launches at once see one change one after the other, and tell it once.
            let mut tracker = tracker.lock().unwrap_or_else(PoisonError::into_inner);
            let scan = tracker.files().scan(&directory);
            let changes = tracker.apply(scan);
            (tracker.files().clone(), changes)
        });
        // A look that failed as a whole changes nothing.
        reloaded.await.unwrap_or_else(|_| (current(&self.tracker), None))
    }
}

fn current(tracker: &Mutex<ReloadTracker<Dialect>>) -> DialectSet {
    tracker.lock().unwrap_or_else(PoisonError::into_inner).files().clone()
}

//! The dialects in force, reloaded from their folder before each launch.
//!
//! No file watch, because nothing but a launch needs a dialect. The files are few and small, and are read off the runtime's
//! thread: a slow disk delays this launch alone.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use llama_warden_dialects::{Dialect, DialectSet};
use llama_warden_plugin_files::{ReloadChanges, ReloadTracker};
use llama_warden_support::{blocking, lock};

/// The dialects in force with the folder that they are reloaded from.
#[derive(Debug)]
pub(crate) struct DialectReloader {
    tracker: Arc<Mutex<ReloadTracker<Dialect>>>,
    directory: Option<PathBuf>,
}

impl DialectReloader {
    /// Starts with `dialects`. Without a `directory` they stay as they are.
    pub(crate) fn new(dialects: DialectSet, directory: Option<PathBuf>) -> Self {
        Self { tracker: Arc::new(Mutex::new(ReloadTracker::new(dialects))), directory }
    }

    /// Reads the folder; returns the dialects in force from now on, and what changed since the last call.
    pub(crate) async fn reload(&self) -> (DialectSet, Option<ReloadChanges>) {
        let tracker = Arc::clone(&self.tracker);
        let Some(directory) = self.directory.clone() else { return (current(&tracker), None) };
        let reloaded = blocking(move || {
            // Locked while the folder is read, so that of two launches at once only one reports a change.
            let mut tracker = lock(&tracker);
            let scan = tracker.files().scan(&directory);
            let changes = tracker.apply(scan);
            (tracker.files().clone(), changes)
        });
        // An error is a panic or a shutdown: nothing was changed.
        reloaded.await.unwrap_or_else(|_| (current(&self.tracker), None))
    }
}

fn current(tracker: &Mutex<ReloadTracker<Dialect>>) -> DialectSet {
    lock(tracker).files().clone()
}

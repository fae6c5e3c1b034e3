//! The dialects in force, renewed while the daemon runs: the folder is looked at before each launch.
//!
//! Nothing is watched, since nothing but a launch needs a dialect. The files are few and small, and read where waiting
//! for a disk holds up this launch alone.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use llama_warden_plugin_files::{ReloadChanges, ReloadTracker};
use llama_warden_support::blocking;

use crate::dialect::{Dialect, DialectSet};

/// See the module.
#[derive(Debug)]
pub(crate) struct DialectShelf {
    stock: Arc<Mutex<ReloadTracker<Dialect>>>,
    directory: Option<PathBuf>,
}

impl DialectShelf {
    /// The dialects of `library`, renewed from `directory`.
    pub(crate) fn new(library: DialectSet, directory: Option<PathBuf>) -> Self {
        Self { stock: Arc::new(Mutex::new(ReloadTracker::new(library))), directory }
    }

    /// The dialects in force from now on, and what changed since the last look.
    pub(crate) async fn renewed(&self) -> (DialectSet, Option<ReloadChanges>) {
        let stock = Arc::clone(&self.stock);
        let Some(directory) = self.directory.clone() else { return (in_force(&stock), None) };
        let looked = blocking(move || {
            // Held during the look: two launches at once see one change one after the other, and tell it once.
            let mut stock = stock.lock().unwrap_or_else(PoisonError::into_inner);
            let survey = stock.files().scan(&directory);
            let news = stock.apply(survey);
            (stock.files().clone(), news)
        });
        // A look that failed as a whole changes nothing.
        looked.await.unwrap_or_else(|_| (in_force(&self.stock), None))
    }
}

fn in_force(stock: &Mutex<ReloadTracker<Dialect>>) -> DialectSet {
    stock.lock().unwrap_or_else(PoisonError::into_inner).files().clone()
}

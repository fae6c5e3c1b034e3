//! The consecutive failures of each server, kept across runs of the daemon: a daemon that is restarted by its own
//! supervisor must not turn a bounded crash loop into an endless one.
//!
//! A file that is missing, cut off or older than [`FORGOTTEN_AFTER`] counts as no failures: a person who comes back the
//! next day and starts the daemon wants its servers tried.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use llama_warden_events::ServerId;
use llama_warden_support::{Durability, replace_file};

/// How long failures of an earlier run count.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10 * 60);

/// The file's name in the state directory.
const FILE: &str = "failures.json";

/// Counts by server.
pub(crate) type Failures = BTreeMap<ServerId, u32>;

/// The file.
#[derive(Debug, Clone)]
pub(crate) struct FailureFile {
    path: PathBuf,
}

impl FailureFile {
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { path: state_dir.join(FILE) }
    }

    /// What an earlier run left.
    pub(crate) fn recall(&self) -> Failures {
        let age =
            fs::metadata(&self.path).and_then(|metadata| metadata.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_none_or(|age| age > FORGOTTEN_AFTER) {
            return Failures::new();
        }
        fs::read(&self.path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Replaces the file in one step.
    pub(crate) fn keep(&self, failures: &Failures) -> io::Result<()> {
        if failures.is_empty() {
            return match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        // Written on the loop's thread, which must not wait for a disk. After a power cut failures need not count.
        replace_file(&self.path, &serde_json::to_vec(failures)?, Durability::Process)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_survive_and_garbage_counts_as_none() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let file = FailureFile::new(folder.path());
        assert_eq!(file.recall(), Failures::new());
        let failures = Failures::from([(ServerId::new("a").expect("valid"), 3)]);
        file.keep(&failures).expect("writable");
        assert_eq!(file.recall(), failures);
        fs::write(folder.path().join(FILE), "{\"a\":").expect("writable");
        assert_eq!(file.recall(), Failures::new());
        file.keep(&Failures::new()).expect("writable");
        assert!(!folder.path().join(FILE).exists());
    }
}

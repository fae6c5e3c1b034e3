//! The file that keeps the consecutive failures of each server across runs of the daemon.
//!
//! Without it, a daemon that crashes and is restarted by its own supervisor would turn a bounded crash loop into an endless
//! one. A file that is missing, cut off or older than [`MAX_AGE`] counts as no failures: a person who starts the daemon
//! again the next day wants its servers tried.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use llama_warden_events::ServerId;
use llama_warden_support::{Durability, blocking, read_regular, replace_file};
use tokio::sync::watch;
use tokio::time::timeout;

/// How long the failures of an earlier run count.
const MAX_AGE: Duration = Duration::from_secs(10 * 60);

const FILE: &str = "failures.json";

/// Longest file in bytes: a hundred for each server.
const MAX_BYTES: u64 = 16 << 20;

/// Longest time for which the first launch waits for it.
const LOAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Consecutive failures by server; a server without failures has no entry.
pub type FailureCounts = BTreeMap<ServerId, u32>;

/// `failures.json` in the state directory.
#[derive(Debug, Clone)]
pub struct FailureFile {
    path: PathBuf,
}

impl FailureFile {
    /// The file of a state directory.
    pub fn new(state_dir: &Path) -> Self {
        Self { path: state_dir.join(FILE) }
    }

    /// Reads what an earlier run saved.
    fn load(&self) -> FailureCounts {
        let age =
            fs::metadata(&self.path).and_then(|metadata| metadata.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_none_or(|age| age > MAX_AGE) {
            return FailureCounts::new();
        }
        match read_regular(&self.path, MAX_BYTES) {
            Ok(bytes) => Self::parse(&bytes),
            Err(error) => {
                let path = self.path.display();
                tracing::warn!(%path, %error, "failures of the run before do not count");
                FailureCounts::new()
            }
        }
    }

    /// Reads what an earlier run saved, off the runtime's thread. A disk that does not answer counts as no failures.
    pub async fn loaded(&self) -> FailureCounts {
        let file = self.clone();
        timeout(LOAD_TIMEOUT, blocking(move || file.load())).await.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// Saves each change of the counts, the last one too, until their sender is dropped.
    pub async fn keep(self, mut counts: watch::Receiver<FailureCounts>) {
        while counts.changed().await.is_ok() {
            let (file, latest) = (self.clone(), counts.borrow_and_update().clone());
            let saved = blocking(move || file.save(&latest)).await.unwrap_or_else(|error| Err(io::Error::other(error)));
            if let Err(error) = saved {
                tracing::warn!(%error, "cannot save the counts of failures; a restart of the daemon begins to count anew");
            }
        }
    }

    /// The failures that the content of a file counts; none if it is invalid.
    pub fn parse(content: &[u8]) -> FailureCounts {
        serde_json::from_slice(content).unwrap_or_default()
    }

    /// Replaces the file in one step; removes it where there are no failures.
    ///
    /// Not synced: a power cut that loses the counts only gives each server a few more attempts.
    fn save(&self, failures: &FailureCounts) -> io::Result<()> {
        if failures.is_empty() {
            return match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
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
        assert_eq!(file.load(), FailureCounts::new());
        let failures = FailureCounts::from([(ServerId::new("a").expect("valid"), 3)]);
        file.save(&failures).expect("writable");
        assert_eq!(file.load(), failures);
        fs::write(folder.path().join(FILE), "{\"a\":").expect("writable");
        assert_eq!(file.load(), FailureCounts::new());
        file.save(&FailureCounts::new()).expect("writable");
        assert!(!folder.path().join(FILE).exists());
    }
}

//! The consecutive failures of each server, kept across runs of the daemon: a daemon that is restarted by its own
//! supervisor must not turn a bounded crash loop into an endless one.
//!
//! A file that is missing, cut off or older than [`MAX_AGE`] counts as no failures: a person who comes back the
//! next day and starts the daemon wants its servers tried.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use llama_warden_events::ServerId;

/// How long failures of an earlier run count.
const MAX_AGE: Duration = Duration::from_secs(10 * 60);

/// The file's name in the state directory.
const FILE: &str = "failures.json";

/// Counts by server.
pub(crate) type FailureCounts = BTreeMap<ServerId, u32>;

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
    pub(crate) fn load(&self) -> FailureCounts {
        let age =
            fs::metadata(&self.path).and_then(|metadata| metadata.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_none_or(|age| age > MAX_AGE) {
            return FailureCounts::new();
        }
        fs::read(&self.path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Replaces the file in one step.
    pub(crate) fn save(&self, failures: &FailureCounts) -> io::Result<()> {
        if failures.is_empty() {
            return match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let new = self.path.with_extension("new");
        fs::write(&new, serde_json::to_vec(failures).map_err(io::Error::other)?)?;
        fs::rename(new, &self.path)
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

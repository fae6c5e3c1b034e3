//! A file that keeps one value across runs of the daemon.

use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use llama_warden_support::{Durability, blocking, read_regular, replace_file};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::timeout;

/// Longest file in bytes: a hundred and more for each server.
const MAX_BYTES: u64 = 16 << 20;

/// Longest time for which the first launch waits for it.
const LOAD_TIMEOUT: Duration = Duration::from_secs(5);

/// A value that a file keeps. The default has no file.
pub trait KeptState: Clone + Default + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name in the state directory.
    const FILE: &str;
    /// What follows when it cannot be saved, for people.
    const LOSS: &str;

    /// What still counts this long after it was saved.
    fn after(self, age: Duration) -> Self;
}

/// The file of a value in the state directory.
#[derive(Debug, Clone)]
pub struct KeptFile<T> {
    path: PathBuf,
    value: PhantomData<T>,
}

impl<T: KeptState> KeptFile<T> {
    /// The file of a state directory.
    pub fn new(state_dir: &Path) -> Self {
        Self { path: state_dir.join(T::FILE), value: PhantomData }
    }

    /// Reads what an earlier run saved.
    fn load(&self) -> T {
        self.try_load().unwrap_or_else(|error| {
            let path = self.path.display();
            tracing::warn!(%path, %error, "what the run before has kept does not count");
            T::default()
        })
    }

    /// As [`Self::load`], with the reason why the file is invalid.
    pub(crate) fn try_load(&self) -> io::Result<T> {
        let modified = fs::metadata(&self.path).and_then(|metadata| metadata.modified());
        let Ok(modified) = modified else { return Ok(T::default()) };
        // Nobody knows how old a file of the future is: the clock of a machine without a battery was set back by a boot.
        let age = modified.elapsed().unwrap_or(Duration::MAX);
        Ok(read_regular(&self.path, MAX_BYTES).and_then(|bytes| Self::parse(&bytes))?.after(age))
    }

    /// The path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what an earlier run saved, off the runtime's thread. A disk that does not answer has kept nothing.
    pub async fn loaded(&self) -> T {
        let file = self.clone();
        timeout(LOAD_TIMEOUT, blocking(move || file.load())).await.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// Saves each change, the last one too, until the sender is dropped.
    pub async fn keep(self, mut values: watch::Receiver<T>) {
        while values.changed().await.is_ok() {
            let latest = values.borrow_and_update().clone();
            self.keep_now(latest).await;
        }
    }

    /// Saves a value once.
    pub async fn keep_now(&self, value: T) {
        let file = self.clone();
        let saved = blocking(move || file.save(&value)).await.unwrap_or_else(|error| Err(io::Error::other(error)));
        if let Err(error) = saved {
            tracing::warn!(file = T::FILE, %error, "cannot be saved; {}", T::LOSS);
        }
    }

    /// The value in the content of a file.
    ///
    /// # Errors
    /// It is invalid.
    pub fn parse(content: &[u8]) -> io::Result<T> {
        Ok(serde_json::from_slice(content)?)
    }

    /// Replaces the file in one step; removes it where there is nothing to keep.
    ///
    /// Not synced: what a power cut loses is worth no wait at each change.
    fn save(&self, value: &T) -> io::Result<()> {
        if *value == T::default() {
            return match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        replace_file(&self.path, &serde_json::to_vec(value)?, Durability::Process)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::SystemTime;

    use llama_warden_events::{FailureReason, LeftFailure, ServerId};

    use super::*;
    use crate::{DownFile, DownServer, DownServers, FailureCounts, FailureFile};

    fn server(id: &str) -> ServerId {
        ServerId::new(id).expect("valid")
    }

    #[test]
    fn failures_survive_and_garbage_counts_as_none() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let file = FailureFile::new(folder.path());
        assert_eq!(file.load(), FailureCounts::new());
        let failures = FailureCounts::from([(server("a"), 3)]);
        file.save(&failures).expect("writable");
        assert_eq!(file.load(), failures);
        fs::write(folder.path().join(FailureCounts::FILE), "{\"a\":").expect("writable");
        assert_eq!(file.load(), FailureCounts::new());
        file.save(&FailureCounts::new()).expect("writable");
        assert!(!folder.path().join(FailureCounts::FILE).exists());
        assert_eq!(failures.after(Duration::from_secs(11 * 60)), FailureCounts::new(), "the next day all are tried");
    }

    #[test]
    fn a_stop_by_hand_counts_for_ever_and_a_failure_for_minutes() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let file = DownFile::new(folder.path());
        let failure = LeftFailure { reason: FailureReason::Crashed, detail: "boom".to_owned(), abandoned: None };
        let failed = DownServer::Failed { configured: "7".to_owned(), failure };
        let servers = BTreeMap::from([(server("a"), DownServer::Stopped), (server("b"), failed)]);
        let down = DownServers { servers, is_handed_over: true };
        file.save(&down).expect("writable");
        assert_eq!(file.load(), down);
        let later = down.clone().after(Duration::from_secs(11 * 60));
        assert_eq!(later.servers.into_iter().collect::<Vec<_>>(), [(server("a"), DownServer::Stopped)]);
        let path = folder.path().join(DownServers::FILE);
        let future = SystemTime::now() + Duration::from_secs(1 << 30);
        fs::File::options().write(true).open(&path).and_then(|file| file.set_modified(future)).expect("ours");
        let kept: Vec<_> = file.load().servers.into_iter().collect();
        assert_eq!(kept, [(server("a"), DownServer::Stopped)], "the clock was set back");
        let text = fs::read_to_string(path).expect("saved");
        assert_eq!(
            DownFile::parse(&text.as_bytes()[..text.len() / 2]).unwrap_or_default(),
            DownServers::default(),
            "cut in half: {text}"
        );
    }
}

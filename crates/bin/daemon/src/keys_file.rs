//! The file of the keys of the router's clients, as it is now.
//!
//! It is read again when it changes and with each reload, so that keys can be given out and taken back while servers run. A file
//! that is not valid changes nothing, and is logged once. An editor writes in several steps, and half a file may be valid with half of
//! its keys, so the file is read [`RereadFile::REST`] after its last change.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use llama_warden_exit::CommandFailure;
use llama_warden_keys::{KeyRing, KeysUnusable, read_keys};
use llama_warden_support::lock;
use tokio::sync::watch;

use crate::reread_file::{RereadFile, WatchedFile};

/// The keys of a running daemon, kept up to date with their file.
#[derive(Debug, Clone)]
pub struct KeysFile(Arc<KeysFileState>);

#[derive(Debug)]
struct KeysFileState {
    file: WatchedFile<Arc<KeyRing>>,
    /// What was wrong with the file when it was read last, so that it is logged once.
    told: Mutex<Option<String>>,
}

impl KeysFile {
    /// Reads the file and watches it.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn open(path: &Path) -> Result<Self, CommandFailure> {
        let ring = read_keys(path).map_err(|error| unusable(&error))?;
        if ring.is_empty() {
            tracing::warn!(path = %path.display(), "the file of keys has none: every request to the router gets 401");
        }
        let warn = |_: &Path, error: &io::Error| {
            tracing::warn!(%error, "the file of keys is not watched; send HUP after a change");
        };
        let file = WatchedFile::new(path, Arc::new(ring), warn);
        Ok(Self(Arc::new(KeysFileState { file, told: Mutex::default() })))
    }

    /// The keys in force, for the router, which checks requests.
    pub fn keys(&self) -> watch::Receiver<Arc<KeyRing>> {
        self.0.file.value.subscribe()
    }
}

impl RereadFile for KeysFile {
    const NAME: &'static str = "keys-file";

    const REST: Duration = Duration::from_millis(200);

    type Value = Arc<KeyRing>;

    fn watched(&self) -> &WatchedFile<Arc<KeyRing>> {
        &self.0.file
    }

    fn reread(&self) {
        let file = &self.0.file;
        file.arm();
        let mut told = lock(&self.0.told);
        match read_keys(&file.path) {
            Ok(ring) => {
                *told = None;
                let changed = file.value.send_if_modified(|known| {
                    let changed = !ring.is_same(known);
                    if changed {
                        *known = Arc::new(ring.succeeding(known));
                    }
                    changed
                });
                if changed {
                    let keys = file.value.borrow().len();
                    tracing::info!(path = %file.path.display(), keys, "new keys of the router's clients are in force");
                }
            }
            Err(error) => {
                let text = error.to_string();
                if told.as_ref() != Some(&text) {
                    let next = error.next_step();
                    tracing::warn!(
                        error = text,
                        next,
                        "the file of keys cannot be used; the former keys stay in force"
                    );
                    *told = Some(text);
                }
            }
        }
    }
}

/// The failure of a start.
fn unusable(error: &KeysUnusable) -> CommandFailure {
    CommandFailure::usage(error).next_step(error.next_step())
}

/// Fails where a daemon could not start with this file.
pub fn rehearse(path: &Path) -> Result<(), CommandFailure> {
    read_keys(path).map(drop).map_err(|error| unusable(&error))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use llama_warden_component_kit::{PATIENCE, RecordedLog, TestBus};
    use llama_warden_keys::{KeyGrant, NewKey, append_key};

    use super::*;
    use crate::reread_file::FileReader;

    fn add(path: &Path, name: &str) {
        let grant = KeyGrant { name: name.to_owned(), ..KeyGrant::default() };
        append_key(path, &grant, &NewKey::random().expect("random")).expect("writable");
    }

    #[tokio::test]
    async fn keys_come_and_go_with_the_file_and_a_file_that_is_not_valid_changes_nothing() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("keys.toml");
        add(&path, "one");
        let file = KeysFile::open(&path).expect("a key");
        let mut keys = file.keys();
        let mut bus = TestBus::new();
        let running = bus.run(FileReader(file.clone()));
        let mut become_ = async |what: &str, expected: usize| {
            let changed = tokio::time::timeout(PATIENCE, keys.wait_for(|ring| ring.len() == expected)).await;
            drop(changed.expect(what).expect("the file is open"));
        };
        become_("as it was", 1).await;
        add(&path, "two");
        become_("appended", 2).await;
        running.end().await;
        let recorded = RecordedLog::default();
        tracing::subscriber::with_default(recorded.subscriber(), || {
            let valid = fs::read_to_string(&path).expect("readable");
            fs::write(&path, "[[keys]]\nname = 'x'").expect("writable");
            file.reread();
            file.reread();
            assert_eq!(file.keys().borrow().len(), 2, "what is not valid changes nothing");
            let warned = recorded.take();
            assert_eq!(warned.len(), 1, "told once: {warned:?}");
            fs::write(&path, &valid).expect("writable");
            fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("our own");
            file.reread();
            assert_eq!((file.keys().borrow().len(), recorded.take().len()), (2, 1), "open to others");
            fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("our own");
            file.reread();
            assert_eq!((file.keys().borrow().len(), recorded.take().len()), (2, 0), "as before");
            fs::write(&path, "").expect("writable");
            file.reread();
            assert!(file.keys().borrow().is_empty(), "every key was taken back");
        });
    }

    #[test]
    fn a_start_with_a_file_that_cannot_be_used_says_what_to_do() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let failure = KeysFile::open(&folder.path().join("none")).expect_err("missing");
        assert!(format!("{failure:?}").contains("key new NAME --file"), "{failure:?}");
    }
}

//! Stores the ports and ids that were chosen for servers across runs of the daemon, so that a server keeps them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use llama_warden_events::ServerId;
use llama_warden_support::{Durability, read_regular, replace_file};
use serde::{Deserialize, Serialize};

/// The file's name in the state directory.
const FILE: &str = "ports.json";

/// Longest file in bytes: some hundred for each server.
const MAX_BYTES: u64 = 16 << 20;

/// How long the port and the id of a server that is gone are kept for it.
const KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What was chosen for each server that is not configured with it.
pub type KeptServers = BTreeMap<ServerId, KeptServer>;

/// What was chosen for a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredServer")]
pub struct KeptServer {
    /// Its port.
    pub port: u16,
    /// The model for which its id was chosen; `None` for a server of the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
    /// Since when it is gone, in seconds since 1970; `None` while it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gone_since: Option<u64>,
}

/// A server as the file has it, or its port alone.
#[derive(Deserialize)]
#[serde(untagged)]
enum StoredServer {
    Port(u16),
    Kept {
        port: u16,
        #[serde(default)]
        model: Option<PathBuf>,
        #[serde(default)]
        gone_since: Option<u64>,
    },
}

impl From<StoredServer> for KeptServer {
    fn from(stored: StoredServer) -> Self {
        match stored {
            StoredServer::Port(port) => Self { port, model: None, gone_since: None },
            StoredServer::Kept { port, model, gone_since } => Self { port, model, gone_since },
        }
    }
}

impl KeptServer {
    /// As it is kept at the time `now` while its server is gone; `None` if that was long ago.
    pub fn gone(&self, now: u64) -> Option<Self> {
        // A clock that was set back must not keep it for ever.
        let gone_since = self.gone_since.filter(|since| *since <= now).unwrap_or(now);
        let is_kept = now - gone_since < KEPT_FOR.as_secs();
        is_kept.then(|| Self { gone_since: Some(gone_since), ..self.clone() })
    }
}

/// The file that stores them, as JSON.
#[derive(Debug, Clone)]
pub struct PortFile {
    path: PathBuf,
}

impl PortFile {
    /// The file of a state directory.
    pub fn new(state_dir: &Path) -> Self {
        Self { path: state_dir.join(FILE) }
    }

    /// What the latest run stored. Empty if the file is missing or invalid: ports are then assigned anew.
    pub fn read(&self) -> KeptServers {
        self.try_read().unwrap_or_else(|error| {
            let path = self.path.display();
            tracing::warn!(%path, %error, "servers that name no port may get others than before");
            KeptServers::new()
        })
    }

    /// As [`Self::read`], with the reason why the file is invalid.
    pub(crate) fn try_read(&self) -> io::Result<KeptServers> {
        match read_regular(&self.path, MAX_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(KeptServers::new()),
            read => Self::parse(&read?),
        }
    }

    /// The path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What the content of a file stores.
    ///
    /// # Errors
    /// It is invalid.
    pub fn parse(content: &[u8]) -> io::Result<KeptServers> {
        Ok(serde_json::from_slice(content)?)
    }

    /// Replaces the file in one step. Writes nothing if nothing changed, an empty map without a file included.
    ///
    /// # Errors
    /// The file system refuses to write or to rename.
    pub fn write(&self, kept: &KeptServers) -> io::Result<()> {
        if *kept == self.read() {
            return Ok(());
        }
        replace_file(&self.path, &serde_json::to_vec(kept)?, Durability::PowerCut)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn kept(port: u16, gone_since: Option<u64>) -> KeptServer {
        KeptServer { port, model: Some("/m/a.gguf".into()), gone_since }
    }

    #[test]
    fn ports_survive_and_garbage_counts_as_none() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let file = PortFile::new(folder.path());
        file.write(&KeptServers::new()).expect("nothing to write");
        assert!(!folder.path().join(FILE).exists());
        let ports = KeptServers::from([(ServerId::new("a").expect("valid"), kept(8001, Some(7)))]);
        file.write(&ports).expect("writable");
        assert_eq!(file.read(), ports);
        fs::write(folder.path().join(FILE), "{\"a\":").expect("writable");
        assert_eq!(file.read(), KeptServers::new());
    }

    #[test]
    fn the_file_of_an_earlier_release_is_read() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        fs::write(folder.path().join(FILE), "{\"a\":8001}").expect("writable");
        let read = PortFile::new(folder.path()).read();
        assert_eq!(read["a"], KeptServer { port: 8001, model: None, gone_since: None });
    }

    #[test]
    fn what_is_gone_for_long_is_forgotten_and_what_is_gone_for_a_while_is_not() {
        let long = KEPT_FOR.as_secs();
        assert_eq!(kept(8001, None).gone(long), Some(kept(8001, Some(long))));
        assert_eq!(kept(8001, Some(1)).gone(long), Some(kept(8001, Some(1))));
        assert_eq!(kept(8001, Some(1)).gone(long + 1), None);
        assert_eq!(kept(8001, Some(long)).gone(5), Some(kept(8001, Some(5))), "the clock was set back");
    }
}

//! The ports of servers that nobody wrote, kept across runs of the daemon, so that a model is found again where it was.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use llama_warden_events::ServerId;
use llama_warden_support::{Durability, replace_file};

/// The file's name in the state directory.
const FILE: &str = "ports.json";

/// Ports by server.
pub type Ports = BTreeMap<ServerId, u16>;

/// The file.
#[derive(Debug, Clone)]
pub struct PortBook {
    path: PathBuf,
}

impl PortBook {
    /// The book of a state directory.
    pub fn new(state_dir: &Path) -> Self {
        Self { path: state_dir.join(FILE) }
    }

    /// What an earlier run kept. A book that is missing or cannot be read is empty: ports are then given anew.
    pub fn recall(&self) -> Ports {
        fs::read(&self.path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Replaces the book in one step. One that would be empty is not begun.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn keep(&self, ports: &Ports) -> io::Result<()> {
        if *ports == self.recall() {
            return Ok(());
        }
        replace_file(&self.path, &serde_json::to_vec(ports)?, Durability::PowerCut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_survive_and_garbage_counts_as_none() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let book = PortBook::new(folder.path());
        book.keep(&Ports::new()).expect("nothing to write");
        assert!(!folder.path().join(FILE).exists());
        let ports = Ports::from([(ServerId::new("a").expect("valid"), 8001)]);
        book.keep(&ports).expect("writable");
        assert_eq!(book.recall(), ports);
        fs::write(folder.path().join(FILE), "{\"a\":").expect("writable");
        assert_eq!(book.recall(), Ports::new());
    }
}

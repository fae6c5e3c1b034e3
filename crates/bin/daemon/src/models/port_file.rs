//! Stores the ports of discovered servers across runs of the daemon, so that a model keeps its port.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use llama_warden_events::ServerId;
use llama_warden_support::{Durability, replace_file};

/// The file's name in the state directory.
const FILE: &str = "ports.json";

/// The port of each discovered server.
pub type AssignedPorts = BTreeMap<ServerId, u16>;

/// The file that stores assigned ports, as JSON.
#[derive(Debug, Clone)]
pub struct PortFile {
    path: PathBuf,
}

impl PortFile {
    /// The file of a state directory.
    pub fn new(state_dir: &Path) -> Self {
        Self { path: state_dir.join(FILE) }
    }

    /// The ports of the latest run. Empty if the file is missing or invalid: ports are then assigned anew.
    pub fn read(&self) -> AssignedPorts {
        fs::read(&self.path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Replaces the file in one step. Writes nothing if nothing changed, an empty map without a file included.
    ///
    /// # Errors
    /// The file system refuses to write or to rename.
    pub fn write(&self, ports: &AssignedPorts) -> io::Result<()> {
        if *ports == self.read() {
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
        let file = PortFile::new(folder.path());
        file.write(&AssignedPorts::new()).expect("nothing to write");
        assert!(!folder.path().join(FILE).exists());
        let ports = AssignedPorts::from([(ServerId::new("a").expect("valid"), 8001)]);
        file.write(&ports).expect("writable");
        assert_eq!(file.read(), ports);
        fs::write(folder.path().join(FILE), "{\"a\":").expect("writable");
        assert_eq!(file.read(), AssignedPorts::new());
    }
}

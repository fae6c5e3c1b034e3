//! A plug-in set that is reloaded from its directory, and reports each change once.

use llama_warden_events::FileRefusal;

use crate::file::PluginFile;
use crate::plugin_set::{PluginSet, PluginSetError, ScanResult, same};

/// The files in force and the refusals that were last reported, so that an unchanged directory is not reported again.
#[derive(Debug, Clone)]
pub struct ReloadTracker<F> {
    files: PluginSet<F>,
    refused: Vec<FileRefusal>,
}

/// The differences between two scans of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReloadChanges {
    /// The names of the files that are new or have another text.
    pub loaded: Vec<String>,
    /// The names of the files that are gone. A built-in file of such a name is in force again.
    pub removed: Vec<String>,
    /// Every refusal of the latest scan, with those that were reported before.
    pub refused: Vec<FileRefusal>,
}

impl<F: PluginFile> ReloadTracker<F> {
    /// A tracker of a set that was loaded without a refusal.
    pub const fn new(files: PluginSet<F>) -> Self {
        Self { files, refused: Vec::new() }
    }

    /// The files in force.
    pub const fn files(&self) -> &PluginSet<F> {
        &self.files
    }

    /// Puts the files of a scan in force. `None` if the scan found what the previous one had found.
    pub fn apply(&mut self, ScanResult { files, refused }: ScanResult<F>) -> Option<ReloadChanges> {
        let loaded = names_of_changed(&self.files, &files);
        let mut removed = names_of_changed(&files, &self.files);
        removed.retain(|name| !loaded.contains(name));
        let refused: Vec<_> = refused.iter().map(PluginSetError::refusal).collect();
        self.files = files;
        if loaded.is_empty() && removed.is_empty() && refused == self.refused {
            return None;
        }
        self.refused.clone_from(&refused);
        Some(ReloadChanges { loaded, removed, refused })
    }
}

/// The names of the directory's files in `now` that `before` does not have with the same text.
fn names_of_changed<F: PluginFile>(before: &PluginSet<F>, now: &PluginSet<F>) -> Vec<String> {
    let from_files = now.iter().filter(|file| file.origin().path().is_some());
    let changed = from_files.filter(|file| !before.get(file.name()).is_some_and(|other| same(*file, other)));
    changed.map(|file| file.name().to_owned()).collect()
}

//! A library with what was last told of its directory, so that nothing is told twice.

use llama_warden_events::FileRefusal;

use crate::file::PluginFile;
use crate::plugin_set::{PluginSet, PluginSetError, ScanResult, same};

/// See the module.
#[derive(Debug, Clone)]
pub struct ReloadTracker<F> {
    files: PluginSet<F>,
    refused: Vec<FileRefusal>,
}

/// What changed with a look into the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReloadChanges {
    /// The files that are new or say something else, by name.
    pub loaded: Vec<String>,
    /// The files that are gone, by name; a built-in one of that name is in force again.
    pub removed: Vec<String>,
    /// What is refused.
    pub refused: Vec<FileRefusal>,
}

impl<F: PluginFile> ReloadTracker<F> {
    /// A library of which nothing was refused.
    pub const fn new(files: PluginSet<F>) -> Self {
        Self { files, refused: Vec::new() }
    }

    /// The files in force.
    pub const fn files(&self) -> &PluginSet<F> {
        &self.files
    }

    /// Takes up what a look brought; nothing where the directory says what it said before.
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

/// The names of files of the directory in `now` that `before` does not have in the same words.
fn names_of_changed<F: PluginFile>(before: &PluginSet<F>, now: &PluginSet<F>) -> Vec<String> {
    let from_files = now.iter().filter(|file| file.origin().path().is_some());
    let changed = from_files.filter(|file| !before.get(file.name()).is_some_and(|other| same(*file, other)));
    changed.map(|file| file.name().to_owned()).collect()
}

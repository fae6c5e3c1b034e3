//! Which keys the user wrote, by dotted path.
//!
//! A key whose value was refused is missing from the typed tables. Cross-field checks ask here whether it was written, so that
//! one mistake is not reported twice.

use std::collections::BTreeSet;

use crate::file::toml_tree::{TomlData, TomlNode};

/// Dotted paths of everything that is written.
#[derive(Debug, Clone, Default)]
pub(crate) struct WrittenKeys {
    keys: BTreeSet<String>,
}

impl WrittenKeys {
    pub(crate) fn of(root: &TomlNode) -> Self {
        let mut written = Self::default();
        written.collect(root);
        written
    }

    fn collect(&mut self, node: &TomlNode) {
        match &node.data {
            TomlData::Table(entries) => {
                for (_, value) in entries.values() {
                    self.keys.insert(value.path.clone());
                    self.collect(value);
                }
            }
            TomlData::Array(items) => items.iter().for_each(|item| self.collect(item)),
            _ => {}
        }
    }

    pub(crate) fn contains(&self, path: &str) -> bool {
        self.keys.contains(path)
    }
}

//! Which keys the user wrote, by dotted path: the difference between a default and the same value on purpose.

use std::collections::{BTreeMap, BTreeSet};

use crate::file::toml_tree::{Data, Node};
use crate::problem::Location;

/// Dotted paths of everything that is written, with their places.
#[derive(Debug, Clone, Default)]
pub(crate) struct Written {
    keys: BTreeMap<String, Location>,
    values: BTreeSet<String>,
}

impl Written {
    pub(crate) fn of(root: &Node) -> Self {
        let mut written = Self::default();
        written.collect(root);
        written
    }

    fn collect(&mut self, node: &Node) {
        match &node.data {
            Data::Table(entries) => {
                for (place, value) in entries.values() {
                    self.keys.insert(value.path.clone(), place.clone());
                    if !matches!(value.data, Data::Table(_)) {
                        self.values.insert(value.path.clone());
                    }
                    self.collect(value);
                }
            }
            Data::Array(items) => items.iter().for_each(|item| self.collect(item)),
            _ => {}
        }
    }

    pub(crate) fn contains(&self, path: &str) -> bool {
        self.keys.contains_key(path)
    }

    /// Every key that is not a table, with its place.
    pub(crate) fn values(&self) -> impl Iterator<Item = (&str, &Location)> {
        let values = self.keys.iter().filter(|(path, _)| self.values.contains(*path));
        values.map(|(path, location)| (path.as_str(), location))
    }
}

//! Which keys the user wrote, by dotted path.
//!
//! A key whose value was refused is missing from the typed tables. Cross-field checks ask here whether it was written, so that
//! one mistake is not reported twice.

use std::collections::BTreeSet;

use crate::toml_tree::{TomlData, TomlNode};

/// Dotted paths of everything that is written below a node.
pub fn written_keys(node: &TomlNode) -> BTreeSet<String> {
    match &node.data {
        TomlData::Table(entries) => {
            let paths = entries.values().map(|(_, value)| value.path.clone());
            paths.chain(entries.values().flat_map(|(_, value)| written_keys(value))).collect()
        }
        TomlData::Array(items) => items.iter().flat_map(written_keys).collect(),
        _ => BTreeSet::new(),
    }
}

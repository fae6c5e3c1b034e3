//! Keys that are read and validated, and that nothing acts on yet: one row each, and none while everything is acted on.

use crate::problem::Location;
use crate::resolve::configuration::Configuration;

/// A key that the user wrote and nothing acts on yet.
#[derive(Debug, Clone, PartialEq)]
pub struct NotInForce {
    /// Its dotted path, as in `section.key` or `servers[0].key`.
    pub key: String,
    /// Where it is written.
    pub location: Location,
    /// What does not happen yet.
    pub why: &'static str,
}

/// Each key or table, and what does not happen yet. `servers[].X` stands for X of every server.
const NOT_YET: &[(&str, &str)] = &[];

impl Configuration {
    /// Every key that the user wrote and that nothing acts on yet, by path.
    pub fn not_yet_in_force(&self) -> Vec<NotInForce> {
        let written = self.written.values();
        let found = written.filter_map(|(path, location)| {
            let why = NOT_YET.iter().find(|(key, _)| covers(key, path))?.1;
            Some(NotInForce { key: path.to_owned(), location: location.clone(), why })
        });
        found.collect()
    }
}

/// Whether a row is about this path: the same key, or a table that holds it.
fn covers(row: &str, path: &str) -> bool {
    let path = without_indices(path);
    path.strip_prefix(row).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn without_indices(path: &str) -> String {
    let mut is_index = false;
    let kept = path.chars().filter(|&c| {
        is_index = (is_index || c == '[') && c != ']';
        !is_index || c == '['
    });
    kept.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_covers_its_key_and_what_lies_below_it() {
        assert!(covers("health", "health.interval"));
        assert!(covers("servers[].hooks", "servers[12].hooks.pre-start"));
        assert!(covers("start.max-concurrent", "start.max-concurrent"));
        assert!(!covers("health", "healthy.interval"));
        assert!(!covers("start.memory", "start.max-concurrent"));
    }
}

//! Renames options of an era, to imitate a build that llama-warden does not know.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Maps old names of options to new ones, with their dashes: `{"--ctx-size": "--context-length"}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Renames(BTreeMap<String, String>);

impl Renames {
    /// The old name of the argument `given`; `None` if it is an old name that was replaced.
    pub fn old_name<'a>(&'a self, given: &'a str) -> Option<&'a str> {
        match self.0.iter().find(|(_, new)| *new == given) {
            Some((old, _)) => Some(old),
            None if self.0.contains_key(given) => None,
            None => Some(given),
        }
    }

    /// The new name of the option `old`, which is `old` itself where it was not renamed.
    pub fn new_name<'a>(&'a self, old: &'a str) -> &'a str {
        self.0.get(old).map_or(old, String::as_str)
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Renames {
    fn from(names: [(&str, &str); N]) -> Self {
        Self(names.map(|(old, new)| (old.to_owned(), new.to_owned())).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renamed_option_has_its_new_name_alone() {
        let renames = Renames::from([("--ctx-size", "--context-length")]);
        assert_eq!(renames.old_name("--context-length"), Some("--ctx-size"));
        assert_eq!(renames.old_name("--ctx-size"), None);
        assert_eq!(renames.old_name("--port"), Some("--port"));
        assert_eq!(renames.new_name("--ctx-size"), "--context-length");
        assert_eq!(renames.new_name("-c"), "-c");
    }
}

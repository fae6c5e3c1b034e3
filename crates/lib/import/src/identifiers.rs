//! Ids of servers for names that may have any characters.

use std::collections::BTreeSet;

/// The longest id.
const LONGEST: usize = 64;

/// Gives each name an id of its own.
#[derive(Debug, Default)]
pub(crate) struct IdMaker {
    taken: BTreeSet<String>,
}

impl IdMaker {
    /// The name itself where it is an id; otherwise one that resembles it.
    pub(crate) fn id_for(&mut self, name: &str) -> String {
        let plain: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' })
            .collect();
        let plain = plain.trim_matches(|c| matches!(c, '-' | '.'));
        let plain = if plain.is_empty() { "model" } else { &plain[..plain.len().min(LONGEST)] };
        let mut id = plain.to_owned();
        let mut number = 1;
        while !self.taken.insert(id.clone()) {
            number += 1;
            let end = format!("-{number}");
            id = format!("{}{end}", &plain[..plain.len().min(LONGEST - end.len())]);
        }
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_an_id_of_its_own() {
        let mut ids = IdMaker::default();
        let long = "x".repeat(80);
        let made: Vec<_> =
            ["a.b-c", "org/name:tag", "org name:tag", "", "…", &long, &long].map(|name| ids.id_for(name)).into();
        let expected = ["a.b-c", "org-name-tag", "org-name-tag-2", "model", "model-2", &long[..64]];
        assert_eq!(made[..6], expected);
        assert_eq!(made[6], format!("{}-2", &long[..62]));
    }
}

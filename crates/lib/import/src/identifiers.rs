//! Ids of servers for names that may have any characters, and the names themselves, each of which means one server.

use std::collections::{BTreeMap, BTreeSet};

use crate::document::DocumentWriter;

/// The longest id.
const LONGEST: usize = 64;

/// The longest name by which a request can ask for a model.
const LONGEST_NAME: usize = 256;

/// Gives each name an id of its own.
#[derive(Debug, Default)]
pub(crate) struct IdMaker {
    taken: BTreeSet<String>,
}

impl IdMaker {
    /// The ids of several names, in their order. A name that is an id stays one, wherever it stands.
    pub(crate) fn ids_for<'a>(&mut self, names: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
        let kept: Vec<bool> =
            names.clone().map(|name| plain(name) == name && self.taken.insert(name.to_owned())).collect();
        names.zip(kept).map(|(name, is_kept)| if is_kept { name.to_owned() } else { self.id_for(name) }).collect()
    }

    /// The name itself where it is an id; otherwise one that resembles it.
    pub(crate) fn id_for(&mut self, name: &str) -> String {
        let plain = plain(name);
        let mut id = plain.clone();
        let mut number = 1;
        while !self.taken.insert(id.clone()) {
            number += 1;
            let end = format!("-{number}");
            id = format!("{}{end}", &plain[..plain.len().min(LONGEST - end.len())]);
        }
        id
    }
}

/// An id that resembles a name.
fn plain(name: &str) -> String {
    let plain: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' }).collect();
    let plain = plain.trim_matches(|c| matches!(c, '-' | '.'));
    let plain = if plain.is_empty() { "model" } else { &plain[..plain.len().min(LONGEST)] };
    plain.to_owned()
}

/// The names by which requests ask for servers: ids, aliases and variants. Each means one server.
#[derive(Debug, Default)]
pub(crate) struct ServerNames {
    /// The place in the other file of the server that has a name.
    taken: BTreeMap<String, String>,
}

impl ServerNames {
    /// Takes an id, which no other server has.
    pub(crate) fn take_id(&mut self, id: &str, owner: &str) {
        self.taken.insert(id.to_owned(), owner.to_owned());
    }

    /// Keeps the names that the server at `owner` can have, each once. The others are left out; `place` is where they stand.
    pub(crate) fn take_all(
        &mut self,
        names: Vec<String>,
        owner: &str,
        place: &str,
        document: &mut DocumentWriter,
    ) -> Vec<String> {
        names.into_iter().filter(|name| self.take(name, owner, place, document)).collect()
    }

    /// Whether the server at `owner` gets a name that it does not have yet. One that it cannot have is left out.
    pub(crate) fn take(&mut self, name: &str, owner: &str, place: &str, document: &mut DocumentWriter) -> bool {
        let is_short = !name.is_empty() && name.len() <= LONGEST_NAME;
        if !is_short || name.trim() != name || name.contains(char::is_control) {
            let because =
                "no request can ask for it: a name has 1 to 256 bytes, no control characters and no blanks around it";
            document.leave_out(format!("{place}: {name:?}"), because);
            return false;
        }
        match self.taken.get(name) {
            None => {
                self.taken.insert(name.to_owned(), owner.to_owned());
                true
            }
            Some(first) => {
                if first != owner {
                    document.leave_out(
                        format!("{place}: {name}"),
                        format!("{first} has this name already; give it to one of them"),
                    );
                }
                false
            }
        }
    }

    /// Whether the server at `owner` has this name.
    pub(crate) fn has(&self, name: &str, owner: &str) -> bool {
        self.taken.get(name).is_some_and(|first| first == owner)
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

    #[test]
    fn a_name_that_is_an_id_stays_one_wherever_it_stands() {
        let names = ["org/x", "-a", "org-x", "a"];
        assert_eq!(IdMaker::default().ids_for(names.into_iter()), ["org-x-2", "a-2", "org-x", "a"]);
    }
}

//! Checks profiles: names, selectors that match no server, and the profile to start.

use std::collections::BTreeSet;

use llama_warden_events::ServerId;

use crate::file::selector::Selector;
use crate::file::toml_tree::{TomlData, TomlNode};
use crate::problem::{ConfigProblem, Location, SHOWN};
use crate::resolve::cross_checks::CrossChecker;
use crate::resolve::derived_id::derived_id;
use llama_warden_located_toml::suggestion;

/// The servers that profiles can select.
#[derive(Debug)]
pub(crate) struct KnownServers<'a> {
    /// The id of each server, and its tier where that is known.
    servers: Vec<(&'a str, Option<&'a str>)>,
    undecided: Undecided,
}

/// The names that are unknown before the model files are read, or while the file has other problems. A selector without a
/// match is not reported then: it may match a server that is found later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Undecided {
    /// All servers and tiers are known.
    Nothing,
    /// Some servers have no tier yet.
    Tiers,
    /// More servers may be found.
    Servers,
}

/// What the servers of a file with problems are called.
#[derive(Debug, Clone, Default)]
pub(crate) struct WrittenNames {
    names: Vec<String>,
    /// The name of a server cannot be told.
    is_open: bool,
}

impl WrittenNames {
    /// The names in a tree, as far as they can be read: an id that cannot be used counts too.
    pub(crate) fn of(user: &TomlNode) -> Self {
        let mut all = Self::default();
        let TomlData::Table(user) = &user.data else { return all };
        let tables = match user.get("servers").map(|(_, servers)| servers) {
            Some(TomlNode { data: TomlData::Array(tables), .. }) => tables.as_slice(),
            Some(other) => std::slice::from_ref(other),
            None => &[],
        };
        for table in tables {
            let TomlData::Table(table) = &table.data else { continue };
            match (table.get("id").map(|(_, id)| &id.data), table.get("model").map(|(_, model)| &model.data)) {
                (Some(TomlData::String(id)), _) => all.names.push(id.clone()),
                (Some(TomlData::Integer(id)), _) => all.names.push(id.to_string()),
                (None, Some(TomlData::String(model))) => {
                    all.names.extend(derived_id(model).map(|id| id.to_string()));
                }
                _ => all.is_open = true,
            }
        }
        all
    }
}

impl<'a> KnownServers<'a> {
    /// These servers, and those that are written and not among them.
    pub(crate) fn new(
        mut servers: Vec<(&'a str, Option<&'a str>)>,
        written: &'a WrittenNames,
        undecided: Undecided,
    ) -> Self {
        let known: BTreeSet<&str> = servers.iter().map(|(id, _)| *id).collect();
        let lost: Vec<_> = written.names.iter().map(String::as_str).filter(|name| !known.contains(name)).collect();
        let at_least = match (written.is_open, lost.is_empty()) {
            (true, _) => Undecided::Servers,
            (false, false) => Undecided::Tiers,
            (false, true) => Undecided::Nothing,
        };
        servers.extend(lost.into_iter().map(|name| (name, None)));
        Self { servers, undecided: undecided.max(at_least) }
    }

    /// The ids, as far as they are known.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &'a str> {
        self.servers.iter().map(|(id, _)| *id)
    }

    /// Whether more servers may be found.
    pub(crate) fn may_grow(&self) -> bool {
        self.undecided == Undecided::Servers
    }

    /// Whether a selector certainly matches no server.
    fn lacks(&self, selector: &Selector) -> bool {
        let undecided = match self.undecided {
            Undecided::Nothing => false,
            Undecided::Tiers => matches!(selector, Selector::Tier(_)),
            Undecided::Servers => true,
        };
        let matcher = selector.matcher();
        !undecided && !self.servers.iter().any(|(id, tier)| matcher.matches(id, *tier))
    }
}

/// The problem of a profile that is not configured, with the nearest known name.
pub(crate) fn unknown<'a>(location: &Location, name: &str, known: impl Iterator<Item = &'a str>) -> ConfigProblem {
    let help = suggestion(name, known).unwrap_or_else(|| "declare it as a table [profiles.NAME]".to_owned());
    ConfigProblem::error(location, format!("there is no profile `{name}`"), help)
}

impl CrossChecker<'_> {
    /// Checks the name and the members of every profile, and that the profile to start exists.
    pub(crate) fn profiles(&mut self, known: &KnownServers<'_>) {
        let file = self.file;
        let empty = Default::default();
        let profiles = file.profiles.as_ref().map_or(&empty, |profiles| &profiles.value);
        for (name, profile) in profiles {
            if !ServerId::new(name).is_ok_and(|name| !name.is_canary()) {
                let message = format!("`{name}` is not the name of a profile");
                self.refuse(&profile.location, message, "a name is 1 to 64 letters, digits, `.`, `_` and `-`");
            }
            match &profile.value.servers {
                Some(servers) if servers.value.is_empty() => {
                    let message = format!("profile `{name}` has no servers");
                    self.refuse(&servers.location, message, "name at least one id or glob, or remove the profile");
                }
                Some(servers) => {
                    let owner = format!("profile `{name}`");
                    servers.value.iter().for_each(|at| self.selector(&owner, &at.value, &at.location, known));
                }
                None if self.written.contains(&format!("profiles.{name}.servers")) => {}
                None => {
                    let message = format!("profile `{name}` has no key `servers`");
                    self.refuse(&profile.location, message, "add servers = [\"…\"] with ids or globs");
                }
            }
        }
        if let Some(active) = file.daemon.as_ref().and_then(|daemon| daemon.value.profile.as_ref())
            && !active.value.is_empty()
            && !profiles.contains_key(&active.value)
        {
            self.problems.push(unknown(&active.location, &active.value, profiles.keys().map(String::as_str)));
        }
    }

    /// Reports a selector that certainly matches no server. `owner` is what has it, such as "profile `p`".
    pub(crate) fn selector(&mut self, owner: &str, selector: &Selector, at: &Location, known: &KnownServers<'_>) {
        if !known.lacks(selector) {
            return;
        }
        let (message, help) = match selector {
            Selector::Id(name) if selector.is_plain() => {
                // Each suggestion compares the name with every id, and the later problems are not shown.
                let ids = known.servers.iter().map(|(id, _)| *id);
                let near = if self.problems.len() < SHOWN { suggestion(name, ids) } else { None };
                let help = near.unwrap_or_else(|| "add a [[servers]] table for it".to_owned());
                (format!("{owner} names the unknown server `{name}`"), help)
            }
            Selector::Id(glob) => {
                let help = "write a glob that matches at least one id".to_owned();
                (format!("{owner}: no server matches `{glob}`"), help)
            }
            Selector::Tier(glob) => {
                let help = "set the key `tier` of the servers that are meant".to_owned();
                (format!("{owner}: no server has a tier like `{glob}`"), help)
            }
        };
        self.refuse(at, message, help);
    }
}

//! Profiles: which servers a set means, and whether it means any.

use llama_warden_events::ServerId;
use schemars::{Schema, SchemaGenerator, json_schema};

use crate::check::Checker;
use crate::problem::{Location, Problem};
use crate::read::{At, Reader, Value, table};
use crate::suggest::suggestion;
use crate::tree::{Data, Node};
use crate::value::Pattern;

/// Names servers of a profile.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Selector {
    /// By id, or by a glob over ids.
    Id(String),
    /// By a glob over tiers.
    Tier(String),
}

table! {
    /// Servers by tier.
    ByTier {
        /// A glob over the tiers of the servers.
        "tier" => tier: Pattern,
    }
}

impl Value for Selector {
    const EXPECTED: &'static str = "an id, a glob, or { tier = \"glob\" }";

    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        match &node.data {
            Data::String(_) => Pattern::read(node, reader).map(|pattern| Self::Id(pattern.0)),
            Data::Table(table) => {
                let by_tier = ByTier::read(node, reader)?;
                if table.is_empty() {
                    reader.refuse(node, "names no tier", "write { tier = \"Q4_K_*\" }");
                }
                by_tier.tier.map(|tier| Self::Tier(tier.value.0))
            }
            _ => {
                reader.mismatch::<Self>(node);
                None
            }
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let text = Pattern::schema(generator);
        let by_tier = ByTier::schema(generator);
        json_schema!({ "anyOf": [text, by_tier] })
    }
}

impl Selector {
    /// Whether it means this server.
    pub(crate) fn matches(&self, id: &ServerId, tier: Option<&str>) -> bool {
        match self {
            Self::Id(glob) => matches_glob(glob, id.as_str()),
            Self::Tier(glob) => tier.is_some_and(|tier| matches_glob(glob, tier)),
        }
    }

    fn is_plain(&self) -> bool {
        matches!(self, Self::Id(text) if !text.contains(['*', '?', '[', '{', '\\', '!']))
    }
}

/// The servers that profiles can mean.
#[derive(Debug)]
pub(crate) struct Known<'a> {
    /// Ids and tiers.
    pub(crate) servers: Vec<(&'a ServerId, Option<&'a str>)>,
    pub(crate) open: Open,
}

/// What cannot be known before the model files are looked at, or while the file has other problems. A selector of that
/// kind may mean what is not there yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Open {
    /// Nothing: what matches no server means none.
    Nothing,
    /// Tiers of known servers.
    Tiers,
    /// Whole servers.
    Servers,
}

impl Known<'_> {
    /// Whether a selector means no server, for sure.
    fn lacks(&self, selector: &Selector) -> bool {
        let undecided = match self.open {
            Open::Nothing => false,
            Open::Tiers => matches!(selector, Selector::Tier(_)),
            Open::Servers => true,
        };
        !undecided && !self.servers.iter().any(|(id, tier)| selector.matches(id, *tier))
    }
}

/// Reading has refused globs that do not compile.
fn matches_glob(glob: &str, text: &str) -> bool {
    globset::Glob::new(glob).is_ok_and(|glob| glob.compile_matcher().is_match(text))
}

/// Why no profile of this name can be taken.
pub(crate) fn unknown<'a>(location: &Location, name: &str, known: impl Iterator<Item = &'a str>) -> Problem {
    let problem = Problem::error(location, format!("there is no profile `{name}`"));
    match suggestion(name, known) {
        Some(help) => problem.help(help),
        None => problem.help("declare it as a table [profiles.NAME]"),
    }
}

impl Checker<'_> {
    /// Names, members and the one to start.
    pub(crate) fn profiles(&mut self, known: &Known<'_>) {
        let file = self.file;
        let empty = Default::default();
        let profiles = file.profiles.as_ref().map_or(&empty, |profiles| &profiles.value);
        for (name, profile) in profiles {
            if ServerId::new(name).is_err() {
                let problem = Problem::error(&profile.location, format!("`{name}` is not the name of a profile"));
                self.problems.push(problem.help("a name is 1 to 64 letters, digits, `.`, `_` and `-`"));
            }
            match &profile.value.servers {
                Some(servers) if servers.value.is_empty() => {
                    let problem = Problem::error(&servers.location, format!("profile `{name}` has no servers"));
                    self.problems.push(problem.help("name at least one id or glob, or remove the profile"));
                }
                Some(servers) => servers.value.iter().for_each(|selector| self.selector(name, selector, known)),
                None if self.written.contains(&format!("profiles.{name}.servers")) => {}
                None => {
                    let problem = Problem::error(&profile.location, format!("profile `{name}` has no key `servers`"));
                    self.problems.push(problem.help("add servers = [\"…\"] with ids or globs"));
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

    fn selector(&mut self, profile: &str, selector: &At<Selector>, known: &Known<'_>) {
        if !known.lacks(&selector.value) {
            return;
        }
        let problem = match &selector.value {
            Selector::Id(name) if selector.value.is_plain() => {
                let ids = known.servers.iter().map(|(id, _)| id.as_str());
                let help = suggestion(name, ids).unwrap_or_else(|| "add a [[servers]] table for it".into());
                Problem::error(&selector.location, format!("profile `{profile}` names the unknown server `{name}`"))
                    .help(help)
            }
            Selector::Id(glob) => {
                let problem =
                    Problem::error(&selector.location, format!("profile `{profile}`: no server matches `{glob}`"));
                problem.help("write a glob that matches at least one id")
            }
            Selector::Tier(glob) => {
                let problem = Problem::error(
                    &selector.location,
                    format!("profile `{profile}`: no server has a tier like `{glob}`"),
                );
                problem.help("set the key `tier` of the servers that are meant")
            }
        };
        self.problems.push(problem);
    }
}

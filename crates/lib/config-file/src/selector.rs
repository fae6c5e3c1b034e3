//! How a profile names servers: by id, by a glob over ids, or by a glob over tiers.

use globset::{Glob, GlobMatcher};
use schemars::{Schema, SchemaGenerator, json_schema};

use crate::reader::{ConfigValue, ValueReader, table};
use crate::toml_tree::{TomlData, TomlNode};
use crate::values::GlobPattern;

/// Names servers of a profile.
#[derive(Debug, Clone, PartialEq)]
pub enum Selector {
    /// By id, or by a glob over ids.
    Id(String),
    /// By a glob over tiers.
    Tier(String),
}

table! {
    /// Servers by tier.
    ByTier {
        /// A glob over the tiers of the servers.
        "tier" => tier: GlobPattern,
    }
}

impl ConfigValue for Selector {
    const EXPECTED: &'static str = "an id, a glob, or { tier = \"glob\" }";

    fn read(node: &TomlNode, reader: &mut ValueReader) -> Option<Self> {
        match &node.data {
            TomlData::String(_) => GlobPattern::read(node, reader).map(|pattern| Self::Id(pattern.0)),
            TomlData::Table(table) => {
                let by_tier = ByTier::read(node, reader)?;
                if table.is_empty() {
                    return reader.refuse(node, "names no tier", "write { tier = \"Q4_K_*\" }");
                }
                by_tier.tier.map(|tier| Self::Tier(tier.value.0))
            }
            _ => reader.mismatch(node, Self::EXPECTED),
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let text = GlobPattern::schema(generator);
        let by_tier = ByTier::schema(generator);
        json_schema!({ "anyOf": [text, by_tier] })
    }
}

/// A selector with its glob compiled, which takes far longer than to match a server.
#[derive(Debug)]
pub enum SelectorMatcher<'a> {
    /// The server of this id.
    Id(&'a str),
    /// The servers whose ids match.
    Ids(GlobMatcher),
    /// The servers whose tiers match.
    Tiers(GlobMatcher),
    /// A glob that does not compile; reading has refused it.
    Nothing,
}

impl SelectorMatcher<'_> {
    /// Whether it means this server.
    pub fn matches(&self, id: &str, tier: Option<&str>) -> bool {
        match self {
            Self::Id(name) => id == *name,
            Self::Ids(glob) => glob.is_match(id),
            Self::Tiers(glob) => tier.is_some_and(|tier| glob.is_match(tier)),
            Self::Nothing => false,
        }
    }
}

impl Selector {
    /// The selector, ready to match many servers.
    pub fn matcher(&self) -> SelectorMatcher<'_> {
        let compiled = |glob: &str| Glob::new(glob).ok().map(|glob| glob.compile_matcher());
        match self {
            Self::Id(name) if self.is_plain() => SelectorMatcher::Id(name),
            Self::Id(glob) => compiled(glob).map_or(SelectorMatcher::Nothing, SelectorMatcher::Ids),
            Self::Tier(glob) => compiled(glob).map_or(SelectorMatcher::Nothing, SelectorMatcher::Tiers),
        }
    }

    /// Whether it is an id, and no glob.
    pub fn is_plain(&self) -> bool {
        matches!(self, Self::Id(text) if !text.contains(['*', '?', '[', '{', '\\', '!']))
    }
}

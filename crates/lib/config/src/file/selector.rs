//! How a profile names servers: by id, by a glob over ids, or by a glob over tiers.

use llama_warden_events::ServerId;
use schemars::{Schema, SchemaGenerator, json_schema};

use crate::file::reader::{ConfigValue, ValueReader, table};
use crate::file::toml_tree::{TomlData, TomlNode};
use crate::file::values::GlobPattern;

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

impl Selector {
    /// Whether it means this server.
    pub(crate) fn matches(&self, id: &ServerId, tier: Option<&str>) -> bool {
        match self {
            Self::Id(glob) => matches_glob(glob, id.as_str()),
            Self::Tier(glob) => tier.is_some_and(|tier| matches_glob(glob, tier)),
        }
    }

    pub(crate) fn is_plain(&self) -> bool {
        matches!(self, Self::Id(text) if !text.contains(['*', '?', '[', '{', '\\', '!']))
    }
}

/// Reading has refused globs that do not compile.
fn matches_glob(glob: &str, text: &str) -> bool {
    globset::Glob::new(glob).is_ok_and(|glob| glob.compile_matcher().is_match(text))
}

//! The file format of a flag dialect, as serde and JSON Schema see it. What serde cannot check is checked in `dialect`.

use std::collections::{BTreeMap, BTreeSet};

use llama_warden_config::FlagValue;
use llama_warden_plugin_files::BuildRange;
use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

/// A flag dialect: how the options that a user means are spelled by some builds of llama-server.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "Flag dialect")]
pub(crate) struct DialectFile {
    /// Its name, 1 to 64 of `A-Z a-z 0-9 . _ -`. `llama-server` replaces the built-in dialect, which lies behind all others.
    #[schemars(with = "String", regex(pattern = r"^[A-Za-z0-9._-]{1,64}$"))]
    pub(crate) name: Spanned<String>,
    /// One line for people.
    #[serde(default)]
    pub(crate) description: String,
    /// The build numbers that it fits. Not judged where a build says no number, or 1, as those in llama-cpp-python do.
    #[schemars(with = "Option<BuildRange>")]
    pub(crate) builds: Option<Spanned<BuildRange>>,
    /// Long options that the build's `--help` has to list, all of them.
    #[serde(default)]
    pub(crate) help_lists: Vec<String>,
    /// Long options that the build's `--help` must not list, none of them.
    #[serde(default)]
    pub(crate) help_lacks: Vec<String>,
    /// Options that some build has, by long name without dashes; those of the dialect behind need not be repeated.
    #[serde(default)]
    pub(crate) known: BTreeSet<OptionName>,
    /// Groups of names of one and the same option. The first that the build lists is passed.
    #[serde(default)]
    pub(crate) synonyms: Vec<Vec<OptionName>>,
    /// Options with rules of their own; the rules of the dialect behind come after them.
    #[serde(default)]
    pub(crate) option: Vec<OptionRules>,
    /// Options with what has to be passed for them; checked when the dialect is loaded.
    #[serde(default)]
    pub(crate) example: Vec<DialectExample>,
}

/// The rules of one option.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct OptionRules {
    /// Its long name, without dashes.
    pub(crate) name: OptionName,
    /// Tried in order; the first whose conditions all hold is taken.
    #[serde(rename = "rule")]
    pub(crate) rules: Vec<DialectRule>,
}

/// How an option is spelled where some conditions hold.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct DialectRule {
    /// Holds for this value of the option; absent means any.
    pub(crate) value: Option<ValuePattern>,
    /// Holds where `--help` lists all of these.
    #[serde(default)]
    pub(crate) when_lists: Vec<OptionName>,
    /// Holds where `--help` lists the option with a value (true), or as a bare switch (false).
    pub(crate) when_takes_value: Option<bool>,
    /// Holds where these other options are set to these values.
    #[serde(default)]
    pub(crate) when_set: BTreeMap<OptionName, ValuePattern>,
    /// What is passed; nothing where it is empty. `{value}` stands for the value that the user gave.
    #[schemars(with = "Vec<String>")]
    pub(crate) spell: Spanned<Vec<String>>,
    /// Why, for people.
    pub(crate) because: String,
}

/// Options with what has to be passed for them.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct DialectExample {
    /// Lines of `--help`, from their beginning to the value's placeholder: `-c, --ctx-size N`.
    pub(crate) help: Vec<String>,
    /// The options that the user sets.
    pub(crate) flags: BTreeMap<OptionName, ExampleValue>,
    /// What is passed for all of them, in the alphabetical order of their names.
    #[schemars(with = "Vec<String>")]
    pub(crate) spell: Spanned<Vec<String>>,
}

/// A long option's name without dashes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct OptionName(pub(crate) String);

/// A value in a rule; the text `*` stands for any.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum ValuePattern {
    Switch(bool),
    Integer(i64),
    Text(String),
}

/// A value as `[flags]` takes it.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum ExampleValue {
    Switch(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    Many(Vec<String>),
}

impl ValuePattern {
    pub(crate) fn matches(&self, value: &FlagValue) -> bool {
        match (self, value) {
            (Self::Text(pattern), _) if pattern == "*" => true,
            (Self::Text(pattern), FlagValue::Text(value)) => pattern == value,
            (Self::Switch(pattern), FlagValue::Switch(value)) => pattern == value,
            (Self::Integer(pattern), FlagValue::Integer(value)) => pattern == value,
            _ => false,
        }
    }
}

impl From<ExampleValue> for FlagValue {
    fn from(value: ExampleValue) -> Self {
        match value {
            ExampleValue::Switch(on) => Self::Switch(on),
            ExampleValue::Integer(number) => Self::Integer(number),
            ExampleValue::Float(number) => Self::Float(number),
            ExampleValue::Text(text) => Self::Text(text),
            ExampleValue::Many(texts) => Self::Many(texts),
        }
    }
}

impl JsonSchema for OptionName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "OptionName".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$" })
    }
}

impl TryFrom<String> for OptionName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(is_part) {
            Ok(Self(name))
        } else {
            Err(format!("`{name}` is not the long name of an option without its dashes"))
        }
    }
}

/// The JSON Schema of a flag dialect.
pub fn dialect_schema() -> schemars::Schema {
    schemars::schema_for!(DialectFile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_describes_every_key_and_allows_no_other() {
        let schema = dialect_schema().to_value();
        let keys: Vec<_> = schema["properties"].as_object().expect("an object").keys().map(String::as_str).collect();
        let documented =
            ["builds", "description", "example", "help-lacks", "help-lists", "known", "name", "option", "synonyms"];
        assert_eq!(keys, documented);
        assert_eq!(schema["required"], serde_json::json!(["name"]));
        assert_eq!(schema["additionalProperties"], false);
        for (key, property) in schema["properties"].as_object().expect("an object") {
            assert!(property["description"].is_string(), "`{key}` is not described");
        }
    }
}

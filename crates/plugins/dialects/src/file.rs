//! The file format of a flag dialect, for serde and JSON Schema. Doc comments are the descriptions in the schema. `load` checks
//! what serde cannot.

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
    /// Its name, 1 to 64 of `A-Z a-z 0-9 . _ -`. `llama-server` replaces the built-in dialect, the fallback of all others.
    #[schemars(with = "String", regex(pattern = r"^[A-Za-z0-9._-]{1,64}$"))]
    pub(crate) name: Spanned<String>,
    /// One line about it.
    #[serde(default)]
    pub(crate) description: String,
    /// The build numbers that it fits. Not checked if a build prints no number, or 1, as those in llama-cpp-python do.
    #[schemars(with = "Option<BuildRange>")]
    pub(crate) builds: Option<Spanned<BuildRange>>,
    /// Long options that the build's `--help` must list, all of them.
    #[serde(default)]
    pub(crate) help_lists: Vec<String>,
    /// Long options that the build's `--help` must not list, none of them.
    #[serde(default)]
    pub(crate) help_lacks: Vec<String>,
    /// Options that some build has, by long name without dashes: a build that does not list one drops it without an error.
    /// Those of the fallback need not be repeated.
    #[serde(default)]
    pub(crate) known: BTreeSet<OptionName>,
    /// Groups of names of the same option. The first that the build lists is passed.
    #[serde(default)]
    pub(crate) synonyms: Vec<Vec<OptionName>>,
    /// Options that take several values by being repeated, where the placeholder in `--help` is no list.
    #[serde(default)]
    pub(crate) accumulates: BTreeSet<OptionName>,
    /// Known options whose value is a path. Of an option that is not known, the placeholder in `--help` says it.
    #[serde(default)]
    pub(crate) paths: BTreeSet<OptionName>,
    /// Those of the options whose value is a path that a build reads when it starts: what is there must exist.
    #[serde(default)]
    pub(crate) reads: BTreeSet<OptionName>,
    /// Options with rules of their own; the rules of the fallback are tried after them.
    #[serde(default)]
    pub(crate) option: Vec<OptionRules>,
    /// Options with the arguments that must be passed for them; checked when the dialect is loaded.
    #[serde(default)]
    pub(crate) example: Vec<DialectExample>,
}

/// The rules of one option.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct OptionRules {
    /// Its long name, without dashes.
    pub(crate) name: OptionName,
    /// Tried in order; the first whose conditions all hold decides.
    #[serde(rename = "rule")]
    pub(crate) rules: Vec<DialectRule>,
}

/// The arguments for an option if some conditions hold.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct DialectRule {
    /// Condition: the option has this value. Absent means any value.
    pub(crate) value: Option<ValuePattern>,
    /// Condition: `--help` lists all of these options.
    #[serde(default)]
    pub(crate) when_lists: Vec<OptionName>,
    /// Condition: `--help` lists the option with a value (true), or as a bare switch (false).
    pub(crate) when_takes_value: Option<bool>,
    /// Condition: these other options are set to these values.
    #[serde(default)]
    pub(crate) when_set: BTreeMap<OptionName, ValuePattern>,
    /// The arguments to pass; none if it is empty. `{value}` stands for the value that the user set.
    #[schemars(with = "Vec<String>")]
    pub(crate) spell: Spanned<Vec<String>>,
    /// The reason, shown by `llama-warden argv`.
    pub(crate) because: String,
}

/// Options with the arguments that must be passed for them.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct DialectExample {
    /// Lines of `--help`, each from its start to the value's placeholder: `-c, --ctx-size N`.
    pub(crate) help: Vec<String>,
    /// The options that the user sets.
    pub(crate) flags: BTreeMap<OptionName, ExampleValue>,
    /// The arguments for all of them, in the alphabetical order of their names.
    #[schemars(with = "Vec<String>")]
    pub(crate) spell: Spanned<Vec<String>>,
}

/// A long option's name without dashes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct OptionName(pub(crate) String);

/// A value in a condition; the text `*` matches any value.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum ValuePattern {
    Switch(bool),
    Integer(i64),
    Text(String),
}

/// A value as in `[flags]` of the configuration.
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
        let documented = [
            "accumulates",
            "builds",
            "description",
            "example",
            "help-lacks",
            "help-lists",
            "known",
            "name",
            "option",
            "paths",
            "reads",
            "synonyms",
        ];
        assert_eq!(keys, documented);
        assert_eq!(schema["required"], serde_json::json!(["name"]));
        assert_eq!(schema["additionalProperties"], false);
        for (key, property) in schema["properties"].as_object().expect("an object") {
            assert!(property["description"].is_string(), "`{key}` is not described");
        }
    }
}

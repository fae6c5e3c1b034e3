//! Flag dialects: data files that say how an option that the user means is spelled by the build that is launched.
//!
//! `config/dialects/llama-server.toml` documents the format and is built in. A dialect never decides by a build's number:
//! builds inside llama-cpp-python all say 1, while the options that `--help` lists tell the era.

use std::collections::{BTreeMap, BTreeSet};

use llama_warden_config::{FlagValue, Flags};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::help::{OptionList, Takes};

/// The dialect that is built in, as text.
pub const BUILT_IN: &str = include_str!("../../../config/dialects/llama-server.toml");

/// A dialect: what options exist anywhere, which are the same, and which are spelled by rules.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Dialect {
    /// Its name, for people.
    name: String,
    /// Options that some build has, by long name without dashes.
    known: BTreeSet<OptionName>,
    /// Groups of names of one and the same option.
    #[serde(default)]
    synonyms: Vec<Vec<OptionName>>,
    /// Options with rules of their own.
    #[serde(default, rename = "option")]
    options: Vec<OptionRules>,
}

/// The rules of one option.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct OptionRules {
    /// Its long name, without dashes.
    name: OptionName,
    /// Tried in order; the first whose conditions all hold is taken.
    #[serde(rename = "rule")]
    rules: Vec<Rule>,
}

/// How an option is spelled where some conditions hold.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rule {
    /// Holds for this value of the option; absent means any.
    value: Option<Pattern>,
    /// Holds where `--help` lists all of these.
    #[serde(default)]
    when_lists: Vec<OptionName>,
    /// Holds where `--help` lists the option with a value (true), or as a bare switch (false).
    when_takes_value: Option<bool>,
    /// Holds where these other options are set to these values.
    #[serde(default)]
    when_set: BTreeMap<OptionName, Pattern>,
    /// What is passed; nothing where it is empty.
    pub spell: Vec<String>,
    /// Why, for people.
    pub because: String,
}

/// A long option's name without dashes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
struct OptionName(String);

/// A value in a rule; the text `*` stands for any.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Pattern {
    Switch(bool),
    Integer(i64),
    Text(String),
}

/// Why a text is no dialect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct DialectError {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

impl Dialect {
    /// Reads and checks a dialect in TOML.
    ///
    /// # Errors
    /// At the first place that is not as the format demands.
    pub fn parse(text: &str) -> Result<Self, DialectError> {
        toml::from_str(text).map_err(|error| {
            let before = text.get(..error.span().map_or(0, |span| span.start)).unwrap_or_default();
            let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
            DialectError {
                line: before.matches('\n').count() + 1,
                column: before[line_start..].chars().count() + 1,
                message: error.message().to_owned(),
            }
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The dialect that is built in.
    ///
    /// # Errors
    /// Never in a build that passed its tests.
    pub fn built_in() -> Result<Self, DialectError> {
        Self::parse(BUILT_IN)
    }

    /// The first rule for `option` with `value` that holds for a build that lists `listed`, among `flags`.
    pub fn rule(&self, option: &str, value: &FlagValue, listed: &OptionList, flags: &Flags) -> Option<&Rule> {
        let mut rules = self.options.iter().filter(|rules| rules.name.0 == option).flat_map(|rules| &rules.rules);
        rules.find(|rule| rule.holds(option, value, listed, flags))
    }

    /// Whether `option` has rules of its own.
    pub fn has_rules(&self, option: &str) -> bool {
        self.options.iter().any(|rules| rules.name.0 == option)
    }

    /// Other names of `option`.
    pub fn synonyms<'a>(&'a self, option: &'a str) -> impl Iterator<Item = &'a str> {
        let groups = self.synonyms.iter().filter(move |group| group.iter().any(|name| name.0 == option));
        groups.flatten().map(|name| name.0.as_str()).filter(move |name| *name != option)
    }

    /// Whether some build has `option`.
    pub fn knows(&self, option: &str) -> bool {
        self.known_names().any(|name| name == option)
    }

    /// Every option that some build has.
    pub fn known_names(&self) -> impl Iterator<Item = &str> {
        let names = self.known.iter().chain(self.synonyms.iter().flatten());
        names.chain(self.options.iter().map(|rules| &rules.name)).map(|name| name.0.as_str())
    }
}

impl Rule {
    fn holds(&self, option: &str, value: &FlagValue, listed: &OptionList, flags: &Flags) -> bool {
        let takes_value = listed.takes(option).map(|takes| takes != Takes::Nothing);
        self.value.as_ref().is_none_or(|pattern| pattern.matches(value))
            && self.when_lists.iter().all(|name| listed.lists(&name.0))
            && self.when_takes_value.is_none_or(|wanted| takes_value == Some(wanted))
            && self
                .when_set
                .iter()
                .all(|(name, pattern)| flags.get(&name.0).is_some_and(|flag| pattern.matches(&flag.value)))
    }
}

impl Pattern {
    fn matches(&self, value: &FlagValue) -> bool {
        match (self, value) {
            (Self::Text(pattern), _) if pattern == "*" => true,
            (Self::Text(pattern), FlagValue::Text(value)) => pattern == value,
            (Self::Switch(pattern), FlagValue::Switch(value)) => pattern == value,
            (Self::Integer(pattern), FlagValue::Integer(value)) => pattern == value,
            _ => false,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn the_built_in_dialect_is_valid_and_knows_every_option_of_every_recorded_build() {
        let dialect = Dialect::built_in().expect("the built-in dialect is valid");
        let builds = fixtures::HELP_OPTION_COUNTS.iter().map(|(build, _)| *build).chain(["2023-12-py0.2.26"]);
        for build in builds {
            let list = OptionList::parse(&fixtures::help(build));
            let unknown: Vec<&str> = list.names().filter(|name| !dialect.knows(name)).collect();
            assert!(unknown.is_empty(), "{build}: {unknown:?}");
        }
    }

    #[test]
    fn a_mistake_is_named_with_its_place() {
        let cases = [
            ("known = []\n[[option]]\nname = \"--b\"\nrule = []\n", 3, 8, "`--b` is not the long name"),
            ("known = []\nsynonym = []\n", 2, 1, "unknown field `synonym`"),
            ("known = []\n[[option]]\nname = \"a\"\n[[option.rule]]\nspell = []\n", 4, 1, "missing field `because`"),
            ("known = [\n", 1, 10, "unclosed array"),
        ];
        for (text, line, column, message) in cases {
            let error = Dialect::parse(text).expect_err("must be refused");
            assert_eq!((error.line, error.column), (line, column), "{error}");
            assert!(error.message.contains(message), "{error}");
        }
    }

    #[test]
    fn the_first_rule_whose_conditions_all_hold_is_taken() {
        let dialect = Dialect::parse(
            r#"
            name = "test"
            known = ["a", "b"]
            [[option]]
            name = "a"
            rule = [
              { value = 1, when-set = { b = "*" }, spell = ["--both"], because = "" },
              { value = 1, when-lists = ["new"], when-takes-value = true, spell = ["--new"], because = "" },
              { value = 1, spell = ["--one"], because = "" },
            ]
            "#,
        )
        .expect("valid");
        let spelled = |value: i64, help: &str, flags: &Flags| {
            let rule = dialect.rule("a", &FlagValue::Integer(value), &OptionList::parse(help), flags);
            rule.map(|rule| rule.spell.join(" "))
        };
        let b = Flags::from([("b".to_owned(), fixtures::user_flag(FlagValue::Switch(true)))]);
        let cases = [
            (1, "--a N  x\n--new  x", &b, Some("--both")),
            (1, "--a N  x\n--new  x", &Flags::new(), Some("--new")),
            (1, "--a  x\n--new  x", &Flags::new(), Some("--one")),
            (1, "--a N  x", &Flags::new(), Some("--one")),
            (2, "--a N  x\n--new  x", &b, None),
        ];
        for (value, help, flags, expected) in cases {
            assert_eq!(spelled(value, help, flags).as_deref(), expected, "{value} {help:?}");
        }
    }

    #[test]
    fn the_seed_flags_are_spelled_for_eras_whose_output_is_not_recorded() {
        let mut server = fixtures::server("seed");
        let integers = [("ctx-size", 32_768), ("n-gpu-layers", 99), ("batch-size", 512), ("ubatch-size", 256)];
        let switches = [("flash-attn", true), ("mmap", false), ("log-disable", true)];
        server.flags = integers
            .map(|(name, value)| (name, FlagValue::Integer(value)))
            .into_iter()
            .chain(switches.map(|(name, value)| (name, FlagValue::Switch(value))))
            .map(|(name, value)| (name.to_owned(), fixtures::user_flag(value)))
            .collect();
        let common = "-c, --ctx-size N  x\n-ngl, --n-gpu-layers N  x\n-b, --batch-size N  x\n-ub, --ubatch-size N  x\n";
        let today = "--ctx-size 32768 --n-gpu-layers 99 --batch-size 512 --ubatch-size 256 --flash-attn on";
        let cases = [
            // As measured: a CPU build of December 2023 lists neither GPU layers nor the two options that came later.
            (
                fixtures::help("2023-12-py0.2.26"),
                "--batch-size 512 --ctx-size 32768 --log-disable --no-mmap".to_owned(),
            ),
            // From 2025-08 to 2026-07 the switch takes a value and `--no-mmap` is still there.
            (
                format!("{common}-fa, --flash-attn [on|off|auto]  x\n--mmap, --no-mmap  x\n--log-disable  x\n"),
                format!("{today} --log-disable --no-mmap"),
            ),
            (
                format!("{common}-fa, --flash-attn [on|off|auto]  x\n-lm, --load-mode MODE  x\n--log-disable  x\n"),
                format!("{today} --load-mode none --log-disable"),
            ),
        ];
        for (help, expected) in cases {
            let binary = crate::BinaryProfile {
                path: "/bin/llama-server".into(),
                version: crate::Version::default(),
                options: Some(OptionList::parse(&help)),
            };
            let line = crate::plan(&server, &binary, &Dialect::built_in().expect("valid")).expect(&expected);
            let words: Vec<_> = line.arguments.iter().map(|word| word.to_string_lossy()).collect();
            let mut given: Vec<String> = Vec::new();
            // Behind model, host, port and alias; an option with its value, in alphabetical order.
            for word in &words {
                match given.last_mut() {
                    Some(last) if !word.starts_with("--") => last.push_str(&format!(" {word}")),
                    _ => given.push(word.to_string()),
                }
            }
            given
                .retain(|option| !["--model", "--host", "--port", "--alias"].iter().any(|own| option.starts_with(own)));
            given.sort();
            let mut expected: Vec<String> =
                expected.split(" --").map(|option| format!("--{}", option.trim_start_matches("--"))).collect();
            expected.sort();
            assert_eq!(given, expected, "{help}");
        }
    }
}

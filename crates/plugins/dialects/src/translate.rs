//! Translates one option of the configuration into arguments for one build.
//!
//! The first that applies decides: a rule of the dialect, the build's help for the option's own name, the build's help for a
//! synonym. Otherwise an option that some build has is dropped, and one that no build has is an error.
//!
//! Invariant: an option that protects a server is passed or refused, never dropped.

use std::path::Path;

use llama_warden_config::{Flag, FlagOrigin, FlagValue, Flags, nearest};

use crate::dialect::Dialect;
use crate::flag_value::{PROTECTION_UNLISTED, as_written, protects, texts};
use crate::help::{ListForm, OptionList, ValueKind};
use crate::option_error::OptionError;
use crate::own_settings;

/// The result of translating one option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// Passed under its own name with its own value.
    Kept(Vec<String>),
    /// Passed in another way, or not passed because the build already behaves like that.
    Translated(SpellingChange),
    /// Not passed, because the build has nothing that corresponds to it.
    Dropped(SpellingChange),
}

/// The arguments that are passed instead of an option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SpellingChange {
    pub(crate) spelled: Vec<String>,
    /// The reason in words.
    pub(crate) because: String,
    /// The dialect whose rule or synonym said so; `None` if the help alone decided.
    pub(crate) dialect: Option<String>,
}

/// Translates options for one build, by what the build lists and what a dialect says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Translator<'a> {
    pub(crate) dialect: &'a Dialect,
    pub(crate) listed: &'a OptionList,
    /// All flags of the server after [`merge_names`]; rules may depend on other flags than their own.
    pub(crate) flags: &'a Flags,
    /// Relative paths are relative to it.
    pub(crate) directory: &'a Path,
}

/// Gives each option one name: `no-mmap = true` becomes `mmap = false` if the dialect has rules for `mmap`, and a default is
/// removed if the user set a synonym of it. An option that the user leaves to the build is removed, too.
pub(crate) fn merge_names(flags: &Flags, dialect: &Dialect) -> Flags {
    let mut merged = flags.clone();
    for (name, flag) in flags {
        let Some(positive) = name.strip_prefix("no-").filter(|positive| dialect.has_rules(positive)) else { continue };
        let value = match &flag.value {
            FlagValue::Switch(on) => FlagValue::Switch(!on),
            value if value.is_default() => value.clone(),
            _ => continue,
        };
        merged.remove(name);
        merged.insert(positive.to_owned(), Flag { value, origin: flag.origin });
    }
    let is_set_by_user = |name: &str| flags.get(name).is_some_and(|flag| flag.origin == FlagOrigin::User);
    let is_overridden = |name: &str| dialect.synonyms(name).iter().any(|synonym| is_set_by_user(synonym.item));
    merged.retain(|name, flag| flag.origin == FlagOrigin::User || !is_overridden(name));
    merged.retain(|_, flag| !flag.value.is_default());
    merged
}

/// Refuses values that are not one argument each, or that a server would read as an option.
pub(crate) fn check(name: &str, value: &FlagValue) -> Result<(), OptionError> {
    let refused = |detail: &str| Err(OptionError::new(name, detail));
    if let Some(detail) = own_settings::flag_problem(name) {
        return refused(&detail);
    }
    for text in texts(value) {
        if text.contains(['\0', '\n']) {
            return refused("its value contains a line end or a NUL byte");
        }
        // A negative number is a value, and llama-server reads it as one.
        if text.starts_with('-') && text.parse::<f64>().is_err() {
            return refused("its value would read as an option; pass it through `args` if it is meant");
        }
    }
    Ok(())
}

impl SpellingChange {
    /// A change that follows from the help text and no dialect.
    pub(crate) fn by_help(spelled: Vec<String>, because: &str) -> Self {
        Self { spelled, because: because.to_owned(), dialect: None }
    }
}

impl Spelling {
    /// The arguments to pass; empty for a dropped option.
    pub(crate) fn arguments(&self) -> &[String] {
        match self {
            Self::Kept(spelled) => spelled,
            Self::Translated(change) | Self::Dropped(change) => &change.spelled,
        }
    }

    /// The arguments to pass, without a copy.
    pub(crate) fn into_arguments(self) -> Vec<String> {
        match self {
            Self::Kept(spelled) => spelled,
            Self::Translated(change) | Self::Dropped(change) => change.spelled,
        }
    }
}

impl Translator<'_> {
    /// Translates an option that the user or a default sets.
    ///
    /// # Errors
    /// If neither the build nor the dialect knows the option, if its value does not fit, or if it protects and is not listed.
    pub(crate) fn spell(&self, name: &str, value: &FlagValue) -> Result<Spelling, OptionError> {
        check(name, value)?;
        let value = self.with_absolute_paths(name, value);
        match self.by_rules_or_help(name, &value)? {
            Some(spelling) => Ok(spelling),
            None => self.unlisted(name),
        }
    }

    /// Spells an option that the user set for a build whose help cannot be read. If `dialect` is the one that the user named, it
    /// decides as far as it can; the rest is passed as it is written.
    ///
    /// # Errors
    /// If its value does not fit in any build.
    pub(crate) fn spell_unread(&self, name: &str, value: &FlagValue, is_named: bool) -> Result<Spelling, OptionError> {
        check(name, value)?;
        let value = self.with_absolute_paths(name, value);
        if is_named && let Ok(Some(spelling)) = self.by_rules_or_help(name, &value) {
            return Ok(spelling);
        }
        let spelled = match &value {
            // Most switches have no negation in any build: they are off unless they are passed.
            FlagValue::Switch(false) if !name.starts_with("no-") && !self.dialect.knows(&format!("no-{name}")) => {
                return Ok(omitted("off without the switch"));
            }
            FlagValue::Many(texts) if !self.dialect.accumulates(name) => joined(name, texts, ','),
            value => as_written(name, value),
        };
        Ok(Spelling::Kept(spelled))
    }

    /// The doubt about an option that no build is known to have, where the build at hand does not say.
    pub(crate) fn doubt_unread(&self, name: &str) -> Option<OptionError> {
        let positive = name.strip_prefix("no-").unwrap_or(name);
        let is_known = self.dialect.knows(name) || self.dialect.knows(positive) || self.listed.lists(positive);
        (!is_known).then(|| self.unknown(name))
    }

    /// The value with each relative path made absolute: a server runs in the folder of the daemon.
    fn with_absolute_paths(&self, name: &str, value: &FlagValue) -> FlagValue {
        if !matches!(value, FlagValue::Text(_) | FlagValue::Many(_)) || !self.dialect.takes_path(name, self.listed) {
            return value.clone();
        }
        let absolute = |path: &str| {
            // An empty text is no path, and the build says what it makes of it.
            let is_relative = !path.is_empty() && !path.starts_with('/');
            if is_relative { self.directory.join(path).to_string_lossy().into_owned() } else { path.to_owned() }
        };
        let is_list = matches!(self.listed.list_form(name), Some(ListForm::Joined(',') | ListForm::Described(',')));
        let all = |text: &String| match is_list {
            true => text.split(',').map(absolute).collect::<Vec<_>>().join(","),
            false => absolute(text),
        };
        match value {
            FlagValue::Text(text) => FlagValue::Text(all(text)),
            FlagValue::Many(texts) => FlagValue::Many(texts.iter().map(all).collect()),
            value => value.clone(),
        }
    }

    /// Translates an option that llama-warden itself sets; `None` if neither the build nor the dialect has a way to pass it.
    pub(crate) fn spell_internal(&self, name: &str, value: &str) -> Option<Spelling> {
        // An error means that the help lists the option without a value. Such a help text is not reliable: say nothing.
        self.by_rules_or_help(name, &FlagValue::Text(value.to_owned())).ok().flatten()
    }

    /// Translates by a rule, by the option's own name, or by a synonym that the build lists.
    fn by_rules_or_help(&self, name: &str, value: &FlagValue) -> Result<Option<Spelling>, OptionError> {
        if let Some(rule) = self.dialect.rule(name, value, self.listed, self.flags) {
            let spelled = rule.item.spelled(value);
            // A rule may confirm the plain spelling, for example to win against a later rule. That is no translation.
            let has_own_name = spelled.first().is_some_and(|first| first.strip_prefix("--") == Some(name));
            if has_own_name && spelled == as_written(name, value) {
                return Ok(Some(Spelling::Kept(spelled)));
            }
            let (because, dialect) = (rule.item.because.clone(), Some(rule.dialect.to_owned()));
            return Ok(Some(Spelling::Translated(SpellingChange { spelled, because, dialect })));
        }
        if let Some(spelling) = self.by_help(name, value)? {
            return Ok(Some(spelling));
        }
        for synonym in self.dialect.synonyms(name) {
            if let Some(spelling) = self.by_help(synonym.item, value)? {
                let because = format!("this build calls it {}", synonym.item);
                let (spelled, dialect) = (spelling.into_arguments(), Some(synonym.dialect.to_owned()));
                return Ok(Some(Spelling::Translated(SpellingChange { spelled, because, dialect })));
            }
        }
        Ok(None)
    }

    /// Translates by what the help says of `name`; `None` if it lists neither the option nor its negation.
    fn by_help(&self, name: &str, value: &FlagValue) -> Result<Option<Spelling>, OptionError> {
        let is_negation_listed = self.listed.lists(&format!("no-{name}"));
        let spelling = match (value, self.listed.value_kind(name)) {
            (FlagValue::Switch(on), Some(ValueKind::OnOff)) => with_word(name, if *on { "on" } else { "off" }),
            (FlagValue::Switch(on), Some(ValueKind::ZeroOne)) => with_word(name, if *on { "1" } else { "0" }),
            (FlagValue::Switch(_), Some(ValueKind::Value)) => return Err(OptionError::new(name, "it takes a value")),
            (FlagValue::Switch(true), Some(ValueKind::Nothing)) => Spelling::Kept(as_written(name, value)),
            // The help of 2024 lists `--no-mmap` alone: a listed negation is enough to switch off ...
            (FlagValue::Switch(false), _) if is_negation_listed => Spelling::Kept(as_written(name, value)),
            (FlagValue::Switch(false), Some(ValueKind::Nothing)) => omitted("off without the switch"),
            // ... and says that the option is on by default.
            (FlagValue::Switch(true), None) if is_negation_listed => omitted("on without a switch in this build"),
            (FlagValue::Switch(_), Some(ValueKind::Number)) => {
                return Err(OptionError::new(
                    name,
                    "it takes a number; write one, or \"default\" to leave it to the build",
                ));
            }
            (FlagValue::Text(_) | FlagValue::Float(_), Some(ValueKind::Number)) => {
                match texts(value).iter().find_map(|text| self.listed.doubt_of(name, text)) {
                    Some(doubt) => return Err(OptionError::new(name, doubt)),
                    None => Spelling::Kept(as_written(name, value)),
                }
            }
            (FlagValue::Many(texts), Some(kind)) if kind != ValueKind::Nothing => {
                Spelling::Kept(self.spell_list(name, texts)?)
            }
            (_, Some(ValueKind::Nothing)) => {
                return Err(OptionError::new(name, format!("it takes no value in this build; write `{name} = true`")));
            }
            (_, Some(_)) => Spelling::Kept(as_written(name, value)),
            (_, None) => return Ok(None),
        };
        Ok(Some(spelling))
    }

    /// Spells several values as the build takes them.
    fn spell_list(&self, name: &str, texts: &[String]) -> Result<Vec<String>, OptionError> {
        let repeated = || texts.iter().flat_map(|text| [format!("--{name}"), text.clone()]).collect();
        match self.listed.list_form(name) {
            Some(ListForm::Joined(separator)) => Ok(joined(name, texts, separator)),
            Some(ListForm::Words(count)) if texts.len() == count => {
                Ok(std::iter::once(format!("--{name}")).chain(texts.iter().cloned()).collect())
            }
            Some(ListForm::Words(count)) => {
                Err(OptionError::new(name, format!("it takes {count} values in this build")))
            }
            _ if texts.len() < 2 || self.dialect.accumulates(name) => Ok(repeated()),
            Some(ListForm::Repeated) => Ok(repeated()),
            Some(ListForm::Described(separator)) => Ok(joined(name, texts, separator)),
            // Passed twice, the last one would count.
            _ => Err(OptionError::new(name, "it takes one value in this build; write that instead of a list")),
        }
    }

    /// Decides about an option that the build does not list: refused if it protects or if no build has it, else dropped.
    fn unlisted(&self, name: &str) -> Result<Spelling, OptionError> {
        if protects(name) {
            return Err(OptionError::new(name, PROTECTION_UNLISTED));
        }
        let positive = name.strip_prefix("no-").unwrap_or(name);
        if self.dialect.knows(name) || self.dialect.knows(positive) || self.listed.lists(positive) {
            return Ok(Spelling::Dropped(SpellingChange::by_help(Vec::new(), "this build does not list it")));
        }
        Err(self.unknown(name))
    }

    pub(crate) fn unknown(&self, name: &str) -> OptionError {
        if let Some(long) = self.listed.long_name(name) {
            return OptionError::new(name, format!("this is a short name; write `{long}`"));
        }
        let known: Vec<&str> = self.listed.names().chain(self.dialect.known_names()).collect();
        let nearest = nearest(name, &known).map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default();
        OptionError::new(name, format!("no llama-server is known to have this option{nearest}"))
    }
}

/// Several values as one.
fn joined(name: &str, texts: &[String], separator: char) -> Vec<String> {
    if texts.is_empty() { Vec::new() } else { vec![format!("--{name}"), texts.join(&separator.to_string())] }
}

/// The option with `on`, `off`, `1` or `0` after it.
fn with_word(name: &str, word: &str) -> Spelling {
    let spelled = vec![format!("--{name}"), word.to_owned()];
    Spelling::Translated(SpellingChange::by_help(spelled, "takes a value in this build"))
}

/// No argument: the build does what is wanted by default.
fn omitted(because: &str) -> Spelling {
    Spelling::Translated(SpellingChange::by_help(Vec::new(), because))
}

#[cfg(test)]
mod tests;

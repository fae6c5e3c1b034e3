//! Translates one option of the configuration into arguments for one build.
//!
//! The first that applies decides: a rule of the dialect, the build's help for the option's own name, the build's help for a
//! synonym. Otherwise an option that some build has is dropped, and one that no build has is an error.
//!
//! Invariant: an option that protects a server is passed or refused, never dropped.

use llama_warden_config::{Flag, FlagOrigin, FlagValue, Flags};

use crate::dialect::Dialect;
use crate::flag_value::{PROTECTION_UNLISTED, as_written, protects, texts};
use crate::help::{OptionList, ValueKind};
use crate::option_error::OptionError;

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

/// Options that keys of the server itself set, so that they may not stand among its flags.
const RESERVED: [&str; 3] = ["model", "host", "port"];

/// Translates options for one build, by what the build lists and what a dialect says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Translator<'a> {
    pub(crate) dialect: &'a Dialect,
    pub(crate) listed: &'a OptionList,
    /// All flags of the server after [`merge_names`]; rules may depend on other flags than their own.
    pub(crate) flags: &'a Flags,
}

/// Gives each option one name: `no-mmap = true` becomes `mmap = false` if the dialect has rules for `mmap`, and a default is
/// removed if the user set a synonym of it.
pub(crate) fn merge_names(flags: &Flags, dialect: &Dialect) -> Flags {
    let mut merged = flags.clone();
    for (name, flag) in flags {
        if let (Some(positive), FlagValue::Switch(on)) = (name.strip_prefix("no-"), &flag.value)
            && dialect.has_rules(positive)
        {
            merged.remove(name);
            merged.insert(positive.to_owned(), Flag { value: FlagValue::Switch(!on), origin: flag.origin });
        }
    }
    let is_set_by_user = |name: &str| flags.get(name).is_some_and(|flag| flag.origin == FlagOrigin::User);
    let is_overridden = |name: &str| dialect.synonyms(name).iter().any(|synonym| is_set_by_user(synonym.item));
    merged.retain(|name, flag| flag.origin == FlagOrigin::User || !is_overridden(name));
    merged
}

/// Refuses values that are not one argument each, or that a server would read as an option.
pub(crate) fn check(name: &str, value: &FlagValue) -> Result<(), OptionError> {
    let refused = |detail: &str| Err(OptionError::new(name, detail));
    if RESERVED.contains(&name) {
        return refused(&format!("set `{name}` of the server itself, not among its flags"));
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
        match self.by_rules_or_help(name, value)? {
            Some(spelling) => Ok(spelling),
            None => self.unlisted(name),
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
            (_, Some(ValueKind::Nothing)) => {
                return Err(OptionError::new(name, format!("it takes no value in this build; write `{name} = true`")));
            }
            (_, Some(_)) => Spelling::Kept(as_written(name, value)),
            (_, None) => return Ok(None),
        };
        Ok(Some(spelling))
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
        let nearest = self.nearest(name).map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default();
        Err(OptionError::new(name, format!("no llama-server is known to have this option{nearest}")))
    }

    /// The known option with the fewest typing errors between it and `name`, if these are few.
    fn nearest(&self, name: &str) -> Option<&str> {
        let names = self.listed.names().chain(self.dialect.known_names());
        let (distance, nearest) = names.map(|known| (strsim::damerau_levenshtein(name, known), known)).min()?;
        (distance <= 1 + name.len() / 4).then_some(nearest)
    }
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
mod tests {
    use super::*;
    use crate::fixtures::{self, help, user_flag};

    fn spell(build: &str, name: &str, value: FlagValue) -> Result<String, String> {
        let dialect = fixtures::dialect();
        let flags = merge_names(&Flags::from([(name.to_owned(), user_flag(value))]), &dialect);
        let listed = OptionList::parse(&help(build));
        let translator = Translator { dialect: &dialect, listed: &listed, flags: &flags };
        let (name, flag) = flags.first_key_value().expect("one flag");
        match translator.spell(name, &flag.value) {
            Ok(Spelling::Kept(spelled)) => Ok(spelled.join(" ")),
            Ok(Spelling::Translated(change)) => Ok(format!("~ {}", change.spelled.join(" "))),
            Ok(Spelling::Dropped(_)) => Ok("dropped".to_owned()),
            Err(error) => Err(error.detail),
        }
    }

    #[test]
    fn an_option_is_spelled_as_each_build_wants_it() {
        let (mid_2024, late_2024, late_2025, late_2026) =
            ("2024-07-py0.2.80", "2024-11-py0.3.2", "2025-08-py0.3.16", "b11669-debian");
        let text = |text: &str| FlagValue::Text(text.to_owned());
        let cases = [
            (mid_2024, "flash-attn", FlagValue::Switch(true), "--flash-attn"),
            (late_2025, "flash-attn", text("on"), "~ --flash-attn"),
            (late_2025, "flash-attn", FlagValue::Switch(false), "~ "),
            (late_2026, "flash-attn", FlagValue::Switch(true), "~ --flash-attn on"),
            (late_2026, "flash-attn", FlagValue::Switch(false), "~ --flash-attn off"),
            (late_2026, "flash-attn", text("auto"), "--flash-attn auto"),
            (mid_2024, "mmap", FlagValue::Switch(false), "--no-mmap"),
            (late_2025, "no-mmap", FlagValue::Switch(true), "--no-mmap"),
            (late_2026, "mmap", FlagValue::Switch(false), "~ --load-mode none"),
            (late_2026, "no-mmap", FlagValue::Switch(true), "~ --load-mode none"),
            (late_2026, "mmap", FlagValue::Switch(true), "~ --load-mode mmap"),
            (late_2025, "mmap", FlagValue::Switch(true), "~ "),
            (late_2025, "load-mode", text("mlock"), "~ --no-mmap --mlock"),
            (late_2026, "mlock", FlagValue::Switch(true), "~ --load-mode mmap+mlock"),
            (late_2025, "mlock", FlagValue::Switch(true), "--mlock"),
            (mid_2024, "n-predict", FlagValue::Integer(-1), "~ --predict -1"),
            (late_2025, "n-predict", FlagValue::Integer(-1), "--n-predict -1"),
            (mid_2024, "n-gpu-layers", FlagValue::Integer(9), "dropped"),
            (late_2026, "n-gpu-layers", text("all"), "--n-gpu-layers all"),
            (late_2025, "perf", FlagValue::Switch(false), "--no-perf"),
            (late_2025, "perf", FlagValue::Switch(true), "~ "),
            (late_2026, "cpu-strict", FlagValue::Switch(true), "~ --cpu-strict 1"),
            (late_2026, "log-disable", FlagValue::Switch(false), "~ "),
            (late_2026, "log-disable", FlagValue::Switch(true), "--log-disable"),
            (late_2024, "temp", FlagValue::Float(0.7), "--temp 0.7"),
            (late_2024, "lora", FlagValue::Many(vec!["a".into(), "b".into()]), "--lora a --lora b"),
            (late_2024, "sse-ping-interval", FlagValue::Integer(5), "dropped"),
            (late_2026, "grp-attn-n", FlagValue::Integer(5), "dropped"),
            (late_2026, "ui", FlagValue::Switch(false), "--no-ui"),
            (late_2025, "ui", FlagValue::Switch(false), "~ --no-webui"),
        ];
        for (build, name, value, expected) in cases {
            assert_eq!(spell(build, name, value.clone()).as_deref(), Ok(expected), "{build} {name} {value:?}");
        }
    }

    #[test]
    fn what_cannot_be_passed_is_refused_with_the_reason() {
        let build = "b11669-debian";
        let text = |text: &str| FlagValue::Text(text.to_owned());
        let cases = [
            ("ctx-siez", FlagValue::Integer(1), "did you mean `ctx-size`?"),
            ("quantum", FlagValue::Integer(1), "no llama-server is known"),
            ("ssl-pinning", text("x"), "it protects"),
            ("api-key-rotation", text("x"), "it protects"),
            ("ctx-size", FlagValue::Switch(true), "it takes a value"),
            ("metrics", text("yes"), "write `metrics = true`"),
            ("port", FlagValue::Integer(1), "of the server itself"),
            ("alias", text("--host"), "would read as an option"),
            ("alias", text("a\nb"), "line end"),
            ("lora", FlagValue::Many(vec!["ok".into(), "a\0b".into()]), "NUL"),
        ];
        for (name, value, expected) in cases {
            let detail = spell(build, name, value).expect_err(name);
            assert!(detail.contains(expected), "{name}: {detail}");
        }
    }

    #[test]
    fn mmap_and_mlock_become_one_load_mode() {
        let dialect = fixtures::dialect();
        let listed = OptionList::parse(&help("b11669-debian"));
        let cases: [(&[(&str, FlagValue)], &str); 4] = [
            (&[("mmap", FlagValue::Switch(false)), ("mlock", FlagValue::Switch(true))], "--load-mode mlock"),
            (&[("mmap", FlagValue::Switch(true)), ("mlock", FlagValue::Switch(true))], "--load-mode mmap+mlock"),
            (&[("mmap", FlagValue::Switch(false)), ("mlock", FlagValue::Switch(false))], "--load-mode none"),
            (&[("mmap", FlagValue::Switch(false)), ("load-mode", FlagValue::Text("dio".into()))], "--load-mode dio"),
        ];
        for (given, expected) in cases {
            let flags = given.iter().map(|(name, value)| ((*name).to_owned(), user_flag(value.clone()))).collect();
            let translator = Translator { dialect: &dialect, listed: &listed, flags: &flags };
            let spelled: Vec<String> = flags
                .iter()
                .flat_map(|(name, flag)| translator.spell(name, &flag.value).expect("is spelled").into_arguments())
                .collect();
            assert_eq!(spelled.join(" "), expected, "{given:?}");
        }
    }

    #[test]
    fn a_default_gives_way_to_the_users_other_name_for_it() {
        let dialect = fixtures::dialect();
        let default = |value| Flag { value, origin: FlagOrigin::BuiltIn };
        let flags = Flags::from([
            ("n-gpu-layers".to_owned(), default(FlagValue::Integer(99))),
            ("gpu-layers".to_owned(), user_flag(FlagValue::Integer(7))),
            ("mmap".to_owned(), default(FlagValue::Switch(false))),
            ("no-mmap".to_owned(), user_flag(FlagValue::Switch(false))),
        ]);
        let expected = Flags::from([
            ("gpu-layers".to_owned(), user_flag(FlagValue::Integer(7))),
            ("mmap".to_owned(), user_flag(FlagValue::Switch(true))),
        ]);
        assert_eq!(merge_names(&flags, &dialect), expected);
    }
}

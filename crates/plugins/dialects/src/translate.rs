//! One option, as the user means it, to what this build is passed.

use llama_warden_config::{Flag, FlagOrigin, FlagValue, Flags};

use crate::dialect::Dialect;
use crate::flag_value::{as_written, protects, texts};
use crate::help::{OptionList, ValueKind};
use crate::option_error::OptionError;

/// What becomes of one option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// Passed under its own name.
    Kept(Vec<String>),
    /// Passed in another way, or not at all because the build does the same without. A dialect says so, or help alone.
    Translated { spelled: Vec<String>, because: String, dialect: Option<String> },
    /// Not passed: nothing in the build stands for it.
    Dropped { because: String },
}

/// Options that the server's own keys set.
const RESERVED: [&str; 3] = ["model", "host", "port"];

/// Spells options for one build, by what the build lists and what a dialect knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Translator<'a> {
    pub(crate) dialect: &'a Dialect,
    pub(crate) listed: &'a OptionList,
    pub(crate) flags: &'a Flags,
}

/// The flags with one name per option: `no-mmap = true` becomes `mmap = false` where a dialect has rules for it, and a
/// default gives way to the user's synonym of it.
pub(crate) fn merge_names(flags: &Flags, dialect: &Dialect) -> Flags {
    let mut unified = flags.clone();
    for (name, flag) in flags {
        if let (Some(positive), FlagValue::Switch(on)) = (name.strip_prefix("no-"), &flag.value)
            && dialect.has_rules(positive)
        {
            unified.remove(name);
            unified.insert(positive.to_owned(), Flag { value: FlagValue::Switch(!on), origin: flag.origin });
        }
    }
    let is_set_by_user = |name: &str| flags.get(name).is_some_and(|flag| flag.origin == FlagOrigin::User);
    let gives_way = |name: &str| dialect.synonyms(name).iter().any(|synonym| is_set_by_user(synonym.item));
    unified.retain(|name, flag| flag.origin == FlagOrigin::User || !gives_way(name));
    unified
}

/// Refuses values that are not one argument, or that a server would read as an option.
pub(crate) fn check(name: &str, value: &FlagValue) -> Result<(), OptionError> {
    if RESERVED.contains(&name) {
        return Err(OptionError::new(name, format!("set `{name}` of the server itself, not among its flags")));
    }
    for text in texts(value) {
        if text.contains(['\0', '\n']) {
            return Err(OptionError::new(name, "its value contains a line end or a NUL byte"));
        }
        if text.starts_with('-') && text.parse::<f64>().is_err() {
            return Err(OptionError::new(
                name,
                "its value would read as an option; pass it through `args` if it is meant",
            ));
        }
    }
    Ok(())
}

impl Spelling {
    /// What is passed.
    pub(crate) fn into_arguments(self) -> Vec<String> {
        match self {
            Self::Kept(spelled) | Self::Translated { spelled, .. } => spelled,
            Self::Dropped { .. } => Vec::new(),
        }
    }
}

impl Translator<'_> {
    /// Spells one option.
    ///
    /// # Errors
    /// If neither the build nor the dialect knows it, if its value does not fit, or if it protects and is not listed.
    pub(crate) fn spell(&self, name: &str, value: &FlagValue) -> Result<Spelling, OptionError> {
        check(name, value)?;
        match self.from_rules_or_help(name, value)? {
            Some(spelling) => Ok(spelling),
            None => self.unlisted(name),
        }
    }

    /// Spells what llama-warden sets itself; `None` where neither the build nor the dialect knows a way.
    pub(crate) fn spell_internal(&self, name: &str, value: &str) -> Option<Spelling> {
        // Where help says that it takes no value, help is not to be relied on.
        self.from_rules_or_help(name, &FlagValue::Text(value.to_owned())).ok().flatten()
    }

    /// By a rule, by its own name, or by another name that the build lists.
    fn from_rules_or_help(&self, name: &str, value: &FlagValue) -> Result<Option<Spelling>, OptionError> {
        if let Some(rule) = self.dialect.rule(name, value, self.listed, self.flags) {
            let (spelled, because) = (rule.item.spelled(value), rule.item.because.clone());
            let is_kept = spelled.first().is_some_and(|first| first.strip_prefix("--") == Some(name));
            let is_kept = is_kept && spelled == as_written(name, value);
            let dialect = Some(rule.dialect.to_owned());
            return Ok(Some(match is_kept {
                true => Spelling::Kept(spelled),
                false => Spelling::Translated { spelled, because, dialect },
            }));
        }
        if let Some(spelled) = self.from_help(name, value)? {
            return Ok(Some(spelled));
        }
        for synonym in self.dialect.synonyms(name) {
            if let Some(spelling) = self.from_help(synonym.item, value)? {
                let because = format!("this build calls it {}", synonym.item);
                let (spelled, dialect) = (spelling.into_arguments(), Some(synonym.dialect.to_owned()));
                return Ok(Some(Spelling::Translated { spelled, because, dialect }));
            }
        }
        Ok(None)
    }

    /// By what help says of `name`; `None` if it lists neither the option nor its negation.
    fn from_help(&self, name: &str, value: &FlagValue) -> Result<Option<Spelling>, OptionError> {
        let is_negation_listed = self.listed.lists(&format!("no-{name}"));
        let spelling = match (value, self.listed.value_kind(name)) {
            (FlagValue::Switch(on), Some(ValueKind::OnOff)) => with_word(name, if *on { "on" } else { "off" }),
            (FlagValue::Switch(on), Some(ValueKind::ZeroOne)) => with_word(name, if *on { "1" } else { "0" }),
            (FlagValue::Switch(_), Some(ValueKind::Value)) => return Err(OptionError::new(name, "it takes a value")),
            (FlagValue::Switch(true), Some(ValueKind::Nothing)) => Spelling::Kept(as_written(name, value)),
            (FlagValue::Switch(false), _) if is_negation_listed => Spelling::Kept(as_written(name, value)),
            (FlagValue::Switch(false), Some(ValueKind::Nothing)) => omitted("off without the switch"),
            (FlagValue::Switch(true), None) if is_negation_listed => omitted("on without a switch in this build"),
            (_, Some(ValueKind::Nothing)) => {
                return Err(OptionError::new(name, format!("it takes no value in this build; write `{name} = true`")));
            }
            (_, Some(_)) => Spelling::Kept(as_written(name, value)),
            (_, None) => return Ok(None),
        };
        Ok(Some(spelling))
    }

    fn unlisted(&self, name: &str) -> Result<Spelling, OptionError> {
        if protects(name) {
            return Err(OptionError::new(
                name,
                "this build does not list it, and it is never dropped since it protects",
            ));
        }
        let positive = name.strip_prefix("no-").unwrap_or(name);
        if self.dialect.knows(name) || self.dialect.knows(positive) || self.listed.lists(positive) {
            return Ok(Spelling::Dropped { because: "this build does not list it".to_owned() });
        }
        let near = self.nearest(name).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        Err(OptionError::new(name, format!("no llama-server is known to have this option{near}")))
    }

    fn nearest(&self, name: &str) -> Option<&str> {
        let names = self.listed.names().chain(self.dialect.known_names());
        let near = names.map(|known| (strsim::damerau_levenshtein(name, known), known)).min()?;
        (near.0 <= 1 + name.len() / 4).then_some(near.1)
    }
}

fn with_word(name: &str, word: &str) -> Spelling {
    Spelling::Translated {
        spelled: vec![format!("--{name}"), word.to_owned()],
        because: "takes a value in this build".to_owned(),
        dialect: None,
    }
}

fn omitted(because: &str) -> Spelling {
    Spelling::Translated { spelled: Vec::new(), because: because.to_owned(), dialect: None }
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
            Ok(Spelling::Translated { spelled, .. }) => Ok(format!("~ {}", spelled.join(" "))),
            Ok(Spelling::Dropped { .. }) => Ok("dropped".to_owned()),
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
    fn two_wishes_about_loading_make_one_load_mode() {
        let dialect = fixtures::dialect();
        let listed = OptionList::parse(&help("b11669-debian"));
        let cases: [(&[(&str, FlagValue)], &str); 4] = [
            (&[("mmap", FlagValue::Switch(false)), ("mlock", FlagValue::Switch(true))], "--load-mode mlock"),
            (&[("mmap", FlagValue::Switch(true)), ("mlock", FlagValue::Switch(true))], "--load-mode mmap+mlock"),
            (&[("mmap", FlagValue::Switch(false)), ("mlock", FlagValue::Switch(false))], "--load-mode none"),
            (&[("mmap", FlagValue::Switch(false)), ("load-mode", FlagValue::Text("dio".into()))], "--load-mode dio"),
        ];
        for (wishes, expected) in cases {
            let flags = wishes.iter().map(|(name, value)| ((*name).to_owned(), user_flag(value.clone()))).collect();
            let translator = Translator { dialect: &dialect, listed: &listed, flags: &flags };
            let spelled: Vec<String> = flags
                .iter()
                .flat_map(|(name, flag)| translator.spell(name, &flag.value).expect("is spelled").into_arguments())
                .collect();
            assert_eq!(spelled.join(" "), expected, "{wishes:?}");
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

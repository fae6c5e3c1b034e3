//! Flag dialects: data files that say how an option that the user means is spelled by the build that is launched.
//!
//! `config/dialects/llama-server.toml` is built in, lies behind every other dialect, and fits every build: it goes by the
//! options that `--help` lists, since builds inside llama-cpp-python all say 1. Another dialect says only what is different
//! in the builds that it fits.
//!
//! Invariants: no rule drops an option that protects a server; every example of a loaded dialect holds.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use llama_warden_config::{Flag, FlagOrigin, FlagValue, Flags};
use llama_warden_plugin_files::{BuildFit, Choice, FileError, Origin, PluginFile, PluginInfo, PluginSet, PluginSource};

use crate::binary::BinaryProfile;
use crate::dialect_file::{DialectFile, Example, OptionName, OptionRules, Rule};
use crate::help::{OptionList, Takes};
use crate::translate::{self, Translator};

#[cfg(test)]
mod tests;

/// The dialects in force. The one called `llama-server` fits every build and lies behind all others.
pub type DialectSet = PluginSet<Dialect>;

/// What stands for the user's value in a rule.
const VALUE: &str = "{value}";

/// A dialect that was checked, with the one that lies behind it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Dialect {
    body: Arc<Body>,
}

#[derive(Debug)]
struct Body {
    about: PluginInfo,
    known: BTreeSet<OptionName>,
    synonyms: Vec<Vec<OptionName>>,
    options: Vec<OptionRules>,
    examples: Vec<Example>,
    /// What has the word where this one says nothing.
    behind: Option<Dialect>,
}

/// Something that a dialect says, with its name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Said<'a, T> {
    pub(crate) what: T,
    pub(crate) dialect: &'a str,
}

/// The dialect for a build: the most specific one that fits. `None` only for an empty library.
pub fn choose_dialect(library: &DialectSet, binary: &BinaryProfile) -> Option<Choice<Dialect>> {
    library.choose(binary.version.build, &binary.identity.options, None)
}

impl Dialect {
    /// How many rules it has itself, without those behind it.
    pub fn rule_count(&self) -> usize {
        self.body.options.iter().map(|option| option.rules.len()).sum()
    }

    /// How many examples it has.
    pub fn example_count(&self) -> usize {
        self.body.examples.len()
    }

    /// The first rule for `option` with `value` that holds for a build that lists `listed`, among `flags`.
    pub(crate) fn rule(
        &self,
        option: &str,
        value: &FlagValue,
        listed: &OptionList,
        flags: &Flags,
    ) -> Option<Said<'_, &Rule>> {
        self.rules(option).find(|said| said.what.holds(option, value, listed, flags))
    }

    /// Whether `option` has rules of its own.
    pub(crate) fn has_rules(&self, option: &str) -> bool {
        self.rules(option).next().is_some()
    }

    /// Other names of `option`, those of other names included.
    pub(crate) fn synonyms(&self, option: &str) -> Vec<Said<'_, &str>> {
        let mut found: Vec<Said<'_, &str>> = Vec::new();
        let mut looked_at = 0;
        let mut name = option;
        loop {
            for dialect in self.layers() {
                let groups = dialect.body.synonyms.iter().filter(|group| group.iter().any(|known| known.0 == name));
                for other in groups.flatten().map(|other| other.0.as_str()) {
                    if other != option && found.iter().all(|known| known.what != other) {
                        found.push(Said { what: other, dialect: dialect.name() });
                    }
                }
            }
            let Some(next) = found.get(looked_at) else { return found };
            name = next.what;
            looked_at += 1;
        }
    }

    /// Whether some build has `option`.
    pub(crate) fn knows(&self, option: &str) -> bool {
        self.known_names().any(|name| name == option)
    }

    /// Every option that some build has.
    pub(crate) fn known_names(&self) -> impl Iterator<Item = &str> {
        let names = self.layers().flat_map(|dialect| {
            let Body { known, synonyms, options, .. } = &*dialect.body;
            known.iter().chain(synonyms.iter().flatten()).chain(options.iter().map(|rules| &rules.name))
        });
        names.map(|name| name.0.as_str())
    }

    /// This dialect, then what lies behind it.
    fn layers(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |dialect| dialect.body.behind.as_ref())
    }

    fn rules(&self, option: &str) -> impl Iterator<Item = Said<'_, &Rule>> {
        self.layers().flat_map(move |dialect| {
            let options = dialect.body.options.iter().filter(move |rules| rules.name.0 == option);
            options.flat_map(|rules| &rules.rules).map(|rule| Said { what: rule, dialect: dialect.name() })
        })
    }

    fn check_examples(&self, source: &PluginSource<'_>) -> Result<(), FileError> {
        for example in &self.body.examples {
            let advice = "correct the example, or the order or conditions of the rules";
            let at = Some(example.spell.span());
            match self.spelled(example) {
                Ok(spelled) if spelled == *example.spell.as_ref() => {}
                Ok(spelled) => {
                    let message =
                        format!("this example claims {:?}, but {spelled:?} is passed", example.spell.as_ref());
                    return Err(source.error(at, message, advice));
                }
                Err(error) => return Err(source.error(at, format!("this example cannot be: {error}"), advice)),
            }
        }
        Ok(())
    }

    /// What is passed for the options of an example.
    fn spelled(&self, example: &Example) -> Result<Vec<String>, crate::BadArgument> {
        let flags = example.flags.iter().map(|(name, value)| {
            (name.0.clone(), Flag { value: FlagValue::from(value.clone()), origin: FlagOrigin::User })
        });
        let flags = translate::unify(&flags.collect(), self);
        let listed = OptionList::parse(&example.help.join("\n"));
        let translator = Translator { dialect: self, listed: &listed, flags: &flags };
        let mut spelled = Vec::new();
        for (name, flag) in &flags {
            spelled.extend(translator.spell(name, &flag.value)?.into_arguments());
        }
        Ok(spelled)
    }
}

impl PluginFile for Dialect {
    const KIND: &'static str = "dialect";
    const FALLBACK: &'static str = "llama-server";
    const FALLBACK_TEXT: &'static str = include_str!("../../../../config/dialects/llama-server.toml");
    const BUILT_IN: &'static [&'static str] = &[];

    fn parse(origin: &Origin, text: Cow<'static, str>, base: Option<&Self>) -> Result<Self, FileError> {
        let source = PluginSource::new(origin, &text, Self::KIND);
        let file: DialectFile = source.parse("`llama-warden schema dialect` shows what may stand here")?;
        source.check_name(&file.name)?;
        let fit = BuildFit::check(&source, file.builds.clone(), &file.help_lists, &file.help_lacks)?;
        if file.name.as_ref() == Self::FALLBACK && !fit.is_every_build() {
            let advice = "take `builds`, `help-lists` and `help-lacks` away, or give it a name of its own";
            return Err(source.error(Some(file.name.span()), "the dialect behind all others fits every build", advice));
        }
        for option in &file.option {
            check_rules(&source, option)?;
        }
        let is_built_in = origin == &Origin::BuiltIn;
        let about = PluginInfo {
            name: file.name.into_inner(),
            description: file.description,
            origin: origin.clone(),
            fit,
            text: text.clone(),
        };
        let body = Body {
            about,
            known: file.known,
            synonyms: file.synonyms,
            options: file.option,
            examples: file.example,
            behind: base.cloned(),
        };
        let dialect = Self { body: Arc::new(body) };
        // The built-in dialect is checked by a test, so that a start does not pay for it.
        if !is_built_in {
            dialect.check_examples(&source)?;
        }
        Ok(dialect)
    }

    fn info(&self) -> &PluginInfo {
        &self.body.about
    }
}

impl Rule {
    /// What is passed for `value`; once for each, where there are several.
    pub(crate) fn spelled(&self, value: &FlagValue) -> Vec<String> {
        let spell = self.spell.as_ref();
        if !spell.iter().any(|word| word.contains(VALUE)) {
            return spell.clone();
        }
        let values = translate::texts(value);
        values.iter().flat_map(|value| spell.iter().map(move |word| word.replace(VALUE, value))).collect()
    }

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

/// What is passed has to read as an option, and must not drop what protects a server.
fn check_rules(source: &PluginSource<'_>, option: &OptionRules) -> Result<(), FileError> {
    for rule in &option.rules {
        let (spell, at) = (rule.spell.as_ref(), Some(rule.spell.span()));
        if let Some(first) = spell.first().filter(|first| !first.starts_with('-')) {
            let advice = "begin with the option and its dashes, then its value as an element of its own";
            return Err(source.error(at, format!("`{first}` would not read as an option"), advice));
        }
        if spell.iter().any(|word| word.contains(['\0', '\n'])) {
            return Err(source.error(at, "an argument contains a line end or a NUL byte", "take it away"));
        }
        if translate::protects(&option.name.0) && !spell.iter().any(|word| word.contains(VALUE)) {
            let message = format!("`{}` protects a server, and this rule would drop its value", option.name.0);
            return Err(source.error(at, message, "pass its value on as `{value}`, or take the rule away"));
        }
    }
    Ok(())
}

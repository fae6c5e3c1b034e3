//! The content of a flag dialect and the lookups in it: rules, synonyms and known options of one option's name.
//!
//! A dialect has only the differences of the builds that it fits. Every lookup asks it first and then its fallback, the
//! dialect called `llama-server`, which fits every build: it goes by the options that `--help` lists, since builds inside
//! llama-cpp-python all print build number 1.
//!
//! Invariants, established by `load`: no rule drops an option that protects a server; every example of a dialect holds.

use std::collections::BTreeSet;
use std::sync::Arc;

use llama_warden_config::{FlagValue, Flags};
use llama_warden_plugin_files::PluginInfo;

use crate::file::{DialectFile, DialectRule, OptionName};
use crate::flag_value;
use crate::help::{OptionList, ValueKind};

/// Stands for the user's value in the arguments of a rule.
pub(crate) const VALUE: &str = "{value}";

/// A checked dialect with its fallback. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Dialect {
    pub(crate) body: Arc<Body>,
}

#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) about: PluginInfo,
    pub(crate) file: DialectFile,
    /// Asked for everything that this dialect says nothing about.
    pub(crate) fallback: Option<Dialect>,
}

/// A rule or a name, with the name of the dialect that contains it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Attributed<'a, T> {
    pub(crate) item: T,
    pub(crate) dialect: &'a str,
}

impl Dialect {
    /// The number of its own rules, without those of its fallback.
    pub fn rule_count(&self) -> usize {
        self.body.file.option.iter().map(|option| option.rules.len()).sum()
    }

    /// The number of its examples.
    pub fn example_count(&self) -> usize {
        self.body.file.example.len()
    }

    /// The first rule for `option` with `value` whose conditions hold for a build that lists `listed`, among `flags`.
    pub(crate) fn rule(
        &self,
        option: &str,
        value: &FlagValue,
        listed: &OptionList,
        flags: &Flags,
    ) -> Option<Attributed<'_, &DialectRule>> {
        self.rules(option).find(|rule| rule.item.holds(option, value, listed, flags))
    }

    /// Whether any rule is about `option`.
    pub(crate) fn has_rules(&self, option: &str) -> bool {
        self.rules(option).next().is_some()
    }

    /// The other names of `option`, nearest first, and the names of those names.
    pub(crate) fn synonyms(&self, option: &str) -> Vec<Attributed<'_, &str>> {
        let mut found: Vec<Attributed<'_, &str>> = Vec::new();
        let mut followed = 0;
        let mut name = option;
        // Groups of two files may share one name only, so that each name found is looked up in turn.
        loop {
            for dialect in self.layers() {
                let groups =
                    dialect.body.file.synonyms.iter().filter(|group| group.iter().any(|known| known.0 == name));
                for other in groups.flatten().map(|other| other.0.as_str()) {
                    if other != option && found.iter().all(|known| known.item != other) {
                        found.push(dialect.attribute(other));
                    }
                }
            }
            let Some(next) = found.get(followed) else { return found };
            name = next.item;
            followed += 1;
        }
    }

    /// Whether some build has `option`.
    pub(crate) fn knows(&self, option: &str) -> bool {
        self.known_names().any(|name| name == option)
    }

    /// Whether `option` takes several values by being repeated.
    pub(crate) fn accumulates(&self, option: &str) -> bool {
        self.layers().any(|dialect| dialect.body.file.accumulates.iter().any(|name| name.0 == option))
    }

    /// Whether the value of `option` is a path. An option that no dialect knows is judged by its placeholder in `listed`.
    pub(crate) fn takes_path(&self, option: &str, listed: &OptionList) -> bool {
        self.is_among(option, |file| &file.paths)
            || self.reads(option)
            || (!self.knows(option) && listed.takes_path(option))
    }

    /// Whether the value of `option` is a path that a build reads when it starts.
    pub(crate) fn reads(&self, option: &str) -> bool {
        self.is_among(option, |file| &file.reads)
    }

    /// Whether `option`, under any of its names, is one of those.
    fn is_among(&self, option: &str, of: impl Fn(&DialectFile) -> &BTreeSet<OptionName>) -> bool {
        let is_one = |name: &str| self.layers().any(|dialect| of(&dialect.body.file).iter().any(|one| one.0 == name));
        is_one(option) || self.synonyms(option).iter().any(|synonym| is_one(synonym.item))
    }

    /// The options that the help of a build lists if this dialect fits it, as far as the dialect says.
    pub(crate) fn expected_options(&self) -> OptionList {
        OptionList::of_names(self.body.about.fit.help_lists.iter().map(|name| &**name))
    }

    /// Every option that some build has.
    pub(crate) fn known_names(&self) -> impl Iterator<Item = &str> {
        let names = self.layers().flat_map(|dialect| {
            let DialectFile { known, synonyms, accumulates, paths, reads, option, .. } = &dialect.body.file;
            known
                .iter()
                .chain(accumulates)
                .chain(paths)
                .chain(reads)
                .chain(synonyms.iter().flatten())
                .chain(option.iter().map(|rules| &rules.name))
        });
        names.map(|name| name.0.as_str())
    }

    /// This dialect, then its fallback.
    pub(crate) fn layers(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |dialect| dialect.body.fallback.as_ref())
    }

    fn rules(&self, option: &str) -> impl Iterator<Item = Attributed<'_, &DialectRule>> {
        self.layers().flat_map(move |dialect| {
            let options = dialect.body.file.option.iter().filter(move |rules| rules.name.0 == option);
            options.flat_map(|rules| &rules.rules).map(|rule| dialect.attribute(rule))
        })
    }

    fn attribute<T>(&self, item: T) -> Attributed<'_, T> {
        Attributed { item, dialect: &self.body.about.name }
    }
}

impl DialectRule {
    /// The arguments for `value`; repeated for each of several values.
    pub(crate) fn spelled(&self, value: &FlagValue) -> Vec<String> {
        let spell = self.spell.as_ref();
        if !spell.iter().any(|word| word.contains(VALUE)) {
            return spell.clone();
        }
        let values = flag_value::texts(value);
        values.iter().flat_map(|value| spell.iter().map(move |word| word.replace(VALUE, value))).collect()
    }

    /// Whether all conditions of the rule hold.
    fn holds(&self, option: &str, value: &FlagValue, listed: &OptionList, flags: &Flags) -> bool {
        let takes_value = listed.value_kind(option).map(|kind| kind != ValueKind::Nothing);
        self.value.as_ref().is_none_or(|pattern| pattern.matches(value))
            && self.when_lists.iter().all(|name| listed.lists(&name.0))
            && self.when_takes_value.is_none_or(|wanted| takes_value == Some(wanted))
            && self
                .when_set
                .iter()
                .all(|(name, pattern)| flags.get(&name.0).is_some_and(|flag| pattern.matches(&flag.value)))
    }
}

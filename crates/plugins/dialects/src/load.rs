//! Reads and checks dialect files, and chooses the dialect for a build.
//!
//! A file that breaks a rule of the format is refused with its place and a next step. Its examples are checked by
//! translating them, which is why this file knows both the dialect and the translator.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use llama_warden_config::{Flag, FlagOrigin, FlagValue};
use llama_warden_plugin_files::{BuildFit, Choice, FileError, Origin, PluginFile, PluginInfo, PluginSet, PluginSource};

use crate::dialect::{Body, Dialect, VALUE};
use crate::file::{DialectExample, DialectFile, OptionRules};
use crate::flag_value;
use crate::help::OptionList;
use crate::option_error::OptionError;
use crate::profile::BinaryProfile;
use crate::translate::{self, Translator};

/// The dialects in force. The one called `llama-server` fits every build and is the fallback of all others.
pub type DialectSet = PluginSet<Dialect>;

/// The dialect called `named`, else the most specific one that fits the build of `binary`. `None` only for an empty set.
pub fn choose_dialect(dialects: &DialectSet, binary: &BinaryProfile, named: Option<&str>) -> Option<Choice<Dialect>> {
    dialects.choose(binary.version.build, &binary.identity.options, named)
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
            let advice = "remove `builds`, `help-lists` and `help-lacks`, or give it another name";
            return Err(source.error(Some(file.name.span()), "the dialect behind all others fits every build", advice));
        }
        for option in &file.option {
            check_rules(&source, option)?;
        }
        let about = PluginInfo {
            name: file.name.as_ref().clone(),
            description: file.description.clone(),
            origin: origin.clone(),
            fit,
            text: text.clone(),
        };
        let dialect = Self { body: Arc::new(Body { about, file, fallback: base.cloned() }) };
        // A test checks the examples of the built-in dialect, so that no start of the daemon spends time on them.
        if origin != &Origin::BuiltIn {
            check_examples(&dialect, &source)?;
        }
        Ok(dialect)
    }

    fn info(&self) -> &PluginInfo {
        &self.body.about
    }
}

/// Checks that the arguments of each rule read as an option, and that no rule drops an option that protects a server.
fn check_rules(source: &PluginSource<'_>, option: &OptionRules) -> Result<(), FileError> {
    for rule in &option.rules {
        let (spell, at) = (rule.spell.as_ref(), Some(rule.spell.span()));
        if let Some(first) = spell.first().filter(|first| !first.starts_with('-')) {
            let advice = "begin with the option and its dashes; its value is an element of its own";
            return Err(source.error(at, format!("`{first}` would not read as an option"), advice));
        }
        if spell.iter().any(|word| word.contains(['\0', '\n'])) {
            return Err(source.error(at, "an argument contains a line end or a NUL byte", "remove it"));
        }
        if flag_value::protects(&option.name.0) && !spell.iter().any(|word| word.contains(VALUE)) {
            let message = format!("`{}` protects a server, and this rule would drop its value", option.name.0);
            return Err(source.error(at, message, "pass its value on as `{value}`, or remove the rule"));
        }
    }
    Ok(())
}

/// Checks that each example of `dialect` is translated as it claims.
pub(crate) fn check_examples(dialect: &Dialect, source: &PluginSource<'_>) -> Result<(), FileError> {
    for example in &dialect.body.file.example {
        let expected = example.spell.as_ref();
        let message = match spell_example(dialect, example) {
            Ok(spelled) if spelled == *expected => continue,
            Ok(spelled) => format!("this example claims {expected:?}, but {spelled:?} is passed"),
            Err(error) => format!("this example cannot be: {error}"),
        };
        let advice = "correct the example, or the order or conditions of the rules";
        return Err(source.error(Some(example.spell.span()), message, advice));
    }
    Ok(())
}

/// The arguments for the options of an example.
fn spell_example(dialect: &Dialect, example: &DialectExample) -> Result<Vec<String>, OptionError> {
    let flags = example.flags.iter().map(|(name, value)| {
        (name.0.clone(), Flag { value: FlagValue::from(value.clone()), origin: FlagOrigin::User })
    });
    let flags = translate::merge_names(&flags.collect(), dialect);
    let listed = OptionList::parse(&example.help.join("\n"));
    // No folder: a relative path stays as the example shows it.
    let translator = Translator { dialect, listed: &listed, flags: &flags, directory: Path::new("") };
    let mut spelled = Vec::new();
    for (name, flag) in &flags {
        spelled.extend(translator.spell(name, &flag.value)?.into_arguments());
    }
    Ok(spelled)
}

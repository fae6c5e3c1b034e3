//! Reads and checks a dialect file, and chooses the dialect for a build.

use std::borrow::Cow;
use std::sync::Arc;

use llama_warden_config::{Flag, FlagOrigin, FlagValue};
use llama_warden_plugin_files::{About, Choice, FileError, Fit, Origin, PluginFile, PluginSet, Source};

use crate::dialect::{Body, Dialect, VALUE};
use crate::file::{DialectExample, DialectFile, OptionRules};
use crate::flag_value;
use crate::help::OptionList;
use crate::option_error::OptionError;
use crate::profile::BinaryProfile;
use crate::translate::{self, Translator};

/// The dialects in force. The one called `llama-server` fits every build and lies behind all others.
pub type DialectSet = PluginSet<Dialect>;

/// The dialect for a build: the most specific one that fits. `None` only for an empty library.
pub fn choose_dialect(library: &DialectSet, binary: &BinaryProfile) -> Option<Choice<Dialect>> {
    library.choose(binary.version.build, &binary.identity.options, None)
}

impl PluginFile for Dialect {
    const WORD: &'static str = "dialect";
    const BASE: &'static str = "llama-server";
    const BASE_TEXT: &'static str = include_str!("../../../../config/dialects/llama-server.toml");
    const BUILT_IN: &'static [&'static str] = &[];

    fn parse(origin: &Origin, text: Cow<'static, str>, base: Option<&Self>) -> Result<Self, FileError> {
        let source = Source::new(origin, &text, Self::WORD);
        let file: DialectFile = source.parse("`llama-warden schema dialect` shows what may stand here")?;
        source.check_name(&file.name, Self::WORD)?;
        let fit = Fit::check(&source, file.builds.clone(), &file.help_lists, &file.help_lacks)?;
        if file.name.as_ref() == Self::BASE && !fit.is_every_build() {
            let advice = "take `builds`, `help-lists` and `help-lacks` away, or give it a name of its own";
            return Err(source.error(Some(file.name.span()), "the dialect behind all others fits every build", advice));
        }
        for option in &file.option {
            check_rules(&source, option)?;
        }
        let is_built_in = origin == &Origin::BuiltIn;
        let about = About {
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
            fallback: base.cloned(),
        };
        let dialect = Self { body: Arc::new(body) };
        // The built-in dialect is checked by a test, so that a start does not pay for it.
        if !is_built_in {
            check_examples(&dialect, &source)?;
        }
        Ok(dialect)
    }

    fn about(&self) -> &About {
        &self.body.about
    }
}

/// What is passed has to read as an option, and must not drop what protects a server.
fn check_rules(source: &Source<'_>, option: &OptionRules) -> Result<(), FileError> {
    for rule in &option.rules {
        let (spell, at) = (rule.spell.as_ref(), Some(rule.spell.span()));
        if let Some(first) = spell.first().filter(|first| !first.starts_with('-')) {
            let advice = "begin with the option and its dashes, then its value as an element of its own";
            return Err(source.error(at, format!("`{first}` would not read as an option"), advice));
        }
        if spell.iter().any(|word| word.contains(['\0', '\n'])) {
            return Err(source.error(at, "an argument contains a line end or a NUL byte", "take it away"));
        }
        if flag_value::protects(&option.name.0) && !spell.iter().any(|word| word.contains(VALUE)) {
            let message = format!("`{}` protects a server, and this rule would drop its value", option.name.0);
            return Err(source.error(at, message, "pass its value on as `{value}`, or take the rule away"));
        }
    }
    Ok(())
}
pub(crate) fn check_examples(dialect: &Dialect, source: &Source<'_>) -> Result<(), FileError> {
    for example in &dialect.body.examples {
        let advice = "correct the example, or the order or conditions of the rules";
        let at = Some(example.spell.span());
        match spelled(dialect, example) {
            Ok(spelled) if spelled == *example.spell.as_ref() => {}
            Ok(spelled) => {
                let message = format!("this example claims {:?}, but {spelled:?} is passed", example.spell.as_ref());
                return Err(source.error(at, message, advice));
            }
            Err(error) => return Err(source.error(at, format!("this example cannot be: {error}"), advice)),
        }
    }
    Ok(())
}

/// What is passed for the options of an example.
fn spelled(dialect: &Dialect, example: &DialectExample) -> Result<Vec<String>, OptionError> {
    let flags = example.flags.iter().map(|(name, value)| {
        (name.0.clone(), Flag { value: FlagValue::from(value.clone()), origin: FlagOrigin::User })
    });
    let flags = translate::merge_names(&flags.collect(), dialect);
    let listed = OptionList::parse(&example.help.join("\n"));
    let translator = Translator { dialect, listed: &listed, flags: &flags };
    let mut spelled = Vec::new();
    for (name, flag) in &flags {
        spelled.extend(translator.spell(name, &flag.value)?.into_arguments());
    }
    Ok(spelled)
}

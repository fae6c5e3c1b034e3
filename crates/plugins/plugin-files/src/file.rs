//! The trait of one kind of plug-in file, and the fields that every kind has.

use std::borrow::Cow;

use crate::build_fit::BuildFit;
use crate::file_error::FileError;
use crate::origin::Origin;

/// The fields that every plug-in file has, whatever its kind.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginInfo {
    /// The file's name, unique in its set.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Where the file comes from.
    pub origin: Origin,
    /// The builds that the file fits.
    pub fit: BuildFit,
    /// The text that the file was parsed from. A built-in text is part of the program and not copied.
    pub text: Cow<'static, str>,
}

/// A kind of plug-in file, checked when it is parsed. Cheap to clone.
pub trait PluginFile: Clone {
    /// The kind's word in messages, such as `pack`.
    const KIND: &'static str;
    /// The name of the fallback: the file that fits every build and completes every other file.
    const FALLBACK: &'static str;
    /// The text of the built-in fallback.
    const FALLBACK_TEXT: &'static str;
    /// The texts of the other built-in files, in order of precedence.
    const BUILT_IN: &'static [&'static str];

    /// Parses and checks a text, completed by `fallback`. The fallback itself is parsed with `None`.
    ///
    /// # Errors
    /// The first mistake in the text.
    fn parse(origin: &Origin, text: Cow<'static, str>, fallback: Option<&Self>) -> Result<Self, FileError>;

    /// The fields that every kind has.
    fn info(&self) -> &PluginInfo;

    /// The file's name, unique in its set.
    fn name(&self) -> &str {
        &self.info().name
    }

    /// One line for people.
    fn description(&self) -> &str {
        &self.info().description
    }

    /// Where the file comes from.
    fn origin(&self) -> &Origin {
        &self.info().origin
    }

    /// The builds that the file fits.
    fn fit(&self) -> &BuildFit {
        &self.info().fit
    }

    /// The text that the file was parsed from.
    fn text(&self) -> &str {
        &self.info().text
    }
}

//! One kind of data file.

use std::borrow::Cow;

use crate::build_fit::BuildFit;
use crate::file_error::FileError;
use crate::origin::Origin;

/// What every data file is, whatever its kind.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginInfo {
    /// Its name.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Where it comes from.
    pub origin: Origin,
    /// The builds that it fits.
    pub fit: BuildFit,
    /// The text that it was parsed from. That of a built-in one is part of the program and not copied.
    pub text: Cow<'static, str>,
}

/// A kind of data file, checked when it is parsed. Cheap to clone.
pub trait PluginFile: Clone {
    /// What one of them is called, for people: `pack`.
    const KIND: &'static str;
    /// The name of the fallback.
    const FALLBACK: &'static str;
    /// The built-in fallback, as text.
    const FALLBACK_TEXT: &'static str;
    /// The other built-in ones, as texts, in order of precedence.
    const BUILT_IN: &'static [&'static str];

    /// Reads and checks a text in front of `fallback`; the fallback itself is read without one.
    ///
    /// # Errors
    /// At the first place that is not as the format demands.
    fn parse(origin: &Origin, text: Cow<'static, str>, fallback: Option<&Self>) -> Result<Self, FileError>;

    /// What it is.
    fn info(&self) -> &PluginInfo;

    /// Its name.
    fn name(&self) -> &str {
        &self.info().name
    }

    /// One line for people.
    fn description(&self) -> &str {
        &self.info().description
    }

    /// Where it comes from.
    fn origin(&self) -> &Origin {
        &self.info().origin
    }

    /// The builds that it fits.
    fn fit(&self) -> &BuildFit {
        &self.info().fit
    }

    /// The text that it was parsed from.
    fn text(&self) -> &str {
        &self.info().text
    }
}

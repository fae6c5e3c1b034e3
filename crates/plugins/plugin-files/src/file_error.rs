//! Why a data file is refused, with the place in it and the next step.

use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;

use crate::origin::Origin;

/// Longest text, in bytes.
pub(crate) const TEXT_LIMIT: usize = 256 * 1024;

/// A data file was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}: {advice}")]
pub struct FileError {
    /// The file, as it was named.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub advice: String,
}

/// A text under its name, to point into.
#[derive(Debug, Clone)]
pub struct PluginSource<'a> {
    origin: &'a Origin,
    name: String,
    text: &'a str,
}

impl<'a> PluginSource<'a> {
    /// The text of what comes from `origin` and is called `kind`.
    pub fn new(origin: &'a Origin, text: &'a str, kind: &str) -> Self {
        let name = match origin {
            Origin::BuiltIn => format!("built-in {kind}"),
            Origin::File(path) => path.display().to_string(),
        };
        Self { origin, name, text }
    }

    /// Where the text comes from.
    pub const fn origin(&self) -> &'a Origin {
        self.origin
    }

    /// The text as it was written.
    pub const fn text(&self) -> &'a str {
        self.text
    }

    /// What the text says as TOML; `advice` is for what is not as the format demands.
    ///
    /// # Errors
    /// At the first place that is not.
    pub fn parse<T: DeserializeOwned>(&self, advice: &str) -> Result<T, FileError> {
        if self.text.len() > TEXT_LIMIT {
            return Err(self.error(None, "the file is larger than 256 KiB", "split it into several"));
        }
        toml::from_str(self.text).map_err(|error| self.error(error.span(), error.message(), advice))
    }

    /// Refuses a name that is none.
    ///
    /// # Errors
    /// If it is no name, or means something else.
    pub fn check_name(&self, name: &Spanned<String>, kind: &str) -> Result<(), FileError> {
        let text = name.as_ref();
        let fits = (1..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if fits && text != "auto" {
            return Ok(());
        }
        Err(self.error(
            Some(name.span()),
            format!("`{text}` is no name for a {kind}"),
            "use 1 to 64 of A-Z a-z 0-9 . _ -, and not `auto`",
        ))
    }

    /// A mistake at the beginning of a span, or at the beginning of the text.
    pub fn error(
        &self,
        span: Option<Range<usize>>,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) -> FileError {
        let before = span.and_then(|span| self.text.get(..span.start)).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        FileError {
            file: self.name.clone(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: message.into(),
            advice: advice.into(),
        }
    }
}

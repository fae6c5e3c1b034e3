//! Mistakes in a plug-in file, each with its place and a next step.

use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;

use crate::origin::Origin;

/// Longest text, in bytes.
pub(crate) const TEXT_LIMIT: usize = 256 * 1024;

/// A plug-in file was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}: {advice}")]
pub struct FileError {
    /// The file's path as it was given, or `built-in` with the kind.
    pub file: String,
    /// The line of the mistake, from 1.
    pub line: usize,
    /// The column of the mistake in characters, from 1.
    pub column: usize,
    /// The mistake.
    pub message: String,
    /// The next step for the user.
    pub advice: String,
}

/// The text of a plug-in file while it is checked: makes errors that point into it.
#[derive(Debug, Clone, Copy)]
pub struct PluginSource<'a> {
    origin: &'a Origin,
    text: &'a str,
    kind: &'static str,
}

impl<'a> PluginSource<'a> {
    /// The text of a file of this kind.
    pub const fn new(origin: &'a Origin, text: &'a str, kind: &'static str) -> Self {
        Self { origin, text, kind }
    }

    /// Where the text comes from.
    pub const fn origin(&self) -> &'a Origin {
        self.origin
    }

    /// Parses the text as TOML. `advice` is the next step for a text that does not have the form of `T`.
    ///
    /// # Errors
    /// If the text is too long, is no TOML, or does not have the form of `T`.
    pub fn parse<T: DeserializeOwned>(&self, advice: &str) -> Result<T, FileError> {
        if self.text.len() > TEXT_LIMIT {
            return Err(self.error(None, "the file is larger than 256 KiB", "split it into several"));
        }
        toml::from_str(self.text).map_err(|error| self.error(error.span(), error.message(), advice))
    }

    /// Checks the name of the file.
    ///
    /// # Errors
    /// If the name has other characters than names may have, or is `auto`, which the configuration reads as "choose one".
    pub fn check_name(&self, name: &Spanned<String>) -> Result<(), FileError> {
        let text = name.as_ref();
        let fits = (1..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if fits && text != "auto" {
            return Ok(());
        }
        Err(self.error(
            Some(name.span()),
            format!("`{text}` is no name for a {}", self.kind),
            "use 1 to 64 of A-Z a-z 0-9 . _ -, and not `auto`",
        ))
    }

    /// An error at the start of `span` (in bytes), or at the start of the text.
    pub fn error(
        &self,
        span: Option<Range<usize>>,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) -> FileError {
        let before = span.and_then(|span| self.text.get(..span.start)).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        FileError {
            file: self
                .origin
                .path()
                .map_or_else(|| format!("built-in {}", self.kind), |path| path.display().to_string()),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: message.into(),
            advice: advice.into(),
        }
    }
}

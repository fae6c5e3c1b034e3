//! Problems of a configuration: each has a place and a next step, and all are reported at once.

mod render;
pub(crate) mod suggest;

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use serde::ser::{Serialize, SerializeStruct, Serializer};

/// Everything that is wrong with a configuration. Never empty as an error.
///
/// `Display` gives one line per problem, [`ConfigProblems::render`] the lines of the file with a caret.
#[derive(Debug, Clone, PartialEq, serde::Serialize, thiserror::Error)]
#[serde(transparent)]
#[error("{}", one_per_line(.0))]
pub struct ConfigProblems(pub Vec<ConfigProblem>);

impl ConfigProblems {
    /// All problems for a person, each with its line, a caret and a next step; with ANSI colours where asked.
    pub fn render(&self, style: RenderStyle) -> String {
        let rendered: Vec<String> = self.0.iter().map(|problem| problem.render(style)).collect();
        rendered.join("\n\n")
    }
}

impl From<ConfigProblem> for ConfigProblems {
    fn from(problem: ConfigProblem) -> Self {
        Self(vec![problem])
    }
}

fn one_per_line(problems: &[ConfigProblem]) -> String {
    let lines: Vec<String> = problems.iter().map(ConfigProblem::to_string).collect();
    lines.join("\n")
}

/// How problems are rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenderStyle {
    /// Text without colours.
    Plain,
    /// With ANSI colours.
    Coloured,
}

/// One error or warning.
///
/// Serializes to `severity`, `message`, `help` and, where they apply, `file`, `line`, `column`, `variable`, `argument`.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigProblem {
    /// How bad it is.
    pub severity: Severity,
    /// Where it is.
    pub location: Location,
    /// The mistake: a lower-case fragment.
    pub message: String,
    /// The next step for the user.
    pub help: Option<String>,
    /// The other place that belongs to the problem, with its label.
    pub related: Option<(Location, String)>,
    /// Whether the line of the file may be shown.
    pub excerpt: Excerpt,
}

/// Whether rendering shows the line of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excerpt {
    /// It does.
    Shown,
    /// A secret is on that line.
    Withheld,
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, and probably not as meant.
    Warning,
}

/// Where a problem is.
#[derive(Debug, Clone, PartialEq)]
pub enum Location {
    /// In a text, at a range of bytes.
    Text {
        /// The text.
        document: Arc<Document>,
        /// The range of bytes that is meant.
        span: Range<usize>,
    },
    /// In an environment variable of this name.
    Variable(Arc<str>),
    /// In an argument of the command line, such as `--profile`.
    Argument(&'static str),
    /// In a file as a whole.
    File(PathBuf),
}

/// A text that was read, and its name.
#[derive(Debug, PartialEq)]
pub struct Document {
    /// The file as the user names it.
    pub name: String,
    /// All of it.
    pub text: Arc<str>,
    /// Its origin.
    pub layer: Layer,
}

/// The origin of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// It is compiled into the program.
    BuiltIn,
    /// The user.
    User,
}

impl Location {
    /// Line and column, both from 1; the column counts characters. `None` outside a text.
    pub fn line_and_column(&self) -> Option<(usize, usize)> {
        let Self::Text { document, span } = self else { return None };
        let before = document.text.get(..span.start).unwrap_or(&document.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        Some((line, before[line_start..].chars().count() + 1))
    }

    /// Whether the built-in defaults are meant, and not something that the user wrote.
    pub(crate) fn is_built_in(&self) -> bool {
        matches!(self, Self::Text { document, .. } if document.layer == Layer::BuiltIn)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text { document, .. } => {
                let (line, column) = self.line_and_column().unwrap_or((1, 1));
                write!(f, "{}:{line}:{column}", document.name)
            }
            Self::Variable(name) => f.write_str(name),
            Self::Argument(name) => f.write_str(name),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

impl ConfigProblem {
    /// An error with its next step.
    pub(crate) fn error(location: &Location, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            location: location.clone(),
            message: message.into(),
            help: Some(help.into()),
            related: None,
            excerpt: Excerpt::Shown,
        }
    }

    /// A warning with its next step.
    pub fn warning(location: &Location, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(location, message, help) }
    }

    /// For a place that holds a secret.
    pub(crate) fn without_excerpt(mut self) -> Self {
        self.excerpt = Excerpt::Withheld;
        self
    }

    /// With the other place that takes part.
    pub(crate) fn related(mut self, location: &Location, what: impl Into<String>) -> Self {
        self.related = Some((location.clone(), what.into()));
        self
    }
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.location, self.message)
    }
}

impl Serialize for ConfigProblem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_struct("Problem", 6)?;
        map.serialize_field("severity", &self.severity)?;
        match &self.location {
            Location::Text { document, .. } => {
                let (line, column) = self.location.line_and_column().unwrap_or((1, 1));
                map.serialize_field("file", &document.name)?;
                map.serialize_field("line", &line)?;
                map.serialize_field("column", &column)?;
            }
            Location::Variable(name) => map.serialize_field("variable", &**name)?,
            Location::Argument(name) => map.serialize_field("argument", name)?,
            Location::File(path) => map.serialize_field("file", &path.display().to_string())?,
        }
        map.serialize_field("message", &self.message)?;
        map.serialize_field("help", &self.help)?;
        map.end()
    }
}

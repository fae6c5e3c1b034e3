//! Problems of a configuration: each has a place and a next step, and all are reported at once.

mod render;

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use serde::ser::{Serialize, SerializeStruct, Serializer};

/// Most problems that are shown. A person fixes the first ones and checks again.
pub const SHOWN: usize = 20;

/// Longest message, in bytes: it may quote a value of any length.
const LONGEST_MESSAGE: usize = 1024;

/// Everything that is wrong with a configuration. Never empty as an error.
///
/// `Display` gives one line per problem, [`ConfigProblems::render`] the lines of the file with a caret. Both show the first 20
/// and say how many more there are; JSON has all.
#[derive(Debug, Clone, PartialEq, serde::Serialize, thiserror::Error)]
#[serde(transparent)]
#[error("{}", self.within(usize::MAX))]
pub struct ConfigProblems(pub Vec<ConfigProblem>);

impl ConfigProblems {
    /// In the order of the file, each once; those without a place in it come last.
    pub fn sorted(mut problems: Vec<ConfigProblem>) -> Self {
        problems.sort_by_key(|problem| problem.location.start().unwrap_or(usize::MAX));
        problems.dedup();
        Self(problems)
    }

    /// All problems for a person, each with its line, a caret and a next step; with ANSI colours where asked.
    pub fn render(&self, style: RenderStyle) -> String {
        let rendered = self.0.iter().take(SHOWN).map(|problem| problem.render(style));
        rendered.chain(more_than(SHOWN, self.0.len())).collect::<Vec<_>>().join("\n\n")
    }

    /// One line per problem, in at most about `bytes`; for a place where they stay for long.
    pub fn within(&self, bytes: usize) -> String {
        let mut left = bytes;
        let lines = self.0.iter().take(SHOWN).map(ConfigProblem::to_string);
        let fitting = lines.take_while(|line| match left.checked_sub(line.len() + 1) {
            Some(rest) => {
                left = rest;
                true
            }
            None => false,
        });
        let lines: Vec<String> = fitting.collect();
        let more = more_than(lines.len(), self.0.len());
        lines.into_iter().chain(more).collect::<Vec<_>>().join("\n")
    }
}

/// What stands for the problems that are not shown.
fn more_than(shown: usize, problems: usize) -> Option<String> {
    (problems > shown).then(|| format!("and {} more", problems - shown))
}

impl From<ConfigProblem> for ConfigProblems {
    fn from(problem: ConfigProblem) -> Self {
        Self(vec![problem])
    }
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
    /// The file without which a server does not start, where the problem is that it cannot be used.
    pub needed: Option<Box<NeededFile>>,
}

/// A file without which a server does not start, as its specification names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum NeededFile {
    /// A path, or a name that is searched in PATH.
    Executable(PathBuf),
    /// A model.
    Model(PathBuf),
    /// A file of API keys.
    Keys(PathBuf),
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
#[derive(Debug)]
pub struct Document {
    /// The file as the user names it.
    pub name: String,
    /// All of it.
    pub text: Arc<str>,
    /// Its origin.
    pub layer: Layer,
    /// Where each line begins; made when a place is first needed.
    line_starts: OnceLock<Box<[usize]>>,
}

impl Document {
    /// A text under the name that the user gives it.
    pub fn new(name: impl Into<String>, text: impl Into<Arc<str>>, layer: Layer) -> Self {
        Self { name: name.into(), text: text.into(), layer, line_starts: OnceLock::new() }
    }

    /// The line of a byte, from 1, and where it begins.
    fn line_of(&self, at: usize) -> (usize, usize) {
        let starts = self.line_starts.get_or_init(|| {
            std::iter::once(0).chain(self.text.match_indices('\n').map(|(newline, _)| newline + 1)).collect()
        });
        let line = starts.partition_point(|start| *start <= at);
        (line, line.checked_sub(1).and_then(|index| starts.get(index)).copied().unwrap_or(0))
    }
}

impl PartialEq for Document {
    fn eq(&self, other: &Self) -> bool {
        // Places are compared often, and nearly always within one document.
        std::ptr::eq(self, other) || (&self.name, &self.text) == (&other.name, &other.text)
    }
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
        let (line, line_start) = document.line_of(span.start);
        let before = document.text.get(line_start..span.start).unwrap_or_default();
        Some((line, before.chars().count() + 1))
    }

    /// The first byte, for sorting.
    pub const fn start(&self) -> Option<usize> {
        match self {
            Self::Text { span, .. } => Some(span.start),
            Self::Variable(_) | Self::Argument(_) | Self::File(_) => None,
        }
    }

    /// The text that it is in; `None` outside a text.
    pub const fn document(&self) -> Option<&Arc<Document>> {
        match self {
            Self::Text { document, .. } => Some(document),
            _ => None,
        }
    }

    /// Whether the built-in defaults are meant, and not something that the user wrote.
    pub fn is_built_in(&self) -> bool {
        matches!(self, Self::Text { document, .. } if document.layer == Layer::BuiltIn)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // It is compiled in: the reader has no such file.
            Self::Text { .. } if self.is_built_in() => f.write_str("the built-in defaults"),
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
    pub fn error(location: &Location, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            location: location.clone(),
            message: shortened(message.into()),
            help: Some(shortened(help.into())),
            related: None,
            excerpt: Excerpt::Shown,
            needed: None,
        }
    }

    /// A warning with its next step.
    pub fn warning(location: &Location, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(location, message, help) }
    }

    /// For a place that holds a secret.
    pub fn without_excerpt(mut self) -> Self {
        self.excerpt = Excerpt::Withheld;
        self
    }

    /// About a file that a server needs.
    #[must_use]
    pub fn about(mut self, needed: NeededFile) -> Self {
        self.needed = Some(Box::new(needed));
        self
    }

    /// With the other place that takes part.
    pub fn related(mut self, location: &Location, what: impl Into<String>) -> Self {
        self.related = Some((location.clone(), what.into()));
        self
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > LONGEST_MESSAGE {
        text.truncate(text.floor_char_boundary(LONGEST_MESSAGE));
        text.push('…');
    }
    text
}

impl std::error::Error for ConfigProblem {}

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
            location @ Location::Text { .. } if location.is_built_in() => {
                map.serialize_field("file", &location.to_string())?;
            }
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

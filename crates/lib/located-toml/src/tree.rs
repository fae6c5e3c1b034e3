//! A TOML document as a tree in which each key and value knows its place and its dotted path.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use toml::de::{DeInteger, DeTable, DeValue};

use crate::problem::{ConfigProblem, Document, Location};
use crate::syntax::SyntaxErrors;

/// One value and where it was written.
#[derive(Debug, Clone)]
pub struct TomlNode {
    /// Its dotted path, such as `stop.grace` or `servers[0].port`.
    pub path: String,
    /// Its place.
    pub location: Location,
    /// What it is.
    pub data: TomlData,
}

/// A value by its type.
#[derive(Debug, Clone)]
pub enum TomlData {
    /// A text.
    String(String),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// `true` or `false`.
    Boolean(bool),
    /// A date, a time, or both.
    Datetime(toml::value::Datetime),
    /// Several values.
    Array(Vec<TomlNode>),
    /// Values by key.
    Table(TomlTable),
    /// The value of an environment variable, which takes whatever type is asked for.
    Untyped(String),
}

/// The entries of a table, by key, each with the place of the key.
pub type TomlTable = BTreeMap<String, (Location, TomlNode)>;

impl TomlData {
    /// The type, with its article, for messages.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::String(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Boolean(_) => "a boolean",
            Self::Datetime(_) => "a date",
            Self::Array(_) => "an array",
            Self::Table(_) => "a table",
            Self::Untyped(_) => "that",
        }
    }
}

/// Parses a document, and reports its syntax errors. `None` where the tree is not worth reading after them.
pub fn parse(document: &Arc<Document>, problems: &mut Vec<ConfigProblem>) -> Option<TomlNode> {
    let (table, errors) = DeTable::parse_recoverable(&document.text);
    let errors = SyntaxErrors::of(document, &errors, table.get_ref());
    problems.extend(errors.problems);
    let mut builder = Builder { document, problems };
    errors.is_readable.then(|| builder.node(String::new(), table.span(), DeValue::Table(table.into_inner())))
}

struct Builder<'a> {
    document: &'a Arc<Document>,
    problems: &'a mut Vec<ConfigProblem>,
}

impl Builder<'_> {
    fn location(&self, span: Range<usize>) -> Location {
        Location::Text { document: Arc::clone(self.document), span }
    }

    fn node(&mut self, path: String, span: Range<usize>, value: DeValue<'_>) -> TomlNode {
        let location = self.location(span);
        let data = match value {
            DeValue::String(text) => TomlData::String(text.into_owned()),
            DeValue::Integer(digits) => TomlData::Integer(self.integer(&location, &digits)),
            DeValue::Float(digits) => TomlData::Float(digits.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(value) => TomlData::Boolean(value),
            DeValue::Datetime(time) => TomlData::Datetime(time),
            DeValue::Array(items) => {
                let items = items.into_iter().enumerate();
                TomlData::Array(
                    items.map(|(i, item)| self.node(format!("{path}[{i}]"), item.span(), item.into_inner())).collect(),
                )
            }
            DeValue::Table(table) => TomlData::Table(self.table(&path, table)),
        };
        TomlNode { path, location, data }
    }

    fn table(&mut self, path: &str, table: DeTable<'_>) -> TomlTable {
        let entries = table.into_iter().map(|(key, value)| {
            let place = self.location(key.span());
            let key = key.into_inner().into_owned();
            let node = self.node(join(path, &key), value.span(), value.into_inner());
            (key, (place, node))
        });
        entries.collect()
    }

    fn integer(&mut self, location: &Location, digits: &DeInteger<'_>) -> i64 {
        i64::from_str_radix(digits.as_str(), digits.radix()).unwrap_or_else(|_| {
            let message = "the number does not fit into 64 bits";
            self.problems.push(ConfigProblem::error(location, message, "write a smaller number"));
            0
        })
    }
}

/// The dotted path of a key.
pub fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

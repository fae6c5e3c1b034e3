//! The macros of a file of llama-swap: `${name}`, `${env.NAME}`, `${MODEL_ID}` and `${PORT}`.
//!
//! A macro may have others in it, so that a few lines can mean any amount of text. What macros write is counted before it is
//! written, for each value and for the whole file, and the first byte too many ends the conversion.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::SwapError;
use super::node::{Node, NodeMap};
use crate::command_line::PORT;

/// Deepest nesting of macros. llama-swap asks for each to be defined before its use, which makes circles impossible there.
const DEEPEST: usize = 32;

/// Most bytes that macros write into one value: Linux takes no longer argument (`MAX_ARG_STRLEN`, 32 pages of 4 KiB).
const LONGEST_VALUE: usize = 128 << 10;

/// Most bytes that macros write into all values of a file.
const LONGEST_FILE: usize = 16 << 20;

/// Most levels of lists and maps that a value has with its macros.
const MOST_LEVELS: usize = 128;

/// What a macro within a macro, or an element of a list in one, counts besides its text. Otherwise, an empty one could be used without
/// end.
const COST: usize = 16;

/// Parts of names of variables whose values are not written into a file.
const SECRETS: [&str; 4] = ["KEY", "TOKEN", "SECRET", "PASSWORD"];

/// The macros that are known at one place.
#[derive(Debug)]
pub(crate) struct Macros<'a> {
    own: BTreeMap<String, Node>,
    /// Those of the file, where these are a model's.
    shared: Option<&'a Macros<'a>>,
    environment: &'a dyn VariableSource,
    /// The bytes that macros have written into the file so far.
    written: Rc<Cell<usize>>,
}

/// The variables of a process.
pub(crate) trait VariableSource: std::fmt::Debug {
    /// The value of a variable.
    fn value(&self, name: &str) -> Option<String>;
}

/// What could not be expanded in a text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Unexpanded(pub(crate) Vec<String>);

impl<'a> Macros<'a> {
    pub(crate) fn new(own: NodeMap, environment: &'a dyn VariableSource) -> Self {
        Self { own: own.0.into_iter().collect(), shared: None, environment, written: Rc::default() }
    }

    /// These and those of a model, which come first.
    pub(crate) fn with(&'a self, own: NodeMap, model: &str) -> Self {
        let mut own: BTreeMap<String, Node> = own.0.into_iter().collect();
        own.insert("MODEL_ID".to_owned(), Node::Text(model.to_owned()));
        own.insert("PORT".to_owned(), Node::Text(PORT.to_owned()));
        Self { own, shared: Some(self), environment: self.environment, written: Rc::clone(&self.written) }
    }

    /// The map with every macro in it expanded. A text that is nothing but one macro becomes that macro's value. `place` is where the map
    /// stands.
    ///
    /// # Errors
    /// Macros write too much into one of its values, or into the file.
    pub(crate) fn expand(&self, place: &str, map: NodeMap, unexpanded: &mut Unexpanded) -> Result<NodeMap, SwapError> {
        let mut entries = Vec::with_capacity(map.0.len());
        for (key, node) in map.0 {
            let mut value = ExpandedValue { macros: self, written: 0, levels: 0, outermost: String::new(), unexpanded };
            let expanded = value.text(&key, 0).and_then(|key| Ok((key, value.node(&node, 0)?)));
            let (key, node) = expanded.map_err(|TooMuch { name, limit }| SwapError::Macros {
                place: format!("{place}.{key}"),
                name,
                limit,
            })?;
            entries.push((key.into_text().unwrap_or_default(), node));
        }
        Ok(NodeMap(entries))
    }

    fn get(&self, name: &str) -> Option<&Node> {
        self.own.get(name).or_else(|| self.shared?.get(name))
    }
}

/// Macros write more than they may.
struct TooMuch {
    /// The macro that the file names there, in which others may be.
    name: String,
    limit: &'static str,
}

/// A value whose macros are being expanded.
struct ExpandedValue<'a> {
    macros: &'a Macros<'a>,
    /// The bytes that macros have written into it.
    written: usize,
    /// The lists and maps around what is being expanded.
    levels: usize,
    /// The macro that the value itself names, while it is expanded.
    outermost: String,
    unexpanded: &'a mut Unexpanded,
}

impl ExpandedValue<'_> {
    /// Counts bytes that are about to be written, unless the value itself has them.
    fn count(&mut self, bytes: usize, depth: usize) -> Result<(), TooMuch> {
        if depth == 0 {
            return Ok(());
        }
        self.written = self.written.saturating_add(bytes);
        let in_file = self.macros.written.get().saturating_add(bytes);
        self.macros.written.set(in_file);
        let limit = if self.written > LONGEST_VALUE {
            "128 KiB into it"
        } else if in_file > LONGEST_FILE {
            "16 MiB into the file"
        } else {
            return Ok(());
        };
        Err(self.too_much(limit))
    }

    fn too_much(&self, limit: &'static str) -> TooMuch {
        TooMuch { name: self.outermost.clone(), limit }
    }

    fn node(&mut self, node: &Node, depth: usize) -> Result<Node, TooMuch> {
        self.count(COST, depth)?;
        if self.levels == MOST_LEVELS {
            return Err(self.too_much("128 levels of lists and maps into it"));
        }
        self.levels += 1;
        let expanded = match node {
            Node::Text(text) => self.text(text, depth)?,
            Node::List(nodes) => {
                Node::List(nodes.iter().map(|node| self.node(node, depth)).collect::<Result<_, TooMuch>>()?)
            }
            Node::Map(map) => {
                let entries = map.0.iter().map(|(key, node)| {
                    let key = self.text(key, depth)?.into_text().unwrap_or_default();
                    Ok((key, self.node(node, depth)?))
                });
                Node::Map(NodeMap(entries.collect::<Result<_, TooMuch>>()?))
            }
            other => other.clone(),
        };
        self.levels -= 1;
        Ok(expanded)
    }

    fn text(&mut self, text: &str, depth: usize) -> Result<Node, TooMuch> {
        let mut expanded = String::new();
        let mut rest = text;
        while let Some((before, name, after)) = next_macro(rest) {
            self.count(before.len(), depth)?;
            match self.value(name, depth)? {
                Some(value) if before.is_empty() && after.is_empty() && expanded.is_empty() => return Ok(value),
                Some(value) => {
                    expanded.push_str(before);
                    expanded.push_str(&value.into_text().unwrap_or_default());
                }
                None => {
                    self.count(name.len(), depth)?;
                    self.unexpanded.0.push(name.to_owned());
                    expanded.push_str(before);
                    expanded.push_str(&format!("${{{name}}}"));
                }
            }
            rest = after;
        }
        self.count(rest.len(), depth)?;
        expanded.push_str(rest);
        Ok(Node::Text(expanded))
    }

    fn value(&mut self, name: &str, depth: usize) -> Result<Option<Node>, TooMuch> {
        if depth == 0 {
            name.clone_into(&mut self.outermost);
        }
        if let Some(variable) = name.strip_prefix("env.") {
            let is_secret = SECRETS.iter().any(|part| variable.to_ascii_uppercase().contains(part));
            let value = self.macros.environment.value(variable).filter(|_| !is_secret);
            self.count(value.as_ref().map_or(0, |value| value.len() + COST), depth + 1)?;
            return Ok(value.map(Node::Text));
        }
        let macros = self.macros;
        match macros.get(name).filter(|_| depth < DEEPEST) {
            Some(value) => self.node(value, depth + 1).map(Some),
            None => Ok(None),
        }
    }
}

/// What is before the next macro, its name, and what is behind it.
fn next_macro(text: &str) -> Option<(&str, &str, &str)> {
    let begin = text.find("${")?;
    let end = text[begin..].find('}')? + begin;
    Some((&text[..begin], &text[begin + 2..end], &text[end + 1..]))
}

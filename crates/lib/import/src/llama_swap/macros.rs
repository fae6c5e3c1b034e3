//! The macros of a file of llama-swap: `${name}`, `${env.NAME}`, `${MODEL_ID}` and `${PORT}`.

use std::collections::BTreeMap;

use super::node::{Node, NodeMap};

/// Deepest nesting of macros. llama-swap asks for each to be defined before its use, which makes circles impossible there.
const DEEPEST: usize = 32;

/// Parts of names of variables whose values are not written into a file.
const SECRETS: [&str; 4] = ["KEY", "TOKEN", "SECRET", "PASSWORD"];

/// What stands for the port that llama-swap would choose. It is no text that a command has.
pub(crate) const PORT: &str = "\u{0}port\u{0}";

/// The macros that are known at one place.
#[derive(Debug, Clone)]
pub(crate) struct Macros<'a> {
    values: BTreeMap<String, Node>,
    environment: &'a dyn VariableSource,
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
        Self { values: own.0.into_iter().collect(), environment }
    }

    /// These and those of a model, which come first.
    pub(crate) fn with(&self, own: NodeMap, model: &str) -> Self {
        let mut values = self.values.clone();
        values.extend(own.0);
        values.insert("MODEL_ID".to_owned(), Node::Text(model.to_owned()));
        values.insert("PORT".to_owned(), Node::Text(PORT.to_owned()));
        Self { values, environment: self.environment }
    }

    /// The node with every macro in it expanded. A text that is nothing but one macro becomes that macro's value.
    pub(crate) fn expand(&self, node: Node, unexpanded: &mut Unexpanded) -> Node {
        self.expand_at(node, 0, unexpanded)
    }

    fn expand_at(&self, node: Node, depth: usize, unexpanded: &mut Unexpanded) -> Node {
        match node {
            Node::Text(text) => self.expand_text(&text, depth, unexpanded),
            Node::List(nodes) => {
                Node::List(nodes.into_iter().map(|node| self.expand_at(node, depth, unexpanded)).collect())
            }
            Node::Map(map) => {
                let entries = map.0.into_iter().map(|(key, node)| {
                    let key = self.expand_text(&key, depth, unexpanded).into_text().unwrap_or_default();
                    (key, self.expand_at(node, depth, unexpanded))
                });
                Node::Map(NodeMap(entries.collect()))
            }
            other => other,
        }
    }

    fn expand_text(&self, text: &str, depth: usize, unexpanded: &mut Unexpanded) -> Node {
        let mut expanded = String::new();
        let mut rest = text;
        while let Some((before, name, after)) = next_macro(rest) {
            match self.value(name, depth, unexpanded) {
                Some(value) if before.is_empty() && after.is_empty() && expanded.is_empty() => return value,
                Some(value) => {
                    expanded.push_str(before);
                    expanded.push_str(&value.into_text().unwrap_or_default());
                }
                None => {
                    unexpanded.0.push(name.to_owned());
                    expanded.push_str(before);
                    expanded.push_str(&format!("${{{name}}}"));
                }
            }
            rest = after;
        }
        expanded.push_str(rest);
        Node::Text(expanded)
    }

    fn value(&self, name: &str, depth: usize, unexpanded: &mut Unexpanded) -> Option<Node> {
        if let Some(variable) = name.strip_prefix("env.") {
            let is_secret = SECRETS.iter().any(|part| variable.to_ascii_uppercase().contains(part));
            return self.environment.value(variable).filter(|_| !is_secret).map(Node::Text);
        }
        let value = self.values.get(name).filter(|_| depth < DEEPEST)?;
        Some(self.expand_at(value.clone(), depth + 1, unexpanded))
    }
}

/// What is before the next macro, its name, and what is behind it.
fn next_macro(text: &str) -> Option<(&str, &str, &str)> {
    let begin = text.find("${")?;
    let end = text[begin..].find('}')? + begin;
    Some((&text[..begin], &text[begin + 2..end], &text[end + 1..]))
}

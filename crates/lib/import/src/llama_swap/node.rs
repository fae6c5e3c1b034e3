//! A YAML document whose maps keep their order.

use std::fmt;
use std::ops::RangeBounds;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use toml::Value;

use crate::command_line::LONGEST_SECONDS;

/// A value of the document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    Nothing,
    Switch(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(NodeMap),
}

/// A map in the order of the file. Whatever is taken is gone, so that what is left was not understood.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct NodeMap(pub(crate) Vec<(String, Node)>);

impl NodeMap {
    pub(crate) fn take(&mut self, key: &str) -> Option<Node> {
        let at = self.0.iter().position(|(name, _)| name == key)?;
        Some(self.0.remove(at).1).filter(|node| *node != Node::Nothing)
    }

    /// Takes what can be read so. Anything else stays, and is listed with the rest.
    fn take_as<T>(&mut self, key: &str, read: impl FnOnce(Node) -> Result<T, Node>) -> Option<T> {
        let at = self.0.iter().position(|(name, _)| name == key)?;
        let (name, node) = self.0.remove(at);
        match read(node) {
            Ok(read) => Some(read),
            Err(Node::Nothing) => None,
            Err(node) => {
                self.0.insert(at, (name, node));
                None
            }
        }
    }

    pub(crate) fn take_map(&mut self, key: &str) -> Self {
        let map = self.take_as(key, |node| match node {
            Node::Map(map) => Ok(map),
            other => Err(other),
        });
        map.unwrap_or_default()
    }

    pub(crate) fn take_text(&mut self, key: &str) -> Option<String> {
        self.take_as(key, |node| node.clone().into_text().ok_or(node)).filter(|text| !text.is_empty())
    }

    /// Takes a number of this range.
    pub(crate) fn take_integer(&mut self, key: &str, range: impl RangeBounds<i64>) -> Option<i64> {
        self.take_as(key, |node| {
            let number = match &node {
                Node::Integer(number) => Some(*number),
                Node::Text(text) => text.parse().ok(),
                _ => None,
            };
            number.filter(|number| range.contains(number)).ok_or(node)
        })
    }

    /// Takes seconds, at most a year. What they mean below 0, llama-swap says.
    pub(crate) fn take_seconds(&mut self, key: &str) -> Option<i64> {
        self.take_integer(key, ..=LONGEST_SECONDS)
    }

    pub(crate) fn take_switch(&mut self, key: &str) -> Option<bool> {
        self.take_as(key, |node| match node {
            Node::Switch(is_on) => Ok(is_on),
            Node::Text(text) => text.parse().map_err(|_| Node::Text(text)),
            other => Err(other),
        })
    }

    pub(crate) fn take_texts(&mut self, key: &str) -> Vec<String> {
        let nodes = match self.take(key) {
            Some(Node::List(nodes)) => nodes,
            other => {
                self.0.extend(other.map(|node| (key.to_owned(), node)));
                return Vec::new();
            }
        };
        let (rest, texts): (Vec<Node>, Vec<Node>) =
            nodes.into_iter().partition(|node| matches!(node, Node::List(_) | Node::Map(_)));
        if !rest.is_empty() {
            self.0.push((key.to_owned(), Node::List(rest)));
        }
        texts.into_iter().filter_map(Node::into_text).collect()
    }
}

impl Node {
    /// A scalar as text.
    pub(crate) fn into_text(self) -> Option<String> {
        Some(match self {
            Self::Text(text) => text,
            Self::Switch(is_on) => is_on.to_string(),
            Self::Integer(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Nothing | Self::List(_) | Self::Map(_) => return None,
        })
    }

    /// Whether it, or anything in it, has this text.
    pub(crate) fn has_text(&self, part: &str) -> bool {
        match self {
            Self::Text(text) => text.contains(part),
            Self::List(nodes) => nodes.iter().any(|node| node.has_text(part)),
            Self::Map(map) => map.0.iter().any(|(key, node)| key.contains(part) || node.has_text(part)),
            _ => false,
        }
    }

    /// Whether it is a list of nothing but scalars.
    pub(crate) fn is_texts(&self) -> bool {
        matches!(self, Self::List(nodes) if !nodes.iter().any(|node| matches!(node, Self::List(_) | Self::Map(_))))
    }

    /// Whether it has more levels of lists and maps than these, itself included.
    pub(crate) fn is_deeper_than(&self, levels: usize) -> bool {
        let Some(within) = levels.checked_sub(1) else { return true };
        match self {
            Self::List(nodes) => nodes.iter().any(|node| node.is_deeper_than(within)),
            Self::Map(map) => map.0.iter().any(|(_, node)| node.is_deeper_than(within)),
            _ => false,
        }
    }

    /// The same in TOML, which has no null: such entries are left out.
    pub(crate) fn into_toml(self) -> Option<Value> {
        Some(match self {
            Self::Nothing => return None,
            Self::Switch(is_on) => is_on.into(),
            Self::Integer(number) => number.into(),
            Self::Float(number) => number.into(),
            Self::Text(text) => text.into(),
            Self::List(nodes) => Value::Array(nodes.into_iter().filter_map(Self::into_toml).collect()),
            Self::Map(map) => {
                Value::Table(map.0.into_iter().filter_map(|(key, node)| Some((key, node.into_toml()?))).collect())
            }
        })
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, is_on: bool) -> Result<Node, E> {
        Ok(Node::Switch(is_on))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Node, E> {
        Ok(Node::Integer(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Node, E> {
        Ok(i64::try_from(number).map_or_else(|_| Node::Text(number.to_string()), Node::Integer))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Node, E> {
        Ok(Node::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Nothing)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Nothing)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut nodes: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = nodes.next_element()? {
            list.push(node);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = NodeMap::default();
        while let Some((key, node)) = entries.next_entry::<Node, Node>()? {
            map.0.push((key.into_text().unwrap_or_default(), node));
        }
        Ok(Node::Map(map))
    }
}

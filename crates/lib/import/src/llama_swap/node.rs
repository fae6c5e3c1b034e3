//! A YAML document whose maps keep their order.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use toml::Value;

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

    pub(crate) fn take_map(&mut self, key: &str) -> Self {
        match self.take(key) {
            Some(Node::Map(map)) => map,
            _ => Self::default(),
        }
    }

    pub(crate) fn take_text(&mut self, key: &str) -> Option<String> {
        self.take(key).and_then(Node::into_text).filter(|text| !text.is_empty())
    }

    pub(crate) fn take_integer(&mut self, key: &str) -> Option<i64> {
        match self.take(key)? {
            Node::Integer(number) => Some(number),
            Node::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    pub(crate) fn take_switch(&mut self, key: &str) -> Option<bool> {
        match self.take(key)? {
            Node::Switch(is_on) => Some(is_on),
            Node::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    pub(crate) fn take_texts(&mut self, key: &str) -> Vec<String> {
        match self.take(key) {
            Some(Node::List(nodes)) => nodes.into_iter().filter_map(Node::into_text).collect(),
            _ => Vec::new(),
        }
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

//! The values that only keys of the router take: names in requests, members of JSON bodies, origins of pages.

use llama_warden_fleet::JsonObject;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value as Json;

use crate::reader::{ConfigValue, ValueReader};
use crate::toml_tree::{TomlData, TomlNode};

/// Longest name of a model in a request.
const MAX_NAME: usize = 256;

/// A number that is set, or left to the daemon.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Auto<T> {
    /// The word `auto`.
    Auto,
    /// A value.
    Set(T),
}

impl<T: ConfigValue> ConfigValue for Auto<T> {
    const EXPECTED: &'static str = "\"auto\" or a number";

    fn read(node: &TomlNode, reader: &mut ValueReader) -> Option<Self> {
        match &node.data {
            TomlData::String(text) | TomlData::Untyped(text) if text == "auto" => Some(Self::Auto),
            TomlData::String(text) => reader.refuse_text(node, text, Self::EXPECTED),
            TomlData::Integer(_) | TomlData::Untyped(_) => T::read(node, reader).map(Self::Set),
            _ => reader.mismatch(node, Self::EXPECTED),
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let number = T::schema(generator);
        json_schema!({ "anyOf": [{ "const": "auto" }, number] })
    }
}

/// A finite number, 0 or more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EvictCost(pub f64);

impl ConfigValue for EvictCost {
    const EXPECTED: &'static str = "a number such as 1.0";

    fn read(node: &TomlNode, reader: &mut ValueReader) -> Option<Self> {
        let number = match &node.data {
            TomlData::Float(number) => *number,
            TomlData::Integer(number) => *number as f64,
            _ => return reader.mismatch(node, Self::EXPECTED),
        };
        if number.is_finite() && number >= 0.0 {
            return Some(Self(number));
        }
        reader.refuse(node, format_args!("is {number}"), "write a number from 0 up")
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": 0 })
    }
}

/// A name by which a request asks for a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelName(pub String);

impl ModelName {
    /// Whether a request can name a model so: not empty, at most 256 bytes, no control characters, no blanks around it.
    pub fn is_valid(text: &str) -> bool {
        let is_short = !text.is_empty() && text.len() <= MAX_NAME;
        is_short && text.trim() == text && !text.contains(char::is_control)
    }
}

impl ConfigValue for ModelName {
    const EXPECTED: &'static str = "a name such as \"gpt-4o-mini\"";

    fn read(node: &TomlNode, reader: &mut ValueReader) -> Option<Self> {
        let text = reader.text::<Self>(node)?;
        if Self::is_valid(text) {
            return Some(Self(text.to_owned()));
        }
        reader.refuse_text(node, text, Self::EXPECTED)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": MAX_NAME })
    }
}

/// A top-level member of a request's body; never `model`, by which the request is routed.
#[derive(Debug, Clone, PartialEq)]
pub struct MemberName(pub String);

impl ConfigValue for MemberName {
    const EXPECTED: &'static str = "the name of a member such as \"top_p\"";

    fn read(node: &TomlNode, reader: &mut ValueReader) -> Option<Self> {
        match reader.text::<Self>(node)? {
            "" => reader.refuse_text(node, "", Self::EXPECTED),
            "model" => reader.refuse(node, "is `model`, which every request keeps", "remove it"),
            text => Some(Self(text.to_owned())),
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "not": { "const": "model" } })
    }
}

/// The origin of a page as a browser sends it, or `*`.
#[derive(Debug, Clone, PartialEq)]
pub struct PageOrigin(pub String);

impl ConfigValue for PageOrigin {
    const EXPECTED: &'static str = "\"*\", or an origin such as \"https://chat.example.org\"";

    fn read(node: &TomlNode, reader: &mut ValueReader) -> Option<Self> {
        let text = reader.text::<Self>(node)?;
        // A browser sends scheme and host in lower case, and neither a path nor the usual port.
        let is_origin = text.split_once("://").is_some_and(|(scheme, host)| {
            let is_plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
            is_plain(scheme) && is_plain(host) && !text.bytes().any(|byte| byte.is_ascii_uppercase())
        });
        if is_origin || text == "*" {
            return Some(Self(text.to_owned()));
        }
        reader.refuse_text(node, text, Self::EXPECTED)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^([*]|[^/A-Z]+://[^/A-Z]+)$" })
    }
}

/// A table that is written into JSON.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JsonTable(pub JsonObject);

impl ConfigValue for JsonTable {
    const EXPECTED: &'static str = "a table of JSON values";

    fn read(node: &TomlNode, reader: &mut ValueReader) -> Option<Self> {
        match json(node, reader)? {
            Json::Object(members) => Some(Self(members)),
            _ => reader.mismatch(node, Self::EXPECTED),
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object" })
    }
}

/// The value in JSON, which has no dates and no infinite numbers.
fn json(node: &TomlNode, reader: &mut ValueReader) -> Option<Json> {
    Some(match &node.data {
        TomlData::String(text) => Json::from(text.as_str()),
        TomlData::Integer(number) => Json::from(*number),
        TomlData::Boolean(value) => Json::from(*value),
        TomlData::Float(number) if number.is_finite() => Json::from(*number),
        TomlData::Array(items) => Json::Array(items.iter().map(|item| json(item, reader)).collect::<Option<_>>()?),
        TomlData::Table(table) => {
            let members = table.iter().map(|(key, (_, node))| Some((key.clone(), json(node, reader)?)));
            Json::Object(members.collect::<Option<_>>()?)
        }
        TomlData::Float(_) | TomlData::Datetime(_) | TomlData::Untyped(_) => {
            return reader.refuse(node, "cannot be written in JSON", "write a string, or a finite number");
        }
    })
}

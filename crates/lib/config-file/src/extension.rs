//! `[extensions.NAME]`: tables of components that are compiled in from outside, kept as they are.
//!
//! Only the component knows the keys of its table, so nothing inside is checked here.

use schemars::{Schema, SchemaGenerator, json_schema};

use crate::reader::{ConfigValue, ValueReader};
use crate::toml_tree::{TomlData, TomlNode, TomlTable};

impl ConfigValue for toml::Table {
    const EXPECTED: &'static str = "a table";

    fn read(node: &TomlNode, reader: &mut ValueReader) -> Option<Self> {
        let TomlData::Table(table) = &node.data else {
            let why = format_args!("must be a table, not {}", node.data.kind());
            return reader.refuse(node, why, format!("write [{}] and the keys of the component below it", node.path));
        };
        Some(plain_table(table))
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object" })
    }
}

fn plain_table(table: &TomlTable) -> toml::Table {
    table.iter().map(|(key, (_, node))| (key.clone(), plain(node))).collect()
}

/// The value without its places.
fn plain(node: &TomlNode) -> toml::Value {
    match &node.data {
        TomlData::String(text) | TomlData::Untyped(text) => toml::Value::String(text.clone()),
        TomlData::Integer(number) => toml::Value::Integer(*number),
        TomlData::Float(number) => toml::Value::Float(*number),
        TomlData::Boolean(value) => toml::Value::Boolean(*value),
        TomlData::Datetime(time) => toml::Value::Datetime(*time),
        TomlData::Array(items) => toml::Value::Array(items.iter().map(plain).collect()),
        TomlData::Table(table) => toml::Value::Table(plain_table(table)),
    }
}

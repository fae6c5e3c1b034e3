//! Tables of options: which names and values are valid.

use std::collections::BTreeMap;

use llama_warden_fleet::FlagValue;
use schemars::{Schema, SchemaGenerator, json_schema};

use crate::reader::{ConfigValue, Located, ValueReader};
use crate::toml_tree::{TomlData, TomlNode};
use llama_warden_located_toml::{ConfigProblem, Location};

/// Options by long name without dashes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FlagTable(pub BTreeMap<String, Located<FlagValue>>);

/// Options that llama-warden passes itself, and the key of the server that says the same.
const RESERVED: [(&str, &str); 9] = [
    ("port", "port"),
    ("host", "host"),
    ("model", "model"),
    ("m", "model"),
    ("api-key-file", "api-key-file"),
    ("models-dir", "model"),
    ("hf-repo", "model"),
    ("hf", "model"),
    ("hfr", "model"),
];

impl ConfigValue for FlagTable {
    const EXPECTED: &'static str = "a table";

    fn read(node: &TomlNode, reader: &mut ValueReader) -> Option<Self> {
        let mut flags = BTreeMap::new();
        for (name, (place, value)) in reader.table::<Self>(node)? {
            if let Some(problem) = name_problem(name, place) {
                reader.problems.push(problem);
            } else if let Some(value) = reader.read(value) {
                flags.insert(name.clone(), value);
            }
        }
        Some(Self(flags))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let values = FlagValue::schema(generator);
        json_schema!({
            "type": "object",
            "propertyNames": { "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$" },
            "additionalProperties": values,
        })
    }

    fn overlaid(mut self, upper: Self) -> Self {
        self.0.extend(upper.0);
        self
    }
}

/// Why an option cannot be set under this name.
fn name_problem(name: &str, place: &Location) -> Option<ConfigProblem> {
    if let Some((_, key)) = RESERVED.iter().find(|(reserved, _)| *reserved == name) {
        let message = format!("`{name}` is not set as a flag: llama-warden passes it itself");
        return Some(ConfigProblem::error(place, message, format!("set it as the key `{key}` of the server")));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let bare = name.trim_start_matches('-');
    if bare.is_empty() || !bare.bytes().all(allowed) {
        let message = format!("`{}` is not the name of an option", name.escape_debug());
        return Some(ConfigProblem::error(place, message, "write the long name, such as ctx-size"));
    }
    (bare != name).then(|| {
        ConfigProblem::error(place, format!("`{name}` is written with dashes in front"), format!("write `{bare}`"))
    })
}

impl ConfigValue for FlagValue {
    const EXPECTED: &'static str = "a boolean, a number, a string or an array of strings";

    fn read(node: &TomlNode, reader: &mut ValueReader) -> Option<Self> {
        match &node.data {
            TomlData::Boolean(value) => Some(Self::Switch(*value)),
            TomlData::Integer(value) => Some(Self::Integer(*value)),
            TomlData::Float(value) if value.is_finite() => Some(Self::Float(*value)),
            TomlData::Float(_) => reader.refuse(node, "is not a finite number", "write a number such as 0.7"),
            TomlData::String(_) => flag_text(node, reader).map(Self::Text),
            TomlData::Untyped(_) => flag_text(node, reader).map(guessed),
            TomlData::Array(items) => {
                let texts: Vec<Option<String>> = items.iter().map(|item| repeated(item, reader)).collect();
                texts.into_iter().collect::<Option<_>>().map(Self::Many)
            }
            TomlData::Datetime(_) | TomlData::Table(_) => reader.mismatch(node, Self::EXPECTED),
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["boolean", "integer", "number", "string", "array"],
            "items": { "type": ["string", "integer", "number"] },
        })
    }
}

/// One value of an option that is given several times.
fn repeated(item: &TomlNode, reader: &mut ValueReader) -> Option<String> {
    match &item.data {
        TomlData::Integer(value) => Some(value.to_string()),
        TomlData::Float(value) => Some(value.to_string()),
        _ => flag_text(item, reader),
    }
}

/// A text that becomes the value of an option. Text that begins with `--` is refused: a build whose option has an optional
/// value would read it as an option of its own.
fn flag_text(node: &TomlNode, reader: &mut ValueReader) -> Option<String> {
    let text = reader.text::<String>(node)?;
    if text.contains(['\n', '\r']) {
        return reader.refuse(
            node,
            "contains a line break",
            "write it on one line, or use the option that reads a file",
        );
    }
    if text.starts_with("--") {
        let why = format!("is `{text}`, which reads as an option of its own");
        return reader.refuse(node, why, "set that option as a flag");
    }
    Some(text.to_owned())
}

/// The value of an environment variable: the first of boolean, integer, number and text that its text parses as.
fn guessed(text: String) -> FlagValue {
    if let Ok(value) = text.parse() {
        FlagValue::Switch(value)
    } else if let Ok(value) = text.parse() {
        FlagValue::Integer(value)
    } else if let Some(value) = text.parse().ok().filter(|value: &f64| value.is_finite()) {
        FlagValue::Float(value)
    } else {
        FlagValue::Text(text)
    }
}

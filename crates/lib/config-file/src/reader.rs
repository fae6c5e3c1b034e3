//! Reads typed values from a tree and collects every problem, where serde would stop at the first.

use std::collections::BTreeMap;
use std::fmt::Display;

use schemars::{Schema, SchemaGenerator, json_schema};

use crate::other_words::{self, KnownTables};
use crate::toml_tree::{TomlData, TomlNode, TomlTable};
use llama_warden_located_toml::suggestion;
use llama_warden_located_toml::{ConfigProblem, Location};

/// What [`ConfigValue::EXPECTED`] is of a table.
const TABLE: &str = "a table";

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub location: Location,
}

/// Something that a key can be set to.
pub trait ConfigValue: Sized + Clone {
    /// The expected kind of value, with its article, for messages: `a duration such as "10s"`.
    const EXPECTED: &'static str;

    /// Reads it, or reports why not and gives `None`.
    fn read(node: &TomlNode, reader: &mut ValueReader) -> Option<Self>;

    /// Its JSON Schema, for editors.
    fn schema(generator: &mut SchemaGenerator) -> Schema;

    /// This value with `upper` laid over it: replaced, unless a type merges.
    fn overlaid(self, upper: Self) -> Self {
        upper
    }
}

/// Collects problems.
#[derive(Debug)]
pub struct ValueReader {
    tables: &'static KnownTables,
    /// The problems so far.
    pub problems: Vec<ConfigProblem>,
}

impl ValueReader {
    /// A reader of a file with these tables.
    pub(crate) const fn new(tables: &'static KnownTables) -> Self {
        Self { tables, problems: Vec::new() }
    }

    /// Reads a value and remembers its place.
    pub fn read<T: ConfigValue>(&mut self, node: &TomlNode) -> Option<Located<T>> {
        T::read(node, self).map(|value| Located { value, location: node.location.clone() })
    }

    /// Reports that a node has another type than the `expected` one, and gives no value.
    pub fn mismatch<V>(&mut self, node: &TomlNode, expected: &str) -> Option<V> {
        let why = match &node.data {
            TomlData::Untyped(text) => format!("must be {expected}, not `{text}`"),
            data => format!("must be {expected}, not {}", data.kind()),
        };
        let help = if expected == TABLE { other_words::main_key(node) } else { None };
        self.refuse(node, why, help.unwrap_or_else(|| format!("write {expected}")))
    }

    /// Reports that a value cannot be taken, and gives none.
    pub fn refuse<V>(&mut self, node: &TomlNode, why: impl Display, help: impl Into<String>) -> Option<V> {
        self.problems.push(ConfigProblem::error(&node.location, format!("`{}` {why}", node.path), help));
        None
    }

    /// Reports a text of the right type that says nothing that its key knows, and gives no value.
    pub fn refuse_text<V>(&mut self, node: &TomlNode, text: &str, expected: &str) -> Option<V> {
        self.refuse(node, format_args!("is `{text}`"), format!("write {expected}"))
    }

    /// The text of a node. A NUL byte ends a C string, so it is refused wherever text is read.
    pub fn text<'a, T: ConfigValue>(&mut self, node: &'a TomlNode) -> Option<&'a str> {
        match &node.data {
            TomlData::String(text) | TomlData::Untyped(text) if text.contains('\0') => {
                self.refuse(node, "contains a NUL character", "remove it: no argument or path can carry one")
            }
            TomlData::String(text) | TomlData::Untyped(text) => Some(text),
            _ => self.mismatch(node, T::EXPECTED),
        }
    }

    /// The entries of a table.
    pub fn table<'a, T: ConfigValue>(&mut self, node: &'a TomlNode) -> Option<&'a TomlTable> {
        match &node.data {
            TomlData::Table(table) => Some(table),
            _ => self.mismatch(node, T::EXPECTED),
        }
    }

    /// Reports a key that its table does not know, with its value.
    pub fn unknown_key(&mut self, location: &Location, value: &TomlNode, key: &str, known: &[&str]) {
        let near = || suggestion(key, known.iter().copied()).unwrap_or_else(|| "remove it".to_owned());
        let misplaced = || other_words::place(key, value, known, self.tables);
        let help = other_words::advice(key, value, known, self.tables).or_else(misplaced).unwrap_or_else(near);
        self.problems.push(ConfigProblem::error(location, format!("unknown key `{}`", value.path), help));
    }
}

/// `upper` where it is written, merged over `lower`.
pub fn overlay<T: ConfigValue>(lower: Option<Located<T>>, upper: Option<Located<T>>) -> Option<Located<T>> {
    match (lower, upper) {
        (Some(lower), Some(upper)) => {
            Some(Located { value: lower.value.overlaid(upper.value), location: upper.location })
        }
        (lower, upper) => upper.or(lower),
    }
}

impl<T: ConfigValue> ConfigValue for Vec<Located<T>> {
    const EXPECTED: &'static str = "an array";

    fn read(node: &TomlNode, reader: &mut ValueReader) -> Option<Self> {
        match &node.data {
            TomlData::Array(items) => {
                // Read all items before the first failure ends it, so that each is reported.
                let items: Vec<Option<Located<T>>> = items.iter().map(|item| reader.read(item)).collect();
                items.into_iter().collect()
            }
            TomlData::Untyped(_) => {
                reader.refuse(node, "cannot be set by an environment variable", "set the array in the file")
            }
            TomlData::Table(entries) if T::EXPECTED == TABLE => {
                let named = entries.iter().find(|(_, (_, value))| matches!(value.data, TomlData::Table(_)));
                let id = named.map(|(id, _)| format!(", and `id = {id:?}` below it")).unwrap_or_default();
                let help = format!("write [[{}]], with two brackets, above each of them{id}", node.path);
                reader.refuse(node, "must be an array of tables, not a table", help)
            }
            _ => reader.mismatch(node, Self::EXPECTED),
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let items = T::schema(generator);
        json_schema!({ "type": "array", "items": items })
    }
}

impl<T: ConfigValue> ConfigValue for BTreeMap<String, Located<T>> {
    const EXPECTED: &'static str = "a table";

    fn read(node: &TomlNode, reader: &mut ValueReader) -> Option<Self> {
        let table = reader.table::<Self>(node)?;
        Some(table.iter().filter_map(|(key, (_, node))| Some((key.clone(), reader.read(node)?))).collect())
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let values = T::schema(generator);
        json_schema!({ "type": "object", "additionalProperties": values })
    }

    fn overlaid(mut self, upper: Self) -> Self {
        self.extend(upper);
        self
    }
}

/// The schema of a table with a fixed set of keys.
pub fn table_schema<const N: usize>(about: &str, properties: [(&str, Schema, &str); N]) -> Schema {
    let described = properties.into_iter().map(|(key, mut schema, doc)| {
        schema.insert("description".into(), doc.trim().into());
        (key.to_owned(), schema.to_value())
    });
    let properties: serde_json::Map<String, serde_json::Value> = described.collect();
    json_schema!({
        "type": "object",
        "description": about.trim(),
        "properties": properties,
        "additionalProperties": false,
    })
}

/// Declares a table of the file once: its keys, their types and documentation give the struct, the reader, the
/// overlay and the schema.
macro_rules! table {
    (
        $(#[doc = $about:literal])+
        $name:ident {
            $($(#[doc = $doc:literal])+ $key:literal => $field:ident: $type:ty,)+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct $name {
            $($(#[doc = $doc])+ pub $field: Option<$crate::reader::Located<$type>>,)+
        }

        impl $name {
            /// Every key, in the order of the documentation.
            pub const KEYS: &'static [&'static str] = &[$($key),+];
        }

        impl $crate::reader::ConfigValue for $name {
            const EXPECTED: &'static str = "a table";

            fn read(node: &$crate::toml_tree::TomlNode, reader: &mut $crate::reader::ValueReader) -> Option<Self> {
                let mut this = Self::default();
                for (key, (place, value)) in reader.table::<Self>(node)? {
                    match key.as_str() {
                        $($key => this.$field = reader.read(value),)+
                        _ => reader.unknown_key(place, value, key, Self::KEYS),
                    }
                }
                Some(this)
            }

            fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                generator.subschema_for::<Self>()
            }

            fn overlaid(self, upper: Self) -> Self {
                Self { $($field: $crate::reader::overlay(self.$field, upper.$field),)+ }
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let properties = [$(
                    ($key, <$type as $crate::reader::ConfigValue>::schema(generator), concat!($($doc),+)),
                )+];
                $crate::reader::table_schema(concat!($($about),+), properties)
            }
        }
    };
}
pub(crate) use table;

//! A list of texts in one piece of memory.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Texts that are kept long and never change, such as a command line: list and texts are one piece of memory, which
/// clones share. Reads in JSON as a list of texts.
///
/// Kept as netstrings in a row: the length of a text in bytes, a colon, the text.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Texts(Arc<str>);

impl Texts {
    /// The texts, in order.
    pub fn iter(&self) -> TextsIter<'_> {
        TextsIter { rest: &self.0 }
    }

    /// Whether there is no text at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every text as a value of its own.
    pub fn to_vec(&self) -> Vec<String> {
        self.iter().map(str::to_owned).collect()
    }
}

/// The texts of a [`Texts`], in order.
#[derive(Debug, Clone)]
pub struct TextsIter<'a> {
    rest: &'a str,
}

impl<'a> Iterator for TextsIter<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let (length, rest) = self.rest.split_once(':')?;
        let (text, rest) = rest.split_at_checked(length.parse().ok()?)?;
        self.rest = rest;
        Some(text)
    }
}

impl<'a> IntoIterator for &'a Texts {
    type Item = &'a str;
    type IntoIter = TextsIter<'a>;

    fn into_iter(self) -> TextsIter<'a> {
        self.iter()
    }
}

impl<T: AsRef<str>> FromIterator<T> for Texts {
    fn from_iter<I: IntoIterator<Item = T>>(texts: I) -> Self {
        let mut row = String::new();
        for text in texts {
            let text = text.as_ref();
            row.push_str(&text.len().to_string());
            row.push(':');
            row.push_str(text);
        }
        Self(row.into())
    }
}

impl From<Vec<String>> for Texts {
    fn from(texts: Vec<String>) -> Self {
        texts.into_iter().collect()
    }
}

impl<const N: usize> From<[&str; N]> for Texts {
    fn from(texts: [&str; N]) -> Self {
        texts.into_iter().collect()
    }
}

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

impl Serialize for Texts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self)
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<String>::deserialize(deserializer).map(Self::from)
    }
}

impl JsonSchema for Texts {
    fn inline_schema() -> bool {
        <Vec<String>>::inline_schema()
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        <Vec<String>>::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        <Vec<String>>::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_read_as_they_were_given() {
        for given in [&[][..], &[""], &["", ""], &["a", "12:b", ":", "ä\0\n", "1"]] {
            let texts = Texts::from_iter(given);
            assert_eq!(texts.to_vec(), given);
            assert_eq!(texts.is_empty(), given.is_empty());
        }
    }

    #[test]
    fn texts_are_a_list_in_json() {
        let texts = Texts::from(["--port", "8080", "", "ä\0"]);
        let json = serde_json::to_string(&texts).expect("serializes");
        assert_eq!(json, r#"["--port","8080","","ä\u0000"]"#);
        assert_eq!(serde_json::from_str::<Texts>(&json).expect("reads"), texts);
    }
}

//! The key-value pairs of a header: the few that describe the model are kept, all others are skipped.
//!
//! The kept data is bounded: at most [`MAX_KEPT`] values, numbers or texts of at most [`CHUNK`] bytes.

use std::collections::BTreeMap;
use std::io::{Read, Seek};

use super::error::HeaderError;
use super::prefix::{CHUNK, Prefix};

/// Values kept of one file. A real one has about twenty that are wanted.
const MAX_KEPT: usize = 64;

/// Longer keys are none that is wanted.
const MAX_KEY_BYTES: usize = 256;

/// Numbers kept of an array; models have one per layer, and fewer than 200 layers.
const MAX_ITEMS: u64 = 1024;

/// Longest text that is kept, the chat template excepted.
const MAX_TEXT_BYTES: usize = 1024;

/// The smallest pair: a key of no length, its type, one byte.
pub(super) const MIN_PAIR_BYTES: u64 = 8 + 4 + 1;

/// The key of the chat template.
pub(super) const CHAT_TEMPLATE: &str = "tokenizer.chat_template";

/// A key of the projectors that LLaVA's own scripts wrote. Their `projection_dim` is a width within the projector.
pub(super) const HAS_LLAVA_PROJECTOR: &str = "clip.has_llava_projector";

/// Wanted as they are.
const WANTED: [&str; 10] = [
    HAS_LLAVA_PROJECTOR,
    "general.alignment",
    "general.architecture",
    "general.file_type",
    "general.name",
    "general.size_label",
    "general.type",
    "split.count",
    "split.no",
    CHAT_TEMPLATE,
];

/// Wanted after the name of any architecture, since that name may come later in the file.
const WANTED_OF_ARCHITECTURE: [&str; 16] = [
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "attention.value_length",
    "audio.projection_dim",
    "block_count",
    "context_length",
    "embedding_length",
    "expert_count",
    "expert_feed_forward_length",
    "expert_used_count",
    "feed_forward_length",
    "pooling_type",
    "vision.projection_dim",
];

/// A value that is kept. Real and negative numbers are not, since no wanted key has them.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Number(u64),
    Numbers(Vec<u64>),
    Text(String),
}

/// The wanted pairs of one header.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    values: BTreeMap<String, Value>,
}

impl Metadata {
    /// Reads `count` pairs.
    pub(super) fn read<R: Read + Seek>(prefix: &mut Prefix<R>, count: u64) -> Result<Self, HeaderError> {
        let mut metadata = Self::default();
        for _ in 0..count {
            let key = prefix.text(MAX_KEY_BYTES)?;
            let value_type = ValueType::read(prefix)?;
            if metadata.values.len() < MAX_KEPT && is_wanted(&key) {
                let keep = if key == CHAT_TEMPLATE { CHUNK } else { MAX_TEXT_BYTES };
                if let Some(value) = value_type.value(prefix, keep)? {
                    metadata.values.entry(key).or_insert(value);
                }
            } else {
                value_type.skip(prefix)?;
            }
        }
        Ok(metadata)
    }

    pub(super) fn number(&self, key: &str) -> Option<u64> {
        match self.values.get(key)? {
            Value::Number(number) => Some(*number),
            Value::Numbers(_) | Value::Text(_) => None,
        }
    }

    /// The numbers of an array, or the one number in place of it.
    pub(super) fn numbers(&self, key: &str) -> Option<&[u64]> {
        match self.values.get(key)? {
            Value::Number(number) => Some(std::slice::from_ref(number)),
            Value::Numbers(numbers) => Some(numbers),
            Value::Text(_) => None,
        }
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.values.get(key)? {
            Value::Text(text) => Some(text),
            Value::Number(_) | Value::Numbers(_) => None,
        }
    }
}

fn is_wanted(key: &str) -> bool {
    let of_architecture = |(_, rest): (&str, &str)| WANTED_OF_ARCHITECTURE.contains(&rest);
    WANTED.contains(&key) || key.split_once('.').is_some_and(of_architecture)
}

/// The type of a value.
#[derive(Debug, Clone, Copy)]
enum ValueType {
    Unsigned(usize),
    Signed(usize),
    Real(usize),
    Text,
    Array,
}

impl ValueType {
    fn read<R: Read + Seek>(prefix: &mut Prefix<R>) -> Result<Self, HeaderError> {
        Ok(match prefix.u32()? {
            // A truth value is a byte.
            0 | 7 => Self::Unsigned(1),
            1 => Self::Signed(1),
            2 => Self::Unsigned(2),
            3 => Self::Signed(2),
            4 => Self::Unsigned(4),
            5 => Self::Signed(4),
            6 => Self::Real(4),
            8 => Self::Text,
            9 => Self::Array,
            10 => Self::Unsigned(8),
            11 => Self::Signed(8),
            12 => Self::Real(8),
            other => return Err(HeaderError::Malformed { what: "the type of a value", found: other.into() }),
        })
    }

    /// Reads a value, of whose text `keep` bytes are kept.
    fn value<R: Read + Seek>(self, prefix: &mut Prefix<R>, keep: usize) -> Result<Option<Value>, HeaderError> {
        match self {
            Self::Unsigned(width) | Self::Signed(width) => {
                let number = prefix.unsigned(width)?;
                Ok(self.natural(number).map(Value::Number))
            }
            Self::Text => Ok(Some(Value::Text(prefix.text(keep)?))),
            Self::Real(_) => self.skip(prefix).map(|()| None),
            Self::Array => match Self::array(prefix)? {
                (items @ (Self::Unsigned(width) | Self::Signed(width)), count) if count <= MAX_ITEMS => {
                    let number = |_| Ok(items.natural(prefix.unsigned(width)?).unwrap_or(0));
                    (0..count).map(number).collect::<Result<_, _>>().map(|numbers| Some(Value::Numbers(numbers)))
                }
                (items, count) => items.skip_many(prefix, count).map(|()| None),
            },
        }
    }

    fn skip<R: Read + Seek>(self, prefix: &mut Prefix<R>) -> Result<(), HeaderError> {
        let (items, count) = if let Self::Array = self { Self::array(prefix)? } else { (self, 1) };
        items.skip_many(prefix, count)
    }

    fn skip_many<R: Read + Seek>(self, prefix: &mut Prefix<R>, count: u64) -> Result<(), HeaderError> {
        match self {
            Self::Unsigned(width) | Self::Signed(width) | Self::Real(width) => {
                prefix.skip(count.saturating_mul(width as u64))
            }
            Self::Text => prefix.skip_texts(count),
            Self::Array => Err(HeaderError::Malformed { what: "the type of an item", found: ARRAY_CODE }),
        }
    }

    /// The type and number of an array's items. Arrays of arrays are refused, as llama.cpp does.
    fn array<R: Read + Seek>(prefix: &mut Prefix<R>) -> Result<(Self, u64), HeaderError> {
        let items = Self::read(prefix)?;
        Ok((items, prefix.u64()?))
    }

    /// `number`, unless it is negative in this type.
    fn natural(self, number: u64) -> Option<u64> {
        let negative = matches!(self, Self::Signed(width) if number >> (8 * width - 1) & 1 == 1);
        (!negative).then_some(number)
    }
}

const ARRAY_CODE: u64 = 9;

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::testing::Gguf;

    #[test]
    fn a_flood_of_wanted_keys_is_kept_in_bounded_number() {
        let flood = (0..10_000).fold(Gguf::new(), |gguf, index| gguf.with(&format!("a{index}.block_count"), 1));
        let header = flood.header();
        let mut prefix = Prefix::new(Cursor::new(&header), header.len() as u64);
        prefix.skip(24).expect("fixed part");
        let metadata = Metadata::read(&mut prefix, 10_000).expect("sound");
        assert_eq!(metadata.values.len(), MAX_KEPT);
    }
}

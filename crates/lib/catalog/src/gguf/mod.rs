//! The header of a GGUF file, read without touching its tensors.
//!
//! Layout of versions 2 and 3: magic, version, tensor count, key count, the key-value pairs, one record per tensor,
//! padding to the alignment, tensor data. A file of the other byte order has its version's bytes swapped.
//! Everything here is bounded by constants, never by a number from the file.

mod byte_order;
mod error;
mod layers;
mod metadata;
mod prefix;
mod quantisation;
mod tensors;
mod texts;

use std::io::{Read, Seek};

pub(crate) use byte_order::ByteOrder;
pub(crate) use error::HeaderError;
pub(crate) use quantisation::file_type_name;
pub(crate) use tensors::Tensors;

use crate::model::NetworkShape;
use error::HEADER_LIMIT;
use layers::{Layers, WindowPattern};
use metadata::{CHAT_TEMPLATE, HAS_LLAVA_PROJECTOR, MIN_PAIR_BYTES, Metadata};
use prefix::Prefix;
use tensors::MIN_RECORD_BYTES;

const MAGIC: [u8; 4] = *b"GGUF";

/// The alignment of tensor data where `general.alignment` is absent, in bytes.
const DEFAULT_ALIGNMENT: u64 = 32;

/// The content of a header, with the values of the file.
#[derive(Debug)]
pub(crate) struct GgufHeader {
    pub(crate) byte_order: ByteOrder,
    pub(crate) architecture: Option<String>,
    pub(crate) name: Option<String>,
    /// `general.type`: `model`, `adapter`, `mmproj`, `imatrix`.
    pub(crate) file_role: Option<String>,
    pub(crate) size_label: Option<String>,
    pub(crate) file_type: Option<u64>,
    pub(crate) chat_template: Option<String>,
    pub(crate) context_length: Option<u64>,
    pub(crate) experts: Option<u64>,
    pub(crate) experts_used: Option<u64>,
    pub(crate) pooling_type: Option<u64>,
    /// Width of what a projector feeds into its model: that of the model itself.
    pub(crate) projection_width: Option<u64>,
    /// `split.count` and `split.no`, the latter from 0.
    pub(crate) split_count: Option<u64>,
    pub(crate) split_number: Option<u64>,
    pub(crate) shape: NetworkShape,
    pub(crate) tensors: Tensors,
}

impl GgufHeader {
    /// Reads the header of `source`, which stands at its start and is `file_bytes` long.
    ///
    /// # Errors
    /// [`HeaderError`], also when the file is too short for the tensors that its header lists.
    pub(crate) fn read(source: impl Read + Seek, file_bytes: u64) -> Result<Self, HeaderError> {
        if file_bytes == 0 {
            return Err(HeaderError::Empty);
        }
        let mut prefix = Prefix::new(source, file_bytes);
        let magic = prefix.bytes()?;
        if magic != MAGIC {
            return Err(HeaderError::NotGguf(magic));
        }
        let byte_order = read_version(&mut prefix)?;
        let tensor_count = read_count(&mut prefix, "tensors", MIN_RECORD_BYTES)?;
        let key_count = read_count(&mut prefix, "keys", MIN_PAIR_BYTES)?;
        let metadata = Metadata::read(&mut prefix, key_count)?;
        let tensors = Tensors::read(&mut prefix, tensor_count)?;
        check_length(&prefix, &metadata, &tensors)?;
        Ok(Self::new(byte_order, &metadata, tensors))
    }

    fn new(byte_order: ByteOrder, metadata: &Metadata, tensors: Tensors) -> Self {
        let text = |key: &str| metadata.text(key).map(printable).filter(|text| !text.is_empty());
        let architecture = text("general.architecture");
        let own_key = |key: &str| format!("{}.{key}", architecture.as_deref().unwrap_or_default());
        let own = |key: &str| metadata.number(&own_key(key));
        Self {
            byte_order,
            name: text("general.name"),
            file_role: text("general.type"),
            size_label: text("general.size_label"),
            file_type: metadata.number("general.file_type"),
            chat_template: metadata.text(CHAT_TEMPLATE).map(str::to_owned),
            context_length: own("context_length"),
            experts: own("expert_count").filter(|experts| *experts > 0),
            experts_used: own("expert_used_count").filter(|experts| *experts > 0),
            pooling_type: own("pooling_type"),
            projection_width: projection_width(metadata),
            split_count: metadata.number("split.count"),
            split_number: metadata.number("split.no"),
            shape: network_shape(metadata, architecture.as_deref().unwrap_or_default(), &tensors),
            architecture,
            tensors,
        }
    }
}

fn network_shape(metadata: &Metadata, architecture: &str, tensors: &Tensors) -> NetworkShape {
    let own_key = |key: &str| format!("{architecture}.{key}");
    let number = |key: &str| metadata.number(&own_key(key));
    let per_layer = |key: &str| metadata.numbers(&own_key(key));
    let widest = |key: &str| per_layer(key).and_then(|widths| widths.iter().max().copied());
    let block_count = number("block_count");
    let expert = widest("expert_feed_forward_length");
    let experts = expert.map(|width| width.saturating_mul(number("expert_used_count").unwrap_or(1)));
    let heads = per_layer("attention.head_count");
    let kv_heads = per_layer("attention.head_count_kv").or(heads);
    let sliding_window = number("attention.sliding_window").filter(|window| *window > 0);
    let pattern = per_layer("attention.sliding_window_pattern");
    let layers = Layers { count: block_count, pattern: WindowPattern::of(architecture, pattern) };
    NetworkShape {
        block_count,
        embedding_length: number("embedding_length"),
        feed_forward_length: widest("feed_forward_length").max(experts),
        vocabulary: tensors.vocabulary,
        head_count: heads.and_then(|heads| heads.iter().max().copied()),
        kv_heads: kv_heads.and_then(|counts| layers.sum(counts)),
        windowed_kv_heads: kv_heads.filter(|_| sliding_window.is_some()).and_then(|counts| layers.sum_windowed(counts)),
        sliding_window,
        key_length: number("attention.key_length"),
        value_length: number("attention.value_length"),
    }
}

/// llama.cpp's converter writes the width of the model. Other scripts wrote 0, or a width within the projector.
fn projection_width(metadata: &Metadata) -> Option<u64> {
    let keys = ["clip.vision.projection_dim", "clip.audio.projection_dim"];
    let written = keys.into_iter().find_map(|key| metadata.number(key)).filter(|width| *width > 0);
    written.filter(|_| metadata.number(HAS_LLAVA_PROJECTOR).is_none())
}

/// Reads the version, and with it the byte order, in which `prefix` reads from then on.
fn read_version<R: Read + Seek>(prefix: &mut Prefix<R>) -> Result<ByteOrder, HeaderError> {
    let little = prefix.u32()?;
    let (version, order) = match little {
        // No version is that large; llama.cpp determines the byte order in the same way.
        large if large & 0xFFFF == 0 => (large.swap_bytes(), ByteOrder::Big),
        small => (small, ByteOrder::Little),
    };
    prefix.set_order(order);
    if matches!(version, 2 | 3) { Ok(order) } else { Err(HeaderError::Version(version)) }
}

/// Reads how many records of `smallest` bytes or more follow. Refuses a count that no header can hold, before anything is
/// read for it.
fn read_count<R: Read + Seek>(prefix: &mut Prefix<R>, what: &'static str, smallest: u64) -> Result<u64, HeaderError> {
    let count = prefix.u64()?;
    if count > HEADER_LIMIT / smallest { Err(HeaderError::Count { what, count }) } else { Ok(count) }
}

/// Whether the file is long enough for its tensors.
fn check_length<R: Read + Seek>(prefix: &Prefix<R>, metadata: &Metadata, tensors: &Tensors) -> Result<(), HeaderError> {
    let alignment = metadata.number("general.alignment").unwrap_or(DEFAULT_ALIGNMENT);
    if !alignment.is_power_of_two() {
        return Err(HeaderError::Malformed { what: "the alignment", found: alignment });
    }
    let data_start = prefix.position().checked_next_multiple_of(alignment).unwrap_or(u64::MAX);
    let needed = data_start.saturating_add(tensors.data_bytes);
    let file_bytes = prefix.file_bytes();
    if tensors.count > 0 && needed > file_bytes {
        return Err(HeaderError::TensorsCut { needed, file_bytes });
    }
    Ok(())
}

/// A text of the file as it may be shown: one line, no control characters.
fn printable(text: &str) -> String {
    let visible: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    visible.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;

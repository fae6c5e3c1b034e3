//! The tensor records of a header, folded into sums while they pass by; the tensors themselves are never read.

use std::io::{Read, Seek};

use super::error::HeaderError;
use super::prefix::Prefix;
use super::quantisation::{TENSOR_TYPES, tensor_type};

/// The most dimensions of a tensor (`GGML_MAX_DIMS`).
const MAX_DIMENSIONS: u32 = 4;

/// The tensor that has a row for each word.
const TOKEN_EMBEDDING: &str = "token_embd.weight";

/// The smallest record: a name of no length, no dimension, type and offset.
pub(super) const MIN_RECORD_BYTES: u64 = 8 + 4 + 4 + 8;

/// All tensors of a file together.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tensors {
    pub(crate) count: u64,
    /// Weights in all tensors.
    pub(crate) elements: u64,
    /// Where the last tensor ends, in bytes from the start of the tensor data. Of tensors whose type is not known
    /// only the start counts.
    pub(crate) data_bytes: u64,
    /// The rows of the token embedding: words of the vocabulary.
    pub(crate) vocabulary: Option<u64>,
    elements_by_type: [u64; TENSOR_TYPES],
}

impl Tensors {
    /// Reads `count` records.
    pub(super) fn read<R: Read + Seek>(prefix: &mut Prefix<R>, count: u64) -> Result<Self, HeaderError> {
        let mut tensors =
            Self { count, elements: 0, data_bytes: 0, vocabulary: None, elements_by_type: [0; TENSOR_TYPES] };
        for _ in 0..count {
            tensors.read_one(prefix)?;
        }
        Ok(tensors)
    }

    /// Adds the tensors of another shard.
    pub(crate) fn add(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.elements = self.elements.saturating_add(other.elements);
        self.vocabulary = self.vocabulary.or(other.vocabulary);
        for (sum, elements) in self.elements_by_type.iter_mut().zip(other.elements_by_type) {
            *sum = sum.saturating_add(elements);
        }
    }

    /// The name of the type that most weights have; norms and biases stay `F32` whatever the rest is, so `F32` counts
    /// only where nothing else is.
    pub(crate) fn dominating_type(&self) -> Option<&'static str> {
        let by_type = self.elements_by_type.iter().enumerate();
        let (code, _) = by_type.filter(|(_, elements)| **elements > 0).max_by_key(|(code, elements)| {
            let is_f32 = *code == 0;
            (!is_f32, **elements)
        })?;
        tensor_type(code).map(|found| found.name)
    }

    fn read_one<R: Read + Seek>(&mut self, prefix: &mut Prefix<R>) -> Result<(), HeaderError> {
        let name = prefix.text(TOKEN_EMBEDDING.len() + 1)?;
        let dimensions = prefix.u32()?;
        if dimensions > MAX_DIMENSIONS {
            return Err(HeaderError::Malformed { what: "the number of dimensions", found: dimensions.into() });
        }
        let mut elements: u64 = 1;
        // The last dimension moves slowest: of a matrix its rows.
        let mut rows = 0;
        for _ in 0..dimensions {
            let length = prefix.u64()?;
            let product = elements.checked_mul(length).filter(|product| i64::try_from(*product).is_ok());
            elements = product.ok_or(HeaderError::Malformed { what: "the length of a dimension", found: length })?;
            rows = length;
        }
        if name == TOKEN_EMBEDDING {
            self.vocabulary = Some(rows);
        }
        let code = prefix.u32()? as usize;
        let offset = prefix.u64()?;
        let bytes = tensor_type(code).map_or(0, |found| found.bytes(elements));
        self.data_bytes = self.data_bytes.max(offset.saturating_add(bytes));
        self.elements = self.elements.saturating_add(elements);
        if let Some(sum) = self.elements_by_type.get_mut(code) {
            *sum = sum.saturating_add(elements);
        }
        Ok(())
    }
}

//! The GGUF container: writes a header as bytes.
//!
//! Layout of version 3, little-endian: magic, version, tensor count, key count, the key-value pairs, one record per
//! tensor, padding to the alignment, then the tensor data, each tensor padded to it too.

use crate::alignment::{ALIGNMENT, aligned};
use crate::shape::Tensor;
use crate::weights::WeightFormat;

/// The first four bytes of a GGUF file.
pub(crate) const MAGIC: [u8; 4] = *b"GGUF";
/// The version that is written, the newest one that llama.cpp reads.
pub(crate) const VERSION: u32 = 3;
/// The offset of the version in the file, in bytes.
pub(crate) const VERSION_AT: u64 = 4;
/// A metadata value, of one of the types that a llama model needs.
#[derive(Debug, Clone)]
pub(crate) enum PairValue {
    U32(u32),
    F32(f32),
    Bool(bool),
    String(String),
    I32Array(Vec<i32>),
    F32Array(Vec<f32>),
    StringArray(Vec<String>),
}

/// Collects key-value pairs and tensor records. [`HeaderWriter::finish`] puts their counts in front of them.
#[derive(Debug, Default)]
pub(crate) struct HeaderWriter {
    pairs: Vec<u8>,
    pair_count: u64,
    tensors: Vec<u8>,
    tensor_count: u64,
}

impl HeaderWriter {
    pub(crate) fn pair(&mut self, key: &str, value: &PairValue) {
        string(&mut self.pairs, key);
        put_value(&mut self.pairs, value);
        self.pair_count += 1;
    }

    /// Adds the record of a tensor, whose data is `offset` bytes behind the start of all data.
    pub(crate) fn tensor(&mut self, tensor: &Tensor, weights: WeightFormat, offset: u64) {
        let out = &mut self.tensors;
        string(out, &tensor.name);
        out.extend((tensor.dimensions.len() as u32).to_le_bytes());
        out.extend(tensor.dimensions.iter().flat_map(|dimension| dimension.to_le_bytes()));
        out.extend(tensor.format(weights).layout().type_code.to_le_bytes());
        out.extend(offset.to_le_bytes());
        self.tensor_count += 1;
    }

    /// The whole header, padded to [`ALIGNMENT`]: the tensor data follows it directly.
    pub(crate) fn finish(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24 + self.pairs.len() + self.tensors.len() + ALIGNMENT as usize);
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend(self.tensor_count.to_le_bytes());
        out.extend(self.pair_count.to_le_bytes());
        out.extend(self.pairs);
        out.extend(self.tensors);
        out.resize(aligned(out.len() as u64) as usize, 0);
        out
    }
}

const CODE_U32: u32 = 4;
const CODE_I32: u32 = 5;
const CODE_F32: u32 = 6;
const CODE_BOOL: u32 = 7;
const CODE_STRING: u32 = 8;
const CODE_ARRAY: u32 = 9;

fn put_value(out: &mut Vec<u8>, value: &PairValue) {
    match value {
        PairValue::U32(number) => scalar(out, CODE_U32, &number.to_le_bytes()),
        PairValue::F32(number) => scalar(out, CODE_F32, &number.to_le_bytes()),
        PairValue::Bool(flag) => scalar(out, CODE_BOOL, &[u8::from(*flag)]),
        PairValue::String(text) => {
            out.extend(CODE_STRING.to_le_bytes());
            string(out, text);
        }
        PairValue::I32Array(items) => numbers(out, CODE_I32, items.iter().map(|item| item.to_le_bytes())),
        PairValue::F32Array(items) => numbers(out, CODE_F32, items.iter().map(|item| item.to_le_bytes())),
        PairValue::StringArray(items) => {
            array(out, CODE_STRING, items.len());
            items.iter().for_each(|item| string(out, item));
        }
    }
}

fn scalar(out: &mut Vec<u8>, code: u32, bytes: &[u8]) {
    out.extend(code.to_le_bytes());
    out.extend(bytes);
}

fn numbers(out: &mut Vec<u8>, code: u32, items: impl ExactSizeIterator<Item = [u8; 4]>) {
    array(out, code, items.len());
    items.for_each(|item| out.extend(item));
}

fn array(out: &mut Vec<u8>, item_code: u32, length: usize) {
    out.extend(CODE_ARRAY.to_le_bytes());
    out.extend(item_code.to_le_bytes());
    out.extend((length as u64).to_le_bytes());
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

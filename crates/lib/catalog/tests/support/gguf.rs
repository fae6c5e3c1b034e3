//! Writes GGUF headers with any metadata, sound or not; tensor data is a hole in the file.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Which end of a number comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GgufByteOrder {
    Little,
    Big,
}

/// A value of a key. `Raw` is a type code and the bytes that follow it.
#[derive(Debug, Clone)]
pub enum GgufValue {
    U32(u32),
    U16(u16),
    I32(i32),
    F32(f32),
    Text(String),
    I32s(Vec<i32>),
    F32s(Vec<f32>),
    Texts(Vec<String>),
    Raw(u32, Vec<u8>),
}

impl From<&str> for GgufValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u32> for GgufValue {
    fn from(number: u32) -> Self {
        Self::U32(number)
    }
}

/// A file to be written.
#[derive(Debug, Clone)]
pub struct Gguf {
    version: u32,
    order: GgufByteOrder,
    pairs: Vec<(String, GgufValue)>,
    tensors: Vec<(Vec<u64>, u32, u64)>,
    data_bytes: u64,
}

impl Gguf {
    /// A file of version 3 without keys and tensors.
    pub fn new() -> Self {
        Self { version: 3, order: GgufByteOrder::Little, pairs: Vec::new(), tensors: Vec::new(), data_bytes: 0 }
    }

    /// A model of this architecture with one matrix of 8 billion weights in Q4_K.
    pub fn model(architecture: &str) -> Self {
        Self::new()
            .with("general.architecture", architecture)
            .with("general.file_type", 15)
            .tensor(&[4096, 1_953_125], 12)
    }

    pub fn version(self, version: u32) -> Self {
        Self { version, ..self }
    }

    pub fn order(self, order: GgufByteOrder) -> Self {
        Self { order, ..self }
    }

    /// With one more pair.
    pub fn with(mut self, key: &str, value: impl Into<GgufValue>) -> Self {
        self.pairs.push((key.to_owned(), value.into()));
        self
    }

    /// With one more tensor, which is as large as its dimensions say where the type is `F32` (0), `F16` (1), `Q8_0` (8)
    /// or `Q4_K` (12), and else large enough for any.
    pub fn tensor(mut self, dimensions: &[u64], type_code: u32) -> Self {
        let elements: u64 = dimensions.iter().fold(1, |product: u64, length| product.saturating_mul(*length));
        let bytes = match type_code {
            0 => elements.saturating_mul(4),
            1 => elements.saturating_mul(2),
            8 => elements.div_ceil(32) * 34,
            12 => elements.div_ceil(256) * 144,
            _ => elements.saturating_mul(8),
        };
        self.tensors.push((dimensions.to_vec(), type_code, self.data_bytes));
        self.data_bytes = self.data_bytes.saturating_add(bytes).checked_next_multiple_of(32).unwrap_or(u64::MAX);
        self
    }

    /// The header, padded to 32 bytes.
    pub fn header(&self) -> Vec<u8> {
        let mut out = Out { bytes: b"GGUF".to_vec(), order: self.order };
        out.number(self.version.into(), 4);
        out.number(self.tensors.len() as u64, 8);
        out.number(self.pairs.len() as u64, 8);
        for (key, value) in &self.pairs {
            out.text(key);
            out.value(value);
        }
        for (index, (dimensions, type_code, offset)) in self.tensors.iter().enumerate() {
            out.text(&format!("blk.{index}.weight"));
            out.number(dimensions.len() as u64, 4);
            dimensions.iter().for_each(|length| out.number(*length, 8));
            out.number((*type_code).into(), 4);
            out.number(*offset, 8);
        }
        out.bytes.resize(out.bytes.len().next_multiple_of(32), 0);
        out.bytes
    }

    /// The length of the whole file.
    pub fn file_bytes(&self) -> u64 {
        self.header().len() as u64 + self.data_bytes
    }

    /// Writes the file, its directory included; the tensors take no space on disk.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        let mut file = File::create(path)?;
        file.write_all(&self.header())?;
        file.set_len(self.file_bytes())
    }
}

struct Out {
    bytes: Vec<u8>,
    order: GgufByteOrder,
}

impl Out {
    fn number(&mut self, number: u64, width: usize) {
        match self.order {
            GgufByteOrder::Little => self.bytes.extend(&number.to_le_bytes()[..width]),
            GgufByteOrder::Big => self.bytes.extend(&number.to_be_bytes()[8 - width..]),
        }
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64, 8);
        self.bytes.extend(text.as_bytes());
    }

    fn array(&mut self, item_code: u64, length: usize) {
        self.number(9, 4);
        self.number(item_code, 4);
        self.number(length as u64, 8);
    }

    fn value(&mut self, value: &GgufValue) {
        match value {
            GgufValue::U32(number) => {
                self.number(4, 4);
                self.number((*number).into(), 4);
            }
            GgufValue::U16(number) => {
                self.number(2, 4);
                self.number((*number).into(), 2);
            }
            GgufValue::I32(number) => {
                self.number(5, 4);
                self.number((*number as u32).into(), 4);
            }
            GgufValue::F32(number) => {
                self.number(6, 4);
                self.number(number.to_bits().into(), 4);
            }
            GgufValue::Text(text) => {
                self.number(8, 4);
                self.text(text);
            }
            GgufValue::I32s(items) => {
                self.array(5, items.len());
                items.iter().for_each(|item| self.number((*item as u32).into(), 4));
            }
            GgufValue::F32s(items) => {
                self.array(6, items.len());
                items.iter().for_each(|item| self.number(item.to_bits().into(), 4));
            }
            GgufValue::Texts(items) => {
                self.array(8, items.len());
                items.iter().for_each(|item| self.text(item));
            }
            GgufValue::Raw(code, bytes) => {
                self.number((*code).into(), 4);
                self.bytes.extend(bytes);
            }
        }
    }
}

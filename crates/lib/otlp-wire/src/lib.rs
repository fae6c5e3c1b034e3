//! Writes messages of OpenTelemetry's protocol as protobuf.
//!
//! By hand and not by a library: a start of many servers makes some ten records for each, and what it takes to build a tree of values for
//! each record and to write that out and drop it is more than the export may cost. Fields of a message may come in any order, so a message
//! is written while it is learned. Field numbers are those of opentelemetry-proto 1.x; tests read everything back with its generated types.
//!
//! ```
//! use llama_warden_otlp_wire::Wire;
//!
//! let mut resource = Wire::default();
//! resource.attribute(1, "service.name", "llama-warden");
//! assert!(!resource.is_empty());
//! ```

use std::time::{SystemTime, UNIX_EPOCH};

/// Messages, one field behind the other.
#[derive(Debug, Clone, Default)]
pub struct Wire(Vec<u8>);

/// The value of an attribute.
#[derive(Debug, Clone, Copy)]
pub enum AttributeValue<'a> {
    /// A text.
    Text(&'a str),
    /// A whole number.
    Number(i64),
    /// A real number.
    Real(f64),
    /// Yes or no.
    Truth(bool),
}

impl<'a> From<&'a str> for AttributeValue<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for AttributeValue<'_> {
    /// OpenTelemetry has no unsigned numbers.
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<i64> for AttributeValue<'_> {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<f64> for AttributeValue<'_> {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}

impl From<bool> for AttributeValue<'_> {
    fn from(truth: bool) -> Self {
        Self::Truth(truth)
    }
}

const VARINT: u32 = 0;
const FIXED_64: u32 = 1;
const BYTES: u32 = 2;
const FIXED_32: u32 = 5;

impl Wire {
    /// What is written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What is written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Whether nothing is written.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An empty one with room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// The bytes that stand before so many bytes in a field.
    pub fn length_of_bytes(field: u32, bytes: usize) -> usize {
        let mut before = Self::default();
        before.begin_bytes(field, bytes);
        before.0.len()
    }

    /// What stands before so many bytes in a field, which the caller appends.
    pub fn begin_bytes(&mut self, field: u32, bytes: usize) {
        self.key(field, BYTES);
        self.raw_varint(bytes as u64);
    }

    fn raw_varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn key(&mut self, field: u32, wire_type: u32) {
        self.raw_varint(u64::from(field << 3 | wire_type));
    }

    /// A whole number without a sign, or one of an enumeration.
    pub fn varint(&mut self, field: u32, number: u64) {
        self.key(field, VARINT);
        self.raw_varint(number);
    }

    /// A number of eight bytes.
    pub fn fixed_64(&mut self, field: u32, number: u64) {
        self.key(field, FIXED_64);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    /// A number of four bytes.
    pub fn fixed_32(&mut self, field: u32, number: u32) {
        self.key(field, FIXED_32);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    /// A real number.
    pub fn double(&mut self, field: u32, number: f64) {
        self.fixed_64(field, number.to_bits());
    }

    /// A field of bytes as they are.
    pub fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.begin_bytes(field, bytes.len());
        self.0.extend_from_slice(bytes);
    }

    /// A text.
    pub fn text(&mut self, field: u32, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    /// Fields that are written already.
    pub fn append(&mut self, fields: &Self) {
        self.0.extend_from_slice(&fields.0);
    }

    /// A message in a field.
    pub fn message(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        self.key(field, BYTES);
        let start = self.0.len();
        // Most are shorter than 128 bytes, whose length is one byte.
        self.0.push(0);
        write(self);
        let length = self.0.len() - start - 1;
        if length < 0x80 {
            if let Some(byte) = self.0.get_mut(start) {
                *byte = length as u8;
            }
        } else {
            let mut long = Self::default();
            long.raw_varint(length as u64);
            self.0.splice(start..=start, long.0);
        }
    }

    /// A `KeyValue`.
    pub fn attribute<'a>(&mut self, field: u32, key: &str, value: impl Into<AttributeValue<'a>>) {
        let value = value.into();
        self.message(field, |attribute| {
            attribute.text(1, key);
            attribute.message(2, |any| any.value(value));
        });
    }

    /// A `KeyValue` of many texts.
    pub fn texts<'a>(&mut self, field: u32, key: &str, texts: impl Iterator<Item = &'a str>) {
        self.message(field, |attribute| {
            attribute.text(1, key);
            attribute.message(2, |any| {
                any.message(5, |array| texts.for_each(|text| array.message(1, |any| any.text(1, text))));
            });
        });
    }

    /// The content of an `AnyValue`.
    fn value(&mut self, value: AttributeValue<'_>) {
        match value {
            AttributeValue::Text(text) => self.text(1, text),
            AttributeValue::Truth(truth) => self.varint(2, truth.into()),
            AttributeValue::Number(number) => self.varint(3, number.cast_unsigned()),
            AttributeValue::Real(number) => self.double(4, number),
        }
    }

    /// A time, as all messages have it.
    pub fn time(&mut self, field: u32, time: SystemTime) {
        // In 2554 the number is full.
        let nanoseconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        self.fixed_64(field, nanoseconds);
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue, any_value};
    use opentelemetry_proto::tonic::metrics::v1::NumberDataPoint;
    use prost::Message;

    use super::*;

    #[test]
    fn messages_of_every_length_are_read_back() {
        for length in [0, 1, 100, 125, 126, 127, 128, 129, 16_383, 16_384, 70_000] {
            let text = "x".repeat(length);
            let mut wire = Wire::default();
            wire.text(1, "scope");
            wire.attribute(3, "long", &*text);
            wire.texts(3, "list", [&*text, "short"].into_iter());
            let scope = InstrumentationScope::decode(wire.as_bytes()).expect("is protobuf");
            let values: Vec<_> =
                scope.attributes.iter().map(|pair| pair.value.as_ref().and_then(|any| any.value.clone())).collect();
            assert_eq!((&*scope.name, &values[0]), ("scope", &Some(any_value::Value::StringValue(text.clone()))));
            let Some(any_value::Value::ArrayValue(list)) = &values[1] else { panic!("{values:?}") };
            assert_eq!((list.values.len(), list.encoded_len() > length), (2, true));
        }
    }

    #[test]
    fn numbers_of_every_size_are_read_back() {
        for number in [i64::MIN, -1, 0, 1, 127, 128, 300, i64::MAX] {
            let mut wire = Wire::default();
            wire.attribute(7, "number", number);
            wire.attribute(7, "real", number as f64);
            wire.fixed_64(6, number.cast_unsigned());
            wire.varint(8, number.unsigned_abs() & 0xffff);
            let point = NumberDataPoint::decode(wire.as_bytes()).expect("is protobuf");
            let value = |pair: &KeyValue| pair.value.as_ref().and_then(|any| any.value.clone());
            assert_eq!(value(&point.attributes[0]), Some(any_value::Value::IntValue(number)));
            assert_eq!(value(&point.attributes[1]), Some(any_value::Value::DoubleValue(number as f64)));
            assert_eq!(u64::from(point.flags), number.unsigned_abs() & 0xffff);
        }
    }

    #[test]
    fn a_time_before_the_epoch_is_no_time() {
        let mut wire = Wire::default();
        wire.time(1, UNIX_EPOCH - std::time::Duration::from_secs(1));
        assert_eq!(wire.as_bytes()[1..], [0; 8]);
    }
}

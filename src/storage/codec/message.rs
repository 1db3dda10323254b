//! Protobuf messages written field by field from what they are made of.
//!
//! prost writes a message that owns all of its fields. A record would be copied into one twice
//! for each change, once to count its bytes and once to store them, which took a sixth of the
//! time of a Reserve. What is written here is, byte for byte, what prost writes.

use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

/// Something that is written as a protobuf message.
pub(super) trait Message {
    /// Names its fields, in ascending order of their numbers.
    fn fields(&self, to: &mut impl Fields);
}

/// Where fields go.
pub(super) trait Fields {
    /// An integer or a bool; left out where it is zero, as proto3 has it.
    fn number(&mut self, tag: u32, value: i64);

    /// Bytes or text; left out where there are none.
    fn bytes(&mut self, tag: u32, value: &[u8]);

    /// A message, which is there even where it has no fields.
    fn message(&mut self, tag: u32, value: &impl Message);
}

/// How many bytes `message` takes.
pub(super) fn encoded_len(message: &impl Message) -> usize {
    let mut length = Length(0);
    message.fields(&mut length);
    length.0
}

impl Fields for Vec<u8> {
    fn number(&mut self, tag: u32, value: i64) {
        if value != 0 {
            encode_key(tag, WireType::Varint, self);
            encode_varint(value.cast_unsigned(), self);
        }
    }

    fn bytes(&mut self, tag: u32, value: &[u8]) {
        if !value.is_empty() {
            encode_key(tag, WireType::LengthDelimited, self);
            encode_varint(value.len() as u64, self);
            self.extend_from_slice(value);
        }
    }

    fn message(&mut self, tag: u32, value: &impl Message) {
        encode_key(tag, WireType::LengthDelimited, self);
        encode_varint(encoded_len(value) as u64, self);
        value.fields(self);
    }
}

/// Only counts.
struct Length(usize);

impl Length {
    fn delimited(&mut self, tag: u32, length: usize) {
        self.0 += key_len(tag) + encoded_len_varint(length as u64) + length;
    }
}

impl Fields for Length {
    fn number(&mut self, tag: u32, value: i64) {
        if value != 0 {
            self.0 += key_len(tag) + encoded_len_varint(value.cast_unsigned());
        }
    }

    fn bytes(&mut self, tag: u32, value: &[u8]) {
        if !value.is_empty() {
            self.delimited(tag, value.len());
        }
    }

    fn message(&mut self, tag: u32, value: &impl Message) {
        self.delimited(tag, encoded_len(value));
    }
}

//! Kafka's encoding of fields, as far as records need it: big-endian integers, strings and bytes with
//! their length before them (16 and 32 bits, or a varint in flexible versions), tagged fields.
//!
//! A reader never trusts a length: it is compared with what is left before anything is taken, so that
//! hostile bytes cost no memory.

use bytes::{BufMut, Bytes, BytesMut};

use super::RecordError;
use crate::uuid::Uuid;

/// Reads fields from bytes that may be anything.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// That nothing is left.
    pub(super) fn finish(&self) -> Result<(), RecordError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(RecordError::Long(self.rest.len()))
        }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], RecordError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(RecordError::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(RecordError::Short)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Passes over bytes.
    pub(super) fn skip(&mut self, len: usize) -> Result<(), RecordError> {
        self.take(len).map(|_| ())
    }

    pub(super) fn i8(&mut self) -> Result<i8, RecordError> {
        self.array().map(i8::from_be_bytes)
    }

    pub(super) fn i16(&mut self) -> Result<i16, RecordError> {
        self.array().map(i16::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, RecordError> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, RecordError> {
        self.array().map(i64::from_be_bytes)
    }

    pub(super) fn uuid(&mut self) -> Result<Uuid, RecordError> {
        self.array().map(u128::from_be_bytes).map(Uuid)
    }

    pub(super) fn unsigned_varint(&mut self) -> Result<u32, RecordError> {
        let mut value = 0_u64;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| RecordError::Number);
            }
        }
        Err(RecordError::Number)
    }

    fn text(&mut self, len: usize) -> Result<String, RecordError> {
        let bytes = self.take(len)?;
        let text = std::str::from_utf8(bytes).map_err(|_| RecordError::Text)?;
        Ok(text.to_owned())
    }

    /// A string with a length of 16 bits; `None` when that is -1.
    pub(super) fn nullable_string(&mut self) -> Result<Option<String>, RecordError> {
        match self.i16()? {
            -1 => Ok(None),
            len => {
                let len = usize::try_from(len).map_err(|_| RecordError::Number)?;
                self.text(len).map(Some)
            }
        }
    }

    pub(super) fn string(&mut self) -> Result<String, RecordError> {
        self.nullable_string()?.ok_or(RecordError::Null)
    }

    /// Bytes with a length of 32 bits.
    pub(super) fn bytes(&mut self) -> Result<Bytes, RecordError> {
        let len = usize::try_from(self.i32()?).map_err(|_| RecordError::Null)?;
        self.take(len).map(Bytes::copy_from_slice)
    }

    /// How many elements follow: 32 bits. Never more than there are bytes left.
    pub(super) fn count(&mut self) -> Result<usize, RecordError> {
        let count = usize::try_from(self.i32()?).map_err(|_| RecordError::Null)?;
        self.plausible(count)
    }

    fn plausible(&self, count: usize) -> Result<usize, RecordError> {
        if count > self.rest.len() {
            return Err(RecordError::Short);
        }
        Ok(count)
    }

    /// The length before something compact; `None` when it is null.
    fn compact_len(&mut self) -> Result<Option<usize>, RecordError> {
        let len = self.unsigned_varint()? as usize;
        Ok(len.checked_sub(1))
    }

    pub(super) fn compact_nullable_string(&mut self) -> Result<Option<String>, RecordError> {
        match self.compact_len()? {
            None => Ok(None),
            Some(len) => self.text(len).map(Some),
        }
    }

    pub(super) fn compact_string(&mut self) -> Result<String, RecordError> {
        self.compact_nullable_string()?.ok_or(RecordError::Null)
    }

    pub(super) fn compact_bytes(&mut self) -> Result<Bytes, RecordError> {
        let len = self.compact_len()?.ok_or(RecordError::Null)?;
        self.take(len).map(Bytes::copy_from_slice)
    }

    /// How many elements of a compact array follow; `None` when it is null. Never more than there
    /// are bytes left.
    pub(super) fn compact_nullable_count(&mut self) -> Result<Option<usize>, RecordError> {
        match self.compact_len()? {
            None => Ok(None),
            Some(count) => self.plausible(count).map(Some),
        }
    }

    pub(super) fn compact_count(&mut self) -> Result<usize, RecordError> {
        self.compact_nullable_count()?.ok_or(RecordError::Null)
    }

    /// Tagged fields: each goes to `each`, which passes over those that it does not know.
    pub(super) fn tagged(
        &mut self,
        mut each: impl FnMut(u32, &mut Reader<'a>) -> Result<(), RecordError>,
    ) -> Result<(), RecordError> {
        let fields = self.unsigned_varint()?;
        for _ in 0..fields {
            let tag = self.unsigned_varint()?;
            let len = self.unsigned_varint()? as usize;
            let mut field = Reader::new(self.take(len)?);
            each(tag, &mut field)?;
        }
        Ok(())
    }

    /// Tagged fields of which none is known.
    pub(super) fn skip_tagged(&mut self) -> Result<(), RecordError> {
        self.tagged(|_, _| Ok(()))
    }
}

/// Writes fields.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: BytesMut,
}

impl Writer {
    /// Begins with the version of the key or value.
    pub(super) fn versioned(version: i16) -> Self {
        let mut writer = Self::default();
        writer.i16(version);
        writer
    }

    pub(super) fn finish(self) -> Bytes {
        self.bytes.freeze()
    }

    pub(super) fn i8(&mut self, value: i8) {
        self.bytes.put_i8(value);
    }

    pub(super) fn i16(&mut self, value: i16) {
        self.bytes.put_i16(value);
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.bytes.put_i32(value);
    }

    pub(super) fn i64(&mut self, value: i64) {
        self.bytes.put_i64(value);
    }

    pub(super) fn uuid(&mut self, value: Uuid) {
        self.bytes.put_u128(value.0);
    }

    pub(super) fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.bytes.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.put_u8((value & 0x7f) as u8);
    }

    /// A string with a length of 16 bits. The handlers let no longer text in.
    pub(super) fn string(&mut self, text: &str) {
        self.i16(i16::try_from(text.len()).expect("handlers refuse longer text"));
        self.bytes.put_slice(text.as_bytes());
    }

    pub(super) fn nullable_string(&mut self, text: Option<&str>) {
        match text {
            None => self.i16(-1),
            Some(text) => self.string(text),
        }
    }

    /// Bytes with a length of 32 bits.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.raw(bytes);
    }

    /// Bytes as they are.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.put_slice(bytes);
    }

    /// How many elements follow: 32 bits.
    pub(super) fn count(&mut self, count: usize) {
        self.i32(i32::try_from(count).expect("records are far below 2 GiB"));
    }

    /// How many elements of a compact array, or bytes of something compact, follow.
    pub(super) fn compact_count(&mut self, count: usize) {
        self.unsigned_varint(u32::try_from(count + 1).expect("records are far below 2 GiB"));
    }

    pub(super) fn compact_string(&mut self, text: &str) {
        self.compact_bytes(text.as_bytes());
    }

    pub(super) fn compact_nullable_string(&mut self, text: Option<&str>) {
        match text {
            None => self.unsigned_varint(0),
            Some(text) => self.compact_string(text),
        }
    }

    pub(super) fn compact_bytes(&mut self, bytes: &[u8]) {
        self.compact_count(bytes.len());
        self.raw(bytes);
    }

    /// Tagged fields, in rising order of tags.
    pub(super) fn tagged(&mut self, fields: &[(u32, Bytes)]) {
        self.unsigned_varint(u32::try_from(fields.len()).expect("a handful of fields"));
        for (tag, bytes) in fields {
            self.unsigned_varint(*tag);
            self.unsigned_varint(u32::try_from(bytes.len()).expect("records are far below 2 GiB"));
            self.raw(bytes);
        }
    }
}

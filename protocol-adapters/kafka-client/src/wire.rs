//! Kafka's primitive types, flexible encoding (KIP-482): a [`Writer`] and a checked [`Reader`].
//! What is called `legacy` is of the old encoding, with lengths of fixed width.
//!
//! All integers are big-endian. Compact lengths are unsigned varints of length + 1, 0 for null.
//! Tagged fields are skipped on reading, save where a caller asks for them.

use bytes::{BufMut, Bytes, BytesMut};

use crate::ClientError;

/// Builds a request's body.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: BytesMut,
}

impl Writer {
    /// An empty one.
    #[must_use]
    pub fn new() -> Writer {
        Writer::default()
    }

    /// What was written.
    #[must_use]
    pub fn finish(self) -> Bytes {
        self.bytes.freeze()
    }

    /// `INT8`.
    pub fn i8(&mut self, value: i8) -> &mut Writer {
        self.bytes.put_i8(value);
        self
    }

    /// `INT16`.
    pub fn i16(&mut self, value: i16) -> &mut Writer {
        self.bytes.put_i16(value);
        self
    }

    /// `INT32`.
    pub fn i32(&mut self, value: i32) -> &mut Writer {
        self.bytes.put_i32(value);
        self
    }

    /// `INT64`.
    pub fn i64(&mut self, value: i64) -> &mut Writer {
        self.bytes.put_i64(value);
        self
    }

    /// `BOOLEAN`.
    pub fn bool(&mut self, value: bool) -> &mut Writer {
        self.bytes.put_u8(u8::from(value));
        self
    }

    /// `UUID`.
    pub fn uuid(&mut self, value: [u8; 16]) -> &mut Writer {
        self.bytes.put_slice(&value);
        self
    }

    /// `UNSIGNED_VARINT`.
    pub fn varint(&mut self, mut value: u32) -> &mut Writer {
        while value >= 0x80 {
            self.bytes.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.put_u8((value & 0x7f) as u8);
        self
    }

    /// `COMPACT_STRING`.
    pub fn string(&mut self, value: &str) -> &mut Writer {
        self.compact_bytes(Some(value.as_bytes()))
    }

    /// `COMPACT_NULLABLE_STRING`.
    pub fn nullable_string(&mut self, value: Option<&str>) -> &mut Writer {
        self.compact_bytes(value.map(str::as_bytes))
    }

    /// `COMPACT_NULLABLE_BYTES`, and `COMPACT_RECORDS`.
    pub fn compact_bytes(&mut self, value: Option<&[u8]>) -> &mut Writer {
        match value {
            Some(bytes) => {
                self.count(bytes.len());
                self.bytes.put_slice(bytes);
                self
            }
            None => self.varint(0),
        }
    }

    /// `NULLABLE_STRING` of the old encoding, which request headers keep for the client id.
    pub fn legacy_string(&mut self, value: &str) -> &mut Writer {
        let len = value.len().min(i16::MAX.unsigned_abs().into());
        self.bytes.put_i16(i16::try_from(len).unwrap_or(i16::MAX));
        self.bytes.put_slice(&value.as_bytes()[..len]);
        self
    }

    /// `NULLABLE_BYTES` of the old encoding.
    pub fn legacy_bytes(&mut self, value: Option<&[u8]>) -> &mut Writer {
        match value {
            Some(bytes) => {
                self.legacy_count(bytes.len());
                self.bytes.put_slice(bytes);
            }
            None => self.bytes.put_i32(-1),
        }
        self
    }

    /// `ARRAY` of the old encoding: its count, then each item by `write`.
    pub fn legacy_array<T>(
        &mut self,
        items: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
        mut write: impl FnMut(&mut Writer, T),
    ) -> &mut Writer {
        let items = items.into_iter();
        self.legacy_count(items.len());
        for item in items {
            write(self, item);
        }
        self
    }

    /// `COMPACT_ARRAY`: its count, then each item by `write`.
    pub fn array<T>(
        &mut self,
        items: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
        mut write: impl FnMut(&mut Writer, T),
    ) -> &mut Writer {
        let items = items.into_iter();
        self.count(items.len());
        for item in items {
            write(self, item);
        }
        self
    }

    /// The array of topics, each with an array of partitions, that many requests have. Items of one
    /// topic must stand together to share its entry.
    pub fn by_topic<T>(
        &mut self,
        items: &[T],
        topic: impl Fn(&T) -> &str,
        mut write: impl FnMut(&mut Writer, &T),
    ) -> &mut Writer {
        let topics: Vec<&[T]> = items
            .chunk_by(|left, right| topic(left) == topic(right))
            .collect();
        self.array(topics, |entry, items| {
            entry
                .string(topic(&items[0]))
                .array(items, &mut write)
                .no_tags();
        })
    }

    /// The array of topics, each with the numbers of partitions, that many requests have.
    pub fn partitions_by_topic(&mut self, partitions: &[(String, i32)]) -> &mut Writer {
        self.by_topic(
            partitions,
            |(topic, _)| topic,
            |item, (_, partition)| {
                item.i32(*partition);
            },
        )
    }

    /// A null `COMPACT_ARRAY`.
    pub fn null_array(&mut self) -> &mut Writer {
        self.varint(0)
    }

    /// No tagged fields.
    pub fn no_tags(&mut self) -> &mut Writer {
        self.varint(0)
    }

    fn legacy_count(&mut self, len: usize) {
        self.bytes.put_i32(i32::try_from(len).expect("below 2 GiB"));
    }

    fn count(&mut self, len: usize) {
        self.varint(
            u32::try_from(len)
                .ok()
                .and_then(|len| len.checked_add(1))
                .expect("below 4 GiB"),
        );
    }
}

/// Reads an answer's body. Every length and count is checked against the bytes that remain.
#[derive(Debug, Clone)]
pub struct Reader {
    bytes: Bytes,
}

type Result<T> = std::result::Result<T, ClientError>;

const CUT: ClientError = ClientError::Malformed("it ends too early");

impl Reader {
    /// Over these bytes.
    #[must_use]
    pub fn new(bytes: Bytes) -> Reader {
        Reader { bytes }
    }

    /// Bytes not read yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// Errs when bytes are left.
    pub fn finish(self) -> Result<()> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(ClientError::Malformed("bytes behind its end"))
        }
    }

    fn take(&mut self, len: usize) -> Result<Bytes> {
        if len > self.bytes.len() {
            return Err(CUT);
        }
        Ok(self.bytes.split_to(len))
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        let value = *self.bytes.first_chunk::<N>().ok_or(CUT)?;
        let _ = self.bytes.split_to(N);
        Ok(value)
    }

    /// `INT8`.
    pub fn i8(&mut self) -> Result<i8> {
        self.fixed().map(i8::from_be_bytes)
    }

    /// `INT16`.
    pub fn i16(&mut self) -> Result<i16> {
        self.fixed().map(i16::from_be_bytes)
    }

    /// `INT32`.
    pub fn i32(&mut self) -> Result<i32> {
        self.fixed().map(i32::from_be_bytes)
    }

    /// `INT64`.
    pub fn i64(&mut self) -> Result<i64> {
        self.fixed().map(i64::from_be_bytes)
    }

    /// `BOOLEAN`.
    pub fn bool(&mut self) -> Result<bool> {
        Ok(self.i8()? != 0)
    }

    /// `UUID`.
    pub fn uuid(&mut self) -> Result<[u8; 16]> {
        self.fixed()
    }

    /// `UNSIGNED_VARINT`.
    pub fn varint(&mut self) -> Result<u32> {
        let mut value = 0u32;
        for at in 0..5 {
            let [byte] = self.fixed()?;
            let low = u32::from(byte & 0x7f);
            if at == 4 && low > 0xf {
                break;
            }
            value |= low << (7 * at);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ClientError::Malformed("a varint beyond 32 bits"))
    }

    /// A compact length; `None` for null.
    fn len(&mut self) -> Result<Option<usize>> {
        let value = self.varint()?;
        value
            .checked_sub(1)
            .map(|len| usize::try_from(len).map_err(|_| CUT))
            .transpose()
    }

    /// `COMPACT_NULLABLE_BYTES`, and `COMPACT_RECORDS`: a slice of the answer.
    pub fn nullable_bytes(&mut self) -> Result<Option<Bytes>> {
        match self.len()? {
            Some(len) => self.take(len).map(Some),
            None => Ok(None),
        }
    }

    /// `COMPACT_NULLABLE_STRING`.
    pub fn nullable_string(&mut self) -> Result<Option<String>> {
        self.nullable_bytes()?
            .map(|bytes| {
                std::str::from_utf8(&bytes)
                    .map(str::to_owned)
                    .map_err(|_| ClientError::Malformed("a string that is no UTF-8"))
            })
            .transpose()
    }

    /// `COMPACT_STRING`.
    pub fn string(&mut self) -> Result<String> {
        self.nullable_string()?
            .ok_or(ClientError::Malformed("null where a string must be"))
    }

    /// `COMPACT_BYTES`: a slice of the answer.
    pub fn bytes(&mut self) -> Result<Bytes> {
        self.nullable_bytes()?
            .ok_or(ClientError::Malformed("null where bytes must be"))
    }

    /// `STRING` of the old encoding.
    pub fn legacy_string(&mut self) -> Result<String> {
        let len = usize::try_from(self.i16()?)
            .map_err(|_| ClientError::Malformed("null where a string must be"))?;
        let bytes = self.take(len)?;
        std::str::from_utf8(&bytes)
            .map(str::to_owned)
            .map_err(|_| ClientError::Malformed("a string that is no UTF-8"))
    }

    /// `NULLABLE_BYTES` of the old encoding.
    pub fn legacy_nullable_bytes(&mut self) -> Result<Option<Bytes>> {
        match usize::try_from(self.i32()?) {
            Ok(len) => self.take(len).map(Some),
            Err(_) => Ok(None),
        }
    }

    /// `ARRAY` of the old encoding, each item by `read`.
    pub fn legacy_array<T>(
        &mut self,
        mut read: impl FnMut(&mut Reader) -> Result<T>,
    ) -> Result<Vec<T>> {
        let count = usize::try_from(self.i32()?)
            .map_err(|_| ClientError::Malformed("null where an array must be"))?;
        if count > self.remaining() {
            return Err(ClientError::Malformed("more items than bytes for them"));
        }
        (0..count).map(|_| read(self)).collect()
    }

    /// A struct that may be null: a byte tells, -1 for null.
    pub fn nullable_struct<T>(
        &mut self,
        read: impl FnOnce(&mut Reader) -> Result<T>,
    ) -> Result<Option<T>> {
        match self.i8()? {
            ..0 => Ok(None),
            _ => read(self).map(Some),
        }
    }

    /// Nullable `COMPACT_ARRAY`, each item by `read`.
    pub fn nullable_array<T>(
        &mut self,
        mut read: impl FnMut(&mut Reader) -> Result<T>,
    ) -> Result<Option<Vec<T>>> {
        let Some(count) = self.len()? else {
            return Ok(None);
        };
        // Every item takes at least one byte, and nothing is reserved ahead for what may not come.
        if count > self.remaining() {
            return Err(ClientError::Malformed("more items than bytes for them"));
        }
        let mut items = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(Some(items))
    }

    /// `COMPACT_ARRAY`, each item by `read`.
    pub fn array<T>(&mut self, read: impl FnMut(&mut Reader) -> Result<T>) -> Result<Vec<T>> {
        self.nullable_array(read)?
            .ok_or(ClientError::Malformed("null where an array must be"))
    }

    /// Passes over tagged fields.
    pub fn skip_tags(&mut self) -> Result<()> {
        self.tags(|_, _| Ok(()))
    }

    /// Hands every tagged field to `field`.
    pub fn tags(&mut self, mut field: impl FnMut(u32, Bytes) -> Result<()>) -> Result<()> {
        for _ in 0..self.varint()? {
            let tag = self.varint()?;
            let len = usize::try_from(self.varint()?).map_err(|_| CUT)?;
            field(tag, self.take(len)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn varints_come_back(value in any::<u32>()) {
            let mut writer = Writer::new();
            writer.varint(value);
            let mut reader = Reader::new(writer.finish());
            prop_assert_eq!(reader.varint(), Ok(value));
            prop_assert!(reader.finish().is_ok());
        }

        #[test]
        fn strings_and_arrays_come_back(items in proptest::collection::vec(".{0,20}", 0..40)) {
            let mut writer = Writer::new();
            writer.array(&items, |writer, item| { writer.nullable_string(Some(item)); });
            let mut reader = Reader::new(writer.finish());
            prop_assert_eq!(reader.array(Reader::string), Ok(items));
            prop_assert!(reader.finish().is_ok());
        }
    }

    #[test]
    fn a_count_beyond_the_bytes_reserves_nothing() {
        let mut reader = Reader::new(Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0]));
        assert_eq!(
            reader.array(Reader::i64),
            Err(ClientError::Malformed("more items than bytes for them"))
        );
    }

    #[test]
    fn a_varint_beyond_32_bits_is_refused() {
        let mut reader = Reader::new(Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x1f]));
        assert!(reader.varint().is_err());
    }
}

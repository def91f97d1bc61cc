//! Record batches of our own making: values in, values out, checked byte by byte.
//!
//! Kafka's format 2, written anew here rather than taken from the broker, so that a mistake there is
//! not made twice. A record's value is the history's value, the length of its padding and padding
//! that follows from the value, so that bytes which do not belong together are noticed also where
//! the batch's CRC-32C is right. Nothing read from outside panics or reserves more than came.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use jepsen_check::compacted;
use jepsen_check::history::Value;

use crate::random::Random;

/// Bytes before a batch's records.
const HEADER_BYTES: usize = 61;
/// Bytes that the batch's length field does not count.
const UNCOUNTED_BYTES: usize = 12;
/// The CRC covers what comes from here on.
const CRC_FROM: usize = 21;
/// Bytes of a record's value before its padding.
const VALUE_BYTES: usize = 12;
const CODEC_MASK: i16 = 0b111;
const CONTROL_BIT: i16 = 1 << 5;

/// Who an idempotent producer is, and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequenced {
    /// Its id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// Sequence number of the batch's first record.
    pub sequence: i32,
}

/// A batch as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Offset of its first record.
    pub base_offset: i64,
    /// Offset of its last record.
    pub last_offset: i64,
    /// Its records: offset and value. None in a control batch.
    pub records: Vec<(i64, Value)>,
    /// All of it.
    pub bytes: Bytes,
}

/// Bytes are no batch, or not one that was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at}: {what}")]
pub struct Damage {
    /// Where the batch begins in what was read.
    pub at: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

/// One batch of these values, each with so many bytes of padding. The time stands still at
/// `timestamp_ms`.
///
/// # Panics
///
/// When there are no values, or their paddings come to 2 GiB: the caller's bugs.
#[must_use]
pub fn encode(values: &[(Value, u32)], timestamp_ms: i64, producer: Option<Sequenced>) -> Bytes {
    assert!(!values.is_empty(), "a batch has a record");
    let mut body = BytesMut::new();
    for (delta, (value, padding)) in (0i64..).zip(values) {
        let bytes = value_bytes(*value, *padding);
        let mut record = BytesMut::with_capacity(bytes.len() + 24);
        record.put_i8(0);
        put_varint(&mut record, 0);
        put_varint(&mut record, delta);
        put_varint(&mut record, -1);
        put_varint(&mut record, signed(bytes.len()));
        record.put_slice(&bytes);
        put_varint(&mut record, 0);
        put_varint(&mut body, signed(record.len()));
        body.put_slice(&record);
    }
    let count = i32::try_from(values.len()).expect("fewer than 2^31 values in a batch");
    let producer = producer.unwrap_or(Sequenced {
        producer_id: -1,
        producer_epoch: -1,
        sequence: -1,
    });
    let mut checked = BytesMut::with_capacity(HEADER_BYTES - CRC_FROM + body.len());
    checked.put_i16(0);
    checked.put_i32(count - 1);
    checked.put_i64(timestamp_ms);
    checked.put_i64(timestamp_ms);
    checked.put_i64(producer.producer_id);
    checked.put_i16(producer.producer_epoch);
    checked.put_i32(producer.sequence);
    checked.put_i32(count);
    checked.put_slice(&body);
    let mut batch = BytesMut::with_capacity(CRC_FROM + checked.len());
    batch.put_i64(0);
    let counted = i32::try_from(checked.len() + CRC_FROM - UNCOUNTED_BYTES);
    batch.put_i32(counted.expect("a batch below 2 GiB"));
    batch.put_i32(-1);
    batch.put_i8(2);
    batch.put_u32(crc32c(&checked));
    batch.put_slice(&checked);
    batch.freeze()
}

/// What a fetch returned: whole batches, one after the other.
///
/// # Errors
///
/// The first batch that is not one, or is not what was sent.
pub fn decode_all(bytes: &Bytes) -> Result<Vec<Batch>, Damage> {
    let mut batches: Vec<Batch> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let damage = |what| Damage { at, what };
        let batch = decode_one(&bytes.slice(at..)).map_err(damage)?;
        if batches
            .last()
            .is_some_and(|before| before.last_offset >= batch.base_offset)
        {
            return Err(damage(
                "its offsets begin before the end of the batch before it",
            ));
        }
        at += batch.bytes.len();
        batches.push(batch);
    }
    Ok(batches)
}

/// The header of a batch whose checksum is right.
struct Head {
    base_offset: i64,
    last_offset: i64,
    last_delta: i32,
    attributes: i16,
    first_timestamp_ms: i64,
    count: i32,
    /// The whole batch.
    bytes: Bytes,
}

fn decode_head(bytes: &Bytes) -> Result<Head, &'static str> {
    let mut header = bytes.get(..HEADER_BYTES).ok_or("its header is cut short")?;
    let base_offset = header.get_i64();
    let counted = header.get_i32();
    let _leader_epoch = header.get_i32();
    let magic = header.get_i8();
    let crc = header.get_u32();
    let attributes = header.get_i16();
    let last_delta = header.get_i32();
    let first_timestamp_ms = header.get_i64();
    header.advance(8 + 14);
    let count = header.get_i32();
    if magic != 2 {
        return Err("its format is not 2");
    }
    let len = usize::try_from(counted)
        .ok()
        .and_then(|len| len.checked_add(UNCOUNTED_BYTES));
    let len = len
        .filter(|len| *len >= HEADER_BYTES)
        .ok_or("its length cannot be")?;
    if len > bytes.len() {
        return Err("it is cut short");
    }
    let bytes = bytes.slice(..len);
    if crc32c(&bytes[CRC_FROM..]) != crc {
        return Err("its CRC is wrong");
    }
    let last_offset = base_offset.checked_add(i64::from(last_delta));
    let last_offset = last_offset.filter(|_| base_offset >= 0 && last_delta >= 0);
    let last_offset = last_offset.ok_or("its offsets cannot be")?;
    Ok(Head {
        base_offset,
        last_offset,
        last_delta,
        attributes,
        first_timestamp_ms,
        count,
        bytes,
    })
}

fn decode_one(bytes: &Bytes) -> Result<Batch, &'static str> {
    let Head {
        base_offset,
        last_offset,
        last_delta,
        attributes,
        count,
        bytes,
        ..
    } = decode_head(bytes)?;
    let mut batch = Batch {
        base_offset,
        last_offset,
        records: Vec::new(),
        bytes,
    };
    if attributes & CONTROL_BIT != 0 {
        return Ok(batch);
    }
    if attributes & CODEC_MASK != 0 {
        return Err("it is compressed, as none was sent");
    }
    if count != last_delta.saturating_add(1) {
        return Err("it has not as many records as offsets");
    }
    let mut body = batch.bytes.slice(HEADER_BYTES..);
    for delta in 0..i64::from(count) {
        let (found, value) = take_record(&mut body).ok_or("a record cannot be read")?;
        if found != delta {
            return Err("its records are not numbered one after the other");
        }
        let value = read_value(&value).ok_or("a value is not one that was sent")?;
        batch.records.push((base_offset + delta, value));
    }
    match body.is_empty() {
        true => Ok(batch),
        false => Err("there is something behind its records"),
    }
}

/// Records of a compacted partition, and the offset behind the last batch.
///
/// # Errors
///
/// The first batch that is not one.
pub fn decode_compacted(bytes: &Bytes) -> Result<(Vec<compacted::Record>, Option<i64>), Damage> {
    let mut records = Vec::new();
    let mut next = None;
    let mut at = 0;
    while at < bytes.len() {
        let damage = |what| Damage { at, what };
        let head = decode_head(&bytes.slice(at..)).map_err(damage)?;
        if head.attributes & CODEC_MASK != 0 {
            return Err(damage("it is compressed, as no node does"));
        }
        let is_control = head.attributes & CONTROL_BIT != 0;
        let mut body = head.bytes.slice(HEADER_BYTES..);
        let mut last_delta = -1;
        for _ in 0..head.count {
            let record = take_keyed(&mut body, &head).ok_or(damage("a record cannot be read"))?;
            let delta = record.offset - head.base_offset;
            if delta <= last_delta || delta > i64::from(head.last_delta) {
                return Err(damage("its records do not rise within it"));
            }
            last_delta = delta;
            if !is_control {
                records.push(record);
            }
        }
        if !body.is_empty() {
            return Err(damage("there is something behind its records"));
        }
        next = Some(head.last_offset + 1);
        at += head.bytes.len();
    }
    Ok((records, next))
}

/// The next record of a compacted batch.
fn take_keyed(body: &mut Bytes, head: &Head) -> Option<compacted::Record> {
    let mut record = take(body)?;
    if record.is_empty() {
        return None;
    }
    let _attributes = record.get_i8();
    let timestamp_delta = take_varint(&mut record)?;
    let delta = take_varint(&mut record)?;
    let mut nullable = || match take_varint(&mut record)? {
        -1 => Some(None),
        len => split(&mut record, len).map(Some),
    };
    let (key, value) = (nullable()?, nullable()?);
    Some(compacted::Record::new(
        head.base_offset.checked_add(delta)?,
        head.first_timestamp_ms.checked_add(timestamp_delta)?,
        key.as_deref(),
        value.as_deref(),
    ))
}

/// Offset delta and value of the next record.
fn take_record(body: &mut Bytes) -> Option<(i64, Bytes)> {
    let mut record = take(body)?;
    if record.is_empty() {
        return None;
    }
    let _attributes = record.get_i8();
    let _timestamp_delta = take_varint(&mut record)?;
    let delta = take_varint(&mut record)?;
    match take_varint(&mut record)? {
        -1 => {}
        key => drop(split(&mut record, key)?),
    }
    let value = take(&mut record)?;
    // Headers, of which there are none.
    let headers = take_varint(&mut record)?;
    (headers == 0 && record.is_empty()).then_some((delta, value))
}

/// A length and as many bytes.
fn take(from: &mut Bytes) -> Option<Bytes> {
    let len = take_varint(from)?;
    split(from, len)
}

fn split(from: &mut Bytes, len: i64) -> Option<Bytes> {
    let len = usize::try_from(len).ok().filter(|len| *len <= from.len())?;
    Some(from.split_to(len))
}

/// A record's value: what the history calls its value, and padding that belongs to it.
#[must_use]
pub fn value_bytes(value: Value, padding: u32) -> Bytes {
    let len = usize::try_from(padding).expect("32 bits fit");
    let mut bytes = BytesMut::with_capacity(VALUE_BYTES + len + 8);
    bytes.put_u64(value);
    bytes.put_u32(padding);
    let mut random = Random::new(value);
    while bytes.len() < VALUE_BYTES + len {
        bytes.put_u64(random.next_u64());
    }
    bytes.truncate(VALUE_BYTES + len);
    bytes.freeze()
}

/// The value of a record, when these are bytes that [`value_bytes`] made.
#[must_use]
pub fn read_value(bytes: &[u8]) -> Option<Value> {
    let mut head = bytes.get(..VALUE_BYTES)?;
    let (value, padding) = (head.get_u64(), head.get_u32());
    let len = usize::try_from(padding).ok()?;
    (bytes.len() - VALUE_BYTES == len && value_bytes(value, padding) == bytes).then_some(value)
}

/// CRC-32 over batches' bytes, in order; equal on replicas that are.
#[derive(Debug, Clone, Default)]
pub struct Digest(crc32fast::Hasher);

impl Digest {
    /// Takes the next batch.
    pub fn update(&mut self, batch: &Batch) {
        self.0.update(&batch.bytes);
    }

    /// Of all that were taken.
    #[must_use]
    pub fn finish(self) -> u32 {
        self.0.finalize()
    }
}

fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

fn signed(len: usize) -> i64 {
    i64::try_from(len).expect("a length in memory")
}

fn put_varint(out: &mut BytesMut, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while zigzag >= 0x80 {
        out.put_u8(u8::try_from(zigzag & 0x7f).expect("seven bits") | 0x80);
        zigzag >>= 7;
    }
    out.put_u8(u8::try_from(zigzag).expect("seven bits"));
}

fn take_varint(from: &mut Bytes) -> Option<i64> {
    let mut zigzag = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = from.has_remaining().then(|| from.get_u8())?;
        zigzag |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((zigzag >> 1).cast_signed() ^ -((zigzag & 1).cast_signed()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at_offset(batch: &Bytes, offset: i64) -> Bytes {
        let mut moved = BytesMut::from(&batch[..]);
        moved[..8].copy_from_slice(&offset.to_be_bytes());
        moved.freeze()
    }

    #[test]
    fn the_checksum_is_castagnolis() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    }

    #[test]
    fn a_flipped_bit_anywhere_but_in_epoch_and_offset_is_noticed() {
        let batch = encode(&[(7, 40), (8, 0)], 1_000, None);
        for at in 0..batch.len() {
            if at < 8 || (12..16).contains(&at) {
                continue;
            }
            for bit in 0..8 {
                let mut flipped = BytesMut::from(&batch[..]);
                flipped[at] ^= 1 << bit;
                assert!(
                    decode_all(&flipped.freeze()).is_err(),
                    "bit {bit} of byte {at}"
                );
            }
        }
    }

    #[test]
    fn values_that_were_not_sent_are_noticed() {
        let value = value_bytes(5, 20);
        assert_eq!(read_value(&value), Some(5));
        for at in 0..value.len() {
            let mut other = BytesMut::from(&value[..]);
            other[at] ^= 1;
            assert_eq!(read_value(&other), None, "byte {at}");
        }
        assert_eq!(read_value(&value[..value.len() - 1]), None);
        assert_eq!(read_value(b"short"), None);
    }

    #[test]
    fn of_a_compacted_batch_offsets_keys_and_values_are_read() {
        let batch = encode(&[(7, 4), (8, 0)], 1_000, None);
        let bytes = Bytes::from([at_offset(&batch, 4), at_offset(&batch, 9)].concat());
        let (records, next) = decode_compacted(&bytes).expect("two batches");
        let record = |offset, value: &Bytes| {
            compacted::Record::new(offset, 1_000, None, Some(value.as_ref()))
        };
        let values = [value_bytes(7, 4), value_bytes(8, 0)];
        let expected = [
            record(4, &values[0]),
            record(5, &values[1]),
            record(9, &values[0]),
            record(10, &values[1]),
        ];
        assert_eq!((records.as_slice(), next), (&expected[..], Some(11)));
        for len in 1..batch.len() {
            assert!(decode_compacted(&batch.slice(..len)).is_err(), "{len}");
        }
    }

    #[test]
    fn batches_that_overlap_are_noticed() {
        let batch = encode(&[(1, 0), (2, 0)], 0, None);
        let both = [at_offset(&batch, 4), at_offset(&batch, 5)].concat();
        assert!(decode_all(&Bytes::from(both)).is_err());
        let both = [at_offset(&batch, 4), at_offset(&batch, 6)].concat();
        assert_eq!(
            decode_all(&Bytes::from(both)).expect("two batches").len(),
            2
        );
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            values in prop::collection::vec((any::<u64>(), 0u32..300), 1..6),
            offset in 0i64..1 << 40,
            sequence in 0i32..1_000,
        ) {
            let producer = Sequenced { producer_id: 3, producer_epoch: 1, sequence };
            let bytes = at_offset(&encode(&values, 77, Some(producer)), offset);
            let batches = decode_all(&bytes).expect("one batch");
            prop_assert_eq!(batches.len(), 1);
            let expected: Vec<(i64, Value)> =
                (offset..).zip(values.iter().map(|(value, _)| *value)).collect();
            prop_assert_eq!(&batches[0].records, &expected);
            prop_assert_eq!(batches[0].last_offset, offset + signed(values.len()) - 1);
            prop_assert_eq!(&batches[0].bytes, &bytes);
        }

        #[test]
        fn hostile_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let result = decode_all(&Bytes::from(bytes.clone()));
            prop_assert!(bytes.is_empty() || result.is_err());
            let result = decode_compacted(&Bytes::from(bytes.clone()));
            prop_assert!(bytes.is_empty() || result.is_err());
        }

        #[test]
        fn hostile_records_behind_a_right_header_are_refused(
            body in prop::collection::vec(any::<u8>(), 0..100),
            count in 0i32..5,
        ) {
            let mut batch = BytesMut::from(&encode(&[(1, 0)], 0, None)[..HEADER_BYTES]);
            batch.extend_from_slice(&body);
            let counted = i32::try_from(batch.len() - UNCOUNTED_BYTES).expect("short");
            batch[8..12].copy_from_slice(&counted.to_be_bytes());
            batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
            batch[57..61].copy_from_slice(&count.to_be_bytes());
            let crc = crc32c(&batch[CRC_FROM..]);
            batch[17..21].copy_from_slice(&crc.to_be_bytes());
            prop_assert!(decode_all(&batch.freeze()).is_err());
        }
    }
}

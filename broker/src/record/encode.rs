//! Records to a batch.
//!
//! ```text
//!  0        8      12         16    17   21         23            27             35
//!  base     length partition  magic crc  attributes last offset   base           max
//!  offset   (rest) leader     = 2                   delta         timestamp      timestamp
//!  i64      i32    epoch i32  i8    u32  i16        i32           i64            i64
//!
//!  43       51       53        57      61
//!  producer producer base      record  records, compressed as the attributes say
//!  id i64   epoch    sequence  count
//!           i16      i32       i32
//!
//!  record: length varint | attributes i8 = 0 | timestamp delta varlong | offset delta varint
//!          | key length varint (-1 = null) | key | value length varint | value
//!          | header count varint | headers: key length varint | key | value length varint | value
//! ```
//! All big-endian. The CRC-32C covers everything from `attributes` on.

use bytes::{BufMut, Bytes, BytesMut};
use storage::batch::{BATCH_HEADER_BYTES, crc32c};

use super::varint::{put_varlong, varlong_len};
use super::{BatchProducer, Compression, Record, compression};

const LENGTH_AT: usize = 8;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;

/// Encodes records as one v2 batch with base offset 0 and a right CRC. Offsets in `records` are
/// ignored: the records are numbered 0, 1, 2, … in the order given.
///
/// # Panics
///
/// When `records` is empty or the batch would be 2 GiB or more; both are the caller's bugs.
#[must_use]
pub fn encode_batch(
    records: &[Record],
    compression: Compression,
    producer: BatchProducer,
) -> Bytes {
    let base_timestamp = records
        .first()
        .expect("a batch has at least one record")
        .timestamp_ms;
    let max_timestamp = records
        .iter()
        .map(|record| record.timestamp_ms)
        .max()
        .unwrap_or(base_timestamp);
    let count = i32::try_from(records.len()).expect("fewer than 2^31 records in a batch");

    let body_bytes = records
        .iter()
        .zip(0i64..)
        .map(|(record, delta)| {
            let len = record_bytes(record, base_timestamp, delta);
            len + varlong_len(signed(len))
        })
        .sum::<usize>();
    let mut batch = BytesMut::with_capacity(
        BATCH_HEADER_BYTES
            + if compression == Compression::None {
                body_bytes
            } else {
                0
            },
    );
    batch.put_i64(0);
    batch.put_i32(0); // the length, below
    batch.put_i32(-1);
    batch.put_i8(2);
    batch.put_u32(0); // the CRC, below
    batch.put_i16(compression as i16);
    batch.put_i32(count - 1);
    batch.put_i64(base_timestamp);
    batch.put_i64(max_timestamp);
    batch.put_i64(producer.producer_id);
    batch.put_i16(producer.producer_epoch);
    batch.put_i32(producer.base_sequence);
    batch.put_i32(count);
    if compression == Compression::None {
        put_records(&mut batch, records, base_timestamp);
    } else {
        let mut body = BytesMut::with_capacity(body_bytes);
        put_records(&mut body, records, base_timestamp);
        batch.extend_from_slice(&compression::compress(compression, &body));
    }

    let length = i32::try_from(batch.len() - LENGTH_AT - 4).expect("a batch below 2 GiB");
    batch[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
    batch.freeze()
}

fn put_records(out: &mut BytesMut, records: &[Record], base_timestamp: i64) {
    for (record, delta) in records.iter().zip(0i64..) {
        put_varlong(out, signed(record_bytes(record, base_timestamp, delta)));
        out.put_i8(0);
        put_varlong(out, record.timestamp_ms.wrapping_sub(base_timestamp));
        put_varlong(out, delta);
        put_field(out, record.key.as_deref());
        put_field(out, record.value.as_deref());
        put_varlong(out, signed(record.headers.len()));
        for (key, value) in &record.headers {
            put_field(out, Some(key.as_bytes()));
            put_field(out, value.as_deref());
        }
    }
}

fn put_field(out: &mut BytesMut, field: Option<&[u8]>) {
    match field {
        Some(bytes) => {
            put_varlong(out, signed(bytes.len()));
            out.put_slice(bytes);
        }
        None => put_varlong(out, -1),
    }
}

/// Bytes of one record, its own length not counted.
fn record_bytes(record: &Record, base_timestamp: i64, delta: i64) -> usize {
    1 + varlong_len(record.timestamp_ms.wrapping_sub(base_timestamp))
        + varlong_len(delta)
        + field_bytes(record.key.as_ref().map(Bytes::len))
        + field_bytes(record.value.as_ref().map(Bytes::len))
        + varlong_len(signed(record.headers.len()))
        + record
            .headers
            .iter()
            .map(|(key, value)| {
                field_bytes(Some(key.len())) + field_bytes(value.as_ref().map(Bytes::len))
            })
            .sum::<usize>()
}

fn field_bytes(len: Option<usize>) -> usize {
    len.map_or(1, |len| varlong_len(signed(len)) + len)
}

fn signed(len: usize) -> i64 {
    i64::try_from(len).expect("a length in memory fits an i64")
}

//! Visiting the records of a batch without making them: for validation and time look-ups.

use bytes::Bytes;
use storage::batch::{BATCH_HEADER_BYTES, BatchHeader, TimestampType};

use super::varint::{read_varint, read_varlong};
use super::{Compression, RecordError, compression};

/// What a visitor sees of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordView {
    /// Position within the batch, from 0.
    pub(crate) index: i32,
    /// The offset delta that the record names.
    pub(crate) offset_delta: i32,
    /// Its timestamp as the batch's type of timestamps has it.
    pub(crate) timestamp_ms: i64,
    /// Whether it has a key.
    pub(crate) has_key: bool,
}

/// Visits every record of one whole batch whose header was parsed, in order. Checks that the
/// lengths of all records and their fields fit and that the header's count is right. Takes at most
/// `bytes_max` bytes of memory to decompress.
pub(crate) fn walk_records(
    batch: &Bytes,
    header: &BatchHeader,
    bytes_max: usize,
    mut visit: impl FnMut(RecordView),
) -> Result<(), RecordError> {
    let codec = Compression::from_number(header.attributes & 0b111)
        .ok_or(RecordError::Malformed("unknown compression"))?;
    let body = compression::decompress(codec, &batch.slice(BATCH_HEADER_BYTES..), bytes_max)?;
    let mut rest: &[u8] = &body;
    for index in 0..header.record_count {
        let len = length(varint(&mut rest)?)?;
        let record = take(&mut rest, len)?;
        visit(view(record, index, header)?);
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err(RecordError::Malformed(
            "more bytes than the counted records take",
        ))
    }
}

fn view(mut record: &[u8], index: i32, header: &BatchHeader) -> Result<RecordView, RecordError> {
    let fields = &mut record;
    take(fields, 1)?;
    let timestamp_delta = varlong(fields)?;
    let offset_delta = varint(fields)?;
    let has_key = skip_field(fields)?;
    skip_field(fields)?;
    for _ in 0..length(varint(fields)?)? {
        let name = length(varint(fields)?)?;
        take(fields, name)?;
        skip_field(fields)?;
    }
    if !fields.is_empty() {
        return Err(RecordError::Malformed("bytes behind a record's headers"));
    }
    let timestamp_ms = if header.timestamp_type() == TimestampType::LogAppendTime {
        header.max_timestamp
    } else {
        header.base_timestamp.wrapping_add(timestamp_delta)
    };
    Ok(RecordView {
        index,
        offset_delta,
        timestamp_ms,
        has_key,
    })
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], RecordError> {
    let (taken, after) = rest
        .split_at_checked(len)
        .ok_or(RecordError::Malformed("a length beyond the end"))?;
    *rest = after;
    Ok(taken)
}

fn varint(rest: &mut &[u8]) -> Result<i32, RecordError> {
    let (value, len) = read_varint(rest).ok_or(RecordError::Malformed("bad varint"))?;
    *rest = &rest[len..];
    Ok(value)
}

fn varlong(rest: &mut &[u8]) -> Result<i64, RecordError> {
    let (value, len) = read_varlong(rest).ok_or(RecordError::Malformed("bad varlong"))?;
    *rest = &rest[len..];
    Ok(value)
}

fn length(value: i32) -> Result<usize, RecordError> {
    usize::try_from(value).map_err(|_| RecordError::Malformed("a negative length"))
}

/// A key or value, false: null, for which -1 stands.
fn skip_field(fields: &mut &[u8]) -> Result<bool, RecordError> {
    match varint(fields)? {
        -1 => Ok(false),
        len => take(fields, length(len)?).map(|_| true),
    }
}

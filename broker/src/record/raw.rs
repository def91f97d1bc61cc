//! Records of a batch as they stand, for whoever leaves some of them out: nothing of a record is
//! changed but its distances to the batch's first offset and time.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use storage::batch::{
    BATCH_HEADER_BYTES, BATCH_LENGTH_OVERHEAD, BATCH_UNCHECKED_BYTES, BatchHeader, TimestampType,
    crc32c,
};

use super::varint::{put_varlong, read_varint, read_varlong, varlong_len};
use super::{Compression, RecordError, compression};

/// The bytes of a batch's records, unpacked.
#[derive(Debug)]
pub(crate) struct RawRecords {
    body: Bytes,
    records: Vec<RawRecord>,
}

/// One record.
#[derive(Debug, Clone)]
pub(crate) struct RawRecord {
    pub(crate) offset: i64,
    pub(crate) timestamp_ms: i64,
    attributes: u8,
    key: Option<Range<usize>>,
    /// Whether its value is null.
    pub(crate) is_tombstone: bool,
    /// From the length of the key to the end.
    rest: Range<usize>,
}

impl RawRecords {
    /// The records of one whole batch whose header was parsed; at most `bytes_max` when unpacked.
    pub(crate) fn of(
        batch: &Bytes,
        header: &BatchHeader,
        bytes_max: usize,
    ) -> Result<RawRecords, RecordError> {
        let codec = Compression::from_number(header.attributes & 0b111)
            .ok_or(RecordError::Malformed("unknown compression"))?;
        let packed = batch.slice(BATCH_HEADER_BYTES..);
        let body = compression::decompress(codec, &packed, bytes_max.max(packed.len()))?;
        let mut records = Vec::new();
        let mut at = 0;
        for _ in 0..header.record_count {
            let (len, len_bytes) = varint(&body, at)?;
            let begin = at + len_bytes;
            let len = usize::try_from(len).map_err(|_| malformed("a negative length"))?;
            let end = begin.checked_add(len).filter(|end| *end <= body.len());
            let end = end.ok_or(malformed("a length beyond the end"))?;
            records.push(record(&body, begin..end, header)?);
            at = end;
        }
        if at != body.len() {
            return Err(malformed("bytes behind the last record"));
        }
        let rises = |pair: &[RawRecord]| pair[0].offset < pair[1].offset;
        let within = |record: &RawRecord| {
            (header.base_offset..=header.last_offset().0).contains(&record.offset)
        };
        if !records.windows(2).all(rises) || !records.iter().all(within) {
            return Err(malformed("offsets that do not rise within the batch's"));
        }
        Ok(RawRecords { body, records })
    }

    /// Unpacked bytes of the batch.
    pub(crate) fn bytes_of_all(&self) -> usize {
        self.body.len()
    }

    pub(crate) fn records(&self) -> &[RawRecord] {
        &self.records
    }

    /// A record's key.
    pub(crate) fn key(&self, record: &RawRecord) -> Option<&[u8]> {
        record.key.clone().and_then(|key| self.body.get(key))
    }

    /// A record's bytes from the length of its key on.
    fn rest(&self, record: &RawRecord) -> &[u8] {
        self.body.get(record.rest.clone()).unwrap_or_default()
    }
}

fn malformed(what: &'static str) -> RecordError {
    RecordError::Malformed(what)
}

fn varint(bytes: &[u8], at: usize) -> Result<(i32, usize), RecordError> {
    let rest = bytes.get(at..).unwrap_or_default();
    read_varint(rest).ok_or(malformed("bad varint"))
}

fn record(
    body: &Bytes,
    span: Range<usize>,
    header: &BatchHeader,
) -> Result<RawRecord, RecordError> {
    let bytes = &body[..span.end];
    let attributes = *bytes.get(span.start).ok_or(malformed("an empty record"))?;
    let mut at = span.start + 1;
    let (delta_ms, len) =
        read_varlong(bytes.get(at..).unwrap_or_default()).ok_or(malformed("bad varlong"))?;
    at += len;
    let (offset_delta, len) = varint(bytes, at)?;
    at += len;
    let rest = at..span.end;
    let mut field = |what| -> Result<Option<Range<usize>>, RecordError> {
        let (len, len_bytes) = varint(bytes, at)?;
        at += len_bytes;
        if len == -1 {
            return Ok(None);
        }
        let len = usize::try_from(len).map_err(|_| malformed(what))?;
        let end = at.checked_add(len).filter(|end| *end <= bytes.len());
        let field = at..end.ok_or(malformed(what))?;
        at = field.end;
        Ok(Some(field))
    };
    let key = field("a key beyond the record")?;
    let value = field("a value beyond the record")?;
    let timestamp_ms = match header.timestamp_type() {
        TimestampType::LogAppendTime => header.max_timestamp,
        TimestampType::CreateTime => header.base_timestamp.wrapping_add(delta_ms),
    };
    Ok(RawRecord {
        offset: header.base_offset + i64::from(offset_delta),
        timestamp_ms,
        attributes,
        key,
        is_tombstone: value.is_none(),
        rest,
    })
}

/// Records that are to be a batch.
#[derive(Debug, Default)]
pub(crate) struct RawBatch {
    records: Vec<RawRecord>,
    bytes: Vec<u8>,
}

impl RawBatch {
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes of the records, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Takes a record over, behind those that are there.
    pub(crate) fn push(&mut self, from: &RawRecords, record: &RawRecord) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(from.rest(record));
        self.records.push(RawRecord {
            key: None,
            rest: start..self.bytes.len(),
            ..record.clone()
        });
    }

    /// Greatest time of its records, -1 when there is none.
    pub(crate) fn max_timestamp_ms(&self) -> i64 {
        let times = self.records.iter().map(|record| record.timestamp_ms);
        times.max().unwrap_or(-1)
    }

    /// Time of its first record, -1 when there is none.
    pub(crate) fn first_timestamp_ms(&self) -> i64 {
        self.records.first().map_or(-1, |one| one.timestamp_ms)
    }

    /// The batch with this header, of which length, count and checksum are put right; packed as
    /// its attributes say. No records make a batch that only fills its place.
    pub(crate) fn encode(&self, header: &BatchHeader) -> Result<Bytes, RecordError> {
        let codec = Compression::from_number(header.attributes & 0b111)
            .ok_or(RecordError::Malformed("unknown compression"))?;
        let mut body = BytesMut::with_capacity(self.bytes.len() + self.records.len() * 8);
        for record in &self.records {
            let rest = self.bytes.get(record.rest.clone()).unwrap_or_default();
            let time_delta = record.timestamp_ms.wrapping_sub(header.base_timestamp);
            let offset_delta = record.offset - header.base_offset;
            let bytes = 1 + varlong_len(time_delta) + varlong_len(offset_delta) + rest.len();
            put_varlong(&mut body, signed(bytes)?);
            body.put_u8(record.attributes);
            put_varlong(&mut body, time_delta);
            put_varlong(&mut body, offset_delta);
            body.put_slice(rest);
        }
        let packed = match self.records.is_empty() {
            true => Vec::new(),
            false => compression::compress(codec, &body),
        };
        let length = BATCH_HEADER_BYTES - BATCH_LENGTH_OVERHEAD + packed.len();
        let too_large = RecordError::TooLarge {
            max: i32::MAX as usize,
        };
        let header = BatchHeader {
            batch_length: i32::try_from(length).map_err(|_| too_large.clone())?,
            record_count: i32::try_from(self.records.len()).map_err(|_| too_large)?,
            ..*header
        };
        let mut batch = BytesMut::with_capacity(BATCH_HEADER_BYTES + packed.len());
        batch.put_slice(&header.encode());
        batch.put_slice(&packed);
        let crc = crc32c(&batch[BATCH_UNCHECKED_BYTES..]);
        batch[BATCH_UNCHECKED_BYTES - 4..BATCH_UNCHECKED_BYTES].copy_from_slice(&crc.to_be_bytes());
        Ok(batch.freeze())
    }
}

fn signed(len: usize) -> Result<i64, RecordError> {
    i64::try_from(len).map_err(|_| malformed("a record beyond all"))
}

//! A batch to records, and a run of batches to single ones. The layout is drawn in `encode.rs`.

use bytes::Bytes;
use storage::batch::{BATCH_HEADER_BYTES, BatchHeader, crc_matches};

use super::varint::{read_varint, read_varlong};
use super::{Compression, Record, RecordError, compression};

/// A record takes at least this: one byte each for its length, attributes, two deltas, two field
/// lengths and the header count.
const RECORD_BYTES_MIN: usize = 7;
/// A header takes at least this: one byte for each of its two lengths.
const HEADER_BYTES_MIN: usize = 2;
/// Bits of a batch's attributes that name the codec.
const CODEC_MASK: i16 = 0b111;
/// Set when every record has the time of the append: the batch's max timestamp.
const LOG_APPEND_TIME: i16 = 0b1000;
/// Bytes before what a batch's length counts.
const LENGTH_PREFIX_BYTES: usize = 12;

/// Decodes every record of one whole batch. At most `bytes_max` when decompressed. The CRC is not
/// looked at (see [`split_batches`]). Memory taken beyond `bytes_max` is in proportion to the
/// number of records: where that matters, [`read_batch`] makes one at a time.
pub fn decode_batch(batch: &Bytes, bytes_max: usize) -> Result<Vec<Record>, RecordError> {
    read_batch(batch, bytes_max)?.collect()
}

/// The records of one whole batch, made one after another. At most `bytes_max` when decompressed,
/// which happens here. The CRC is not looked at.
pub fn read_batch(batch: &Bytes, bytes_max: usize) -> Result<Records, RecordError> {
    let header = BatchHeader::parse(batch).map_err(|_| RecordError::Malformed("bad header"))?;
    if header.total_bytes() != batch.len() {
        return Err(RecordError::Malformed(
            "its length is not that of the bytes given",
        ));
    }
    let codec = Compression::from_number(header.attributes & CODEC_MASK)
        .ok_or(RecordError::Malformed("unknown compression"))?;
    let left = usize::try_from(header.record_count)
        .map_err(|_| RecordError::Malformed("negative record count"))?;
    let body = compression::decompress(codec, &batch.slice(BATCH_HEADER_BYTES..), bytes_max)?;
    if left > body.len() / RECORD_BYTES_MIN {
        return Err(RecordError::Malformed("more records than bytes for them"));
    }
    Ok(Records {
        header,
        reader: Reader { bytes: body, at: 0 },
        left,
    })
}

/// The records of a batch. Ends after the first error.
#[derive(Debug)]
pub struct Records {
    header: BatchHeader,
    reader: Reader,
    // Records to come, as the header counts them; 0 after an error.
    left: usize,
}

impl Iterator for Records {
    type Item = Result<Record, RecordError>;

    fn next(&mut self) -> Option<Result<Record, RecordError>> {
        if self.left == 0 {
            let rest =
                std::mem::take(&mut self.reader.bytes).len() - std::mem::take(&mut self.reader.at);
            return (rest > 0)
                .then_some(Err(RecordError::Malformed("bytes behind the last record")));
        }
        self.left -= 1;
        let record = read_record(&mut self.reader, &self.header);
        if record.is_err() {
            self.left = 0;
            self.reader = Reader {
                bytes: Bytes::new(),
                at: 0,
            };
        }
        Some(record)
    }
}

fn read_record(reader: &mut Reader, header: &BatchHeader) -> Result<Record, RecordError> {
    let len = usize::try_from(reader.varint()?)
        .map_err(|_| RecordError::Malformed("negative record length"))?;
    let mut fields = Reader {
        bytes: reader.take(len)?,
        at: 0,
    };
    fields.take(1)?; // attributes: none are defined
    let timestamp_delta = fields.varlong()?;
    let offset_delta = fields.varint()?;
    let timestamp_ms = if header.attributes & LOG_APPEND_TIME != 0 {
        header.max_timestamp
    } else {
        // Kafka's clients wrap here too; an absurd time is not a reason to lose the record.
        header.base_timestamp.wrapping_add(timestamp_delta)
    };
    let offset = header
        .base_offset
        .checked_add(i64::from(offset_delta))
        .ok_or(RecordError::Malformed("offset beyond 64 bits"))?;
    let key = fields.field()?;
    let value = fields.field()?;
    let header_count = usize::try_from(fields.varint()?)
        .map_err(|_| RecordError::Malformed("negative header count"))?;
    if header_count > fields.remaining() / HEADER_BYTES_MIN {
        return Err(RecordError::Malformed("more headers than bytes for them"));
    }
    let mut headers = Vec::with_capacity(header_count.min(64));
    for _ in 0..header_count {
        let name = fields
            .field()?
            .ok_or(RecordError::Malformed("a header without a key"))?;
        // As in Kafka's clients, bytes that are no UTF-8 are replaced.
        headers.push((String::from_utf8_lossy(&name).into_owned(), fields.field()?));
    }
    if fields.remaining() > 0 {
        return Err(RecordError::Malformed("bytes behind a record's headers"));
    }
    Ok(Record {
        offset,
        timestamp_ms,
        key,
        value,
        headers,
    })
}

/// Splits back-to-back batches; an incomplete last one is left out. CRCs are checked.
pub fn split_batches(bytes: &Bytes) -> Result<Vec<Bytes>, RecordError> {
    let mut batches = Vec::new();
    let mut rest = bytes.clone();
    while let Some(prefix) = rest.first_chunk::<LENGTH_PREFIX_BYTES>() {
        let length = i32::from_be_bytes([prefix[8], prefix[9], prefix[10], prefix[11]]);
        let total = usize::try_from(length)
            .ok()
            .and_then(|length| length.checked_add(LENGTH_PREFIX_BYTES))
            .filter(|total| *total >= BATCH_HEADER_BYTES)
            .ok_or(RecordError::Malformed("a batch length below its header's"))?;
        if total > rest.len() {
            break;
        }
        let batch = rest.split_to(total);
        if !crc_matches(&batch) {
            return Err(RecordError::Malformed("CRC mismatch"));
        }
        batches.push(batch);
    }
    Ok(batches)
}

/// A checked reader over the decompressed bytes; what it hands out are slices of them.
#[derive(Debug)]
struct Reader {
    bytes: Bytes,
    at: usize,
}

impl Reader {
    fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn take(&mut self, len: usize) -> Result<Bytes, RecordError> {
        if len > self.remaining() {
            return Err(RecordError::Malformed("a length beyond the end"));
        }
        let taken = self.bytes.slice(self.at..self.at + len);
        self.at += len;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<i32, RecordError> {
        let (value, len) =
            read_varint(&self.bytes[self.at..]).ok_or(RecordError::Malformed("bad varint"))?;
        self.at += len;
        Ok(value)
    }

    fn varlong(&mut self) -> Result<i64, RecordError> {
        let (value, len) =
            read_varlong(&self.bytes[self.at..]).ok_or(RecordError::Malformed("bad varlong"))?;
        self.at += len;
        Ok(value)
    }

    /// Bytes behind their length; -1 stands for null.
    fn field(&mut self) -> Result<Option<Bytes>, RecordError> {
        match self.varint()? {
            -1 => Ok(None),
            len => {
                let len = usize::try_from(len)
                    .map_err(|_| RecordError::Malformed("negative field length"))?;
                self.take(len).map(Some)
            }
        }
    }
}

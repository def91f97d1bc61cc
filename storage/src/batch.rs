//! Kafka's record batch, format v2: the 61-byte header, its checksum, and the stamp.
//!
//! Pure: never decodes records, never allocates. The first 21 bytes lie outside the CRC, so a
//! batch gets its offset and epoch without being touched otherwise (KIP-98; message format v2).
//!
//! ```text
//!  0  base offset            i64   stamped at append
//!  8  batch length           i32   bytes after this field
//! 12  partition leader epoch i32   stamped at append
//! 16  magic                  i8    2
//! 17  crc                    u32   CRC-32C of everything after this field
//! 21  attributes             i16   0-2 codec, 3 time type, 4 transactional, 5 control, 6 horizon
//! 23  last offset delta      i32
//! 27  base timestamp         i64   ms
//! 35  max timestamp          i64   ms
//! 43  producer id            i64
//! 51  producer epoch         i16
//! 53  base sequence          i32
//! 57  record count           i32
//! 61  records                      big-endian throughout
//! ```

use crate::{LeaderEpoch, Offset};

/// Bytes of a record batch before its records.
pub const BATCH_HEADER_BYTES: usize = 61;
/// Bytes of a batch that its own length field does not count.
pub const BATCH_LENGTH_OVERHEAD: usize = 12;
/// The leading bytes that the batch's CRC does not cover.
pub const BATCH_UNCHECKED_BYTES: usize = 21;
/// The only record format there is.
pub const BATCH_MAGIC: i8 = 2;

const BATCH_LENGTH_MIN: i32 = 49;

/// Header of a record batch, as it stands in the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Bytes that follow the length field.
    pub batch_length: i32,
    /// Epoch of the leader that appended the batch.
    pub partition_leader_epoch: i32,
    /// Format version, always 2.
    pub magic: i8,
    /// CRC-32C over everything from `attributes` on.
    pub crc: u32,
    /// Codec, timestamp type and flags.
    pub attributes: i16,
    /// Offset of the last record, relative to the first. Never negative.
    pub last_offset_delta: i32,
    /// Timestamp that records' deltas add to (or the delete horizon), milliseconds.
    pub base_timestamp: i64,
    /// Greatest timestamp of the batch, milliseconds.
    pub max_timestamp: i64,
    /// Producer id, or -1.
    pub producer_id: i64,
    /// Producer epoch, or -1.
    pub producer_epoch: i16,
    /// Sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// Number of records. Never negative.
    pub record_count: i32,
}

/// Codec of a batch's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not compressed.
    None,
    /// gzip.
    Gzip,
    /// snappy, raw or with xerial framing.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard.
    Zstd,
}

/// What a batch's timestamps mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// Set by the producer.
    CreateTime,
    /// Set by the broker at append.
    LogAppendTime,
}

/// Why bytes are no record batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than a header has.
    #[error("{bytes} bytes are fewer than the {BATCH_HEADER_BYTES} of a batch header")]
    Short {
        /// Bytes there were.
        bytes: usize,
    },
    /// Not format v2.
    #[error("magic {0} instead of {BATCH_MAGIC}")]
    Magic(i8),
    /// The length field is below what a header needs.
    #[error("batch length {0} is impossible")]
    Length(i32),
    /// The last offset delta is negative.
    #[error("last offset delta {0} is negative")]
    LastOffsetDelta(i32),
    /// The record count is negative.
    #[error("record count {0} is negative")]
    RecordCount(i32),
    /// The attributes name a codec that does not exist.
    #[error("compression codec {0} does not exist")]
    Compression(u8),
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`; whatever follows it is not looked at.
    ///
    /// # Errors
    /// When the bytes cannot be the start of a v2 batch. The CRC is not checked, see
    /// [`crc_matches`].
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        let Some(header) = bytes.first_chunk::<BATCH_HEADER_BYTES>() else {
            return Err(BatchError::Short { bytes: bytes.len() });
        };
        let header = BatchHeader {
            base_offset: i64::from_be_bytes(field(header, 0)),
            batch_length: i32::from_be_bytes(field(header, 8)),
            partition_leader_epoch: i32::from_be_bytes(field(header, 12)),
            magic: i8::from_be_bytes(field(header, 16)),
            crc: u32::from_be_bytes(field(header, 17)),
            attributes: i16::from_be_bytes(field(header, 21)),
            last_offset_delta: i32::from_be_bytes(field(header, 23)),
            base_timestamp: i64::from_be_bytes(field(header, 27)),
            max_timestamp: i64::from_be_bytes(field(header, 35)),
            producer_id: i64::from_be_bytes(field(header, 43)),
            producer_epoch: i16::from_be_bytes(field(header, 51)),
            base_sequence: i32::from_be_bytes(field(header, 53)),
            record_count: i32::from_be_bytes(field(header, 57)),
        };
        if header.magic != BATCH_MAGIC {
            return Err(BatchError::Magic(header.magic));
        }
        if header.batch_length < BATCH_LENGTH_MIN {
            return Err(BatchError::Length(header.batch_length));
        }
        if header.last_offset_delta < 0 {
            return Err(BatchError::LastOffsetDelta(header.last_offset_delta));
        }
        if header.record_count < 0 {
            return Err(BatchError::RecordCount(header.record_count));
        }
        Ok(header)
    }

    /// The header as bytes, the inverse of [`BatchHeader::parse`].
    #[must_use]
    pub fn encode(&self) -> [u8; BATCH_HEADER_BYTES] {
        let mut out = [0; BATCH_HEADER_BYTES];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.base_offset.to_be_bytes());
        put(8, &self.batch_length.to_be_bytes());
        put(12, &self.partition_leader_epoch.to_be_bytes());
        put(16, &self.magic.to_be_bytes());
        put(17, &self.crc.to_be_bytes());
        put(21, &self.attributes.to_be_bytes());
        put(23, &self.last_offset_delta.to_be_bytes());
        put(27, &self.base_timestamp.to_be_bytes());
        put(35, &self.max_timestamp.to_be_bytes());
        put(43, &self.producer_id.to_be_bytes());
        put(51, &self.producer_epoch.to_be_bytes());
        put(53, &self.base_sequence.to_be_bytes());
        put(57, &self.record_count.to_be_bytes());
        out
    }

    /// Bytes of the whole batch, header included; at least [`BATCH_HEADER_BYTES`].
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        usize::try_from(self.batch_length).map_or(0, |length| length + BATCH_LENGTH_OVERHEAD)
    }

    /// Offset of the last record (inclusive), by the header's own base offset.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        Offset(
            self.base_offset
                .saturating_add(i64::from(self.last_offset_delta)),
        )
    }

    /// How many offsets the batch takes: the last offset delta plus one.
    #[must_use]
    pub fn offset_count(&self) -> i64 {
        i64::from(self.last_offset_delta) + 1
    }

    /// Codec of the records.
    ///
    /// # Errors
    /// When the attributes name none that exists.
    pub fn compression(&self) -> Result<Compression, BatchError> {
        match self.attributes & 0x07 {
            0 => Ok(Compression::None),
            1 => Ok(Compression::Gzip),
            2 => Ok(Compression::Snappy),
            3 => Ok(Compression::Lz4),
            4 => Ok(Compression::Zstd),
            other => Err(BatchError::Compression(other.to_be_bytes()[1])),
        }
    }

    /// What the timestamps mean.
    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & 0x08 == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes & 0x10 != 0
    }

    /// Whether the batch is a control batch (a transaction's end marker).
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes & 0x20 != 0
    }

    /// Whether the base timestamp is the delete horizon that compaction has set (KIP-534).
    #[must_use]
    pub fn has_delete_horizon(&self) -> bool {
        self.attributes & 0x40 != 0
    }
}

/// CRC-32C (Castagnoli), as Kafka uses it.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// Whether a batch only fills the place of records that compaction has removed: it has none, and
/// is no control batch. Readers of records get on without it.
#[must_use]
pub fn is_filler(header: &BatchHeader) -> bool {
    header.record_count == 0 && !header.is_control()
}

/// Whether a whole batch's CRC matches its bytes; `batch` must end where the batch ends. False
/// when `batch` is shorter than a header.
#[must_use]
pub fn crc_matches(batch: &[u8]) -> bool {
    if batch.len() < BATCH_HEADER_BYTES {
        return false;
    }
    batch[17..].first_chunk::<4>().is_some_and(|stored| {
        u32::from_be_bytes(*stored) == crc32c(&batch[BATCH_UNCHECKED_BYTES..])
    })
}

/// The 16 bytes before `magic`: what an append sets in a batch as produced.
#[must_use]
pub fn stamp(base_offset: Offset, batch_length: i32, epoch: LeaderEpoch) -> [u8; 16] {
    let mut out = [0; 16];
    out[..8].copy_from_slice(&base_offset.0.to_be_bytes());
    out[8..12].copy_from_slice(&batch_length.to_be_bytes());
    out[12..].copy_from_slice(&epoch.0.to_be_bytes());
    out
}

fn field<const N: usize>(header: &[u8; BATCH_HEADER_BYTES], at: usize) -> [u8; N] {
    *header[at..]
        .first_chunk()
        .expect("every field lies within the header")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> BatchHeader {
        BatchHeader {
            base_offset: 5,
            batch_length: 49 + 3,
            partition_leader_epoch: 7,
            magic: 2,
            crc: 0,
            attributes: 0,
            last_offset_delta: 2,
            base_timestamp: 1_000,
            max_timestamp: 1_005,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: 3,
        }
    }

    fn batch() -> Vec<u8> {
        let mut bytes = header().encode().to_vec();
        bytes.extend_from_slice(b"abc");
        let crc = crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    #[test]
    fn a_header_reads_back_as_written() {
        let parsed = BatchHeader::parse(&batch()).unwrap();
        assert_eq!(
            BatchHeader {
                crc: parsed.crc,
                ..header()
            },
            parsed
        );
        assert_eq!(parsed.total_bytes(), 64);
        assert_eq!(parsed.last_offset(), Offset(7));
        assert_eq!(parsed.offset_count(), 3);
    }

    #[test]
    fn impossible_headers_are_refused() {
        let good = batch();
        assert_eq!(
            BatchHeader::parse(&good[..60]),
            Err(BatchError::Short { bytes: 60 })
        );
        let with = |at: usize, bytes: &[u8]| {
            let mut bad = good.clone();
            bad[at..at + bytes.len()].copy_from_slice(bytes);
            BatchHeader::parse(&bad)
        };
        assert_eq!(with(16, &[1]), Err(BatchError::Magic(1)));
        assert_eq!(with(8, &48_i32.to_be_bytes()), Err(BatchError::Length(48)));
        assert_eq!(
            with(8, &(-1_i32).to_be_bytes()),
            Err(BatchError::Length(-1))
        );
        assert_eq!(
            with(23, &(-1_i32).to_be_bytes()),
            Err(BatchError::LastOffsetDelta(-1))
        );
        assert_eq!(
            with(57, &(-1_i32).to_be_bytes()),
            Err(BatchError::RecordCount(-1))
        );
    }

    #[test]
    fn the_crc_is_castagnoli_and_ignores_the_stamp() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        let mut bytes = batch();
        assert!(crc_matches(&bytes));
        bytes[..16].copy_from_slice(&stamp(Offset(900), 52, LeaderEpoch(3)));
        assert!(crc_matches(&bytes));
        let parsed = BatchHeader::parse(&bytes).unwrap();
        assert_eq!(
            (parsed.base_offset, parsed.partition_leader_epoch),
            (900, 3)
        );
        bytes[63] ^= 1;
        assert!(!crc_matches(&bytes));
        assert!(!crc_matches(&bytes[..20]));
    }

    #[test]
    fn attributes_are_told_apart() {
        let with = |attributes| BatchHeader {
            attributes,
            ..header()
        };
        assert_eq!(with(4).compression(), Ok(Compression::Zstd));
        assert_eq!(with(7).compression(), Err(BatchError::Compression(7)));
        assert_eq!(with(8).timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!(with(0).timestamp_type(), TimestampType::CreateTime);
        assert!(with(0x10).is_transactional() && with(0x20).is_control());
        assert!(with(0x40).has_delete_horizon() && !with(0x30).has_delete_horizon());
    }
}

//! Records inside a batch: reading and writing them, with any codec, within bounds.
//!
//! The produce and fetch paths never come here; time look-ups, the command line and other
//! protocols do. Kafka's record batch format v2 (KIP-98), the only one there is here. Bytes from
//! outside never panic, and never make more memory be taken than the caller allowed.

mod compression;
mod decode;
mod encode;
mod raw;
mod varint;
mod walk;

#[cfg(test)]
mod tests;

use bytes::Bytes;

pub use decode::{Records, decode_batch, read_batch, split_batches};
pub use encode::encode_batch;
pub(crate) use raw::{RawBatch, RawRecords};
pub(crate) use walk::{RecordView, walk_records};

/// One record, as it stands in a batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Its offset.
    pub offset: i64,
    /// Its timestamp, milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Its headers, in order, duplicates kept.
    pub headers: Vec<(String, Option<Bytes>)>,
}

/// Compression of a batch; the discriminant is Kafka's codec number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not compressed.
    None = 0,
    /// gzip.
    Gzip = 1,
    /// snappy, with or without the xerial framing.
    Snappy = 2,
    /// LZ4 frames.
    Lz4 = 3,
    /// zstd.
    Zstd = 4,
}

impl Compression {
    /// The codec of this number (the low three bits of a batch's attributes).
    #[must_use]
    pub fn from_number(number: i16) -> Option<Compression> {
        Some(match number {
            0 => Compression::None,
            1 => Compression::Gzip,
            2 => Compression::Snappy,
            3 => Compression::Lz4,
            4 => Compression::Zstd,
            _ => return None,
        })
    }
}

/// Why a batch could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes contradict themselves.
    #[error("malformed batch: {0}")]
    Malformed(&'static str),
    /// The compressed bytes are damaged.
    #[error("cannot decompress: {0}")]
    Decompress(String),
    /// Decompressed, it would be larger than allowed.
    #[error("more than {max} bytes when decompressed")]
    TooLarge {
        /// The limit.
        max: usize,
    },
}

/// What a producer stamps on a batch; all -1 / `false` for a plain one.
#[derive(Debug, Clone, Copy)]
pub struct BatchProducer {
    /// Producer id, -1 for none.
    pub producer_id: i64,
    /// Producer epoch.
    pub producer_epoch: i16,
    /// Sequence of the first record.
    pub base_sequence: i32,
}

impl Default for BatchProducer {
    fn default() -> BatchProducer {
        BatchProducer {
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
        }
    }
}

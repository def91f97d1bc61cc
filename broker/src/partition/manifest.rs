//! What a checkpoint of a data shard says: every partition with its log, epochs and producers.
//!
//! ```text
//! version u16, count u32, then per partition:
//!   topic id 16 bytes, index u32, epoch base i64,
//!   log state  length u32 + bytes (the storage crate's own encoding)
//!   producers  checked i64, count u32, producer*
//! ```
//! Integers are big-endian. The file around it carries kind, length and checksum.

use bytes::Bytes;
use storage::PartitionId;
use storage::partition_log::LogState;

use super::op::{put_partition, take_partition};
use super::producers::Producers;
use crate::wire::{Malformed, Reader, Writer};

const VERSION: u16 = 1;
/// Smallest encoded partition.
const PARTITION_BYTES: usize = 20 + 8 + 4 + 12;

/// One partition of a checkpoint.
#[derive(Debug, Clone)]
pub(crate) struct PartitionState {
    pub(crate) id: PartitionId,
    pub(crate) epoch_base: i64,
    pub(crate) log: LogState,
    pub(crate) producers: Producers,
}

/// Why a manifest cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ManifestError {
    /// The bytes are not a manifest.
    Malformed(&'static str),
    /// Written by a newer version.
    UnknownVersion(u16),
}

impl From<Malformed> for ManifestError {
    fn from(error: Malformed) -> ManifestError {
        ManifestError::Malformed(error.expected)
    }
}

pub(crate) fn encode(partitions: &[PartitionState]) -> Bytes {
    let mut writer = Writer::default();
    writer.u16(VERSION).count(partitions.len());
    for partition in partitions {
        put_partition(&mut writer, partition.id);
        writer
            .i64(partition.epoch_base)
            .bytes(&partition.log.encode());
        partition.producers.encode(&mut writer);
    }
    writer.finish()
}

pub(crate) fn decode(manifest: Bytes) -> Result<Vec<PartitionState>, ManifestError> {
    let mut reader = Reader::new(manifest);
    let version = reader.u16()?;
    if version != VERSION {
        return Err(ManifestError::UnknownVersion(version));
    }
    let count = reader.count(PARTITION_BYTES)?;
    let mut partitions = Vec::with_capacity(count);
    for _ in 0..count {
        let id = take_partition(&mut reader)?;
        let epoch_base = reader.i64()?;
        let log = reader.bytes()?;
        let log =
            LogState::decode(&log).map_err(|_| ManifestError::Malformed("the state of a log"))?;
        let producers = Producers::decode(&mut reader)?;
        partitions.push(PartitionState {
            id,
            epoch_base,
            log,
            producers,
        });
    }
    reader.end()?;
    Ok(partitions)
}

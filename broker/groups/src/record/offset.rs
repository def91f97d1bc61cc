//! Committed offsets.
//!
//! ```text
//! key    i16 kind = 1 | string group | string topic | i32 partition
//! value  i16 version
//!        v0: i64 offset | string metadata | i64 commit timestamp
//!        v1: i64 offset | string metadata | i64 commit timestamp | i64 expire timestamp
//!        v2: as v0
//!        v3: i64 offset | i32 leader epoch | string metadata | i64 commit timestamp
//!        v4: as v3, flexible
//! ```
//!
//! Written are v1 when the offset has a time of expiry of its own, else v3, as Kafka does.

use bytes::Bytes;

use super::RecordError;
use super::wire::{Reader, Writer};

/// Whose offset, and of what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OffsetKey {
    /// The group.
    pub group_id: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetValue {
    /// The offset of the next record to read.
    pub offset: i64,
    /// The epoch of the last record read; -1: not known.
    pub leader_epoch: i32,
    /// For the client.
    pub metadata: String,
    /// When it was committed.
    pub commit_timestamp_ms: i64,
    /// When it expires, if the client said so (OffsetCommit v2 to v4).
    pub expire_timestamp_ms: Option<i64>,
}

impl OffsetKey {
    pub(super) fn encode(&self) -> Bytes {
        let mut writer = Writer::versioned(1);
        writer.string(&self.group_id);
        writer.string(&self.topic);
        writer.i32(self.partition);
        writer.finish()
    }

    /// What follows the kind.
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        Ok(Self {
            group_id: reader.string()?,
            topic: reader.string()?,
            partition: reader.i32()?,
        })
    }
}

impl OffsetValue {
    pub(super) fn encode(&self) -> Bytes {
        let mut writer;
        match self.expire_timestamp_ms {
            Some(expire_timestamp_ms) => {
                writer = Writer::versioned(1);
                writer.i64(self.offset);
                writer.string(&self.metadata);
                writer.i64(self.commit_timestamp_ms);
                writer.i64(expire_timestamp_ms);
            }
            None => {
                writer = Writer::versioned(3);
                writer.i64(self.offset);
                writer.i32(self.leader_epoch);
                writer.string(&self.metadata);
                writer.i64(self.commit_timestamp_ms);
            }
        }
        writer.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new(bytes);
        let version = reader.i16()?;
        if !(0..=4).contains(&version) {
            return Err(RecordError::UnknownVersion(version));
        }
        let offset = reader.i64()?;
        let leader_epoch = if version >= 3 { reader.i32()? } else { -1 };
        let metadata = if version >= 4 {
            reader.compact_string()?
        } else {
            reader.string()?
        };
        let commit_timestamp_ms = reader.i64()?;
        let expire_timestamp_ms = match version {
            1 => Some(reader.i64()?).filter(|&expire_timestamp_ms| expire_timestamp_ms != -1),
            _ => None,
        };
        if version >= 4 {
            reader.skip_tagged()?;
        }
        reader.finish()?;
        Ok(Self {
            offset,
            leader_epoch,
            metadata,
            commit_timestamp_ms,
            expire_timestamp_ms,
        })
    }
}

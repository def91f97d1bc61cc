//! The records of `__consumer_offsets`, byte for byte as Kafka writes them.
//!
//! A key begins with its kind (16 bits, Kafka calls it a version), a value with its version; no value
//! is a tombstone. Sources: the message definitions of Kafka's group coordinator (OffsetCommitKey and
//! Value, GroupMetadataKey and Value, ConsumerGroup*Key and Value). Bytes from the log never panic.

mod classic;
pub mod consumer;
pub(crate) mod embedded;
mod offset;
#[cfg(test)]
mod tests;
mod wire;

use coordinator::Encoded;
use thiserror::Error;

pub use classic::{ClassicMemberValue, ClassicValue};
pub use consumer::ConsumerRecord;
pub use offset::{OffsetKey, OffsetValue};

/// A record of `__consumer_offsets`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A committed offset; no value: it is forgotten.
    Offset(OffsetKey, Option<OffsetValue>),
    /// A classic group, by its id; no value: it is forgotten.
    Classic(String, Option<ClassicValue>),
    /// Of a consumer group (KIP-848).
    Consumer(ConsumerRecord),
}

/// Why bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RecordError {
    /// They end too early.
    #[error("the record ends too early")]
    Short,
    /// Something follows the last field.
    #[error("{0} bytes follow the last field")]
    Long(usize),
    /// Text that is not UTF-8.
    #[error("text of the record is not UTF-8")]
    Text,
    /// A number or length out of range.
    #[error("a number of the record is out of range")]
    Number,
    /// Null where that may not be.
    #[error("a field of the record is null")]
    Null,
    /// A key of a kind that is not known here: of another version of Kafka, or of groups that we do
    /// not have. Whoever reads the log passes over it.
    #[error("kind {0} of records is not known")]
    UnknownKind(i16),
    /// A value in a version that is not known here.
    #[error("version {0} of the record is not known")]
    UnknownVersion(i16),
}

impl coordinator::Record for Record {
    type Error = RecordError;

    fn encode(&self) -> Encoded {
        match self {
            Self::Offset(key, value) => Encoded {
                key: key.encode(),
                value: value.as_ref().map(OffsetValue::encode),
            },
            Self::Classic(group_id, value) => Encoded {
                key: classic::encode_key(group_id),
                value: value.as_ref().map(ClassicValue::encode),
            },
            Self::Consumer(record) => record.encode(),
        }
    }

    fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Self, RecordError> {
        let mut key = wire::Reader::new(key);
        match key.i16()? {
            // Kind 0 has the same fields; Kafka has not written it for ten years.
            0 | 1 => {
                let name = OffsetKey::decode(&mut key)?;
                key.finish()?;
                let value = value.map(OffsetValue::decode).transpose()?;
                Ok(Self::Offset(name, value))
            }
            2 => {
                let group_id = key.string()?;
                key.finish()?;
                let value = value.map(ClassicValue::decode).transpose()?;
                Ok(Self::Classic(group_id, value))
            }
            kind => Ok(Self::Consumer(ConsumerRecord::decode(
                kind, &mut key, value,
            )?)),
        }
    }
}

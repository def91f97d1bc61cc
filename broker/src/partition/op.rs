//! The operations that a data shard's log carries, and their encoding.
//!
//! ```text
//! head = kind u8, version u8, then by kind:
//!   1 append      partition           body = one Kafka v2 record batch, as produced
//!   2 create      count, partition*   body empty; version 2, see [`PartitionOp::CreateAtTerm`]
//!   3 delete      count, partition*   body empty
//!   4 raise start partition, offset   body empty
//! partition = topic id 16 bytes, index u32
//! ```
//! Integers are big-endian. A new field means a new version; a reader refuses versions it does not
//! know, since guessing would let replicas differ.

use bytes::Bytes;
use raft::Op;
use storage::{Offset, PartitionId, TopicId};

use crate::wire::{Malformed, Reader, Writer};

const VERSION: u8 = 1;
const CREATE_VERSION: u8 = 2;
const APPEND: u8 = 1;
const CREATE: u8 = 2;
const DELETE: u8 = 3;
const RAISE_START: u8 = 4;
/// Bytes of an encoded partition.
const PARTITION_BYTES: usize = 20;

/// One operation on the partitions of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PartitionOp {
    /// Append a batch that passed the stateless checks.
    Append {
        partition: PartitionId,
        batch: Bytes,
    },
    /// Make empty partitions; those that exist stay as they are. Their leader epochs are the
    /// shard's terms.
    Create { partitions: Vec<PartitionId> },
    /// Version 1 of it, in older journals: the leader epoch is 0 in the entry's own term.
    CreateAtTerm { partitions: Vec<PartitionId> },
    /// Remove partitions and their records; those that do not exist are left out.
    Delete { partitions: Vec<PartitionId> },
    /// Move the log start forward to this offset, at most to the end of the log.
    RaiseStart { partition: PartitionId, to: Offset },
}

pub(crate) fn put_partition(writer: &mut Writer, partition: PartitionId) {
    writer.raw(&partition.topic.0).u32(partition.index);
}

pub(crate) fn take_partition(reader: &mut Reader) -> Result<PartitionId, Malformed> {
    Ok(PartitionId {
        topic: TopicId(reader.array()?),
        index: reader.u32()?,
    })
}

fn take_partitions(reader: &mut Reader) -> Result<Vec<PartitionId>, Malformed> {
    let count = reader.count(PARTITION_BYTES)?;
    (0..count).map(|_| take_partition(reader)).collect()
}

impl PartitionOp {
    /// The operation as the shard's log carries it; the batch is not copied.
    pub(crate) fn encode(self) -> Op {
        let mut writer = Writer::default();
        let mut body = Bytes::new();
        match self {
            PartitionOp::Append { partition, batch } => {
                writer.u8(APPEND).u8(VERSION);
                put_partition(&mut writer, partition);
                body = batch;
            }
            PartitionOp::Create { partitions } => {
                list(&mut writer, (CREATE, CREATE_VERSION), &partitions);
            }
            PartitionOp::CreateAtTerm { partitions } => {
                list(&mut writer, (CREATE, VERSION), &partitions);
            }
            PartitionOp::Delete { partitions } => {
                list(&mut writer, (DELETE, VERSION), &partitions);
            }
            PartitionOp::RaiseStart { partition, to } => {
                writer.u8(RAISE_START).u8(VERSION);
                put_partition(&mut writer, partition);
                writer.i64(to.0);
            }
        }
        Op {
            head: writer.finish(),
            body,
        }
    }

    /// Reads an operation back; the batch shares the entry's bytes.
    pub(crate) fn decode(op: &Op) -> Result<PartitionOp, Malformed> {
        let mut reader = Reader::new(op.head.clone());
        let (kind, version) = (reader.u8()?, reader.u8()?);
        let is_known = version == VERSION || (kind, version) == (CREATE, CREATE_VERSION);
        if !is_known {
            return Err(reader.malformed("a known operation version"));
        }
        let decoded = match kind {
            APPEND => PartitionOp::Append {
                partition: take_partition(&mut reader)?,
                batch: op.body.clone(),
            },
            CREATE if version == VERSION => PartitionOp::CreateAtTerm {
                partitions: take_partitions(&mut reader)?,
            },
            CREATE => PartitionOp::Create {
                partitions: take_partitions(&mut reader)?,
            },
            DELETE => PartitionOp::Delete {
                partitions: take_partitions(&mut reader)?,
            },
            RAISE_START => PartitionOp::RaiseStart {
                partition: take_partition(&mut reader)?,
                to: Offset(reader.i64()?),
            },
            _ => return Err(reader.malformed("a known operation kind")),
        };
        reader.end()?;
        Ok(decoded)
    }
}

fn list(writer: &mut Writer, (kind, version): (u8, u8), partitions: &[PartitionId]) {
    writer.u8(kind).u8(version).count(partitions.len());
    for partition in partitions {
        put_partition(writer, *partition);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn partition() -> impl Strategy<Value = PartitionId> {
        (any::<[u8; 16]>(), any::<u32>()).prop_map(|(topic, index)| PartitionId {
            topic: TopicId(topic),
            index,
        })
    }

    fn operation() -> impl Strategy<Value = PartitionOp> {
        let list = || proptest::collection::vec(partition(), 0..5);
        prop_oneof![
            (partition(), proptest::collection::vec(any::<u8>(), 1..50)).prop_map(
                |(partition, batch)| PartitionOp::Append {
                    partition,
                    batch: batch.into()
                }
            ),
            list().prop_map(|partitions| PartitionOp::Create { partitions }),
            list().prop_map(|partitions| PartitionOp::CreateAtTerm { partitions }),
            list().prop_map(|partitions| PartitionOp::Delete { partitions }),
            (partition(), any::<i64>()).prop_map(|(partition, to)| PartitionOp::RaiseStart {
                partition,
                to: Offset(to)
            }),
        ]
    }

    proptest! {
        #[test]
        fn encoded_is_decoded(operation in operation()) {
            prop_assert_eq!(PartitionOp::decode(&operation.clone().encode()), Ok(operation));
        }

        #[test]
        fn arbitrary_bytes_never_panic(head in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = PartitionOp::decode(&Op { head: head.into(), body: Bytes::new() });
        }
    }
}

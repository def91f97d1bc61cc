//! The operations that a data shard's log carries, and their encoding.
//!
//! ```text
//! head = kind u8, version u8, then by kind:
//!   1 append      log                 body = one Kafka v2 record batch, as produced; version 2,
//!                                     see [`PartitionOp::AppendToAny`]
//!   2 create      count, partition*   body empty; version 2, see [`PartitionOp::CreateAtTerm`]
//!   3 delete      count, partition*   body empty
//!   4 raise start partition, offset   body empty
//!   5 begin       log, from i64       body empty
//!   6 fill        log, at i64         body = whole batches, as they stand in the other shard;
//!                                     version 2: then tombstones gone below i64, number u64
//!   7 seal        log, move u32       body empty
//!   8 unseal      partition, move u32 body empty
//!   9 activate    log, start i64, end i64, epoch i32   body = producers, see `producers.rs`
//!  10 drop        count, log*         body empty
//!  11 append at   log, at i64         body = one Kafka v2 record batch, of a coordinator
//! partition = topic id 16 bytes, index u32
//! log       = partition, generation u32
//! ```
//! 5 to 10 move single partitions between shards; 11 is conditional.
//! Integers are big-endian. A new field means a new version; a reader refuses versions it does not
//! know, since guessing would let replicas differ.

use bytes::Bytes;
use raft::Op;
use storage::partition_log::TombstoneView;
use storage::{LeaderEpoch, LogId, Offset, PartitionId, TopicId};

use crate::wire::{Malformed, Reader, Writer};

const VERSION: u8 = 1;
const CREATE_VERSION: u8 = 2;
const APPEND_VERSION: u8 = 2;
const FILL_OF_VIEW_VERSION: u8 = 2;
const APPEND: u8 = 1;
const CREATE: u8 = 2;
const DELETE: u8 = 3;
const RAISE_START: u8 = 4;
const BEGIN: u8 = 5;
const FILL: u8 = 6;
const SEAL: u8 = 7;
const UNSEAL: u8 = 8;
const ACTIVATE: u8 = 9;
const DROP: u8 = 10;
const APPEND_AT: u8 = 11;
/// Bytes of an encoded partition, and of a log.
const PARTITION_BYTES: usize = 20;
const LOG_BYTES: usize = PARTITION_BYTES + 4;

/// One operation on the partitions of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PartitionOp {
    /// Append a batch that passed the stateless checks to this log of the partition, no other.
    Append { log: LogId, batch: Bytes },
    /// Version 1 of it, in older journals: to whatever log of the partition serves in the shard.
    AppendToAny {
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
    /// Make an empty log that continues at `from`, the base of a batch, to be filled from another
    /// shard; it serves nobody. One that is there already and ends below is begun anew.
    Begin { log: LogId, from: Offset },
    /// Append batches to a log that is being filled, byte for byte, if it ends at `at`.
    Fill {
        log: LogId,
        at: Offset,
        /// The tombstones that were gone where they were read; `None`: none from `at` on.
        gone: Option<TombstoneView>,
        batches: Bytes,
    },
    /// Take no more appends until the move of this generation is over.
    Seal { log: LogId, by: u32 },
    /// The moves up to this generation are cancelled: take appends again, and never be sealed by
    /// one of them.
    Unseal { partition: PartitionId, by: u32 },
    /// A filled log is complete, if it ends at `end`: from now on it is a partition like others,
    /// with this log start and these producers; its epochs go on above `epoch`.
    Activate {
        log: LogId,
        start: Offset,
        end: Offset,
        epoch: LeaderEpoch,
        producers: Bytes,
    },
    /// Remove logs that can never become the partition again; others stay.
    Drop { logs: Vec<LogId> },
    /// Append a batch without a producer to this log of the partition, no other, if it ends at `at`:
    /// nothing has come that whoever wrote the batch does not know of.
    AppendAt {
        log: LogId,
        at: Offset,
        batch: Bytes,
    },
}

pub(crate) fn put_log(writer: &mut Writer, log: LogId) {
    put_partition(writer, log.partition);
    writer.u32(log.generation);
}

pub(crate) fn take_log(reader: &mut Reader) -> Result<LogId, Malformed> {
    Ok(LogId {
        partition: take_partition(reader)?,
        generation: reader.u32()?,
    })
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
            PartitionOp::Append { log, batch } => {
                put_log(writer.u8(APPEND).u8(APPEND_VERSION), log);
                body = batch;
            }
            PartitionOp::AppendToAny { partition, batch } => {
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
            PartitionOp::Begin { log, from } => {
                put_log(writer.u8(BEGIN).u8(VERSION), log);
                writer.i64(from.0);
            }
            PartitionOp::Fill {
                log,
                at,
                gone,
                batches,
            } => {
                let version = gone.map_or(VERSION, |_| FILL_OF_VIEW_VERSION);
                put_log(writer.u8(FILL).u8(version), log);
                writer.i64(at.0);
                if let Some(gone) = gone {
                    writer.i64(gone.gone_below.0).u64(gone.number);
                }
                body = batches;
            }
            PartitionOp::Seal { log, by } => {
                put_log(writer.u8(SEAL).u8(VERSION), log);
                writer.u32(by);
            }
            PartitionOp::Unseal { partition, by } => {
                put_partition(writer.u8(UNSEAL).u8(VERSION), partition);
                writer.u32(by);
            }
            PartitionOp::Activate {
                log,
                start,
                end,
                epoch,
                producers,
            } => {
                put_log(writer.u8(ACTIVATE).u8(VERSION), log);
                writer.i64(start.0).i64(end.0).i32(epoch.0);
                body = producers;
            }
            PartitionOp::Drop { logs } => {
                writer.u8(DROP).u8(VERSION).count(logs.len());
                logs.iter().for_each(|log| put_log(&mut writer, *log));
            }
            PartitionOp::AppendAt { log, at, batch } => {
                put_log(writer.u8(APPEND_AT).u8(VERSION), log);
                writer.i64(at.0);
                body = batch;
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
        let newer = [
            (CREATE, CREATE_VERSION),
            (APPEND, APPEND_VERSION),
            (FILL, FILL_OF_VIEW_VERSION),
        ];
        let is_known = version == VERSION || newer.contains(&(kind, version));
        if !is_known {
            return Err(reader.malformed("a known operation version"));
        }
        let decoded = match kind {
            APPEND if version == VERSION => PartitionOp::AppendToAny {
                partition: take_partition(&mut reader)?,
                batch: op.body.clone(),
            },
            APPEND => PartitionOp::Append {
                log: take_log(&mut reader)?,
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
            BEGIN => PartitionOp::Begin {
                log: take_log(&mut reader)?,
                from: Offset(reader.i64()?),
            },
            FILL => PartitionOp::Fill {
                log: take_log(&mut reader)?,
                at: Offset(reader.i64()?),
                gone: match version {
                    FILL_OF_VIEW_VERSION => Some(TombstoneView {
                        gone_below: Offset(reader.i64()?),
                        number: reader.u64()?,
                    }),
                    _ => None,
                },
                batches: op.body.clone(),
            },
            SEAL => PartitionOp::Seal {
                log: take_log(&mut reader)?,
                by: reader.u32()?,
            },
            UNSEAL => PartitionOp::Unseal {
                partition: take_partition(&mut reader)?,
                by: reader.u32()?,
            },
            ACTIVATE => PartitionOp::Activate {
                log: take_log(&mut reader)?,
                start: Offset(reader.i64()?),
                end: Offset(reader.i64()?),
                epoch: LeaderEpoch(reader.i32()?),
                producers: op.body.clone(),
            },
            DROP => PartitionOp::Drop {
                logs: (0..reader.count(LOG_BYTES)?)
                    .map(|_| take_log(&mut reader))
                    .collect::<Result<_, _>>()?,
            },
            APPEND_AT => PartitionOp::AppendAt {
                log: take_log(&mut reader)?,
                at: Offset(reader.i64()?),
                batch: op.body.clone(),
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

    fn log() -> impl Strategy<Value = LogId> {
        (partition(), any::<u32>()).prop_map(|(partition, generation)| LogId {
            partition,
            generation,
        })
    }

    fn moving() -> impl Strategy<Value = PartitionOp> {
        let body = || proptest::collection::vec(any::<u8>(), 1..50).prop_map(Bytes::from);
        prop_oneof![
            (log(), any::<i64>()).prop_map(|(log, from)| PartitionOp::Begin {
                log,
                from: Offset(from)
            }),
            (log(), any::<i64>(), any::<Option<(i64, u64)>>(), body()).prop_map(
                |(log, at, gone, batches)| PartitionOp::Fill {
                    log,
                    at: Offset(at),
                    gone: gone.map(|(below, number)| TombstoneView {
                        gone_below: Offset(below),
                        number
                    }),
                    batches
                }
            ),
            (log(), any::<u32>()).prop_map(|(log, by)| PartitionOp::Seal { log, by }),
            (partition(), any::<u32>())
                .prop_map(|(partition, by)| PartitionOp::Unseal { partition, by }),
            (log(), any::<i64>(), any::<i64>(), any::<i32>(), body()).prop_map(
                |(log, start, end, epoch, producers)| PartitionOp::Activate {
                    log,
                    start: Offset(start),
                    end: Offset(end),
                    epoch: LeaderEpoch(epoch),
                    producers
                }
            ),
            proptest::collection::vec(log(), 0..5).prop_map(|logs| PartitionOp::Drop { logs }),
            (log(), any::<i64>(), body()).prop_map(|(log, at, batch)| PartitionOp::AppendAt {
                log,
                at: Offset(at),
                batch
            }),
        ]
    }

    fn operation() -> impl Strategy<Value = PartitionOp> {
        let list = || proptest::collection::vec(partition(), 0..5);
        prop_oneof![
            (log(), proptest::collection::vec(any::<u8>(), 1..50)).prop_map(|(log, batch)| {
                PartitionOp::Append {
                    log,
                    batch: batch.into(),
                }
            }),
            (partition(), proptest::collection::vec(any::<u8>(), 1..50)).prop_map(
                |(partition, batch)| PartitionOp::AppendToAny {
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
            moving(),
        ]
    }

    #[test]
    fn appends_of_version_1_are_still_read() {
        let id = PartitionId {
            topic: TopicId([7; 16]),
            index: 5,
        };
        let batch = Bytes::from_static(b"batch");
        let mut writer = Writer::default();
        writer.u8(1).u8(1).raw(&[7; 16]).u32(5);
        let old = Op {
            head: writer.finish(),
            body: batch.clone(),
        };
        let read = PartitionOp::AppendToAny {
            partition: id,
            batch,
        };
        assert_eq!(PartitionOp::decode(&old), Ok(read));
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

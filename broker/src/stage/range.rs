//! Asking a replica for a range of a partition's committed log, and its answer.
//!
//! ```text
//! request  version u8, shard u32, partition (topic id 16 bytes, index u32),
//!          from i64, limit i64, bytes_max u32
//! answer   version u8, kind u8, then by kind:
//!   1 batches            next i64, then whole batches to the end of the answer
//!   2 deleted            start i64           what was asked for lies below the log start
//!   3 behind             end i64             what was asked for has not come here yet
//!   4 no such partition  leads u8            1: it was deleted; 0: this replica cannot tell
//!   5 failed             reason (length u32 + UTF-8)
//!   6 batches            next i64, then where tombstones at or above `from` were dropped: below i64,
//!                        number u64 (see `TombstoneView`), then whole batches as in 1
//! ```
//! Integers are big-endian.

use bytes::{BufMut, Bytes, BytesMut};
use storage::partition_log::TombstoneView;
use storage::{Offset, PartitionId, ShardId};

use crate::partition::op::{put_partition, take_partition};
use crate::wire::{Malformed, Reader, Writer};

const VERSION: u8 = 1;
const BATCHES: u8 = 1;
const DELETED: u8 = 2;
const BEHIND: u8 = 3;
const NO_SUCH_PARTITION: u8 = 4;
const FAILED: u8 = 5;
const BATCHES_OF_VIEW: u8 = 6;
/// Bytes of an answer before its batches.
const BATCHES_HEAD_BYTES: usize = 10;
const BATCHES_OF_VIEW_HEAD_BYTES: usize = 26;

/// Which batches are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReadRange {
    /// The shard that carries the partition.
    pub(crate) shard: ShardId,
    /// The partition.
    pub(crate) partition: PartitionId,
    /// From the batch that holds this offset on,
    pub(crate) from: Offset,
    /// those whose first record lies below this,
    pub(crate) limit: Offset,
    /// about this many bytes; one batch at least.
    pub(crate) bytes_max: u32,
}

/// What a replica has of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RangeAnswer {
    /// Whole batches back to back.
    Batches {
        /// Offset after them; where to read on.
        next: Offset,
        /// What the log had dropped when they were read, if that may be in the range.
        gone: Option<TombstoneView>,
        /// The batches. Empty only when nothing of the range is here yet.
        batches: Bytes,
    },
    /// The range begins below the log start.
    Deleted {
        /// The log start.
        start: Offset,
    },
    /// The range begins above the end of the log here.
    Behind {
        /// The end.
        end: Offset,
    },
    /// The shard does not carry the partition here.
    NoSuchPartition {
        /// Whether this replica leads the shard: then the partition was deleted for good.
        leads: bool,
    },
    /// The replica cannot read it.
    Failed {
        /// Why, for the log.
        reason: String,
    },
}

impl ReadRange {
    pub(crate) fn encode(&self) -> Bytes {
        let mut writer = Writer::default();
        writer.u8(VERSION).u32(self.shard.0);
        put_partition(&mut writer, self.partition);
        writer
            .i64(self.from.0)
            .i64(self.limit.0)
            .u32(self.bytes_max);
        writer.finish()
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<ReadRange, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(reader.malformed("a known version"));
        }
        let range = ReadRange {
            shard: ShardId(reader.u32()?),
            partition: take_partition(&mut reader)?,
            from: Offset(reader.i64()?),
            limit: Offset(reader.i64()?),
            bytes_max: reader.u32()?,
        };
        reader.end()?;
        Ok(range)
    }
}

impl RangeAnswer {
    /// The answer of pieces that are joined here, the only copy on the way.
    pub(crate) fn encode_batches(
        next: Offset,
        gone: Option<TombstoneView>,
        pieces: &[Bytes],
    ) -> Bytes {
        let bytes: usize = pieces.iter().map(Bytes::len).sum();
        let mut answer = BytesMut::with_capacity(BATCHES_OF_VIEW_HEAD_BYTES + bytes);
        answer.put_u8(VERSION);
        answer.put_u8(gone.map_or(BATCHES, |_| BATCHES_OF_VIEW));
        answer.put_i64(next.0);
        if let Some(gone) = gone {
            answer.put_i64(gone.gone_below.0);
            answer.put_u64(gone.number);
        }
        pieces.iter().for_each(|piece| answer.put_slice(piece));
        answer.freeze()
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut writer = Writer::default();
        writer.u8(VERSION);
        match self {
            RangeAnswer::Batches {
                next,
                gone,
                batches,
            } => {
                return RangeAnswer::encode_batches(*next, *gone, std::slice::from_ref(batches));
            }
            RangeAnswer::Deleted { start } => writer.u8(DELETED).i64(start.0),
            RangeAnswer::Behind { end } => writer.u8(BEHIND).i64(end.0),
            RangeAnswer::NoSuchPartition { leads } => {
                writer.u8(NO_SUCH_PARTITION).u8(u8::from(*leads))
            }
            RangeAnswer::Failed { reason } => writer.u8(FAILED).text(reason),
        };
        writer.finish()
    }

    /// Reads an answer; the batches share its bytes.
    pub(crate) fn decode(bytes: Bytes) -> Result<RangeAnswer, Malformed> {
        let mut reader = Reader::new(bytes.clone());
        let (version, kind) = (reader.u8()?, reader.u8()?);
        if version != VERSION {
            return Err(reader.malformed("a known version"));
        }
        let answer = match kind {
            BATCHES => {
                let next = Offset(reader.i64()?);
                let batches = bytes.slice(BATCHES_HEAD_BYTES..);
                return Ok(RangeAnswer::Batches {
                    next,
                    gone: None,
                    batches,
                });
            }
            BATCHES_OF_VIEW => {
                let next = Offset(reader.i64()?);
                let gone = TombstoneView {
                    gone_below: Offset(reader.i64()?),
                    number: reader.u64()?,
                };
                return Ok(RangeAnswer::Batches {
                    next,
                    gone: Some(gone),
                    batches: bytes.slice(BATCHES_OF_VIEW_HEAD_BYTES..),
                });
            }
            DELETED => RangeAnswer::Deleted {
                start: Offset(reader.i64()?),
            },
            BEHIND => RangeAnswer::Behind {
                end: Offset(reader.i64()?),
            },
            NO_SUCH_PARTITION => match reader.u8()? {
                flag @ (0 | 1) => RangeAnswer::NoSuchPartition { leads: flag == 1 },
                _ => return Err(reader.malformed("a flag")),
            },
            FAILED => RangeAnswer::Failed {
                reason: reader.text()?,
            },
            _ => return Err(reader.malformed("a known answer")),
        };
        reader.end()?;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use storage::TopicId;

    use super::*;

    fn answer() -> impl Strategy<Value = RangeAnswer> {
        let offset = || any::<i64>().prop_map(Offset);
        let gone = (offset(), any::<u64>())
            .prop_map(|(gone_below, number)| TombstoneView { gone_below, number });
        let gone = proptest::option::of(gone);
        let batches = proptest::collection::vec(any::<u8>(), 0..100).prop_map(Bytes::from);
        prop_oneof![
            (offset(), gone, batches).prop_map(|(next, gone, batches)| RangeAnswer::Batches {
                next,
                gone,
                batches
            }),
            offset().prop_map(|start| RangeAnswer::Deleted { start }),
            offset().prop_map(|end| RangeAnswer::Behind { end }),
            any::<bool>().prop_map(|leads| RangeAnswer::NoSuchPartition { leads }),
            "[a-z]{0,9}".prop_map(|reason| RangeAnswer::Failed { reason }),
        ]
    }

    proptest! {
        #[test]
        fn encoded_answers_are_decoded(answer in answer()) {
            prop_assert_eq!(RangeAnswer::decode(answer.encode()), Ok(answer));
        }

        #[test]
        fn encoded_requests_are_decoded(
            shard: u32, topic: [u8; 16], index: u32, from: i64, limit: i64, bytes_max: u32
        ) {
            let range = ReadRange {
                shard: ShardId(shard),
                partition: PartitionId { topic: TopicId(topic), index },
                from: Offset(from),
                limit: Offset(limit),
                bytes_max,
            };
            prop_assert_eq!(ReadRange::decode(range.encode()), Ok(range));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = ReadRange::decode(bytes.clone().into());
            let _ = RangeAnswer::decode(bytes.into());
        }
    }
}

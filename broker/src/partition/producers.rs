//! What a partition remembers of its idempotent producers (KIP-98): the last five batches of each,
//! with their original offsets, so that a repeat is answered as the first time.
//!
//! Part of the replicated state: changed only by apply, saved at checkpoints, bounded in number,
//! expired by the entries' own time. It never looks at a clock.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use storage::Offset;
use storage::batch::BatchHeader;

use crate::produce::AppendError;
use crate::wire::{Malformed, Reader, Writer};

/// Batches remembered per producer: the most a client may have in flight (KIP-98).
const BATCHES_KEPT: usize = 5;
/// A producer that wrote nothing for this long is forgotten (Kafka's `producer.id.expiration.ms`),
/// unless it is one of the last.
const EXPIRATION_MS: i64 = 24 * 3600 * 1000;
/// The producers of a partition that wrote last are remembered however long ago that was: a wall
/// clock that jumps makes none of them write twice.
const PRODUCERS_KEPT: usize = 100;
/// Time between two looks for expired producers.
const EXPIRATION_CHECK_MS: u64 = 60_000;
/// Producers remembered per partition; the one that wrote longest ago goes first.
const PRODUCERS_MAX: usize = 10_000;
/// Bytes of one encoded producer without its batches, and of one batch.
const PRODUCER_BYTES: usize = 8 + 2 + 8 + 4;
const BATCH_BYTES: usize = 4 + 4 + 8 + 8;

/// A batch that a producer wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WrittenBatch {
    /// Sequence of its first record.
    pub(crate) first_sequence: i32,
    /// Sequence of its last record.
    pub(crate) last_sequence: i32,
    /// Offset of its first record.
    pub(crate) base_offset: Offset,
    /// Largest timestamp in it.
    pub(crate) timestamp_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    last_ms: i64,
    // Newest last; at most BATCHES_KEPT; all of `epoch`. Never empty.
    batches: VecDeque<WrittenBatch>,
}

impl Producer {
    /// Where it wrote last: tells, without a clock, who wrote longest ago.
    fn last_offset(&self) -> Offset {
        let newest = self.batches.back();
        newest.map_or(Offset(-1), |batch| batch.base_offset)
    }
}

/// What the state says about a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// New and next: append it, then [`Producers::record`].
    Append,
    /// Written before, there.
    Repeated(WrittenBatch),
    /// Against the sequence.
    Refused(AppendError),
}

/// The idempotent producers of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    by_id: BTreeMap<i64, Producer>,
    checked_ms: i64,
}

/// The sequence number `by` after `sequence`; numbers wrap from 2^31-1 to 0.
fn advance(sequence: i32, by: i32) -> i32 {
    sequence.wrapping_add(by) & i32::MAX
}

/// The sequence of a batch's last record.
fn last_sequence(header: &BatchHeader) -> i32 {
    advance(header.base_sequence, header.last_offset_delta)
}

impl Producers {
    /// Judges a batch; changes nothing. A batch without producer id is always new.
    pub(crate) fn judge(&self, header: &BatchHeader) -> Verdict {
        if header.producer_id < 0 {
            return Verdict::Append;
        }
        let Some(producer) = self.by_id.get(&header.producer_id) else {
            // As in Kafka: a producer of which nothing is left may go on where it was.
            return Verdict::Append;
        };
        let producer_id = header.producer_id;
        let (epoch, first) = (header.producer_epoch, header.base_sequence);
        if epoch < producer.epoch {
            return Verdict::Refused(AppendError::InvalidProducerEpoch {
                got: epoch,
                current: producer.epoch,
            });
        }
        if epoch > producer.epoch {
            return if first == 0 {
                Verdict::Append
            } else {
                let expected = 0;
                Verdict::Refused(AppendError::OutOfOrderSequence {
                    producer_id,
                    got: first,
                    expected,
                })
            };
        }
        let last = last_sequence(header);
        let same =
            |batch: &&WrittenBatch| batch.first_sequence == first && batch.last_sequence == last;
        if let Some(batch) = producer.batches.iter().rev().find(same) {
            return Verdict::Repeated(*batch);
        }
        let newest = producer
            .batches
            .back()
            .expect("a producer is remembered by its batches");
        let expected = advance(newest.last_sequence, 1);
        if first == expected {
            return Verdict::Append;
        }
        // Half of the number circle lies behind, half ahead.
        let behind = expected.wrapping_sub(first) & i32::MAX;
        let oldest = producer
            .batches
            .front()
            .expect("a producer is remembered by its batches");
        let remembered = expected.wrapping_sub(oldest.first_sequence) & i32::MAX;
        if behind < i32::MAX / 2 && behind > remembered {
            return Verdict::Refused(AppendError::DuplicateSequence {
                producer_id,
                got: first,
            });
        }
        Verdict::Refused(AppendError::OutOfOrderSequence {
            producer_id,
            got: first,
            expected,
        })
    }

    /// Remembers a batch that was appended at `base_offset` by the entry of time `now_ms`.
    pub(crate) fn record(&mut self, header: &BatchHeader, base_offset: Offset, now_ms: i64) {
        self.expire(now_ms);
        if header.producer_id < 0 {
            return;
        }
        if !self.by_id.contains_key(&header.producer_id) && self.by_id.len() >= PRODUCERS_MAX {
            let silent = self
                .by_id
                .iter()
                .min_by_key(|(_, producer)| producer.last_offset());
            if let Some(id) = silent.map(|(id, _)| *id) {
                self.by_id.remove(&id);
            }
        }
        let producer = self
            .by_id
            .entry(header.producer_id)
            .or_insert_with(|| Producer {
                epoch: header.producer_epoch,
                last_ms: now_ms,
                batches: VecDeque::with_capacity(BATCHES_KEPT),
            });
        if producer.epoch != header.producer_epoch {
            producer.epoch = header.producer_epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == BATCHES_KEPT {
            producer.batches.pop_front();
        }
        producer.last_ms = now_ms;
        producer.batches.push_back(WrittenBatch {
            first_sequence: header.base_sequence,
            last_sequence: last_sequence(header),
            base_offset,
            timestamp_ms: header.max_timestamp,
        });
    }

    fn expire(&mut self, now_ms: i64) {
        if now_ms.abs_diff(self.checked_ms) < EXPIRATION_CHECK_MS {
            return;
        }
        self.checked_ms = now_ms;
        let Some(others) = self.by_id.len().checked_sub(PRODUCERS_KEPT) else {
            return;
        };
        if others == 0 {
            return;
        }
        let mut written: Vec<Offset> = self.by_id.values().map(Producer::last_offset).collect();
        let (_, kept_from, _) = written.select_nth_unstable(others);
        let kept_from = *kept_from;
        self.by_id.retain(|_, producer| {
            producer.last_offset() >= kept_from
                || now_ms.saturating_sub(producer.last_ms) < EXPIRATION_MS
        });
    }

    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.i64(self.checked_ms).count(self.by_id.len());
        for (id, producer) in &self.by_id {
            writer.i64(*id).i16(producer.epoch).i64(producer.last_ms);
            writer.count(producer.batches.len());
            for batch in &producer.batches {
                writer.i32(batch.first_sequence).i32(batch.last_sequence);
                writer.i64(batch.base_offset.0).i64(batch.timestamp_ms);
            }
        }
    }

    /// Everything, encoded on its own.
    pub(crate) fn to_bytes(&self) -> Bytes {
        let mut writer = Writer::default();
        self.encode(&mut writer);
        writer.finish()
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Producers, Malformed> {
        let checked_ms = reader.i64()?;
        let mut by_id = BTreeMap::new();
        for _ in 0..reader.count(PRODUCER_BYTES)? {
            let id = reader.i64()?;
            let (epoch, last_ms) = (reader.i16()?, reader.i64()?);
            let count = reader.count(BATCH_BYTES)?;
            if count == 0 || count > BATCHES_KEPT {
                return Err(reader.malformed("one to five batches of a producer"));
            }
            let mut batches = VecDeque::with_capacity(BATCHES_KEPT);
            for _ in 0..count {
                batches.push_back(WrittenBatch {
                    first_sequence: reader.i32()?,
                    last_sequence: reader.i32()?,
                    base_offset: Offset(reader.i64()?),
                    timestamp_ms: reader.i64()?,
                });
            }
            by_id.insert(
                id,
                Producer {
                    epoch,
                    last_ms,
                    batches,
                },
            );
        }
        Ok(Producers { by_id, checked_ms })
    }
}

#[cfg(test)]
#[path = "producers_test.rs"]
mod tests;

//! [`Tail`]: a log's newest batches, in memory: those not yet written, and before them as many
//! written ones as the node's budget allows.
//!
//! Never evicts what is not written. Batches have ordinals that count from the log's first, so
//! that a reference from outside can tell that its batch has gone.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::Offset;
use crate::batch::BATCH_UNCHECKED_BYTES;

/// Batches up to this size are copied at append, because a slice pins the network buffer it came
/// in; larger ones are kept as they came until they are read.
pub(crate) const COPY_BYTES_MAX: usize = 64 << 10;
/// What a batch in the tail costs beside its bytes.
pub(crate) const BATCH_OVERHEAD_BYTES: usize = 192;

/// A stamped batch.
#[derive(Debug, Clone)]
pub(crate) enum StampedBatch {
    /// In one piece.
    Whole(Bytes),
    /// The stamped 16 bytes, and the rest as produced.
    Split { stamp: Bytes, rest: Bytes },
}

impl StampedBatch {
    /// `batch` with its first 16 bytes replaced by `stamp`.
    pub(crate) fn new(stamp: [u8; 16], batch: &Bytes) -> StampedBatch {
        if batch.len() > COPY_BYTES_MAX {
            let rest = batch.slice(stamp.len()..);
            return StampedBatch::Split {
                stamp: Bytes::copy_from_slice(&stamp),
                rest,
            };
        }
        let mut whole = BytesMut::with_capacity(batch.len());
        whole.extend_from_slice(&stamp);
        whole.extend_from_slice(&batch[stamp.len()..]);
        StampedBatch::Whole(whole.freeze())
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            StampedBatch::Whole(whole) => whole.len(),
            StampedBatch::Split { stamp, rest } => stamp.len() + rest.len(),
        }
    }

    /// In one piece; copies a split one.
    pub(crate) fn join(&self) -> Bytes {
        match self {
            StampedBatch::Whole(whole) => whole.clone(),
            StampedBatch::Split { stamp, rest } => {
                let mut whole = BytesMut::with_capacity(stamp.len() + rest.len());
                whole.extend_from_slice(stamp);
                whole.extend_from_slice(rest);
                whole.freeze()
            }
        }
    }

    pub(crate) fn push_pieces(&self, pieces: &mut Vec<Bytes>) {
        match self {
            StampedBatch::Whole(whole) => pieces.push(whole.clone()),
            StampedBatch::Split { stamp, rest } => {
                pieces.extend([stamp.clone(), rest.clone()]);
            }
        }
    }

    /// The bytes that the batch's CRC does not cover.
    pub(crate) fn head(&self) -> [u8; BATCH_UNCHECKED_BYTES] {
        let mut head = [0; BATCH_UNCHECKED_BYTES];
        match self {
            StampedBatch::Whole(whole) => head.copy_from_slice(&whole[..BATCH_UNCHECKED_BYTES]),
            StampedBatch::Split { stamp, rest } => {
                head[..stamp.len()].copy_from_slice(stamp);
                head[stamp.len()..].copy_from_slice(&rest[..BATCH_UNCHECKED_BYTES - stamp.len()]);
            }
        }
        head
    }
}

/// One batch of the tail.
#[derive(Debug)]
pub(crate) struct TailBatch {
    pub(crate) base: Offset,
    /// Exclusive.
    pub(crate) end: Offset,
    /// Base of its segment.
    pub(crate) segment: Offset,
    /// Where it begins in its segment.
    pub(crate) position: u64,
    pub(crate) max_timestamp: i64,
    /// Present when the batch gets an index entry: greatest timestamp before it in the segment.
    pub(crate) index_entry: Option<i64>,
    /// Whether it only fills a place, see [`is_filler`](crate::batch::is_filler).
    pub(crate) is_empty: bool,
    pub(crate) bytes: StampedBatch,
}

impl TailBatch {
    /// What it counts in the budgets.
    pub(crate) fn cost(&self) -> usize {
        self.bytes.len() + BATCH_OVERHEAD_BYTES
    }
}

/// What became of a wish to evict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Eviction {
    /// The batch went; it cost this much.
    Evicted(usize),
    /// It had gone before.
    Gone,
    /// It is not written yet.
    NotWritten,
}

/// What left the tail because its segment was dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// Bytes of the batches; their overhead is paid until their references are gone as well.
    pub(crate) bytes: usize,
    /// What those cost that were still to be written.
    pub(crate) unwritten_cost: usize,
}

/// A log's newest batches.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    batches: VecDeque<TailBatch>,
    /// Ordinal of the first batch held.
    first_ordinal: u64,
    /// How many from the front are written. Never above `batches.len()`.
    written: usize,
}

impl Tail {
    /// Adds the newest batch and returns its ordinal.
    pub(crate) fn push(&mut self, batch: TailBatch) -> u64 {
        self.batches.push_back(batch);
        self.first_ordinal + self.batches.len() as u64 - 1
    }

    pub(crate) fn first(&self) -> Option<&TailBatch> {
        self.batches.front()
    }

    pub(crate) fn first_unwritten(&self) -> Option<&TailBatch> {
        self.batches.get(self.written)
    }

    /// The batches still to be written, with their ordinals.
    pub(crate) fn unwritten(&self) -> impl Iterator<Item = (u64, &TailBatch)> {
        let first = self.first_ordinal + self.written as u64;
        (first..).zip(self.batches.range(self.written..))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &TailBatch> {
        self.batches.iter()
    }

    /// The batch that holds `offset` and those after it, with their ordinals; `None` when the
    /// tail begins behind `offset`.
    pub(crate) fn at_or_after(
        &self,
        offset: Offset,
    ) -> Option<impl Iterator<Item = (u64, &TailBatch)>> {
        if self.batches.front()?.base > offset {
            return None;
        }
        let at = self.batches.partition_point(|batch| batch.end <= offset);
        Some((self.first_ordinal + at as u64..).zip(self.batches.range(at..)))
    }

    /// Marks the batches below `ordinal` as written; returns what they cost.
    pub(crate) fn mark_written(&mut self, ordinal: u64) -> usize {
        let upto =
            usize::try_from(ordinal.saturating_sub(self.first_ordinal)).unwrap_or(usize::MAX);
        let upto = upto.min(self.batches.len()).max(self.written);
        let cost = self
            .batches
            .range(self.written..upto)
            .map(TailBatch::cost)
            .sum();
        self.written = upto;
        cost
    }

    /// Lets the batch of this ordinal go; it must be the oldest.
    pub(crate) fn evict(&mut self, ordinal: u64) -> Eviction {
        if ordinal < self.first_ordinal {
            return Eviction::Gone;
        }
        assert!(
            ordinal == self.first_ordinal,
            "batches leave the tail in order"
        );
        if self.written == 0 {
            return Eviction::NotWritten;
        }
        let cost = self.pop().expect("written batches are there").cost();
        Eviction::Evicted(cost)
    }

    /// Drops the batches of segments below `segment`.
    pub(crate) fn drop_below(&mut self, segment: Offset) -> Dropped {
        let mut dropped = Dropped::default();
        while self.first().is_some_and(|batch| batch.segment < segment) {
            let was_written = self.written > 0;
            let batch = self.pop().expect("there is a first");
            dropped.bytes += batch.bytes.len();
            dropped.unwritten_cost += if was_written { 0 } else { batch.cost() };
        }
        dropped
    }

    /// Moves the batches of one segment to another one, which begins `bytes` further on.
    pub(crate) fn move_segment(&mut self, from: Offset, to: Offset, bytes: u64) {
        for batch in self
            .batches
            .iter_mut()
            .filter(|batch| batch.segment == from)
        {
            batch.segment = to;
            batch.position -= bytes;
            if batch.position == 0 {
                batch.index_entry = None;
            }
        }
    }

    /// Keeps a split batch in one piece from now on, so that its buffer is let go.
    pub(crate) fn set_joined(&mut self, ordinal: u64, whole: Bytes) {
        let at = ordinal
            .checked_sub(self.first_ordinal)
            .and_then(|at| usize::try_from(at).ok());
        if let Some(batch) = at.and_then(|at| self.batches.get_mut(at)) {
            batch.bytes = StampedBatch::Whole(whole);
        }
    }

    fn pop(&mut self) -> Option<TailBatch> {
        let batch = self.batches.pop_front()?;
        self.first_ordinal += 1;
        self.written = self.written.saturating_sub(1);
        if self.batches.is_empty() {
            self.batches = VecDeque::new();
        }
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(base: i64, segment: i64) -> TailBatch {
        TailBatch {
            base: Offset(base),
            end: Offset(base + 10),
            segment: Offset(segment),
            position: 0,
            max_timestamp: 0,
            index_entry: None,
            is_empty: false,
            bytes: StampedBatch::Whole(Bytes::from(vec![0; 100])),
        }
    }

    const COST: usize = 100 + BATCH_OVERHEAD_BYTES;

    fn tail() -> Tail {
        let mut tail = Tail::default();
        (0..4).for_each(|n| assert_eq!(tail.push(batch(n * 10, n / 2 * 20)), n as u64));
        tail
    }

    #[test]
    fn unwritten_batches_stay() {
        let mut tail = tail();
        assert_eq!(tail.evict(0), Eviction::NotWritten);
        assert_eq!(tail.mark_written(1), COST);
        assert_eq!(tail.evict(0), Eviction::Evicted(COST));
        assert_eq!(tail.evict(0), Eviction::Gone);
        assert_eq!(tail.evict(1), Eviction::NotWritten);
        assert_eq!(tail.mark_written(9), 3 * COST);
        assert_eq!(tail.mark_written(2), 0);
        assert!(tail.first_unwritten().is_none());
    }

    #[test]
    fn offsets_are_found_unless_they_are_older() {
        let mut tail = tail();
        let bases = |tail: &Tail, offset| {
            let found = tail.at_or_after(Offset(offset))?;
            Some(
                found
                    .map(|(ordinal, batch)| (ordinal, batch.base.0))
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(bases(&tail, 25), Some(vec![(2, 20), (3, 30)]));
        assert_eq!(bases(&tail, 40), Some(vec![]));
        tail.mark_written(1);
        tail.evict(0);
        assert_eq!(bases(&tail, 9), None);
        assert_eq!(bases(&tail, 10).unwrap()[0], (1, 10));
    }

    #[test]
    fn dropping_a_segment_tells_what_was_unwritten() {
        let mut tail = tail();
        tail.mark_written(1);
        let dropped = tail.drop_below(Offset(20));
        assert_eq!(
            dropped,
            Dropped {
                bytes: 200,
                unwritten_cost: COST
            }
        );
        assert_eq!(tail.mark_written(2), 0);
        assert_eq!(
            tail.unwritten()
                .map(|(ordinal, _)| ordinal)
                .collect::<Vec<_>>(),
            [2, 3]
        );
    }

    #[test]
    fn large_batches_are_stamped_without_a_copy() {
        let produced = Bytes::from(vec![9; COPY_BYTES_MAX + 1]);
        let stamped = StampedBatch::new([1; 16], &produced);
        assert!(matches!(stamped, StampedBatch::Split { .. }));
        let mut pieces = Vec::new();
        stamped.push_pieces(&mut pieces);
        assert_eq!(pieces.concat(), stamped.join());
        assert_eq!(stamped.join().len(), produced.len());
        assert_eq!(stamped.head()[..16], [1; 16]);
        assert_eq!(stamped.head()[16..], [9; 5]);
        let small = StampedBatch::new([1; 16], &produced.slice(..100));
        assert_eq!((small.len(), small.head()), (100, stamped.head()));
    }
}

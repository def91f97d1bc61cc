//! Cleaning one partition: the newest offset of each key in its dirty part, then every segment up
//! to there without the records that a newer one has replaced.
//!
//! Reads and writes in small steps on threads that may block, with a pause after each. When the
//! keys of the dirty part do not fit into the memory there is, it goes in several passes. Segments
//! are replaced from the oldest on, so that a tombstone never outlives what it deletes on the way.

use std::sync::Arc;

use bytes::Bytes;
use storage::Offset;
use storage::batch::{BatchError, BatchHeader};
use storage::partition_log::{
    CopyError, PartitionLog, ReadError, SegmentReplacement, StorageError,
};

use super::offset_map::{OffsetMap, SLOT_BYTES};
use super::plan::{Plan, groups};
use super::rewrite::{Rewriter, Rules, is_judged};
use crate::batch_check::UNPACKED_BYTES_MAX;
use crate::partition::Partition;
use crate::record::{RawRecords, RecordError};
use crate::stage::pace::Pace;
use crate::stage::throttle::Throttle;

/// Bytes of one step, a larger batch aside.
const STEP_BYTES: usize = 512 << 10;
/// A record takes at least so many bytes of a log, packed well.
const RECORD_BYTES_LEAST: u64 = 4;

/// Why a partition was not cleaned to the end. What was replaced until then stays so.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CleanError {
    /// It was deleted, replaced or shortened meanwhile.
    #[error("the log has changed meanwhile")]
    Changed,
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What is new cannot be written.
    #[error(transparent)]
    Write(#[from] CopyError),
    /// The disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Batches that were read are none.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// What is left cannot be put into a batch.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A step panicked.
    #[error("a step of it panicked")]
    Panicked,
}

/// How a cleaning is done.
pub(crate) struct Cleaner<'a> {
    pub(crate) partition: Arc<Partition>,
    /// For the map of keys.
    pub(crate) memory_bytes: usize,
    pub(crate) segment_bytes: u64,
    /// `upto` is set by each pass, and whether tombstones are kept.
    pub(crate) rules: Rules,
    /// Whether tombstones stay for now whatever their horizon.
    pub(crate) keeps_tombstones: &'a (dyn Fn() -> bool + Sync),
    pub(crate) throttle: &'a Throttle,
    pub(crate) pace: &'a Pace,
    /// It goes at this rate at least, however much producers notice it.
    pub(crate) bytes_per_second_min: f64,
}

/// What a cleaning came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cleaned {
    pub(crate) records: u64,
    pub(crate) segments_before: usize,
    pub(crate) segments_after: usize,
    pub(crate) bytes_before: u64,
    pub(crate) bytes_after: u64,
    pub(crate) passes: usize,
}

/// The dirty part as far as its keys are known.
struct Keys {
    map: OffsetMap,
    /// The first offset for whose key there was no room.
    full_at: Option<Offset>,
}

/// A segment, or several, being written anew.
struct Rewriting {
    replacement: SegmentReplacement,
    rewriter: Rewriter,
}

impl Cleaner<'_> {
    /// Cleans what is planned.
    pub(crate) async fn clean(&self, plan: Plan) -> Result<Cleaned, CleanError> {
        let log = &self.partition.log;
        let before = log.segments();
        let mut cleaned = Cleaned {
            segments_before: before.len(),
            bytes_before: log.size_bytes(),
            ..Cleaned::default()
        };
        let mut from = plan.dirty_from;
        while from < plan.upto {
            let copies = log.copies_taken();
            let (map, upto) = self.keys(from, plan.upto).await?;
            cleaned.records += self.pass(Arc::new(map), upto, copies).await?;
            cleaned.passes += 1;
            if !log.mark_cleaned(upto, copies) {
                return Err(CleanError::Changed);
            }
            from = upto;
        }
        cleaned.segments_after = log.segments().len();
        cleaned.bytes_after = log.size_bytes();
        Ok(cleaned)
    }

    /// The newest offsets of keys from `from` on, and up to where that is all of them.
    async fn keys(&self, from: Offset, upto: Offset) -> Result<(OffsetMap, Offset), CleanError> {
        let log = &self.partition.log;
        let within = |base: Offset, end: Offset| base < upto && from < end;
        let segments = log.segments();
        let dirty = segments.iter().filter(|one| within(one.base, one.end));
        let records: u64 = dirty
            .map(|one| {
                let offsets = u64::try_from(one.end.0 - one.base.0).unwrap_or(0);
                offsets.min(one.bytes / RECORD_BYTES_LEAST)
            })
            .sum();
        // Room for all of them and a tenth more, where that is less than what is allowed.
        let wanted = records.saturating_mul(SLOT_BYTES as u64 * 5 / 4);
        let bytes = usize::try_from(wanted)
            .map_or(self.memory_bytes, |wanted| wanted.min(self.memory_bytes));
        let mut keys = Keys {
            map: OffsetMap::new(bytes),
            full_at: None,
        };
        let mut at = from;
        while at < upto && keys.full_at.is_none() {
            let log = log.clone();
            let step = move || keys_of(&log, keys, (from, at), upto);
            let bytes;
            (keys, at, bytes) = self.step(step).await?;
            self.rest(bytes).await;
        }
        let Some(full_at) = keys.full_at else {
            return Ok((keys.map, upto));
        };
        let ends = segments.iter().map(|one| one.end);
        let whole = ends.filter(|end| from < *end && *end <= full_at).max();
        let reached = whole.unwrap_or(full_at);
        match reached > from {
            true => Ok((keys.map, reached)),
            // Not with the least map there is: it takes more than one key.
            false => Err(CleanError::Changed),
        }
    }

    /// Writes everything below `upto` anew; returns how many records went.
    /// Not of segments that were copied from a peer after the `copies` that there had been: below
    /// what is dirty they may have any number of records of a key.
    async fn pass(
        &self,
        map: Arc<OffsetMap>,
        upto: Offset,
        copies: u64,
    ) -> Result<u64, CleanError> {
        let segments = self.partition.log.segments();
        let mut records = 0;
        let mut has_opaque = false;
        for (from, to) in groups(&segments, upto, self.segment_bytes) {
            let sources = segments
                .iter()
                .filter(|one| from <= one.base && one.end <= to);
            let is_one = sources.count() == 1;
            let mut rewriter = Rewriter::new(Rules {
                upto: upto.0,
                // Asked for each segment: somebody may have begun to copy.
                keeps_tombstones: (self.keeps_tombstones)(),
                ..self.rules
            });
            if has_opaque {
                rewriter.note_opaque();
            }
            let log = self.partition.log.clone();
            let replacement = self
                .step(move || Ok(log.begin_replacement(from, to)?))
                .await?;
            if replacement.copies_taken() != copies {
                return Err(CleanError::Changed);
            }
            let mut rewriting = Rewriting {
                replacement,
                rewriter,
            };
            let mut at = from;
            while at < to {
                let (log, map) = (self.partition.log.clone(), Arc::clone(&map));
                let step = move || rewrite_some(&log, rewriting, &map, (at, to));
                let bytes;
                (rewriting, at, bytes) = self.step(step).await?;
                self.rest(bytes).await;
            }
            let removed = rewriting.rewriter.removed();
            has_opaque |= rewriting.rewriter.has_opaque();
            if is_one && !removed.changed {
                // It would be the same.
                self.step(move || {
                    drop(rewriting);
                    Ok(())
                })
                .await?;
                continue;
            }
            let is_replaced = self.step(move || finish(rewriting)).await?;
            if !is_replaced {
                return Err(CleanError::Changed);
            }
            records += removed.records;
        }
        Ok(records)
    }

    /// Runs on a thread that may block.
    async fn step<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, CleanError> + Send + 'static,
    ) -> Result<T, CleanError> {
        if self.partition.is_superseded() {
            return Err(CleanError::Changed);
        }
        match net::blocking(work).await {
            // What another log has replaced, or retention has shortened, is nobody's failure.
            Ok(Err(_)) if self.partition.is_superseded() => Err(CleanError::Changed),
            Ok(Err(CleanError::Read(ReadError::OutOfRange { .. }))) => Err(CleanError::Changed),
            Ok(Err(CleanError::Storage(StorageError::NoSuchSegment { .. }))) => {
                Err(CleanError::Changed)
            }
            Ok(done) => done,
            Err(_) => Err(CleanError::Panicked),
        }
    }

    /// Waits so that producers hardly notice.
    async fn rest(&self, bytes: usize) {
        self.throttle.spend(bytes).await;
        let least = self.bytes_per_second_min;
        self.pace.turn_at_least(bytes, least).await;
    }
}

/// Batches with their headers.
type Batches = Vec<(Bytes, BatchHeader)>;

/// Whole batches from `from` on, and the offset after them.
fn batches(
    log: &PartitionLog,
    from: Offset,
    limit: Offset,
) -> Result<(Batches, Offset, usize), CleanError> {
    let read = log.read_stored(from, limit, STEP_BYTES)?;
    let mut batches = Vec::new();
    for piece in read.batches {
        let mut rest = piece;
        while !rest.is_empty() {
            let header = BatchHeader::parse(&rest)?;
            // It was verified as it was read.
            let batch = rest.split_to(header.total_bytes().min(rest.len()));
            batches.push((batch, header));
        }
    }
    match read.next > from {
        true => Ok((batches, read.next, read.bytes)),
        false => Err(CleanError::Changed),
    }
}

/// Notes the keys of some batches from `at` on.
fn keys_of(
    log: &PartitionLog,
    mut keys: Keys,
    (from, at): (Offset, Offset),
    upto: Offset,
) -> Result<(Keys, Offset, usize), CleanError> {
    let (batches, next, bytes) = batches(log, at, upto)?;
    for (batch, header) in batches.iter().filter(|(_, header)| is_judged(header)) {
        // What cannot be read replaces nothing, and stays as it is.
        let Ok(raw) = RawRecords::of(batch, header, UNPACKED_BYTES_MAX) else {
            tracing::warn!(partition = %log.id(), offset = header.base_offset,
                "a batch's records cannot be read: it is not compacted");
            continue;
        };
        let wanted = from.0..upto.0;
        let records = raw.records().iter();
        for record in records.filter(|record| wanted.contains(&record.offset)) {
            let Some(key) = raw.key(record) else { continue };
            if !keys.map.note(key, record.offset) {
                keys.full_at = Some(Offset(record.offset));
                return Ok((keys, next, bytes));
            }
        }
    }
    Ok((keys, next, bytes))
}

/// Writes what stays of some batches from `at` on.
fn rewrite_some(
    log: &PartitionLog,
    mut rewriting: Rewriting,
    map: &OffsetMap,
    (at, to): (Offset, Offset),
) -> Result<(Rewriting, Offset, usize), CleanError> {
    let (batches, next, read) = batches(log, at, to)?;
    let newest = |key: &[u8]| map.newest(key);
    for (batch, header) in &batches {
        rewriting.rewriter.push(batch, header, &newest)?;
    }
    let done = rewriting.rewriter.take();
    rewriting.replacement.append(&done)?;
    Ok((rewriting, next, read + done.len()))
}

fn finish(mut rewriting: Rewriting) -> Result<bool, CleanError> {
    rewriting.rewriter.finish()?;
    rewriting.replacement.append(&rewriting.rewriter.take())?;
    let tombstones_below = rewriting.rewriter.removed().tombstones_below;
    if tombstones_below > 0 {
        let below = Offset(tombstones_below);
        rewriting.replacement.drop_tombstones_below(below);
    }
    Ok(rewriting.replacement.finish()?)
}

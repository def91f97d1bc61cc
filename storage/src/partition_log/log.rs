//! [`PartitionLog`], the handle: appends, offsets, epochs, the state for a checkpoint.
//!
//! Two locks: `memory`, held for moments and never across a file operation, and `files`, held by
//! whoever writes or opens the files. Order: `files`, then `memory`, then the writer's queue.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use super::epochs::Epochs;
use super::open::Files;
use super::segment::Segment;
use super::segment_format::{
    BATCH_BYTES_MAX, FileName, SegmentId, index_name, log_name, parse_name,
};
use super::tail::{StampedBatch, Tail, TailBatch};
use super::tombstones::TombstoneView;
use super::{Damage, LogState, StorageError};
use crate::batch::{BatchHeader, is_filler, stamp};
use crate::store_core::Core;
use crate::turns;
use crate::writer::Command;
use crate::{LeaderEpoch, LogId, Offset};

/// When a log begins a new segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    /// Bytes of a segment; a single batch may be larger. Default 1 GiB.
    pub segment_bytes: u32,
    /// Age of a segment, milliseconds. Default 7 days.
    pub segment_ms: i64,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3_600_000,
        }
    }
}

/// One segment, for retention decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Offset of its first record.
    pub base: Offset,
    /// Offset after its last record.
    pub end: Offset,
    /// Bytes of its batches.
    pub bytes: u64,
    /// Greatest timestamp, milliseconds; -1 when no record has one.
    pub max_timestamp: i64,
    /// When it was begun, by the time of the entry that began it, milliseconds.
    pub created_ms: i64,
    /// Whether it takes no more batches.
    pub sealed: bool,
    /// Whether all of it is in the files.
    pub written: bool,
    /// Whether it was written anew by compaction: replicas need not have the same bytes there.
    pub compacted: bool,
    /// Whether compaction has been through it and all before it.
    pub cleaned: bool,
}

/// One partition's log. Clones share it.
#[derive(Clone)]
pub struct PartitionLog {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) id: LogId,
    pub(crate) core: Arc<Core>,
    memory: Mutex<Memory>,
    files: Mutex<Files>,
    /// Whether the files have been looked at since the restart.
    pub(crate) is_opened: AtomicBool,
}

/// Everything about a log that an append changes.
pub(crate) struct Memory {
    pub(crate) config: LogConfig,
    pub(crate) start: Offset,
    /// Exclusive.
    pub(crate) end: Offset,
    /// Oldest first, without holes; the last takes the appends.
    pub(crate) segments: Vec<Segment>,
    pub(crate) epochs: Epochs,
    pub(crate) tail: Tail,
    /// Segments written since they were last synced.
    pub(crate) unsynced: Vec<SegmentId>,
    /// Whether names were made in the directory since it was last synced.
    pub(crate) is_dir_unsynced: bool,
    /// Whether the last state captured names segments that turned out to be deleted.
    pub(crate) is_state_outdated: bool,
    /// Whether the writer's queue holds this log.
    pub(crate) is_queued: bool,
    pub(crate) is_removed: bool,
    /// The first damage found in each segment, by its base.
    pub(crate) damaged: BTreeMap<Offset, Damage>,
    /// Files that compaction has replaced, and that a checkpoint may still name.
    pub(crate) replaced: Vec<SegmentId>,
    /// Rises whenever segments are replaced.
    pub(crate) replacements: u64,
    /// What it was when a state was captured last for a checkpoint.
    pub(crate) captured_replacements: u64,
    /// How many of them brought what a peer has.
    pub(crate) copies_taken: u64,
    pub(crate) tombstones: TombstoneView,
}

impl PartitionLog {
    pub(crate) fn new(
        core: &Arc<Core>,
        id: LogId,
        config: LogConfig,
        state: LogState,
    ) -> PartitionLog {
        let interval = core.config.index_interval_bytes;
        let segments = state
            .segments
            .iter()
            .map(|segment| Segment::recovered(segment, interval))
            .collect();
        let memory = Memory {
            config,
            start: state.start,
            end: state.end,
            segments,
            epochs: Epochs::new(state.epochs),
            tail: Tail::default(),
            unsynced: Vec::new(),
            is_dir_unsynced: false,
            is_state_outdated: false,
            is_queued: false,
            is_removed: false,
            damaged: BTreeMap::new(),
            replaced: Vec::new(),
            replacements: 0,
            captured_replacements: 0,
            copies_taken: 0,
            tombstones: TombstoneView::new(state.tombstones_gone_below),
        };
        let shared = Shared {
            id,
            core: Arc::clone(core),
            memory: Mutex::new(memory),
            files: Mutex::default(),
            is_opened: AtomicBool::new(false),
        };
        PartitionLog {
            shared: Arc::new(shared),
        }
    }

    /// Appends a batch in memory and queues it for the segment writer; touches no file.
    ///
    /// `batch` is the batch as produced, `header` its parsed header; it is stamped with
    /// [`PartitionLog::end_offset`] and `epoch`. Returns its base offset. Begins a new segment by
    /// size, or by age against `now_ms`. Blocks only while the writer's queue is over its limit.
    /// Panics when `header` does not belong to `batch`, when it is larger than 128 MiB, or when the
    /// epoch falls.
    pub fn append(
        &self,
        batch: Bytes,
        header: &BatchHeader,
        epoch: LeaderEpoch,
        now_ms: i64,
    ) -> Offset {
        assert!(
            batch.len() == header.total_bytes(),
            "the header belongs to another batch"
        );
        assert!(
            batch.len() <= BATCH_BYTES_MAX,
            "a batch of {} bytes",
            batch.len()
        );
        let core = &self.shared.core;
        core.wait_for_room();
        let mut memory = self.memory();
        let memory = &mut *memory;
        let base = memory.end;
        if memory.is_removed {
            memory.end = base.plus(header.offset_count());
            memory.start = memory.end;
            return base;
        }
        let stamped = StampedBatch::new(stamp(base, header.batch_length, epoch), &batch);
        memory.epochs.note(epoch, base);
        let is_full = |segment: &Segment| segment.is_full_for(header, now_ms, &memory.config);
        if memory.segments.last().is_none_or(is_full) {
            let interval = core.config.index_interval_bytes;
            memory.segments.push(Segment::new(base, now_ms, interval));
        }
        let segment = memory
            .segments
            .last_mut()
            .expect("made above when there was none");
        let placed = segment.place(header, &stamped);
        memory.end = segment.end;
        let tail_batch = TailBatch {
            base,
            end: segment.end,
            segment: segment.base,
            position: placed.position,
            max_timestamp: header.max_timestamp,
            index_entry: placed.index_entry,
            is_empty: is_filler(header),
            bytes: stamped,
        };
        let cost = tail_batch.cost();
        let ordinal = memory.tail.push(tail_batch);
        let newly_queued = !std::mem::replace(&mut memory.is_queued, true);
        core.enqueue(self, ordinal, cost, newly_queued);
        base
    }

    /// Which log, of which partition.
    #[must_use]
    pub fn id(&self) -> LogId {
        self.shared.id
    }

    /// First offset that may be read.
    #[must_use]
    pub fn start_offset(&self) -> Offset {
        self.memory().start
    }

    /// Offset of the next record.
    #[must_use]
    pub fn end_offset(&self) -> Offset {
        self.memory().end
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.memory()
            .segments
            .iter()
            .map(|segment| segment.bytes)
            .sum()
    }

    /// What a checkpoint must remember, as of now. It is true of the disk once
    /// [`LogStore::sync`](crate::store::LogStore::sync) has returned for its end. For whoever makes
    /// checkpoints alone: `sync` judges the state captured last.
    #[must_use]
    pub fn state(&self) -> LogState {
        let mut memory = self.memory();
        memory.is_state_outdated = false;
        memory.captured_replacements = memory.replacements;
        memory.state()
    }

    /// The same for a copy that is about to begin, whoever makes checkpoints.
    #[must_use]
    pub fn state_for_copy(&self) -> LogState {
        self.memory().state()
    }

    /// When segments end.
    #[must_use]
    pub fn config(&self) -> LogConfig {
        self.memory().config
    }

    /// Changes when segments end; affects the next append.
    pub fn set_config(&self, config: LogConfig) {
        self.memory().config = config;
    }

    /// Why this partition cannot be trusted any more, if so: damage found in its files that has
    /// not been repaired, or a failed store. What is intact can still be read.
    #[must_use]
    pub fn failed(&self) -> Option<StorageError> {
        let damage = self.memory().damaged.values().next().cloned();
        let failed = damage.map(StorageError::Corrupt);
        failed.or_else(|| self.shared.core.failed())
    }

    /// Forgets everything below `to`; whole segments below go, on the writer thread, by unlinking.
    /// No effect when `to` is not above the start. Panics when `to` lies beyond the end.
    pub fn raise_start(&self, to: Offset) {
        let mut memory = self.memory();
        let memory = &mut *memory;
        assert!(to <= memory.end, "start {to} beyond the end {}", memory.end);
        if to <= memory.start {
            return;
        }
        memory.start = to;
        let count = memory.segments.partition_point(|segment| segment.end <= to);
        if count == 0 {
            return;
        }
        let dropped_ids: Vec<SegmentId> = memory
            .segments
            .drain(..count)
            .map(|segment| segment.id())
            .collect();
        let first = memory
            .segments
            .first()
            .map_or(memory.end, |segment| segment.base);
        memory.epochs.raise_start(first);
        memory.unsynced.retain(|id| id.base >= first);
        memory.damaged.retain(|base, _| *base >= first);
        let dropped = memory.tail.drop_below(first);
        let core = &self.shared.core;
        core.release(dropped);
        core.command(Command::DropSegments {
            log: self.clone(),
            dropped: dropped_ids,
            first,
        });
    }

    /// The largest epoch not above `epoch` and the offset where it ends (KIP-320); `None` when the
    /// log knows no such epoch.
    #[must_use]
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let memory = self.memory();
        memory.epochs.end_of(epoch, memory.end)
    }

    /// Epoch of the record at `offset`; `None` outside of the log.
    #[must_use]
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let memory = self.memory();
        let is_inside = memory.start <= offset && offset < memory.end;
        if is_inside {
            memory.epochs.at(offset)
        } else {
            None
        }
    }

    /// Epoch of the last append.
    #[must_use]
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.memory().epochs.latest()
    }

    /// The segments, oldest first, for retention decisions.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let memory = self.memory();
        let last = memory.segments.len().saturating_sub(1);
        let written_end = memory.written_end();
        memory
            .segments
            .iter()
            .enumerate()
            .map(|(n, segment)| segment.info(n < last, written_end))
            .collect()
    }

    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.shared
            .memory
            .lock()
            .expect("a panic while appending is a bug that ends the node")
    }

    pub(crate) fn files(&self) -> MutexGuard<'_, Files> {
        // Held over work on the disk.
        turns::lock(&self.shared.files).expect("a panic while writing is a bug that ends the node")
    }

    pub(crate) fn is_opened(&self) -> bool {
        self.shared.is_opened.load(Ordering::Acquire)
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.shared.core.log_dir(self.shared.id)
    }

    pub(crate) fn log_path(&self, id: SegmentId) -> PathBuf {
        self.dir().join(log_name(id))
    }

    pub(crate) fn index_path(&self, id: SegmentId) -> PathBuf {
        self.dir().join(index_name(id))
    }

    /// Notes damage: the partition has failed until it is repaired. Logged once.
    pub(crate) fn note_damage(&self, damage: Damage) {
        let mut memory = self.memory();
        if memory.is_removed {
            return;
        }
        let name = damage.file.file_name().and_then(|name| name.to_str());
        let base = match name.and_then(parse_name) {
            // What was dropped or replaced is nobody's any more.
            Some(FileName::Log(id)) if !memory.has(id) => return,
            Some(FileName::Log(id)) => id.base,
            // Not one segment's: never repaired.
            _ => Offset(i64::MAX),
        };
        let is_first = memory.damaged.is_empty();
        memory.damaged.entry(base).or_insert(damage);
        self.shared.core.count_damage();
        // While the journal is replayed, it may still say that this log was deleted: then its
        // missing files are no damage.
        if is_first && self.shared.core.is_recovered() {
            self.report_damage(&memory);
        }
    }

    /// Logs the damage that was found, if any.
    pub(crate) fn report_damage(&self, memory: &Memory) {
        if let Some(damage) = memory.damaged.values().next() {
            tracing::error!(partition = %self.shared.id, %damage, "partition log is damaged");
            self.shared.core.count_damage_report();
        }
    }

    /// Lets go of everything in memory and queues the deletion of the files.
    pub(crate) fn remove(&self) {
        if self.forget() {
            self.shared
                .core
                .command(Command::Remove { log: self.clone() });
        }
    }

    /// Lets go of everything in memory and leaves the files, to another handle of this partition.
    pub(crate) fn supersede(&self) {
        let _files = self.files();
        self.forget();
        self.shared.core.fd_cache.forget_log(self.shared.id);
    }

    /// Waits until nobody is opening this log's files; once the store is closed, nobody begins to.
    pub(crate) fn wait_for_files(&self) {
        drop(self.files());
    }

    fn forget(&self) -> bool {
        let mut memory = self.memory();
        if std::mem::replace(&mut memory.is_removed, true) {
            return false;
        }
        memory.start = memory.end;
        memory.segments.clear();
        memory.unsynced.clear();
        memory.replaced.clear();
        memory.damaged.clear();
        let dropped = memory.tail.drop_below(Offset(i64::MAX));
        self.shared.core.release(dropped);
        true
    }
}

impl Memory {
    fn state(&self) -> LogState {
        LogState {
            start: self.start,
            end: self.end,
            segments: self.segments.iter().map(Segment::state).collect(),
            epochs: self.epochs.entries().to_vec(),
            tombstones_gone_below: self.tombstones.gone_below,
        }
    }

    /// Whether anything was written since it was last synced.
    pub(crate) fn is_unsynced(&self) -> bool {
        self.is_dir_unsynced || !self.unsynced.is_empty()
    }

    /// What was written since it was last synced, which the caller now does: segments, and whether
    /// the directory has new names.
    pub(crate) fn take_unsynced(&mut self) -> (Vec<SegmentId>, bool) {
        let is_dir_unsynced = std::mem::replace(&mut self.is_dir_unsynced, false);
        (std::mem::take(&mut self.unsynced), is_dir_unsynced)
    }

    /// Offset below which everything is in the files.
    pub(crate) fn written_end(&self) -> Offset {
        self.tail
            .first_unwritten()
            .map_or(self.end, |batch| batch.base)
    }

    /// Bytes of the segment's file that are written.
    pub(crate) fn written_bytes(&self, segment: &Segment) -> u64 {
        match self.tail.first_unwritten() {
            Some(batch) if batch.segment == segment.base => batch.position,
            Some(batch) if batch.segment < segment.base => 0,
            _ => segment.bytes,
        }
    }

    /// Forgets what is below `to`, where something in the files ends: those files were deleted. A
    /// segment that goes on in memory begins there instead.
    pub(crate) fn forget_deleted(&mut self, to: Offset) {
        self.segments.retain(|segment| segment.end > to);
        self.start = self.start.max(to);
        self.is_state_outdated = true;
        self.epochs.raise_start(to);
        self.unsynced.retain(|id| id.base >= to);
        self.damaged.retain(|base, _| *base >= to);
        let Some(first) = self.segments.first_mut().filter(|first| first.base < to) else {
            return;
        };
        let deleted_bytes = self
            .tail
            .first()
            .map_or(first.bytes, |batch| batch.position.min(first.bytes));
        self.tail.move_segment(first.base, to, deleted_bytes);
        first.begin_at(
            to,
            deleted_bytes,
            self.tail.iter().take_while(|one| one.segment == to),
        );
    }

    pub(crate) fn segment_mut(&mut self, base: Offset) -> Option<&mut Segment> {
        let at = self
            .segments
            .binary_search_by_key(&base, |segment| segment.base)
            .ok()?;
        self.segments.get_mut(at)
    }

    /// Whether a segment is in this file.
    pub(crate) fn has(&self, id: SegmentId) -> bool {
        self.segment(id.base)
            .is_some_and(|segment| segment.version == id.version)
    }

    /// The segment, if it is still in this file.
    pub(crate) fn segment_in(&mut self, id: SegmentId) -> Option<&mut Segment> {
        self.segment_mut(id.base)
            .filter(|segment| segment.version == id.version)
    }

    pub(crate) fn segment(&self, base: Offset) -> Option<&Segment> {
        let at = self
            .segments
            .binary_search_by_key(&base, |segment| segment.base)
            .ok()?;
        self.segments.get(at)
    }
}

impl fmt::Debug for PartitionLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PartitionLog({})", self.shared.id)
    }
}

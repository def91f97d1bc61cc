//! [`PartitionLog`], the handle.

use bytes::Bytes;

use super::{LogState, ReadError, StorageError};
use crate::batch::BatchHeader;
use crate::{LeaderEpoch, Offset, PartitionId};

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

/// Batches read from a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadBatches {
    /// Whole batches, stamped, exactly as on disk; each piece holds one or more.
    pub batches: Vec<Bytes>,
    /// Bytes of all pieces.
    pub bytes: usize,
    /// Offset after the last batch; where to read on. The offset asked for when there is none.
    pub next: Offset,
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
    /// Whether it takes no more batches.
    pub sealed: bool,
}

/// One partition's log. Clones share it.
#[derive(Clone)]
pub struct PartitionLog {}

impl PartitionLog {
    /// Appends a batch in memory and queues it for the segment writer; touches no file.
    ///
    /// `batch` is the batch as produced, `header` its parsed header; it is stamped with
    /// [`PartitionLog::end_offset`] and `epoch`. Returns its base offset. Begins a new segment by
    /// size, or by age against `now_ms`. Blocks only while the writer's queue is over its limit.
    /// Panics when `header` does not belong to `batch` or the epoch falls.
    pub fn append(
        &self,
        batch: Bytes,
        header: &BatchHeader,
        epoch: LeaderEpoch,
        now_ms: i64,
    ) -> Offset {
        let _ = (batch, header, epoch, now_ms);
        todo!()
    }
    /// Which partition.
    #[must_use]
    pub fn id(&self) -> PartitionId {
        todo!()
    }
    /// First offset that may be read.
    #[must_use]
    pub fn start_offset(&self) -> Offset {
        todo!()
    }
    /// Offset of the next record.
    #[must_use]
    pub fn end_offset(&self) -> Offset {
        todo!()
    }
    /// Bytes of all segments.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        todo!()
    }
    /// What a checkpoint must remember, as of now. It is true of the disk once
    /// [`LogStore::sync`](crate::store::LogStore::sync) has returned for its end.
    #[must_use]
    pub fn state(&self) -> LogState {
        todo!()
    }
    /// Changes when segments end; affects the next append.
    pub fn set_config(&self, config: LogConfig) {
        let _ = config;
        todo!()
    }
    /// Why this partition can not be trusted any more, if so: damage found in its files, or a
    /// failed store. Never goes away; the caller refuses the partition's clients.
    #[must_use]
    pub fn failed(&self) -> Option<StorageError> {
        todo!()
    }
    /// Forgets everything below `to`; whole segments below go, on the writer thread, by unlinking.
    /// No effect when `to` is not above the start. Panics when `to` lies beyond the end.
    pub fn raise_start(&self, to: Offset) {
        let _ = to;
        todo!()
    }
    /// Whole batches from the one containing `from` up to those whose base lies below `limit`, at
    /// most `bytes_max` bytes except that the first batch always comes whole. Empty when `from` is
    /// not below `limit`. May block on the disk.
    ///
    /// # Errors
    /// When `from` is outside of the log, bytes are damaged, or the disk fails.
    pub fn read(
        &self,
        from: Offset,
        limit: Offset,
        bytes_max: usize,
    ) -> Result<ReadBatches, ReadError> {
        let _ = (from, limit, bytes_max);
        todo!()
    }
    /// Like [`PartitionLog::read`] from memory only; `None` when that has to answer.
    #[must_use]
    pub fn read_tail(&self, from: Offset, limit: Offset, bytes_max: usize) -> Option<ReadBatches> {
        let _ = (from, limit, bytes_max);
        todo!()
    }
    /// The first batch (whole) at or above the start and with a base below `limit` whose greatest
    /// timestamp is at least `timestamp_ms`. May block on the disk.
    ///
    /// # Errors
    /// When bytes are damaged or the disk fails.
    pub fn find_timestamp(
        &self,
        timestamp_ms: i64,
        limit: Offset,
    ) -> Result<Option<Bytes>, ReadError> {
        let _ = (timestamp_ms, limit);
        todo!()
    }
    /// The first batch (whole) with the greatest timestamp of all whose base lies below `limit`.
    /// May block on the disk.
    ///
    /// # Errors
    /// When bytes are damaged or the disk fails.
    pub fn max_timestamp_batch(&self, limit: Offset) -> Result<Option<Bytes>, ReadError> {
        let _ = limit;
        todo!()
    }
    /// The largest epoch not above `epoch` and the offset where it ends (KIP-320); `None` when the
    /// log knows no such epoch.
    #[must_use]
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let _ = epoch;
        todo!()
    }
    /// Epoch of the record at `offset`; `None` outside of the log.
    #[must_use]
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let _ = offset;
        todo!()
    }
    /// Epoch of the last append.
    #[must_use]
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        todo!()
    }
    /// The segments, oldest first, for retention decisions.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        todo!()
    }
}

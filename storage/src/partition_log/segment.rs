//! [`Segment`]: what a log knows about one of its segments, in memory.

use crate::Offset;
use crate::batch::BatchHeader;

use super::index::IndexPacer;
use super::segment_format::{SegmentId, digest_after};
use super::tail::{StampedBatch, TailBatch};
use super::{LogConfig, SegmentInfo, SegmentState};

/// One segment. Empty only between its making and the append that made it.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) base: Offset,
    /// Exclusive.
    pub(crate) end: Offset,
    pub(crate) bytes: u64,
    /// -1 when no record has a timestamp.
    pub(crate) max_timestamp: i64,
    pub(crate) created_ms: i64,
    pub(crate) digest: Option<u32>,
    /// Entries in its index file; `None` while nobody has looked since the restart.
    pub(crate) index_entries: Option<u32>,
    /// Whether the index file ends with the entry that a sealed segment's has.
    pub(crate) is_index_complete: bool,
    /// Whether the index has been rebuilt since the restart; it is at most once.
    pub(crate) is_index_rebuilt: bool,
    pub(crate) pacer: IndexPacer,
    /// Copy whose staged files it is, until they are brought in.
    pub(crate) staged: Option<u64>,
    /// Which file it is in, see [`SegmentId`].
    pub(crate) version: u64,
    /// See [`SegmentState`].
    pub(crate) cleaned: bool,
    /// It takes no more batches, whatever its size.
    pub(crate) is_closed: bool,
}

/// What one append changed in its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) position: u64,
    /// Present when the batch gets an index entry: greatest timestamp before it in the segment.
    pub(crate) index_entry: Option<i64>,
}

impl Segment {
    pub(crate) fn new(base: Offset, created_ms: i64, index_interval_bytes: usize) -> Segment {
        Segment {
            base,
            end: base,
            bytes: 0,
            max_timestamp: -1,
            created_ms,
            digest: Some(0),
            index_entries: Some(0),
            is_index_complete: false,
            is_index_rebuilt: false,
            pacer: IndexPacer::new(index_interval_bytes),
            staged: None,
            version: 0,
            cleaned: false,
            is_closed: false,
        }
    }

    pub(crate) fn recovered(state: &SegmentState, index_interval_bytes: usize) -> Segment {
        Segment {
            base: state.base,
            end: state.end,
            bytes: state.bytes,
            max_timestamp: state.max_timestamp,
            created_ms: state.created_ms,
            digest: state.digest,
            index_entries: None,
            is_index_complete: false,
            is_index_rebuilt: false,
            // The index may end anywhere before: the next batch gets an entry.
            pacer: IndexPacer::overdue(index_interval_bytes),
            staged: state.staged,
            version: state.version,
            cleaned: state.cleaned,
            is_closed: false,
        }
    }

    pub(crate) fn id(&self) -> SegmentId {
        SegmentId {
            base: self.base,
            version: self.version,
        }
    }

    /// Makes the segment begin at `base`, `bytes` further on, where `batches` are all it has.
    pub(crate) fn begin_at<'a>(
        &mut self,
        base: Offset,
        bytes: u64,
        batches: impl Iterator<Item = &'a TailBatch>,
    ) {
        self.base = base;
        self.bytes -= bytes;
        self.index_entries = Some(0);
        self.is_index_complete = false;
        self.max_timestamp = -1;
        let mut digest = 0;
        for batch in batches {
            self.max_timestamp = self.max_timestamp.max(batch.max_timestamp);
            digest = digest_after(digest, &batch.bytes.head());
        }
        self.digest = Some(digest);
    }

    pub(crate) fn state(&self) -> SegmentState {
        SegmentState {
            base: self.base,
            end: self.end,
            bytes: self.bytes,
            max_timestamp: self.max_timestamp,
            created_ms: self.created_ms,
            digest: self.digest,
            staged: self.staged,
            version: self.version,
            cleaned: self.cleaned,
        }
    }

    /// `written_end`: below it everything is in the files.
    pub(crate) fn info(&self, sealed: bool, written_end: Offset) -> SegmentInfo {
        SegmentInfo {
            base: self.base,
            end: self.end,
            bytes: self.bytes,
            max_timestamp: self.max_timestamp,
            created_ms: self.created_ms,
            sealed,
            written: self.end <= written_end,
            compacted: self.version != 0,
            cleaned: self.cleaned,
        }
    }

    /// Whether a batch belongs into a new segment rather than into this one.
    pub(crate) fn is_full_for(
        &self,
        header: &BatchHeader,
        now_ms: i64,
        config: &LogConfig,
    ) -> bool {
        let bytes = self.bytes + header.total_bytes() as u64;
        let offsets = self.end.0 - self.base.0 + header.offset_count();
        self.bytes > 0
            && (self.is_closed
                || bytes > u64::from(config.segment_bytes)
                || now_ms.saturating_sub(self.created_ms) > config.segment_ms
                || offsets > i64::from(i32::MAX))
    }

    /// Takes a batch at its end.
    pub(crate) fn place(&mut self, header: &BatchHeader, batch: &StampedBatch) -> Placed {
        let position = self.bytes;
        let bytes = batch.len() as u64;
        let indexed = self.pacer.wants_entry(position, bytes);
        let placed = Placed {
            position,
            index_entry: indexed.then_some(self.max_timestamp),
        };
        self.end = self.end.plus(header.offset_count());
        self.bytes += bytes;
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
        self.digest = self
            .digest
            .map(|digest| digest_after(digest, &batch.head()));
        placed
    }
}

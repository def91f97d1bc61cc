//! Where each entry of a shard is: in memory until it is written, then in a file.
//!
//! The reading side of the journal: changed as soon as a call is made, before anything is durable.
//! Pure, except that it holds the unwritten payloads. Indexes are contiguous.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::ShardLog;
use crate::{LogIndex, LogPosition, Term};

#[derive(Debug, Default)]
pub(super) struct ShardIndex {
    pub(super) vote: Option<Bytes>,
    pub(super) committed: Option<Bytes>,
    floor: Option<LogPosition>,
    /// Index of the front of `entries`; the floor's plus 1 when there is a floor.
    first: u64,
    entries: VecDeque<IndexedEntry>,
    /// Journal bytes of all entries ever, up to the front of `entries`; only differences matter.
    bytes_before: u64,
}

#[derive(Debug, Clone)]
pub(super) struct IndexedEntry {
    pub(super) term: Term,
    pub(super) place: Place,
    /// Journal bytes up to and including this entry.
    bytes_through: u64,
}

#[derive(Debug, Clone)]
pub(super) enum Place {
    Memory(Arc<[Bytes]>),
    File(FilePlace),
}

/// One frame in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FilePlace {
    pub(super) file: u64,
    pub(super) position: u64,
    pub(super) payload_len: u32,
}

impl ShardIndex {
    pub(super) fn log(&self) -> ShardLog {
        ShardLog {
            floor: self.floor,
            last: self.last(),
            vote: self.vote.clone(),
            committed: self.committed.clone(),
        }
    }

    fn last(&self) -> Option<LogPosition> {
        let Some(back) = self.entries.back() else {
            return self.floor;
        };
        let index = LogIndex(self.first + self.entries.len() as u64 - 1);
        Some(LogPosition {
            term: back.term,
            index,
        })
    }

    /// Panics when entries at these positions, appended now, would leave a hole.
    pub(super) fn assert_follows(&self, positions: impl Iterator<Item = LogPosition>) {
        let mut last = self.last();
        for position in positions {
            if let Some(last) = last {
                let next = last.index.0.saturating_add(1);
                assert_eq!(position.index.0, next, "an entry must follow the last one");
            }
            last = Some(position);
        }
    }

    /// Adds the entry behind the last. (In recovery there may be a hole behind the floor: the
    /// ledger accounts for older entries.)
    pub(super) fn append(&mut self, position: LogPosition, place: Place, bytes: u64) {
        if self.entries.is_empty() {
            self.first = position.index.0;
        }
        let bytes_through = self.bytes_end() + bytes;
        self.entries.push_back(IndexedEntry {
            term: position.term,
            place,
            bytes_through,
        });
    }

    /// Drops the entries behind `last_kept`; returns the last that is left, if any is.
    pub(super) fn truncate_after(&mut self, last_kept: Option<LogPosition>) -> Option<LogPosition> {
        let kept = last_kept.map_or(0, |kept| {
            (kept.index.0.saturating_add(1)).saturating_sub(self.first)
        });
        self.entries
            .truncate(usize::try_from(kept).unwrap_or(usize::MAX));
        if self.entries.is_empty() {
            None
        } else {
            self.last()
        }
    }

    /// Whether purging up to here leaves no entry.
    pub(super) fn purge_drops_all(&self, upto: LogPosition) -> bool {
        self.last().is_none_or(|last| last.index <= upto.index)
            || self
                .term_of(upto.index)
                .is_some_and(|term| term != upto.term)
    }

    pub(super) fn purge(&mut self, upto: LogPosition, all: bool) {
        if self.floor.is_some_and(|floor| floor.index >= upto.index) {
            return;
        }
        let gone = if all {
            self.entries.len()
        } else {
            let count = (upto.index.0.saturating_add(1)).saturating_sub(self.first);
            usize::try_from(count).map_or(self.entries.len(), |count| count.min(self.entries.len()))
        };
        if gone > 0 {
            self.bytes_before = self.entries[gone - 1].bytes_through;
            self.entries.drain(..gone);
        }
        self.floor = Some(upto);
        // Recovery may meet a purge below the entries it has found, where others are missing.
        self.first = if all || self.entries.is_empty() {
            upto.index.0.saturating_add(1)
        } else {
            self.first + gone as u64
        };
        if self.entries.capacity() > 1024 && self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(self.entries.len() * 2);
        }
    }

    /// Takes over what a file's state says, with no entries: recovery starts from here.
    pub(super) fn restore(
        floor: Option<LogPosition>,
        vote: Option<Bytes>,
        committed: Option<Bytes>,
    ) -> ShardIndex {
        let first = floor.map_or(0, |floor| floor.index.0 + 1);
        ShardIndex {
            vote,
            committed,
            floor,
            first,
            ..ShardIndex::default()
        }
    }

    pub(super) fn entry(&self, index: LogIndex) -> Option<&IndexedEntry> {
        let at = index.0.checked_sub(self.first)?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    pub(super) fn term_of(&self, index: LogIndex) -> Option<Term> {
        if let Some(floor) = self.floor.filter(|floor| floor.index == index) {
            return Some(floor.term);
        }
        self.entry(index).map(|entry| entry.term)
    }

    /// Notes that an entry has been written, unless another has taken its index since.
    pub(super) fn settle(&mut self, index: LogIndex, pieces: &Arc<[Bytes]>, place: FilePlace) {
        let at = index
            .0
            .checked_sub(self.first)
            .and_then(|at| usize::try_from(at).ok());
        if let Some(entry) = at.and_then(|at| self.entries.get_mut(at))
            && let Place::Memory(queued) = &entry.place
            && Arc::ptr_eq(queued, pieces)
        {
            entry.place = Place::File(place);
        }
    }

    /// The last entry that is in a file, as are all before it.
    pub(super) fn written_end(&self) -> Option<LogPosition> {
        let is_unwritten = |entry: &&IndexedEntry| matches!(entry.place, Place::Memory(_));
        let unwritten = self.entries.iter().rev().take_while(is_unwritten).count();
        let Some(at) = (self.entries.len() - unwritten).checked_sub(1) else {
            return self.floor;
        };
        let index = LogIndex(self.first + at as u64);
        let term = self.entries.get(at)?.term;
        Some(LogPosition { term, index })
    }

    fn bytes_end(&self) -> u64 {
        self.entries
            .back()
            .map_or(self.bytes_before, |back| back.bytes_through)
    }

    pub(super) fn bytes_since(&self, index: LogIndex) -> u64 {
        let through = match self.entry(index) {
            Some(entry) => entry.bytes_through,
            None if index.0 < self.first => self.bytes_before,
            None => self.bytes_end(),
        };
        self.bytes_end() - through
    }
}

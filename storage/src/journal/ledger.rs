//! What the log on disk says, without the entries: per shard the floor, vote, committed position
//! and which files hold its entries.
//!
//! The flusher keeps one as it writes, recovery rebuilds it as it reads, and the first frame of
//! each file carries one. Pure; entries are booked in runs, so it is small whatever the log holds.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::format::{FrameHead, Kind};
use crate::{LogIndex, LogPosition, ShardId};

/// Stands for "an older file, gone or not read".
pub(super) const NO_FILE: u64 = 0;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    pub(super) shards: BTreeMap<ShardId, ShardLedger>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ShardLedger {
    pub(super) floor: Option<LogPosition>,
    pub(super) vote: Option<Bytes>,
    pub(super) committed: Option<Bytes>,
    /// First index of each run of entries in one file, and the file; indexes and files rise.
    runs: VecDeque<(LogIndex, u64)>,
    /// The last entry; `None` exactly when there are no runs.
    last: Option<LogPosition>,
}

impl Ledger {
    fn shard(&mut self, shard: ShardId) -> &mut ShardLedger {
        self.shards.entry(shard).or_default()
    }

    /// Follows one frame. `payload` is asked for only where it is kept; `State`, `Seal` and the
    /// like change nothing.
    pub(super) fn apply(&mut self, head: &FrameHead, payload: impl FnOnce() -> Bytes, file: u64) {
        match head.kind {
            Kind::State | Kind::Seal | Kind::Next => {}
            Kind::Entry => self
                .shard(head.shard)
                .append(head.position.index, head.position, file),
            Kind::Vote => self.shard(head.shard).vote = Some(payload()),
            Kind::Committed => self.shard(head.shard).committed = Some(payload()),
            Kind::Truncate => {
                let kept = (!head.is_all()).then_some(head.position);
                self.shard(head.shard).truncate_after(kept);
            }
            Kind::Purge => self.shard(head.shard).purge(head.position, head.is_all()),
            Kind::RemoveShard => drop(self.shards.remove(&head.shard)),
        }
    }

    /// The oldest file that holds an entry still in the log.
    pub(super) fn oldest_file(&self) -> Option<u64> {
        self.shards
            .values()
            .filter_map(ShardLedger::oldest_file)
            .min()
    }
}

impl ShardLedger {
    /// The oldest file that holds an entry still in this shard's log.
    pub(super) fn oldest_file(&self) -> Option<u64> {
        self.runs.front().map(|(_, file)| *file)
    }

    /// The first and the last entry.
    pub(super) fn entries(&self) -> Option<(LogIndex, LogPosition)> {
        Some((self.runs.front()?.0, self.last?))
    }

    /// Index that an appended entry must have; `None` when any will do.
    pub(super) fn next_index(&self) -> Option<LogIndex> {
        let last = self.last.or(self.floor)?;
        Some(LogIndex(last.index.0.saturating_add(1)))
    }

    /// Books entries from `first` to `last` to a file.
    pub(super) fn append(&mut self, first: LogIndex, last: LogPosition, file: u64) {
        if self.runs.back().is_none_or(|(_, newest)| *newest != file) {
            self.runs.push_back((first, file));
        }
        self.last = Some(last);
    }

    /// Drops entries behind `last_kept`; `None` drops all.
    pub(super) fn truncate_after(&mut self, last_kept: Option<LogPosition>) {
        let Some(kept) = last_kept.filter(|kept| {
            self.runs
                .front()
                .is_some_and(|(first, _)| *first <= kept.index)
        }) else {
            self.clear();
            return;
        };
        if self.last.is_some_and(|last| last.index <= kept.index) {
            return;
        }
        while self
            .runs
            .back()
            .is_some_and(|(first, _)| *first > kept.index)
        {
            self.runs.pop_back();
        }
        self.last = Some(kept);
    }

    /// Raises the floor; `all` drops every entry, whatever its index.
    pub(super) fn purge(&mut self, upto: LogPosition, all: bool) {
        if self.floor.is_some_and(|floor| floor.index >= upto.index) {
            return;
        }
        self.floor = Some(upto);
        if all || self.last.is_some_and(|last| last.index <= upto.index) {
            self.clear();
            return;
        }
        while self
            .runs
            .get(1)
            .is_some_and(|(next, _)| next.0 <= upto.index.0.saturating_add(1))
        {
            self.runs.pop_front();
        }
        if let Some((first, _)) = self.runs.front_mut() {
            *first = (*first).max(LogIndex(upto.index.0.saturating_add(1)));
        }
    }

    fn clear(&mut self) {
        self.runs.clear();
        self.last = None;
    }

    /// Whether both say the same, whatever files hold the entries.
    pub(super) fn says_same(&self, other: &ShardLedger) -> bool {
        (self.floor, &self.vote, &self.committed, self.entries())
            == (other.floor, &other.vote, &other.committed, other.entries())
    }
}

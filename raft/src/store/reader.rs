//! Reading: openraft's log reader, and the stream that feeds apply.
//!
//! Replication and apply get whole entries, from the cache or else from the journal on a blocking
//! thread. Start-up scans get positions and memberships without touching the disk: what is not in
//! the cache comes as `Payload::Deferred`, which the state machine reads when it applies it.

use std::fmt;
use std::io;
use std::ops::{Bound, RangeBounds, RangeInclusive};

use futures_util::Stream;
use openraft::{OptionalSend, RaftLogReader};
use storage::LogIndex;

use super::{Log, READ_BYTES};
use crate::types::{Entry, EntryPayload, LogId, Payload, Types, Vote};

impl Log {
    /// The part of `range` that the log holds, end exclusive.
    fn clamp(&self, range: &impl RangeBounds<u64>) -> (u64, u64) {
        let Some((first, last)) = self.range() else {
            return (0, 0);
        };
        let from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(to) => *to,
            Bound::Unbounded => u64::MAX,
        };
        let (from, to) = (from.max(first), to.min(last + 1));
        (from, to.max(from))
    }

    /// Whole entries from `from`, at least one, up to `bytes_max`, without reaching `to`. Empty
    /// when `from` is not in the log, or leaves it meanwhile: a leader that was deposed, or whose
    /// follower fell below the floor, may still ask for what is gone.
    async fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let cached = self.read_cache(from, to, bytes_max);
        let (_, to) = self.clamp(&(from..to));
        if !cached.is_empty() || from >= to || !self.holds(from) {
            return Ok(cached);
        }
        let log = self.clone();
        let read = net::blocking(move || {
            let read = log.read_journal(from, to, bytes_max);
            if read.is_err() && !log.holds(from) {
                Ok(Vec::new())
            } else {
                read
            }
        });
        let entries = read.await.map_err(io::Error::other)??;
        Ok(entries.into_iter().map(|(entry, _)| entry).collect())
    }

    fn holds(&self, index: u64) -> bool {
        self.range()
            .is_some_and(|(first, last)| (first..=last).contains(&index))
    }

    fn read_cache(&self, from: u64, to: u64, bytes_max: usize) -> Vec<Entry> {
        let state = self.state();
        let mut taken = Vec::new();
        let mut total = 0;
        for (entry, bytes) in (from..to).map_while(|index| state.cache.entry(index)) {
            total += bytes;
            if total > bytes_max && !taken.is_empty() {
                break;
            }
            taken.push(entry.clone());
        }
        taken
    }

    /// Whole entries from `index` on, at least that one, below `to`.
    pub(crate) async fn entries(&self, index: u64, to: u64) -> io::Result<Vec<Entry>> {
        let read = self.read(index, to, READ_BYTES).await?;
        match read.first() {
            Some(first) if first.log_id.index == index => Ok(read),
            _ => Err(io::Error::other(
                "an entry that is applied is not in the log",
            )),
        }
    }

    fn located(&self, index: u64) -> io::Result<Entry> {
        let state = self.state();
        if let Some((entry, _)) = state.cache.entry(index) {
            return Ok(entry.clone());
        }
        let payload = match state.memberships.get(&index) {
            Some(membership) => EntryPayload::Membership(membership.clone()),
            None => EntryPayload::Normal(Payload::Deferred),
        };
        let term = self
            .inner
            .journal
            .term_of(self.inner.shard, LogIndex(index))
            .ok_or_else(|| io::Error::other("an entry between the log's ends has no term"))?;
        Ok(Entry {
            log_id: LogId::new_term_index(term.0, index),
            payload,
        })
    }

    fn position_at(&self, index: u64) -> io::Result<LogId> {
        let term = self
            .inner
            .journal
            .term_of(self.inner.shard, LogIndex(index))
            .ok_or_else(|| io::Error::other("an entry between the log's ends has no term"))?;
        Ok(LogId::new_term_index(term.0, index))
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let (from, to) = self.clamp(&range);
        (from..to).map(|index| self.located(index)).collect()
    }

    async fn limited_get_log_entries(
        &mut self,
        from: u64,
        to: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(from, to, READ_BYTES).await
    }

    /// Entries are fetched a few at a time as apply consumes them, so that a long replay does not
    /// gather in memory.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend,
    {
        let (from, to) = self.clamp(&range);
        let start = (self.clone(), from, Vec::new().into_iter());
        futures_util::stream::try_unfold(start, move |(log, next, mut chunk)| async move {
            if let Some(entry) = chunk.next() {
                return Ok(Some((entry, (log, next, chunk))));
            }
            let read: Vec<Entry> = log.read(next, to, READ_BYTES).await?;
            if read.is_empty() && next < to {
                return Err(io::Error::other(
                    "an entry that is committed is not in the log",
                ));
            }
            let next = next + read.len() as u64;
            let mut chunk = read.into_iter();
            Ok(chunk.next().map(|entry| (entry, (log, next, chunk))))
        })
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.state().vote)
    }

    /// The last entry of each term: found by bisection over positions, which are in memory.
    async fn get_key_log_ids(
        &mut self,
        range: RangeInclusive<LogId>,
    ) -> Result<Vec<LogId>, io::Error> {
        let (mut first, last) = (range.start().index, range.end().index);
        let mut keys = Vec::new();
        while first <= last {
            let id = self.position_at(first)?;
            let term = id.committed_leader_id().term;
            // Terms never fall along the log.
            let (mut same, mut above) = (first, last + 1);
            while above - same > 1 {
                let middle = same + (above - same) / 2;
                if self.position_at(middle)?.committed_leader_id().term == term {
                    same = middle;
                } else {
                    above = middle;
                }
            }
            keys.push(LogId::new_term_index(term, same));
            first = above;
        }
        Ok(keys)
    }
}

//! Writing: openraft's log storage.

use std::io;
use std::sync::atomic::Ordering;

use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use storage::bugs::{self, Bug};
use storage::journal::{JournalEntry, Synced};
use tokio::sync::oneshot;

use super::Log;
use crate::entry;
use crate::types::{Entry, EntryPayload, LogId, Types, Vote, journal_io, log_id, position};

impl RaftLogStorage<Types> for Log {
    type LogReader = Log;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let known = self.inner.journal.shard_log(self.inner.shard);
        Ok(LogState {
            last_purged_log_id: known.floor.map(log_id),
            last_log_id: known.last.map(log_id),
        })
    }

    async fn get_log_reader(&mut self) -> Log {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        if bugs::is_on(Bug::VoteForgotten) {
            self.state().vote = Some(*vote);
            return Ok(());
        }
        let (synced, durable) = oneshot::channel();
        let synced: Synced = Box::new(move |result| {
            // The shard may have been dropped meanwhile.
            let _ = synced.send(result);
        });
        self.inner
            .journal
            .save_vote(self.inner.shard, entry::encode_vote(vote), synced)
            .map_err(journal_io)?;
        self.state().vote = Some(*vote);
        durable
            .await
            .map_err(|_| io::Error::other("the journal closed"))?
            .map_err(journal_io)
    }

    /// Rides with the next round. It never runs ahead of the log: it stands behind the entries it
    /// names in the journal's order.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let Some(committed) = committed else {
            return Ok(());
        };
        self.inner
            .journal
            .save_committed(self.inner.shard, entry::encode_committed(&committed))
            .map_err(journal_io)
    }

    /// At most the log's end: openraft refuses to start when the mark is ahead of it.
    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        let known = self.inner.journal.shard_log(self.inner.shard);
        let committed = known.committed.map(entry::decode_committed).transpose()?;
        let last = known.last.map(log_id);
        if bugs::is_on(Bug::LogEndTakenForCommitted) {
            return Ok(last);
        }
        Ok(committed
            .and_then(|mark| last.map(|last| if mark.index > last.index { last } else { mark })))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut written = Vec::new();
        let mut total = 0;
        // A replica that forgets who else is a member may find itself alone, and go on alone.
        let mut has_membership = false;
        {
            let is_empty = self.last().is_none();
            let mut state = self.state();
            for entry in entries {
                if is_empty && written.is_empty() {
                    state.begin = entry.log_id.index;
                }
                let pieces = entry::encode(&entry.payload);
                let bytes: usize = pieces.iter().map(bytes::Bytes::len).sum();
                total += bytes as u64;
                if let EntryPayload::Membership(membership) = &entry.payload {
                    has_membership = true;
                    state
                        .memberships
                        .insert(entry.log_id.index, membership.clone());
                }
                written.push(JournalEntry {
                    position: position(&entry.log_id),
                    pieces,
                });
                state.cache.push(entry, bytes);
            }
        }
        self.inner.bytes.fetch_add(total, Ordering::Relaxed);
        self.inner.node_bytes.fetch_add(total, Ordering::Relaxed);
        let synced: Synced = if bugs::is_on(Bug::AckBeforeWrite) {
            callback.io_completed(Ok(()));
            unwaited()
        } else {
            Box::new(move |result| callback.io_completed(result.map_err(journal_io)))
        };
        let (journal, shard) = (&self.inner.journal, self.inner.shard);
        let appended = match has_membership {
            true => journal.append_always_synced(shard, written, synced),
            false => journal.append(shard, written, synced),
        };
        appended.map_err(journal_io)
    }

    /// Not waited for: whatever is appended behind it is synced behind it.
    ///
    /// What this replica has applied was committed once. A leader that has other entries there has
    /// lost acknowledged ones (a replica was put back to an old copy of its disk, for instance);
    /// following it would show two values at one offset, so the shard stops here instead.
    async fn truncate_after(&mut self, last_kept: Option<LogId>) -> Result<(), io::Error> {
        {
            let mut state = self.state();
            let kept = last_kept.map(|id| id.index);
            if let Some(applied) = state.applied.filter(|applied| kept < Some(*applied)) {
                let shard = self.inner.shard.0;
                tracing::error!(
                    shard,
                    applied,
                    kept,
                    "the leader contradicts entries that were committed and applied here: other \
                     replicas have lost acknowledged records (put back to an old copy?); this \
                     replica refuses to follow"
                );
                return Err(io::Error::other(
                    "the leader contradicts entries that were committed and applied here",
                ));
            }
            state.cache.truncate_after(kept);
            match kept {
                Some(kept) => {
                    state.memberships.split_off(&(kept + 1));
                }
                None => state.memberships.clear(),
            }
        }
        self.inner
            .journal
            .truncate_after(
                self.inner.shard,
                last_kept.as_ref().map(position),
                unwaited(),
            )
            .map_err(journal_io)
    }

    /// Not waited for: a purge lost in a crash only leaves entries that nobody needs.
    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let known = self
            .inner
            .journal
            .term_of(self.inner.shard, position(&upto).index);
        {
            let mut state = self.state();
            let first = self.range_from(state.begin).map(|(first, _)| first);
            if known == Some(position(&upto).term) {
                state.cache.drop_upto(upto.index);
                state.memberships = state.memberships.split_off(&(upto.index + 1));
            } else if first.is_some_and(|first| first <= upto.index) {
                // Above the log's end, or another entry there: the journal drops everything.
                state.cache.clear();
                state.memberships.clear();
            }
        }
        self.inner
            .journal
            .purge(self.inner.shard, position(&upto), unwaited())
            .map_err(journal_io)
    }
}

/// For writes whose order is all that matters; a failure poisons the journal and shows there.
fn unwaited() -> Synced {
    Box::new(|_| ())
}

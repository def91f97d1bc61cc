//! One shard's Raft log over the node's journal, as openraft wants to see it.
//!
//! The journal is the log; what stands here beside it is a cache of recent entries and the list of
//! membership entries, both rebuilt when the shard is opened. Writes of one shard keep their order
//! in the journal, so only votes and appends need to wait for a sync.

mod cache;
mod log;
mod reader;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use storage::journal::{Journal, ReadEntry};
use storage::{LogIndex, LogPosition, ShardId};

use self::cache::Cache;
use crate::entry;
use crate::types::{Entry, EntryPayload, LogId, Membership, Vote, journal_io, log_id};

/// Bytes read from the journal at a time.
const READ_BYTES: usize = 2 << 20;

/// How many bytes of entries are kept in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CacheLimits {
    /// Of those found when the shard is opened: they are applied next.
    pub(crate) open_bytes: usize,
    /// Of recent ones.
    pub(crate) bytes_max: usize,
}

/// The log of one shard. Clones share it; one of them is openraft's reader.
#[derive(Clone)]
pub(crate) struct Log {
    inner: Arc<Inner>,
}

struct Inner {
    shard: ShardId,
    journal: Journal,
    /// Bytes appended by all shards of the node since it started.
    node_bytes: Arc<AtomicU64>,
    /// Bytes appended by this shard since it was opened, those found at open included.
    bytes: AtomicU64,
    /// Whether nobody but this node reads the log: then an applied entry is not kept.
    solo: AtomicBool,
    state: Mutex<State>,
}

struct State {
    /// Index of the first entry ever appended; 0 unless openraft's own tests begin higher.
    begin: u64,
    cache: Cache,
    /// Membership entries in the log by index.
    memberships: BTreeMap<u64, Membership>,
    vote: Option<Vote>,
    /// Index up to which entries are applied: they are committed and never leave the log's end.
    applied: Option<u64>,
}

impl Log {
    /// Reads the whole log once: checks every entry, finds memberships, keeps the first entries for
    /// the replay that follows. Blocks.
    pub(crate) fn open(
        journal: Journal,
        shard: ShardId,
        caches: CacheLimits,
        node_bytes: Arc<AtomicU64>,
    ) -> io::Result<Log> {
        let known = journal.shard_log(shard);
        let vote = known.vote.map(entry::decode_vote).transpose()?;
        let state = State {
            begin: 0,
            cache: Cache::new(caches.open_bytes),
            memberships: BTreeMap::new(),
            vote,
            applied: None,
        };
        let log = Log {
            inner: Arc::new(Inner {
                shard,
                journal,
                node_bytes,
                bytes: AtomicU64::new(0),
                solo: AtomicBool::new(false),
                state: Mutex::new(state),
            }),
        };
        log.scan()?;
        log.state().cache.limit(caches.bytes_max);
        Ok(log)
    }

    fn scan(&self) -> io::Result<()> {
        let Some((mut next, last)) = self.range() else {
            return Ok(());
        };
        let mut caching = true;
        while next <= last {
            let read = self.read_journal(next, last + 1, READ_BYTES)?;
            let mut state = self.state();
            for (entry, bytes) in read {
                next = entry.log_id.index + 1;
                self.inner.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
                if let EntryPayload::Membership(membership) = &entry.payload {
                    state
                        .memberships
                        .insert(entry.log_id.index, membership.clone());
                }
                caching = caching && !state.cache.is_full();
                if caching {
                    state.cache.push(entry, bytes);
                }
            }
        }
        Ok(())
    }

    /// Entries of `[from, to)` straight from the journal with their sizes: at least one, then up to
    /// `bytes_max`. Blocks.
    fn read_journal(
        &self,
        from: u64,
        to: u64,
        bytes_max: usize,
    ) -> io::Result<Vec<(Entry, usize)>> {
        let read = self
            .inner
            .journal
            .read(self.inner.shard, LogIndex(from), LogIndex(to), bytes_max)
            .map_err(journal_io)?;
        if read.first().map(|entry| entry.position.index) != Some(LogIndex(from)) {
            let shard = self.inner.shard;
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("shard {shard}: entry {from} is not in the journal"),
            ));
        }
        read.into_iter()
            .map(|ReadEntry { position, payload }| {
                let bytes = payload.len();
                Ok((
                    Entry {
                        log_id: log_id(position),
                        payload: entry::decode(payload)?,
                    },
                    bytes,
                ))
            })
            .collect()
    }

    /// First and last index in the log, when it holds an entry.
    fn range(&self) -> Option<(u64, u64)> {
        self.range_from(self.state().begin)
    }

    fn range_from(&self, begin: u64) -> Option<(u64, u64)> {
        let known = self.inner.journal.shard_log(self.inner.shard);
        let last = known.last?.index.0;
        let first = known
            .floor
            .map_or(begin, |floor| begin.max(floor.index.0 + 1));
        (first <= last).then_some((first, last))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the log ends, the floor when it is empty.
    fn last(&self) -> Option<LogPosition> {
        self.ends().1
    }

    /// The last entry dropped from the journal, and where the log ends.
    pub(crate) fn ends(&self) -> (Option<LogPosition>, Option<LogPosition>) {
        let known = self.inner.journal.shard_log(self.inner.shard);
        (known.floor, known.last)
    }

    /// Bytes appended by this shard, and by all shards of the node.
    pub(crate) fn appended_bytes(&self) -> (u64, u64) {
        (
            self.inner.bytes.load(Ordering::Relaxed),
            self.inner.node_bytes.load(Ordering::Relaxed),
        )
    }

    /// Says that entries up to `upto` are applied, and whether this node is alone in the shard.
    pub(crate) fn applied(&self, upto: &LogId, solo: bool) {
        self.inner.solo.store(solo, Ordering::Relaxed);
        let mut state = self.state();
        state.applied = state.applied.max(Some(upto.index));
        if solo {
            state.cache.drop_upto(upto.index);
        }
    }

    /// Whether the journal failed.
    pub(crate) fn journal_failed(&self) -> bool {
        self.inner.journal.failed().is_some()
    }
}

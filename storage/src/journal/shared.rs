//! What the journal's callers and its flusher share, behind one lock: the index of all entries,
//! the queue and the files in use.
//!
//! The lock is held for memory work only, never for the disk and never for a callback.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::format;
use super::index::{FilePlace, Place, ShardIndex};
use super::pool::JournalFile;
use super::{JournalEntry, JournalError, Synced};
use crate::turns::Condvar;
use crate::{LogIndex, LogPosition, ShardId};

/// A change waiting to be written.
pub(super) struct Queued {
    pub(super) shard: ShardId,
    pub(super) change: Change,
    pub(super) synced: Synced,
    bytes: usize,
}

#[derive(Debug)]
pub(super) enum Change {
    Append {
        entries: Vec<(LogPosition, Arc<[Bytes]>)>,
        /// Synced before it is answered, in every mode.
        is_always_synced: bool,
    },
    Vote(Bytes),
    /// Down to the entry named, or to the floor.
    Truncate(Option<LogPosition>),
    Purge {
        upto: LogPosition,
        all: bool,
    },
    RemoveShard,
}

/// What goes into one round.
pub(super) struct Batch {
    pub(super) queued: Vec<Queued>,
    pub(super) committed: BTreeMap<ShardId, Bytes>,
}

/// A file in use, and how far it has been written (the newest: when it was put in use).
pub(super) struct FileInUse {
    pub(super) file: Arc<JournalFile>,
    pub(super) used_bytes: u64,
}

impl State {
    /// Takes a committed position, to ride with a later round.
    pub(super) fn save_committed(&mut self, shard: ShardId, committed: Bytes) {
        self.shards.entry(shard).or_default().committed = Some(committed.clone());
        self.committed.insert(shard, committed);
    }

    pub(super) fn remove_shard(&mut self, shard: ShardId) {
        self.shards.remove(&shard);
        self.committed.remove(&shard);
    }
}

type OnFailure = Box<dyn FnOnce(JournalError) + Send>;

pub(super) struct State {
    pub(super) shards: BTreeMap<ShardId, ShardIndex>,
    pub(super) files: BTreeMap<u64, FileInUse>,
    queue: VecDeque<Queued>,
    /// Committed positions that wait for a round to ride with.
    committed: BTreeMap<ShardId, Bytes>,
    failed: Option<JournalError>,
    on_failure: Vec<OnFailure>,
    closing: bool,
    /// How far the newest file is written.
    active_bytes: u64,
}

pub(super) struct Shared {
    state: Mutex<State>,
    work: Condvar,
    round_bytes_max: usize,
    always_synced: Option<ShardId>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(
        shards: BTreeMap<ShardId, ShardIndex>,
        files: BTreeMap<u64, FileInUse>,
        round_bytes_max: usize,
        always_synced: Option<ShardId>,
    ) -> Shared {
        let state = State {
            shards,
            files,
            queue: VecDeque::new(),
            committed: BTreeMap::new(),
            failed: None,
            on_failure: Vec::new(),
            closing: false,
            active_bytes: 0,
        };
        Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
            round_bytes_max,
            always_synced,
        }
    }

    /// Whether a change is durable before it is answered, in every mode: a vote given is not given
    /// again, a shard removed does not come back, and what the caller says must not be forgotten.
    pub(super) fn is_always_synced(&self, queued: &Queued) -> bool {
        let is_such = match queued.change {
            Change::Vote(_) | Change::RemoveShard => true,
            Change::Append {
                is_always_synced, ..
            } => is_always_synced,
            Change::Truncate(_) | Change::Purge { .. } => false,
        };
        is_such || self.always_synced == Some(queued.shard)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, unless the journal has failed or is closed.
    pub(super) fn lock_usable(&self) -> Result<MutexGuard<'_, State>, JournalError> {
        let state = self.lock();
        match &state.failed {
            Some(error) => Err(error.clone()),
            None if state.closing => Err(JournalError::Closed),
            None => Ok(state),
        }
    }

    pub(super) fn failed_in(&self, state: &State) -> Option<JournalError> {
        state.failed.clone()
    }

    pub(super) fn failed(&self) -> Option<JournalError> {
        self.lock().failed.clone()
    }

    /// Queues a change that the index has taken already.
    pub(super) fn enqueue(
        &self,
        mut state: MutexGuard<'_, State>,
        shard: ShardId,
        change: Change,
        synced: Synced,
    ) {
        let bytes = match &change {
            Change::Append { entries, .. } => {
                entries.iter().map(|(_, pieces)| frame_bytes(pieces)).sum()
            }
            Change::Vote(vote) => format::frame_bytes(vote.len()),
            Change::Truncate(_) | Change::Purge { .. } | Change::RemoveShard => {
                format::frame_bytes(0)
            }
        };
        let was_empty = state.queue.is_empty();
        state.queue.push_back(Queued {
            shard,
            change,
            synced,
            bytes,
        });
        drop(state);
        if was_empty {
            self.work.notify_one();
        }
    }

    /// Indexes entries and queues them.
    pub(super) fn append(
        &self,
        mut state: MutexGuard<'_, State>,
        shard: ShardId,
        entries: Vec<JournalEntry>,
        is_always_synced: bool,
        synced: Synced,
    ) {
        let index = state.shards.entry(shard).or_default();
        index.assert_follows(entries.iter().map(|entry| entry.position));
        let mut queued = Vec::with_capacity(entries.len());
        for JournalEntry { position, pieces } in entries {
            let pieces: Arc<[Bytes]> = pieces.into();
            let bytes = frame_bytes(&pieces) as u64;
            index.append(position, Place::Memory(pieces.clone()), bytes);
            queued.push((position, pieces));
        }
        let change = Change::Append {
            entries: queued,
            is_always_synced,
        };
        self.enqueue(state, shard, change, synced);
    }

    /// Waits for work and takes a round's worth; `None` when the journal is closed and drained.
    pub(super) fn next_batch(&self) -> Option<Batch> {
        let mut state = self.lock();
        while state.queue.is_empty() && !state.closing {
            state = self
                .work
                .wait(&self.state, state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let (mut queued, mut bytes) = (Vec::new(), 0);
        while let Some(next) = state.queue.front() {
            if !queued.is_empty() && bytes + next.bytes > self.round_bytes_max {
                break;
            }
            bytes += next.bytes;
            queued.extend(state.queue.pop_front());
        }
        // A committed position may name entries that were queued before it, so it waits for them.
        let committed = if state.queue.is_empty() {
            std::mem::take(&mut state.committed)
        } else {
            BTreeMap::new()
        };
        (!queued.is_empty() || !committed.is_empty()).then_some(Batch { queued, committed })
    }

    /// Notes where entries have been written.
    pub(super) fn settle(
        &self,
        written: impl Iterator<Item = (ShardId, LogIndex, Arc<[Bytes]>, FilePlace)>,
    ) {
        let mut state = self.lock();
        for (shard, index, pieces, place) in written {
            if let Some(shard) = state.shards.get_mut(&shard) {
                shard.settle(index, &pieces, place);
            }
        }
    }

    /// Notes that the flusher goes on to another file, leaving the one before this long.
    pub(super) fn add_file(&self, file: &JournalFile, used_bytes_before: u64) {
        let mut state = self.lock();
        if let Some(mut newest) = state.files.last_entry() {
            newest.get_mut().used_bytes = used_bytes_before;
        }
        let sequence = file.identity.sequence;
        let file = Arc::new(file.clone());
        state.files.insert(
            sequence,
            FileInUse {
                file,
                used_bytes: 0,
            },
        );
    }

    /// Takes out the files older than this one, and notes how long the newest is.
    pub(super) fn remove_files_below(
        &self,
        sequence: u64,
        active_bytes: u64,
    ) -> Vec<(PathBuf, u64)> {
        let mut state = self.lock();
        state.active_bytes = active_bytes;
        let kept = state.files.split_off(&sequence);
        let removed = std::mem::replace(&mut state.files, kept);
        removed
            .into_values()
            .map(|file| (file.file.path.clone(), file.used_bytes))
            .collect()
    }

    pub(super) fn held_bytes(&self) -> u64 {
        let state = self.lock();
        state
            .files
            .values()
            .map(|file| file.used_bytes)
            .sum::<u64>()
            + state.active_bytes
    }

    /// Fails the journal: tells everybody who asked to know, then answers everything queued.
    pub(super) fn fail(&self, error: JournalError) {
        let mut state = self.lock();
        if state.failed.is_none() {
            tracing::error!(%error, "journal has failed");
            state.failed = Some(error.clone());
        }
        let queued = std::mem::take(&mut state.queue);
        let on_failure = std::mem::take(&mut state.on_failure);
        drop(state);
        on_failure.into_iter().for_each(|f| f(error.clone()));
        queued
            .into_iter()
            .for_each(|queued| (queued.synced)(Err(error.clone())));
    }

    pub(super) fn on_failure(&self, f: OnFailure) {
        let mut state = self.lock();
        match state.failed.clone() {
            Some(error) => {
                drop(state);
                f(error);
            }
            None => state.on_failure.push(f),
        }
    }

    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.work.notify_all();
    }
}

fn frame_bytes(pieces: &[Bytes]) -> usize {
    format::frame_bytes(pieces.iter().map(Bytes::len).sum())
}

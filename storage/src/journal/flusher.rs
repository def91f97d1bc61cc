//! The flusher thread: takes what is queued, writes it as one round, syncs, calls back, and again.
//!
//! It alone writes to files in use. A round starts only when the one before is durable, or, in the
//! modes that answer before the sync, says how many before it are not known to be. A failed write
//! or sync is never retried: the journal has failed, and every waiting and later call errs.

use std::sync::Arc;

use bytes::Bytes;

use super::behind::Behind;
use super::format::{self, FLAG_ALL, FrameHead, Kind, RoundEncoder};
use super::index::FilePlace;
use super::ledger::Ledger;
use super::pool::{JournalFile, Pool};
use super::shared::{Batch, Change, Queued, Shared};
use super::{JournalError, Synced};
use crate::bugs::{self, Bug};
use crate::{LogIndex, LogPosition, ShardId};

#[derive(Debug)]
pub(super) struct Flusher {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    /// What is written and not synced; `None` when each round is synced before it is answered.
    behind: Option<Arc<Behind>>,
    /// Files below the second may go once the first, a round, is durable.
    reclaimable: Option<(u64, u64)>,
    /// What the log says up to the round before; read and written by this thread alone.
    ledger: Ledger,
    file: JournalFile,
    /// Where the next round goes.
    position: u64,
    next_round: u64,
    /// Nothing was written since the seal.
    is_sealed: bool,
    fill_asked: bool,
}

/// A frame and its payload, not yet laid out.
type QueuedFrame = (FrameHead, Arc<[Bytes]>);

/// An entry that this round has written.
struct Written {
    shard: ShardId,
    index: LogIndex,
    pieces: Arc<[Bytes]>,
    place: FilePlace,
}

impl Flusher {
    /// A flusher that starts at the front of `file`, behind what `ledger` says.
    pub(super) fn new(
        shared: Arc<Shared>,
        pool: Arc<Pool>,
        behind: Option<Arc<Behind>>,
        ledger: Ledger,
        file: JournalFile,
        next_round: u64,
    ) -> Flusher {
        let position = format::FILE_HEADER_BYTES as u64;
        Flusher {
            shared,
            pool,
            behind,
            reclaimable: None,
            ledger,
            file,
            position,
            next_round,
            is_sealed: false,
            fill_asked: false,
        }
    }

    /// The thread.
    pub(super) fn run(mut self) {
        let guard = DeathGuard {
            shared: self.shared.clone(),
        };
        while let Some(batch) = self.shared.next_batch() {
            if !self.flush(batch) {
                break;
            }
        }
        if !self.is_sealed && self.shared.failed().is_none() {
            let seal = FrameHead {
                kind: Kind::Seal,
                flags: 0,
                shard: ShardId::default(),
                position: LogPosition::default(),
            };
            let sealed = self
                .write_round(&[(seal, Arc::new([]))])
                .and_then(|_| self.wait_synced());
            if let Err(error) = sealed {
                self.shared.fail(error);
            }
        }
        drop(guard);
    }

    /// Makes a batch durable and calls back; false when the journal has failed.
    fn flush(&mut self, batch: Batch) -> bool {
        let is_always_synced =
            (batch.queued.iter()).any(|queued| self.shared.is_always_synced(queued));
        let (frames, callbacks) = frames_of(batch);
        let must_sync = self.pool.is_short_of_space() || is_always_synced;
        let written = self.write_round(&frames).and_then(|written| {
            if must_sync {
                self.wait_synced()?;
            }
            Ok(written)
        });
        match written {
            Ok(written) => {
                self.shared.settle(
                    written.into_iter().map(|written| {
                        (written.shard, written.index, written.pieces, written.place)
                    }),
                );
                self.reclaim();
                callbacks.into_iter().for_each(|synced| synced(Ok(())));
                true
            }
            Err(error) => {
                // First the state, so that a callback already finds the journal failed.
                self.shared.fail(error.clone());
                callbacks
                    .into_iter()
                    .for_each(|synced| synced(Err(error.clone())));
                false
            }
        }
    }

    /// Writes and syncs one round of these frames.
    fn write_round(&mut self, frames: &[QueuedFrame]) -> Result<Vec<Written>, JournalError> {
        if frames.is_empty() {
            return Ok(Vec::new());
        }
        let bytes: usize = frames.iter().map(|(_, payload)| frame_bytes(payload)).sum();
        let mut state = self.state_frame();
        let needs = |state: &Option<QueuedFrame>| {
            (bytes
                + state
                    .as_ref()
                    .map_or(0, |(_, payload)| frame_bytes(payload))) as u64
        };
        let end = |position: u64, state: &Option<QueuedFrame>| {
            format::align_round(position + needs(state)) + format::NEXT_ROUND_BYTES
        };
        if state.is_none() && end(self.position, &state) > self.file.len {
            self.roll()?;
            state = self.state_frame();
        }
        let end = end(self.position, &state);
        if end > self.file.len {
            self.pool.extend(&mut self.file, end)?;
        }
        self.put_round(state.as_ref(), frames)
    }

    /// Writes and syncs one round where there is room for it.
    fn put_round(
        &mut self,
        state: Option<&QueuedFrame>,
        frames: &[QueuedFrame],
    ) -> Result<Vec<Written>, JournalError> {
        let count = frames.len() + usize::from(state.is_some());
        let count = u32::try_from(count).expect("a round is bounded in bytes");
        let unsynced = self
            .behind
            .as_ref()
            .map_or(0, |behind| self.next_round - 1 - behind.synced_round());
        let mut encoder = RoundEncoder::new(
            self.file.identity,
            self.next_round,
            self.position,
            u16::try_from(unsynced).expect("bounded where they are noted"),
            count,
        );
        let mut written = Vec::new();
        for (head, payload) in state.into_iter().chain(frames) {
            let position = encoder.push(*head, payload);
            if head.kind == Kind::Entry {
                let payload_len = payload.iter().map(Bytes::len).sum::<usize>();
                written.push(Written {
                    shard: head.shard,
                    index: head.position.index,
                    pieces: payload.clone(),
                    place: FilePlace {
                        file: self.file.identity.sequence,
                        position,
                        payload_len: u32::try_from(payload_len).expect("checked on append"),
                    },
                });
            }
        }
        let (pieces, bytes) = encoder.finish();
        if bugs::is_on(Bug::AckBeforeFsync) {
            self.sync_file()?;
        }
        self.file
            .file
            .write_vectored_all_at(&pieces, self.position)
            .map_err(JournalError::io("write", &self.file.path))?;
        match &self.behind {
            Some(behind) => behind.note_written(&self.file, self.next_round, bytes)?,
            None if bugs::is_on(Bug::AckBeforeFsync) && !ends_file(frames) => {}
            None => self.sync_file()?,
        }

        self.next_round += 1;
        self.position = format::align_round(self.position + bytes);
        self.is_sealed = frames
            .last()
            .is_some_and(|(head, _)| head.kind == Kind::Seal);
        for (head, payload) in frames {
            let whole = || payload.concat().into();
            self.ledger.apply(head, whole, self.file.identity.sequence);
        }
        Ok(written)
    }

    fn sync_file(&self) -> Result<(), JournalError> {
        let synced = self.file.file.sync_data();
        let synced = match synced {
            Err(_) if bugs::is_on(Bug::FailedFsyncBelieved) => Ok(()),
            synced => synced,
        };
        synced.map_err(JournalError::io("sync", &self.file.path))
    }

    /// The frame that a file starts with, while nothing is in it.
    fn state_frame(&self) -> Option<QueuedFrame> {
        if !self.is_fresh() {
            return None;
        }
        let head = FrameHead {
            kind: Kind::State,
            flags: 0,
            shard: ShardId::default(),
            position: LogPosition::default(),
        };
        Some((head, Arc::new([format::encode_state(&self.ledger)])))
    }

    /// Whether nothing has been written to the file in use: then it stands for nothing yet.
    fn is_fresh(&self) -> bool {
        self.position == format::FILE_HEADER_BYTES as u64
    }

    /// Waits until everything written is durable.
    fn wait_synced(&self) -> Result<(), JournalError> {
        self.behind
            .as_ref()
            .map_or(Ok(()), |behind| behind.wait_synced())
    }

    fn roll(&mut self) -> Result<(), JournalError> {
        if self.pool.is_short_of_space() {
            // What may be recycled then is recycled now: there may be no other space.
            self.wait_synced()?;
            self.reclaim();
        }
        let file = self.pool.next_file()?;
        assert!(
            file.identity.sequence > self.file.identity.sequence,
            "files follow one another"
        );
        self.put_round(None, &[(format::next_frame(), Arc::new([]))])?;
        self.shared.add_file(&file, self.position);
        tracing::debug!(sequence = file.identity.sequence, "journal starts a file");
        self.file = file;
        self.position = format::FILE_HEADER_BYTES as u64;
        self.fill_asked = false;
        Ok(())
    }

    /// Files below this may go. What freed them must be durable, and so must the state that the
    /// file in use begins with: that is so of what was free some rounds ago.
    fn removable(&mut self, oldest_needed: u64) -> u64 {
        let Some(behind) = &self.behind else {
            return oldest_needed;
        };
        let synced_round = behind.synced_round();
        let free = self
            .reclaimable
            .take_if(|(round, _)| *round <= synced_round)
            .map_or(0, |(_, file)| file);
        if self.next_round - 1 <= synced_round {
            return oldest_needed;
        }
        self.reclaimable
            .get_or_insert((self.next_round - 1, oldest_needed));
        free
    }

    /// Gives back files that nothing needs any more: this one starts with the state of all before.
    fn reclaim(&mut self) {
        if self.is_fresh() {
            return;
        }
        let active = self.file.identity.sequence;
        let oldest_needed = self
            .ledger
            .oldest_file()
            .map_or(active, |oldest| oldest.min(active));
        let oldest_needed = match bugs::is_on(Bug::JournalRecycledEarly) {
            true => (oldest_needed + 1).min(active),
            false => oldest_needed,
        };
        let removable = self.removable(oldest_needed);
        let retired = self.shared.remove_files_below(removable, self.position);
        if !retired.is_empty() {
            self.pool.retire(retired);
        }
        if !self.fill_asked && self.position > self.file.len / 8 {
            self.fill_asked = true;
            self.pool.fill();
        }
    }
}

/// Whether these say that the journal goes on in another file, or ends.
fn ends_file(frames: &[QueuedFrame]) -> bool {
    let ends = |(head, _): &QueuedFrame| matches!(head.kind, Kind::Next | Kind::Seal);
    frames.iter().any(ends)
}

/// The frames of a batch, and whom to call when they are durable.
fn frames_of(batch: Batch) -> (Vec<QueuedFrame>, Vec<Synced>) {
    let mut frames = Vec::with_capacity(batch.queued.len() + batch.committed.len());
    let mut callbacks = Vec::with_capacity(batch.queued.len());
    let head = |kind, flags, shard, position| FrameHead {
        kind,
        flags,
        shard,
        position,
    };
    let none = LogPosition::default();
    for Queued {
        shard,
        change,
        synced,
        ..
    } in batch.queued
    {
        callbacks.push(synced);
        let frame = match change {
            Change::Append { entries, .. } => {
                frames.extend(
                    entries
                        .into_iter()
                        .map(|(position, pieces)| (head(Kind::Entry, 0, shard, position), pieces)),
                );
                continue;
            }
            Change::Vote(vote) => (head(Kind::Vote, 0, shard, none), Arc::from([vote])),
            Change::Truncate(Some(kept)) => (head(Kind::Truncate, 0, shard, kept), Arc::from([])),
            Change::Truncate(None) => (head(Kind::Truncate, FLAG_ALL, shard, none), Arc::from([])),
            Change::Purge { upto, all } => {
                let flags = if all { FLAG_ALL } else { 0 };
                (head(Kind::Purge, flags, shard, upto), Arc::from([]))
            }
            Change::RemoveShard => (head(Kind::RemoveShard, 0, shard, none), Arc::from([])),
        };
        frames.push(frame);
    }
    for (shard, committed) in batch.committed {
        frames.push((
            head(Kind::Committed, 0, shard, none),
            Arc::from([committed]),
        ));
    }
    (frames, callbacks)
}

fn frame_bytes(payload: &[Bytes]) -> usize {
    format::frame_bytes(payload.iter().map(Bytes::len).sum())
}

/// Fails the journal when the thread dies, so that nobody waits for it for ever.
struct DeathGuard {
    shared: Arc<Shared>,
}

impl Drop for DeathGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.fail(JournalError::FlusherDied);
        }
    }
}

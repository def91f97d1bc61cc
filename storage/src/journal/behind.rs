//! [`Behind`]: syncs behind the flusher, in the modes that answer before the sync.
//!
//! Rounds become durable in order: a file is synced whole before any later one, so that what is
//! known to be synced is always a number of rounds from the first on. A failed sync is never tried
//! again: nothing is synced any more and the journal has failed.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::JournalError;
use super::pool::JournalFile;
use crate::Durability;
use crate::disk::DiskFile;
use crate::turns::Condvar;

/// Rounds that may be written and not synced, in any mode: their frames count them in 16 bits.
const UNSYNCED_ROUNDS_MAX: u64 = 60_000;

/// Rounds written to one file and not known to be synced.
#[derive(Debug)]
struct Written {
    file: DiskFile,
    path: PathBuf,
    sequence: u64,
    /// The last of them.
    round: u64,
}

#[derive(Debug, Default)]
struct State {
    /// By file, oldest first.
    written: VecDeque<Written>,
    unsynced_bytes: u64,
    /// Somebody waits for what is written.
    is_urgent: bool,
    error: Option<JournalError>,
    is_stopped: bool,
}

/// What is written and not synced, shared by the flusher and the thread that syncs.
#[derive(Debug)]
pub(super) struct Behind {
    durability: Durability,
    state: Mutex<State>,
    /// There is something to sync.
    work: Condvar,
    /// Something was synced, or will never be.
    done: Condvar,
    synced_round: AtomicU64,
}

impl Behind {
    /// All rounds up to `synced_round` are durable.
    pub(super) fn new(durability: Durability, synced_round: u64) -> Behind {
        Behind {
            durability,
            state: Mutex::default(),
            work: Condvar::new(),
            done: Condvar::new(),
            synced_round: AtomicU64::new(synced_round),
        }
    }

    /// The last round that is known to be durable, with all before it.
    pub(super) fn synced_round(&self) -> u64 {
        self.synced_round.load(Ordering::Acquire)
    }

    /// Notes a round that is written.
    ///
    /// # Errors
    /// When nothing is synced any more.
    pub(super) fn note_written(
        &self,
        file: &JournalFile,
        round: u64,
        bytes: u64,
    ) -> Result<(), JournalError> {
        let mut state = self.lock();
        if let Some(error) = &state.error {
            return Err(error.clone());
        }
        state.unsynced_bytes += bytes;
        let sequence = file.identity.sequence;
        match state.written.back_mut() {
            Some(newest) if newest.sequence == sequence => newest.round = round,
            _ => state.written.push_back(Written {
                file: file.file.clone(),
                path: file.path.clone(),
                sequence,
                round,
            }),
        }
        let is_too_far = round - self.synced_round() >= UNSYNCED_ROUNDS_MAX;
        state.is_urgent |= is_too_far;
        let is_first = state.written.len() == 1 && state.unsynced_bytes == bytes;
        if is_first || self.is_due(&state) {
            self.work.notify_one();
        }
        drop(state);
        if is_too_far {
            self.wait_synced()
        } else {
            Ok(())
        }
    }

    /// Waits until everything written is durable.
    pub(super) fn wait_synced(&self) -> Result<(), JournalError> {
        let mut state = self.lock();
        while !state.written.is_empty() && state.error.is_none() {
            state.is_urgent = true;
            self.work.notify_one();
            state = self
                .done
                .wait(&self.state, state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.error.clone().map_or(Ok(()), Err)
    }

    /// Ends the thread. What is not synced then stays so.
    pub(super) fn stop(&self) {
        self.lock().is_stopped = true;
        self.work.notify_all();
    }

    /// The thread. Calls `on_failure` when a sync has failed, and ends.
    pub(super) fn run(&self, on_failure: impl FnOnce(JournalError)) {
        while let Some((file, path, round, sequence)) = self.next_work() {
            let synced = file.sync_data().map_err(JournalError::io("sync", &path));
            let mut state = self.lock();
            match synced {
                Ok(()) => {
                    self.synced_round.store(round, Ordering::Release);
                    if state
                        .written
                        .front()
                        .is_some_and(|oldest| (oldest.sequence, oldest.round) == (sequence, round))
                    {
                        state.written.pop_front();
                    }
                    self.done.notify_all();
                }
                Err(error) => {
                    state.error = Some(error.clone());
                    drop(state);
                    self.done.notify_all();
                    on_failure(error);
                    return;
                }
            }
        }
    }

    /// Waits until something is due and says what to sync: the oldest file, up to what round.
    fn next_work(&self) -> Option<(DiskFile, PathBuf, u64, u64)> {
        let mut state = self.lock();
        let mut has_waited = false;
        loop {
            if state.is_stopped {
                return None;
            }
            if state.written.is_empty() {
                state.is_urgent = false;
                has_waited = false;
                state = self
                    .work
                    .wait(&self.state, state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            if self.is_due(&state) || has_waited {
                let is_newest = state.written.len() == 1;
                if is_newest {
                    state.unsynced_bytes = 0;
                    state.is_urgent = false;
                }
                let oldest = state.written.front()?;
                let (file, path) = (oldest.file.clone(), oldest.path.clone());
                return Some((file, path, oldest.round, oldest.sequence));
            }
            state = match self.durability {
                Durability::Interval { ms, .. } => {
                    let (state, is_over) = self
                        .work
                        .wait_timeout(&self.state, state, Duration::from_millis(ms))
                        .unwrap_or_else(PoisonError::into_inner);
                    has_waited = is_over;
                    state
                }
                Durability::Fsync | Durability::Os => self
                    .work
                    .wait(&self.state, state)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Whether the oldest file is to be synced now: a file left behind always is.
    fn is_due(&self, state: &State) -> bool {
        let limit = match self.durability {
            Durability::Interval { bytes, .. } => bytes,
            Durability::Fsync | Durability::Os => u64::MAX,
        };
        state.is_urgent || state.written.len() > 1 || state.unsynced_bytes >= limit
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

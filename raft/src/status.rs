//! What the parts of one shard tell each other and the outside: how far apply has come, who leads,
//! when a checkpoint is due, and why the shard ended.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use storage::{LogIndex, LogPosition, Term};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::inspect::Applied;
use crate::{Leadership, Members, ProposeError, UnknownReason};

/// A shard makes a checkpoint, however little it wrote, after this many times the bytes of its own
/// threshold were written by all shards: an idle shard must not hold old journal files.
const NODE_BYTES_FACTOR: u64 = 4;

/// Why a shard takes nothing more. The first reason stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Its owner closed it.
    Closed,
    /// A write or sync of the journal failed.
    JournalFailed,
    /// openraft or the state machine stopped.
    Failed,
}

impl End {
    /// The answer to an operation that was in the log, or may have been.
    pub(crate) fn unknown(self) -> ProposeError {
        let reason = match self {
            End::Closed => UnknownReason::ShuttingDown,
            End::JournalFailed => UnknownReason::JournalFailed,
            End::Failed => UnknownReason::ShardFailed,
        };
        ProposeError::Unknown { reason }
    }

    /// The answer to an operation that never reached the log.
    pub(crate) fn refused(self) -> ProposeError {
        match self {
            End::Closed => ProposeError::ShuttingDown,
            End::JournalFailed | End::Failed => self.unknown(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Status {
    state: Mutex<State>,
    checkpoint_bytes: u64,
    pub(crate) leadership: watch::Sender<Leadership>,
    pub(crate) members: watch::Sender<Members>,
    /// When `leadership` changed last.
    leadership_changed: Mutex<Option<Instant>>,
    /// Leads without having heard from a majority for too long.
    isolated: watch::Sender<bool>,
    /// Term in which leadership was given away here. openraft takes no more operations in it, also
    /// when nobody takes the place.
    handed_over: watch::Sender<Option<Term>>,
    /// Term of the last applied entry.
    applied_term: watch::Sender<Option<Term>>,
    /// Index of the last applied entry.
    applied_index: watch::Sender<Option<LogIndex>>,
    /// When the last heartbeat came that was taken for the leader's.
    heard: Mutex<Option<Instant>>,
    end: watch::Sender<Option<End>>,
    /// A checkpoint is due.
    pub(crate) checkpoint_due: Notify,
    /// The state machine is gone.
    machine_gone: watch::Sender<bool>,
    /// For the checks of the simulation.
    pub(crate) applied_entries: Applied,
}

#[derive(Debug)]
struct State {
    applied: Option<LogPosition>,
    /// `Log::appended_bytes` when the last checkpoint began, and what it captured.
    checkpoint_at: (u64, u64),
    captured: Option<LogPosition>,
    due: bool,
}

impl Status {
    pub(crate) fn new(checkpoint_bytes: u64) -> Status {
        Status {
            state: Mutex::new(State {
                applied: None,
                checkpoint_at: (0, 0),
                captured: None,
                due: false,
            }),
            checkpoint_bytes,
            leadership: watch::Sender::new(Leadership::default()),
            members: watch::Sender::new(Members::default()),
            leadership_changed: Mutex::new(None),
            isolated: watch::Sender::new(false),
            handed_over: watch::Sender::new(None),
            applied_term: watch::Sender::new(None),
            applied_index: watch::Sender::new(None),
            heard: Mutex::new(None),
            end: watch::Sender::new(None),
            checkpoint_due: Notify::new(),
            machine_gone: watch::Sender::new(false),
            applied_entries: Applied::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Apply has come to `position`, with this many bytes appended by shard and node.
    pub(crate) fn applied(&self, position: LogPosition, appended: (u64, u64)) {
        {
            self.state().applied = Some(position);
        }
        self.applied_term.send_if_modified(|term| {
            let changed = *term != Some(position.term);
            *term = Some(position.term);
            changed
        });
        // Nobody is woken unless somebody waits, which is while the shard opens.
        self.applied_index.send_replace(Some(position.index));
        self.pace(appended);
    }

    pub(crate) fn applied_index(&self) -> watch::Receiver<Option<LogIndex>> {
        self.applied_index.subscribe()
    }

    pub(crate) fn is_isolated(&self) -> bool {
        *self.isolated.borrow()
    }

    pub(crate) fn watch_isolated(&self) -> watch::Receiver<bool> {
        self.isolated.subscribe()
    }

    pub(crate) fn set_isolated(&self, isolated: bool) {
        self.isolated
            .send_if_modified(|held| std::mem::replace(held, isolated) != isolated);
    }

    /// Gives leadership away for the rest of the term that is shown.
    pub(crate) fn hand_over(&self) {
        let term = self.leadership.borrow().term;
        self.handed_over.send_replace(Some(term));
    }

    pub(crate) fn watch_handed_over(&self) -> watch::Receiver<Option<Term>> {
        self.handed_over.subscribe()
    }

    /// Shows who leads.
    pub(crate) fn show_leadership(&self, now: Leadership) {
        let shown = self.leadership.borrow();
        if *shown == now {
            return;
        }
        drop(shown);
        // Before it shows, so that nobody sees the change without its time.
        *self.leadership_changed() = Some(Instant::now());
        self.leadership.send_replace(now);
    }

    fn leadership_changed(&self) -> MutexGuard<'_, Option<Instant>> {
        let changed = self.leadership_changed.lock();
        changed.unwrap_or_else(PoisonError::into_inner)
    }

    /// How long ago what is shown of leadership changed last.
    pub(crate) fn leadership_age(&self) -> Option<Duration> {
        self.leadership_changed().map(|at| at.elapsed())
    }

    /// A heartbeat that came `at` was taken for the leader's.
    pub(crate) fn hear(&self, at: Instant) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        *heard = (*heard).max(Some(at));
    }

    /// When the last one came.
    pub(crate) fn heard(&self) -> Option<Instant> {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn last_applied(&self) -> Option<LogPosition> {
        self.state().applied
    }

    pub(crate) fn applied_term(&self) -> watch::Receiver<Option<Term>> {
        self.applied_term.subscribe()
    }

    /// A checkpoint captures the state now.
    pub(crate) fn checkpoint_begins(&self, appended: (u64, u64)) {
        let mut state = self.state();
        state.checkpoint_at = appended;
        state.captured = state.applied;
        state.due = false;
    }

    /// Asks for a checkpoint when enough was appended since the last; once per checkpoint.
    pub(crate) fn pace(&self, appended: (u64, u64)) {
        let mut state = self.state();
        let (shard, node) = (
            appended.0.saturating_sub(state.checkpoint_at.0),
            appended.1.saturating_sub(state.checkpoint_at.1),
        );
        let held_by_all = self.checkpoint_bytes.saturating_mul(NODE_BYTES_FACTOR);
        let due = shard >= self.checkpoint_bytes
            || (state.applied != state.captured && node >= held_by_all);
        if due && !state.due {
            state.due = true;
            self.checkpoint_due.notify_one();
        }
    }

    /// Bytes this shard appended since its last checkpoint began, in thresholds.
    pub(crate) fn overdue(&self, appended: (u64, u64)) -> u64 {
        appended.0.saturating_sub(self.state().checkpoint_at.0) / self.checkpoint_bytes
    }

    /// A checkpoint could not be made: it is due again after as many bytes.
    pub(crate) fn checkpoint_failed(&self, appended: (u64, u64)) {
        let mut state = self.state();
        state.checkpoint_at = appended;
        state.captured = None;
        state.due = false;
    }

    /// Ends the shard, unless it has ended.
    pub(crate) fn end(&self, end: End) {
        self.end.send_if_modified(|held| {
            let first = held.is_none();
            held.get_or_insert(end);
            first
        });
    }

    /// The state machine is dropped: nothing touches its state any more.
    pub(crate) fn machine_gone(&self) {
        self.machine_gone.send_replace(true);
    }

    pub(crate) fn watch_machine_gone(&self) -> watch::Receiver<bool> {
        self.machine_gone.subscribe()
    }

    pub(crate) fn ended(&self) -> Option<End> {
        *self.end.borrow()
    }

    pub(crate) fn watch_end(&self) -> watch::Receiver<Option<End>> {
        self.end.subscribe()
    }
}

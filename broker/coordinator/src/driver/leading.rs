//! The instance that leads: its state, what it has appended that is not committed, its timers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::coordinator::Coordinator;
use crate::effects::{ReplyId, TimerChange};
use crate::record::Encoded;

/// A batch that is appended and not committed, with the answers that wait for it.
pub(super) struct InFlight<C: Coordinator> {
    pub(super) records: Vec<Encoded>,
    pub(super) answers: Vec<(ReplyId, C::Response)>,
    pub(super) commits_at_ms: i64,
}

pub(super) struct Leading<C: Coordinator> {
    pub(super) node: usize,
    /// With everything appended replayed, committed or not.
    pub(super) state: C,
    /// In the order of the log.
    pub(super) in_flight: VecDeque<InFlight<C>>,
    timers: Timers<C::Timer>,
}

impl<C: Coordinator> Leading<C> {
    pub(super) fn new(node: usize, state: C) -> Self {
        Self {
            node,
            state,
            in_flight: VecDeque::new(),
            timers: Timers::default(),
        }
    }

    pub(super) fn change_timers(&mut self, changes: Vec<TimerChange<C::Timer>>) {
        for change in changes {
            match change {
                TimerChange::Set(timer, at_ms) => self.timers.set(timer, at_ms),
                TimerChange::Cancel(timer) => self.timers.cancel(&timer),
            }
        }
    }

    /// When something happens by itself: a commit or a timer.
    pub(super) fn next_at_ms(&self) -> Option<i64> {
        let commit = self.in_flight.front().map(|batch| batch.commits_at_ms);
        commit.into_iter().chain(self.timers.first()).min()
    }

    /// The first timer that is due.
    pub(super) fn due_timer(&mut self, now_ms: i64) -> Option<C::Timer> {
        self.timers.take_due(now_ms)
    }
}

/// Timers by time; those of one time in the order in which they were set.
struct Timers<T> {
    by_key: BTreeMap<T, (i64, u64)>,
    by_time: BTreeMap<(i64, u64), T>,
    set_ever: u64,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self {
            by_key: BTreeMap::new(),
            by_time: BTreeMap::new(),
            set_ever: 0,
        }
    }
}

impl<T: Ord + Clone> Timers<T> {
    fn set(&mut self, timer: T, at_ms: i64) {
        self.cancel(&timer);
        self.set_ever += 1;
        let place = (at_ms, self.set_ever);
        self.by_key.insert(timer.clone(), place);
        self.by_time.insert(place, timer);
    }

    fn cancel(&mut self, timer: &T) {
        if let Some(place) = self.by_key.remove(timer) {
            self.by_time.remove(&place);
        }
    }

    fn first(&self) -> Option<i64> {
        self.by_time.first_key_value().map(|((at_ms, _), _)| *at_ms)
    }

    fn take_due(&mut self, now_ms: i64) -> Option<T> {
        let entry = self.by_time.first_entry()?;
        if entry.key().0 > now_ms {
            return None;
        }
        let timer = entry.remove();
        self.by_key.remove(&timer);
        Some(timer)
    }
}

/// Replies that nobody has answered yet, and which were.
#[derive(Debug, Default)]
pub(super) struct Replies {
    last: u64,
    waiting: BTreeSet<ReplyId>,
}

impl Replies {
    pub(super) fn next(&mut self) -> ReplyId {
        self.last += 1;
        let reply = ReplyId(self.last);
        self.waiting.insert(reply);
        reply
    }

    /// The coordinator answers, now or at a commit to come.
    pub(super) fn answered(&mut self, reply: ReplyId) {
        assert!(
            self.waiting.remove(&reply),
            "{reply:?} is answered twice, or was never asked"
        );
    }

    /// The leader is gone: those that wait are told so.
    pub(super) fn take_waiting(&mut self) -> BTreeSet<ReplyId> {
        std::mem::take(&mut self.waiting)
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

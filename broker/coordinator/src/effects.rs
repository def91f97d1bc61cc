//! What a call of a coordinator wants done.

use crate::coordinator::Coordinator;

/// The one who waits for an answer. Given by the runtime, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyId(pub u64);

/// What the one who waits gets, exactly once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<R> {
    /// What the coordinator answered; the records that it builds on are committed.
    Answered(R),
    /// The leadership was lost, or an append failed, before the answer was certain. What the command
    /// asked for may have happened or not; another leader knows.
    Resigned,
}

/// A change of the timers. There is at most one timer of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimerChange<T> {
    /// Fires once, at this time or soon after it; takes the place of the timer of this key.
    Set(T, i64),
    /// Does not fire any more; nothing if there is none.
    Cancel(T),
}

/// What one call of a coordinator wants done.
#[derive(Debug)]
pub struct Effects<C: Coordinator> {
    records: Vec<C::Record>,
    answers: Vec<(ReplyId, C::Response)>,
    timers: Vec<TimerChange<C::Timer>>,
}

impl<C: Coordinator> Default for Effects<C> {
    fn default() -> Self {
        Self {
            records: Vec::new(),
            answers: Vec::new(),
            timers: Vec::new(),
        }
    }
}

impl<C: Coordinator> Effects<C> {
    /// No effects yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a record. All records of one call are one batch: all of them are committed, in this
    /// order, or none.
    pub fn append(&mut self, record: C::Record) {
        self.records.push(record);
    }

    /// Answers a command: this one or an earlier one. The answer is sent when the records of this
    /// call and all that were appended before are committed.
    pub fn answer(&mut self, reply: ReplyId, response: C::Response) {
        self.answers.push((reply, response));
    }

    /// Sets a timer that fires once, in place of the one of this key if there is one.
    pub fn set_timer(&mut self, timer: C::Timer, at_ms: i64) {
        self.timers.push(TimerChange::Set(timer, at_ms));
    }

    /// Takes a timer away; nothing if there is none.
    pub fn cancel_timer(&mut self, timer: C::Timer) {
        self.timers.push(TimerChange::Cancel(timer));
    }

    /// The records to append, in order.
    #[must_use]
    pub fn records(&self) -> &[C::Record] {
        &self.records
    }

    /// The answers, in order.
    #[must_use]
    pub fn answers(&self) -> &[(ReplyId, C::Response)] {
        &self.answers
    }

    /// The changes of timers, to be made in order.
    #[must_use]
    pub fn timers(&self) -> &[TimerChange<C::Timer>] {
        &self.timers
    }

    /// All of it: records, answers, changes of timers.
    #[must_use]
    #[expect(clippy::type_complexity, reason = "three lists, named by the fields")]
    pub fn into_parts(
        self,
    ) -> (
        Vec<C::Record>,
        Vec<(ReplyId, C::Response)>,
        Vec<TimerChange<C::Timer>>,
    ) {
        (self.records, self.answers, self.timers)
    }
}

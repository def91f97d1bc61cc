//! Runs a coordinator in virtual time, for the tests of every coordinator.
//!
//! There are three replicas and a log. The leader's calls append batches that commit after a drawn
//! delay, in order, or are lost with the leader; replicas replay what is committed, from bytes.
//!
//! # What whoever runs a coordinator promises
//!
//! The driver keeps these rules, and so must the runtime on real nodes:
//!
//! 1. `handle` and `timer_fired` are called on one instance only, the leader's, one call at a time.
//! 2. After each call, before the next: its records are replayed on that instance, its changes of
//!    timers are made in order, its records are appended as one batch that is committed as a whole or
//!    not at all. Batches are committed in the order of the calls.
//! 3. An answer is sent when the records of its call and of all earlier calls are committed. When
//!    there are none it is a read: it is sent when it is certain that the node still led during the
//!    call (it has a lease, or has heard of a majority since). It is sent once.
//! 4. A timer fires once, not before its time. One that was cancelled, replaced, or set by a leader
//!    that is no more does not fire. Timers that are due fire in the order of their times.
//! 5. Replicas replay committed records only, each once, in the order of the log. Records of kinds
//!    that are not known are passed over.
//! 6. When an append fails or the leadership is lost, the leader's instance is thrown away with its
//!    soft state, its timers and its answers; everybody who was not answered gets
//!    [`Outcome::Resigned`]. What was appended and not known to be committed may still commit.
//! 7. A new leader is a clone of a replica that has replayed everything committed, by whichever leader
//!    (so: after an entry of its own term is committed); then `became_leader` is called, then others.
//! 8. `now_ms` is the time of day, as far as the node knows it, and never falls while an instance
//!    leads. It may fall from one leader to the next.
//! 9. The log may be compacted: of several records of one key the last stays, in its place, and a last
//!    one that is a tombstone may go.
//!
//! # What the driver checks
//!
//! No reply is answered twice, and none by nobody; calls change no hard state; after each change of
//! leader and at the end all replicas have the same hard state, the leader's is the same when nothing
//! is in flight, and replaying the compacted log from nothing gives it too.

mod draw;
mod leading;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

pub use draw::Draw;
use leading::{InFlight, Leading, Replies};

use crate::coordinator::Coordinator;
use crate::effects::{Effects, Outcome, ReplyId};
use crate::record::{Encoded, Record};

#[cfg(test)]
mod tests;

const REPLICAS: usize = 3;

/// How a driver behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What is drawn is drawn from this.
    pub seed: u64,
    /// How long a batch takes to commit, in milliseconds.
    pub commit_ms: Range<u64>,
    /// The time at the start.
    pub start_ms: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: 1,
            commit_ms: 1..20,
            start_ms: 1_700_000_000_000,
        }
    }
}

/// A coordinator with its log, replicas, clock and clients.
pub struct Driver<C: Coordinator> {
    /// What the coordinator sees of the world.
    pub context: Box<C::Context>,
    /// For tests that draw, too.
    pub draw: Draw,
    settings: Settings,
    now_ms: i64,
    /// What an instance is before any record.
    fresh: C,
    log: Vec<Encoded>,
    /// Each with how many records of the log it has replayed.
    replicas: Vec<(C, usize)>,
    leading: Leading<C>,
    replies: Replies,
    outcomes: BTreeMap<ReplyId, Outcome<C::Response>>,
}

impl<C: Coordinator> Driver<C> {
    /// Starts with an empty log and a leader.
    pub fn new(fresh: C, context: Box<C::Context>, settings: Settings) -> Self {
        let mut driver = Self {
            context,
            draw: Draw::new(settings.seed),
            now_ms: settings.start_ms,
            settings,
            log: Vec::new(),
            replicas: vec![(fresh.clone(), 0); REPLICAS],
            leading: Leading::new(0, fresh.clone()),
            fresh,
            replies: Replies::default(),
            outcomes: BTreeMap::new(),
        };
        driver.lead(0);
        driver
    }

    /// The time.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// The instance that leads.
    #[must_use]
    pub fn leader(&self) -> &C {
        &self.leading.state
    }

    /// The hard state that is committed.
    pub fn committed(&mut self) -> &C::Hard {
        self.catch_up(self.leading.node);
        self.replicas[self.leading.node].0.hard()
    }

    /// The committed records.
    #[must_use]
    pub fn log(&self) -> &[Encoded] {
        &self.log
    }

    /// How many commands wait for their answer.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.replies.waiting()
    }

    /// Sends a command. It is handled at once; its answer may come later.
    pub fn send(&mut self, command: C::Command) -> ReplyId {
        let reply = self.replies.next();
        self.call(|state, context, now_ms, effects| {
            state.handle(context, command, reply, now_ms, effects);
        });
        reply
    }

    /// Takes the outcome of a command, if it has one.
    pub fn take(&mut self, reply: ReplyId) -> Option<Outcome<C::Response>> {
        self.outcomes.remove(&reply)
    }

    /// Puts an outcome back that was taken.
    pub fn put_back(&mut self, reply: ReplyId, outcome: Outcome<C::Response>) {
        self.outcomes.insert(reply, outcome);
    }

    /// Sends a command and lets time pass until it is answered.
    ///
    /// # Panics
    /// When it is not answered within a minute, or the leader resigns.
    pub fn ask(&mut self, command: C::Command) -> C::Response {
        let reply = self.send(command);
        let until_ms = self.now_ms + 60_000;
        loop {
            match self.take(reply) {
                Some(Outcome::Answered(response)) => return response,
                Some(Outcome::Resigned) => panic!("{reply:?}: the leader resigned"),
                None => assert!(self.step(until_ms), "{reply:?} is not answered"),
            }
        }
    }

    /// Lets time pass, with all that happens in it.
    pub fn advance(&mut self, ms: i64) {
        let until_ms = self.now_ms + ms;
        while self.step(until_ms) {}
        self.now_ms = until_ms;
    }

    /// Lets the next thing happen that happens by itself, if that is not after this time.
    fn step(&mut self, until_ms: i64) -> bool {
        let Some(at_ms) = self.leading.next_at_ms().filter(|&at_ms| at_ms <= until_ms) else {
            return false;
        };
        self.now_ms = self.now_ms.max(at_ms);
        let batch = self.leading.in_flight.front();
        if batch.is_some_and(|batch| batch.commits_at_ms <= self.now_ms) {
            self.commit_first();
        } else if let Some(timer) = self.leading.due_timer(self.now_ms) {
            self.call(|state, context, now_ms, effects| {
                state.timer_fired(context, timer, now_ms, effects);
            });
        }
        true
    }

    fn commit_first(&mut self) {
        if let Some(batch) = self.leading.in_flight.pop_front() {
            self.log.extend(batch.records);
            for (reply, response) in batch.answers {
                self.outcomes.insert(reply, Outcome::Answered(response));
            }
        }
    }

    fn call(&mut self, call: impl FnOnce(&mut C, &C::Context, i64, &mut Effects<C>)) {
        let mut effects = Effects::new();
        let state = &mut self.leading.state;
        call(state, &self.context, self.now_ms, &mut effects);
        let (records, answers, timers) = effects.into_parts();
        for record in &records {
            state.replay(record);
        }
        self.leading.change_timers(timers);
        for (reply, _) in &answers {
            self.replies.answered(*reply);
        }
        if !records.is_empty() {
            let delay_ms = self.draw.below(self.settings.commit_ms.clone());
            let delay_ms = i64::try_from(delay_ms).expect("a short delay");
            let before = self.leading.in_flight.back();
            let before_ms = before.map_or(self.now_ms, |batch| batch.commits_at_ms);
            self.leading.in_flight.push_back(InFlight {
                records: records.iter().map(Record::encode).collect(),
                answers,
                commits_at_ms: before_ms.max(self.now_ms + delay_ms),
            });
        } else if let Some(last) = self.leading.in_flight.back_mut() {
            last.answers.extend(answers);
        } else {
            for (reply, response) in answers {
                self.outcomes.insert(reply, Outcome::Answered(response));
            }
        }
    }

    /// An append fails: the node starts over from what is committed.
    pub fn fail_append(&mut self) {
        self.resign();
        self.lead(self.leading.node);
    }

    /// Another node leads from now on.
    pub fn fail_over(&mut self) {
        self.resign();
        self.lead((self.leading.node + 1) % REPLICAS);
    }

    /// The leader is gone. A drawn number of the batches in flight is committed all the same.
    fn resign(&mut self) {
        let in_flight = u64::try_from(self.leading.in_flight.len()).expect("a length");
        let survive = self.draw.below(0..in_flight + 1);
        let batches = std::mem::take(&mut self.leading.in_flight);
        for (index, batch) in (0_u64..).zip(batches) {
            if index < survive {
                self.log.extend(batch.records);
            }
            for (reply, _) in batch.answers {
                self.outcomes.insert(reply, Outcome::Resigned);
            }
        }
        for reply in self.replies.take_waiting() {
            self.outcomes.insert(reply, Outcome::Resigned);
        }
    }

    fn lead(&mut self, node: usize) {
        self.check();
        self.leading = Leading::new(node, self.replicas[node].0.clone());
        self.call(|state, context, now_ms, effects| {
            state.became_leader(context, now_ms, effects);
        });
    }

    fn catch_up(&mut self, node: usize) {
        let (state, replayed) = &mut self.replicas[node];
        for record in &self.log[*replayed..] {
            state.replay(&decode::<C>(record));
        }
        *replayed = self.log.len();
    }

    /// Compares the replicas; see the module.
    ///
    /// # Panics
    /// When they differ.
    pub fn check(&mut self) {
        for node in 0..REPLICAS {
            self.catch_up(node);
        }
        let committed = self.replicas[0].0.hard();
        for (replica, _) in &self.replicas {
            assert!(replica.hard() == committed, "replicas differ");
        }
        let mut compacted = self.fresh.clone();
        for record in compact(&self.log) {
            compacted.replay(&decode::<C>(record));
        }
        let compacted = compacted.hard();
        assert!(
            compacted == committed,
            "the compacted log gives {compacted:#?}, the whole one {committed:#?}"
        );
    }

    /// Lets everything in flight commit and compares the replicas and the leader.
    ///
    /// # Panics
    /// When they differ.
    pub fn settle(&mut self) {
        while let Some(batch) = self.leading.in_flight.front() {
            self.now_ms = self.now_ms.max(batch.commits_at_ms);
            self.commit_first();
        }
        self.check();
        let (leader, committed) = (self.leading.state.hard(), self.replicas[0].0.hard());
        assert!(
            leader == committed,
            "the leader has {leader:#?}, the log says {committed:#?}"
        );
    }
}

fn decode<C: Coordinator>(record: &Encoded) -> C::Record {
    let decoded = C::Record::decode(&record.key, record.value.as_deref());
    decoded.unwrap_or_else(|error| panic!("{record:?}: {error}"))
}

/// The last record of each key, in the order of the log, without tombstones.
fn compact(log: &[Encoded]) -> Vec<&Encoded> {
    let mut seen = BTreeSet::new();
    let last = log.iter().rev().filter(|record| seen.insert(&record.key));
    let mut kept: Vec<&Encoded> = last.filter(|record| record.value.is_some()).collect();
    kept.reverse();
    kept
}

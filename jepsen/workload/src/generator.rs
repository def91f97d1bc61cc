//! [`Generator`]: what the clients of the workload `log` do next, drawn from a seed and biased to
//! what was sent and not seen yet.
//!
//! Some keys are hot, some cold, and some are first written long after the run began. The same
//! seed and the same order of questions and answers give the same operations.

use std::collections::BTreeMap;

use jepsen_check::history::{Key, Read, Value};

use crate::random::Random;

/// A send has so many values at most.
const VALUES_MAX: u64 = 4;
/// An assignment has so many keys at most.
const ASSIGNED_MAX: u64 = 4;
/// One send in so many goes to a key that nobody has written to.
const FRESH_ONE_IN: u64 = 30;

/// What a client does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Sends so many values.
    Send {
        /// Where to.
        key: Key,
        /// How many.
        values: usize,
    },
    /// Polls what it is assigned.
    Poll,
    /// Takes these instead.
    Assign(Vec<(Key, i64)>),
    /// Throws itself away.
    Crash,
}

/// The state behind the choices.
#[derive(Debug)]
pub struct Generator {
    random: Random,
    keys: Vec<KeyState>,
    /// How many of the keys, from the first on, are written to; the others are fresh.
    open: usize,
    /// One action in so many is a crash.
    crash_one_in: u64,
}

#[derive(Debug)]
struct KeyState {
    key: Key,
    /// Behind the highest offset known.
    end: i64,
    /// Acknowledged and not seen: value and offset.
    unseen: BTreeMap<Value, i64>,
}

impl Generator {
    /// Of these keys, half of them fresh at first. A client crashes once in so many actions.
    #[must_use]
    pub fn new(seed: Random, keys: Vec<Key>, crash_one_in: u64) -> Generator {
        let open = keys.len().div_ceil(2);
        let state = |key| KeyState {
            key,
            end: 0,
            unseen: BTreeMap::new(),
        };
        let keys = keys.into_iter().map(state).collect();
        Generator {
            random: seed,
            keys,
            open,
            crash_one_in: crash_one_in.max(1),
        }
    }

    /// What a client does next that reads on from these positions.
    pub fn next(&mut self, positions: &BTreeMap<Key, i64>) -> Action {
        if self.random.chance(1, self.crash_one_in) {
            return Action::Crash;
        }
        if positions.is_empty() {
            return self.assign();
        }
        let unseen: usize = self.keys.iter().map(|state| state.unseen.len()).sum();
        let sends_in_100 = if unseen > 3 * self.keys.len() { 40 } else { 55 };
        if self.random.chance(sends_in_100, 100) {
            return self.send();
        }
        let is_due = |state: &KeyState| {
            let position = positions.get(&state.key);
            position.is_some_and(|position| state.unseen.values().any(|offset| offset >= position))
        };
        let assigns_in_100 = if self.keys.iter().any(is_due) { 5 } else { 40 };
        match self.random.chance(assigns_in_100, 100) {
            true => self.assign(),
            false => Action::Poll,
        }
    }

    /// A send was acknowledged.
    pub fn sent(&mut self, key: &Key, values: &[Value], offset: i64) {
        if let Some(state) = self.state(key) {
            for (value, offset) in values.iter().zip(offset..) {
                state.unseen.insert(*value, offset);
                state.end = state.end.max(offset + 1);
            }
        }
    }

    /// A poll returned this.
    pub fn polled(&mut self, reads: &[Read]) {
        for read in reads {
            if let Some(state) = self.state(&read.key) {
                for (offset, value) in &read.records {
                    state.unseen.remove(value);
                    state.end = state.end.max(offset + 1);
                }
            }
        }
    }

    /// Behind the highest offset known of each key.
    #[must_use]
    pub fn ends(&self) -> BTreeMap<Key, i64> {
        let end = |state: &KeyState| (state.key.clone(), state.end);
        self.keys.iter().map(end).collect()
    }

    fn send(&mut self) -> Action {
        if self.open < self.keys.len() && self.random.chance(1, FRESH_ONE_IN) {
            self.open += 1;
            return self.send_to(self.open - 1);
        }
        // The lower of two: the first keys are hot.
        let (one, other) = (self.below(self.open), self.below(self.open));
        self.send_to(one.min(other))
    }

    fn send_to(&mut self, at: usize) -> Action {
        let values = 1 + usize::try_from(self.random.below(VALUES_MAX)).expect("a few");
        Action::Send {
            key: self.keys[at].key.clone(),
            values,
        }
    }

    fn assign(&mut self) -> Action {
        let count = 1 + self.random.below(ASSIGNED_MAX);
        let mut positions: BTreeMap<Key, i64> = BTreeMap::new();
        for _ in 0..count {
            let at = match self.random.chance(3, 5) {
                true => self.least_seen(),
                false => self.below(self.keys.len()),
            };
            let position = self.position(at);
            positions.insert(self.keys[at].key.clone(), position);
        }
        Action::Assign(positions.into_iter().collect())
    }

    /// That one of three keys of which most was not seen.
    fn least_seen(&mut self) -> usize {
        let drawn = [0; 3].map(|_| self.below(self.keys.len()));
        let most = drawn
            .into_iter()
            .max_by_key(|at| self.keys[*at].unseen.len());
        most.expect("three were drawn")
    }

    /// Mostly where something was not seen, sometimes the beginning, the end or anywhere.
    fn position(&mut self, at: usize) -> i64 {
        let end = self.keys[at].end;
        let unseen = self.keys[at].unseen.values().min().copied();
        match (self.random.below(8), unseen) {
            (0, _) => 0,
            (1, _) => {
                let anywhere = self.random.below(end.max(0).cast_unsigned() + 1);
                i64::try_from(anywhere).expect("below an offset")
            }
            (_, Some(offset)) => offset,
            (_, None) => end,
        }
    }

    fn state(&mut self, key: &Key) -> Option<&mut KeyState> {
        self.keys.iter_mut().find(|state| state.key == *key)
    }

    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit.max(1)).expect("a count in memory");
        usize::try_from(self.random.below(limit)).expect("below a count")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Vec<Key> {
        (0..6)
            .map(|partition| Key {
                topic: "t".to_owned(),
                partition,
            })
            .collect()
    }

    /// A client on a log that always works; every action it was told.
    fn run(seed: u64, actions: usize) -> Vec<Action> {
        let mut generator = Generator::new(Random::new(seed), keys(), 100);
        let mut logs: BTreeMap<Key, Vec<Value>> = BTreeMap::new();
        let mut positions = BTreeMap::new();
        let mut next_value = 0;
        let mut told = Vec::new();
        for _ in 0..actions {
            let action = generator.next(&positions);
            match &action {
                Action::Send { key, values } => {
                    let log = logs.entry(key.clone()).or_default();
                    let offset = i64::try_from(log.len()).expect("short");
                    let sent: Vec<Value> = (next_value..).take(*values).collect();
                    next_value += sent.len() as u64;
                    log.extend(&sent);
                    generator.sent(key, &sent, offset);
                }
                Action::Poll => {
                    let mut reads = Vec::new();
                    for (key, position) in &mut positions {
                        let log = logs.get(key).map_or(&[][..], Vec::as_slice);
                        let from = usize::try_from(*position).expect("from 0 on");
                        let records: Vec<(i64, Value)> =
                            (*position..).zip(log[from..].iter().copied()).collect();
                        *position = i64::try_from(log.len()).expect("short");
                        reads.push(Read {
                            key: key.clone(),
                            records,
                            high_watermark: *position,
                        });
                    }
                    generator.polled(&reads);
                }
                Action::Assign(assigned) => positions = assigned.iter().cloned().collect(),
                Action::Crash => positions.clear(),
            }
            told.push(action);
        }
        told
    }

    #[test]
    fn the_same_seed_and_answers_give_the_same_operations() {
        assert_eq!(run(7, 500), run(7, 500));
        assert_ne!(run(7, 500), run(8, 500));
    }

    #[test]
    fn every_kind_of_operation_comes_and_every_key_is_written_some_day() {
        let told = run(3, 3_000);
        let sends = told
            .iter()
            .filter(|action| matches!(action, Action::Send { .. }))
            .count();
        let polls = told
            .iter()
            .filter(|action| matches!(action, Action::Poll))
            .count();
        assert!(sends > 600 && polls > 600, "{sends} sends, {polls} polls");
        assert!(told.contains(&Action::Crash));
        let mut first: BTreeMap<Key, usize> = BTreeMap::new();
        for (at, action) in told.iter().enumerate() {
            if let Action::Send { key, values } = action {
                assert!((1..=4).contains(values));
                first.entry(key.clone()).or_insert(at);
            }
        }
        assert_eq!(first.len(), keys().len());
        assert!(
            first[&keys()[5]] > first[&keys()[0]],
            "the last key is fresh for a while"
        );
    }

    #[test]
    fn assignments_stay_within_what_is_there() {
        for action in run(5, 2_000) {
            if let Action::Assign(positions) = action {
                assert!(!positions.is_empty() && positions.len() <= 4);
                assert!(positions.iter().all(|(_, offset)| *offset >= 0));
            }
        }
    }

    #[test]
    fn what_was_not_seen_is_polled_sooner() {
        // Of a key with much unseen, assignments begin at the first unseen record mostly.
        let mut generator = Generator::new(Random::new(1), keys(), 1_000_000);
        let key = keys().remove(2);
        generator.sent(&key, &[1, 2, 3], 40);
        let mut at_unseen = 0;
        let mut chosen = 0;
        for _ in 0..200 {
            if let Action::Assign(positions) = generator.next(&BTreeMap::new())
                && let Some((_, offset)) = positions.iter().find(|(assigned, _)| *assigned == key)
            {
                chosen += 1;
                at_unseen += usize::from(*offset == 40);
            }
        }
        assert!(chosen > 80, "{chosen}");
        assert!(at_unseen * 2 > chosen, "{at_unseen} of {chosen}");
    }
}

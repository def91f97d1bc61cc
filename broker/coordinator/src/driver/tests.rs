//! A coordinator of locks, small enough to be wrong in known ways.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Driver, Settings};
use crate::{Coordinator, Effects, Encoded, Outcome, Record, ReplyId};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Flaw {
    #[default]
    None,
    AnswersTwice,
    ChangesHardState,
    DependsOnOldRecords,
}

/// Who has the lock; who waits for it.
#[derive(Debug, Clone, Default)]
struct Locks {
    flaw: Flaw,
    owner: BTreeMap<u8, u8>,
    waiting: BTreeMap<u8, Vec<(u8, ReplyId)>>,
}

enum Command {
    Take { lock: u8, owner: u8 },
    Release { lock: u8 },
}

#[derive(Debug, Clone, PartialEq)]
struct Owned {
    lock: u8,
    owner: Option<u8>,
}

impl Record for Owned {
    type Error = std::fmt::Error;

    fn encode(&self) -> Encoded {
        Encoded {
            key: Bytes::copy_from_slice(&[self.lock]),
            value: self.owner.map(|owner| Bytes::copy_from_slice(&[owner])),
        }
    }

    fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Self, std::fmt::Error> {
        let lock = *key.first().ok_or(std::fmt::Error)?;
        let owner = value.and_then(|value| value.first().copied());
        Ok(Self { lock, owner })
    }
}

const LEASE_MS: i64 = 1_000;

impl Coordinator for Locks {
    type Command = Command;
    type Response = &'static str;
    type Record = Owned;
    type Timer = u8;
    type Context = ();
    type Hard = BTreeMap<u8, u8>;

    fn handle(
        &mut self,
        (): &(),
        command: Command,
        reply: ReplyId,
        now_ms: i64,
        effects: &mut Effects<Self>,
    ) {
        match command {
            Command::Take { lock, owner } if self.owner.contains_key(&lock) => {
                self.waiting.entry(lock).or_default().push((owner, reply));
            }
            Command::Take { lock, owner } => {
                let owner = Some(owner);
                effects.append(Owned { lock, owner });
                effects.set_timer(lock, now_ms + LEASE_MS);
                effects.answer(reply, "taken");
                if self.flaw == Flaw::AnswersTwice {
                    effects.answer(reply, "taken");
                }
                if self.flaw == Flaw::ChangesHardState {
                    self.owner.insert(lock.wrapping_add(100), 1);
                }
            }
            Command::Release { lock } => {
                self.release(lock, now_ms, effects);
                effects.answer(reply, "released");
            }
        }
    }

    fn timer_fired(&mut self, (): &(), lock: u8, now_ms: i64, effects: &mut Effects<Self>) {
        self.release(lock, now_ms, effects);
    }

    fn replay(&mut self, record: &Owned) {
        match record.owner {
            Some(_) if self.flaw == Flaw::DependsOnOldRecords => {
                *self.owner.entry(record.lock).or_default() += 1;
            }
            Some(owner) => {
                self.owner.insert(record.lock, owner);
            }
            None => {
                self.owner.remove(&record.lock);
            }
        }
    }

    fn became_leader(&mut self, (): &(), now_ms: i64, effects: &mut Effects<Self>) {
        for lock in self.owner.keys() {
            effects.set_timer(*lock, now_ms + LEASE_MS);
        }
    }

    fn hard(&self) -> &BTreeMap<u8, u8> {
        &self.owner
    }
}

impl Locks {
    fn release(&mut self, lock: u8, now_ms: i64, effects: &mut Effects<Self>) {
        effects.cancel_timer(lock);
        let next = self.waiting.get_mut(&lock).filter(|all| !all.is_empty());
        let next = next.map(|all| all.remove(0));
        let owner = next.map(|(owner, _)| owner);
        effects.append(Owned { lock, owner });
        if let Some((_, reply)) = next {
            effects.set_timer(lock, now_ms + LEASE_MS);
            effects.answer(reply, "taken");
        }
    }
}

fn driver(flaw: Flaw) -> Driver<Locks> {
    let locks = Locks {
        flaw,
        ..Locks::default()
    };
    Driver::new(locks, Box::new(()), Settings::default())
}

fn take(owner: u8) -> Command {
    Command::Take { lock: 7, owner }
}

#[test]
fn an_answer_waits_for_the_commit() {
    let mut driver = driver(Flaw::None);
    let reply = driver.send(take(1));
    assert_eq!(driver.take(reply), None);
    assert!(driver.committed().is_empty());
    driver.advance(100);
    assert_eq!(driver.take(reply), Some(Outcome::Answered("taken")));
    assert_eq!(driver.committed().get(&7), Some(&1));
    driver.settle();
}

#[test]
fn a_later_call_answers_an_earlier_command() {
    let mut driver = driver(Flaw::None);
    driver.ask(take(1));
    let second = driver.send(take(2));
    driver.advance(500);
    assert_eq!((driver.take(second), driver.waiting()), (None, 1));
    assert_eq!(driver.ask(Command::Release { lock: 7 }), "released");
    assert_eq!(driver.take(second), Some(Outcome::Answered("taken")));
}

#[test]
fn timers_fire_at_their_time_and_not_after_they_were_cancelled() {
    let mut driver = driver(Flaw::None);
    driver.ask(take(1));
    driver.advance(LEASE_MS - 100);
    assert_eq!(driver.leader().owner.get(&7), Some(&1));
    driver.advance(100);
    assert_eq!(driver.leader().owner.get(&7), None);
    driver.ask(take(1));
    driver.ask(Command::Release { lock: 7 });
    let records = driver.log().len();
    driver.advance(10 * LEASE_MS);
    assert_eq!(driver.log().len(), records);
}

#[test]
fn a_new_leader_has_the_hard_state_and_nobody_waits_for_ever() {
    let mut driver = driver(Flaw::None);
    driver.ask(take(1));
    let second = driver.send(take(2));
    driver.fail_over();
    assert_eq!(driver.take(second), Some(Outcome::Resigned));
    assert_eq!(driver.leader().owner.get(&7), Some(&1));
    assert!(driver.leader().waiting.is_empty());
    driver.advance(2 * LEASE_MS);
    assert_eq!(driver.leader().owner.get(&7), None);
    driver.settle();
}

#[test]
fn what_is_in_flight_when_the_leader_goes_commits_or_not() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let settings = Settings {
            seed,
            ..Settings::default()
        };
        let mut driver = Driver::new(Locks::default(), Box::new(()), settings);
        let reply = driver.send(take(1));
        driver.fail_append();
        assert_eq!(driver.take(reply), Some(Outcome::Resigned));
        seen.insert(driver.leader().owner.len());
    }
    assert_eq!(seen.len(), 2);
}

#[test]
#[should_panic(expected = "answered twice")]
fn a_second_answer_is_found() {
    driver(Flaw::AnswersTwice).ask(take(1));
}

#[test]
#[should_panic(expected = "the leader has")]
fn a_call_that_changes_hard_state_is_found() {
    let mut driver = driver(Flaw::ChangesHardState);
    driver.ask(take(1));
    driver.settle();
}

#[test]
#[should_panic(expected = "the compacted log gives")]
fn a_state_that_needs_old_records_is_found() {
    let mut driver = driver(Flaw::DependsOnOldRecords);
    for _ in 0..3 {
        driver.ask(take(1));
        let again = driver.send(take(1));
        driver.advance(LEASE_MS);
        driver.take(again);
    }
    driver.settle();
}

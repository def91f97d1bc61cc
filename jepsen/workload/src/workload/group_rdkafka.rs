//! The workload `group` with librdkafka's consumers: what most users have, with its own ways of
//! joining, giving back and retrying.
//!
//! A member is polled; when what it owns has changed, that stands in the history as a join, after the
//! fact and without a generation: what it certainly owned is what its commits prove.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jepsen_check::history::{Group, Key, Membership, Op, Process, Read};
use tokio::time::{Instant, sleep};

use super::group::{AnyGroupClient, GROUP};
use super::log::pause;
use crate::client::group::Part;
use crate::client::rdkafka_group::{Change, POLL_INTERVAL_MAX, RdkafkaMember};
use crate::world::World;

/// librdkafka tries again by itself for as long as it is asked to wait.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(200);

/// One client of the workload, whose members are librdkafka's.
pub(super) struct RdkafkaGroupClient<'a, W>(pub AnyGroupClient<'a, W>);

/// A member, and where it reads on.
struct Consumer {
    process: Process,
    name: String,
    member: RdkafkaMember,
    owned: BTreeSet<Key>,
    positions: BTreeMap<Key, i64>,
    ends_at: Instant,
}

impl<W: World> RdkafkaGroupClient<'_, W> {
    /// Works until then, or until it is done; an operation that is under way is finished.
    pub(super) async fn work(mut self, until: Instant, done: &Cell<bool>) {
        let mut consumer = None;
        loop {
            sleep(pause(&mut self.0.random, self.0.pause)).await;
            if Instant::now() >= until || done.get() {
                if let Some(consumer) = consumer {
                    self.leave(consumer);
                }
                return;
            }
            consumer = match consumer {
                None => self.consumer().await,
                Some(consumer) if !self.0.is_calm && Instant::now() >= consumer.ends_at => {
                    self.end(consumer, until).await
                }
                Some(consumer) => self.step(consumer).await,
            };
        }
    }

    async fn consumer(&mut self) -> Option<Consumer> {
        let settings = self.0.factory.settings();
        let part = Part {
            group: GROUP.to_owned(),
            protocol: self.0.style.protocol(&mut self.0.random),
            assignor: self.0.style.assignor,
            instance: self.0.style.instance(self.0.number),
        };
        let addresses = self.0.book.world().kafka_addresses(self.0.number);
        let Ok(member) = RdkafkaMember::join(addresses, part, &settings.keys()) else {
            // The machine has no thread left; too few commits tell.
            sleep(PAUSE).await;
            return None;
        };
        let process = self.0.book.process();
        Some(Consumer {
            process,
            name: format!("rdkafka-{process:?}"),
            member,
            owned: BTreeSet::new(),
            positions: BTreeMap::new(),
            ends_at: Instant::now() + self.0.life(),
        })
    }

    /// The next thing a living member does; it is no more where nobody knows what became of it.
    async fn step(&mut self, consumer: Consumer) -> Option<Consumer> {
        match self.0.random.below(40) {
            0..=5 if !consumer.positions.is_empty() => self.commit(consumer).await,
            6 => self.look(consumer).await,
            _ => self.poll(consumer).await,
        }
    }

    /// A member's end, or nearly so.
    async fn end(&mut self, mut consumer: Consumer, until: Instant) -> Option<Consumer> {
        let nap = POLL_INTERVAL_MAX * 4 / 3;
        match self.0.random.below(4) {
            // A static one stays a member for a session: the next of its instance takes over.
            0 | 1 => {
                self.leave(consumer);
                None
            }
            // It stands still, leaves for want of polls, and does not know it.
            2 if Instant::now() + nap < until => {
                sleep(nap).await;
                consumer.ends_at = Instant::now() + self.0.life();
                match consumer.positions.is_empty() {
                    true => Some(consumer),
                    false => self.commit(consumer).await,
                }
            }
            _ => {
                self.0.book.invoke(consumer.process, Op::Crash);
                self.0.book.ok(consumer.process, Op::Crash);
                consumer.member.hang();
                None
            }
        }
    }

    async fn poll(&mut self, mut consumer: Consumer) -> Option<Consumer> {
        let nothing = Op::Poll { reads: Vec::new() };
        self.0.book.invoke(consumer.process, nothing.clone());
        let turn = match consumer.member.turn(PATIENCE).await {
            Ok(turn) => turn,
            Err(silent) => {
                self.0
                    .book
                    .info(consumer.process, nothing, silent.to_string());
                return None;
            }
        };
        if let Some(damage) = turn.damage {
            self.0
                .book
                .info(consumer.process, nothing, format!("damaged: {damage}"));
            return None;
        }
        match turn.failure {
            Some(why) if turn.reads.is_empty() => {
                self.0.book.fail(consumer.process, nothing, why);
            }
            _ => {
                for (key, records) in &turn.reads {
                    if let Some((last, _)) = records.last() {
                        consumer.positions.insert(key.clone(), last + 1);
                    }
                }
                let read = |(key, records)| Read {
                    key,
                    records,
                    high_watermark: -1,
                };
                let reads: Vec<Read> = turn.reads.into_iter().map(read).collect();
                self.0.generator.borrow_mut().polled(&reads);
                self.0.book.ok(consumer.process, Op::Poll { reads });
            }
        }
        if !turn.changes.is_empty() {
            self.change(&mut consumer, turn.changes);
        }
        if turn.is_over {
            self.leave(consumer);
            // Whoever has its instance id has it for a while.
            sleep(PAUSE * 5).await;
            return None;
        }
        Some(consumer)
    }

    /// Writes down what the member owns from now on.
    fn change(&self, consumer: &mut Consumer, changes: Vec<Change>) {
        let mut held = consumer.owned.clone();
        for change in changes {
            match change {
                Change::Assigned(keys) => consumer.owned.extend(keys),
                Change::Revoked(keys) => {
                    for key in keys {
                        held.remove(&key);
                        consumer.owned.remove(&key);
                    }
                }
            }
        }
        consumer.positions.retain(|key, _| held.contains(key));
        let held: Vec<Key> = held.into_iter().collect();
        let join = |owned| {
            Op::Group(Group::Join(Membership {
                group: GROUP.to_owned(),
                member: consumer.name.clone(),
                instance: consumer.member.part().instance.clone(),
                protocol: consumer.member.part().protocol,
                generation: -1,
                held: held.clone(),
                owned,
            }))
        };
        let owned = consumer.owned.iter().cloned().collect();
        self.0.book.invoke(consumer.process, join(Vec::new()));
        self.0.book.ok(consumer.process, join(owned));
        // Where it reads on in the others the group knows.
        let positions = consumer.positions.iter();
        let positions = positions.map(|(key, offset)| (key.clone(), *offset));
        let assign = Op::Assign {
            positions: positions.collect(),
        };
        self.0.book.invoke(consumer.process, assign.clone());
        self.0.book.ok(consumer.process, assign);
    }

    async fn commit(&mut self, consumer: Consumer) -> Option<Consumer> {
        let positions = consumer.positions.iter();
        let offsets: Vec<(Key, i64)> = positions.map(|(key, at)| (key.clone(), *at)).collect();
        let op = Op::Group(Group::Commit {
            group: GROUP.to_owned(),
            member: consumer.name.clone(),
            generation: -1,
            offsets: offsets.clone(),
        });
        self.0.book.invoke(consumer.process, op.clone());
        let why = match consumer.member.commit(offsets, PATIENCE).await {
            Ok(Ok(())) => {
                self.0.book.ok(consumer.process, op);
                return Some(consumer);
            }
            Ok(Err(why)) => why,
            Err(silent) => silent.to_string(),
        };
        self.0.book.info(consumer.process, op, why);
        None
    }

    /// Looks at what is committed, and writes it down.
    async fn look(&mut self, consumer: Consumer) -> Option<Consumer> {
        let keys = self.0.factory.settings().keys();
        let op = |offsets| {
            Op::Group(Group::Committed {
                group: GROUP.to_owned(),
                offsets,
            })
        };
        let asked: Vec<(Key, i64)> = keys.iter().map(|key| (key.clone(), -1)).collect();
        self.0.book.invoke(consumer.process, op(asked.clone()));
        match consumer.member.committed(keys, PATIENCE).await {
            Ok(Ok(offsets)) => self.0.book.ok(consumer.process, op(offsets)),
            Ok(Err(why)) => self.0.book.fail(consumer.process, op(asked), why),
            Err(silent) => {
                self.0
                    .book
                    .fail(consumer.process, op(asked), silent.to_string());
                return None;
            }
        }
        Some(consumer)
    }

    fn leave(&self, consumer: Consumer) {
        let op = Op::Group(Group::Leave {
            group: GROUP.to_owned(),
            member: consumer.name.clone(),
        });
        self.0.book.invoke(consumer.process, op.clone());
        drop(consumer.member);
        self.0
            .book
            .info(consumer.process, op, "librdkafka says so later".to_owned());
    }
}

//! The workload `group`: members of one consumer group poll what they own and commit it, join, leave
//! and die, while the clients of the workload `log` write.
//!
//! A member follows the rules: it begins where the group stood, commits only what it has read, and
//! holds on to nothing that it was told to give back. One that stood still for longer than its
//! session lasts knows no better and commits what it had read, which must be refused where somebody
//! else has taken over. So does a static member whose instance has a new one already.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::{join, join_all};
use jepsen_check::history::{Admin, Group, Key, Membership, Op, Process, Protocol};
use tokio::time::{Instant, sleep};
use tracing::warn;

#[cfg(feature = "rdkafka")]
use super::group_rdkafka::RdkafkaGroupClient;
use super::log::{self, Session, pause};
use super::style::Style;
use crate::book::Book;
use crate::client::ClientOptions;
use crate::client::admin::{self, Answer, TopicOptions};
use crate::client::assignor::Assignor;
use crate::client::group::{Committed, GroupMember, Part, SESSION_TIMEOUT};
use crate::generator::Generator;
use crate::random::Random;
use crate::run::{DriveError, Factory};
use crate::world::World;

/// The one group.
pub(super) const GROUP: &str = "group-0";
/// Where nodes keep what groups come to.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// So short are its segments, and so soon are they cleaned: a run has some.
const OFFSETS_CONFIGS: [(&str, &str); 2] = [
    ("segment.bytes", "2048"),
    ("min.cleanable.dirty.ratio", "0.01"),
];
/// How often a member gives a sign of life.
const BEAT_EVERY: Duration = Duration::from_millis(300);
/// A pause after something that did not work.
const PAUSE: Duration = Duration::from_millis(200);
/// A member's life takes so much of the run at least, and less than so much more; but in a long run
/// no more than so long.
const LIVES_MIN: u32 = 5;
const LIVES_MORE: u32 = 2;
const LIFE_MIN_MAX: Duration = Duration::from_secs(4);
const LIFE_MORE_MAX: Duration = Duration::from_secs(12);
/// Members that read what is left in the end.
const LAST_MEMBERS: u32 = 3;
/// How long they may take: some sessions of members that died, and more on a busy machine.
const LAST_READS: Duration = Duration::from_secs(85);

/// One client of the workload: a row of members, one after the other. Whose library they are of is
/// settled by the client's number.
pub(crate) struct AnyGroupClient<'a, W> {
    /// Where it writes down what it does.
    pub book: &'a Book<'a, W>,
    /// Makes its clients.
    pub factory: &'a Factory<'a, W>,
    /// Is told what was read.
    pub generator: &'a RefCell<Generator>,
    /// Which one it is.
    pub number: u32,
    /// Draws what it does.
    pub random: Random,
    /// How its members take part.
    pub style: Style,
    /// The mean of its pauses.
    pub pause: Duration,
    /// Whether its members live to the end.
    pub is_calm: bool,
}

/// Who goes on.
enum Next {
    /// The same member.
    Same,
    /// One that is still to be made.
    New,
    /// This one.
    This(Box<Consumer>),
}

/// A member with the client that reads for it.
struct Consumer {
    session: Session,
    member: GroupMember,
    /// What it owns and does not know yet from where on to read.
    unplaced: BTreeSet<Key>,
    beat_at: Instant,
    ends_at: Instant,
}

impl<W: World> AnyGroupClient<'_, W> {
    /// Works until then, or until it is done.
    pub(crate) async fn work(self, until: Instant, done: &Cell<bool>) {
        #[cfg(feature = "rdkafka")]
        if self.factory.has_rdkafka_members(self.number) {
            return RdkafkaGroupClient(self).work(until, done).await;
        }
        GroupClient(self).work(until, done).await;
    }
}

impl<W: World> AnyGroupClient<'_, W> {
    /// How long the next member lives.
    pub(super) fn life(&mut self) -> Duration {
        let run = self.factory.settings().duration;
        let least = (run / LIVES_MIN).min(LIFE_MIN_MAX);
        let more_ms = (run / LIVES_MORE).min(LIFE_MORE_MAX).as_millis();
        let more_ms = u64::try_from(more_ms).unwrap_or(u64::MAX).max(1);
        least + Duration::from_millis(self.random.below(more_ms))
    }
}

/// One whose members are our own.
struct GroupClient<'a, W>(AnyGroupClient<'a, W>);

impl<W: World> GroupClient<'_, W> {
    /// Works until then, or until it is done; an operation that is under way is finished.
    async fn work(mut self, until: Instant, done: &Cell<bool>) {
        let mut consumer = self.consumer();
        loop {
            sleep(pause(&mut self.0.random, self.0.pause)).await;
            if Instant::now() >= until || done.get() {
                if self.0.is_calm && consumer.member.is_joined() {
                    self.leave(&mut consumer).await;
                }
                return;
            }
            let addresses = self.0.book.world().kafka_addresses(self.0.number);
            consumer.member.nodes.set_addresses(addresses.clone());
            consumer.session.client.set_addresses(addresses);
            let goes_on = match !self.0.is_calm && Instant::now() >= consumer.ends_at {
                true => self.end(&mut consumer, until).await,
                false => match self.step(&mut consumer).await {
                    true => Next::Same,
                    false => Next::New,
                },
            };
            match goes_on {
                Next::Same => {}
                Next::New => consumer = self.consumer(),
                Next::This(next) => consumer = *next,
            }
        }
    }

    fn consumer(&mut self) -> Consumer {
        let settings = self.0.factory.settings();
        let part = Part {
            group: GROUP.to_owned(),
            protocol: self.0.style.protocol(&mut self.0.random),
            assignor: self.0.style.assignor,
            instance: self.0.style.instance(self.0.number),
        };
        let options = ClientOptions::of(settings, false);
        let nodes = self.0.factory.nodes(self.0.number, self.0.random.fork(3));
        let member = GroupMember::new(
            nodes,
            part,
            settings.keys(),
            settings.request_timeout,
            self.0.random.fork(4),
        );
        let (now, life) = (Instant::now(), self.0.life());
        Consumer {
            session: Session {
                process: self.0.book.process(),
                client: self
                    .0
                    .factory
                    .make_thin(self.0.number, options, self.0.random.fork(5)),
                idempotent: false,
            },
            member,
            unplaced: BTreeSet::new(),
            beat_at: now,
            ends_at: now + life,
        }
    }

    /// The next thing a living member does. Answers whether its process may go on.
    async fn step(&mut self, consumer: &mut Consumer) -> bool {
        let now = Instant::now();
        if !consumer.member.is_joined() {
            return self.join(consumer).await;
        }
        if now >= consumer.beat_at || consumer.member.is_news() {
            consumer.beat_at = now + BEAT_EVERY;
            return self.beat(consumer).await;
        }
        if !consumer.unplaced.is_empty() {
            self.place(consumer).await;
            return true;
        }
        match self.0.random.below(10) {
            0 | 1 => {
                let offsets = positions(consumer, consumer.member.owned());
                self.commit(consumer, offsets).await
            }
            2 if self.0.random.chance(1, 4) => {
                let keys = self.0.factory.settings().keys();
                let process = consumer.session.process;
                look(self.0.book, process, &mut consumer.member, &keys).await;
                true
            }
            _ if consumer.session.client.positions().is_empty() => true,
            _ => log::poll(self.0.book, &mut consumer.session, self.0.generator).await,
        }
    }

    /// A member's end, or nearly so.
    async fn end(&mut self, consumer: &mut Consumer, until: Instant) -> Next {
        let nap = SESSION_TIMEOUT * 4 / 3;
        let is_static = consumer.member.part().instance.is_some();
        match self.0.random.below(4) {
            // A static member mostly is back before it is missed.
            0 if is_static && consumer.member.is_joined() => self.hand_on(consumer).await,
            0 => {
                self.leave(consumer).await;
                Next::New
            }
            // It stands still, is taken for dead, and does not know it.
            1 if Instant::now() + nap < until => {
                sleep(nap).await;
                consumer.ends_at = Instant::now() + self.0.life();
                let offsets = positions(consumer, consumer.member.owned());
                match self.commit(consumer, offsets).await {
                    true => Next::Same,
                    false => Next::New,
                }
            }
            _ => {
                self.crash(consumer);
                Next::New
            }
        }
    }

    fn crash(&self, consumer: &Consumer) {
        self.0.book.invoke(consumer.session.process, Op::Crash);
        self.0.book.ok(consumer.session.process, Op::Crash);
    }

    /// The next member of the instance takes over while this one lives, which then goes on as if
    /// nothing had happened, and must be refused.
    async fn hand_on(&mut self, consumer: &mut Consumer) -> Next {
        // Whether or not that was heard, the next one comes.
        let _ = consumer.member.make_way().await;
        let mut next = self.consumer();
        self.join(&mut next).await;
        let offsets = positions(consumer, consumer.member.owned());
        match self.0.random.chance(1, 2) {
            true => _ = self.commit(consumer, offsets).await,
            false => _ = self.beat(consumer).await,
        }
        self.crash(consumer);
        Next::This(Box::new(next))
    }

    async fn join(&mut self, consumer: &mut Consumer) -> bool {
        let process = consumer.session.process;
        let before = match consumer.member.is_cooperative() {
            true => consumer.member.owned().clone(),
            false => BTreeSet::new(),
        };
        let held: Vec<Key> = before.iter().cloned().collect();
        let asked = membership(&consumer.member, held.clone(), Vec::new());
        self.0
            .book
            .invoke(process, Op::Group(Group::Join(asked.clone())));
        if let Err(error) = consumer.member.join().await {
            let why = error.to_string();
            self.0
                .book
                .fail(process, Op::Group(Group::Join(asked)), why);
            sleep(PAUSE).await;
            return true;
        }
        let owned = consumer.member.owned().clone();
        let told = membership(&consumer.member, held, owned.iter().cloned().collect());
        self.0.book.ok(process, Op::Group(Group::Join(told)));
        consumer.beat_at = Instant::now() + BEAT_EVERY;
        // What it placed before and holds on to stays where it is.
        consumer.unplaced.retain(|key| before.contains(key));
        self.take_in(consumer, &before).await
    }

    /// Takes in what the member owns now, and may commit what it owns no more before it says that it
    /// has given it back.
    async fn take_in(&mut self, consumer: &mut Consumer, before: &BTreeSet<Key>) -> bool {
        let owned = consumer.member.owned().clone();
        let lost: BTreeSet<Key> = before.difference(&owned).cloned().collect();
        if !lost.is_empty() && self.0.random.chance(1, 2) {
            let offsets = positions(consumer, &lost);
            if !self.commit(consumer, offsets).await {
                return false;
            }
        }
        let new = owned.difference(before).cloned();
        consumer.unplaced.extend(new);
        consumer.unplaced.retain(|key| owned.contains(key));
        let kept = positions(consumer, &owned);
        let is_kept = |(key, _): &(Key, i64)| !consumer.unplaced.contains(key);
        let kept: Vec<(Key, i64)> = kept.into_iter().filter(is_kept).collect();
        log::assign(self.0.book, &mut consumer.session, kept);
        true
    }

    async fn beat(&mut self, consumer: &mut Consumer) -> bool {
        let process = consumer.session.process;
        let before = consumer.member.owned().clone();
        let held: Vec<Key> = before.iter().cloned().collect();
        let asked = membership(&consumer.member, held.clone(), Vec::new());
        self.0
            .book
            .invoke(process, Op::Group(Group::Heartbeat(asked.clone())));
        if let Err(error) = consumer.member.heartbeat().await {
            let why = error.to_string();
            self.0
                .book
                .fail(process, Op::Group(Group::Heartbeat(asked)), why);
            // Before it joins anew, a member may commit what it read.
            if !consumer.member.is_joined() && self.0.random.chance(1, 2) {
                let offsets = positions(consumer, &before);
                return self.commit(consumer, offsets).await;
            }
            return true;
        }
        let owned = consumer.member.owned().clone();
        let told = membership(&consumer.member, held, owned.iter().cloned().collect());
        self.0.book.ok(process, Op::Group(Group::Heartbeat(told)));
        match owned == before {
            true => true,
            false => self.take_in(consumer, &before).await,
        }
    }

    /// Asks where the group stands in what was not read yet, and reads on from there.
    async fn place(&mut self, consumer: &mut Consumer) {
        let keys: Vec<Key> = consumer.unplaced.iter().cloned().collect();
        let process = consumer.session.process;
        let Some(committed) = look(self.0.book, process, &mut consumer.member, &keys).await else {
            sleep(PAUSE).await;
            return;
        };
        consumer.unplaced.clear();
        let mut all = positions(consumer, consumer.member.owned());
        let new = committed.into_iter();
        all.extend(new.map(|(key, offset)| (key, offset.max(0))));
        log::assign(self.0.book, &mut consumer.session, all);
    }

    async fn commit(&mut self, consumer: &mut Consumer, offsets: Vec<(Key, i64)>) -> bool {
        if offsets.is_empty() {
            return true;
        }
        let process = consumer.session.process;
        let op = Op::Group(Group::Commit {
            group: GROUP.to_owned(),
            member: consumer.member.member_id().to_owned(),
            generation: consumer.member.generation(),
            offsets: offsets.clone(),
        });
        self.0.book.invoke(process, op.clone());
        match consumer.member.commit(&offsets).await {
            Committed::Ok => self.0.book.ok(process, op),
            Committed::Fail(why) => self.0.book.fail(process, op, why),
            Committed::Info(why) => {
                self.0.book.info(process, op, why);
                // Mostly the next one takes leave for it; otherwise it is missed some time later.
                if self.0.random.chance(2, 3) {
                    consumer.session.process = self.0.book.process();
                    self.leave(consumer).await;
                }
                return false;
            }
        }
        true
    }

    async fn leave(&mut self, consumer: &mut Consumer) {
        let process = consumer.session.process;
        let op = Op::Group(Group::Leave {
            group: GROUP.to_owned(),
            member: consumer.member.member_id().to_owned(),
        });
        self.0.book.invoke(process, op.clone());
        match consumer.member.leave().await {
            Ok(()) => self.0.book.ok(process, op),
            Err(error) => self.0.book.info(process, op, error.to_string()),
        }
    }
}

fn membership(member: &GroupMember, held: Vec<Key>, owned: Vec<Key>) -> Membership {
    Membership {
        group: GROUP.to_owned(),
        member: member.member_id().to_owned(),
        instance: member.part().instance.clone(),
        protocol: member.part().protocol,
        generation: member.generation(),
        held,
        owned,
    }
}

/// Where the consumer reads on in these.
fn positions(consumer: &Consumer, of: &BTreeSet<Key>) -> Vec<(Key, i64)> {
    let positions = consumer.session.client.positions().iter();
    let wanted = positions.filter(|(key, _)| of.contains(key));
    wanted.map(|(key, offset)| (key.clone(), *offset)).collect()
}

/// Looks at what is committed, and writes it down.
async fn look<W: World>(
    book: &Book<'_, W>,
    process: Process,
    member: &mut GroupMember,
    keys: &[Key],
) -> Option<Vec<(Key, i64)>> {
    let op = |offsets| {
        Op::Group(Group::Committed {
            group: GROUP.to_owned(),
            offsets,
        })
    };
    let asked: Vec<(Key, i64)> = keys.iter().map(|key| (key.clone(), -1)).collect();
    book.invoke(process, op(asked.clone()));
    match member.committed(keys).await {
        Ok(offsets) => {
            book.ok(process, op(offsets.clone()));
            Some(offsets)
        }
        Err(error) => {
            book.fail(process, op(asked), error.to_string());
            None
        }
    }
}

/// One who looks at the group from outside.
fn outsider<W: World>(factory: &Factory<'_, W>, number: u32, random: &mut Random) -> GroupMember {
    let settings = factory.settings();
    let nodes = factory.nodes(number, random.fork(1));
    GroupMember::new(
        nodes,
        Part {
            group: GROUP.to_owned(),
            protocol: Protocol::Classic,
            assignor: Assignor::Range,
            instance: None,
        },
        settings.keys(),
        settings.request_timeout,
        random.fork(2),
    )
}

/// Commits the beginning of every partition, so that the group is there and remembered.
pub(crate) async fn make_ready<W: World>(
    book: &Book<'_, W>,
    factory: &Factory<'_, W>,
    mut random: Random,
) -> Result<(), DriveError> {
    let settings = factory.settings();
    let deadline = Instant::now() + settings.ready_timeout;
    let mut member = outsider(factory, settings.clients, &mut random);
    let offsets: Vec<(Key, i64)> = settings.keys().into_iter().map(|key| (key, 0)).collect();
    let op = Op::Group(Group::Commit {
        group: GROUP.to_owned(),
        member: String::new(),
        generation: -1,
        offsets: offsets.clone(),
    });
    loop {
        let process = book.process();
        book.invoke(process, op.clone());
        let why = match member.commit_from_outside(&offsets).await {
            Committed::Ok => {
                book.ok(process, op);
                break;
            }
            Committed::Fail(why) => {
                book.fail(process, op.clone(), why.clone());
                why
            }
            Committed::Info(why) => {
                book.info(process, op.clone(), why.clone());
                why
            }
        };
        if Instant::now() + PAUSE >= deadline {
            return Err(DriveError::NotReady {
                waited_ms: u64::try_from(settings.ready_timeout.as_millis()).unwrap_or(u64::MAX),
                why: format!("the first commit of the group: {why}"),
            });
        }
        sleep(PAUSE).await;
    }
    for (key, value) in OFFSETS_CONFIGS {
        let set = Admin::SetConfig {
            topic: OFFSETS_TOPIC.to_owned(),
            key: key.to_owned(),
            value: value.to_owned(),
        };
        let none = TopicOptions {
            replication_factor: -1,
            configs: Vec::new(),
        };
        let timeout = settings.op_timeout;
        let answer = admin::carry_out(&mut member.nodes, &set, &none, timeout).await;
        if answer != Answer::Ok(set) {
            // Nothing is cleaned then, and compared all the same.
            warn!(?answer, "{OFFSETS_TOPIC} is as it was made");
        }
    }
    Ok(())
}

/// New members read what is left and commit it, until nothing is.
pub(crate) async fn read_the_rest<W: World>(
    book: &Book<'_, W>,
    factory: &Factory<'_, W>,
    generator: &RefCell<Generator>,
    style: Style,
    mut random: Random,
) {
    let settings = factory.settings();
    let until = Instant::now() + LAST_READS;
    let done = Cell::new(false);
    let mut members = Vec::new();
    for number in 0..LAST_MEMBERS {
        let member = AnyGroupClient {
            book,
            factory,
            generator,
            number: number % settings.clients,
            random: random.fork(u64::from(number)),
            style,
            pause: PAUSE / 4,
            is_calm: true,
        };
        members.push(Box::pin(member.work(until, &done)));
    }
    let mut watcher = outsider(factory, settings.clients, &mut random);
    let watch = async {
        let keys = settings.keys();
        let process = book.process();
        while Instant::now() < until {
            let committed = look(book, process, &mut watcher, &keys).await;
            let ends = generator.borrow().ends();
            let is_through = |(key, offset): &(Key, i64)| Some(offset) >= ends.get(key);
            if committed.is_some_and(|committed| committed.iter().all(is_through)) {
                break;
            }
            sleep(PAUSE * 2).await;
        }
        done.set(true);
    };
    join(join_all(members), watch).await;
}

//! Members that take and give up partitions a step at a time, as the Java client does: the
//! application takes its time for each, and what the client says it has is what it has finished
//! taking, never what it is taking just now.

use coordinator::driver::Draw;
use coordinator::{Outcome, ReplyId};

use super::random::check_owners;
use super::*;

/// What a client has or shall have. Two with the same partitions differ if something else came
/// between them.
#[derive(Clone, Debug, PartialEq, Default)]
struct Local {
    /// 0: nothing was assigned yet.
    version: u64,
    partitions: Partitions,
}

/// How far the application is with what it was assigned.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    /// It is told what it must give up.
    Revoking,
    /// It gave that up, and has not heard of the new ones.
    Revoked,
    /// It is told what it gets.
    Assigning,
}

/// A Java client: its network thread and its application.
#[derive(Clone, Debug)]
struct Java {
    id: String,
    epoch: i32,
    names: Vec<String>,
    /// Told to start over: the application is told that it lost everything.
    is_fenced: bool,
    target: Local,
    current: Local,
    /// The fields of the last request that was answered well; `None`: all are to be sent.
    sent: Option<(Vec<String>, Local)>,
    /// What the application thinks it has.
    held: Partitions,
    work: Option<(Local, Stage)>,
    /// Topics whose names it knows.
    seen: BTreeSet<Uuid>,
    /// Since when it has not been at its target.
    behind_since_ms: Option<i64>,
    waiting: Option<ReplyId>,
}

impl Java {
    fn new(id: &str, names: &[&str]) -> Self {
        Self {
            id: id.to_owned(),
            epoch: 0,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            is_fenced: false,
            target: Local::default(),
            current: Local::default(),
            sent: None,
            held: Partitions::new(),
            work: None,
            seen: (1_000..1_004).map(Uuid).collect(),
            behind_since_ms: None,
            waiting: None,
        }
    }

    /// The next request. Only what is new is in it, or everything after a failure.
    fn request(&mut self) -> ConsumerGroupHeartbeat {
        if self.epoch == 0 {
            self.sent = None;
        }
        let sent = self
            .sent
            .replace((self.names.clone(), self.current.clone()));
        let is_full = sent.is_none();
        let (names, owned) = sent.map_or((true, true), |(names, current)| {
            (names != self.names, current != self.current)
        });
        let topic = |(&topic_id, partitions): (&Uuid, &BTreeSet<i32>)| OwnedTopic {
            topic_id,
            partitions: partitions.iter().copied().collect(),
        };
        ConsumerGroupHeartbeat {
            group_id: GROUP.to_owned(),
            member_id: self.id.clone(),
            member_epoch: self.epoch,
            rebalance_timeout_ms: if is_full { REBALANCE_MS } else { -1 },
            subscribed_topic_names: names.then(|| self.names.clone()),
            topic_partitions: owned.then(|| self.current.partitions.iter().map(topic).collect()),
            ..ConsumerGroupHeartbeat::default()
        }
    }

    /// The request failed, or nobody knows what became of it.
    fn fail(&mut self) {
        self.waiting = None;
        self.sent = None;
    }

    fn take(&mut self, response: &ConsumerGroupHeartbeatResponse) {
        self.waiting = None;
        match response.error {
            None => {}
            Some(GroupError::FencedMemberEpoch | GroupError::UnknownMemberId) => {
                self.fail();
                self.is_fenced = true;
                self.epoch = 0;
                return;
            }
            Some(_) => return self.fail(),
        }
        self.epoch = response.member_epoch;
        let Some(assignment) = &response.assignment else {
            return;
        };
        let topics = assignment.iter();
        let partitions: Partitions = topics
            .map(|topic| (topic.topic_id, topic.partitions.iter().copied().collect()))
            .collect();
        if self.target.version == 0 || self.target.partitions != partitions {
            let version = self.target.version + 1;
            self.target = Local {
                version,
                partitions,
            };
        }
    }

    fn is_at_rest(&self) -> bool {
        !self.is_fenced && self.work.is_none() && self.current == self.target
    }

    /// The application goes one step on. Whether there was one.
    fn work(&mut self) -> bool {
        if self.is_fenced {
            self.is_fenced = false;
            self.held.clear();
            self.work = None;
            self.current = Local::default();
            self.target = Local::default();
            return true;
        }
        let Some((to, stage)) = self.work.take() else {
            return self.begin();
        };
        match stage {
            Stage::Revoking => {
                self.held.retain(|topic, held| {
                    let keeps = to.partitions.get(topic);
                    held.retain(|partition| keeps.is_some_and(|all| all.contains(partition)));
                    !held.is_empty()
                });
                self.work = Some((to, Stage::Revoked));
            }
            Stage::Revoked => {
                self.held.clone_from(&to.partitions);
                self.work = Some((to, Stage::Assigning));
            }
            Stage::Assigning => self.current = to,
        }
        true
    }

    fn begin(&mut self) -> bool {
        if self.current == self.target {
            return false;
        }
        let mut to = self.target.clone();
        to.partitions.retain(|topic, _| self.seen.contains(topic));
        if self.current.version != 0 && self.current.partitions == to.partitions {
            let is_news = self.current != to;
            self.current = to;
            return is_news;
        }
        self.work = Some((to, Stage::Revoking));
        true
    }

    fn see_all(&mut self) {
        self.seen = (1_000..1_004).map(Uuid).collect();
    }

    /// The application ends all that there is to do.
    fn finish(&mut self) {
        for _ in 0..20 {
            // What it cannot see stays undone.
            if !self.work() || self.is_at_rest() {
                return;
            }
        }
        panic!("never ends: {self:#?}");
    }

    fn count(&self) -> usize {
        self.held.values().map(BTreeSet::len).sum()
    }
}

impl World {
    /// One heartbeat, answered; the application does nothing.
    fn beat(&mut self, member: &mut Java) -> ConsumerGroupHeartbeatResponse {
        let response = self.heartbeat(member.request());
        member.take(&response);
        response
    }

    /// The request of the client arrives, and its answer is lost.
    fn beat_in_vain(&mut self, member: &mut Java) {
        let request = member.request();
        assert_eq!(self.heartbeat(request).error, None);
        member.fail();
    }

    /// No partition is with two members that the coordinator counts as such.
    fn check_held(&self, members: &[&Java]) {
        let Some(group) = self.driver.leader().consumer(GROUP) else {
            return;
        };
        let mut holders = std::collections::BTreeMap::new();
        let are_in = members
            .iter()
            .filter(|member| !member.is_fenced && group.member(&member.id).is_some());
        for member in are_in {
            for (&topic, partitions) in &member.held {
                for &partition in partitions {
                    let other = holders.insert((topic, partition), &member.id);
                    assert_eq!(
                        other, None,
                        "{topic}-{partition} is with {} too: {members:#?} {group:#?}",
                        member.id
                    );
                }
            }
        }
    }

    /// Everybody goes on until all is done.
    fn rest(&mut self, members: &mut [&mut Java]) {
        for _ in 0..20 {
            for member in members.iter_mut() {
                member.finish();
                assert_eq!(self.beat(member).error, None);
            }
            let done = members.iter().all(|member| member.is_at_rest());
            if done && self.group().state().name() == "Stable" {
                return;
            }
        }
        panic!("no rest: {:#?} {members:#?}", self.group());
    }
}

#[test]
fn what_a_member_is_taking_is_not_given_to_another_when_it_repeats_everything() {
    let mut world = World::new();
    let (mut first, mut second) = (Java::new("first", &["t0"]), Java::new("second", &["t0"]));
    // Everything is the first's, whose application is told so and takes its time.
    world.beat(&mut first);
    assert!(first.work() && first.work() && first.work());
    assert_eq!((first.count(), first.current.version), (8, 0));
    world.beat(&mut second);
    second.finish();
    // It fails to reach the coordinator, and says all it has to say: that it has finished nothing.
    first.fail();
    let response = world.beat(&mut first);
    assert_eq!(response.assignment.unwrap()[0].partitions.len(), 8);
    world.beat(&mut second);
    second.finish();
    world.check_held(&[&first, &second]);
    assert_eq!(second.count(), 0);
    // It says that it has all of it, and is asked for half.
    first.finish();
    let response = world.beat(&mut first);
    assert_eq!(response.assignment.unwrap()[0].partitions.len(), 4);
    // It fails again before it gave that up.
    first.fail();
    world.beat(&mut first);
    world.beat(&mut second);
    second.finish();
    assert_eq!((first.count(), second.count()), (8, 0));
    world.rest(&mut [&mut first, &mut second]);
    assert_eq!((first.count(), second.count()), (4, 4));
    world.check_held(&[&first, &second]);
}

#[test]
fn a_new_leader_does_not_take_from_a_member_what_it_is_taking_either() {
    let mut world = World::new();
    let (mut first, mut second) = (Java::new("first", &["t0"]), Java::new("second", &["t0"]));
    for member in [&mut first, &mut second] {
        world.beat(member);
    }
    world.rest(&mut [&mut first, &mut second]);
    // The second goes; the first takes its four, and has them when a third comes.
    world.leave(
        &Consumer {
            id: second.id,
            ..Consumer::new(&[])
        },
        -1,
    );
    world.beat(&mut first);
    assert!(first.work() && first.work() && first.work());
    assert_eq!(first.count(), 8);
    let mut third = Java::new("third", &["t0"]);
    world.beat(&mut third);
    world.driver.settle();
    world.driver.fail_over();
    first.fail();
    // What it names is just what it shall keep.
    assert_eq!(
        first.clone().request().topic_partitions.unwrap()[0]
            .partitions
            .len(),
        4
    );
    world.beat(&mut first);
    world.beat(&mut third);
    third.finish();
    assert_eq!(third.count(), 0);
    world.rest(&mut [&mut first, &mut third]);
    assert_eq!((first.count(), third.count()), (4, 4));
}

#[test]
fn a_member_that_a_new_leader_asked_first_may_still_be_taking_what_it_was_asked_for() {
    let mut world = World::new();
    let (mut first, mut second) = (Java::new("first", &["t0"]), Java::new("second", &["t0"]));
    world.beat(&mut first);
    assert!(first.work() && first.work() && first.work());
    world.beat(&mut second);
    // It goes on with the new leader as if nothing had happened.
    world.driver.settle();
    world.driver.fail_over();
    let response = world.beat(&mut first);
    assert_eq!(response.assignment.unwrap()[0].partitions.len(), 4);
    // That it has finished nothing does not mean that it gave anything up.
    first.fail();
    world.beat(&mut first);
    world.beat(&mut second);
    second.finish();
    assert_eq!((first.count(), second.count()), (8, 0));
    world.rest(&mut [&mut first, &mut second]);
    assert_eq!((first.count(), second.count()), (4, 4));
}

#[test]
fn a_member_that_never_heard_of_a_partition_is_told_before_it_must_give_it_up() {
    let mut world = World::new();
    let (mut first, mut second) = (Java::new("first", &["t0"]), Java::new("second", &["t0"]));
    for member in [&mut first, &mut second] {
        world.beat(member);
    }
    world.rest(&mut [&mut first, &mut second]);
    world.leave(
        &Consumer {
            id: second.id,
            ..Consumer::new(&[])
        },
        -1,
    );
    world.beat_in_vain(&mut first);
    let mut third = Java::new("third", &["t0"]);
    world.beat(&mut third);
    // What it has is what it shall have: told only that, it would have nothing to say.
    let response = world.beat(&mut first);
    assert_eq!(response.assignment.unwrap()[0].partitions.len(), 8);
    world.rest(&mut [&mut first, &mut third]);
    assert_eq!((first.count(), third.count()), (4, 4));
}

#[test]
fn a_member_that_cannot_take_what_it_was_assigned_does_not_keep_it_for_ever() {
    let mut world = World::new();
    let (mut first, mut second) = (Java::new("first", &["t0"]), Java::new("second", &["t0"]));
    // It may not see the topic.
    first.seen.clear();
    world.beat(&mut first);
    first.finish();
    world.beat(&mut first);
    world.beat(&mut second);
    for _ in 0..3 {
        for member in [&mut first, &mut second] {
            assert_eq!(world.beat(member).error, None);
            member.finish();
        }
        assert_eq!(second.count(), 0);
        world.advance(4_000);
    }
    for _ in 0..3 {
        for member in [&mut first, &mut second] {
            assert_eq!(world.beat(member).error, None);
            member.finish();
        }
    }
    assert_eq!(second.count(), 4);
}

#[test]
fn a_partition_of_a_topic_that_is_gone_is_waited_for_by_nobody() {
    let mut world = World::new();
    world.put_topic("new", 77, 4);
    let mut member = Java::new("member", &["t0", "new"]);
    world.beat(&mut member);
    // It never got to know the name of the new one.
    member.finish();
    world.beat(&mut member);
    assert_eq!(member.count(), 8);
    world.driver.context.remove("new");
    assert_eq!(world.driver.ask(Command::TopicsChanged), Response::Done);
    member.fail();
    world.beat(&mut member);
    assert_eq!(world.group().state().name(), "Stable");
    world.rest(&mut [&mut member]);
}

/// A run of random members and failures.
struct Run {
    world: World,
    draw: Draw,
    clients: Vec<Java>,
    starts: usize,
    has_changed_unnoticed: bool,
}

/// An application is told at once, and never takes longer than this.
const CALLBACK_MAX_MS: i64 = 6_000;

impl Run {
    fn below(&mut self, bound: u64) -> u64 {
        self.draw.below(0..bound)
    }

    fn fresh(&mut self) -> Java {
        self.starts += 1;
        let mut client = Java::new(&format!("j{}", self.starts), &[]);
        client.names = self.some_topics();
        client
    }

    fn some_topics(&mut self) -> Vec<String> {
        let wanted = self.below(15) + 1;
        let topics = (0..4).filter(|n| wanted >> n & 1 == 1);
        topics.map(|n| format!("t{n}")).collect()
    }

    fn send(&mut self, client: usize) {
        let client = &mut self.clients[client];
        // One at a time, and none before the application knows that it lost everything.
        if client.waiting.is_none() && !client.is_fenced {
            let mut request = client.request();
            request.fresh_id = self.world.fresh_id();
            let command = Command::ConsumerGroupHeartbeat(request);
            client.waiting = Some(self.world.driver.send(command));
        }
    }

    fn receive(&mut self, client: usize) {
        let client = &mut self.clients[client];
        let Some(reply) = client.waiting else { return };
        match self.world.driver.take(reply) {
            None => {}
            Some(Outcome::Resigned) => client.fail(),
            Some(Outcome::Answered(Response::ConsumerGroupHeartbeat(response))) => {
                client.take(&response);
            }
            Some(other) => panic!("{other:?}"),
        }
    }

    fn step(&mut self) {
        let clients = u64::try_from(self.clients.len()).unwrap();
        let client = usize::try_from(self.below(clients)).unwrap();
        match self.below(100) {
            0..30 => self.send(client),
            30..50 => self.receive(client),
            50..75 => {
                self.clients[client].work();
            }
            75..85 => {
                let ms = self.below(1_500);
                self.world.advance(i64::try_from(ms).unwrap());
            }
            // The answer is lost, or the request never came.
            85..88 => self.clients[client].fail(),
            88..90 => self.clients[client].names = self.some_topics(),
            90..92 => {
                // Killed, or gone after having given up everything.
                if self.below(2) == 0 && self.clients[client].waiting.is_none() {
                    let id = self.clients[client].id.clone();
                    let gone = Consumer {
                        id,
                        ..Consumer::new(&[])
                    };
                    self.world.leave(&gone, -1);
                }
                self.clients[client] = self.fresh();
            }
            92..95 => {
                let moves = self.below(2) == 0;
                self.change_leader(moves);
            }
            95..97 => {
                let partitions = i32::try_from(self.below(6)).unwrap() + 4;
                self.world.put_topic("t3", 1_003, partitions);
            }
            _ => {
                // The name of a topic is slow to come; that of one it has it knows.
                let topic = Uuid(1_000 + u128::from(self.below(4)));
                let client = &mut self.clients[client];
                let to = client.work.as_ref().map(|(to, _)| &to.partitions);
                let mut known = [Some(&client.current.partitions), Some(&client.held), to]
                    .into_iter()
                    .flatten();
                if !client.seen.insert(topic) && !known.any(|all| all.contains_key(&topic)) {
                    client.seen.remove(&topic);
                }
            }
        }
        self.hurry();
        self.check();
    }

    /// Another leader, or the same one that starts over. Of a change that clients do not notice
    /// the next leader knows nothing: if it is to know what they are doing then, they must have
    /// done what they were told before.
    fn change_leader(&mut self, moves: bool) {
        if self.has_changed_unnoticed {
            for client in &mut self.clients {
                client.see_all();
                client.finish();
            }
        }
        if moves {
            self.world.driver.fail_over();
        } else {
            self.world.driver.fail_append();
        }
        self.has_changed_unnoticed = self.below(2) == 0;
        if !self.has_changed_unnoticed {
            self.clients.iter_mut().for_each(Java::fail);
        }
    }

    /// Applications do not take for ever.
    fn hurry(&mut self) {
        let now_ms = self.world.driver.now_ms();
        for client in &mut self.clients {
            if client.is_at_rest() {
                client.behind_since_ms = None;
            }
            let since_ms = *client.behind_since_ms.get_or_insert(now_ms);
            if now_ms - since_ms >= CALLBACK_MAX_MS {
                client.finish();
                client.behind_since_ms = None;
            }
        }
    }

    fn check(&self) {
        check_owners(self.world.driver.leader());
        let clients: Vec<&Java> = self.clients.iter().collect();
        self.world.check_held(&clients);
    }

    /// Nothing fails any more: soon everybody has what it shall have, and nobody is fenced for
    /// having been stuck.
    fn end(&mut self) {
        self.world.advance(SESSION_MS);
        let clients = self.clients.len();
        for client in &mut self.clients {
            client.fail();
            client.see_all();
        }
        let mut fenced_late = 0;
        for round in 0..16 {
            for client in 0..clients {
                self.clients[client].finish();
                self.check();
                if self.clients[client].is_fenced {
                    self.clients[client].finish();
                }
                let mut request = self.clients[client].request();
                request.fresh_id = self.world.fresh_id();
                let response = self.world.heartbeat(request);
                self.clients[client].take(&response);
                if round > 1 && self.clients[client].is_fenced {
                    fenced_late += 1;
                }
                self.check();
            }
            self.world.advance(2_000);
        }
        let group = self.world.group();
        assert_eq!(
            group.state().name(),
            "Stable",
            "{group:#?} {:#?}",
            self.clients
        );
        assert_eq!((group.members().len(), fenced_late), (clients, 0));
        for client in &self.clients {
            assert!(client.is_at_rest(), "{client:#?}");
            assert_eq!(
                group.member(&client.id).unwrap().current.assigned,
                client.held
            );
            assert_eq!(*group.target(&client.id), client.held);
        }
        let held: usize = self.clients.iter().map(Java::count).sum();
        let wanted: i32 = group
            .subscribed_topics()
            .iter()
            .map(|name| self.world.driver.context.by_name(name).unwrap().partitions)
            .sum();
        assert_eq!(held, usize::try_from(wanted).unwrap());
        self.world.driver.settle();
    }
}

#[test]
fn no_partition_is_with_two_members_and_every_group_comes_to_rest() {
    for seed in 0..60 {
        let mut run = Run {
            world: World::with(GroupsConfig::default(), seed),
            draw: Draw::new(seed ^ 0x9ead),
            clients: Vec::new(),
            starts: 0,
            has_changed_unnoticed: false,
        };
        for _ in 0..run.below(5) + 2 {
            let client = run.fresh();
            run.clients.push(client);
        }
        for _ in 0..600 {
            run.step();
        }
        run.end();
    }
}

//! Members of both protocols in one group, which goes from one kind to the other and back while
//! leaders are lost: no partition has two owners, and in the end every partition has one.

use std::collections::BTreeMap;

use coordinator::driver::Draw;
use coordinator::{Outcome, ReplyId};

use super::random::check_owners;
use super::*;
use crate::command::SyncAssignment;
use crate::record::embedded::{NamedPartitions, Subscription, encode_assignment};
use crate::response::DescribedGroup;

/// What a classic client waits for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Waits {
    Join,
    Sync,
    Heartbeat,
}

/// A classic client that gives everything back before it joins.
struct Eager {
    member: Classic,
    must_join: bool,
    waits: Option<(Waits, ReplyId)>,
}

impl Eager {
    fn new(names: &[&str], instance: Option<String>) -> Self {
        let member = Classic {
            instance,
            ..Classic::new(names)
        };
        Self {
            member,
            must_join: true,
            waits: None,
        }
    }

    fn rejoin(&mut self) {
        self.member.owned.clear();
        self.must_join = true;
    }

    /// Sends what is due.
    fn go_on(&mut self, world: &mut World) {
        if self.waits.is_some() {
            return;
        }
        if self.must_join {
            self.member.owned.clear();
            let mut request = self.member.request();
            request.requires_known_member_id = true;
            request.fresh_id = world.fresh_id();
            self.waits = Some((Waits::Join, world.driver.send(Command::JoinGroup(request))));
        } else {
            let request = Heartbeat {
                group_id: GROUP.to_owned(),
                generation_id: self.member.generation,
                member_id: self.member.id.clone(),
                group_instance_id: self.member.instance.clone(),
            };
            self.waits = Some((
                Waits::Heartbeat,
                world.driver.send(Command::Heartbeat(request)),
            ));
        }
    }

    /// Takes the answer, if there is one, and sends what follows from it.
    fn receive(&mut self, world: &mut World) {
        let Some((waits, reply)) = self.waits else {
            return;
        };
        let Some(outcome) = world.driver.take(reply) else {
            return;
        };
        self.waits = None;
        let Outcome::Answered(response) = outcome else {
            // Another leader: whoever waited in a barrier joins again.
            if waits != Waits::Heartbeat {
                self.rejoin();
            }
            return;
        };
        match response {
            Response::JoinGroup(joined) => self.joined(joined, world),
            Response::SyncGroup(synced) => match synced.error {
                None => {
                    let assigned = embedded::decode_assignment(&synced.assignment)
                        .unwrap()
                        .partitions;
                    let pairs = |(name, all): (String, BTreeSet<i32>)| {
                        all.into_iter()
                            .map(move |partition| (name.clone(), partition))
                    };
                    self.member.owned = assigned.into_iter().flat_map(pairs).collect();
                }
                Some(error) => self.failed(error),
            },
            Response::Heartbeat(Ok(())) => {}
            Response::Heartbeat(Err(error)) => self.failed(error),
            other => panic!("{other:?}"),
        }
    }

    fn joined(&mut self, joined: Joined, world: &mut World) {
        match joined.error {
            None => {}
            Some(GroupError::MemberIdRequired) => {
                self.member.id = joined.member_id;
                return;
            }
            Some(error) => return self.failed(error),
        }
        self.must_join = false;
        self.member.id = joined.member_id.clone();
        self.member.generation = joined.generation_id;
        let request = SyncGroup {
            group_id: GROUP.to_owned(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            group_instance_id: self.member.instance.clone(),
            assignments: assign(&joined),
            ..SyncGroup::default()
        };
        self.waits = Some((Waits::Sync, world.driver.send(Command::SyncGroup(request))));
    }

    fn failed(&mut self, error: GroupError) {
        match error {
            GroupError::RebalanceInProgress | GroupError::IllegalGeneration => {}
            GroupError::UnknownMemberId | GroupError::FencedInstanceId => self.member.id.clear(),
            error => panic!("{error:?}"),
        }
        self.rejoin();
    }
}

/// What the leader of a classic group gives the members: each topic in turn to who reads it.
fn assign(joined: &Joined) -> Vec<SyncAssignment> {
    let mut given: BTreeMap<&str, NamedPartitions> = BTreeMap::new();
    let mut readers: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for member in &joined.members {
        given.insert(&member.member_id, NamedPartitions::new());
        for name in Subscription::decode(&member.metadata).unwrap().topics {
            readers.entry(name).or_default().push(&member.member_id);
        }
    }
    for (name, readers) in readers {
        for (partition, reader) in (0..8).zip(readers.iter().cycle()) {
            let given = given.get_mut(reader).unwrap();
            given.entry(name.clone()).or_default().insert(partition);
        }
    }
    let bytes = |(member_id, given): (&str, NamedPartitions)| SyncAssignment {
        member_id: member_id.to_owned(),
        assignment: encode_assignment(1, &given),
    };
    given.into_iter().map(bytes).collect()
}

struct Run {
    world: World,
    draw: Draw,
    consumers: Vec<Consumer>,
    classics: Vec<Eager>,
    /// How often the group was seen to become another kind of group.
    conversions: usize,
    was_consumer: bool,
}

impl Run {
    fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.draw.below(0..u64::try_from(len).unwrap())).unwrap()
    }

    fn poll(&mut self, consumer: usize) {
        match self.world.poll(&mut self.consumers[consumer]) {
            Ok(()) => {}
            Err(GroupError::FencedMemberEpoch | GroupError::UnknownMemberId) => {}
            // The group became a classic one without it.
            Err(GroupError::GroupIdNotFound) => {
                let consumer = &mut self.consumers[consumer];
                (consumer.epoch, consumer.full) = (0, true);
                consumer.owned.clear();
            }
            Err(error) => panic!("{error:?}"),
        }
    }

    fn receive(&mut self) {
        for classic in &mut self.classics {
            classic.receive(&mut self.world);
        }
    }

    fn step(&mut self) {
        match self.draw.below(0..100) {
            0..25 if !self.consumers.is_empty() => {
                let consumer = self.index(self.consumers.len());
                self.poll(consumer);
            }
            25..55 => {
                let classic = self.index(self.classics.len());
                self.classics[classic].go_on(&mut self.world);
            }
            55..70 => {
                let ms = self.draw.below(0..3_000);
                self.world.advance(i64::try_from(ms).unwrap());
            }
            70..74 if self.consumers.len() < 3 => self.consumers.push(Consumer::new(&["t0", "t1"])),
            74..79 if !self.consumers.is_empty() => {
                let consumer = self.index(self.consumers.len());
                let gone = self.consumers.remove(consumer);
                // It leaves, or it dies.
                if !gone.id.is_empty() && self.draw.below(0..3) > 0 {
                    self.world.leave(&gone, -1);
                }
            }
            79..82 => {
                let classic = self.index(self.classics.len());
                let instance = self.classics[classic].member.instance.clone();
                let gone = std::mem::replace(
                    &mut self.classics[classic],
                    Eager::new(&["t0", "t1"], instance),
                );
                if !gone.member.id.is_empty() && self.draw.below(0..2) == 0 {
                    self.world.leave_classic(&gone.member.id);
                }
            }
            82..84 => self.world.driver.fail_over(),
            84..86 => self.world.driver.fail_append(),
            _ => self.receive(),
        }
        check_owners(self.world.driver.leader());
        let is_consumer = self.world.driver.leader().consumer(GROUP).is_some();
        self.conversions += usize::from(is_consumer != self.was_consumer);
        self.was_consumer = is_consumer;
    }

    fn classic(&mut self) -> DescribedGroup {
        match self
            .world
            .driver
            .ask(Command::DescribeGroups(vec![GROUP.to_owned()]))
        {
            Response::DescribeGroups(mut described) => described.remove(0),
            other => panic!("{other:?}"),
        }
    }

    fn end(&mut self) {
        for _ in 0..100 {
            for consumer in 0..self.consumers.len() {
                self.poll(consumer);
            }
            for classic in 0..self.classics.len() {
                self.classics[classic].go_on(&mut self.world);
                self.world.advance(100);
                self.receive();
            }
            self.world.advance(1_000);
            self.receive();
        }
        let members = self.consumers.len() + self.classics.len();
        if self.consumers.is_empty() && self.world.driver.leader().consumer(GROUP).is_none() {
            let group = self.classic();
            assert_eq!((group.state, group.members.len()), ("Stable", members));
        } else {
            let group = self.world.group();
            assert_eq!(
                (group.state().name(), group.members().len()),
                ("Stable", members)
            );
        }
        let topics = &self.world.driver.context;
        let id = |name: &str| topics.by_name(name).unwrap().id;
        let classics = self
            .classics
            .iter()
            .flat_map(|classic| &classic.member.owned);
        let consumers = self.consumers.iter().flat_map(|consumer| &consumer.owned);
        let mut owned: Vec<(Uuid, i32)> = classics
            .map(|(name, partition)| (id(name), *partition))
            .chain(consumers.flat_map(|(&topic, all)| all.iter().map(move |&p| (topic, p))))
            .collect();
        owned.sort_unstable();
        let wanted: Vec<(Uuid, i32)> = ["t0", "t1"]
            .iter()
            .flat_map(|name| (0..8).map(move |p| (id(name), p)))
            .collect();
        assert_eq!(owned, wanted);
        self.world.driver.settle();
    }
}

#[test]
fn members_of_both_protocols_never_share_a_partition_whatever_becomes_of_the_group() {
    let mut conversions = 0;
    for seed in 0..30 {
        let instance = |n: u64| (n == 0).then(|| format!("i{n}"));
        let mut run = Run {
            world: World::with(GroupsConfig::default(), seed),
            draw: Draw::new(seed ^ 0x1d3),
            consumers: Vec::new(),
            classics: (0..seed % 3 + 1)
                .map(|n| Eager::new(&["t0", "t1"], instance(n)))
                .collect(),
            conversions: 0,
            was_consumer: false,
        };
        for _ in 0..400 {
            run.step();
        }
        conversions += run.conversions;
        run.end();
    }
    assert!(
        conversions > 100,
        "only {conversions} conversions: nothing was tested"
    );
}

#[test]
fn a_group_is_upgraded_before_its_first_generation() {
    let mut world = World::new();
    let mut waiting = Classic::new(&["t0"]).request();
    waiting.requires_known_member_id = false;
    waiting.fresh_id = world.fresh_id();
    let reply = world.driver.send(Command::JoinGroup(waiting));
    let mut one = world.joined(&["t0"]);
    world.advance(50);
    let told = match world.driver.take(reply) {
        Some(coordinator::Outcome::Answered(Response::JoinGroup(joined))) => joined,
        other => panic!("{other:?}"),
    };
    assert_eq!(told.error, Some(GroupError::RebalanceInProgress));
    let mut classic = Classic::new(&["t0"]);
    classic.id = told.member_id;
    world.rejoin_classic(&mut classic);
    for _ in 0..4 {
        world.poll(&mut one).unwrap();
        world.poll_classic(&mut classic);
    }
    assert_eq!((one.count(), classic.owned.len()), (4, 4));
    assert_eq!(world.group().members().len(), 2);
    world.driver.settle();
}

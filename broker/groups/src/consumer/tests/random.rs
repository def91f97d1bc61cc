//! Whatever members do, and whenever the leader is lost: no partition has two owners, and in the
//! end every partition has one.

use std::collections::BTreeMap;

use coordinator::driver::Draw;
use coordinator::{Coordinator, Outcome, ReplyId};

use super::*;
use crate::assignor::TopicId;
use crate::groups::Group;

/// That no partition belongs to two members, in any group.
pub(super) fn check_owners(groups: &Groups) {
    for group in groups.hard().groups.values() {
        let Group::Consumer(group) = group else {
            continue;
        };
        let mut owners: BTreeMap<(TopicId, i32), &str> = BTreeMap::new();
        for (id, member) in group.members() {
            for (&topic, partitions) in member
                .current
                .assigned
                .iter()
                .chain(&member.current.revoking)
            {
                for &partition in partitions {
                    let before = owners.insert((topic, partition), id);
                    assert_eq!(before, None, "{topic}-{partition} of {id} too: {group:#?}");
                }
            }
        }
    }
}

/// That the client has nothing that the group does not count as its own, as long as it is a
/// member under its id.
fn check_belief(world: &World, client: &Consumer) {
    let Some(group) = world.driver.leader().consumer(GROUP) else {
        return;
    };
    let Some(member) = group.member(&client.id) else {
        return;
    };
    for (topic, partitions) in &client.owned {
        let has = |all: &Partitions, p: &i32| all.get(topic).is_some_and(|all| all.contains(p));
        let current = &member.current;
        for partition in partitions {
            assert!(
                has(&current.assigned, partition) || has(&current.revoking, partition),
                "{} believes it has {topic}-{partition}: {group:#?}",
                client.id
            );
        }
    }
}

fn below(draw: &mut Draw, bound: u64) -> u64 {
    draw.below(0..bound)
}

fn some_topics(draw: &mut Draw) -> Vec<String> {
    let wanted = below(draw, 15) + 1;
    (0..4)
        .filter(|n| wanted >> n & 1 == 1)
        .map(|n| format!("t{n}"))
        .collect()
}

/// A run of random members and failures.
struct Run {
    world: World,
    draw: Draw,
    clients: Vec<Consumer>,
    waiting: Vec<(usize, ReplyId)>,
    instances: u64,
}

impl Run {
    fn send(&mut self, client: usize) {
        // A client has one heartbeat under way at a time.
        if self.waiting.iter().any(|(waiting, _)| *waiting == client) {
            return;
        }
        let mut request = self.clients[client].request();
        request.fresh_id = self.world.fresh_id();
        let reply = self
            .world
            .driver
            .send(Command::ConsumerGroupHeartbeat(request));
        self.waiting.push((client, reply));
    }

    fn receive(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        for (client, reply) in waiting {
            match self.world.driver.take(reply) {
                None => self.waiting.push((client, reply)),
                Some(Outcome::Resigned) => {}
                Some(Outcome::Answered(Response::ConsumerGroupHeartbeat(response))) => {
                    self.clients[client].take(&response);
                }
                Some(other) => panic!("{other:?}"),
            }
        }
    }

    /// A client that starts over, dead or tired of waiting: whatever it had is gone.
    fn replace(&mut self, client: usize) {
        self.waiting.retain(|(waiting, _)| *waiting != client);
        let names = some_topics(&mut self.draw);
        let instance = self.clients[client].instance.clone();
        let expression = below(&mut self.draw, 4) == 0;
        self.clients[client] = Consumer {
            names,
            instance,
            regex: expression.then(|| "t[0-2]".to_owned()),
            ..Consumer::new(&[])
        };
    }

    fn step(&mut self) {
        let clients = u64::try_from(self.clients.len()).unwrap();
        let client = usize::try_from(below(&mut self.draw, clients)).unwrap();
        match below(&mut self.draw, 100) {
            0..50 => self.send(client),
            50..70 => {
                let ms = below(&mut self.draw, 4_000);
                self.world.advance(i64::try_from(ms).unwrap());
            }
            70..75 => {
                if !self.waiting.iter().any(|(waiting, _)| *waiting == client) {
                    self.clients[client].names = some_topics(&mut self.draw);
                    self.clients[client].full = true;
                }
            }
            75..79 => {
                let leaving = self.clients[client].clone();
                let away = leaving.instance.is_some() && below(&mut self.draw, 2) == 0;
                if !leaving.id.is_empty() {
                    self.world.leave(&leaving, if away { -2 } else { -1 });
                }
                self.replace(client);
            }
            79..82 => self.replace(client),
            82..85 => self.world.driver.fail_over(),
            85..88 => self.world.driver.fail_append(),
            88..90 => {
                let partitions = i32::try_from(below(&mut self.draw, 6)).unwrap() + 4;
                self.world.put_topic("t3", 1_003, partitions);
            }
            90..91 => self.world.advance(20_000),
            _ => self.receive(),
        }
        check_owners(self.world.driver.leader());
        for client in 0..self.clients.len() {
            check_belief(&self.world, &self.clients[client]);
        }
    }

    /// Everybody heartbeats until all is well.
    fn end(&mut self) {
        self.world.advance(SESSION_MS);
        self.receive();
        self.waiting.clear();
        for _ in 0..60 {
            for client in &mut self.clients {
                match self.world.poll(client) {
                    // The one before it is still counted as there.
                    Ok(()) | Err(GroupError::UnreleasedInstanceId) => {}
                    Err(GroupError::FencedMemberEpoch | GroupError::UnknownMemberId) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
            self.world.advance(3_000);
        }
        assert_eq!(
            self.world.group().state().name(),
            "Stable",
            "{:#?}",
            self.world.group()
        );
        check_owners(self.world.driver.leader());
        let group = self.world.group();
        assert_eq!(group.members().len(), self.clients.len());
        let mut owned = BTreeSet::new();
        for client in &self.clients {
            assert_eq!(
                group.member(&client.id).unwrap().current.assigned,
                client.owned
            );
            for (&topic, partitions) in &client.owned {
                owned.extend(partitions.iter().map(|&partition| (topic, partition)));
            }
        }
        let mut wanted = BTreeSet::new();
        for name in group.subscribed_topics() {
            let topic = self.world.driver.context.by_name(name).unwrap();
            wanted.extend((0..topic.partitions).map(|partition| (topic.id, partition)));
        }
        assert_eq!(owned, wanted);
        self.world.driver.settle();
    }
}

fn run(seed: u64) {
    let mut run = Run {
        world: World::with(GroupsConfig::default(), seed),
        draw: Draw::new(seed ^ 0x5eed),
        clients: Vec::new(),
        waiting: Vec::new(),
        instances: 0,
    };
    let clients = below(&mut run.draw, 6) + 2;
    for _ in 0..clients {
        let mut client = Consumer::new(&[]);
        client.names = some_topics(&mut run.draw);
        if below(&mut run.draw, 3) == 0 {
            run.instances += 1;
            client.instance = Some(format!("i{}", run.instances));
        }
        if below(&mut run.draw, 3) == 0 {
            client.assignor = Some("range".to_owned());
        }
        run.clients.push(client);
    }
    for _ in 0..400 {
        run.step();
    }
    run.end();
}

#[test]
fn no_partition_ever_has_two_owners_and_in_the_end_each_has_one() {
    for seed in 0..40 {
        run(seed);
    }
}

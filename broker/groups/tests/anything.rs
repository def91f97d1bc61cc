//! Anything, in any order, from anybody: both protocols on the same groups, true and false ids, old
//! and new epochs, admins, topics that come and go, failed appends and new leaders.
//!
//! What must hold whatever is asked: nothing panics, every command is answered once (the driver
//! counts), all replicas and the compacted log agree (the driver compares), no partition is assigned
//! to two members of a consumer group, and a commit that was answered is not lost.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of a test, outside of its function"
)]

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use coordinator::driver::{Draw, Driver, Settings};
use coordinator::{Outcome, ReplyId};
use groups::{
    Client, Command, CommitPartition, CommitTopic, ConsumerGroupHeartbeat, FetchTopic,
    GroupProtocol, Groups, GroupsConfig, Heartbeat, JoinGroup, LeaveGroup, LeavingMember,
    ListGroups, MigrationPolicy, OffsetCommit, OffsetDelete, OffsetFetch, OwnedTopic, Response,
    SyncAssignment, SyncGroup, Topic, Topics, Uuid,
};

const GROUPS: &[&str] = &["a", "b", "c"];

/// What clients remember of answers.
#[derive(Default)]
struct Known {
    /// Members that were seen, with the generation or epoch they were told last.
    members: BTreeMap<String, Vec<(String, i32)>>,
    /// What members were told to own.
    owned: BTreeMap<String, Vec<OwnedTopic>>,
}

struct World {
    driver: Driver<Groups>,
    draw: Draw,
    known: Known,
    open: BTreeMap<ReplyId, Asked>,
    next_id: u128,
    next_offset: i64,
    /// Offsets that may be committed, by group and partition of `t0`.
    possible: BTreeMap<(String, i32), BTreeSet<i64>>,
    answered: usize,
    /// The type and state of each group, as it was listed last.
    listed: BTreeMap<String, (&'static str, &'static str)>,
    /// What happened how often.
    seen: BTreeMap<&'static str, usize>,
}

/// What is remembered of a command until its answer comes.
enum Asked {
    Member(String),
    Consumer(String),
    Commit(String, i32, i64),
    Delete(String),
    Other,
}

fn subscription(topics: &[&str], owned: &[(&str, i32)]) -> Bytes {
    let mut bytes = vec![0, 1];
    bytes.extend(u32::try_from(topics.len()).unwrap().to_be_bytes());
    for topic in topics {
        bytes.extend(u16::try_from(topic.len()).unwrap().to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend((-1_i32).to_be_bytes());
    bytes.extend(u32::try_from(owned.len()).unwrap().to_be_bytes());
    for (topic, partition) in owned {
        bytes.extend(u16::try_from(topic.len()).unwrap().to_be_bytes());
        bytes.extend(topic.as_bytes());
        bytes.extend(1_i32.to_be_bytes());
        bytes.extend(partition.to_be_bytes());
    }
    bytes.into()
}

fn topic(name: &str, id: u128, partitions: i32) -> Topic {
    Topic {
        id: Uuid(id),
        name: name.to_owned(),
        partitions,
        racks: Vec::new(),
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut topics = Topics::new();
        topics.insert(topic("t0", 100, 4));
        topics.insert(topic("t1", 101, 3));
        let mut draw = Draw::new(seed ^ 0xabc);
        let policies = [
            MigrationPolicy::Bidirectional,
            MigrationPolicy::Bidirectional,
            MigrationPolicy::Upgrade,
            MigrationPolicy::Downgrade,
            MigrationPolicy::Disabled,
        ];
        let config = GroupsConfig {
            consumer_migration_policy: *draw.one_of(&policies),
            group_max_size: 6,
            consumer_max_size: 6,
            expiry_records_max: 5,
            offsets_retention_check_interval_ms: 20_000,
            ..GroupsConfig::default()
        };
        let settings = Settings {
            seed,
            ..Settings::default()
        };
        Self {
            driver: Driver::new(Groups::new(config), Box::new(topics), settings),
            draw,
            known: Known::default(),
            open: BTreeMap::new(),
            next_id: 1,
            next_offset: 1,
            possible: BTreeMap::new(),
            answered: 0,
            listed: BTreeMap::new(),
            seen: BTreeMap::new(),
        }
    }

    fn group(&mut self) -> String {
        (*self.draw.one_of(GROUPS)).to_owned()
    }

    fn fresh_id(&mut self) -> Uuid {
        self.next_id += 1;
        Uuid(self.next_id)
    }

    /// A member of the group and what it was told last; now and then neither is true.
    fn member(&mut self, group_id: &str) -> (String, i32) {
        let members = self.known.members.get(group_id).cloned();
        let members = members.unwrap_or_default();
        let (member_id, epoch) = if members.is_empty() || self.draw.one_in(12) {
            let ids = ["", "nobody", "x-y"];
            ((*self.draw.one_of(&ids)).to_owned(), 1)
        } else {
            self.draw.one_of(&members).clone()
        };
        let epoch = match self.draw.below(0..12) {
            0 => epoch - 1,
            1 => epoch + 1,
            2 => -1,
            3 => 0,
            _ => epoch,
        };
        (member_id, epoch)
    }

    fn instance_id(&mut self) -> Option<String> {
        let ids = [None, None, None, Some("i1"), Some("i2")];
        self.draw.one_of(&ids).map(str::to_owned)
    }

    fn client(&mut self) -> Client {
        Client {
            id: "client".to_owned(),
            host: "/127.0.0.1".to_owned(),
        }
    }

    fn join(&mut self) -> (Command, Asked) {
        let group_id = self.group();
        let is_new = self.draw.one_in(3);
        let member_id = if is_new {
            String::new()
        } else {
            self.member(&group_id).0
        };
        let metadata = match self.draw.below(0..8) {
            0 => subscription(&["t0"], &[("t0", 1)]),
            1 => Bytes::from_static(b"junk"),
            2 => subscription(&["t0", "t1"], &[]),
            _ => subscription(&["t0"], &[]),
        };
        let types = ["consumer", "consumer", "consumer", "consumer", "connect"];
        let command = JoinGroup {
            group_id: group_id.clone(),
            member_id,
            group_instance_id: self.instance_id(),
            client: self.client(),
            protocol_type: (*self.draw.one_of(&types)).to_owned(),
            protocols: vec![GroupProtocol {
                name: "range".to_owned(),
                metadata,
            }],
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 8_000,
            requires_known_member_id: !self.draw.one_in(3),
            supports_skip_assignment: self.draw.one_in(2),
            reason: None,
            fresh_id: self.fresh_id(),
        };
        (Command::JoinGroup(command), Asked::Member(group_id))
    }

    fn sync(&mut self) -> Command {
        let group_id = self.group();
        let (member_id, generation_id) = self.member(&group_id);
        let all = self.known.members.get(&group_id).into_iter().flatten();
        let assignments = all.map(|(member_id, _)| SyncAssignment {
            member_id: member_id.clone(),
            assignment: Bytes::from_static(b"something"),
        });
        Command::SyncGroup(SyncGroup {
            assignments: assignments.collect(),
            group_id,
            generation_id,
            member_id,
            ..SyncGroup::default()
        })
    }

    fn consumer_heartbeat(&mut self) -> (Command, Asked) {
        let group_id = self.group();
        let is_new = self.draw.one_in(3);
        let (member_id, member_epoch) = if is_new {
            self.next_id += 1;
            (format!("new{}", self.next_id), 0)
        } else {
            self.member(&group_id)
        };
        let member_epoch = match self.draw.below(0..15) {
            0 => -1,
            1 => -2,
            _ => member_epoch,
        };
        let is_whole = member_epoch == 0 || self.draw.one_in(4);
        let names = [vec!["t0"], vec!["t0", "t1"], vec!["t1", "later"]];
        let names = self.draw.one_of(&names).clone();
        let regexes = [None, None, None, Some("t[01]"), Some("("), Some("")];
        let owned = self.known.owned.get(&member_id).cloned();
        let command = ConsumerGroupHeartbeat {
            group_id: group_id.clone(),
            member_id,
            member_epoch,
            instance_id: self.instance_id(),
            rack_id: None,
            rebalance_timeout_ms: if is_whole { 8_000 } else { -1 },
            subscribed_topic_names: is_whole
                .then(|| names.into_iter().map(str::to_owned).collect()),
            subscribed_topic_regex: self.draw.one_of(&regexes).map(str::to_owned),
            server_assignor: None,
            topic_partitions: if member_epoch == 0 {
                Some(Vec::new())
            } else {
                owned
            },
            client: self.client(),
            fresh_id: self.fresh_id(),
        };
        let asked = Asked::Consumer(group_id);
        (Command::ConsumerGroupHeartbeat(command), asked)
    }

    fn commit(&mut self) -> (Command, Asked) {
        let group_id = self.group();
        let (member_id, epoch) = if self.draw.one_in(3) {
            (String::new(), -1)
        } else {
            self.member(&group_id)
        };
        let partition = i32::try_from(self.draw.below(0..4)).unwrap();
        let offset = self.next_offset;
        self.next_offset += 1;
        let command = OffsetCommit {
            group_id: group_id.clone(),
            generation_id_or_member_epoch: epoch,
            member_id,
            understands_member_epochs: self.draw.one_in(2),
            topics: vec![CommitTopic {
                name: "t0".to_owned(),
                id: Uuid::ZERO,
                partitions: vec![CommitPartition {
                    partition,
                    offset,
                    leader_epoch: -1,
                    metadata: None,
                }],
            }],
            ..OffsetCommit::default()
        };
        let possible = self.possible.entry((group_id.clone(), partition));
        possible.or_insert_with(|| BTreeSet::from([-1]));
        let asked = Asked::Commit(group_id, partition, offset);
        (Command::OffsetCommit(command), asked)
    }

    fn admin(&mut self) -> Command {
        let all = || GROUPS.iter().map(|id| (*id).to_owned()).collect();
        let group_id = self.group();
        match self.draw.below(0..6) {
            0 => Command::ListGroups(ListGroups::default()),
            1 => Command::DescribeGroups(all()),
            2 => Command::ConsumerGroupDescribe(all()),
            3 => Command::OffsetFetch(OffsetFetch {
                group_id,
                member_epoch: -1,
                ..OffsetFetch::default()
            }),
            4 => Command::OffsetDelete(OffsetDelete {
                group_id,
                topics: vec![FetchTopic {
                    name: "t1".to_owned(),
                    partitions: vec![0],
                    ..FetchTopic::default()
                }],
            }),
            _ => Command::TopicsDeleted(vec!["later".to_owned()]),
        }
    }

    fn change_topics(&mut self) -> Command {
        let topics = &mut self.driver.context;
        let version = u128::from(topics.version);
        if topics.by_name("later").is_some() {
            topics.remove("later");
        } else {
            topics.insert(topic("later", 200 + version, 2));
        }
        if let Some(mut grown) = topics.by_name("t1").cloned() {
            grown.partitions = (grown.partitions + 1).min(8);
            topics.insert(grown);
        }
        Command::TopicsChanged
    }

    fn draw_command(&mut self) -> (Command, Asked) {
        match self.draw.below(0..100) {
            0..20 => self.join(),
            20..35 => (self.sync(), Asked::Other),
            35..45 => {
                let group_id = self.group();
                let (member_id, generation_id) = self.member(&group_id);
                let command = Heartbeat {
                    group_id,
                    generation_id,
                    member_id,
                    group_instance_id: self.instance_id(),
                };
                (Command::Heartbeat(command), Asked::Other)
            }
            45..50 => {
                let group_id = self.group();
                let (member_id, _) = self.member(&group_id);
                let member = LeavingMember {
                    member_id,
                    group_instance_id: self.instance_id(),
                    reason: None,
                };
                let members = vec![member.clone(), member];
                let command = LeaveGroup { group_id, members };
                (Command::LeaveGroup(command), Asked::Other)
            }
            50..75 => self.consumer_heartbeat(),
            75..85 => self.commit(),
            85..88 => {
                let group_id = self.group();
                let command = Command::DeleteGroups(vec![group_id.clone()]);
                (command, Asked::Delete(group_id))
            }
            88..97 => (self.admin(), Asked::Other),
            _ => (self.change_topics(), Asked::Other),
        }
    }

    fn tick(&mut self) {
        let (command, asked) = self.draw_command();
        let reply = self.driver.send(command);
        self.open.insert(reply, asked);
        if self.draw.one_in(3) {
            let times = [1, 10, 100, 1_000, 5_000];
            let ms = *self.draw.one_of(&times);
            self.driver.advance(ms);
        }
        if self.draw.one_in(150) {
            self.driver.fail_over();
        }
        if self.draw.one_in(150) {
            self.driver.fail_append();
        }
        self.learn();
        self.check_owners();
        self.look_at_groups();
    }

    fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn look_at_groups(&mut self) {
        let command = Command::ListGroups(ListGroups::default());
        let Response::ListGroups(listed) = self.driver.ask(command) else {
            panic!("another answer");
        };
        for group in listed {
            let now = (group.kind, group.state);
            let before = self.listed.insert(group.group_id, now);
            match (before, now) {
                (_, (_, "Empty")) => self.count("empty"),
                (Some(("classic", state)), ("consumer", _)) if state != "Empty" => {
                    self.count("upgrade");
                }
                (Some(("consumer", state)), ("classic", _)) if state != "Empty" => {
                    self.count("downgrade");
                }
                (_, ("classic", "Stable")) => self.count("stable classic"),
                (_, ("consumer", "Stable")) => self.count("stable consumer"),
                (_, ("consumer", "Reconciling")) => self.count("reconciling"),
                _ => {}
            }
        }
    }

    fn learn(&mut self) {
        let open = std::mem::take(&mut self.open);
        // In the order in which they were sent, which is that of the log.
        for (reply, asked) in open {
            match self.driver.take(reply) {
                None => {
                    self.open.insert(reply, asked);
                }
                Some(Outcome::Resigned) => match asked {
                    Asked::Commit(group_id, partition, offset) => {
                        let possible = self.possible.entry((group_id, partition));
                        possible.or_default().insert(offset);
                    }
                    Asked::Delete(group_id) => {
                        for possible in self.possible_of(&group_id) {
                            possible.insert(-1);
                        }
                    }
                    Asked::Member(_) | Asked::Consumer(_) | Asked::Other => {}
                },
                Some(Outcome::Answered(response)) => {
                    self.answered += 1;
                    self.learn_of(asked, response);
                }
            }
        }
    }

    fn learn_of(&mut self, asked: Asked, response: Response) {
        match &response {
            Response::SyncGroup(synced) if synced.error.is_none() => self.count("synced"),
            Response::Heartbeat(Ok(())) => self.count("heartbeat"),
            Response::LeaveGroup(left) if left.members[0].error.is_none() => self.count("left"),
            Response::OffsetCommit(topics) if topics[0].partitions[0].error.is_none() => {
                self.count("committed");
            }
            _ => {}
        }
        match (asked, response) {
            (Asked::Member(group_id), Response::JoinGroup(joined)) => {
                self.meet(&group_id, joined.member_id, joined.generation_id);
            }
            (Asked::Consumer(group_id), Response::ConsumerGroupHeartbeat(answer)) => {
                if let (None, Some(member_id)) = (answer.error, answer.member_id) {
                    if let Some(assignment) = answer.assignment {
                        self.known.owned.insert(member_id.clone(), assignment);
                    }
                    self.meet(&group_id, member_id, answer.member_epoch);
                }
            }
            (Asked::Commit(group_id, partition, offset), Response::OffsetCommit(topics)) => {
                if topics[0].partitions[0].error.is_none() {
                    let only = BTreeSet::from([offset]);
                    self.possible.insert((group_id, partition), only);
                }
            }
            (Asked::Delete(group_id), Response::DeleteGroups(deleted)) => {
                if deleted[0].error.is_none() {
                    for possible in self.possible_of(&group_id) {
                        *possible = BTreeSet::from([-1]);
                    }
                    self.count("deleted");
                }
            }
            (Asked::Other, _) => {}
            (_, other) => panic!("{other:?}"),
        }
    }

    fn possible_of(&mut self, group_id: &str) -> impl Iterator<Item = &mut BTreeSet<i64>> {
        let of_group = move |((id, _), _): &(&(String, i32), _)| id == group_id;
        let possible = self.possible.iter_mut().filter(of_group);
        possible.map(|(_, possible)| possible)
    }

    fn meet(&mut self, group_id: &str, member_id: String, epoch: i32) {
        if member_id.is_empty() {
            return;
        }
        let members = self.known.members.entry(group_id.to_owned()).or_default();
        members.retain(|(known, _)| *known != member_id);
        members.push((member_id, epoch));
        if members.len() > 8 {
            members.remove(0);
        }
    }

    fn check_owners(&mut self) {
        let ids = GROUPS.iter().map(|id| (*id).to_owned()).collect();
        let Response::ConsumerGroupDescribe(described) =
            self.driver.ask(Command::ConsumerGroupDescribe(ids))
        else {
            panic!("another answer");
        };
        for group in described {
            let mut owners = BTreeMap::new();
            for member in &group.members {
                for topic in &member.assignment.topics {
                    for partition in &topic.partitions {
                        let place = (topic.topic_id, *partition);
                        let other = owners.insert(place, &member.member_id);
                        assert_eq!(other, None, "{place:?} has two owners: {group:#?}");
                    }
                }
            }
        }
    }

    fn check_offsets(&mut self) {
        for ((group_id, partition), possible) in &self.possible {
            let command = OffsetFetch {
                group_id: group_id.clone(),
                member_epoch: -1,
                topics: Some(vec![FetchTopic {
                    name: "t0".to_owned(),
                    partitions: vec![*partition],
                    ..FetchTopic::default()
                }]),
                ..OffsetFetch::default()
            };
            let Response::OffsetFetch(fetched) = self.driver.ask(Command::OffsetFetch(command))
            else {
                panic!("another answer");
            };
            let found = fetched.topics[0].partitions[0].offset;
            assert!(possible.contains(&found), "{found} of {possible:?}");
        }
    }
}

#[test]
fn nothing_breaks_whatever_is_asked() {
    let mut seen: BTreeMap<&'static str, usize> = BTreeMap::new();
    for seed in 0..40 {
        let mut world = World::new(seed);
        for _ in 0..400 {
            world.tick();
        }
        world.driver.settle();
        world.driver.advance(0);
        world.learn();
        world.check_offsets();
        // Everybody is silent: all sessions and rebalances end.
        world.driver.advance(1_200_000);
        world.learn();
        assert_eq!(world.driver.waiting(), 0, "seed {seed}");
        assert!(world.answered > 200, "seed {seed}: {}", world.answered);
        world.driver.settle();
        for (what, times) in world.seen {
            *seen.entry(what).or_default() += times;
        }
    }
    let expected = [
        "committed",
        "deleted",
        "downgrade",
        "empty",
        "heartbeat",
        "left",
        "reconciling",
        "stable classic",
        "stable consumer",
        "synced",
        "upgrade",
    ];
    for what in expected {
        let times = seen.get(what).copied().unwrap_or(0);
        assert!(times > 10, "{what} happened {times} times only: {seen:?}");
    }
}

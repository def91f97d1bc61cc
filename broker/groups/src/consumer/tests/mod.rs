//! Tests of consumer groups: groups in a driver, and clients that do what the protocol asks.

mod classic;
mod expressions;
mod heartbeats;
mod mixed;
mod random;
mod revocation;
mod statics;

use std::collections::BTreeSet;

use bytes::Bytes;
use coordinator::driver::{Driver, Settings};

use crate::assignor::Partitions;
use crate::command::{
    Client, Command, ConsumerGroupHeartbeat, GroupProtocol, Heartbeat, JoinGroup, LeaveGroup,
    LeavingMember, OffsetCommit, OwnedTopic, SyncGroup,
};
use crate::config::GroupsConfig;
use crate::consumer::ConsumerGroup;
use crate::error::GroupError;
use crate::groups::Groups;
use crate::record::embedded;
use crate::response::{
    ConsumerGroupDescription, ConsumerGroupHeartbeatResponse, Joined, Response, SyncGroupResponse,
};
use crate::testing::{GROUP, commit_of, topics};
use crate::topics::Topic;
use crate::uuid::Uuid;

/// The session timeout of members of consumer groups.
const SESSION_MS: i64 = 45_000;
/// The rebalance timeout of the clients here.
const REBALANCE_MS: i32 = 60_000;

/// Groups, led in virtual time.
struct World {
    driver: Driver<Groups>,
    ids: u128,
}

impl World {
    fn new() -> Self {
        Self::with(GroupsConfig::default(), 1)
    }

    fn with(config: GroupsConfig, seed: u64) -> Self {
        let settings = Settings {
            seed,
            ..Settings::default()
        };
        let driver = Driver::new(Groups::new(config), Box::new(topics(4)), settings);
        Self { driver, ids: 0 }
    }

    fn fresh_id(&mut self) -> Uuid {
        self.ids += 1;
        Uuid(self.ids)
    }

    fn advance(&mut self, ms: i64) {
        self.driver.advance(ms);
    }

    /// Makes a topic, or makes it have so many partitions.
    fn put_topic(&mut self, name: &str, id: u128, partitions: i32) {
        let name = name.to_owned();
        self.driver.context.insert(Topic {
            id: Uuid(id),
            name,
            partitions,
            racks: Vec::new(),
        });
        assert_eq!(self.driver.ask(Command::TopicsChanged), Response::Done);
    }

    fn heartbeat(&mut self, mut request: ConsumerGroupHeartbeat) -> ConsumerGroupHeartbeatResponse {
        request.fresh_id = self.fresh_id();
        match self.driver.ask(Command::ConsumerGroupHeartbeat(request)) {
            Response::ConsumerGroupHeartbeat(response) => response,
            other => panic!("{other:?}"),
        }
    }

    fn refused(&mut self, request: ConsumerGroupHeartbeat) -> Option<GroupError> {
        self.heartbeat(request).error
    }

    /// One heartbeat of a client that has given back what it should.
    fn poll(&mut self, member: &mut Consumer) -> Result<(), GroupError> {
        let response = self.heartbeat(member.request());
        member.take(&response);
        response.error.map_or(Ok(()), Err)
    }

    /// Heartbeats of all of them until nothing changes any more.
    fn settle(&mut self, members: &mut [&mut Consumer]) {
        for _ in 0..50 {
            let before: Vec<Consumer> = members.iter().map(|member| (**member).clone()).collect();
            for member in members.iter_mut() {
                self.poll(member).unwrap();
            }
            let same = before
                .iter()
                .zip(members.iter())
                .all(|(before, now)| before == *now);
            if same && self.group().state().name() == "Stable" {
                self.driver.settle();
                return;
            }
        }
        panic!("does not settle: {:#?}", self.group());
    }

    /// A new member that has joined.
    fn joined(&mut self, names: &[&str]) -> Consumer {
        let mut member = Consumer::new(names);
        self.poll(&mut member).unwrap();
        member
    }

    fn leave(&mut self, member: &Consumer, epoch: i32) -> ConsumerGroupHeartbeatResponse {
        self.heartbeat(ConsumerGroupHeartbeat {
            group_id: GROUP.to_owned(),
            member_id: member.id.clone(),
            instance_id: member.instance.clone(),
            member_epoch: epoch,
            rebalance_timeout_ms: -1,
            ..ConsumerGroupHeartbeat::default()
        })
    }

    fn group(&self) -> &ConsumerGroup {
        self.driver
            .leader()
            .consumer(GROUP)
            .expect("a consumer group")
    }

    fn describe(&mut self) -> ConsumerGroupDescription {
        match self
            .driver
            .ask(Command::ConsumerGroupDescribe(vec![GROUP.to_owned()]))
        {
            Response::ConsumerGroupDescribe(mut described) => described.remove(0),
            other => panic!("{other:?}"),
        }
    }

    fn commit(&mut self, command: OffsetCommit) -> Option<GroupError> {
        match self.driver.ask(Command::OffsetCommit(command)) {
            Response::OffsetCommit(topics) => topics[0].partitions[0].error,
            other => panic!("{other:?}"),
        }
    }

    fn join_classic(&mut self, mut request: JoinGroup) -> Joined {
        request.fresh_id = self.fresh_id();
        match self.driver.ask(Command::JoinGroup(request)) {
            Response::JoinGroup(joined) => joined,
            other => panic!("{other:?}"),
        }
    }

    fn sync_classic(&mut self, member: &Classic) -> SyncGroupResponse {
        let request = SyncGroup {
            group_id: GROUP.to_owned(),
            generation_id: member.generation,
            member_id: member.id.clone(),
            group_instance_id: member.instance.clone(),
            protocol_type: Some("consumer".to_owned()),
            protocol_name: Some("range".to_owned()),
            assignments: Vec::new(),
        };
        match self.driver.ask(Command::SyncGroup(request)) {
            Response::SyncGroup(response) => response,
            other => panic!("{other:?}"),
        }
    }

    fn heartbeat_classic(&mut self, member: &Classic) -> Result<(), GroupError> {
        let request = Heartbeat {
            group_id: GROUP.to_owned(),
            generation_id: member.generation,
            member_id: member.id.clone(),
            group_instance_id: member.instance.clone(),
        };
        match self.driver.ask(Command::Heartbeat(request)) {
            Response::Heartbeat(outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }

    fn leave_classic(&mut self, member_id: &str) -> Option<GroupError> {
        let member = LeavingMember {
            member_id: member_id.to_owned(),
            ..LeavingMember::default()
        };
        let request = LeaveGroup {
            group_id: GROUP.to_owned(),
            members: vec![member],
        };
        match self.driver.ask(Command::LeaveGroup(request)) {
            Response::LeaveGroup(response) => response.error.or(response.members[0].error),
            other => panic!("{other:?}"),
        }
    }

    /// Joins and syncs, as a classic member of a consumer group does.
    fn rejoin_classic(&mut self, member: &mut Classic) {
        let joined = self.join_classic(member.request());
        assert_eq!(joined.error, None);
        member.id = joined.member_id;
        member.generation = joined.generation_id;
        let synced = self.sync_classic(member);
        assert_eq!(synced.error, None);
        let assigned = embedded::decode_assignment(&synced.assignment)
            .unwrap()
            .partitions;
        member.owned = assigned
            .into_iter()
            .flat_map(|(name, partitions)| partitions.into_iter().map(move |p| (name.clone(), p)))
            .collect();
    }

    /// One heartbeat; joins again when told to. Whether it had to.
    fn poll_classic(&mut self, member: &mut Classic) -> bool {
        match self.heartbeat_classic(member) {
            Ok(()) => false,
            Err(GroupError::RebalanceInProgress) => {
                self.rejoin_classic(member);
                true
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// A client of the consumer protocol that gives back at once what it must.
#[derive(Clone, Debug, PartialEq)]
struct Consumer {
    id: String,
    instance: Option<String>,
    epoch: i32,
    names: Vec<String>,
    regex: Option<String>,
    assignor: Option<String>,
    owned: Partitions,
    /// Whether it must say everything again.
    full: bool,
}

impl Consumer {
    fn new(names: &[&str]) -> Self {
        Self {
            id: String::new(),
            instance: None,
            epoch: 0,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            regex: None,
            assignor: None,
            owned: Partitions::new(),
            full: true,
        }
    }

    fn with_instance(names: &[&str], instance: &str) -> Self {
        Self {
            instance: Some(instance.to_owned()),
            ..Self::new(names)
        }
    }

    fn request(&self) -> ConsumerGroupHeartbeat {
        let full = self.full || self.epoch == 0;
        let owned = self.owned.iter().map(|(&topic_id, partitions)| OwnedTopic {
            topic_id,
            partitions: partitions.iter().copied().collect(),
        });
        ConsumerGroupHeartbeat {
            group_id: GROUP.to_owned(),
            member_id: self.id.clone(),
            member_epoch: self.epoch,
            instance_id: self.instance.clone(),
            rack_id: None,
            rebalance_timeout_ms: if full { REBALANCE_MS } else { -1 },
            subscribed_topic_names: full.then(|| self.names.clone()),
            subscribed_topic_regex: self.regex.clone().filter(|_| full),
            server_assignor: self.assignor.clone(),
            topic_partitions: Some(owned.collect()),
            client: Client {
                id: "client".to_owned(),
                host: "/10.0.0.1".to_owned(),
            },
            fresh_id: Uuid::ZERO,
        }
    }

    fn take(&mut self, response: &ConsumerGroupHeartbeatResponse) {
        match response.error {
            None => {}
            Some(GroupError::FencedMemberEpoch | GroupError::UnknownMemberId) => {
                self.epoch = 0;
                self.full = true;
                self.owned.clear();
                return;
            }
            Some(_) => return,
        }
        self.full = false;
        self.id = response.member_id.clone().expect("an id");
        self.epoch = response.member_epoch;
        if let Some(assignment) = &response.assignment {
            self.owned = assignment
                .iter()
                .map(|topic| (topic.topic_id, topic.partitions.iter().copied().collect()))
                .collect();
        }
    }

    fn count(&self) -> usize {
        self.owned.values().map(BTreeSet::len).sum()
    }
}

/// A client of the classic protocol, cooperative.
#[derive(Clone, Debug, PartialEq)]
struct Classic {
    id: String,
    instance: Option<String>,
    generation: i32,
    names: Vec<String>,
    owned: BTreeSet<(String, i32)>,
}

impl Classic {
    fn new(names: &[&str]) -> Self {
        Self {
            id: String::new(),
            instance: None,
            generation: -1,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            owned: BTreeSet::new(),
        }
    }

    fn request(&self) -> JoinGroup {
        JoinGroup {
            group_id: GROUP.to_owned(),
            member_id: self.id.clone(),
            group_instance_id: self.instance.clone(),
            client: Client {
                id: "classic".to_owned(),
                host: "/10.0.0.2".to_owned(),
            },
            protocol_type: "consumer".to_owned(),
            protocols: vec![GroupProtocol {
                name: "range".to_owned(),
                metadata: self.subscription(),
            }],
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 30_000,
            supports_skip_assignment: true,
            ..JoinGroup::default()
        }
    }

    /// A subscription of version 1: with what it owns.
    fn subscription(&self) -> Bytes {
        let mut bytes = vec![0, 1];
        let count = |n: usize| u32::try_from(n).unwrap().to_be_bytes();
        let text = |bytes: &mut Vec<u8>, text: &str| {
            bytes.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
            bytes.extend(text.as_bytes());
        };
        bytes.extend(count(self.names.len()));
        self.names.iter().for_each(|name| text(&mut bytes, name));
        bytes.extend((-1_i32).to_be_bytes());
        bytes.extend(count(self.owned.len()));
        for (name, partition) in &self.owned {
            text(&mut bytes, name);
            bytes.extend(count(1));
            bytes.extend(partition.to_be_bytes());
        }
        Bytes::from(bytes)
    }
}

/// A commit by a member of the consumer protocol.
fn commit_by(member: &str, epoch: i32) -> OffsetCommit {
    OffsetCommit {
        generation_id_or_member_epoch: epoch,
        member_id: member.to_owned(),
        understands_member_epochs: true,
        ..commit_of(GROUP, "t0", 0, 5)
    }
}

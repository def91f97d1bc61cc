//! Groups in a driver, and classic members to put into them.

use bytes::Bytes;
use coordinator::driver::{Driver, Settings};
use coordinator::{Outcome, ReplyId};

use crate::command::{
    Client, Command, CommitPartition, CommitTopic, FetchTopic, GroupProtocol, Heartbeat, JoinGroup,
    LeaveGroup, LeavingMember, OffsetCommit, OffsetFetch, SyncAssignment, SyncGroup,
};
use crate::config::GroupsConfig;
use crate::error::GroupError;
use crate::groups::Groups;
use crate::response::{DescribedGroup, Joined, Response, SyncGroupResponse};
use crate::topics::{Topic, Topics};
use crate::uuid::Uuid;

/// The group of most tests.
pub(crate) const GROUP: &str = "readers";
/// The session timeout of members, unless they say otherwise.
pub(crate) const SESSION_MS: i64 = 10_000;
/// The rebalance timeout of members, unless they say otherwise.
pub(crate) const REBALANCE_MS: i64 = 60_000;
/// Longer than the delay of a first rebalance.
pub(crate) const DELAY_MS: i64 = 3_100;

/// Topics `t0`, `t1` and so on, with eight partitions each.
pub(crate) fn topics(count: u128) -> Topics {
    let mut topics = Topics::new();
    for n in 0..count {
        topics.insert(Topic {
            id: Uuid(1_000 + n),
            name: format!("t{n}"),
            partitions: 8,
            racks: Vec::new(),
        });
    }
    topics
}

/// The metadata of a consumer that reads these topics.
pub(crate) fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = vec![0, 0];
    bytes.extend(u32::try_from(topics.len()).unwrap().to_be_bytes());
    for topic in topics {
        bytes.extend(u16::try_from(topic.len()).unwrap().to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend((-1_i32).to_be_bytes());
    Bytes::from(bytes)
}

/// A classic consumer that supports `range`.
pub(crate) fn consumer(client_id: &str) -> JoinGroup {
    JoinGroup {
        group_id: GROUP.to_owned(),
        client: Client {
            id: client_id.to_owned(),
            host: "/127.0.0.1".to_owned(),
        },
        protocol_type: "consumer".to_owned(),
        protocols: protocols(&["range"]),
        session_timeout_ms: i32::try_from(SESSION_MS).unwrap(),
        rebalance_timeout_ms: i32::try_from(REBALANCE_MS).unwrap(),
        requires_known_member_id: true,
        supports_skip_assignment: true,
        ..JoinGroup::default()
    }
}

pub(crate) fn protocols(names: &[&str]) -> Vec<GroupProtocol> {
    let protocol = |name: &&str| GroupProtocol {
        name: (*name).to_owned(),
        metadata: subscription(&["t0"]),
    };
    names.iter().map(protocol).collect()
}

/// As [`consumer`], with an instance id.
pub(crate) fn static_consumer(instance_id: &str) -> JoinGroup {
    JoinGroup {
        group_instance_id: Some(instance_id.to_owned()),
        ..consumer("static")
    }
}

pub(crate) struct Bench {
    pub(crate) driver: Driver<Groups>,
    ids: u128,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(GroupsConfig::default(), 1)
    }

    pub(crate) fn with(config: GroupsConfig, seed: u64) -> Self {
        let settings = Settings {
            seed,
            ..Settings::default()
        };
        let driver = Driver::new(Groups::new(config), Box::new(topics(4)), settings);
        Self { driver, ids: 0 }
    }

    pub(crate) fn advance(&mut self, ms: i64) {
        self.driver.advance(ms);
    }

    /// Sends a JoinGroup; comes again with the id when that is asked for.
    pub(crate) fn join(&mut self, mut command: JoinGroup) -> ReplyId {
        self.ids += 1;
        command.fresh_id = Uuid(self.ids);
        let reply = self.driver.send(Command::JoinGroup(command.clone()));
        match self.driver.take(reply) {
            Some(Outcome::Answered(Response::JoinGroup(joined)))
                if joined.error == Some(GroupError::MemberIdRequired) =>
            {
                command.member_id = joined.member_id;
                self.driver.send(Command::JoinGroup(command))
            }
            Some(outcome) => {
                // Answered at once: the one who asked finds it where it looks.
                self.driver.put_back(reply, outcome);
                reply
            }
            None => reply,
        }
    }

    /// The answer to a JoinGroup that is answered by now.
    pub(crate) fn joined(&mut self, reply: ReplyId) -> Joined {
        match self.driver.take(reply) {
            Some(Outcome::Answered(Response::JoinGroup(joined))) => joined,
            other => panic!("{reply:?}: {other:?}"),
        }
    }

    /// Joins and waits for as long as a first rebalance takes.
    pub(crate) fn join_now(&mut self, command: JoinGroup) -> Joined {
        let reply = self.join(command);
        self.advance(DELAY_MS);
        self.joined(reply)
    }

    pub(crate) fn sync(&mut self, joined: &Joined, given: &[(&str, &str)]) -> ReplyId {
        let assignments = given.iter().map(|(member_id, assignment)| SyncAssignment {
            member_id: (*member_id).to_owned(),
            assignment: Bytes::copy_from_slice(assignment.as_bytes()),
        });
        self.driver.send(Command::SyncGroup(SyncGroup {
            group_id: GROUP.to_owned(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            assignments: assignments.collect(),
            ..SyncGroup::default()
        }))
    }

    /// The answer to a SyncGroup, once what it builds on is committed.
    pub(crate) fn synced(&mut self, reply: ReplyId) -> SyncGroupResponse {
        self.advance(50);
        self.take_synced(reply)
    }

    fn take_synced(&mut self, reply: ReplyId) -> SyncGroupResponse {
        match self.driver.take(reply) {
            Some(Outcome::Answered(Response::SyncGroup(synced))) => synced,
            other => panic!("{reply:?}: {other:?}"),
        }
    }

    /// Everybody joins, the first leader gives each member its own id, everybody syncs.
    pub(crate) fn stable(&mut self, members: &[JoinGroup]) -> Vec<Joined> {
        let replies: Vec<ReplyId> = members
            .iter()
            .map(|member| self.join(member.clone()))
            .collect();
        let outcome = loop {
            self.advance(100);
            match self.driver.take(replies[0]) {
                Some(outcome) => break outcome,
                None => assert_eq!(self.state(), "PreparingRebalance"),
            }
        };
        self.driver.put_back(replies[0], outcome);
        let joined: Vec<Joined> = replies
            .into_iter()
            .map(|reply| self.joined(reply))
            .collect();
        self.sync_all(&joined);
        joined
    }

    pub(crate) fn sync_all(&mut self, joined: &[Joined]) {
        let given: Vec<(&str, &str)> = joined
            .iter()
            .map(|one| (one.member_id.as_str(), one.member_id.as_str()))
            .collect();
        let replies: Vec<ReplyId> = joined
            .iter()
            .map(|one| {
                let is_leader = one.leader == one.member_id;
                self.sync(one, if is_leader { &given } else { &[] })
            })
            .collect();
        self.advance(50);
        for (reply, one) in replies.into_iter().zip(joined) {
            let synced = self.take_synced(reply);
            assert_eq!(synced.error, None);
            assert_eq!(synced.assignment, one.member_id.as_bytes());
        }
    }

    pub(crate) fn heartbeat(&mut self, joined: &Joined) -> Result<(), GroupError> {
        let command = Heartbeat {
            group_id: GROUP.to_owned(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            group_instance_id: None,
        };
        match self.driver.ask(Command::Heartbeat(command)) {
            Response::Heartbeat(outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }

    /// Lets time pass while these members heartbeat.
    pub(crate) fn advance_alive(&mut self, ms: i64, members: &[&Joined]) {
        let until_ms = self.driver.now_ms() + ms;
        while self.driver.now_ms() < until_ms {
            for member in members {
                let _ = self.heartbeat(member);
            }
            self.advance((SESSION_MS / 3).min(until_ms - self.driver.now_ms()).max(0));
        }
    }

    pub(crate) fn leave(&mut self, members: &[LeavingMember]) -> Vec<Option<GroupError>> {
        let command = LeaveGroup {
            group_id: GROUP.to_owned(),
            members: members.to_vec(),
        };
        match self.driver.ask(Command::LeaveGroup(command)) {
            Response::LeaveGroup(answer) => {
                answer.members.into_iter().map(|one| one.error).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn leave_one(&mut self, joined: &Joined) -> Option<GroupError> {
        let member = LeavingMember {
            member_id: joined.member_id.clone(),
            ..LeavingMember::default()
        };
        self.leave(&[member])[0]
    }

    pub(crate) fn describe(&mut self) -> DescribedGroup {
        let command = Command::DescribeGroups(vec![GROUP.to_owned()]);
        match self.driver.ask(command) {
            Response::DescribeGroups(mut described) => described.remove(0),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn state(&mut self) -> &'static str {
        self.describe().state
    }

    /// Sends a commit and gives the error of its first partition.
    pub(crate) fn commit(&mut self, command: OffsetCommit) -> Option<GroupError> {
        match self.driver.ask(Command::OffsetCommit(command)) {
            Response::OffsetCommit(topics) => topics[0].partitions[0].error,
            other => panic!("{other:?}"),
        }
    }

    /// The committed offset of a partition; -1: none.
    pub(crate) fn offset(&mut self, group_id: &str, topic: &str, partition: i32) -> i64 {
        let command = OffsetFetch {
            group_id: group_id.to_owned(),
            member_epoch: -1,
            topics: Some(vec![FetchTopic {
                name: topic.to_owned(),
                partitions: vec![partition],
                ..FetchTopic::default()
            }]),
            ..OffsetFetch::default()
        };
        match self.driver.ask(Command::OffsetFetch(command)) {
            Response::OffsetFetch(answer) => answer.topics[0].partitions[0].offset,
            other => panic!("{other:?}"),
        }
    }
}

/// A commit of one offset by nobody in particular.
pub(crate) fn commit_of(group_id: &str, topic: &str, partition: i32, offset: i64) -> OffsetCommit {
    OffsetCommit {
        group_id: group_id.to_owned(),
        generation_id_or_member_epoch: -1,
        topics: vec![CommitTopic {
            name: topic.to_owned(),
            partitions: vec![CommitPartition {
                partition,
                offset,
                leader_epoch: -1,
                metadata: None,
            }],
            ..CommitTopic::default()
        }],
        ..OffsetCommit::default()
    }
}

/// A commit of one offset by a member of [`GROUP`].
pub(crate) fn commit_by(joined: &Joined, topic: &str, offset: i64) -> OffsetCommit {
    OffsetCommit {
        generation_id_or_member_epoch: joined.generation_id,
        member_id: joined.member_id.clone(),
        ..commit_of(GROUP, topic, 0, offset)
    }
}

//! Consumers that join, sync, heartbeat, commit, die and leave at random while the coordinator loses
//! appends and leaders.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use coordinator::driver::Draw;
use coordinator::{Outcome, ReplyId};

use crate::command::{
    Command, Heartbeat, JoinGroup, LeaveGroup, LeavingMember, SyncAssignment, SyncGroup,
};
use crate::error::GroupError;
use crate::response::{Joined, Response, SyncGroupResponse};
use crate::testing::*;
use crate::uuid::Uuid;

const PARTITIONS: i32 = 8;
const TICK_MS: i64 = 250;

enum Phase {
    Away,
    Out,
    Joining(ReplyId),
    Syncing(ReplyId, Joined),
    In(Joined, BTreeSet<i32>),
}

struct Member {
    name: usize,
    is_static: bool,
    member_id: String,
    phase: Phase,
    heartbeat: Option<ReplyId>,
    commit: Option<(ReplyId, i32, i64)>,
}

/// What became of a commit, in the order in which commits were sent.
#[derive(Debug, PartialEq)]
enum Fate {
    Open,
    Done,
    Refused,
    InDoubt,
}

struct World {
    bench: Bench,
    draw: Draw,
    members: Vec<Member>,
    /// Who was given what in each generation.
    owners: BTreeMap<(i32, i32), usize>,
    commits: BTreeMap<i32, Vec<(i64, Fate)>>,
    next_offset: i64,
    next_id: u128,
}

impl World {
    fn new(seed: u64) -> Self {
        let member = |name| Member {
            name,
            is_static: name % 3 == 0,
            member_id: String::new(),
            phase: Phase::Out,
            heartbeat: None,
            commit: None,
        };
        Self {
            bench: Bench::with(crate::GroupsConfig::default(), seed),
            draw: Draw::new(seed ^ 0xfeed),
            members: (0..5).map(member).collect(),
            owners: BTreeMap::new(),
            commits: BTreeMap::new(),
            next_offset: 1,
            next_id: 1,
        }
    }

    fn send(&mut self, command: Command) -> ReplyId {
        self.bench.driver.send(command)
    }

    fn tick(&mut self, is_calm: bool) {
        self.bench.advance(TICK_MS);
        if !is_calm && self.draw.one_in(60) {
            if self.draw.one_in(2) {
                self.bench.driver.fail_over();
            } else {
                self.bench.driver.fail_append();
            }
        }
        for at in 0..self.members.len() {
            if is_calm {
                if matches!(self.members[at].phase, Phase::Away) {
                    self.members[at].phase = Phase::Out;
                }
            } else if self.draw.one_in(80) {
                self.disturb(at);
            }
            self.act(at);
        }
    }

    fn disturb(&mut self, at: usize) {
        let member = &mut self.members[at];
        let member_id = std::mem::take(&mut member.member_id);
        if matches!(member.phase, Phase::Away) {
            member.phase = Phase::Out;
            return;
        }
        let is_leaving = self.draw.one_in(3);
        member.phase = Phase::Away;
        if is_leaving && !member_id.is_empty() {
            let command = LeaveGroup {
                group_id: GROUP.to_owned(),
                members: vec![LeavingMember {
                    member_id,
                    ..LeavingMember::default()
                }],
            };
            self.send(Command::LeaveGroup(command));
        }
    }

    fn act(&mut self, at: usize) {
        self.look_at_commit(at);
        let phase = std::mem::replace(&mut self.members[at].phase, Phase::Out);
        self.members[at].phase = match phase {
            Phase::Away => Phase::Away,
            Phase::Out => Phase::Joining(self.join(at)),
            Phase::Joining(reply) => match self.bench.driver.take(reply) {
                None => Phase::Joining(reply),
                Some(Outcome::Answered(Response::JoinGroup(joined))) => self.joined(at, joined),
                Some(_) => Phase::Out,
            },
            Phase::Syncing(reply, joined) => match self.bench.driver.take(reply) {
                None => Phase::Syncing(reply, joined),
                Some(Outcome::Answered(Response::SyncGroup(synced))) => {
                    self.synced(at, joined, synced)
                }
                Some(_) => Phase::Out,
            },
            Phase::In(joined, owned) => self.go_on(at, joined, owned),
        };
    }

    fn join(&mut self, at: usize) -> ReplyId {
        self.next_id += 1;
        let member = &self.members[at];
        let command = JoinGroup {
            member_id: member.member_id.clone(),
            group_instance_id: member.is_static.then(|| format!("i{at}")),
            fresh_id: Uuid(self.next_id),
            rebalance_timeout_ms: 15_000,
            ..consumer(&format!("m{at}"))
        };
        self.send(Command::JoinGroup(command))
    }

    fn joined(&mut self, at: usize, joined: Joined) -> Phase {
        match joined.error {
            None => {
                self.members[at].member_id = joined.member_id.clone();
                let assignments = if joined.skip_assignment {
                    Vec::new()
                } else {
                    assign(&joined)
                };
                let command = SyncGroup {
                    group_id: GROUP.to_owned(),
                    generation_id: joined.generation_id,
                    member_id: joined.member_id.clone(),
                    assignments,
                    ..SyncGroup::default()
                };
                Phase::Syncing(self.send(Command::SyncGroup(command)), joined)
            }
            Some(GroupError::MemberIdRequired) => {
                self.members[at].member_id = joined.member_id;
                Phase::Out
            }
            Some(error) => self.refused(at, error),
        }
    }

    fn synced(&mut self, at: usize, joined: Joined, synced: SyncGroupResponse) -> Phase {
        if let Some(error) = synced.error {
            return self.refused(at, error);
        }
        let owned: BTreeSet<i32> = synced.assignment.iter().map(|&one| one.into()).collect();
        let name = self.members[at].name;
        for &partition in &owned {
            let owner = self.owners.entry((joined.generation_id, partition));
            let owner = *owner.or_insert(name);
            assert_eq!(
                owner, name,
                "partition {partition} has two owners in generation {}",
                joined.generation_id
            );
        }
        Phase::In(joined, owned)
    }

    fn refused(&mut self, at: usize, error: GroupError) -> Phase {
        match error {
            GroupError::RebalanceInProgress => {}
            GroupError::UnknownMemberId
            | GroupError::IllegalGeneration
            | GroupError::FencedInstanceId => self.members[at].member_id.clear(),
            other => panic!("member {at}: {other}"),
        }
        Phase::Out
    }

    /// Heartbeats and commits.
    fn go_on(&mut self, at: usize, joined: Joined, owned: BTreeSet<i32>) -> Phase {
        let heartbeat = self.members[at].heartbeat;
        match heartbeat.and_then(|reply| self.bench.driver.take(reply)) {
            Some(Outcome::Answered(Response::Heartbeat(Err(error)))) => {
                self.members[at].heartbeat = None;
                return self.refused(at, error);
            }
            Some(_) => self.members[at].heartbeat = None,
            None => {}
        }
        if self.members[at].heartbeat.is_none() && self.draw.one_in(6) {
            let command = Heartbeat {
                group_id: GROUP.to_owned(),
                generation_id: joined.generation_id,
                member_id: joined.member_id.clone(),
                group_instance_id: None,
            };
            let reply = self.send(Command::Heartbeat(command));
            self.members[at].heartbeat = Some(reply);
        }
        if self.members[at].commit.is_none() && self.draw.one_in(5) {
            let partition = owned.first().copied();
            if let Some(partition) = partition {
                let offset = self.next_offset;
                self.next_offset += 1;
                let mut command = commit_by(&joined, "t0", offset);
                command.topics[0].partitions[0].partition = partition;
                let reply = self.send(Command::OffsetCommit(command));
                self.members[at].commit = Some((reply, partition, offset));
                let commits = self.commits.entry(partition).or_default();
                commits.push((offset, Fate::Open));
            }
        }
        Phase::In(joined, owned)
    }

    fn look_at_commit(&mut self, at: usize) {
        let Some((reply, partition, offset)) = self.members[at].commit else {
            return;
        };
        let fate = match self.bench.driver.take(reply) {
            None => return,
            Some(Outcome::Resigned) => Fate::InDoubt,
            Some(Outcome::Answered(Response::OffsetCommit(topics))) => {
                match topics[0].partitions[0].error {
                    None => Fate::Done,
                    Some(_) => Fate::Refused,
                }
            }
            Some(other) => panic!("{other:?}"),
        };
        self.members[at].commit = None;
        let commits = self.commits.get_mut(&partition).expect("it was sent");
        let sent = commits.iter_mut().find(|(sent, _)| *sent == offset);
        sent.expect("it was sent").1 = fate;
    }

    fn check_offsets(&mut self) {
        self.bench.advance(TICK_MS);
        for at in 0..self.members.len() {
            self.look_at_commit(at);
        }
        for (partition, commits) in &self.commits {
            let last_done = commits.iter().rposition(|(_, fate)| *fate == Fate::Done);
            let since = last_done.unwrap_or(0);
            let mut possible: BTreeSet<i64> = commits[since..]
                .iter()
                .filter(|(_, fate)| matches!(fate, Fate::Done | Fate::InDoubt))
                .map(|(offset, _)| *offset)
                .collect();
            if last_done.is_none() {
                possible.insert(-1);
            }
            let found = self.bench.offset(GROUP, "t0", *partition);
            assert!(
                possible.contains(&found),
                "{found} of {commits:?} in partition {partition}"
            );
        }
    }

    fn check_calm(&mut self) {
        let mut generations = BTreeSet::new();
        let mut owned: BTreeSet<i32> = BTreeSet::new();
        for member in &self.members {
            let Phase::In(joined, partitions) = &member.phase else {
                panic!("member {} is not in", member.name);
            };
            generations.insert(joined.generation_id);
            owned.extend(partitions);
        }
        assert_eq!((generations.len(), owned.len()), (1, 8));
    }
}

/// The leader's share-out: round robin.
fn assign(joined: &Joined) -> Vec<SyncAssignment> {
    let members = i32::try_from(joined.members.len()).unwrap();
    let of_member = |(at, member): (i32, &crate::JoinedMember)| {
        let given = (0..PARTITIONS).filter(|partition| partition % members == at);
        SyncAssignment {
            member_id: member.member_id.clone(),
            assignment: given
                .map(|one| u8::try_from(one).unwrap())
                .collect::<Bytes>(),
        }
    };
    (0..).zip(&joined.members).map(of_member).collect()
}

#[test]
fn members_share_nothing_and_lose_nothing_whatever_fails() {
    for seed in 0..150 {
        let mut world = World::new(seed);
        for _ in 0..400 {
            world.tick(false);
        }
        for _ in 0..300 {
            world.tick(true);
        }
        world.check_calm();
        world.check_offsets();
        world.bench.driver.settle();
        // Everybody dies: nobody waits for ever.
        world.bench.advance(600_000);
        assert_eq!(world.bench.driver.waiting(), 0);
        assert_eq!(world.bench.state(), "Empty");
        world.bench.driver.settle();
    }
}

//! A member of a classic group (KIP-62, KIP-394): it joins, takes its share, gives signs of life and
//! commits. It gives everything back before each rebalance.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kafka_client::api::{
    Heartbeat, JoinGroup, JoinedGroup, LeavingMember, OffsetCommit, OffsetToCommit, SyncGroup,
};
use kafka_client::consumer_protocol::{Assignment, CONSUMER_PROTOCOL_TYPE, Subscription};
use kafka_client::{ClientError, Connection, ErrorCode};

use super::note;
use super::range::{Subscriber, assign};
use crate::cli::commits;
use crate::cli::coordinator::{self, Coordinator, LOOK_AGAIN, is_about_coordinator};
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::printable;
use crate::cli::session::Session;

/// The assignor that it speaks.
const ASSIGNOR: &str = "range";
/// A member that is silent for longer is dead. Kafka's default.
const SESSION_MS: i32 = 45_000;
/// The others wait so long for it to join again: longer than a fetch and a commit may take.
const REBALANCE_MS: i32 = 60_000;
/// Between two signs of life.
const HEARTBEAT_MS: i64 = 3_000;
/// An answer to a join may take as long as the slowest member does: five minutes, if it keeps
/// Kafka's defaults.
const JOIN_LIMIT: Duration = Duration::from_secs(330);
/// Leaving must not hold up the end.
const LEAVE_LIMIT: Duration = Duration::from_secs(5);

/// One member, subscribed to one topic.
pub(super) struct Member {
    group: String,
    topic: String,
    coordinator: Coordinator,
    // Empty until the coordinator has given it one.
    id: String,
    generation: i32,
    // By partition, as far as it is known.
    committed: BTreeMap<i32, i64>,
    heartbeat_due_ms: i64,
}

/// What came of a try to join.
enum Turn {
    Assigned(BTreeSet<i32>),
    /// The group has moved on meanwhile.
    Again,
    /// The coordinator is not there, for this reason.
    Missing(ClientError),
}

impl Member {
    /// Finds the group's coordinator; nothing is joined yet.
    pub(super) async fn find(
        session: &mut Session,
        group: &str,
        topic: &str,
    ) -> Result<Member, Failure> {
        // A topic that does not exist is better told of than waited for.
        session.topic(topic).await?;
        Ok(Member {
            group: group.to_owned(),
            topic: topic.to_owned(),
            coordinator: Coordinator::find(session, group).await?,
            id: String::new(),
            generation: -1,
            committed: BTreeMap::new(),
            heartbeat_due_ms: 0,
        })
    }

    /// Joins, or joins again. The partitions that are its own from now on.
    pub(super) async fn join(&mut self, session: &mut Session) -> Result<BTreeSet<i32>, Failure> {
        let deadline = session.deadline_ms();
        loop {
            match self.try_to_join(session).await? {
                Turn::Assigned(partitions) => {
                    self.heartbeat_due_ms = session.now_ms().saturating_add(HEARTBEAT_MS);
                    return Ok(partitions);
                }
                Turn::Again => tokio::time::sleep(LOOK_AGAIN).await,
                Turn::Missing(error) if session.now_ms() >= deadline => {
                    return Err(self.failure(session, error));
                }
                Turn::Missing(_) => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                    session.forget(self.coordinator.node_id());
                    self.coordinator = Coordinator::find(session, &self.group).await?;
                }
            }
        }
    }

    async fn try_to_join(&mut self, session: &mut Session) -> Result<Turn, Failure> {
        // Of its own: what is asked behind a join is answered behind it.
        let node_id = self.coordinator.node_id();
        let connection = match session.connect_anew(node_id, JOIN_LIMIT).await {
            Ok(connection) => connection,
            Err(error) => return Ok(Turn::Missing(error)),
        };
        let joined = match connection.join_group(&self.request()).await {
            Ok(joined) => joined,
            Err(error) => return self.interrupted(session, error),
        };
        match joined.error {
            ErrorCode::NONE => {}
            ErrorCode::MEMBER_ID_REQUIRED => {
                self.id = joined.member_id;
                return Ok(Turn::Again);
            }
            code => return self.interrupted(session, code.into()),
        }
        self.id.clone_from(&joined.member_id);
        self.generation = joined.generation;
        let sync = SyncGroup {
            group_id: self.group.clone(),
            generation: self.generation,
            member_id: self.id.clone(),
            instance_id: None,
            protocol_type: joined.protocol_type.clone(),
            protocol_name: joined.protocol_name.clone(),
            assignments: self.shares(session, joined).await?,
        };
        let synced = match connection.sync_group(&sync).await {
            Ok(synced) => synced,
            Err(error) => return self.interrupted(session, error),
        };
        if synced.error != ErrorCode::NONE {
            return self.interrupted(session, synced.error.into());
        }
        let assignment =
            Assignment::decode(&synced.assignment).map_err(|error| self.failure(session, error))?;
        let mine = assignment.0.into_iter();
        let mine = mine.filter(|(topic, _)| *topic == self.topic);
        Ok(Turn::Assigned(
            mine.map(|(_, partition)| partition).collect(),
        ))
    }

    fn request(&self) -> JoinGroup {
        let subscription = Subscription {
            topics: vec![self.topic.clone()],
            owned: Vec::new(),
        };
        JoinGroup {
            group_id: self.group.clone(),
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: REBALANCE_MS,
            member_id: self.id.clone(),
            instance_id: None,
            protocol_type: CONSUMER_PROTOCOL_TYPE.to_owned(),
            protocols: vec![(ASSIGNOR.to_owned(), subscription.encode())],
            reason: None,
        }
    }

    /// What everybody gets, when this member is the one that says so.
    async fn shares(
        &self,
        session: &mut Session,
        joined: JoinedGroup,
    ) -> Result<Vec<(String, bytes::Bytes)>, Failure> {
        if joined.leader != self.id || joined.skip_assignment {
            return Ok(Vec::new());
        }
        let mut subscribers = Vec::with_capacity(joined.members.len());
        for member in joined.members {
            let subscription = Subscription::decode(&member.metadata)
                .map_err(|error| self.failure(session, error))?;
            subscribers.push(Subscriber {
                id: member.member_id,
                instance_id: member.instance_id,
                topics: subscription.topics,
            });
        }
        let topics = subscribers.iter().flat_map(|s| &s.topics);
        let topics: BTreeSet<&str> = topics.map(String::as_str).collect();
        let topics: Vec<&str> = topics.into_iter().collect();
        let metadata = session.metadata(Some(&topics)).await?;
        let counts = metadata.topics.into_iter().map(|topic| {
            let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
            (topic.name, count)
        });
        let shares = assign(subscribers, &counts.collect()).into_iter();
        Ok(shares
            .map(|(id, partitions)| (id, Assignment(partitions).encode()))
            .collect())
    }

    /// What to do when a join, or the sync behind it, did not end well.
    fn interrupted(&mut self, session: &Session, error: ClientError) -> Result<Turn, Failure> {
        match error {
            ClientError::Refused { code, .. } if self.is_behind(code) => Ok(Turn::Again),
            ClientError::Refused { code, .. } if is_about_coordinator(code) => {
                Ok(Turn::Missing(error))
            }
            ClientError::Refused {
                code: ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
                ..
            } => {
                let name = printable(self.group.as_bytes());
                let describe = session.suggest(&format!("group describe {name}"));
                Err(Failure::new(
                    Kind::Conflict,
                    format!(
                        "the members of group {name} do not share the assignor `{ASSIGNOR}` with \
                         this one"
                    ),
                )
                .help(format!("take another group; who they are: {describe}")))
            }
            // To join twice under one id is to join once.
            ClientError::NotSent(_) | ClientError::NoAnswer(_) | ClientError::Connect { .. } => {
                Ok(Turn::Missing(error))
            }
            error => Err(self.failure(session, error)),
        }
    }

    /// Whether the group has moved on without this member, which has to join again.
    fn is_behind(&mut self, code: ErrorCode) -> bool {
        match code {
            ErrorCode::REBALANCE_IN_PROGRESS | ErrorCode::ILLEGAL_GENERATION => true,
            ErrorCode::UNKNOWN_MEMBER_ID => {
                self.id.clear();
                true
            }
            _ => false,
        }
    }

    /// What the group has committed of the topic, by partition.
    pub(super) async fn committed(
        &mut self,
        session: &mut Session,
    ) -> Result<BTreeMap<i32, i64>, Failure> {
        let all = commits::committed(session, &mut self.coordinator, &self.group).await?;
        self.committed = all
            .into_iter()
            .filter(|((topic, _), _)| *topic == self.topic)
            .map(|((_, partition), offset)| (partition, offset))
            .collect();
        Ok(self.committed.clone())
    }

    /// Commits positions that are not committed yet. False when it has to join again instead.
    pub(super) async fn commit(
        &mut self,
        session: &mut Session,
        positions: &BTreeMap<i32, i64>,
    ) -> Result<bool, Failure> {
        let news = positions
            .iter()
            .filter(|(partition, offset)| self.committed.get(partition) != Some(offset));
        let offsets: Vec<OffsetToCommit> = news
            .map(|(partition, offset)| OffsetToCommit {
                topic: self.topic.clone(),
                partition: *partition,
                offset: *offset,
                leader_epoch: -1,
                metadata: None,
            })
            .collect();
        if offsets.is_empty() {
            return Ok(true);
        }
        let commit = OffsetCommit {
            group_id: self.group.clone(),
            generation_or_epoch: self.generation,
            member_id: self.id.clone(),
            instance_id: None,
            offsets,
        };
        let refused = commits::commit(session, &mut self.coordinator, &commit).await?;
        match refused.into_values().next() {
            None => {
                self.committed.clone_from(positions);
                Ok(true)
            }
            Some(code) if self.is_behind(code) => {
                note("the group moved on before the last records were committed; they come again");
                Ok(false)
            }
            Some(code) => Err(self.failure(session, code.into())),
        }
    }

    /// Gives a sign of life when one is due. False when it has to join again.
    pub(super) async fn stays(&mut self, session: &mut Session) -> Result<bool, Failure> {
        if session.now_ms() < self.heartbeat_due_ms {
            return Ok(true);
        }
        let heartbeat = Heartbeat {
            group_id: self.group.clone(),
            generation: self.generation,
            member_id: self.id.clone(),
            instance_id: None,
        };
        let code = self
            .coordinator
            .ask(session, async |connection| {
                match connection.heartbeat(&heartbeat).await? {
                    code if is_about_coordinator(code) => Err(code.into()),
                    code => Ok(code),
                }
            })
            .await?;
        self.heartbeat_due_ms = session.now_ms().saturating_add(HEARTBEAT_MS);
        match code {
            ErrorCode::NONE => Ok(true),
            code if self.is_behind(code) => Ok(false),
            code => Err(self.failure(session, code.into())),
        }
    }

    /// Leaves, so that others need not wait until it is missed. A note says when that failed.
    pub(super) async fn leave(mut self, session: &mut Session) {
        if self.id.is_empty() {
            return;
        }
        let leaving = LeavingMember {
            member_id: self.id.clone(),
            ..LeavingMember::default()
        };
        let group = self.group.clone();
        let leave = async |connection: &Connection| {
            let left = connection
                .leave_group(&group, std::slice::from_ref(&leaving))
                .await?;
            left.error.check()?;
            left.members
                .iter()
                .try_for_each(|member| match member.error {
                    // It is gone already.
                    ErrorCode::UNKNOWN_MEMBER_ID => Ok(()),
                    error => error.check(),
                })
        };
        let left = tokio::time::timeout(LEAVE_LIMIT, self.coordinator.ask(session, leave)).await;
        if !matches!(left, Ok(Ok(()))) {
            let seconds = SESSION_MS / 1000;
            note(&format!(
                "the group was not told that this member left; it is missed after {seconds} s"
            ));
        }
    }

    fn failure(&self, session: &Session, error: ClientError) -> Failure {
        coordinator::failure(session, &self.group, error)
    }
}

//! [`GroupMember`]: one member of a consumer group, of either protocol, that retries nothing.
//!
//! It knows what it was told to own, and asks its coordinator on a connection of its own: an answer
//! to a join may take as long as the slowest member. Classic groups are assigned by whichever member
//! leads, as their [`Assignor`] says; those of KIP-848 by the server.
//!
//! In a cooperative group a member holds on to what it owns while it joins; what it is told no more it
//! gives back by joining again at once. It holds on to nothing where it may have been forgotten. A
//! static member (KIP-345) has an instance id, under which whoever comes after it takes over.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use jepsen_check::history::{Key, Protocol};
use kafka_client::api::{
    ConsumerGroupHeartbeat, ConsumerGroupHeartbeatAnswer, CoordinatorKind, Heartbeat, JoinGroup,
    LeavingMember, OffsetCommit, OffsetFetch, OffsetToCommit, PartitionsById, SyncGroup,
};
use kafka_client::consumer_protocol::{Assignment, CONSUMER_PROTOCOL_TYPE, Subscription};
use kafka_client::{ClientError, ConnectOptions, Connection, ErrorCode};
use tokio::time::timeout;

use super::assignor::Assignor;
use super::nodes::Nodes;
use crate::fault::NodeId;
use crate::random::Random;

/// The shortest that servers allow.
pub(crate) const SESSION_TIMEOUT: Duration = Duration::from_secs(6);
/// A join waits for members that died, until their sessions are over.
const JOIN_TIMEOUT: Duration = Duration::from_secs(9);
const RESPONSE_BYTES_MAX: usize = 16 << 20;
/// The epoch with which a static member of KIP-848 leaves for a while.
const EPOCH_AWAY: i32 = -2;

/// How a member takes part.
#[derive(Debug, Clone)]
pub struct Part {
    /// In which group.
    pub group: String,
    /// Speaking what.
    pub protocol: Protocol,
    /// How a classic group shares.
    pub assignor: Assignor,
    /// The instance id of a static member.
    pub instance: Option<String>,
}

/// What became of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// It is there.
    Ok,
    /// It certainly is not and never will be.
    Fail(String),
    /// It may be, or part of it.
    Info(String),
}

/// A member.
#[derive(Debug)]
pub struct GroupMember {
    /// What it knows of the cluster.
    pub nodes: Nodes,
    part: Part,
    keys: Vec<Key>,
    request_timeout: Duration,
    coordinator: Option<(NodeId, Rc<Connection>)>,
    member_id: String,
    generation: i32,
    is_joined: bool,
    owned: BTreeSet<Key>,
    /// What it owns has changed since the coordinator was told.
    is_news: bool,
    topic_ids: BTreeMap<[u8; 16], String>,
}

impl GroupMember {
    /// Not joined yet. It wants all topics of `keys`, which are all their partitions.
    #[must_use]
    pub fn new(
        nodes: Nodes,
        part: Part,
        keys: Vec<Key>,
        request_timeout: Duration,
        mut random: Random,
    ) -> GroupMember {
        let member_id = match part.protocol {
            Protocol::Classic => String::new(),
            Protocol::Consumer => format!("{:016x}{:016x}", random.next_u64(), random.next_u64()),
        };
        GroupMember {
            nodes,
            part,
            keys,
            request_timeout,
            coordinator: None,
            member_id,
            generation: -1,
            is_joined: false,
            owned: BTreeSet::new(),
            is_news: false,
            topic_ids: BTreeMap::new(),
        }
    }

    /// Its id, empty while it has none.
    #[must_use]
    pub fn member_id(&self) -> &str {
        &self.member_id
    }

    /// How it takes part.
    #[must_use]
    pub fn part(&self) -> &Part {
        &self.part
    }

    /// Whether it holds on to what it owns while it joins.
    #[must_use]
    pub fn is_cooperative(&self) -> bool {
        self.part.protocol == Protocol::Classic && self.part.assignor == Assignor::CooperativeSticky
    }

    /// Its generation or epoch.
    #[must_use]
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// Whether it is a member, as far as it knows.
    #[must_use]
    pub fn is_joined(&self) -> bool {
        self.is_joined
    }

    /// Whether the coordinator should hear of a change soon.
    #[must_use]
    pub fn is_news(&self) -> bool {
        self.is_news
    }

    /// What it was told to own.
    #[must_use]
    pub fn owned(&self) -> &BTreeSet<Key> {
        &self.owned
    }

    /// Joins, owning nothing, or in a cooperative group what it owned; on success it was told what to
    /// own. Where that is less than before, it is not joined until it has joined once more.
    ///
    /// # Errors
    ///
    /// Why it was told nothing.
    pub async fn join(&mut self) -> Result<(), ClientError> {
        self.is_joined = false;
        if !self.is_cooperative() {
            self.owned.clear();
        }
        let before = self.owned.clone();
        let joined = match self.part.protocol {
            Protocol::Classic => self.join_classic().await,
            Protocol::Consumer => {
                let topics = self.topics();
                let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
                let (group, member) = (self.part.group.as_str(), self.member_id.as_str());
                let timeout_ms = millis(SESSION_TIMEOUT);
                let beat = ConsumerGroupHeartbeat::join(group, member, &topics, timeout_ms);
                self.beat_consumer(beat).await
            }
        };
        self.note(&joined);
        self.is_joined = joined.is_ok() && before.is_subset(&self.owned);
        joined
    }

    /// Gives a sign of life; what it owns may change with it.
    ///
    /// # Errors
    ///
    /// Why it was not acknowledged. Where the member has to join anew, it is joined no more.
    pub async fn heartbeat(&mut self) -> Result<(), ClientError> {
        let answer = match self.part.protocol {
            Protocol::Classic => self.beat_classic().await,
            Protocol::Consumer => {
                let (group, member) = (self.part.group.as_str(), self.member_id.as_str());
                let mut beat = ConsumerGroupHeartbeat::unchanged(group, member, self.generation);
                if self.is_news {
                    match self.owned_by_id() {
                        Some(owned) => beat.owned = Some(owned),
                        None => return Err(ClientError::Malformed("a topic without an id")),
                    }
                }
                self.beat_consumer(beat).await
            }
        };
        self.note(&answer);
        answer
    }

    /// Says that it leaves, and owns nothing any more.
    ///
    /// # Errors
    ///
    /// Why that may not have been heard.
    pub async fn leave(&mut self) -> Result<(), ClientError> {
        self.is_joined = false;
        self.owned.clear();
        let connection = self.coordinator().await?;
        let left = match self.part.protocol {
            Protocol::Classic => {
                let leaving = [LeavingMember {
                    member_id: self.member_id.clone(),
                    instance_id: self.part.instance.clone(),
                    reason: None,
                }];
                let left = connection.leave_group(&self.part.group, &leaving);
                let left = self.within(left).await;
                left.and_then(|left| {
                    left.error.check()?;
                    left.members
                        .first()
                        .map_or(Ok(()), |member| member.error.check())
                })
            }
            Protocol::Consumer => self.say_epoch(&connection, -1).await,
        };
        self.note(&left);
        left
    }

    /// Makes way for the next member of its instance: one of KIP-848 has to say that it goes, a
    /// classic one is replaced. It owns what it owned, for all that it knows.
    ///
    /// # Errors
    ///
    /// Why that may not have been heard.
    pub async fn make_way(&mut self) -> Result<(), ClientError> {
        match self.part.protocol {
            Protocol::Classic => Ok(()),
            Protocol::Consumer => {
                let connection = self.coordinator().await?;
                self.say_epoch(&connection, EPOCH_AWAY).await
            }
        }
    }

    async fn say_epoch(&self, connection: &Connection, epoch: i32) -> Result<(), ClientError> {
        let (group, member) = (self.part.group.as_str(), self.member_id.as_str());
        let mut beat = ConsumerGroupHeartbeat::unchanged(group, member, epoch);
        beat.instance_id.clone_from(&self.part.instance);
        let told = self
            .within(connection.consumer_group_heartbeat(&beat))
            .await?;
        told.error.check_with(told.message)
    }

    /// Commits as this member.
    pub async fn commit(&mut self, offsets: &[(Key, i64)]) -> Committed {
        let (generation, member_id) = (self.generation, self.member_id.clone());
        self.commit_as(generation, member_id, offsets).await
    }

    /// Commits from outside of the group, which only a group without members takes.
    pub async fn commit_from_outside(&mut self, offsets: &[(Key, i64)]) -> Committed {
        self.commit_as(-1, String::new(), offsets).await
    }

    async fn commit_as(
        &mut self,
        generation_or_epoch: i32,
        member_id: String,
        offsets: &[(Key, i64)],
    ) -> Committed {
        let connection = match self.coordinator().await {
            Ok(connection) => connection,
            Err(error) => return Committed::Fail(error.to_string()),
        };
        let to_commit = |(key, offset): &(Key, i64)| OffsetToCommit {
            topic: key.topic.clone(),
            partition: key.partition,
            offset: *offset,
            leader_epoch: -1,
            metadata: None,
        };
        let commit = OffsetCommit {
            group_id: self.part.group.clone(),
            generation_or_epoch,
            instance_id: match member_id.is_empty() {
                true => None,
                false => self.part.instance.clone(),
            },
            member_id,
            offsets: offsets.iter().map(to_commit).collect(),
        };
        let answer = self.within(connection.offset_commit(&commit)).await;
        let outcomes = match answer {
            Ok(outcomes) => outcomes,
            Err(error) => {
                self.note::<()>(&Err(error.clone()));
                return match error.is_definite() {
                    true => Committed::Fail(error.to_string()),
                    false => Committed::Info(error.to_string()),
                };
            }
        };
        let failed = outcomes
            .iter()
            .filter(|outcome| outcome.error != ErrorCode::NONE);
        let errors: Vec<ErrorCode> = failed.map(|outcome| outcome.error).collect();
        let Some(first) = errors.first() else {
            return match outcomes.len() == offsets.len() {
                true => Committed::Ok,
                false => Committed::Info("not every partition was answered".to_owned()),
            };
        };
        self.note(&first.check());
        let is_all = errors.len() == offsets.len();
        match is_all && errors.iter().all(|error| error.is_definite()) {
            true => Committed::Fail(first.to_string()),
            false => Committed::Info(first.to_string()),
        }
    }

    /// What is committed for these, -1 for nothing.
    ///
    /// # Errors
    ///
    /// When that was not told for all of them.
    pub async fn committed(&mut self, keys: &[Key]) -> Result<Vec<(Key, i64)>, ClientError> {
        let connection = self.coordinator().await?;
        let partitions = keys
            .iter()
            .map(|key| (key.topic.clone(), key.partition))
            .collect();
        let fetch = [OffsetFetch::new(self.part.group.clone(), Some(partitions))];
        let answer = self.within(connection.offset_fetch(&fetch, false)).await;
        let answer = answer.and_then(|groups| {
            let group = groups.into_iter().next();
            let group = group.ok_or(ClientError::Malformed("no group"))?;
            group.error.check()?;
            let mut told: BTreeMap<Key, i64> = BTreeMap::new();
            for one in group.offsets {
                one.error.check()?;
                let (topic, partition) = (one.topic, one.partition);
                told.insert(Key { topic, partition }, one.offset);
            }
            let of = |key: &Key| Some((key.clone(), *told.get(key)?));
            let all: Option<Vec<(Key, i64)>> = keys.iter().map(of).collect();
            all.ok_or(ClientError::Malformed("a partition is missing"))
        });
        self.note(&answer);
        answer
    }

    async fn join_classic(&mut self) -> Result<(), ClientError> {
        let connection = self.coordinator().await?;
        // Those of one topic stand together, as they are sorted.
        let owned = self.owned.iter();
        let subscription = Subscription {
            topics: self.topics(),
            owned: owned
                .map(|key| (key.topic.clone(), key.partition))
                .collect(),
        };
        let mut join = JoinGroup {
            group_id: self.part.group.clone(),
            session_timeout_ms: millis(SESSION_TIMEOUT),
            rebalance_timeout_ms: millis(SESSION_TIMEOUT),
            member_id: self.member_id.clone(),
            instance_id: self.part.instance.clone(),
            protocol_type: CONSUMER_PROTOCOL_TYPE.to_owned(),
            protocols: vec![(self.part.assignor.name().to_owned(), subscription.encode())],
            reason: None,
        };
        let mut joined = connection.join_group(&join).await?;
        if joined.error == ErrorCode::MEMBER_ID_REQUIRED {
            self.member_id.clone_from(&joined.member_id);
            join.member_id.clone_from(&joined.member_id);
            joined = connection.join_group(&join).await?;
        }
        joined.error.check()?;
        let is_leader = joined.leader == joined.member_id && !joined.skip_assignment;
        let sync = SyncGroup {
            group_id: self.part.group.clone(),
            generation: joined.generation,
            member_id: joined.member_id.clone(),
            instance_id: self.part.instance.clone(),
            protocol_type: joined.protocol_type.clone(),
            protocol_name: joined.protocol_name.clone(),
            assignments: match is_leader {
                true => self.part.assignor.share(&self.keys, &joined.members)?,
                false => Vec::new(),
            },
        };
        let synced = connection.sync_group(&sync).await?;
        synced.error.check()?;
        let assignment = Assignment::decode(&synced.assignment)?;
        self.member_id = joined.member_id;
        self.generation = joined.generation;
        let key = |(topic, partition)| Key { topic, partition };
        self.owned = assignment.0.into_iter().map(key).collect();
        Ok(())
    }

    async fn beat_classic(&mut self) -> Result<(), ClientError> {
        let connection = self.coordinator().await?;
        let beat = Heartbeat {
            group_id: self.part.group.clone(),
            generation: self.generation,
            member_id: self.member_id.clone(),
            instance_id: self.part.instance.clone(),
        };
        self.within(connection.heartbeat(&beat)).await?.check()
    }

    async fn beat_consumer(&mut self, mut beat: ConsumerGroupHeartbeat) -> Result<(), ClientError> {
        beat.instance_id.clone_from(&self.part.instance);
        let connection = self.coordinator().await?;
        let told = self
            .within(connection.consumer_group_heartbeat(&beat))
            .await?;
        let ConsumerGroupHeartbeatAnswer {
            error,
            message,
            member_epoch,
            assignment,
            ..
        } = told;
        error.check_with(message)?;
        let owned = match assignment {
            Some(assignment) => Some(self.named(assignment).await?),
            None => None,
        };
        self.generation = member_epoch;
        self.is_news &= beat.owned.is_none();
        if let Some(owned) = owned.filter(|owned| *owned != self.owned) {
            self.owned = owned;
            self.is_news = true;
        }
        Ok(())
    }

    /// Partitions by name; nodes are asked for names that are not known.
    async fn named(&mut self, told: Vec<PartitionsById>) -> Result<BTreeSet<Key>, ClientError> {
        let is_known = |known: &BTreeMap<_, _>| {
            told.iter()
                .all(|topic: &PartitionsById| known.contains_key(&topic.topic_id))
        };
        if !is_known(&self.topic_ids) {
            let topics = self.topics();
            let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
            let metadata = self.nodes.metadata(Some(&topics)).await?;
            let ids = metadata.topics.into_iter();
            self.topic_ids = ids.map(|topic| (topic.topic_id, topic.name)).collect();
        }
        let mut keys = BTreeSet::new();
        for topic in told {
            let name = self.topic_ids.get(&topic.topic_id);
            let name = name.ok_or(ClientError::Malformed("a topic nobody knows"))?;
            keys.extend(topic.partitions.into_iter().map(|partition| Key {
                topic: name.clone(),
                partition,
            }));
        }
        Ok(keys)
    }

    fn owned_by_id(&self) -> Option<Vec<PartitionsById>> {
        let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for key in &self.owned {
            topics.entry(&key.topic).or_default().push(key.partition);
        }
        let id = |name: &str| {
            let mut ids = self.topic_ids.iter();
            ids.find_map(|(id, known)| (known == name).then_some(*id))
        };
        let by_id = topics.into_iter().map(|(name, partitions)| {
            Some(PartitionsById {
                topic_id: id(name)?,
                partitions,
            })
        });
        by_id.collect()
    }

    fn topics(&self) -> Vec<String> {
        let topics: BTreeSet<&str> = self.keys.iter().map(|key| key.topic.as_str()).collect();
        topics.into_iter().map(str::to_owned).collect()
    }

    /// The connection to who coordinates the group; nodes are asked when that is not known.
    async fn coordinator(&mut self) -> Result<Rc<Connection>, ClientError> {
        if let Some((node, connection)) = &self.coordinator
            && self
                .nodes
                .address(*node)
                .is_none_or(|address| address == connection.address())
        {
            return Ok(Rc::clone(connection));
        }
        self.coordinator = None;
        let mut failure = ClientError::NotSent("no address is known".to_owned());
        for node in self.nodes.all() {
            match self.ask_for_coordinator(node).await {
                Ok(found) => {
                    self.coordinator = Some((found.0, Rc::clone(&found.1)));
                    return Ok(found.1);
                }
                Err(error) => failure = ClientError::NotSent(format!("no coordinator: {error}")),
            }
        }
        Err(failure)
    }

    async fn ask_for_coordinator(
        &mut self,
        node: NodeId,
    ) -> Result<(NodeId, Rc<Connection>), ClientError> {
        let asked = self.nodes.connection(node).await?;
        let group = [self.part.group.as_str()];
        let found = self.within(asked.find_coordinator(CoordinatorKind::Group, &group));
        let found = match found.await {
            Ok(found) => found.into_iter().next(),
            Err(error) => {
                self.nodes.failed(node, &error);
                return Err(error);
            }
        };
        let found = found.ok_or(ClientError::Malformed("no coordinator"))?;
        found.error.check_with(found.message.clone())?;
        let id = NodeId::try_from(found.node_id);
        let id = id.map_err(|_| ClientError::Malformed("a coordinator without an id"))?;
        let told = found.address();
        let address = self.nodes.address(id).unwrap_or(&told);
        let options = ConnectOptions {
            client_id: "jepsen-group".to_owned(),
            connect_timeout: self.request_timeout / 2,
            request_timeout: JOIN_TIMEOUT,
            response_bytes_max: RESPONSE_BYTES_MAX,
        };
        let connection = Connection::connect(address, options).await?;
        Ok((id, Rc::new(connection)))
    }

    /// What takes no longer than a request may; only joins do.
    async fn within<T>(
        &self,
        call: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let answer = timeout(self.request_timeout, call).await;
        answer.unwrap_or(Err(ClientError::TimedOut {
            timeout_ms: u64::try_from(self.request_timeout.as_millis()).unwrap_or(u64::MAX),
        }))
    }

    /// Learns from a failure: who coordinates is to be asked for, or the member is one no more.
    fn note<T>(&mut self, answer: &Result<T, ClientError>) {
        let Err(error) = answer else {
            return;
        };
        let ClientError::Refused { code, .. } = error else {
            self.coordinator = None;
            return;
        };
        match *code {
            ErrorCode::NOT_COORDINATOR
            | ErrorCode::COORDINATOR_NOT_AVAILABLE
            | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS => self.coordinator = None,
            ErrorCode::REBALANCE_IN_PROGRESS => self.is_joined = false,
            ErrorCode::ILLEGAL_GENERATION => {
                self.is_joined = false;
                self.owned.clear();
            }
            ErrorCode::UNKNOWN_MEMBER_ID
            | ErrorCode::FENCED_MEMBER_EPOCH
            | ErrorCode::FENCED_INSTANCE_ID
            | ErrorCode::GROUP_ID_NOT_FOUND => {
                self.is_joined = false;
                self.owned.clear();
                if self.part.protocol == Protocol::Classic {
                    self.member_id.clear();
                }
            }
            _ => {}
        }
    }
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(assignor: Assignor) -> GroupMember {
        let nodes = Nodes::new(Vec::new(), Duration::from_secs(1), Random::new(1));
        let part = Part {
            group: "g".to_owned(),
            protocol: Protocol::Classic,
            assignor,
            instance: None,
        };
        let key = Key {
            topic: "a".to_owned(),
            partition: 0,
        };
        let timeout = Duration::from_secs(1);
        let mut member = GroupMember::new(nodes, part, vec![key.clone()], timeout, Random::new(1));
        member.member_id = "old".to_owned();
        member.is_joined = true;
        member.owned.insert(key);
        member
    }

    #[test]
    fn a_member_nobody_knows_asks_for_a_new_id() {
        for code in [ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::FENCED_INSTANCE_ID] {
            let mut member = member(Assignor::Range);
            member.note::<()>(&Err(ErrorCode::ILLEGAL_GENERATION.into()));
            assert!(!member.is_joined());
            assert_eq!(member.member_id(), "old");
            member.note::<()>(&Err(code.into()));
            assert_eq!(member.member_id(), "");
        }
    }

    #[test]
    fn a_member_that_may_have_been_forgotten_owns_nothing() {
        let mut member = member(Assignor::CooperativeSticky);
        member.note::<()>(&Err(ErrorCode::REBALANCE_IN_PROGRESS.into()));
        assert!(!member.is_joined());
        assert_eq!(member.owned().len(), 1);
        member.note::<()>(&Err(ErrorCode::ILLEGAL_GENERATION.into()));
        assert!(member.owned().is_empty());
    }
}

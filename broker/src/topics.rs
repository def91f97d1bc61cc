//! Administration of topics: creating, deleting, growing, trimming.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use storage::bugs::{self, Bug};
use storage::{NodeId, Offset, PartitionId, ShardId, TopicId};
use tokio::sync::watch;

use crate::broker::refused;
use crate::catalogue::command::{Command, NewShard, TopicEntry};
use crate::catalogue::{Catalogue, Factor, PartitionEntry, Shard, Topic};
use crate::controller::AUTO_REPLICAS;
use crate::coordinators::{is_internal, refuse_internal};
use crate::partition::machine::Outcome;
use crate::partition::op::PartitionOp;
use crate::placement::{
    Sharing, by_hand, check_assignments, factor_of, may_serve, place, serving_factor, set_factor,
    sharing, standing, topic_name_problem,
};
use crate::topic_config_changes::overrides_of;
use crate::{Broker, BrokerError, TopicConfig};

/// Most partitions one topic may have.
const TOPIC_PARTITIONS_MAX: i32 = 100_000;
/// How long the answer to a creation waits for the partitions' leaders.
const SERVED_WAIT_MS: i64 = 5_000;
/// How often what is waited for is looked at when nothing is seen to change.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long a topic that is created on first use may take until the client is told to try again.
const AUTO_CREATE_TIMEOUT_MS: i64 = 2_000;

/// How often the shards for a topic are planned anew because others were made meanwhile.
const SHARD_ATTEMPTS: usize = 5;
/// How long the first topic of three replicas waits until the automatic shards have them too.
const SHARED_WAIT_MS: i64 = 5_000;
/// How long to wait each time until these others are known here.
const SHARD_WAIT: Duration = Duration::from_secs(2);

/// The catalogue as it becomes.
type Images = watch::Receiver<Arc<Catalogue>>;

/// A topic to create.
#[derive(Debug, Clone, Default)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Number of partitions; `None` takes the cluster's default.
    pub partitions: Option<i32>,
    /// Number of replicas; `None` takes the cluster's default.
    pub replication_factor: Option<i16>,
    /// Replicas by partition, given by hand; empty means automatic.
    pub assignments: BTreeMap<i32, Vec<NodeId>>,
    /// Configs, as text.
    pub configs: Vec<(String, Option<String>)>,
}

/// A topic as it was (or, when only validated, would be) created.
#[derive(Debug, Clone)]
pub struct CreatedTopic {
    /// Its name.
    pub name: String,
    /// Its id; [`TopicId::NONE`] when only validated.
    pub id: TopicId,
    /// Number of partitions.
    pub partitions: i32,
    /// Number of replicas of each.
    pub replication_factor: i16,
}

/// Names a topic by name or id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicRef {
    /// By name.
    Name(String),
    /// By id.
    Id(TopicId),
}

/// A request to raise a topic's partition count.
#[derive(Debug, Clone)]
pub struct NewPartitions {
    /// The topic.
    pub topic: String,
    /// The new total, above the present one.
    pub total: i32,
    /// Replicas of each new partition, by hand; `None` means automatic.
    pub assignments: Option<Vec<Vec<NodeId>>>,
}

impl Broker {
    /// Creates topics; with `validate_only` only says what would happen. Returns when every
    /// partition has a serving leader, or `timeout_ms` has passed (`TimedOut`; it goes on).
    pub async fn create_topics(
        &self,
        topics: Vec<NewTopic>,
        validate_only: bool,
        timeout_ms: i64,
    ) -> Vec<Result<CreatedTopic, BrokerError>> {
        let results = self.enter_topics(topics, validate_only, false).await;
        if validate_only || bugs::is_on(Bug::TopicAckedEarly) {
            return results;
        }
        self.served(results, timeout_ms).await
    }

    /// Creates one of the brokers' own topics, as [`Broker::create_topics`] does the others.
    pub(crate) async fn create_internal_topic(
        &self,
        topic: NewTopic,
        timeout_ms: i64,
    ) -> Result<CreatedTopic, BrokerError> {
        let results = self.enter_topics(vec![topic], false, true).await;
        self.served(results, timeout_ms).await.remove(0)
    }

    /// Waits until topics that were created are served.
    async fn served(
        &self,
        mut results: Vec<Result<CreatedTopic, BrokerError>>,
        timeout_ms: i64,
    ) -> Vec<Result<CreatedTopic, BrokerError>> {
        let created: Vec<TopicId> = results
            .iter()
            .filter_map(|result| result.as_ref().ok())
            .map(|topic| topic.id)
            .collect();
        let has_created = !created.is_empty();
        if has_created && !self.wait_until_served(&created, timeout_ms).await {
            for result in &mut results {
                if result.as_ref().is_ok_and(|topic| !self.is_served(topic.id)) {
                    *result = Err(timed_out("the partitions' leaders"));
                }
            }
        }
        results
    }

    async fn enter_topics(
        &self,
        topics: Vec<NewTopic>,
        validate_only: bool,
        may_be_internal: bool,
    ) -> Vec<Result<CreatedTopic, BrokerError>> {
        let _administration = self.inner.administration.lock().await;
        let mut images = self.inner.images.clone();
        let mut catalogue = Catalogue::clone(&images.borrow_and_update());
        let mut results = Vec::with_capacity(topics.len());
        for topic in topics {
            if !may_be_internal && let Err(refused) = refuse_internal(&topic.name) {
                // One that exists is said to exist.
                let exists = catalogue.topics.contains_key(&topic.name);
                results.push(Err(if exists {
                    BrokerError::TopicExists
                } else {
                    refused
                }));
                continue;
            }
            let entered = self
                .enter_topic((&mut catalogue, &mut images), &topic, validate_only)
                .await;
            results.push(entered);
        }
        results
    }

    async fn enter_topic(
        &self,
        (catalogue, images): (&mut Catalogue, &mut Images),
        topic: &NewTopic,
        validate_only: bool,
    ) -> Result<CreatedTopic, BrokerError> {
        if !validate_only && topic.assignments.is_empty() {
            let factor = self.wanted_factor(topic.replication_factor)?;
            self.wait_until_shared((catalogue, images), factor).await;
        }
        for _ in 0..SHARD_ATTEMPTS {
            let pinned = self.to_pin(catalogue, topic)?;
            let new_shards = self.shards_for(catalogue, topic)?;
            let next = ShardId(catalogue.next_shard_id);
            enter_shards(catalogue, &new_shards);
            let planned = self.plan_topic(catalogue, topic.clone());
            if planned.is_err() || validate_only {
                leave_shards(catalogue, next);
                set_factor(catalogue, &pinned, Factor::Auto);
                return planned.map(|(created, _)| CreatedTopic {
                    id: TopicId::NONE,
                    ..created
                });
            }
            let (created, entry) = planned?;
            match self.pin_shards(pinned).await {
                Ok(()) => {}
                // Somebody else changed those shards meanwhile: look again.
                Err(BrokerError::Conflict { .. }) => {
                    *catalogue = newer_image(images).await;
                    continue;
                }
                Err(error) => {
                    *catalogue = Catalogue::clone(&self.catalogue());
                    return Err(error);
                }
            }
            match self.make_shards(next, new_shards).await {
                Ok(()) => {}
                // Somebody else made shards meanwhile: look again.
                Err(BrokerError::Conflict { .. }) => {
                    *catalogue = self.catalogue_beyond(next).await;
                    continue;
                }
                Err(error) => {
                    *catalogue = Catalogue::clone(&self.catalogue());
                    return Err(error);
                }
            }
            remember(catalogue, &entry);
            let command = Command::CreateTopic(entry);
            if bugs::is_on(Bug::TopicAckedEarly) {
                // Others may come with which it can share an entry.
                let broker = self.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    broker.change_catalogue(&command).await
                });
                return Ok(created);
            }
            return self.change_catalogue(&command).await.map(|_| created);
        }
        Err(BrokerError::LeaderNotAvailable)
    }

    /// Waits while automatic shards are about to have the replicas that a topic asks for: those
    /// can serve it then, and no others need be made.
    async fn wait_until_shared(
        &self,
        (catalogue, images): (&mut Catalogue, &mut Images),
        factor: Factor,
    ) {
        let grows = || {
            let soon = sharing(&self.catalogue(), &self.alive_nodes(), factor);
            soon == Sharing::Soon
        };
        if grows() {
            // Where that takes longer the topic gets shards of its own.
            let _ = self.wait_until(|| !grows(), SHARED_WAIT_MS).await;
            *catalogue = Catalogue::clone(&images.borrow_and_update());
        }
    }

    /// The automatic shards that are to be pinned for a topic, pinned in this picture already.
    fn to_pin(
        &self,
        catalogue: &mut Catalogue,
        topic: &NewTopic,
    ) -> Result<Vec<ShardId>, BrokerError> {
        if !topic.assignments.is_empty() {
            return Ok(Vec::new());
        }
        let factor = self.wanted_factor(topic.replication_factor)?;
        let Sharing::Pin(shards) = sharing(catalogue, &self.alive_nodes(), factor) else {
            return Ok(Vec::new());
        };
        set_factor(catalogue, &shards, factor);
        Ok(shards)
    }

    async fn pin_shards(&self, shards: Vec<ShardId>) -> Result<(), BrokerError> {
        if shards.is_empty() {
            return Ok(());
        }
        let replicas = AUTO_REPLICAS;
        let command = Command::PinShards { shards, replicas };
        self.change_catalogue(&command).await.map(|_| ())
    }

    /// The shards that a topic needs and that are not there yet.
    fn shards_for(
        &self,
        catalogue: &Catalogue,
        topic: &NewTopic,
    ) -> Result<Vec<NewShard>, BrokerError> {
        if !topic.assignments.is_empty() {
            return by_hand(catalogue, &topic.assignments);
        }
        let factor = self.wanted_factor(topic.replication_factor)?;
        let factor = serving_factor(catalogue, factor);
        Ok(standing(catalogue, &self.alive_nodes(), factor))
    }

    fn wanted_factor(&self, asked: Option<i16>) -> Result<Factor, BrokerError> {
        let factor = match asked {
            None if self.inner.config.default_replication_factor == 0 => return Ok(Factor::Auto),
            None => self.inner.config.default_replication_factor,
            Some(asked) => asked,
        };
        u16::try_from(factor)
            .ok()
            .filter(|factor| *factor > 0)
            .map_or_else(
                || {
                    Err(BrokerError::InvalidReplicationFactor {
                        reason: format!("{factor} replicas"),
                    })
                },
                |factor| Ok(Factor::Fixed(factor)),
            )
    }

    /// Which shards serve, as far as this node can tell.
    fn may_serve(&self) -> impl Fn(&Shard) -> bool {
        let alive = self.alive_nodes();
        move |shard| {
            let is_led = self.shard_seen(shard.id).leader.is_some();
            may_serve(shard, is_led, &alive)
        }
    }

    pub(crate) async fn make_shards(
        &self,
        next: ShardId,
        shards: Vec<NewShard>,
    ) -> Result<(), BrokerError> {
        if shards.is_empty() {
            return Ok(());
        }
        let command = Command::CreateShards { next, shards };
        self.change_catalogue(&command).await.map(|_| ())
    }

    /// The catalogue once it knows of a shard that somebody else made, or what there is after a
    /// while.
    pub(crate) async fn catalogue_beyond(&self, next: ShardId) -> Catalogue {
        let mut images = self.inner.images.clone();
        let newer = images.wait_for(|image| image.next_shard_id > next.0);
        // When it does not come, the next attempt says why.
        let _ = tokio::time::timeout(SHARD_WAIT, newer).await;
        Catalogue::clone(&self.catalogue())
    }

    fn plan_topic(
        &self,
        catalogue: &Catalogue,
        topic: NewTopic,
    ) -> Result<(CreatedTopic, TopicEntry), BrokerError> {
        if let Some(reason) = topic_name_problem(&topic.name, catalogue) {
            return Err(BrokerError::InvalidTopic { reason });
        }
        if catalogue.topics.contains_key(&topic.name) {
            return Err(BrokerError::TopicExists);
        }
        let config = &self.inner.config;
        let (count, factor, shards) = if topic.assignments.is_empty() {
            let count = topic.partitions.unwrap_or(config.default_partitions);
            self.check_count(catalogue, count)?;
            let factor = self.wanted_factor(topic.replication_factor)?;
            let factor = serving_factor(catalogue, factor);
            let serves = self.may_serve();
            let shards = place(catalogue, count, factor, serves)?;
            let replicas = replicas_of(catalogue, shards.first());
            (count, replicas, shards)
        } else {
            if topic.partitions.is_some() || topic.replication_factor.is_some() {
                return Err(BrokerError::InvalidRequest {
                    reason: "replicas by hand and numbers of partitions or replicas exclude each \
                             other"
                        .to_owned(),
                });
            }
            let (count, factor, shards) = check_assignments(catalogue, &topic.assignments)?;
            self.check_count(catalogue, count)?;
            (count, factor, shards)
        };
        let overrides = overrides_of(topic.configs)?;
        TopicConfig::parse(overrides.clone(), &catalogue.broker_configs)?;
        let id = self.new_topic_id(catalogue);
        let created = CreatedTopic {
            name: topic.name.clone(),
            id,
            partitions: count,
            replication_factor: factor,
        };
        let entry = TopicEntry {
            name: topic.name,
            id,
            partitions: shards.into_iter().map(PartitionEntry::new).collect(),
            overrides,
            internal: is_internal(&created.name),
        };
        Ok((created, entry))
    }

    /// An id that no topic has.
    fn new_topic_id(&self, catalogue: &Catalogue) -> TopicId {
        let mut ids = self
            .inner
            .ids
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        loop {
            let id = ids.topic_id();
            if !catalogue.names.contains_key(&id) {
                return id;
            }
        }
    }

    fn check_count(&self, catalogue: &Catalogue, count: i32) -> Result<(), BrokerError> {
        if !(1..=TOPIC_PARTITIONS_MAX).contains(&count) {
            return Err(BrokerError::InvalidPartitions {
                reason: format!("{count} is not within 1..={TOPIC_PARTITIONS_MAX}"),
            });
        }
        let present: usize = catalogue
            .topics
            .values()
            .map(|topic| topic.partitions.len())
            .sum();
        let max = self.inner.config.partitions_max;
        if present + usize::try_from(count).unwrap_or(usize::MAX) > max {
            return Err(BrokerError::PolicyViolation {
                reason: format!("{present} partitions exist, at most {max} may"),
            });
        }
        Ok(())
    }

    /// Creates a topic on first use where that is allowed; `Ok` also when it exists.
    pub async fn auto_create_topic(&self, name: &str) -> Result<(), BrokerError> {
        if self.catalogue().topics.contains_key(name) {
            return Ok(());
        }
        if !self.inner.config.auto_create_topics || is_internal(name) {
            return Err(BrokerError::UnknownTopicOrPartition);
        }
        let topic = NewTopic {
            name: name.to_owned(),
            ..NewTopic::default()
        };
        match self
            .create_topics(vec![topic], false, AUTO_CREATE_TIMEOUT_MS)
            .await
            .remove(0)
        {
            Ok(_) | Err(BrokerError::TopicExists) => Ok(()),
            Err(BrokerError::TimedOut { .. }) => Err(BrokerError::LeaderNotAvailable),
            Err(error) => Err(error),
        }
    }

    /// Deletes topics; answers each with its name and id. Returns when their partitions are gone
    /// from this node, or `timeout_ms` has passed.
    pub async fn delete_topics(
        &self,
        topics: Vec<TopicRef>,
        timeout_ms: i64,
    ) -> Vec<Result<(String, TopicId), BrokerError>> {
        let mut results = Vec::with_capacity(topics.len());
        for topic in topics {
            results.push(self.delete_topic(topic).await);
        }
        let gone: HashSet<TopicId> = results
            .iter()
            .filter_map(|result| result.as_ref().ok())
            .map(|(_, id)| *id)
            .collect();
        let directory = &self.inner.directory;
        let is_gone = || {
            !directory
                .all()
                .iter()
                .any(|partition| gone.contains(&partition.id.topic))
        };
        if !gone.is_empty() && !self.wait_until(is_gone, timeout_ms).await {
            tracing::warn!("deleted topics still have partitions on this node");
        }
        results
    }

    async fn delete_topic(&self, topic: TopicRef) -> Result<(String, TopicId), BrokerError> {
        let catalogue = self.catalogue();
        let found = match &topic {
            TopicRef::Name(name) => catalogue
                .topics
                .get(name)
                .ok_or(BrokerError::UnknownTopicOrPartition)?,
            TopicRef::Id(id) => catalogue
                .topic_by_id(*id)
                .ok_or(BrokerError::UnknownTopicId)?,
        };
        refuse_internal(&found.name)?;
        let deleted = self.change_catalogue(&Command::DeleteTopic(found.id)).await;
        deleted.map_err(|error| match (error, &topic) {
            // Somebody else deleted it meanwhile; who asked by name is answered by name.
            (BrokerError::UnknownTopicId, TopicRef::Name(_)) => {
                BrokerError::UnknownTopicOrPartition
            }
            (error, _) => error,
        })?;
        Ok((found.name.clone(), found.id))
    }

    /// Raises partition counts.
    pub async fn create_partitions(
        &self,
        topics: Vec<NewPartitions>,
        validate_only: bool,
        timeout_ms: i64,
    ) -> Vec<Result<(), BrokerError>> {
        let mut results = Vec::with_capacity(topics.len());
        for topic in topics {
            results.push(self.add_partitions(topic, validate_only).await);
        }
        let grown: Vec<TopicId> = results
            .iter()
            .filter_map(|r| r.as_ref().ok().copied())
            .collect();
        let served = validate_only || self.wait_until_served(&grown, timeout_ms).await;
        let outcome = |result: Result<TopicId, BrokerError>| match result {
            Ok(id) if !served && !self.is_served(id) => Err(timed_out("the partitions' leaders")),
            result => result.map(|_| ()),
        };
        results.into_iter().map(outcome).collect()
    }

    async fn add_partitions(
        &self,
        new: NewPartitions,
        validate_only: bool,
    ) -> Result<TopicId, BrokerError> {
        let _administration = self.inner.administration.lock().await;
        let catalogue = self.catalogue();
        let topic = catalogue
            .topics
            .get(&new.topic)
            .ok_or(BrokerError::UnknownTopicOrPartition)?;
        // What its partitions hold is found by their number.
        refuse_internal(&topic.name)?;
        let present = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        if new.total <= present {
            return Err(BrokerError::InvalidPartitions {
                reason: format!(
                    "the topic has {present} partitions, {} is not more",
                    new.total
                ),
            });
        }
        let added = new.total - present;
        if new.total > TOPIC_PARTITIONS_MAX {
            self.check_count(&catalogue, new.total)?;
        }
        self.check_count(&catalogue, added)?;
        let factor = factor_of(&catalogue, topic);
        let replicas = replicas_of(
            &catalogue,
            topic.partitions.first().map(|entry| &entry.shard),
        );
        let mut with_shards = Catalogue::clone(&catalogue);
        let next = ShardId(catalogue.next_shard_id);
        let lists: Option<BTreeMap<i32, Vec<NodeId>>> =
            new.assignments.map(|lists| (0..).zip(lists).collect());
        let alive = self.alive_nodes();
        let pinned = match sharing(&catalogue, &alive, factor) {
            Sharing::Pin(shards) if lists.is_none() => shards,
            _ => Vec::new(),
        };
        set_factor(&mut with_shards, &pinned, factor);
        let new_shards = match &lists {
            None => standing(&with_shards, &alive, factor),
            Some(lists) => by_hand(&catalogue, lists)?,
        };
        enter_shards(&mut with_shards, &new_shards);
        let shards = match lists {
            None => place(&with_shards, added, factor, self.may_serve())?,
            Some(lists) => {
                let (count, by_hand, shards) = check_assignments(&with_shards, &lists)?;
                if count != added || by_hand != replicas {
                    return Err(BrokerError::InvalidReplicaAssignment {
                        reason: format!(
                            "{count} lists of {by_hand} replicas for {added} new partitions of \
                             {replicas}"
                        ),
                    });
                }
                shards
            }
        };
        if !validate_only {
            self.pin_shards(pinned).await?;
            self.make_shards(next, new_shards).await?;
            let from = u32::try_from(present).expect("a count is not negative");
            let command = Command::AddPartitions {
                topic: topic.id,
                from,
                partitions: shards.into_iter().map(PartitionEntry::new).collect(),
            };
            self.change_catalogue(&command).await?;
        }
        Ok(topic.id)
    }

    /// Raises the log start to `before` (`None`: to the high watermark); answers the new log start.
    pub async fn delete_records(
        &self,
        id: PartitionId,
        before: Option<Offset>,
        timeout_ms: i64,
    ) -> Result<Offset, BrokerError> {
        let (partition, shard, _) = self.led(id)?;
        if let Some(topic) = self.catalogue().topic_by_id(id.topic) {
            refuse_internal(&topic.name)?;
            if !topic.config.cleanup.deletes {
                let reason = "cleanup.policy does not say delete".to_owned();
                return Err(BrokerError::PolicyViolation { reason });
            }
        }
        let (start, end) = (partition.log.start_offset(), partition.high_watermark());
        let to = before.unwrap_or(end);
        if to < Offset(0) || to > end {
            return Err(BrokerError::OffsetOutOfRange {
                requested: to,
                start,
                end,
            });
        }
        if to <= start {
            return Ok(start);
        }
        let op = PartitionOp::RaiseStart { partition: id, to }.encode();
        let raised = async {
            let pending = shard
                .shard
                .submit(op)
                .await
                .map_err(|error| refused(&error))?;
            pending.await.map_err(|error| refused(&error))
        };
        match within(timeout_ms, raised)
            .await
            .ok_or_else(|| timed_out("the log start"))??
        {
            Outcome::Start(start) => Ok(start),
            Outcome::Moving => Err(BrokerError::NotLeader { leader: None }),
            _ => Err(BrokerError::UnknownTopicOrPartition),
        }
    }

    /// Whether every partition of a topic has a leader that this node knows of, and exists where
    /// this node can tell.
    fn is_served(&self, id: TopicId) -> bool {
        let catalogue = self.catalogue();
        catalogue.topic_by_id(id).is_some_and(|topic| {
            let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
            let mut statuses = self.statuses();
            (0..count).all(|index| {
                let status = statuses.of(PartitionId { topic: id, index });
                status.is_some_and(|status| status.leader.is_some())
            })
        })
    }

    /// Waits until the topics are served, but not for long: a client that meets a partition without
    /// a leader tries again. `false` when the client's own time is up before.
    async fn wait_until_served(&self, topics: &[TopicId], timeout_ms: i64) -> bool {
        let is_served = || topics.iter().all(|id| self.is_served(*id));
        if self
            .wait_until(is_served, timeout_ms.min(SERVED_WAIT_MS))
            .await
        {
            return true;
        }
        tracing::info!("partitions of new topics have no leader yet");
        timeout_ms >= SERVED_WAIT_MS
    }

    /// Waits until the partitions of this node are as wanted; `false` when the time is up first.
    pub(crate) async fn wait_until(
        &self,
        mut is_so: impl FnMut() -> bool,
        timeout_ms: i64,
    ) -> bool {
        let mut changes = self.inner.changes.subscribe();
        let waiting = async {
            while !is_so() {
                // That a follower has applied something shows only when it is looked at.
                let _ = tokio::time::timeout(LOOK_AGAIN, changes.changed()).await;
            }
        };
        within(timeout_ms, waiting).await.is_some()
    }
}

async fn within<T>(timeout_ms: i64, future: impl Future<Output = T>) -> Option<T> {
    let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
    tokio::time::timeout(timeout, future).await.ok()
}

fn timed_out(what: &str) -> BrokerError {
    BrokerError::TimedOut {
        reason: format!("waiting for {what}"),
    }
}

/// Replicas of each partition of a shard.
fn replicas_of(catalogue: &Catalogue, shard: Option<&ShardId>) -> i16 {
    let shard = shard.and_then(|shard| catalogue.shards.get(shard));
    i16::try_from(shard.map_or(1, |shard| shard.replicas.len())).unwrap_or(i16::MAX)
}

/// Enters shards that are about to be made, with the ids that they will get.
fn enter_shards(catalogue: &mut Catalogue, shards: &[NewShard]) {
    for shard in shards {
        let id = ShardId(catalogue.next_shard_id);
        catalogue.next_shard_id += 1;
        let entry = Shard::new(id, shard.replicas.clone(), shard.factor);
        catalogue.shards.insert(id, entry);
    }
}

/// Takes shards out again that are not made after all.
fn leave_shards(catalogue: &mut Catalogue, next: ShardId) {
    catalogue.shards.split_off(&next);
    catalogue.next_shard_id = next.0;
}

/// Enters a planned topic, so that the next one of the request sees its name and its load.
fn remember(catalogue: &mut Catalogue, entry: &TopicEntry) {
    let topic = Topic {
        name: entry.name.clone(),
        id: entry.id,
        partitions: entry.partitions.clone(),
        config: Arc::new(TopicConfig::default()),
        internal: entry.internal,
    };
    catalogue.names.insert(entry.id, entry.name.clone());
    catalogue.topics.insert(entry.name.clone(), Arc::new(topic));
}

/// The catalogue once it is another than the one that was looked at last, or what there is after a
/// while.
async fn newer_image(images: &mut Images) -> Catalogue {
    // When it does not come, the next attempt says why.
    let _ = tokio::time::timeout(SHARD_WAIT, images.changed()).await;
    Catalogue::clone(&images.borrow_and_update())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_that_makes_no_shards_is_waited_for_no_longer_than_it_takes() {
        let image = |producers| {
            Arc::new(Catalogue {
                next_producer_id: producers,
                ..Catalogue::default()
            })
        };
        let (sender, mut images) = watch::channel(image(1));
        let begun = tokio::time::Instant::now();
        sender.send_replace(image(2));
        assert_eq!(newer_image(&mut images).await.next_producer_id, 2);
        let (newer, ()) = tokio::join!(newer_image(&mut images), async {
            tokio::task::yield_now().await;
            sender.send_replace(image(3));
        });
        assert_eq!(newer.next_producer_id, 3);
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert_eq!(newer_image(&mut images).await.next_producer_id, 3);
        assert_eq!(begun.elapsed(), SHARD_WAIT, "nothing comes");
    }
}

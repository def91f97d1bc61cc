//! What the catalogue's entries do: the state machine of shard 0.
//!
//! Every change makes a new image and publishes it; an image once published never changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use raft::{Apply, CheckpointJob, EntryAt, InstallError, Op};
use storage::bugs::{self, Bug};
use storage::{NodeId, ShardId, TopicId};
use tokio::sync::watch;

use super::checkpoint;
use super::command::{Command, TopicEntry};
use super::membership;
use super::moves;
use super::quotas;
use super::voids;
use super::{Catalogue, PartitionEntry, Topic};
use crate::BrokerError;
use crate::TopicConfig;
use crate::inspect::digest;

/// What a command came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was done.
    Done,
    /// It was not done.
    Refused(BrokerError),
    /// The first of the producer ids set aside.
    ProducerIds(i64),
    /// The node's id.
    Node(NodeId),
    /// The shards that were made, in the order of the command.
    Shards(Vec<ShardId>),
}

/// The catalogue as the log builds it.
pub(crate) struct CatalogueMachine {
    state: Catalogue,
    published: watch::Sender<Arc<Catalogue>>,
}

impl CatalogueMachine {
    /// An empty catalogue, and where its images appear.
    pub(crate) fn new() -> (CatalogueMachine, watch::Receiver<Arc<Catalogue>>) {
        let (published, images) = watch::channel(Arc::new(Catalogue::default()));
        (
            CatalogueMachine {
                state: Catalogue::default(),
                published,
            },
            images,
        )
    }

    fn run(&mut self, command: Command) -> Outcome {
        let state = &mut self.state;
        let defaults = Arc::clone(&state.broker_configs);
        let done = match command {
            Command::Found {
                cluster_id,
                shards,
                nodes,
            } => {
                membership::found(state, cluster_id, shards, nodes);
                Ok(Outcome::Done)
            }
            Command::PutNode(node) => membership::put_node(state, node),
            Command::Join(joiner) => membership::join(state, joiner),
            Command::SetNodeState { node, state: to } => membership::set_state(state, node, to),
            Command::RemoveNode { node, force } => membership::remove(state, node, force),
            Command::CreateShards { next, shards } => {
                membership::create_shards(state, next, shards)
            }
            Command::SetTarget {
                shard,
                before,
                target,
                factor,
            } => membership::set_target(state, shard, before.as_ref(), (target, factor)),
            Command::ShardChanged { shard, replicas } => {
                membership::shard_changed(state, shard, replicas)
            }
            Command::BeginMove {
                partition,
                from,
                to,
                last,
            } => moves::begin(state, partition, (from, last), to),
            Command::FinishMove {
                partition,
                generation,
                epoch_base,
            } => moves::finish(state, partition, generation, epoch_base),
            Command::CancelMove {
                partition,
                generation,
            } => moves::cancel(state, partition, generation),
            Command::PinShards { shards, replicas } => {
                membership::pin_shards(state, &shards, replicas)
            }
            Command::Return(comeback) => voids::come_back(state, &comeback),
            Command::Voided {
                shard,
                node,
                incarnation,
                floor,
            } => voids::clear(state, shard, (node, incarnation), floor),
            Command::Accept { node, incarnation } => voids::accept(state, node, incarnation),
            Command::AlterQuotas { entity, changes } => quotas::alter(state, entity, changes),
            Command::CreateTopic(entry) => create_topic(state, entry),
            Command::DeleteTopic(id) => match state.names.remove(&id) {
                // The checkpoint is made of what is in `topics`.
                Some(_) if bugs::is_on(Bug::DeletedTopicReturns) => Ok(Outcome::Done),
                Some(name) => {
                    state.topics.remove(&name);
                    Ok(Outcome::Done)
                }
                None => Err(BrokerError::UnknownTopicId),
            },
            Command::AddPartitions {
                topic,
                from,
                partitions,
            } => add_partitions(state, topic, from, partitions),
            Command::SetTopicConfig {
                topic,
                before,
                overrides,
            } => change_topic(state, topic, |topic| {
                if before.is_some_and(|before| before != topic.config.overrides) {
                    return Err(BrokerError::Conflict {
                        reason: format!("the configs of {} have changed meanwhile", topic.name),
                    });
                }
                topic.config = Arc::new(TopicConfig::parse(overrides, &defaults)?);
                Ok(())
            }),
            Command::SetBrokerConfigs { before, configs } => {
                set_broker_configs(state, &before, configs)
            }
            Command::TakeProducerIds { count } => {
                let first = state.next_producer_id;
                state.next_producer_id += i64::from(count);
                Ok(Outcome::ProducerIds(first))
            }
        };
        done.unwrap_or_else(Outcome::Refused)
    }

    fn publish(&self) {
        let mut image = self.state.clone();
        if bugs::is_on(Bug::DeletedTopicReturns) {
            let names = &image.names;
            (image.topics).retain(|_, topic| names.contains_key(&topic.id));
        }
        self.published.send_replace(Arc::new(image));
    }
}

fn set_broker_configs(
    state: &mut Catalogue,
    before: &BTreeMap<String, String>,
    configs: BTreeMap<String, String>,
) -> Result<Outcome, BrokerError> {
    if *before != *state.broker_configs {
        let reason = "the configs of all brokers have changed meanwhile".to_owned();
        return Err(BrokerError::Conflict { reason });
    }
    state.topics = with_defaults(&state.topics, &configs)?;
    state.broker_configs = Arc::new(configs);
    Ok(Outcome::Done)
}

/// The topics with the configs that they have where all brokers have these. What does not change
/// stays the same object.
/// Refused for the first that could not have them, and when none could.
pub(crate) fn with_defaults(
    topics: &BTreeMap<String, Arc<Topic>>,
    defaults: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, Arc<Topic>>, BrokerError> {
    TopicConfig::parse(BTreeMap::new(), defaults)?;
    let changed = |topic: &Arc<Topic>| {
        let config = TopicConfig::parse(topic.config.overrides.clone(), defaults);
        let config = config.map_err(|error| BrokerError::InvalidConfig {
            reason: format!("topic {} could not have it: {error}", topic.name),
        })?;
        if config == *topic.config {
            return Ok(Arc::clone(topic));
        }
        let mut changed = Topic::clone(topic);
        changed.config = Arc::new(config);
        Ok(Arc::new(changed))
    };
    let topics = topics.iter();
    topics
        .map(|(name, topic)| Ok((name.clone(), changed(topic)?)))
        .collect()
}

fn create_topic(state: &mut Catalogue, entry: TopicEntry) -> Result<Outcome, BrokerError> {
    if state.topics.contains_key(&entry.name) {
        return Err(BrokerError::TopicExists);
    }
    if state.names.contains_key(&entry.id) {
        let reason = format!("topic id {} is taken", entry.id);
        return Err(BrokerError::InvalidRequest { reason });
    }
    check_shards(state, &entry.partitions)?;
    let topic = topic_of(entry, &state.broker_configs)?;
    state.names.insert(topic.id, topic.name.clone());
    state.topics.insert(topic.name.clone(), Arc::new(topic));
    Ok(Outcome::Done)
}

/// Partitions live in shards that exist, and not in the catalogue's.
fn check_shards(state: &Catalogue, partitions: &[PartitionEntry]) -> Result<(), BrokerError> {
    let unknown = |entry: &&PartitionEntry| {
        entry.shard == ShardId(0) || !state.shards.contains_key(&entry.shard)
    };
    match partitions.iter().find(unknown) {
        None => Ok(()),
        Some(entry) => Err(BrokerError::Conflict {
            reason: format!("shard {} carries no partitions by now", entry.shard),
        }),
    }
}

/// A topic with the configs that it has where all brokers have these.
pub(super) fn topic_of(
    entry: TopicEntry,
    defaults: &BTreeMap<String, String>,
) -> Result<Topic, BrokerError> {
    Ok(Topic {
        name: entry.name,
        id: entry.id,
        partitions: entry.partitions,
        config: Arc::new(TopicConfig::parse(entry.overrides, defaults)?),
        internal: entry.internal,
    })
}

fn add_partitions(
    state: &mut Catalogue,
    topic: TopicId,
    from: u32,
    partitions: Vec<PartitionEntry>,
) -> Result<Outcome, BrokerError> {
    check_shards(state, &partitions)?;
    change_topic(state, topic, |topic| {
        if u32::try_from(topic.partitions.len()) != Ok(from) {
            return Err(BrokerError::InvalidPartitions {
                reason: format!("the topic has {} by now", topic.partitions.len()),
            });
        }
        topic.partitions.extend(partitions);
        Ok(())
    })
}

fn change_topic(
    state: &mut Catalogue,
    id: TopicId,
    change: impl FnOnce(&mut Topic) -> Result<(), BrokerError>,
) -> Result<Outcome, BrokerError> {
    let topic = state.names.get(&id);
    let topic = topic.and_then(|name| state.topics.get_mut(name));
    let topic = topic.ok_or(BrokerError::UnknownTopicId)?;
    let mut changed = Topic::clone(topic);
    change(&mut changed)?;
    *topic = Arc::new(changed);
    Ok(Outcome::Done)
}

impl Apply for CatalogueMachine {
    type Outcome = Outcome;

    fn apply(&mut self, at: EntryAt, ops: &[Op]) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(ops.len());
        for op in ops {
            // Encoded by the leader and covered by the journal's checksums: only a bug gets here.
            let command = Command::decode(op.head.clone()).unwrap_or_else(|error| {
                panic!(
                    "committed command at {} cannot be read: {error}",
                    at.position
                )
            });
            outcomes.push(self.run(command));
        }
        if !ops.is_empty() {
            self.publish();
        }
        outcomes
    }

    fn digest(&mut self) -> Option<u64> {
        // By another road than the checkpoint's: what that forgets shows in who was restored from it.
        Some(digest(format!("{:?}", self.state).as_bytes()))
    }

    fn checkpoint(&mut self) -> CheckpointJob {
        let state = self.state.clone();
        Box::new(move || Ok(checkpoint::encode(&state)))
    }

    fn install(&mut self, manifest: Bytes) -> Result<(), InstallError> {
        self.state = checkpoint::decode(manifest)?;
        self.publish();
        Ok(())
    }
}

#[cfg(test)]
#[path = "machine_test.rs"]
mod tests;

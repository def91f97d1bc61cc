//! What the catalogue's entries do: the state machine of shard 0.
//!
//! Every change makes a new image and publishes it; an image once published never changes.

use std::sync::Arc;

use bytes::Bytes;
use raft::{Apply, CheckpointJob, EntryAt, InstallError, Op};
use tokio::sync::watch;

use super::command::{self, Command, TopicEntry};
use super::{Catalogue, Topic};
use crate::BrokerError;
use crate::config::TopicConfig;
use crate::wire::{Malformed, Reader, Writer};

/// Version of the checkpoint's encoding.
const VERSION: u16 = 1;

/// What a command came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was done.
    Done,
    /// It was not done.
    Refused(BrokerError),
    /// The first of the producer ids set aside.
    ProducerIds(i64),
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
        match command {
            Command::Found { cluster_id, shards } => {
                if state.cluster_id.is_empty() {
                    state.cluster_id = cluster_id;
                    state.shards = shards.into_iter().map(|shard| (shard.id, shard)).collect();
                }
            }
            Command::PutNode(node) => {
                state.nodes.insert(node.id, node);
            }
            Command::CreateTopic(entry) => return create_topic(state, entry),
            Command::DeleteTopic(id) => match state.names.remove(&id) {
                Some(name) => {
                    state.topics.remove(&name);
                }
                None => return Outcome::Refused(BrokerError::UnknownTopicId),
            },
            Command::AddPartitions {
                topic,
                from,
                shards,
            } => {
                return change_topic(state, topic, |topic| {
                    if topic.partitions.len() != from as usize {
                        return Err(BrokerError::InvalidPartitions {
                            reason: format!("the topic has {} by now", topic.partitions.len()),
                        });
                    }
                    topic.partitions.extend(shards);
                    Ok(())
                });
            }
            Command::SetTopicConfig { topic, overrides } => {
                return change_topic(state, topic, |topic| {
                    topic.config = Arc::new(TopicConfig::parse(overrides)?);
                    Ok(())
                });
            }
            Command::TakeProducerIds { count } => {
                let first = state.next_producer_id;
                state.next_producer_id += i64::from(count);
                return Outcome::ProducerIds(first);
            }
        }
        Outcome::Done
    }

    fn publish(&self) {
        self.published.send_replace(Arc::new(self.state.clone()));
    }
}

fn create_topic(state: &mut Catalogue, entry: TopicEntry) -> Outcome {
    if state.topics.contains_key(&entry.name) {
        return Outcome::Refused(BrokerError::TopicExists);
    }
    if state.names.contains_key(&entry.id) {
        let reason = format!("topic id {} is taken", entry.id);
        return Outcome::Refused(BrokerError::InvalidRequest { reason });
    }
    match topic_of(entry) {
        Ok(topic) => {
            state.names.insert(topic.id, topic.name.clone());
            state.topics.insert(topic.name.clone(), Arc::new(topic));
            Outcome::Done
        }
        Err(error) => Outcome::Refused(error),
    }
}

fn topic_of(entry: TopicEntry) -> Result<Topic, BrokerError> {
    Ok(Topic {
        name: entry.name,
        id: entry.id,
        partitions: entry.partitions,
        config: Arc::new(TopicConfig::parse(entry.overrides)?),
        internal: entry.internal,
    })
}

fn change_topic(
    state: &mut Catalogue,
    id: storage::TopicId,
    change: impl FnOnce(&mut Topic) -> Result<(), BrokerError>,
) -> Outcome {
    let Some(topic) = state
        .names
        .get(&id)
        .and_then(|name| state.topics.get_mut(name))
    else {
        return Outcome::Refused(BrokerError::UnknownTopicId);
    };
    let mut changed = Topic::clone(topic);
    match change(&mut changed) {
        Ok(()) => {
            *topic = Arc::new(changed);
            Outcome::Done
        }
        Err(error) => Outcome::Refused(error),
    }
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

    fn checkpoint(&mut self) -> CheckpointJob {
        let state = self.state.clone();
        Box::new(move || Ok(encode(&state)))
    }

    fn install(&mut self, manifest: Bytes) -> Result<(), InstallError> {
        let mut reader = Reader::new(manifest);
        let malformed = |error: Malformed| InstallError::Malformed {
            what: error.expected,
        };
        let version = reader.u16().map_err(malformed)?;
        if version != VERSION {
            return Err(InstallError::UnknownVersion { version });
        }
        self.state = decode(&mut reader).map_err(malformed)?;
        self.publish();
        Ok(())
    }
}

fn encode(state: &Catalogue) -> Bytes {
    let mut writer = Writer::default();
    writer
        .u16(VERSION)
        .text(&state.cluster_id)
        .i64(state.next_producer_id);
    writer.count(state.nodes.len());
    for node in state.nodes.values() {
        command::put_node(&mut writer, node);
    }
    command::put_shards(&mut writer, state.shards.values());
    writer.count(state.topics.len());
    for topic in state.topics.values() {
        let entry = TopicEntry {
            name: topic.name.clone(),
            id: topic.id,
            partitions: topic.partitions.clone(),
            overrides: topic.config.overrides.clone(),
            internal: topic.internal,
        };
        command::put_topic(&mut writer, &entry);
    }
    writer.finish()
}

fn decode(reader: &mut Reader) -> Result<Catalogue, Malformed> {
    let mut state = Catalogue {
        cluster_id: reader.text()?,
        next_producer_id: reader.i64()?,
        ..Catalogue::default()
    };
    for _ in 0..reader.count(13)? {
        let node = command::take_node(reader)?;
        state.nodes.insert(node.id, node);
    }
    let shards = command::take_shards(reader)?;
    state.shards = shards.into_iter().map(|shard| (shard.id, shard)).collect();
    for _ in 0..reader.count(29)? {
        let entry = command::take_topic(reader)?;
        let topic = topic_of(entry).map_err(|_| reader.malformed("configs that are enforced"))?;
        state.names.insert(topic.id, topic.name.clone());
        state.topics.insert(topic.name.clone(), Arc::new(topic));
    }
    reader.end()?;
    Ok(state)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use storage::{LogIndex, LogPosition, ShardId, Term, TopicId};

    use super::*;

    fn apply(machine: &mut CatalogueMachine, command: &Command) -> Outcome {
        let position = LogPosition {
            term: Term(1),
            index: LogIndex(1),
        };
        let op = Op {
            head: command.encode(),
            body: Bytes::new(),
        };
        machine
            .apply(
                EntryAt {
                    position,
                    time_ms: 0,
                },
                &[op],
            )
            .remove(0)
    }

    fn topic(name: &str, id: u8) -> Command {
        Command::CreateTopic(TopicEntry {
            name: name.to_owned(),
            id: TopicId([id; 16]),
            partitions: vec![ShardId(1)],
            overrides: BTreeMap::from([("retention.ms".to_owned(), "77".to_owned())]),
            internal: false,
        })
    }

    #[test]
    fn a_name_is_taken_until_its_topic_is_deleted() {
        let (mut machine, images) = CatalogueMachine::new();
        assert_eq!(apply(&mut machine, &topic("a", 1)), Outcome::Done);
        let exists = Outcome::Refused(BrokerError::TopicExists);
        assert_eq!(apply(&mut machine, &topic("a", 2)), exists);
        assert_eq!(
            apply(&mut machine, &Command::DeleteTopic(TopicId([1; 16]))),
            Outcome::Done
        );
        assert_eq!(apply(&mut machine, &topic("a", 2)), Outcome::Done);
        assert_eq!(images.borrow().topics["a"].id, TopicId([2; 16]));
        assert!(images.borrow().topic_by_id(TopicId([1; 16])).is_none());
    }

    #[test]
    fn partitions_are_added_only_to_the_count_that_was_seen() {
        let (mut machine, images) = CatalogueMachine::new();
        apply(&mut machine, &topic("a", 1));
        let add = Command::AddPartitions {
            topic: TopicId([1; 16]),
            from: 1,
            shards: vec![ShardId(2), ShardId(3)],
        };
        assert_eq!(apply(&mut machine, &add), Outcome::Done);
        assert!(matches!(apply(&mut machine, &add), Outcome::Refused(_)));
        assert_eq!(
            images.borrow().topics["a"].partitions,
            [1, 2, 3].map(ShardId)
        );
    }

    #[test]
    fn producer_ids_are_given_out_once() {
        let (mut machine, _) = CatalogueMachine::new();
        let take = Command::TakeProducerIds { count: 10 };
        assert_eq!(apply(&mut machine, &take), Outcome::ProducerIds(0));
        assert_eq!(apply(&mut machine, &take), Outcome::ProducerIds(10));
    }

    #[test]
    fn a_checkpoint_restores_the_same_catalogue() {
        let (mut machine, images) = CatalogueMachine::new();
        apply(
            &mut machine,
            &Command::Found {
                cluster_id: "c".to_owned(),
                shards: vec![],
            },
        );
        apply(&mut machine, &topic("a", 1));
        apply(&mut machine, &Command::TakeProducerIds { count: 3 });
        let manifest = machine.checkpoint()().expect("encodes");
        let (mut restored, restored_images) = CatalogueMachine::new();
        restored.install(manifest).expect("installs");
        let (before, after) = (images.borrow().clone(), restored_images.borrow().clone());
        assert_eq!(format!("{before:?}"), format!("{after:?}"));
    }
}

//! The commands that the catalogue's log carries, and their encoding.
//!
//! `kind u8, version u8`, then the fields of the kind in the order of the enum below; integers are
//! big-endian, texts and lists carry a `u32` length. Commands say what to do, not whether it is
//! allowed; what can only be known in order (does the topic exist?) is decided when applied.

use std::collections::BTreeMap;

use bytes::Bytes;
use storage::{NodeId, ShardId, TopicId};

use super::{Node, Shard};
use crate::wire::{Malformed, Reader, Writer};

const VERSION: u8 = 1;

/// A topic to be entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicEntry {
    pub(crate) name: String,
    pub(crate) id: TopicId,
    pub(crate) partitions: Vec<ShardId>,
    pub(crate) overrides: BTreeMap<String, String>,
    pub(crate) internal: bool,
}

/// One change of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// Names the cluster and makes its first shards; does nothing when it has a name.
    Found {
        cluster_id: String,
        shards: Vec<Shard>,
    },
    /// Enters a node, or replaces what is known of it.
    PutNode(Node),
    /// Enters a topic, unless one of that name exists.
    CreateTopic(TopicEntry),
    /// Removes a topic.
    DeleteTopic(TopicId),
    /// Adds partitions at the end, if the topic still has `from` of them.
    AddPartitions {
        topic: TopicId,
        from: u32,
        shards: Vec<ShardId>,
    },
    /// Replaces what was set on a topic.
    SetTopicConfig {
        topic: TopicId,
        overrides: BTreeMap<String, String>,
    },
    /// Sets this many producer ids aside for whoever asked.
    TakeProducerIds { count: u32 },
}

fn put_map(writer: &mut Writer, map: &BTreeMap<String, String>) {
    writer.count(map.len());
    for (key, value) in map {
        writer.text(key).text(value);
    }
}

fn take_map(reader: &mut Reader) -> Result<BTreeMap<String, String>, Malformed> {
    (0..reader.count(8)?)
        .map(|_| Ok((reader.text()?, reader.text()?)))
        .collect()
}

pub(super) fn put_shard_ids(writer: &mut Writer, shards: &[ShardId]) {
    writer.count(shards.len());
    for shard in shards {
        writer.u32(shard.0);
    }
}

pub(super) fn take_shard_ids(reader: &mut Reader) -> Result<Vec<ShardId>, Malformed> {
    (0..reader.count(4)?)
        .map(|_| Ok(ShardId(reader.u32()?)))
        .collect()
}

pub(super) fn put_shards<'a>(
    writer: &mut Writer,
    shards: impl ExactSizeIterator<Item = &'a Shard>,
) {
    writer.count(shards.len());
    for shard in shards {
        writer.u32(shard.id.0).count(shard.replicas.len());
        for replica in &shard.replicas {
            writer.u32(replica.0);
        }
    }
}

pub(super) fn take_shards(reader: &mut Reader) -> Result<Vec<Shard>, Malformed> {
    let take = |reader: &mut Reader| {
        let id = ShardId(reader.u32()?);
        let replicas: Result<_, Malformed> = (0..reader.count(4)?)
            .map(|_| Ok(NodeId(reader.u32()?)))
            .collect();
        Ok(Shard {
            id,
            replicas: replicas?,
        })
    };
    (0..reader.count(8)?).map(|_| take(reader)).collect()
}

pub(super) fn put_node(writer: &mut Writer, node: &Node) {
    writer.u32(node.id.0).u8(u8::from(node.rack.is_some()));
    writer
        .text(node.rack.as_deref().unwrap_or_default())
        .count(node.listeners.len());
    for (name, (host, port)) in &node.listeners {
        writer.text(name).text(host).u16(*port);
    }
}

pub(super) fn take_node(reader: &mut Reader) -> Result<Node, Malformed> {
    let id = NodeId(reader.u32()?);
    let has_rack = reader.u8()? != 0;
    let rack = reader.text()?;
    let listeners: Result<_, Malformed> = (0..reader.count(10)?)
        .map(|_| Ok((reader.text()?, (reader.text()?, reader.u16()?))))
        .collect();
    Ok(Node {
        id,
        rack: has_rack.then_some(rack),
        listeners: listeners?,
    })
}

pub(super) fn put_topic(writer: &mut Writer, topic: &TopicEntry) {
    writer.text(&topic.name).raw(&topic.id.0);
    put_shard_ids(writer, &topic.partitions);
    put_map(writer, &topic.overrides);
    writer.u8(u8::from(topic.internal));
}

pub(super) fn take_topic(reader: &mut Reader) -> Result<TopicEntry, Malformed> {
    Ok(TopicEntry {
        name: reader.text()?,
        id: TopicId(reader.array()?),
        partitions: take_shard_ids(reader)?,
        overrides: take_map(reader)?,
        internal: reader.u8()? != 0,
    })
}

impl Command {
    pub(crate) fn encode(&self) -> Bytes {
        let mut writer = Writer::default();
        let kind = match self {
            Command::Found { .. } => 1,
            Command::PutNode(_) => 2,
            Command::CreateTopic(_) => 3,
            Command::DeleteTopic(_) => 4,
            Command::AddPartitions { .. } => 5,
            Command::SetTopicConfig { .. } => 6,
            Command::TakeProducerIds { .. } => 7,
        };
        writer.u8(kind).u8(VERSION);
        match self {
            Command::Found { cluster_id, shards } => {
                put_shards(writer.text(cluster_id), shards.iter());
            }
            Command::PutNode(node) => put_node(&mut writer, node),
            Command::CreateTopic(topic) => put_topic(&mut writer, topic),
            Command::DeleteTopic(topic) => {
                writer.raw(&topic.0);
            }
            Command::AddPartitions {
                topic,
                from,
                shards,
            } => {
                put_shard_ids(writer.raw(&topic.0).u32(*from), shards);
            }
            Command::SetTopicConfig { topic, overrides } => {
                put_map(writer.raw(&topic.0), overrides);
            }
            Command::TakeProducerIds { count } => {
                writer.u32(*count);
            }
        }
        writer.finish()
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Command, Malformed> {
        let mut reader = Reader::new(bytes);
        let (kind, version) = (reader.u8()?, reader.u8()?);
        if version != VERSION {
            return Err(reader.malformed("a known command version"));
        }
        let command = match kind {
            1 => Command::Found {
                cluster_id: reader.text()?,
                shards: take_shards(&mut reader)?,
            },
            2 => Command::PutNode(take_node(&mut reader)?),
            3 => Command::CreateTopic(take_topic(&mut reader)?),
            4 => Command::DeleteTopic(TopicId(reader.array()?)),
            5 => Command::AddPartitions {
                topic: TopicId(reader.array()?),
                from: reader.u32()?,
                shards: take_shard_ids(&mut reader)?,
            },
            6 => Command::SetTopicConfig {
                topic: TopicId(reader.array()?),
                overrides: take_map(&mut reader)?,
            },
            7 => Command::TakeProducerIds {
                count: reader.u32()?,
            },
            _ => return Err(reader.malformed("a known command kind")),
        };
        reader.end()?;
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_read_back_and_no_prefix_of_it_is() {
        let overrides = BTreeMap::from([("retention.ms".to_owned(), "5".to_owned())]);
        let commands = [
            Command::Found {
                cluster_id: "abc".to_owned(),
                shards: vec![Shard {
                    id: ShardId(1),
                    replicas: vec![NodeId(1), NodeId(2)],
                }],
            },
            Command::PutNode(Node {
                id: NodeId(3),
                rack: Some("r1".to_owned()),
                listeners: BTreeMap::from([("kafka".to_owned(), ("h".to_owned(), 9092))]),
            }),
            Command::CreateTopic(TopicEntry {
                name: "t".to_owned(),
                id: TopicId([7; 16]),
                partitions: vec![ShardId(1), ShardId(2)],
                overrides: overrides.clone(),
                internal: false,
            }),
            Command::DeleteTopic(TopicId([8; 16])),
            Command::AddPartitions {
                topic: TopicId([9; 16]),
                from: 1,
                shards: vec![ShardId(2)],
            },
            Command::SetTopicConfig {
                topic: TopicId([1; 16]),
                overrides,
            },
            Command::TakeProducerIds { count: 1000 },
        ];
        for command in commands {
            let bytes = command.encode();
            assert_eq!(Command::decode(bytes.clone()), Ok(command));
            for len in 0..bytes.len() {
                assert!(Command::decode(bytes.slice(..len)).is_err());
            }
        }
    }
}

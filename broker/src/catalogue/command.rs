//! The commands that the catalogue's log carries, and their encoding.
//!
//! `kind u8, version u8`, then the fields of the kind in the order of the enum below; integers are
//! big-endian, texts and lists carry a `u32` length; nodes, shards and topics as in `encoding.rs`.
//! Commands say what to do, not whether it is allowed; what can only be known in order (does the
//! topic exist?) is decided when applied. Version 1 is still read: journals may hold it.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft::Floor;
use storage::{NodeId, PartitionId, ShardId, TopicId};

use super::encoding::{
    VERSION, put_entries, put_factor, put_listeners, put_map, put_node, put_nodes, put_rack,
    put_shards, put_state, put_target, put_topic, take_entries, take_factor, take_listeners,
    take_map, take_node, take_nodes, take_rack, take_shards, take_state, take_target, take_topic,
};
use super::quotas::{
    QuotaChanges, QuotaEntity, put_changes, put_entity, take_changes, take_entity,
};
use super::voids::{Comeback, put_comeback, put_floor, take_comeback, take_floor};
use super::{Factor, Node, NodeState, PartitionEntry, Shard};
use crate::partition::op::{put_partition, take_partition};
use crate::wire::{Malformed, Reader, Writer};

/// The kind that has a version of its own, which says what was seen of other moves.
const BEGIN_MOVE: u8 = 14;
const BEGIN_MOVE_VERSION: u8 = 3;

/// A topic to be entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicEntry {
    pub(crate) name: String,
    pub(crate) id: TopicId,
    pub(crate) partitions: Vec<PartitionEntry>,
    pub(crate) overrides: BTreeMap<String, String>,
    pub(crate) internal: bool,
}

/// A shard to be made; it gets its id when the command is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewShard {
    pub(crate) replicas: Vec<NodeId>,
    pub(crate) factor: Factor,
}

/// A node that wants to become a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joiner {
    pub(crate) incarnation: [u8; 16],
    /// The id it wants; any that was never used when `None`.
    pub(crate) wanted: Option<NodeId>,
    pub(crate) rack: Option<String>,
    pub(crate) listeners: BTreeMap<String, (String, u16)>,
}

/// One change of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// Names the cluster and makes its first shards and nodes; does nothing when it has a name.
    Found {
        cluster_id: String,
        shards: Vec<Shard>,
        nodes: Vec<Node>,
    },
    /// Replaces rack and listeners of a node; refused when its id belongs to another incarnation.
    /// What the command says of the node's state counts only when the node is new.
    PutNode(Node),
    /// Enters a topic, unless one of that name exists.
    CreateTopic(TopicEntry),
    /// Removes a topic.
    DeleteTopic(TopicId),
    /// Adds partitions at the end, if the topic still has `from` of them.
    AddPartitions {
        topic: TopicId,
        from: u32,
        partitions: Vec<PartitionEntry>,
    },
    /// Replaces what was set on a topic, if that is still `before`: a change that was made from
    /// an older state must not take back what came between.
    SetTopicConfig {
        topic: TopicId,
        before: Option<BTreeMap<String, String>>,
        overrides: BTreeMap<String, String>,
    },
    /// Sets this many producer ids aside for whoever asked.
    TakeProducerIds { count: u32 },
    /// Makes a node a member. The same incarnation again gets the same id.
    Join(Joiner),
    /// Says what a node is used for.
    SetNodeState { node: NodeId, state: NodeState },
    /// Removes a node for ever. Without `force` it must be draining and carry nothing; with it,
    /// what it carries must have enough other replicas.
    RemoveNode { node: NodeId, force: bool },
    /// Makes shards, if `next` is still the id of the next one: two that plan the same at the same
    /// time do not both get theirs.
    CreateShards {
        next: ShardId,
        shards: Vec<NewShard>,
    },
    /// Says which replicas a shard shall have; `None` goes back to those it has. With a factor,
    /// the shard is one of that factor from now on. Refused when the shard is, by now, to have
    /// other replicas than `before`: what was decided from an older state is decided anew. So is a
    /// list without a factor that takes replicas from a shard that shall have more for good.
    SetTarget {
        shard: ShardId,
        before: Option<Vec<NodeId>>,
        target: Option<Vec<NodeId>>,
        factor: Option<Factor>,
    },
    /// The shard's voters are these now; ends the change that had them as its target.
    ShardChanged {
        shard: ShardId,
        replicas: Vec<NodeId>,
    },
    /// Moves a partition to another shard, if it still is the log of generation `from` and the
    /// last generation that was given is still this one (not asked for by version 2, in older
    /// journals).
    BeginMove {
        partition: PartitionId,
        from: u32,
        to: ShardId,
        last: Option<u32>,
    },
    /// The move of this generation has everything: its log is the partition from now on, and adds
    /// this to its shard's term. Refused when it was cancelled.
    FinishMove {
        partition: PartitionId,
        generation: u32,
        epoch_base: i64,
    },
    /// The move of this generation shall not be finished. Refused when it is.
    CancelMove {
        partition: PartitionId,
        generation: u32,
    },
    /// Fixes the number of replicas of shards that had it left to the cluster, if each of them
    /// has, and is to have, just so many.
    PinShards { shards: Vec<ShardId>, replicas: u16 },
    /// A node has lost its memory and comes back with another incarnation: every shard that others
    /// have too must go on without it first. The same incarnation again changes nothing.
    Return(Comeback),
    /// A shard has gone on without a node that came back: it may take it in again.
    Voided {
        shard: ShardId,
        node: NodeId,
        incarnation: [u8; 16],
        floor: Floor,
    },
    /// A node that came back is taken as it is where the shards have not gone on without it.
    Accept { node: NodeId, incarnation: [u8; 16] },
    /// Sets quotas of an entity, or takes them away.
    AlterQuotas {
        entity: QuotaEntity,
        changes: QuotaChanges,
    },
    /// Replaces what was set for all brokers, if that is still `before`. Refused when a topic could
    /// not have it together with its own configs.
    SetBrokerConfigs {
        before: BTreeMap<String, String>,
        configs: BTreeMap<String, String>,
    },
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
            Command::Join(_) => 8,
            Command::SetNodeState { .. } => 9,
            Command::RemoveNode { .. } => 10,
            Command::CreateShards { .. } => 11,
            Command::SetTarget { .. } => 12,
            Command::ShardChanged { .. } => 13,
            Command::BeginMove { .. } => BEGIN_MOVE,
            Command::FinishMove { .. } => 15,
            Command::CancelMove { .. } => 16,
            Command::PinShards { .. } => 30,
            Command::Return(_) => 20,
            Command::Voided { .. } => 21,
            Command::Accept { .. } => 22,
            Command::AlterQuotas { .. } => 31,
            Command::SetBrokerConfigs { .. } => 32,
        };
        let version = match self {
            Command::BeginMove { last: Some(_), .. } => BEGIN_MOVE_VERSION,
            _ => VERSION,
        };
        writer.u8(kind).u8(version);
        self.put_fields(&mut writer);
        writer.finish()
    }

    fn put_fields(&self, writer: &mut Writer) {
        match self {
            Command::Found {
                cluster_id,
                shards,
                nodes,
            } => {
                put_shards(writer.text(cluster_id), shards.iter());
                writer.count(nodes.len());
                for node in nodes {
                    put_node(writer, node);
                }
            }
            Command::PutNode(node) => put_node(writer, node),
            Command::CreateTopic(topic) => put_topic(writer, topic),
            Command::DeleteTopic(topic) => {
                writer.raw(&topic.0);
            }
            Command::AddPartitions {
                topic,
                from,
                partitions,
            } => put_entries(writer.raw(&topic.0).u32(*from), partitions),
            Command::SetTopicConfig {
                topic,
                before,
                overrides,
            } => {
                writer.raw(&topic.0).u8(u8::from(before.is_some()));
                if let Some(before) = before {
                    put_map(writer, before);
                }
                put_map(writer, overrides);
            }
            Command::TakeProducerIds { count } => {
                writer.u32(*count);
            }
            Command::Join(joiner) => put_joiner(writer, joiner),
            Command::SetNodeState { node, state } => put_state(writer.u32(node.0), *state),
            Command::RemoveNode { node, force } => {
                writer.u32(node.0).u8(u8::from(*force));
            }
            Command::CreateShards { next, shards } => {
                writer.u32(next.0).count(shards.len());
                for shard in shards {
                    put_nodes(writer, shard.replicas.iter());
                    put_factor(writer, shard.factor);
                }
            }
            Command::SetTarget {
                shard,
                before,
                target,
                factor,
            } => {
                put_target(writer.u32(shard.0), before.as_ref());
                put_target(writer, target.as_ref());
                writer.u8(u8::from(factor.is_some()));
                if let Some(factor) = factor {
                    put_factor(writer, *factor);
                }
            }
            Command::ShardChanged { shard, replicas } => {
                put_nodes(writer.u32(shard.0), replicas.iter());
            }
            Command::BeginMove {
                partition,
                from,
                to,
                last,
            } => {
                put_partition(writer, *partition);
                writer.u32(*from).u32(to.0);
                if let Some(last) = last {
                    writer.u32(*last);
                }
            }
            Command::FinishMove {
                partition,
                generation,
                epoch_base,
            } => {
                put_partition(writer, *partition);
                writer.u32(*generation).i64(*epoch_base);
            }
            Command::CancelMove {
                partition,
                generation,
            } => {
                put_partition(writer, *partition);
                writer.u32(*generation);
            }
            Command::PinShards { shards, replicas } => {
                writer.u16(*replicas).count(shards.len());
                for shard in shards {
                    writer.u32(shard.0);
                }
            }
            Command::Return(comeback) => put_comeback(writer, comeback),
            Command::Voided {
                shard,
                node,
                incarnation,
                floor,
            } => {
                writer.u32(shard.0).u32(node.0).raw(incarnation);
                put_floor(writer, *floor);
            }
            Command::Accept { node, incarnation } => {
                writer.u32(node.0).raw(incarnation);
            }
            Command::SetBrokerConfigs { before, configs } => {
                put_map(writer, before);
                put_map(writer, configs);
            }
            Command::AlterQuotas { entity, changes } => {
                put_entity(writer, entity);
                put_changes(writer, changes);
            }
        }
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Command, Malformed> {
        let mut reader = Reader::new(bytes);
        let (kind, version) = (reader.u8()?, reader.u8()?);
        let known = match kind {
            ..=7 => 1..=VERSION,
            BEGIN_MOVE => 2..=BEGIN_MOVE_VERSION,
            _ => 2..=VERSION,
        };
        if !known.contains(&version) {
            return Err(reader.malformed("a known command version"));
        }
        let command = Command::take(&mut reader, kind, version)?;
        reader.end()?;
        Ok(command)
    }

    fn take(reader: &mut Reader, kind: u8, version: u8) -> Result<Command, Malformed> {
        Ok(match kind {
            1 => Command::Found {
                cluster_id: reader.text()?,
                shards: take_shards(reader, version)?,
                nodes: if version < 2 {
                    Vec::new()
                } else {
                    (0..reader.count(30)?)
                        .map(|_| take_node(reader, version))
                        .collect::<Result<_, _>>()?
                },
            },
            2 => Command::PutNode(take_node(reader, version)?),
            3 => Command::CreateTopic(take_topic(reader, version)?),
            4 => Command::DeleteTopic(TopicId(reader.array()?)),
            5 => Command::AddPartitions {
                topic: TopicId(reader.array()?),
                from: reader.u32()?,
                partitions: take_entries(reader, version)?,
            },
            6 => Command::SetTopicConfig {
                topic: TopicId(reader.array()?),
                before: match version >= 2 && reader.u8()? != 0 {
                    true => Some(take_map(reader)?),
                    false => None,
                },
                overrides: take_map(reader)?,
            },
            7 => Command::TakeProducerIds {
                count: reader.u32()?,
            },
            8 => Command::Join(take_joiner(reader)?),
            9 => Command::SetNodeState {
                node: NodeId(reader.u32()?),
                state: take_state(reader)?,
            },
            10 => Command::RemoveNode {
                node: NodeId(reader.u32()?),
                force: reader.u8()? != 0,
            },
            11 => Command::CreateShards {
                next: ShardId(reader.u32()?),
                shards: (0..reader.count(7)?)
                    .map(|_| {
                        Ok(NewShard {
                            replicas: take_nodes(reader)?,
                            factor: take_factor(reader)?,
                        })
                    })
                    .collect::<Result<_, _>>()?,
            },
            12 => Command::SetTarget {
                shard: ShardId(reader.u32()?),
                before: take_target(reader)?,
                target: take_target(reader)?,
                factor: match reader.u8()? {
                    0 => None,
                    1 => Some(take_factor(reader)?),
                    _ => return Err(reader.malformed("0 or 1")),
                },
            },
            13 => Command::ShardChanged {
                shard: ShardId(reader.u32()?),
                replicas: take_nodes(reader)?,
            },
            BEGIN_MOVE => Command::BeginMove {
                partition: take_partition(reader)?,
                from: reader.u32()?,
                to: ShardId(reader.u32()?),
                last: match version >= BEGIN_MOVE_VERSION {
                    true => Some(reader.u32()?),
                    false => None,
                },
            },
            15 => Command::FinishMove {
                partition: take_partition(reader)?,
                generation: reader.u32()?,
                epoch_base: reader.i64()?,
            },
            16 => Command::CancelMove {
                partition: take_partition(reader)?,
                generation: reader.u32()?,
            },
            30 => Command::PinShards {
                replicas: reader.u16()?,
                shards: (0..reader.count(4)?)
                    .map(|_| Ok(ShardId(reader.u32()?)))
                    .collect::<Result<_, Malformed>>()?,
            },
            20 => Command::Return(take_comeback(reader)?),
            21 => Command::Voided {
                shard: ShardId(reader.u32()?),
                node: NodeId(reader.u32()?),
                incarnation: reader.array()?,
                floor: take_floor(reader)?,
            },
            22 => Command::Accept {
                node: NodeId(reader.u32()?),
                incarnation: reader.array()?,
            },
            32 => Command::SetBrokerConfigs {
                before: take_map(reader)?,
                configs: take_map(reader)?,
            },
            31 => Command::AlterQuotas {
                entity: take_entity(reader)?,
                changes: take_changes(reader)?,
            },
            _ => return Err(reader.malformed("a known command kind")),
        })
    }
}

pub(crate) fn put_joiner(writer: &mut Writer, joiner: &Joiner) {
    writer
        .raw(&joiner.incarnation)
        .u8(u8::from(joiner.wanted.is_some()))
        .u32(joiner.wanted.map_or(0, |node| node.0));
    put_rack(writer, joiner.rack.as_deref());
    put_listeners(writer, &joiner.listeners);
}

pub(crate) fn take_joiner(reader: &mut Reader) -> Result<Joiner, Malformed> {
    let incarnation = reader.array()?;
    let (is_wanted, wanted) = (reader.u8()? != 0, NodeId(reader.u32()?));
    Ok(Joiner {
        incarnation,
        wanted: is_wanted.then_some(wanted),
        rack: take_rack(reader)?,
        listeners: take_listeners(reader)?,
    })
}

#[cfg(test)]
#[path = "command_test.rs"]
mod tests;

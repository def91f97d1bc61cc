//! The encodings that commands and checkpoints of the catalogue share.
//!
//! Version 1 knew one node: shards without a factor or target, partitions without an epoch base,
//! nodes without an incarnation. Version 2 is written; both are read.
//!
//! ```text
//! node   id u32, has rack u8, rack text, listeners (name text, host text, port u16)*
//!        v2: incarnation 16 bytes, state u8
//! shard  id u32, replicas u32*
//!        v2: changed u8, factor kind u8, factor u16, has target u8, target u32*
//! topic  name text, id 16 bytes, partitions (shard u32, v2: epoch base i64)*, overrides
//!        (key text, value text)*, internal u8
//! ```
//! What a partition has beyond that once it is to be moved stands in `moves.rs`; commands carry
//! only partitions that never were.

use std::collections::BTreeMap;

use storage::{NodeId, ShardId, TopicId};

use super::command::TopicEntry;
use super::{Factor, Node, NodeState, PartitionEntry, Shard};
use crate::wire::{Malformed, Reader, Writer};

/// The version that is written.
pub(super) const VERSION: u8 = 2;

pub(super) fn put_map(writer: &mut Writer, map: &BTreeMap<String, String>) {
    writer.count(map.len());
    for (key, value) in map {
        writer.text(key).text(value);
    }
}

pub(super) fn take_map(reader: &mut Reader) -> Result<BTreeMap<String, String>, Malformed> {
    (0..reader.count(8)?)
        .map(|_| Ok((reader.text()?, reader.text()?)))
        .collect()
}

pub(super) fn put_nodes<'a>(writer: &mut Writer, nodes: impl ExactSizeIterator<Item = &'a NodeId>) {
    writer.count(nodes.len());
    for node in nodes {
        writer.u32(node.0);
    }
}

pub(super) fn take_nodes<C: FromIterator<NodeId>>(reader: &mut Reader) -> Result<C, Malformed> {
    (0..reader.count(4)?)
        .map(|_| Ok(NodeId(reader.u32()?)))
        .collect()
}

pub(super) fn put_entries(writer: &mut Writer, entries: &[PartitionEntry]) {
    writer.count(entries.len());
    for entry in entries {
        writer.u32(entry.shard.0).i64(entry.epoch_base);
    }
}

pub(super) fn take_entries(
    reader: &mut Reader,
    version: u8,
) -> Result<Vec<PartitionEntry>, Malformed> {
    let take = |reader: &mut Reader| {
        let shard = ShardId(reader.u32()?);
        let epoch_base = if version < 2 { 0 } else { reader.i64()? };
        Ok(PartitionEntry {
            epoch_base,
            ..PartitionEntry::new(shard)
        })
    };
    (0..reader.count(4)?).map(|_| take(reader)).collect()
}

pub(super) fn put_factor(writer: &mut Writer, factor: Factor) {
    match factor {
        Factor::Auto => writer.u8(0).u16(0),
        Factor::Fixed(count) => writer.u8(1).u16(count),
        Factor::ByHand => writer.u8(2).u16(0),
    };
}

pub(super) fn take_factor(reader: &mut Reader) -> Result<Factor, Malformed> {
    let (kind, count) = (reader.u8()?, reader.u16()?);
    match kind {
        0 => Ok(Factor::Auto),
        1 => Ok(Factor::Fixed(count)),
        2 => Ok(Factor::ByHand),
        _ => Err(reader.malformed("a known kind of factor")),
    }
}

pub(super) fn put_target(writer: &mut Writer, target: Option<&Vec<NodeId>>) {
    writer.u8(u8::from(target.is_some()));
    put_nodes(writer, target.map_or(&[][..], Vec::as_slice).iter());
}

pub(super) fn take_target(reader: &mut Reader) -> Result<Option<Vec<NodeId>>, Malformed> {
    let is_some = reader.u8()? != 0;
    let nodes = take_nodes(reader)?;
    Ok(is_some.then_some(nodes))
}

pub(super) fn put_shards<'a>(
    writer: &mut Writer,
    shards: impl ExactSizeIterator<Item = &'a Shard>,
) {
    writer.count(shards.len());
    for shard in shards {
        writer.u32(shard.id.0);
        put_nodes(writer, shard.replicas.iter());
        writer.u8(u8::from(shard.changed));
        put_factor(writer, shard.factor);
        put_target(writer, shard.target.as_ref());
    }
}

pub(super) fn take_shards(reader: &mut Reader, version: u8) -> Result<Vec<Shard>, Malformed> {
    let take = |reader: &mut Reader| {
        let id = ShardId(reader.u32()?);
        let replicas = take_nodes(reader)?;
        if version < 2 {
            return Ok(Shard::new(id, replicas, Factor::Fixed(1)));
        }
        Ok(Shard {
            id,
            replicas,
            changed: reader.u8()? != 0,
            factor: take_factor(reader)?,
            target: take_target(reader)?,
        })
    };
    (0..reader.count(8)?).map(|_| take(reader)).collect()
}

pub(super) fn put_listeners(writer: &mut Writer, listeners: &BTreeMap<String, (String, u16)>) {
    writer.count(listeners.len());
    for (name, (host, port)) in listeners {
        writer.text(name).text(host).u16(*port);
    }
}

pub(super) fn take_listeners(
    reader: &mut Reader,
) -> Result<BTreeMap<String, (String, u16)>, Malformed> {
    (0..reader.count(10)?)
        .map(|_| Ok((reader.text()?, (reader.text()?, reader.u16()?))))
        .collect()
}

pub(super) fn put_rack(writer: &mut Writer, rack: Option<&str>) {
    writer
        .u8(u8::from(rack.is_some()))
        .text(rack.unwrap_or_default());
}

pub(super) fn take_rack(reader: &mut Reader) -> Result<Option<String>, Malformed> {
    let has_rack = reader.u8()? != 0;
    let rack = reader.text()?;
    Ok(has_rack.then_some(rack))
}

pub(super) fn put_state(writer: &mut Writer, state: NodeState) {
    writer.u8(match state {
        NodeState::Active => 0,
        NodeState::Draining => 1,
    });
}

pub(super) fn take_state(reader: &mut Reader) -> Result<NodeState, Malformed> {
    match reader.u8()? {
        0 => Ok(NodeState::Active),
        1 => Ok(NodeState::Draining),
        _ => Err(reader.malformed("a known state of a node")),
    }
}

pub(super) fn put_node(writer: &mut Writer, node: &Node) {
    writer.u32(node.id.0);
    put_rack(writer, node.rack.as_deref());
    put_listeners(writer, &node.listeners);
    writer.raw(&node.incarnation);
    put_state(writer, node.state);
}

pub(super) fn take_node(reader: &mut Reader, version: u8) -> Result<Node, Malformed> {
    let mut node = Node {
        id: NodeId(reader.u32()?),
        incarnation: [0; 16],
        rack: take_rack(reader)?,
        listeners: take_listeners(reader)?,
        state: NodeState::Active,
    };
    if version >= 2 {
        node.incarnation = reader.array()?;
        node.state = take_state(reader)?;
    }
    Ok(node)
}

pub(super) fn put_topic(writer: &mut Writer, topic: &TopicEntry) {
    writer.text(&topic.name).raw(&topic.id.0);
    put_entries(writer, &topic.partitions);
    put_map(writer, &topic.overrides);
    writer.u8(u8::from(topic.internal));
}

pub(super) fn take_topic(reader: &mut Reader, version: u8) -> Result<TopicEntry, Malformed> {
    Ok(TopicEntry {
        name: reader.text()?,
        id: TopicId(reader.array()?),
        partitions: take_entries(reader, version)?,
        overrides: take_map(reader)?,
        internal: reader.u8()? != 0,
    })
}

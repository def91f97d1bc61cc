//! The catalogue's checkpoint: everything it remembers, as one manifest.
//!
//! ```text
//! version u16, cluster id text, next producer id i64
//! v2: next node id u32, next shard id u32, removed nodes u32*
//! nodes*, shards*, topics*       each with a u32 count; see `encoding.rs`
//! v4: moved partitions           see `moves.rs`
//! v5: voids                      see `voids.rs`
//! v6: client quotas              see `quotas.rs`
//! v7: configs of all brokers     (key text, value text)* with a u32 count
//! ```
//! Version 1 is still read: its shards have one replica each and always will (`Fixed(1)`).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use raft::InstallError;
use storage::bugs::{self, Bug};
use storage::disk::Disk;

use super::Catalogue;
use super::command::TopicEntry;
use super::encoding::{
    put_map, put_node, put_nodes, put_shards, put_topic, take_map, take_node, take_nodes,
    take_shards, take_topic,
};
use super::machine::{topic_of, with_defaults};
use super::moves;
use super::quotas;
use super::voids;
use crate::wire::{Malformed, Reader, Writer};

/// The version that is written.
const VERSION: u16 = 7;

impl Catalogue {
    /// The catalogue that a checkpoint file holds, for whoever cannot open its shard. Blocks.
    pub(crate) fn saved(disk: &Disk, path: &Path) -> Result<Option<Catalogue>, String> {
        let manifest = raft::saved_manifest(disk, path).map_err(|error| error.to_string())?;
        let catalogue = manifest.map(decode).transpose();
        catalogue.map_err(|error| error.to_string())
    }
}

pub(super) fn encode(state: &Catalogue) -> Bytes {
    let mut writer = Writer::default();
    writer
        .u16(VERSION)
        .text(&state.cluster_id)
        .i64(match bugs::is_on(Bug::ProducerIdsGivenTwice) {
            true => 0,
            false => state.next_producer_id,
        })
        .u32(state.next_node_id)
        .u32(state.next_shard_id);
    put_nodes(&mut writer, state.removed_nodes.iter());
    writer.count(state.nodes.len());
    for node in state.nodes.values() {
        put_node(&mut writer, node);
    }
    put_shards(&mut writer, state.shards.values());
    writer.count(state.topics.len());
    for topic in state.topics.values() {
        let entry = TopicEntry {
            name: topic.name.clone(),
            id: topic.id,
            partitions: topic.partitions.clone(),
            overrides: match bugs::is_on(Bug::ConfigNotSaved) {
                true => BTreeMap::default(),
                false => topic.config.overrides.clone(),
            },
            internal: topic.internal,
        };
        put_topic(&mut writer, &entry);
    }
    moves::put(&mut writer, state);
    voids::put(&mut writer, state);
    quotas::put(&mut writer, state);
    put_map(&mut writer, &state.broker_configs);
    writer.finish()
}

pub(super) fn decode(manifest: Bytes) -> Result<Catalogue, InstallError> {
    let mut reader = Reader::new(manifest);
    let malformed = |error: Malformed| InstallError::Malformed {
        what: error.expected,
    };
    match reader.u16().map_err(malformed)? {
        1 => take(&mut reader, 1).map_err(malformed),
        2 => take(&mut reader, 2).map_err(malformed),
        4 => take(&mut reader, 4).map_err(malformed),
        5 => take(&mut reader, 5).map_err(malformed),
        6 => take(&mut reader, 6).map_err(malformed),
        VERSION => take(&mut reader, 7).map_err(malformed),
        version => Err(InstallError::UnknownVersion { version }),
    }
}

fn take(reader: &mut Reader, version: u8) -> Result<Catalogue, Malformed> {
    let mut state = Catalogue {
        cluster_id: reader.text()?,
        next_producer_id: reader.i64()?,
        ..Catalogue::default()
    };
    if version >= 2 {
        state.next_node_id = reader.u32()?;
        state.next_shard_id = reader.u32()?;
        state.removed_nodes = take_nodes(reader)?;
    }
    for _ in 0..reader.count(13)? {
        let node = take_node(reader, version)?;
        state.nodes.insert(node.id, node);
    }
    let shards = take_shards(reader, version)?;
    state.shards = shards.into_iter().map(|shard| (shard.id, shard)).collect();
    for _ in 0..reader.count(29)? {
        let entry = take_topic(reader, version)?;
        let topic = topic_of(entry, &BTreeMap::new());
        let topic = topic.map_err(|_| reader.malformed("configs that are enforced"))?;
        state.names.insert(topic.id, topic.name.clone());
        state.topics.insert(topic.name.clone(), Arc::new(topic));
    }
    if version >= 4 {
        moves::take(reader, &mut state)?;
    }
    if version >= 5 {
        voids::take(reader, &mut state)?;
    }
    if version >= 6 {
        quotas::take(reader, &mut state)?;
    }
    if version >= 7 {
        // What topics can have together with these they can have without.
        let defaults = take_map(reader)?;
        let topics = with_defaults(&state.topics, &defaults);
        state.topics = topics.map_err(|_| reader.malformed("configs that are enforced"))?;
        state.broker_configs = Arc::new(defaults);
    }
    reader.end()?;
    if version < 2 {
        state.next_shard_id = state.shards.keys().last().map_or(0, |last| last.0 + 1);
    }
    Ok(state)
}

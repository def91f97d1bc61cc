//! What can be asked for, one file a noun.

pub(crate) mod cluster;
pub(crate) mod health;
pub(crate) mod nodes;
pub(crate) mod shards;

use broker::Broker;
use storage::{NodeId, ShardId};

use crate::mapping::{self, Refusal};
use crate::server::Shared;

/// The broker, if the node has one now.
fn broker(shared: &Shared) -> Result<Broker, Refusal> {
    let broker = shared.broker.borrow().clone();
    broker.ok_or_else(mapping::not_ready)
}

/// The node that a path names, which must exist.
fn node(broker: &Broker, text: &str) -> Result<NodeId, Refusal> {
    let id = text
        .parse()
        .map(NodeId)
        .map_err(|_| mapping::no_number("node", text))?;
    if broker.catalogue().nodes.contains_key(&id) {
        Ok(id)
    } else {
        Err(mapping::no_such_node(id))
    }
}

/// The shard that a path names, which must exist.
fn shard(broker: &Broker, text: &str) -> Result<ShardId, Refusal> {
    let id = text
        .parse()
        .map(ShardId)
        .map_err(|_| mapping::no_number("shard", text))?;
    if broker
        .cluster_status()
        .shards
        .iter()
        .any(|shard| shard.id == id)
    {
        Ok(id)
    } else {
        Err(mapping::no_such_shard(id))
    }
}

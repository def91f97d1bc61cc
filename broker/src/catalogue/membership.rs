//! What the commands about nodes and shards do. Pure: every replica of the catalogue decides alike.

use storage::{NodeId, ShardId};

use super::command::{Joiner, NewShard};
use super::machine::Outcome;
use super::{Catalogue, Factor, Node, NodeState, Shard};
use crate::BrokerError;

/// Kafka's node ids are 31 bits wide.
const NODE_ID_MAX: u32 = 0x7fff_ffff;
/// The id of a cluster's first node, unless it wants another.
pub(crate) const FIRST_NODE: NodeId = NodeId(1);

type Done = Result<Outcome, BrokerError>;

fn conflict(reason: String) -> BrokerError {
    BrokerError::Conflict { reason }
}

pub(super) fn found(
    state: &mut Catalogue,
    cluster_id: String,
    shards: Vec<Shard>,
    nodes: Vec<Node>,
) {
    if !state.cluster_id.is_empty() {
        return;
    }
    state.cluster_id = cluster_id;
    state.next_node_id = FIRST_NODE.0;
    state.shards = shards.into_iter().map(|shard| (shard.id, shard)).collect();
    state.next_shard_id = state.shards.keys().last().map_or(0, |last| last.0 + 1);
    state.nodes = nodes.into_iter().map(|node| (node.id, node)).collect();
}

/// A directory from before there were incarnations has zeros: whoever first comes with one has it.
pub(super) fn put_node(state: &mut Catalogue, node: Node) -> Done {
    if state.removed_nodes.contains(&node.id) {
        return Err(removed(node.id));
    }
    match state.nodes.get_mut(&node.id) {
        None => {
            state.nodes.insert(node.id, node);
        }
        Some(known) if known.incarnation == node.incarnation || known.incarnation == [0; 16] => {
            *known = Node {
                state: known.state,
                ..node
            };
        }
        Some(_) => return Err(taken(node.id)),
    }
    Ok(Outcome::Done)
}

fn removed(node: NodeId) -> BrokerError {
    conflict(format!(
        "node {node} was removed from the cluster and its id is never used again: start it on an \
         empty data directory, and with another --node-id or none"
    ))
}

fn taken(node: NodeId) -> BrokerError {
    conflict(format!(
        "the cluster has a node {node} already, with another data directory: restore that \
         directory; or start with another --node-id or none, which makes a new node, and remove \
         the lost one with `braidlog cluster remove {node}`"
    ))
}

pub(super) fn join(state: &mut Catalogue, joiner: Joiner) -> Done {
    if state.cluster_id.is_empty() {
        return Err(conflict("there is no cluster to join".to_owned()));
    }
    let same = |node: &&mut Node| node.incarnation == joiner.incarnation;
    if joiner.incarnation == [0; 16] {
        return Err(BrokerError::InvalidRequest {
            reason: "a node without an incarnation cannot join".to_owned(),
        });
    }
    if let Some(node) = state.nodes.values_mut().find(same) {
        node.rack = joiner.rack;
        node.listeners = joiner.listeners;
        return Ok(Outcome::Node(node.id));
    }
    let id = match joiner.wanted {
        Some(wanted) if wanted.0 > NODE_ID_MAX => {
            return Err(BrokerError::InvalidRequest {
                reason: format!("node id {wanted} is above {NODE_ID_MAX}"),
            });
        }
        Some(wanted) if state.removed_nodes.contains(&wanted) => return Err(removed(wanted)),
        Some(wanted) if state.nodes.contains_key(&wanted) => return Err(taken(wanted)),
        Some(wanted) => wanted,
        None => unused_id(state)?,
    };
    let node = Node {
        id,
        incarnation: joiner.incarnation,
        rack: joiner.rack,
        listeners: joiner.listeners,
        state: NodeState::Active,
    };
    state.nodes.insert(id, node);
    Ok(Outcome::Node(id))
}

fn unused_id(state: &mut Catalogue) -> Result<NodeId, BrokerError> {
    let used = |id: &u32| {
        let id = NodeId(*id);
        state.nodes.contains_key(&id) || state.removed_nodes.contains(&id)
    };
    let from = state.next_node_id.max(FIRST_NODE.0);
    let id = (from..=NODE_ID_MAX).find(|id| !used(id));
    let id = id.ok_or_else(|| conflict("every node id has been used".to_owned()))?;
    state.next_node_id = id + 1;
    Ok(NodeId(id))
}

pub(super) fn set_state(state: &mut Catalogue, node: NodeId, to: NodeState) -> Done {
    let others_active = state
        .nodes
        .values()
        .any(|other| other.id != node && other.state == NodeState::Active);
    let known = state
        .nodes
        .get_mut(&node)
        .ok_or(BrokerError::UnknownNode { node })?;
    if to == NodeState::Draining && !others_active {
        return Err(conflict(format!(
            "node {node} is the only active node: its replicas have nowhere to go"
        )));
    }
    known.state = to;
    Ok(Outcome::Done)
}

pub(super) fn remove(state: &mut Catalogue, node: NodeId, force: bool) -> Done {
    if state.removed_nodes.contains(&node) {
        return Ok(Outcome::Done);
    }
    let known = state
        .nodes
        .get(&node)
        .ok_or(BrokerError::UnknownNode { node })?;
    if state.nodes.len() == 1 {
        return Err(conflict(format!("node {node} is the cluster's last")));
    }
    let carried: Vec<ShardId> = state
        .shards
        .values()
        .filter(|shard| shard.concerns(node))
        .map(|shard| shard.id)
        .collect();
    if force {
        force_off(state, node, &carried)?;
    } else if known.state != NodeState::Draining {
        return Err(conflict(format!(
            "node {node} is not drained: `braidlog cluster drain {node}` first"
        )));
    } else if !carried.is_empty() {
        return Err(conflict(format!(
            "node {node} still carries {} of {} shards: wait until it is drained",
            carried.len(),
            state.shards.len()
        )));
    }
    state.nodes.remove(&node);
    state.removed_nodes.insert(node);
    Ok(Outcome::Done)
}

/// Checks that what a lost node carried can go on without it. Shards that it alone carried and
/// that hold nothing go with it; the members of the others are changed by their leaders.
fn force_off(state: &mut Catalogue, node: NodeId, carried: &[ShardId]) -> Result<(), BrokerError> {
    let holds_partitions = |state: &Catalogue, id: ShardId| {
        let mut topics = state.topics.values();
        topics.any(|topic| topic.partitions.iter().any(|entry| entry.shard == id))
    };
    let mut empty = Vec::new();
    for id in carried {
        let Some(shard) = state.shards.get(id) else {
            continue;
        };
        let left = |replica: &&NodeId| **replica != node && state.nodes.contains_key(replica);
        let has_majority = shard.replicas.iter().filter(left).count() * 2 > shard.replicas.len();
        if has_majority || !shard.replicas.contains(&node) {
            continue;
        }
        if *id == ShardId(0) || holds_partitions(state, *id) {
            return Err(conflict(format!(
                "without node {node} shard {id} has no majority of its replicas and its data \
                 would be lost: start the node again, or delete the topics in that shard first"
            )));
        }
        empty.push(*id);
    }
    for id in empty {
        state.shards.remove(&id);
    }
    for shard in state.shards.values_mut() {
        let Some(target) = &mut shard.target else {
            continue;
        };
        target.retain(|replica| *replica != node);
        if target.is_empty() {
            let left = shard.replicas.iter().filter(|replica| **replica != node);
            *target = left.copied().collect();
        }
    }
    Ok(())
}

pub(super) fn create_shards(state: &mut Catalogue, next: ShardId, shards: Vec<NewShard>) -> Done {
    if state.next_shard_id != next.0 {
        return Err(conflict(format!(
            "the next shard is {} by now, not {next}",
            state.next_shard_id
        )));
    }
    for shard in &shards {
        check_replicas(state, &shard.replicas)?;
    }
    let mut made = Vec::with_capacity(shards.len());
    for shard in shards {
        let id = ShardId(state.next_shard_id);
        state.next_shard_id += 1;
        let entry = Shard::new(id, shard.replicas, shard.factor);
        state.shards.insert(id, entry);
        made.push(id);
    }
    Ok(Outcome::Shards(made))
}

/// Replicas to be: some, all different, all on nodes of the cluster.
fn check_replicas(state: &Catalogue, replicas: &[NodeId]) -> Result<(), BrokerError> {
    let invalid = |reason: String| Err(BrokerError::InvalidReplicaAssignment { reason });
    if replicas.is_empty() {
        return invalid("a shard needs a replica".to_owned());
    }
    for (position, node) in replicas.iter().enumerate() {
        if !state.nodes.contains_key(node) {
            return invalid(format!("node {node} does not exist"));
        }
        if replicas[..position].contains(node) {
            return invalid(format!("node {node} is named twice"));
        }
    }
    Ok(())
}

pub(super) fn set_target(
    state: &mut Catalogue,
    shard: ShardId,
    target: Option<Vec<NodeId>>,
    factor: Option<Factor>,
) -> Done {
    if let Some(target) = &target {
        check_replicas(state, target)?;
    }
    let entry = state.shards.get_mut(&shard);
    let entry = entry.ok_or_else(|| unknown_shard(shard))?;
    if let Some(factor) = factor.filter(|_| shard != ShardId(0)) {
        entry.factor = factor;
    }
    let wanted = target.unwrap_or_else(|| entry.replicas.clone());
    if entry.target.is_none() && wanted == entry.replicas {
        // What is there already needs no change.
        return Ok(Outcome::Done);
    }
    // Members may change from here on, before anybody says that they have; nobody may begin the
    // shard anew then. A change that is under way is turned back by another change, which the
    // shard's leader confirms: who was made a voter meanwhile keeps what it has until then.
    let same = |a: &[NodeId], b: &[NodeId]| a.iter().all(|node| b.contains(node));
    entry.changed |= !(same(&wanted, &entry.replicas) && same(&entry.replicas, &wanted));
    entry.target = Some(wanted);
    Ok(Outcome::Done)
}

fn unknown_shard(shard: ShardId) -> BrokerError {
    conflict(format!("there is no shard {shard}"))
}

pub(super) fn shard_changed(state: &mut Catalogue, shard: ShardId, replicas: Vec<NodeId>) -> Done {
    let entry = state.shards.get_mut(&shard);
    let entry = entry.ok_or_else(|| unknown_shard(shard))?;
    if replicas.is_empty() {
        return Err(BrokerError::InvalidReplicaAssignment {
            reason: "a shard needs a replica".to_owned(),
        });
    }
    if entry.target.as_ref() != Some(&replicas) {
        return Err(conflict(format!(
            "the members of shard {shard} shall be others by now"
        )));
    }
    entry.target = None;
    entry.replicas = replicas;
    Ok(Outcome::Done)
}

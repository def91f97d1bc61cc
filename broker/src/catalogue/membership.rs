//! What the commands about nodes and shards do. Pure: every replica of the catalogue decides alike.

use std::collections::{BTreeMap, BTreeSet};

use storage::{NodeId, ShardId};

use super::command::{Joiner, NewShard};
use super::machine::Outcome;
use super::moves;
use super::voids;
use super::{Catalogue, Factor, Node, NodeState, Shard};
use crate::BrokerError;

/// Kafka's node ids are 31 bits wide.
const NODE_ID_MAX: u32 = 0x7fff_ffff;
/// The id of a cluster's first node, unless it wants another.
pub(crate) const FIRST_NODE: NodeId = NodeId(1);

/// Nodes of one cluster.
const NODES_MAX: usize = 1_000;
/// Bytes of a rack's name, and of a host's.
const RACK_BYTES_MAX: usize = 255;
const HOST_BYTES_MAX: usize = 255;
/// Listeners of one node, and bytes of a listener's name.
const LISTENERS_MAX: usize = 16;
const LISTENER_NAME_BYTES_MAX: usize = 64;

type Done = Result<Outcome, BrokerError>;

pub(super) fn conflict(reason: String) -> BrokerError {
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

/// What a node says of itself, kept on every node for ever, has bounds.
fn check_node(
    rack: Option<&str>,
    listeners: &BTreeMap<String, (String, u16)>,
) -> Result<(), BrokerError> {
    let within = |what: String, len: usize, max: usize| match len <= max {
        true => Ok(()),
        false => Err(BrokerError::InvalidRequest {
            reason: format!("{what} has {len} bytes, at most {max}"),
        }),
    };
    within(
        "the rack's name".to_owned(),
        rack.map_or(0, str::len),
        RACK_BYTES_MAX,
    )?;
    if listeners.len() > LISTENERS_MAX {
        return Err(BrokerError::InvalidRequest {
            reason: format!("{} listeners, at most {LISTENERS_MAX}", listeners.len()),
        });
    }
    for (name, (host, _)) in listeners {
        within(
            "a listener's name".to_owned(),
            name.len(),
            LISTENER_NAME_BYTES_MAX,
        )?;
        within(
            format!("the host of listener {name}"),
            host.len(),
            HOST_BYTES_MAX,
        )?;
    }
    Ok(())
}

fn check_room(state: &Catalogue) -> Result<(), BrokerError> {
    if state.nodes.len() < NODES_MAX {
        return Ok(());
    }
    Err(conflict(format!(
        "the cluster has {} nodes, at most {NODES_MAX}",
        state.nodes.len()
    )))
}

/// A directory from before there were incarnations has zeros: whoever first comes with one has it.
pub(super) fn put_node(state: &mut Catalogue, node: Node) -> Done {
    if state.removed_nodes.contains(&node.id) {
        return Err(removed(node.id));
    }
    check_node(node.rack.as_deref(), &node.listeners)?;
    match state.nodes.get_mut(&node.id) {
        None => {
            check_room(state)?;
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

pub(super) fn removed(node: NodeId) -> BrokerError {
    conflict(format!(
        "node {node} was removed from the cluster and its id is never used again: start it on an \
         empty data directory, and with another --node-id or none"
    ))
}

pub(super) fn taken(node: NodeId) -> BrokerError {
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
    check_node(joiner.rack.as_deref(), &joiner.listeners)?;
    if let Some(node) = state.nodes.values_mut().find(same) {
        node.rack = joiner.rack;
        node.listeners = joiner.listeners;
        return Ok(Outcome::Node(node.id));
    }
    check_room(state)?;
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
    let was = std::mem::replace(&mut known.state, to);
    if was == NodeState::Draining && to == NodeState::Active {
        withdraw_drain(state, node);
    }
    Ok(Outcome::Done)
}

/// Turns back changes that were to empty a node which is used again. A change back is one like any
/// other, which the shard's leader confirms.
fn withdraw_drain(state: &mut Catalogue, node: NodeId) {
    let nodes = &state.nodes;
    let is_active = |node: &NodeId| {
        let node = nodes.get(node);
        node.is_some_and(|node| node.state == NodeState::Active)
    };
    for shard in state.shards.values_mut() {
        let Some(target) = &shard.target else {
            continue;
        };
        // Lists by hand are somebody's, but for the places of drained nodes in them.
        let stays = |(was, is): (&NodeId, &NodeId)| was == is || *was == node || !is_active(was);
        let is_of_drain = shard.factor != Factor::ByHand
            || (target.len() == shard.replicas.len()
                && shard.replicas.iter().zip(target).all(stays));
        let goes = shard.replicas.contains(&node) && !target.contains(&node);
        if goes && is_of_drain {
            shard.target = Some(shard.replicas.clone());
        }
    }
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
    voids::forget_gone(state);
    Ok(Outcome::Done)
}

pub(super) fn holds_data(state: &Catalogue, id: ShardId) -> bool {
    let mut topics = state.topics.values();
    id == ShardId(0) || topics.any(|topic| topic.partitions.iter().any(|entry| entry.shard == id))
}

/// Whether a majority of these voters is left in the cluster when a node has gone.
fn keeps_majority(state: &Catalogue, voters: &[NodeId], node: NodeId) -> bool {
    let left = |voter: &&NodeId| **voter != node && state.nodes.contains_key(voter);
    voters.iter().filter(left).count() * 2 > voters.len()
}

fn list(nodes: &[NodeId]) -> String {
    let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    nodes.join(", ")
}

/// Why a shard that votes like this would never decide anything again without a node, if so. What
/// the catalogue says may be behind the members; so whoever has a report of them asks too.
pub(crate) fn check_voters_without(
    state: &Catalogue,
    id: ShardId,
    voters: &BTreeSet<NodeId>,
    node: NodeId,
) -> Result<(), BrokerError> {
    let voters: Vec<NodeId> = voters.iter().copied().collect();
    let concerned = voters.contains(&node) && holds_data(state, id);
    if !concerned || keeps_majority(state, &voters, node) {
        return Ok(());
    }
    Err(conflict(format!(
        "without node {node} shard {id} has no majority of its voters ({}) and its data would be \
         lost: start the node again, or delete the topics in that shard first",
        list(&voters)
    )))
}

/// Checks that what a lost node carried can go on without it. Shards that it alone carried and
/// that hold nothing go with it; the members of the others are changed by their leaders.
fn force_off(state: &mut Catalogue, node: NodeId, carried: &[ShardId]) -> Result<(), BrokerError> {
    let mut empty = Vec::new();
    for id in carried {
        let Some(shard) = state.shards.get(id) else {
            continue;
        };
        // Of a change that is under way nobody here knows how far it has come: both what was and
        // what is to be have to go on.
        let of_replicas = keeps_majority(state, &shard.replicas, node);
        let target = shard.target.as_deref().unwrap_or(&shard.replicas);
        let of_target = keeps_majority(state, target, node) || !target.contains(&node);
        if (of_replicas || !shard.replicas.contains(&node)) && of_target {
            continue;
        }
        if !holds_data(state, *id) {
            if !of_replicas && shard.replicas.contains(&node) {
                empty.push(*id);
            }
            continue;
        }
        if of_target || !of_replicas {
            return Err(conflict(format!(
                "without node {node} shard {id} has no majority of its replicas ({}) and its data \
                 would be lost: start the node again, or delete the topics in that shard first",
                list(&shard.replicas)
            )));
        }
        return Err(conflict(format!(
            "shard {id} is being changed from nodes {} to {}, and without node {node} the latter \
             have no majority: start the node again, or withdraw the change (undrain the nodes \
             that go) and wait until the shard has no target",
            list(&shard.replicas),
            list(target)
        )));
    }
    for id in empty {
        state.shards.remove(&id);
        moves::cancel_to(state, id);
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
    before: Option<&Vec<NodeId>>,
    (target, factor): (Option<Vec<NodeId>>, Option<Factor>),
) -> Done {
    if let Some(target) = &target {
        check_replicas(state, target)?;
    }
    let entry = state.shards.get_mut(&shard);
    let entry = entry.ok_or_else(|| unknown_shard(shard))?;
    // Decided when the number was still left to the cluster: lists by hand bring a factor along.
    if let (Some(target), Factor::Fixed(replicas), None) = (&target, entry.factor, factor) {
        let exists = |node: &&NodeId| state.nodes.contains_key(*node);
        let present = entry.replicas.iter().filter(exists).count();
        if target.len() < present.min(usize::from(replicas)) {
            return Err(conflict(format!(
                "shard {shard} has {replicas} replicas for good"
            )));
        }
    }
    let wanted = target.unwrap_or_else(|| entry.replicas.clone());
    let present = entry.target.as_ref().unwrap_or(&entry.replicas);
    // A repeated command finds what it asked for.
    if before.is_some_and(|before| before != present) && wanted != *present {
        return Err(conflict(format!(
            "the replicas that shard {shard} shall have have changed meanwhile"
        )));
    }
    if let Some(factor) = factor.filter(|_| shard != ShardId(0)) {
        entry.factor = factor;
    }
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

/// Repeated, it finds what it asked for.
pub(super) fn pin_shards(state: &mut Catalogue, shards: &[ShardId], replicas: u16) -> Done {
    let pinned = Factor::Fixed(replicas);
    let wide = |list: &Vec<NodeId>| list.len() == usize::from(replicas);
    for id in shards {
        let fits = state.shards.get(id).is_some_and(|shard| {
            let is_open = shard.factor == Factor::Auto || shard.factor == pinned;
            is_open && wide(&shard.replicas) && shard.target.as_ref().is_none_or(wide)
        });
        if !fits || *id == ShardId(0) {
            return Err(conflict(format!(
                "shard {id} has not got {replicas} replicas for good"
            )));
        }
    }
    for id in shards {
        if let Some(shard) = state.shards.get_mut(id) {
            shard.factor = pinned;
        }
    }
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

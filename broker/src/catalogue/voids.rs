//! Replicas that count for nothing: those of a node that lost its memory and came back.
//!
//! A replica that has forgotten what it voted for or acknowledged must do neither until the others
//! have gone on without it: a late acknowledgement of its former life and a new one could make a
//! majority that never was. So the node comes back with a new incarnation, and with that one
//! command every shard has a *mark* for it. Whoever leads a shard takes a marked node out of the
//! members; when that is committed the mark is *cleared*, with the point from which on the node is
//! to remember (a [`Floor`]). Only then may the node open the shard, empty. A node that has or had
//! a mark in a shard never begins that shard: it may have done so before. A node that alone votes
//! for the catalogue keeps its incarnation: nobody else could tell the others of a new one.
//!
//! ```text
//! voids  count u32, (shard u32, node u32, kind u8, floor: term u64, leader u32, last term u64,
//!        last index u64)*       kind 0 waiting, 1 cleared, 2 accepted; the floor is zeros but for 1
//!        count u32, (node u32, what it drew 16)*
//! ```

use std::collections::{BTreeMap, BTreeSet};

use raft::Floor;
use storage::{LogIndex, LogPosition, NodeId, ShardId, Term};

use super::machine::Outcome;
use super::membership::{conflict, holds_data, removed, taken};
use super::{Catalogue, Shard};
use crate::BrokerError;
use crate::broker::CATALOGUE_SHARD;
use crate::wire::{Malformed, Reader, Writer};

/// What a shard knows of a node that came back without its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Void {
    /// The shard's members may still be counting on it.
    Waiting,
    /// The shard has gone on without it; it may begin anew, and remember this.
    Cleared(Floor),
    /// Whoever runs it takes what it has for good.
    Accepted,
}

/// Marks by shard and node. Those that wait no more stay until the node returns again or goes.
pub type Voids = BTreeMap<ShardId, BTreeMap<NodeId, Void>>;

/// A node that lost its memory and wants to be a member again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Comeback {
    pub(crate) node: NodeId,
    /// Its incarnation so far.
    pub(crate) before: [u8; 16],
    /// Drawn for this return: its incarnation from now on, unless it keeps the one it has.
    pub(crate) incarnation: [u8; 16],
    pub(crate) keeps_incarnation: bool,
    /// Whether it has nothing left at all; else what it alone carries is as good as it is.
    pub(crate) lost_all: bool,
}

type Done = Result<Outcome, BrokerError>;

impl Catalogue {
    /// What a shard knows of a node.
    #[must_use]
    pub fn void(&self, shard: ShardId, node: NodeId) -> Option<Void> {
        self.voids.get(&shard)?.get(&node).copied()
    }

    /// Nodes that must be none of the shard's members for now.
    #[must_use]
    pub fn waiting_voids(&self, shard: ShardId) -> BTreeSet<NodeId> {
        let marks = self.voids.get(&shard).into_iter().flatten();
        let waiting = marks.filter(|(_, void)| **void == Void::Waiting);
        waiting.map(|(node, _)| *node).collect()
    }

    /// Whether a node has come back with what it drew for it.
    pub(crate) fn has_returned(&self, node: NodeId, drawn: [u8; 16]) -> bool {
        self.returns.get(&node) == Some(&drawn)
    }

    /// Whether a replica of the shard is to be filled anew once the shard has gone on without it.
    pub(crate) fn is_waiting_void(&self, shard: ShardId, node: NodeId) -> bool {
        self.void(shard, node) == Some(Void::Waiting)
    }
}

/// Whether nobody but this node has anything of a shard. While its members change, others may vote
/// already, also where that change was turned back and nobody has confirmed it.
fn is_alone(shard: &Shard, node: NodeId) -> bool {
    shard.replicas == [node] && shard.target.is_none()
}

pub(super) fn come_back(state: &mut Catalogue, comeback: &Comeback) -> Done {
    let Comeback {
        node,
        before,
        incarnation,
        keeps_incarnation,
        lost_all,
    } = *comeback;
    if state.removed_nodes.contains(&node) {
        return Err(removed(node));
    }
    if incarnation == [0; 16] || incarnation == before {
        return Err(BrokerError::InvalidRequest {
            reason: "a node that returns needs a new incarnation".to_owned(),
        });
    }
    let known = state.nodes.get(&node);
    let known = known.ok_or(BrokerError::UnknownNode { node })?.incarnation;
    if state.has_returned(node, incarnation) {
        return Ok(Outcome::Done);
    }
    if known != before && known != [0; 16] {
        return Err(taken(node));
    }
    if lost_all {
        check_others_have(state, node)?;
    }
    state.returns.insert(node, incarnation);
    if let Some(entry) = state.nodes.get_mut(&node).filter(|_| !keeps_incarnation) {
        entry.incarnation = incarnation;
    }
    for shard in state.shards.values() {
        let marks = state.voids.entry(shard.id).or_default();
        // Who is taken back by others does not vote for the catalogue alone, whatever it says.
        let is_kept = match shard.id == CATALOGUE_SHARD {
            true => keeps_incarnation,
            false => is_alone(shard, node),
        };
        if is_kept {
            // What is there is all there is; without anything it is begun anew.
            marks.remove(&node);
            continue;
        }
        marks.insert(node, Void::Waiting);
    }
    state.voids.retain(|_, marks| !marks.is_empty());
    Ok(Outcome::Done)
}

/// A node that has nothing left may come back only where others have what it had.
fn check_others_have(state: &Catalogue, node: NodeId) -> Result<(), BrokerError> {
    let only_there =
        |shard: &&Shard| shard.replicas == [node] && (shard.changed || holds_data(state, shard.id));
    let shards: Vec<String> = state
        .shards
        .values()
        .filter(only_there)
        .map(|shard| shard.id.to_string())
        .collect();
    if shards.is_empty() {
        return Ok(());
    }
    Err(conflict(format!(
        "node {node} has the only replica of shards {}, and its journal is damaged: restore its \
         data directory; or give it up for good: delete the topics with data there, then `braidlog \
         cluster remove --force {node}`, and start it on an empty directory as a new node",
        shards.join(", ")
    )))
}

pub(super) fn clear(
    state: &mut Catalogue,
    shard: ShardId,
    (node, incarnation): (NodeId, [u8; 16]),
    floor: Floor,
) -> Done {
    check_return(state, node, incarnation)?;
    let mark = state
        .voids
        .get_mut(&shard)
        .and_then(|marks| marks.get_mut(&node));
    match mark {
        Some(mark @ Void::Waiting) => {
            *mark = Void::Cleared(floor);
            Ok(Outcome::Done)
        }
        Some(Void::Cleared(_)) => Ok(Outcome::Done),
        Some(Void::Accepted) | None => Err(conflict(format!(
            "shard {shard} does not wait for anything about node {node}"
        ))),
    }
}

/// Whoever runs the node takes what it has for good: marks that still wait do so no more. They stay,
/// because what the node has forgotten may be that it had begun a shard.
pub(super) fn accept(state: &mut Catalogue, node: NodeId, incarnation: [u8; 16]) -> Done {
    check_return(state, node, incarnation)?;
    let marks = state.voids.values_mut();
    for void in marks.filter_map(|marks| marks.get_mut(&node)) {
        if *void == Void::Waiting {
            *void = Void::Accepted;
        }
    }
    Ok(Outcome::Done)
}

/// A node returns more than once: what was decided about an earlier time counts no more.
fn check_return(state: &Catalogue, node: NodeId, drawn: [u8; 16]) -> Result<(), BrokerError> {
    if !state.nodes.contains_key(&node) {
        return Err(BrokerError::UnknownNode { node });
    }
    if state.has_returned(node, drawn) {
        return Ok(());
    }
    Err(conflict(format!(
        "node {node} has returned again meanwhile"
    )))
}

/// Forgets marks of shards and nodes that are no more.
pub(super) fn forget_gone(state: &mut Catalogue) {
    let Catalogue {
        voids,
        returns,
        shards,
        nodes,
        ..
    } = state;
    returns.retain(|node, _| nodes.contains_key(node));
    voids.retain(|shard, marks| {
        marks.retain(|node, _| nodes.contains_key(node));
        shards.contains_key(shard) && !marks.is_empty()
    });
}

pub(crate) fn put_floor(writer: &mut Writer, floor: Floor) {
    writer
        .u64(floor.term.0)
        .u32(floor.leader.0)
        .u64(floor.last.term.0)
        .u64(floor.last.index.0);
}

pub(crate) fn take_floor(reader: &mut Reader) -> Result<Floor, Malformed> {
    Ok(Floor {
        term: Term(reader.u64()?),
        leader: NodeId(reader.u32()?),
        last: LogPosition {
            term: Term(reader.u64()?),
            index: LogIndex(reader.u64()?),
        },
    })
}

pub(crate) fn put_comeback(writer: &mut Writer, comeback: &Comeback) {
    writer
        .u32(comeback.node.0)
        .raw(&comeback.before)
        .raw(&comeback.incarnation)
        .u8(u8::from(comeback.keeps_incarnation))
        .u8(u8::from(comeback.lost_all));
}

pub(crate) fn take_comeback(reader: &mut Reader) -> Result<Comeback, Malformed> {
    Ok(Comeback {
        node: NodeId(reader.u32()?),
        before: reader.array()?,
        incarnation: reader.array()?,
        keeps_incarnation: reader.u8()? != 0,
        lost_all: reader.u8()? != 0,
    })
}

pub(super) fn put(writer: &mut Writer, state: &Catalogue) {
    let voids = &state.voids;
    writer.count(voids.values().map(BTreeMap::len).sum());
    for (shard, marks) in voids {
        for (node, void) in marks {
            let (kind, floor) = match void {
                Void::Waiting => (0, Floor::default()),
                Void::Cleared(floor) => (1, *floor),
                Void::Accepted => (2, Floor::default()),
            };
            writer.u32(shard.0).u32(node.0).u8(kind);
            put_floor(writer, floor);
        }
    }
    writer.count(state.returns.len());
    for (node, drawn) in &state.returns {
        writer.u32(node.0).raw(drawn);
    }
}

pub(super) fn take(reader: &mut Reader, state: &mut Catalogue) -> Result<(), Malformed> {
    for _ in 0..reader.count(37)? {
        let (shard, node) = (ShardId(reader.u32()?), NodeId(reader.u32()?));
        let kind = reader.u8()?;
        let floor = take_floor(reader)?;
        let void = match kind {
            0 => Void::Waiting,
            1 => Void::Cleared(floor),
            2 => Void::Accepted,
            _ => return Err(reader.malformed("a known mark")),
        };
        let marks = state.voids.entry(shard).or_default();
        marks.insert(node, void);
    }
    for _ in 0..reader.count(20)? {
        let (node, drawn) = (NodeId(reader.u32()?), reader.array()?);
        state.returns.insert(node, drawn);
    }
    Ok(())
}

#[cfg(test)]
#[path = "voids_test.rs"]
mod tests;

//! What the commands about moves of single partitions do, and how a checkpoint tells of them. Pure.
//!
//! A move has one commit point: [`finish`]. Before it the partition is its old log, whatever its
//! new shard already has; after it the new one. What was cancelled is never finished, since a
//! generation is given once.
//!
//! ```text
//! moved partitions of a checkpoint: count u32, then per partition that was ever to be moved
//!   topic id 16 bytes, index u32, generation u32, last generation u32,
//!   is moving u8, to u32, generation u32      zeros when it is not
//! ```

use std::sync::Arc;

use storage::{PartitionId, ShardId, TopicId};

use super::machine::Outcome;
use super::{Catalogue, Move, PartitionEntry, Topic};
use crate::BrokerError;
use crate::wire::{Malformed, Reader, Writer};

/// Bytes of one encoded moved partition.
const MOVED_BYTES: usize = 16 + 4 + 4 + 4 + 1 + 4 + 4;

type Done = Result<Outcome, BrokerError>;

fn conflict(reason: String) -> BrokerError {
    BrokerError::Conflict { reason }
}

fn change(
    state: &mut Catalogue,
    id: PartitionId,
    change: impl FnOnce(&mut PartitionEntry) -> Result<(), BrokerError>,
) -> Done {
    let name = state.names.get(&id.topic);
    let topic = name.and_then(|name| state.topics.get_mut(name));
    let topic = topic.ok_or(BrokerError::UnknownTopicId)?;
    let at = usize::try_from(id.index).ok();
    let entry = at.and_then(|at| topic.partitions.get(at)).copied();
    let (Some(at), Some(before)) = (at, entry) else {
        return Err(BrokerError::UnknownTopicOrPartition);
    };
    let mut after = before;
    change(&mut after)?;
    if after != before {
        let mut changed = Topic::clone(topic);
        changed.partitions[at] = after;
        *topic = Arc::new(changed);
    }
    Ok(Outcome::Done)
}

/// Begins a move of the partition as it is since generation `from`, if none was begun since the
/// one of generation `last`. The same again changes nothing, also when it was cancelled meanwhile.
pub(super) fn begin(
    state: &mut Catalogue,
    id: PartitionId,
    (from, last): (u32, Option<u32>),
    to: ShardId,
) -> Done {
    if to == ShardId(0) || !state.shards.contains_key(&to) {
        return Err(conflict(format!("shard {to} carries no partitions by now")));
    }
    change(state, id, |entry| {
        if entry.generation != from {
            return Err(conflict("the partition was moved meanwhile".to_owned()));
        }
        match entry.moving {
            Some(moving) if moving.to == to => return Ok(()),
            Some(moving) => {
                return Err(conflict(format!(
                    "the partition is being moved to shard {} already",
                    moving.to
                )));
            }
            None if entry.shard == to => {
                return Err(conflict(format!("the partition is in shard {to} already")));
            }
            None if last.is_some_and(|last| last != entry.last_generation) => {
                return Err(conflict("another move was begun meanwhile".to_owned()));
            }
            None => {}
        }
        let next = entry.last_generation.checked_add(1);
        let generation = next.ok_or_else(|| conflict("it was moved too often".to_owned()))?;
        entry.last_generation = generation;
        entry.moving = Some(Move { to, generation });
        Ok(())
    })
}

/// The move is done: the log of this generation is the partition from now on.
pub(super) fn finish(
    state: &mut Catalogue,
    id: PartitionId,
    generation: u32,
    epoch_base: i64,
) -> Done {
    change(state, id, |entry| match entry.moving {
        Some(moving) if moving.generation == generation => {
            *entry = PartitionEntry {
                shard: moving.to,
                epoch_base,
                generation,
                moving: None,
                ..*entry
            };
            Ok(())
        }
        _ if entry.generation == generation => Ok(()),
        _ => Err(conflict("the move was cancelled".to_owned())),
    })
}

/// The move will never be done.
pub(super) fn cancel(state: &mut Catalogue, id: PartitionId, generation: u32) -> Done {
    change(state, id, |entry| {
        if entry
            .moving
            .is_some_and(|moving| moving.generation == generation)
        {
            entry.moving = None;
        } else if entry.generation >= generation {
            return Err(conflict("the move is done already".to_owned()));
        }
        Ok(())
    })
}

/// Cancels all moves to a shard that is no more.
pub(super) fn cancel_to(state: &mut Catalogue, shard: ShardId) {
    let is_to = |entry: &PartitionEntry| entry.moving.is_some_and(|moving| moving.to == shard);
    for topic in state.topics.values_mut() {
        if topic.partitions.iter().any(is_to) {
            let mut changed = Topic::clone(topic);
            for entry in changed.partitions.iter_mut().filter(|entry| is_to(entry)) {
                entry.moving = None;
            }
            *topic = Arc::new(changed);
        }
    }
}

pub(super) fn put(writer: &mut Writer, state: &Catalogue) {
    let moved: Vec<(TopicId, u32, PartitionEntry)> = state
        .topics
        .values()
        .flat_map(|topic| {
            let entries = (0..).zip(&topic.partitions);
            let moved = entries.filter(|(_, entry)| entry.last_generation > 0);
            moved.map(|(index, entry)| (topic.id, index, *entry))
        })
        .collect();
    writer.count(moved.len());
    for (topic, index, entry) in moved {
        writer.raw(&topic.0).u32(index);
        writer.u32(entry.generation).u32(entry.last_generation);
        let moving = entry.moving.map(|moving| (moving.to.0, moving.generation));
        let (to, generation) = moving.unwrap_or_default();
        writer
            .u8(u8::from(moving.is_some()))
            .u32(to)
            .u32(generation);
    }
}

pub(super) fn take(reader: &mut Reader, state: &mut Catalogue) -> Result<(), Malformed> {
    for _ in 0..reader.count(MOVED_BYTES)? {
        let id = PartitionId {
            topic: TopicId(reader.array()?),
            index: reader.u32()?,
        };
        let (generation, last_generation) = (reader.u32()?, reader.u32()?);
        let is_moving = reader.u8()? != 0;
        let moving = Move {
            to: ShardId(reader.u32()?),
            generation: reader.u32()?,
        };
        let set = change(state, id, |entry| {
            entry.generation = generation;
            entry.last_generation = last_generation;
            entry.moving = is_moving.then_some(moving);
            Ok(())
        });
        set.map_err(|_| reader.malformed("a partition of a topic"))?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "moves_test.rs"]
mod tests;

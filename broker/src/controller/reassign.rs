//! Giving partitions other replicas (KIP-455). A shard whose partitions are all named with one and
//! the same list changes its members; of any other shard the named partitions move, each to the
//! shard by hand that has its list, made when there is none.

use std::collections::{BTreeMap, BTreeSet};

use storage::{NodeId, PartitionId, ShardId};

use super::plan::wanted_list;
use crate::catalogue::command::Command;
use crate::catalogue::{Catalogue, Factor, PartitionEntry};
use crate::cluster::Reassignment;
use crate::placement::{check_list, new_by_hand, shard_by_hand};
use crate::{Broker, BrokerError};

/// How long a change of replicas waits for a shard's leader, which an election or a report on its
/// way may be about to name.
const LED_WAIT_MS: i64 = 3_000;
/// How often the shards for a request are planned anew because others were made meanwhile.
const SHARD_ATTEMPTS: usize = 5;

type Results = Vec<(PartitionId, Result<(), BrokerError>)>;
type Refused = BTreeMap<PartitionId, BrokerError>;
/// The list that is asked for; `None` takes back what is under way.
type Wanted = Option<Vec<NodeId>>;

/// What a request comes to for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    /// It is so already, or about to be.
    Nothing,
    /// It goes to a shard with this list; a move that is under way is given up first.
    Move {
        instead_of: Option<u32>,
        list: Vec<NodeId>,
    },
    /// It stays: the move of this generation is given up.
    Stay(u32),
}

/// What a request comes to.
#[derive(Debug, Default)]
struct Plan {
    shards: BTreeMap<ShardId, Wanted>,
    partitions: BTreeMap<PartitionId, Change>,
    refused: Refused,
}

fn invalid_replicas(reason: String) -> BrokerError {
    BrokerError::InvalidReplicaAssignment { reason }
}

/// Carries a request out as far as decisions go; the copying takes its time.
pub(crate) async fn alter_reassignments(
    broker: &Broker,
    changes: Vec<(PartitionId, Wanted)>,
) -> Results {
    let catalogue = broker.catalogue();
    let ids: Vec<PartitionId> = changes.iter().map(|(id, _)| *id).collect();
    let is_led = |shard: ShardId| broker.shard_seen(shard).leader.is_some();
    let concerned: BTreeSet<ShardId> = ids
        .iter()
        .filter_map(|id| Some(catalogue.entry(*id)?.shard))
        .collect();
    // Those that stay without one are refused below, each for itself.
    let _ = broker
        .wait_until(|| concerned.iter().copied().all(is_led), LED_WAIT_MS)
        .await;
    let plan = plan(&catalogue, is_led, changes);
    let mut refused = plan.refused;
    for (shard, change) in plan.shards {
        if let Err(error) = change_shard(broker, &catalogue, shard, change).await {
            let of_shard = |id: &&PartitionId| {
                let entry = catalogue.entry(**id);
                entry.is_some_and(|entry| entry.shard == shard)
            };
            for id in ids.iter().filter(of_shard) {
                refused.insert(*id, error.clone());
            }
        }
    }
    refused.extend(change_partitions(broker, &plan.partitions).await);
    let result = |id: PartitionId| match refused.get(&id) {
        Some(error) => (id, Err(error.clone())),
        None => (id, Ok(())),
    };
    ids.into_iter().map(result).collect()
}

async fn change_shard(
    broker: &Broker,
    catalogue: &Catalogue,
    shard: ShardId,
    change: Wanted,
) -> Result<(), BrokerError> {
    let factor = change.as_ref().map(|_| Factor::ByHand);
    let entry = catalogue.shards.get(&shard);
    let command = Command::SetTarget {
        shard,
        before: entry.map(|entry| wanted_list(entry).to_vec()),
        target: change,
        factor,
    };
    broker.change_catalogue(&command).await.map(|_| ())
}

async fn change_partitions(broker: &Broker, changes: &BTreeMap<PartitionId, Change>) -> Refused {
    let mut refused = Refused::new();
    let lists: BTreeSet<&Vec<NodeId>> = changes
        .values()
        .filter_map(|change| match change {
            Change::Move { list, .. } => Some(list),
            Change::Nothing | Change::Stay(_) => None,
        })
        .collect();
    let _administration = broker.inner.administration.lock().await;
    let shards = match lists.is_empty() {
        true => Ok(BTreeMap::new()),
        false => shards_of(broker, &lists).await,
    };
    for (id, change) in changes {
        let changed = match (change, &shards) {
            (Change::Nothing, _) => Ok(()),
            (Change::Stay(generation), _) => cancel(broker, *id, *generation).await,
            (Change::Move { .. }, Err(error)) => Err(error.clone()),
            (Change::Move { instead_of, list }, Ok(shards)) => {
                begin(broker, *id, *instead_of, shards[list]).await
            }
        };
        if let Err(error) = changed {
            refused.insert(*id, error);
        }
    }
    refused
}

async fn cancel(
    broker: &Broker,
    partition: PartitionId,
    generation: u32,
) -> Result<(), BrokerError> {
    let command = Command::CancelMove {
        partition,
        generation,
    };
    broker.change_catalogue(&command).await.map(|_| ())
}

async fn begin(
    broker: &Broker,
    partition: PartitionId,
    instead_of: Option<u32>,
    to: ShardId,
) -> Result<(), BrokerError> {
    if let Some(generation) = instead_of {
        cancel(broker, partition, generation).await?;
    }
    let entry = broker.catalogue().entry(partition);
    let entry = entry.ok_or(BrokerError::UnknownTopicOrPartition)?;
    let command = Command::BeginMove {
        partition,
        from: entry.generation,
        to,
        last: Some(entry.last_generation),
    };
    broker.change_catalogue(&command).await.map(|_| ())
}

/// The shards by hand that have these lists, made where there are none.
async fn shards_of<'a>(
    broker: &Broker,
    lists: &BTreeSet<&'a Vec<NodeId>>,
) -> Result<BTreeMap<&'a Vec<NodeId>, ShardId>, BrokerError> {
    for _ in 0..SHARD_ATTEMPTS {
        let catalogue = broker.catalogue();
        let missing = new_by_hand(&catalogue, lists.iter().copied())?;
        if missing.is_empty() {
            let shard = |list: &&'a Vec<NodeId>| Some((*list, shard_by_hand(&catalogue, list)?));
            return Ok(lists.iter().filter_map(shard).collect());
        }
        let next = ShardId(catalogue.next_shard_id);
        match broker.make_shards(next, missing).await {
            // Made, or somebody else made some meanwhile: look again.
            Ok(()) | Err(BrokerError::Conflict { .. }) => {
                broker.catalogue_beyond(next).await;
            }
            Err(error) => return Err(error),
        }
    }
    Err(BrokerError::LeaderNotAvailable)
}

/// What a request comes to, and which partitions it is refused for.
fn plan(
    catalogue: &Catalogue,
    is_led: impl Fn(ShardId) -> bool,
    changes: Vec<(PartitionId, Wanted)>,
) -> Plan {
    let mut plan = Plan::default();
    let mut named: BTreeMap<ShardId, Vec<(PartitionId, Wanted)>> = BTreeMap::new();
    for (id, list) in changes {
        let Some(entry) = catalogue.entry(id) else {
            plan.refused
                .insert(id, BrokerError::UnknownTopicOrPartition);
            continue;
        };
        if let Err(error) = check(catalogue, id, list.as_deref()) {
            plan.refused.insert(id, error);
        } else if entry.moving.is_some() {
            plan.partitions.insert(id, redirect(catalogue, entry, list));
        } else {
            named.entry(entry.shard).or_default().push((id, list));
        }
    }
    let carried = carried_by(catalogue, named.keys().copied().collect());
    for (id, named) in named {
        let first = &named[0].1;
        let is_whole = named.len() == carried[&id] && named.iter().all(|(_, list)| list == first);
        if is_whole {
            match shard_change(catalogue, (id, is_led(id)), first) {
                Ok(change) => {
                    plan.shards.insert(id, change);
                }
                Err(error) => {
                    let refused = named.iter().map(|(id, _)| (*id, error.clone()));
                    plan.refused.extend(refused);
                }
            }
            continue;
        }
        for (partition, list) in named {
            let Some(list) = list else {
                // A change is of the whole shard, so any of its partitions takes it back.
                match shard_change(catalogue, (id, is_led(id)), &None) {
                    Ok(change) => {
                        plan.shards.insert(id, change);
                    }
                    Err(error) => {
                        plan.refused.insert(partition, error);
                    }
                }
                continue;
            };
            let present = catalogue.shards.get(&id).map(wanted_list);
            let change = match present == Some(list.as_slice()) {
                true => Change::Nothing,
                false => Change::Move {
                    instead_of: None,
                    list,
                },
            };
            plan.partitions.insert(partition, change);
        }
    }
    plan
}

/// Why a partition cannot have this list, if it cannot.
fn check(
    catalogue: &Catalogue,
    id: PartitionId,
    list: Option<&[NodeId]>,
) -> Result<(), BrokerError> {
    let Some(list) = list else { return Ok(()) };
    check_list(catalogue, list).map_err(invalid_replicas)?;
    let topic = catalogue.topic_by_id(id.topic);
    let required = topic.map_or(1, |topic| topic.config.min_insync_replicas);
    if usize::try_from(required).is_ok_and(|required| list.len() < required) {
        return Err(invalid_replicas(format!(
            "the topic's min.insync.replicas is {required}, and {} replicas would take no records",
            list.len()
        )));
    }
    Ok(())
}

/// What becomes of a partition that is being moved.
fn redirect(catalogue: &Catalogue, entry: PartitionEntry, list: Wanted) -> Change {
    let Some(moving) = entry.moving else {
        return Change::Nothing;
    };
    let has = |shard: ShardId, list: &[NodeId]| {
        let shard = catalogue.shards.get(&shard);
        shard.is_some_and(|shard| wanted_list(shard) == list)
    };
    match list {
        None => Change::Stay(moving.generation),
        Some(list) if has(entry.shard, &list) => Change::Stay(moving.generation),
        Some(list) if has(moving.to, &list) => Change::Nothing,
        Some(list) => Change::Move {
            instead_of: Some(moving.generation),
            list,
        },
    }
}

/// How many partitions these shards carry, or are about to.
fn carried_by(catalogue: &Catalogue, shards: BTreeSet<ShardId>) -> BTreeMap<ShardId, usize> {
    let mut carried: BTreeMap<ShardId, usize> = shards.into_iter().map(|id| (id, 0)).collect();
    let mut count = |shard: ShardId| {
        if let Some(count) = carried.get_mut(&shard) {
            *count += 1;
        }
    };
    for topic in catalogue.topics.values() {
        for entry in &topic.partitions {
            count(entry.shard);
            if let Some(moving) = entry.moving {
                count(moving.to);
            }
        }
    }
    carried
}

fn shard_change(
    catalogue: &Catalogue,
    (id, is_led): (ShardId, bool),
    list: &Wanted,
) -> Result<Wanted, BrokerError> {
    let shard = catalogue.shards.get(&id);
    let shard = shard.ok_or(BrokerError::LeaderNotAvailable)?;
    match list {
        None if shard.target.is_none() => Err(BrokerError::InvalidRequest {
            reason: format!("shard {id} of this partition is not being changed"),
        }),
        None => Ok(None),
        Some(list) if wanted_list(shard) == list => Ok(Some(list.clone())),
        // Only a leader changes members; and once a change is asked for nobody may begin a shard
        // that was never led.
        Some(_) if !is_led => Err(invalid_replicas(format!(
            "shard {id} of this partition has no leader now, and only a leader can give it other \
             replicas: wait until it has one, or start the nodes of its replicas again"
        ))),
        Some(list) => Ok(Some(list.clone())),
    }
}

/// Partitions whose replicas are being changed.
pub(crate) fn list_reassignments(broker: &Broker) -> Vec<Reassignment> {
    reassignments(&broker.catalogue())
}

/// All replicas of a partition that gets others: those that come and those that go, apart too.
fn reassignment(partition: PartitionId, before: &[NodeId], after: &[NodeId]) -> Reassignment {
    let without = |list: &[NodeId], other: &[NodeId]| -> Vec<NodeId> {
        let mut list = list.to_vec();
        list.retain(|node| !other.contains(node));
        list
    };
    let removing = without(before, after);
    Reassignment {
        partition,
        replicas: after.iter().chain(&removing).copied().collect(),
        adding: without(after, before),
        removing,
    }
}

fn reassignments(catalogue: &Catalogue) -> Vec<Reassignment> {
    let mut found = Vec::new();
    for topic in catalogue.topics.values() {
        for (index, entry) in (0..).zip(&topic.partitions) {
            let partition = PartitionId {
                topic: topic.id,
                index,
            };
            let Some(shard) = catalogue.shards.get(&entry.shard) else {
                continue;
            };
            let to = entry
                .moving
                .and_then(|moving| catalogue.shards.get(&moving.to));
            if let Some(to) = to {
                let after = wanted_list(to);
                found.push(reassignment(partition, &shard.replicas, after));
            } else if let Some(target) = &shard.target {
                let known = reassignment(partition, &shard.replicas, target);
                // Another order alone moves no data.
                if !known.adding.is_empty() || !known.removing.is_empty() {
                    found.push(known);
                }
            }
        }
    }
    found
}

#[cfg(test)]
#[path = "reassign_test.rs"]
mod tests;

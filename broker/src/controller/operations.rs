//! What operators and Kafka's tools ask of the cluster: moves of leaders and replicas, and how the
//! catalogue's shard and this node's disk stand.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use storage::{NodeId, PartitionId, ShardId};

use super::plan::{CATALOGUE_SHARD, preferred, wanted_list};
use crate::catalogue::command::Command;
use crate::catalogue::{Catalogue, Factor, Shard};
use crate::cluster::{Election, LogDir, QuorumReplica, QuorumStatus, Reassignment};
use crate::placement::check_list;
use crate::{Broker, BrokerError};

/// Time between two leaders moved by one request: clients follow one after the other.
const REBALANCE_PAUSE: Duration = Duration::from_millis(100);
/// How long a change of replicas waits for a shard's leader, which an election or a report on its
/// way may be about to name.
const LED_WAIT_MS: i64 = 3_000;

fn conflict(reason: String) -> BrokerError {
    BrokerError::Conflict { reason }
}

fn invalid_replicas(reason: String) -> BrokerError {
    BrokerError::InvalidReplicaAssignment { reason }
}

/// Makes another replica of a shard its leader; nothing when it leads already.
pub(crate) async fn transfer_leader(
    broker: &Broker,
    shard: ShardId,
    to: NodeId,
) -> Result<(), BrokerError> {
    let catalogue = broker.catalogue();
    let entry = catalogue
        .shards
        .get(&shard)
        .ok_or_else(|| conflict(format!("there is no shard {shard}")))?;
    if !catalogue.nodes.contains_key(&to) {
        return Err(BrokerError::UnknownNode { node: to });
    }
    let seen = broker.shard_seen(shard);
    if !entry.concerns(to) || !seen.voters.contains(&to) {
        let voters: Vec<String> = seen.voters.iter().map(ToString::to_string).collect();
        return Err(conflict(format!(
            "node {to} does not vote in shard {shard}: its voters are {}",
            voters.join(", ")
        )));
    }
    let leader = seen.leader.ok_or(BrokerError::LeaderNotAvailable)?;
    if leader == to {
        return Ok(());
    }
    broker.ask_transfer(leader, shard, to).await
}

/// The node that should lead a shard, when it can and does not.
fn heir(broker: &Broker, catalogue: &Catalogue, shard: &Shard) -> Option<NodeId> {
    let seen = broker.shard_seen(shard.id);
    let to = preferred(catalogue, shard)?;
    let can = broker.is_alive(to) && seen.in_sync.contains(&to) && seen.voters.contains(&to);
    (can && seen.leader.is_some_and(|leader| leader != to)).then_some(to)
}

/// Gives every shard back to its preferred leader where that is in sync; answers how many moved.
pub(crate) async fn rebalance_leaders(broker: &Broker) -> Result<usize, BrokerError> {
    let catalogue = broker.catalogue();
    let mut moved = 0;
    for shard in catalogue.shards.values() {
        let Some(to) = heir(broker, &catalogue, shard) else {
            continue;
        };
        match transfer_leader(broker, shard.id, to).await {
            Ok(()) => moved += 1,
            Err(BrokerError::ShuttingDown) => return Err(BrokerError::ShuttingDown),
            Err(error) => {
                tracing::warn!(shard = %shard.id, %to, %error, "a leader could not be moved");
            }
        }
        tokio::time::sleep(REBALANCE_PAUSE).await;
    }
    Ok(moved)
}

/// Elects the preferred leaders of partitions, which means of their shards.
pub(crate) async fn elect_leaders(
    broker: &Broker,
    kind: Election,
    partitions: Option<Vec<PartitionId>>,
) -> Result<Vec<(PartitionId, Result<(), BrokerError>)>, BrokerError> {
    if kind == Election::Unclean {
        return Err(BrokerError::InvalidRequest {
            reason: "no replica that lacks acknowledged records is ever made leader here; a \
                     partition without a majority of its replicas comes back with them"
                .to_owned(),
        });
    }
    let catalogue = broker.catalogue();
    let partitions = partitions.unwrap_or_else(|| all_partitions(&catalogue));
    let shards: BTreeSet<ShardId> = partitions
        .iter()
        .filter_map(|id| Some(catalogue.entry(*id)?.shard))
        .collect();
    let elections = shards.into_iter().map(|id| {
        let catalogue = &catalogue;
        async move { (id, elect_preferred(broker, catalogue, id).await) }
    });
    let elected: BTreeMap<ShardId, Result<(), BrokerError>> =
        join_all(elections).await.into_iter().collect();
    let result = |id: PartitionId| match catalogue.entry(id) {
        Some(entry) => (id, elected[&entry.shard].clone()),
        None => (id, Err(BrokerError::UnknownTopicOrPartition)),
    };
    Ok(partitions.into_iter().map(result).collect())
}

async fn elect_preferred(
    broker: &Broker,
    catalogue: &Catalogue,
    id: ShardId,
) -> Result<(), BrokerError> {
    let shard = catalogue.shards.get(&id);
    let shard = shard.ok_or(BrokerError::LeaderNotAvailable)?;
    let to = preferred(catalogue, shard).ok_or(BrokerError::LeaderNotAvailable)?;
    transfer_leader(broker, id, to).await
}

fn all_partitions(catalogue: &Catalogue) -> Vec<PartitionId> {
    let of_topic = |topic: &std::sync::Arc<crate::catalogue::Topic>| {
        let id = topic.id;
        let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
        (0..count).map(move |index| PartitionId { topic: id, index })
    };
    catalogue.topics.values().flat_map(of_topic).collect()
}

/// A change of a shard that some request of partitions comes to.
type ShardChange = Option<Vec<NodeId>>;

/// Gives whole shards new replicas: a shard changes when the request names all its partitions, with
/// one and the same list.
pub(crate) async fn alter_reassignments(
    broker: &Broker,
    changes: Vec<(PartitionId, Option<Vec<NodeId>>)>,
) -> Vec<(PartitionId, Result<(), BrokerError>)> {
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
    let (shards, mut refused) = by_shard(&catalogue, is_led, changes);
    for (shard, change) in shards {
        let (target, factor) = match change {
            Some(list) => (Some(list), Some(Factor::ByHand)),
            None => (None, None),
        };
        let command = Command::SetTarget {
            shard,
            before: catalogue
                .shards
                .get(&shard)
                .map(|shard| wanted_list(shard).to_vec()),
            target,
            factor,
        };
        if let Err(error) = broker.change_catalogue(&command).await {
            let of_shard = |id: &&PartitionId| {
                let entry = catalogue.entry(**id);
                entry.is_some_and(|entry| entry.shard == shard)
            };
            for id in ids.iter().filter(of_shard) {
                refused.insert(*id, error.clone());
            }
        }
    }
    let result = |id: PartitionId| match refused.get(&id) {
        Some(error) => (id, Err(error.clone())),
        None => (id, Ok(())),
    };
    ids.into_iter().map(result).collect()
}

type Refused = BTreeMap<PartitionId, BrokerError>;

/// What a request of partitions comes to for shards, and which partitions it is refused for.
fn by_shard(
    catalogue: &Catalogue,
    is_led: impl Fn(ShardId) -> bool,
    changes: Vec<(PartitionId, Option<Vec<NodeId>>)>,
) -> (BTreeMap<ShardId, ShardChange>, Refused) {
    let mut refused = Refused::new();
    let mut named: BTreeMap<ShardId, Vec<(PartitionId, ShardChange)>> = BTreeMap::new();
    for (id, list) in changes {
        let problem = list
            .as_ref()
            .and_then(|list| check_list(catalogue, list).err());
        match (catalogue.entry(id), problem) {
            (None, _) => {
                refused.insert(id, BrokerError::UnknownTopicOrPartition);
            }
            (Some(_), Some(problem)) => {
                refused.insert(id, invalid_replicas(problem));
            }
            (Some(entry), None) => named.entry(entry.shard).or_default().push((id, list)),
        }
    }
    let carried = partitions_by_shard(catalogue, named.keys().copied().collect());
    let mut shards = BTreeMap::new();
    for (id, named) in named {
        match shard_change(catalogue, (id, is_led(id)), &named, carried[&id]) {
            Ok(change) => {
                shards.insert(id, change);
            }
            Err(error) => refused.extend(named.iter().map(|(id, _)| (*id, error.clone()))),
        }
    }
    (shards, refused)
}

fn partitions_by_shard(
    catalogue: &Catalogue,
    shards: BTreeSet<ShardId>,
) -> BTreeMap<ShardId, usize> {
    let mut carried: BTreeMap<ShardId, usize> = shards.into_iter().map(|id| (id, 0)).collect();
    for topic in catalogue.topics.values() {
        for entry in &topic.partitions {
            if let Some(count) = carried.get_mut(&entry.shard) {
                *count += 1;
            }
        }
    }
    carried
}

fn shard_change(
    catalogue: &Catalogue,
    (id, is_led): (ShardId, bool),
    named: &[(PartitionId, ShardChange)],
    carried: usize,
) -> Result<ShardChange, BrokerError> {
    let first = &named[0].1;
    if named.iter().any(|(_, list)| list != first) {
        return Err(invalid_replicas(format!(
            "these partitions share shard {id} and move together: give all of them the same \
             replicas"
        )));
    }
    let shard = catalogue.shards.get(&id);
    let shard = shard.ok_or(BrokerError::LeaderNotAvailable)?;
    match first {
        None if shard.target.is_none() => Err(BrokerError::InvalidRequest {
            reason: format!("shard {id} of this partition is not being changed"),
        }),
        // A change is of the whole shard, so any of its partitions takes it back.
        None => Ok(None),
        Some(list) if wanted_list(shard) == list => Ok(Some(list.clone())),
        Some(_) if named.len() != carried => Err(invalid_replicas(format!(
            "the partition shares shard {id} with {} others, and this version moves whole shards \
             only: name all {carried} partitions of the shard, with the same replicas",
            carried - 1
        ))),
        // Only a leader changes members; and once a change is asked for nobody may begin a shard
        // that was never led.
        Some(_) if !is_led => Err(invalid_replicas(format!(
            "shard {id} of this partition has no leader now, and only a leader can give it other \
             replicas: wait until it has one, or start the nodes of its replicas again"
        ))),
        Some(list) => Ok(Some(list.clone())),
    }
}

/// Partitions whose shard's replicas are being changed.
pub(crate) fn list_reassignments(broker: &Broker) -> Vec<Reassignment> {
    reassignments(&broker.catalogue())
}

/// All replicas of a shard that is being changed, those that come and those that go.
type Moving = (Vec<NodeId>, Vec<NodeId>, Vec<NodeId>);

fn reassignments(catalogue: &Catalogue) -> Vec<Reassignment> {
    let changing: BTreeMap<ShardId, Moving> = catalogue
        .shards
        .values()
        .filter_map(|shard| {
            let target = shard.target.as_ref()?;
            let without = |list: &[NodeId], other: &[NodeId]| -> Vec<NodeId> {
                let mut list = list.to_vec();
                list.retain(|node| !other.contains(node));
                list
            };
            let adding = without(target, &shard.replicas);
            let removing = without(&shard.replicas, target);
            // Another order alone moves no data.
            let is_move = !adding.is_empty() || !removing.is_empty();
            let all = target.iter().chain(&removing).copied().collect();
            is_move.then_some((shard.id, (all, adding, removing)))
        })
        .collect();
    let mut found = Vec::new();
    for topic in catalogue.topics.values() {
        for (index, entry) in (0..).zip(&topic.partitions) {
            if let Some((replicas, adding, removing)) = changing.get(&entry.shard) {
                found.push(Reassignment {
                    partition: PartitionId {
                        topic: topic.id,
                        index,
                    },
                    replicas: replicas.clone(),
                    adding: adding.clone(),
                    removing: removing.clone(),
                });
            }
        }
    }
    found
}

/// The catalogue's shard. Only its leader knows how far the others are.
pub(crate) fn quorum_status(broker: &Broker) -> QuorumStatus {
    let shard = &broker.inner.catalogue_shard;
    let seen = broker.shard_seen(CATALOGUE_SHARD);
    let progress = shard.progress();
    let end = |index: Option<storage::LogIndex>| {
        index.and_then(|index| i64::try_from(index.0.saturating_add(1)).ok())
    };
    let last = progress.last.map(|last| last.index);
    let now_ms = broker.clock().wall_ms();
    let known = shard.replicas().unwrap_or_default();
    let replica = |node: &NodeId| {
        let own = *node == broker.node_id();
        let progress = known.get(node);
        let answered_ms = progress
            .and_then(|progress| progress.acknowledged_ms_ago)
            .and_then(|ago| i64::try_from(ago).ok())
            .map(|ago| now_ms.saturating_sub(ago));
        let matched = progress.and_then(|progress| progress.matched);
        let has_all = matched.is_some() && matched >= progress_applied(broker);
        QuorumReplica {
            node: *node,
            log_end: if own { end(last) } else { end(matched) },
            last_fetch_ms: answered_ms,
            last_caught_up_ms: answered_ms.filter(|_| has_all),
        }
    };
    QuorumStatus {
        leader: seen.leader,
        term: seen.term,
        high_watermark: end(progress.applied.map(|applied| applied.index)).unwrap_or_default(),
        voters: seen.voters.iter().map(replica).collect(),
        observers: seen.learners.iter().map(replica).collect(),
    }
}

fn progress_applied(broker: &Broker) -> Option<storage::LogIndex> {
    let applied = broker.inner.catalogue_shard.progress().applied;
    applied.map(|applied| applied.index)
}

/// Where partitions are on this node's disk.
pub(crate) fn log_dirs(broker: &Broker) -> Vec<LogDir> {
    let path = broker.inner.data_dir.path().to_owned();
    let space = broker.inner.disk.space(&path);
    let failed = broker.failure().borrow().clone();
    let error = failed.or_else(|| space.as_ref().err().map(ToString::to_string));
    let space = space.ok();
    // While a partition moves, this node may hold two logs of it.
    let mut partitions: BTreeMap<PartitionId, u64> = BTreeMap::new();
    for (log, bytes) in broker.inner.logs.usage() {
        *partitions.entry(log.partition).or_default() += bytes;
    }
    vec![LogDir {
        path,
        error,
        total_bytes: space.map(|(total, _)| total),
        usable_bytes: space.map(|(_, usable)| usable),
        partitions: partitions.into_iter().collect(),
    }]
}

#[cfg(test)]
#[path = "operations_test.rs"]
mod tests;

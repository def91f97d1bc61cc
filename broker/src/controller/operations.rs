//! What operators and Kafka's tools ask of the cluster: moves of leaders, and how the catalogue's
//! shard and this node's disk stand.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use storage::{NodeId, PartitionId, ShardId};

use super::plan::{CATALOGUE_SHARD, preferred};
use crate::catalogue::{Catalogue, Shard};
use crate::cluster::{Election, LogDir, QuorumReplica, QuorumStatus};
use crate::{Broker, BrokerError};

/// Time between two leaders moved by one request: clients follow one after the other.
const REBALANCE_PAUSE: Duration = Duration::from_millis(100);
/// How long a transfer waits until it is known who leads.
const LED_WAIT_MS: i64 = 3_000;

fn conflict(reason: String) -> BrokerError {
    BrokerError::Conflict { reason }
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
    // One that has just changed is known in a moment.
    let leader = || broker.shard_seen(shard).leader;
    let _ = broker.wait_until(|| leader().is_some(), LED_WAIT_MS).await;
    let leader = leader().ok_or(BrokerError::LeaderNotAvailable)?;
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

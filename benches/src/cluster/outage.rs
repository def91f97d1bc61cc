//! When each partition takes a write: one record to every partition, again and again to those that
//! have not taken one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use kafka_client::api::{Acks, ProducePartition, ProduceRequest};
use kafka_client::{ClusterClient, ErrorCode};
use storage::clock::Clock;

use super::load::batch;
use super::{Failure, PATIENCE};

/// Partitions in one request.
const PARTITIONS_PER_REQUEST: usize = 1_000;
const PAUSE: Duration = Duration::from_millis(5);

/// When each partition took a write.
pub(crate) struct Writable {
    at_ms: Vec<i64>,
}

/// How long each partition was closed, shortest first.
pub(crate) struct Closed {
    ms: Vec<i64>,
}

impl Writable {
    /// Counted from a moment.
    pub(crate) fn since(&self, from_ms: i64) -> Closed {
        let mut ms: Vec<i64> = self.at_ms.iter().map(|at| at - from_ms).collect();
        ms.sort_unstable();
        Closed { ms }
    }
}

impl Closed {
    /// In words.
    pub(crate) fn summary(&self) -> String {
        let at = |share: usize| self.ms[(self.ms.len() - 1) * share / 100];
        format!(
            "written again p50 {} ms, p99 {} ms, last {} ms",
            at(50),
            at(99),
            at(100)
        )
    }
}

/// Writes to every partition until each has taken a record.
pub(crate) async fn all_writable(
    clock: &Clock,
    client: &ClusterClient,
    topic: &str,
    partitions: i32,
) -> Result<Writable, Failure> {
    let began_ms = clock.monotonic_ms();
    let mut closed: BTreeSet<i32> = (0..partitions).collect();
    let mut at_ms = Vec::new();
    while !closed.is_empty() {
        let took = round(client, topic, &closed).await;
        let now_ms = clock.monotonic_ms();
        at_ms.extend(took.iter().map(|_| now_ms));
        closed.retain(|partition| !took.contains(partition));
        let waited = u128::try_from(now_ms - began_ms).unwrap_or(0);
        if waited > PATIENCE.as_millis() {
            return Err(format!(
                "{} partitions of {topic} take no write",
                closed.len()
            ));
        }
        if took.is_empty() {
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(Writable { at_ms })
}

/// One try of all these partitions; those that took the record.
async fn round(client: &ClusterClient, topic: &str, closed: &BTreeSet<i32>) -> BTreeSet<i32> {
    let Ok(metadata) = client.metadata(Some(&[topic])).await else {
        return BTreeSet::new();
    };
    let mut by_leader: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for partition in metadata.topics.iter().flat_map(|topic| &topic.partitions) {
        if partition.leader >= 0 && closed.contains(&partition.index) {
            by_leader
                .entry(partition.leader)
                .or_default()
                .push(partition.index);
        }
    }
    let requests = by_leader.iter().flat_map(|(leader, partitions)| {
        partitions
            .chunks(PARTITIONS_PER_REQUEST)
            .map(|partitions| send(client, *leader, topic, partitions))
    });
    join_all(requests).await.into_iter().flatten().collect()
}

async fn send(client: &ClusterClient, leader: i32, topic: &str, partitions: &[i32]) -> Vec<i32> {
    let Ok(connection) = client.node(leader).await else {
        return Vec::new();
    };
    let batch = batch(64);
    let request = ProduceRequest {
        transactional_id: None,
        acks: Acks::All,
        timeout_ms: 3_000,
        partitions: partitions
            .iter()
            .map(|partition| ProducePartition {
                topic: topic.to_owned(),
                partition: *partition,
                records: Some(batch.clone()),
            })
            .collect(),
    };
    match connection.produce(&request).await {
        Ok(produced) => produced
            .iter()
            .filter(|partition| partition.error == ErrorCode::NONE)
            .map(|partition| partition.partition)
            .collect(),
        Err(_) => {
            client.lost(&connection);
            Vec::new()
        }
    }
}

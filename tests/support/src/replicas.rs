//! Reading a partition from each of its replicas, and comparing: byte for byte, or, where each cleans
//! by itself, as `jepsen` does.

use bytes::{Bytes, BytesMut};
use jepsen_check::compacted::{self, Record};
use kafka_client::ErrorCode;
use kafka_client::api::{FetchOptions, FetchPartition};

use crate::cluster::Cluster;
use crate::deadline::eventually_async;
use crate::load::Loaded;

/// Every batch of a partition below `end`, as one node has it, whether it leads or follows.
///
/// # Panics
///
/// When that node does not have all of it in time.
pub async fn read_replica(
    cluster: &Cluster,
    node: usize,
    topic: &str,
    partition: i32,
    end: i64,
) -> Bytes {
    let client = cluster.client();
    let address = cluster.kafka(node);
    let mut all = BytesMut::new();
    let mut offset = 0;
    while offset < end {
        let what = format!(
            "node {} to have {topic} {partition} from {offset}",
            node + 1
        );
        let records = eventually_async(&what, async || {
            let connection = client.connect(&address).await.ok()?;
            let wanted = [FetchPartition::new(topic, partition, offset)];
            let options = FetchOptions {
                wait_ms_max: 50,
                ..FetchOptions::default()
            };
            let Ok(mut answer) = connection.fetch(&wanted, options).await else {
                client.lost(&connection);
                return None;
            };
            let fetched = answer.partitions.remove(0);
            let is_there = fetched.error == ErrorCode::NONE && !fetched.records.is_empty();
            is_there.then_some(fetched.records)
        })
        .await;
        for batch in broker::record::split_batches(&records).expect("whole batches") {
            let last = last_offset(&batch);
            if last >= offset && offset < end {
                all.extend_from_slice(&batch);
                offset = last + 1;
            }
        }
    }
    all.freeze()
}

/// As its header says: what stood there may have been cleaned away.
fn last_offset(batch: &Bytes) -> i64 {
    let base = batch[..8].try_into().expect("eight bytes");
    let delta = batch[23..27].try_into().expect("four bytes");
    i64::from_be_bytes(base) + i64::from(i32::from_be_bytes(delta))
}

/// Up to where a partition is readable, and who has it.
async fn end_and_replicas(cluster: &Cluster, topic: &str, partition: i32) -> (i64, Vec<i32>) {
    let client = cluster.client();
    eventually_async("a leader that serves", async || {
        let connection = client.leader(topic, partition).await.ok()?;
        let wanted = [FetchPartition::new(topic, partition, 0)];
        let options = FetchOptions {
            wait_ms_max: 0,
            ..FetchOptions::default()
        };
        let Ok(mut answer) = connection.fetch(&wanted, options).await else {
            client.lost(&connection);
            client.moved(topic, partition, None);
            return None;
        };
        let fetched = answer.partitions.remove(0);
        if fetched.error != ErrorCode::NONE {
            client.moved(topic, partition, None);
            return None;
        }
        let metadata = client.metadata(Some(&[topic])).await.ok()?;
        let mut partitions = metadata.topics.into_iter().next()?.partitions.into_iter();
        let told = partitions.find(|told| told.index == partition)?;
        Some((fetched.high_watermark, told.replicas))
    })
    .await
}

/// The nodes that run and have a replica.
fn running(cluster: &Cluster, replicas: &[i32]) -> Vec<usize> {
    let running = cluster.running().into_iter().filter(|node| {
        let id = cluster.known_id(*node);
        let id = id.and_then(|id| i32::try_from(id).ok());
        id.is_some_and(|id| replicas.contains(&id))
    });
    running.collect()
}

/// Checks that the replicas of each partition of a compacted topic agree, none of whose tombstones is
/// past its time. Answers how many records were compared.
///
/// # Panics
///
/// When that is not so.
pub async fn check_compacted_replicas(cluster: &Cluster, topic: &str) -> usize {
    let client = cluster.client();
    let count = eventually_async("the topic's partitions", async || {
        let metadata = client.metadata(Some(&[topic])).await.ok()?;
        let count = metadata.topics.into_iter().next()?.partitions.len();
        (count > 0).then_some(count)
    })
    .await;
    let mut compared = 0;
    for partition in (0..).take(count) {
        let (end, replicas) = end_and_replicas(cluster, topic, partition).await;
        let mut all: Vec<(usize, Vec<Record>)> = Vec::new();
        for node in running(cluster, &replicas) {
            let bytes = read_replica(cluster, node, topic, partition, end).await;
            let records = keyed(&bytes);
            for (other, expected) in &all {
                let found = compacted::compare(expected, &records, i64::MIN);
                assert_eq!(
                    found,
                    None,
                    "nodes {} and {} differ in {topic} {partition}",
                    other + 1,
                    node + 1
                );
                compared += records.len();
            }
            all.push((node, records));
        }
        assert!(!all.is_empty(), "no replica of {topic} {partition} runs");
    }
    compared
}

fn keyed(bytes: &Bytes) -> Vec<Record> {
    let batches = broker::record::split_batches(bytes).expect("whole batches");
    let decoded = batches
        .iter()
        .flat_map(|batch| broker::record::decode_batch(batch, 1 << 30).expect("records"));
    let record = |record: broker::record::Record| {
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        Record::new(record.offset, record.timestamp_ms, key, value)
    };
    decoded.map(record).collect()
}

/// Checks that every acknowledged record is there, at its offset, on each of its partition's
/// replicas, and that the replicas are equal byte for byte. Answers how many records there are.
///
/// # Panics
///
/// When that is not so.
pub async fn check_replicas(cluster: &Cluster, topic: &str, loaded: &[Loaded]) -> i64 {
    let mut total = 0;
    for Loaded { witness, .. } in loaded {
        let partition = witness.partition();
        let (end, replicas) = end_and_replicas(cluster, topic, partition).await;
        let mut first: Option<(usize, Bytes)> = None;
        for node in running(cluster, &replicas) {
            let bytes = read_replica(cluster, node, topic, partition, end).await;
            match &first {
                None => {
                    total += witness.check_batches(&bytes);
                    first = Some((node, bytes));
                }
                Some((other, expected)) => assert!(
                    *expected == bytes,
                    "nodes {} and {} differ in {topic} {partition}",
                    other + 1,
                    node + 1
                ),
            }
        }
        assert!(first.is_some(), "no replica of {topic} {partition} runs");
    }
    total
}

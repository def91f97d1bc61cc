//! Reading a partition from each of its replicas, and comparing.

use bytes::{Bytes, BytesMut};
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
            let decoded = broker::record::decode_batch(&batch, 1 << 30).expect("records");
            let last = decoded.last().expect("a batch has records").offset;
            if last >= offset && offset < end {
                all.extend_from_slice(&batch);
                offset = last + 1;
            }
        }
    }
    all.freeze()
}

/// Checks that every acknowledged record is there, at its offset, on each of its partition's
/// replicas, and that the replicas are equal byte for byte. Answers how many records there are.
///
/// # Panics
///
/// When that is not so.
pub async fn check_replicas(cluster: &Cluster, topic: &str, loaded: &[Loaded]) -> i64 {
    let client = cluster.client();
    let mut total = 0;
    for Loaded { witness, .. } in loaded {
        let partition = witness.partition();
        let (end, replicas) = eventually_async("a leader that serves", async || {
            let connection = client.leader(topic, partition).await.ok()?;
            let wanted = [FetchPartition::new(topic, partition, 0)];
            let Ok(mut answer) = connection.fetch(&wanted, FetchOptions::default()).await else {
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
        .await;
        let mut first: Option<(usize, Bytes)> = None;
        let ids = cluster.running().into_iter().filter(|node| {
            let id = cluster
                .known_id(*node)
                .and_then(|id| i32::try_from(id).ok());
            id.is_some_and(|id| replicas.contains(&id))
        });
        for node in ids {
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

//! Compacted topics on three brokers in one process, over simulated disks.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use storage::clock::Clock;
use storage::partition_log::PartitionLog;
use storage::{Offset, PartitionId};

use crate::record::{
    BatchProducer, Compression, Record, decode_batch, encode_batch, split_batches,
};
use crate::stage::cluster_test::{
    TestNode, append, cluster_with, eventually, fetch, follower_position, leader, shard_of,
    stop_all, topic,
};
use crate::{AppendError, Broker, BrokerConfig, BrokerError};

/// Offsets and values by key.
type Last = BTreeMap<String, (i64, Option<Bytes>)>;

const COMPACTED: [(&str, &str); 3] = [
    ("cleanup.policy", "compact"),
    ("segment.bytes", "30000"),
    ("min.cleanable.dirty.ratio", "0.01"),
];

fn often(config: &mut BrokerConfig) {
    config.upkeep_interval_ms = 50;
    // So that reads go to files, and keys take several passes.
    config.tail_bytes_max = 50_000;
    config.compaction_memory_bytes = 24 * 20;
    // A slow machine may let a replica copy at any time.
    config.compaction_copied_ms = 0;
}

fn keyed(key: &str, value: Option<Bytes>) -> Record {
    Record {
        timestamp_ms: Clock::system().wall_ms(),
        key: Some(Bytes::copy_from_slice(key.as_bytes())),
        value,
        ..Record::default()
    }
}

/// Writes records, one batch.
async fn put(nodes: &[TestNode], partition: PartitionId, records: &[Record], last: &mut Last) {
    let batch = encode_batch(records, Compression::Lz4, BatchProducer::default());
    let appended = eventually("a batch is taken", async || {
        append(nodes, partition, batch.clone()).await.ok()
    })
    .await;
    for (record, offset) in records.iter().zip(appended.base_offset.0..) {
        let key = String::from_utf8(record.key.clone().unwrap().to_vec()).unwrap();
        last.insert(key, (offset, record.value.clone()));
    }
}

/// Writes every key again and again.
async fn rounds(
    nodes: &[TestNode],
    partition: PartitionId,
    rounds: std::ops::Range<u8>,
    last: &mut Last,
) {
    for round in rounds {
        for half in 0..2 {
            let of = |n: u8| keyed(&format!("k{n}"), Some(value(round, n)));
            let records: Vec<Record> = (half * 12..half * 12 + 12).map(of).collect();
            put(nodes, partition, &records, last).await;
        }
    }
}

/// Does not become smaller when it is packed.
fn value(round: u8, n: u8) -> Bytes {
    let mut state = u64::from(round) * 1_000 + u64::from(n) + 1;
    let bytes = (0..600).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    });
    bytes.collect()
}

fn log(node: &TestNode, partition: PartitionId) -> Option<PartitionLog> {
    let here = node.broker().inner.directory.get(partition)?;
    Some(here.log.clone())
}

/// What a replica gives to a reader that reads all of it: in order, and how many records.
async fn read(broker: &Broker, partition: PartitionId) -> Option<(Last, usize)> {
    let rack = broker.config().rack.clone();
    let (mut at, mut last, mut count) = (0, Last::new(), 0);
    loop {
        let fetched = fetch(broker, partition, at, rack.as_deref()).await.ok()?;
        if fetched.batches.is_empty() {
            return (at == fetched.high_watermark.0).then_some((last, count));
        }
        for batch in split_batches(&fetched.batches.concat().into()).unwrap() {
            let header = storage::batch::BatchHeader::parse(&batch).unwrap();
            let records = decode_batch(&batch, 1 << 20).unwrap();
            assert!(!records.is_empty(), "readers see no empty batch");
            for record in records.into_iter().filter(|one| one.offset >= at) {
                let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
                last.insert(key, (record.offset, record.value));
                count += 1;
            }
            at = header.last_offset().0 + 1;
        }
    }
}

/// Waits until a replica has cleaned all that is sealed and deleted what it replaced.
async fn cleaned(node: &TestNode, partition: PartitionId) {
    eventually("all that is sealed is clean", async || {
        let log = log(node, partition)?;
        let segments = log.segments();
        let sealed = segments.iter().filter(|one| one.sealed);
        let is_clean = sealed.clone().count() > 0 && sealed.clone().all(|one| one.cleaned);
        (is_clean && log.replaced_files().is_empty()).then_some(())
    })
    .await;
}

async fn has_last(node: &TestNode, partition: PartitionId, last: &Last) -> usize {
    eventually("the last record of each key is read", async || {
        let (found, count) = read(node.broker(), partition).await?;
        let present = last.iter().filter(|(_, (_, value))| value.is_some());
        let mut all = present.map(|(key, one)| found.get(key) == Some(one));
        all.all(|is_there| is_there).then_some(count)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_record_of_each_key_stays_on_every_replica_and_after_a_restart() {
    let mut nodes = cluster_with(500, often).await;
    let partition = topic(&nodes, "kept", &COMPACTED).await;
    let mut last = Last::new();
    rounds(&nodes, partition, 0..20, &mut last).await;
    for node in &nodes {
        cleaned(node, partition).await;
        // A part of the last rounds is in the open segment.
        let count = has_last(node, partition, &last).await;
        assert!(count < 24 * 6, "{count} records of {}", 24 * 20);
        let log = log(node, partition).unwrap();
        assert!(log.size_bytes() < 24 * 6 * 800, "{}", log.size_bytes());
        log.verify().unwrap();
    }
    // Without a key nothing is taken, and what is named is the record.
    let keyless = [keyed("k0", None), Record::default()];
    let batch = encode_batch(&keyless, Compression::Zstd, BatchProducer::default());
    let refused = append(&nodes, partition, batch).await.unwrap_err();
    let AppendError::InvalidRecord { records, .. } = &refused else {
        panic!("{refused}");
    };
    assert_eq!(
        records
            .iter()
            .map(|one| one.batch_index)
            .collect::<Vec<_>>(),
        [1]
    );
    // Nor can records be deleted by offset.
    let leads = leader(&nodes, partition).unwrap();
    let deleted = leads
        .delete_records(partition, Some(Offset(5)), 5_000)
        .await;
    assert!(matches!(deleted, Err(BrokerError::PolicyViolation { .. })));
    drop(leads);
    for node in &mut nodes {
        node.stop().await;
    }
    let restarting = nodes.iter_mut().map(TestNode::restart);
    futures_util::future::join_all(restarting).await;
    for node in &nodes {
        has_last(node, partition, &last).await;
        log(node, partition).unwrap().verify().unwrap();
    }
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tombstone_goes_after_its_time_and_does_not_come_back_where_a_replica_was_away() {
    let mut nodes = cluster_with(600, often).await;
    let configs = [&COMPACTED[..], &[("delete.retention.ms", "0")]].concat();
    let partition = topic(&nodes, "gone", &configs).await;
    let mut last = Last::new();
    rounds(&nodes, partition, 0..4, &mut last).await;
    let away = follower_position(&nodes, partition);
    let shard = shard_of(&nodes[away], partition);
    has_last(&nodes[away], partition, &last).await;
    nodes[away].stop().await;
    put(&nodes, partition, &[keyed("k3", None)], &mut last).await;
    // Until the tombstone is not read any more, from those that have cleaned it twice.
    let mut round = 4;
    let present: Vec<usize> = (0..3).filter(|at| *at != away).collect();
    for at in present {
        loop {
            let of = |n: u8| keyed(&format!("k{n}"), Some(value(round, n)));
            let records: Vec<Record> = (4..24).map(of).collect();
            for _ in 0..3 {
                put(&nodes, partition, &records, &mut last).await;
            }
            round += 1;
            cleaned(&nodes[at], partition).await;
            let (found, _) = read(nodes[at].broker(), partition)
                .await
                .unwrap_or_default();
            if !found.is_empty() && !found.contains_key("k3") {
                break;
            }
            assert!(round < 60, "the tombstone stays");
        }
    }
    let shard = leader(&nodes, partition)
        .unwrap()
        .data_shard(shard)
        .unwrap();
    let end = shard.shard.progress().last;
    eventually("what the absent replica lacks is purged", async || {
        shard.shard.checkpoint().await.ok();
        (shard.shard.progress().purged >= end).then_some(())
    })
    .await;
    nodes[away].restart().await;
    has_last(&nodes[away], partition, &last).await;
    let (found, _) = read(nodes[away].broker(), partition).await.unwrap();
    assert!(!found.contains_key("k3"), "what was deleted is back");
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_segment_of_a_compacted_topic_is_mended() {
    let nodes = cluster_with(700, often).await;
    let partition = topic(&nodes, "hurt", &COMPACTED).await;
    let mut last = Last::new();
    rounds(&nodes, partition, 0..12, &mut last).await;
    for node in &nodes {
        cleaned(node, partition).await;
    }
    let hurt = &nodes[follower_position(&nodes, partition)];
    let log = log(hurt, partition).unwrap();
    assert!(log.segments()[0].compacted);
    let dir = PathBuf::from("/data/partitions").join(partition.to_string());
    let disk = storage::disk::Disk::Sim(hurt.disk.clone());
    let names = disk.read_dir(&dir).unwrap();
    let name = names
        .into_iter()
        .map(|entry| entry.name)
        .find(|name| name.starts_with("00000000000000000000-") && name.ends_with(".log"));
    hurt.disk
        .flip_bit(&dir.join(name.unwrap()), 8 * 900)
        .unwrap();
    assert!(log.verify().is_err());
    eventually("the segment is whole again", async || {
        log.failed().is_none().then_some(())
    })
    .await;
    log.verify().unwrap();
    has_last(hurt, partition, &last).await;
    stop_all(nodes).await;
}

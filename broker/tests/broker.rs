//! A whole broker without any protocol: topics, appends, fetches and what a restart leaves of them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use broker::record::{BatchProducer, Compression, Record, decode_batch, encode_batch};
use broker::*;
use bytes::Bytes;
use storage::clock::Clock;
use storage::data_dir::DataDir;
use storage::disk::Disk;
use storage::{LeaderEpoch, NodeId, Offset, PartitionId};

const DEADLINE_MS: i64 = 20_000;

/// A directory of this test alone, removed when dropped.
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> TempDir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "braidlog-broker-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::SeqCst)
        );
        TempDir(std::env::temp_dir().join(name))
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // Nothing to report to: a directory left in the temporary folder harms no other test.
        let _ = Disk::Real.remove_dir_all(&self.0);
    }
}

async fn start(dir: &Path) -> Broker {
    start_with(
        dir,
        BrokerConfig {
            journal_file_bytes: 1 << 20,
            ..BrokerConfig::default()
        },
    )
    .await
}

async fn start_with(dir: &Path, config: BrokerConfig) -> Broker {
    let env = Env {
        clock: Clock::system(),
        disk: Disk::Real,
        seed: [1, 2, 3, 4],
    };
    let data_dir = DataDir::open(&Disk::Real, dir).expect("the directory is free");
    Broker::start_alone(config, env, data_dir)
        .await
        .expect("the broker starts")
}

async fn topic(broker: &Broker, name: &str, partitions: i32) -> PartitionId {
    topic_with(broker, name, partitions, &[]).await
}

async fn topic_with(
    broker: &Broker,
    name: &str,
    partitions: i32,
    configs: &[(&str, &str)],
) -> PartitionId {
    let new = NewTopic {
        name: name.to_owned(),
        partitions: Some(partitions),
        configs: configs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), Some((*value).to_owned())))
            .collect(),
        ..NewTopic::default()
    };
    let created = broker
        .create_topics(vec![new], false, DEADLINE_MS)
        .await
        .remove(0);
    PartitionId {
        topic: created.expect("created").id,
        index: 0,
    }
}

fn batch(values: &[&str], producer: BatchProducer) -> Bytes {
    let now = Clock::system().wall_ms();
    let records: Vec<Record> = values
        .iter()
        .map(|value| Record {
            timestamp_ms: now,
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            ..Record::default()
        })
        .collect();
    encode_batch(&records, Compression::None, producer)
}

async fn append(
    broker: &Broker,
    partition: PartitionId,
    values: &[&str],
    producer: BatchProducer,
) -> Result<Appended, AppendError> {
    broker
        .append(partition, batch(values, producer), RequiredAcks::All)
        .await?
        .await
}

async fn put(broker: &Broker, partition: PartitionId, values: &[&str]) -> i64 {
    let appended = append(broker, partition, values, BatchProducer::default()).await;
    appended.expect("appended").base_offset.0
}

fn request(partition: PartitionId, offset: i64) -> FetchRequest {
    FetchRequest {
        partitions: vec![FetchPartition {
            partition,
            offset: Offset(offset),
            current_leader_epoch: None,
            last_fetched_epoch: None,
            bytes_max: 1 << 20,
        }],
        bytes_min: 1,
        bytes_max: 1 << 20,
        wait_ms_max: 0,
        isolation: Isolation::ReadCommitted,
        client_rack: None,
    }
}

async fn fetch(broker: &Broker, request: FetchRequest) -> Result<FetchedPartition, BrokerError> {
    broker.fetch(request).await.remove(0).1
}

/// Offset and value of everything from `offset` on.
async fn read(broker: &Broker, partition: PartitionId, offset: i64) -> Vec<(i64, String)> {
    let fetched = fetch(broker, request(partition, offset))
        .await
        .expect("fetched");
    let joined: Bytes = fetched.batches.concat().into();
    let batches = record::split_batches(&joined).expect("whole batches");
    let records = batches
        .iter()
        .flat_map(|batch| decode_batch(batch, 1 << 20).expect("records"));
    records
        .filter(|record| record.offset >= offset)
        .map(|record| {
            let value = record.value.expect("a value");
            (
                record.offset,
                String::from_utf8(value.to_vec()).expect("text"),
            )
        })
        .collect()
}

fn expected(values: &[(i64, &str)]) -> Vec<(i64, String)> {
    values
        .iter()
        .map(|(offset, value)| (*offset, (*value).to_owned()))
        .collect()
}

#[tokio::test]
async fn what_is_appended_is_read_at_its_offset_also_after_a_restart() {
    let dir = TempDir::new();
    let broker = start(&dir.0).await;
    let partition = topic(&broker, "t", 1).await;
    assert_eq!(put(&broker, partition, &["a", "b"]).await, 0);
    assert_eq!(put(&broker, partition, &["c"]).await, 2);
    let all = expected(&[(0, "a"), (1, "b"), (2, "c")]);
    assert_eq!(read(&broker, partition, 0).await, all);
    let epoch = broker
        .partition_status(partition)
        .expect("exists")
        .leader_epoch;
    broker.shutdown().await;
    drop(broker);

    let broker = start(&dir.0).await;
    assert_eq!(read(&broker, partition, 0).await, all);
    assert_eq!(read(&broker, partition, 1).await, all[1..]);
    assert_eq!(put(&broker, partition, &["d"]).await, 3);
    let status = broker.partition_status(partition).expect("exists");
    assert!(
        status.leader_epoch > epoch,
        "the epoch rises with a restart"
    );
    assert_eq!(status.leader, Some(NodeId(1)));
    let end = broker
        .end_offset_for_epoch(partition, None, epoch)
        .expect("led");
    assert_eq!(end, Some((epoch, Offset(3))));
    broker.shutdown().await;
}

#[tokio::test]
async fn a_repeated_batch_is_answered_with_its_first_offset_also_after_a_restart() {
    let dir = TempDir::new();
    let broker = start(&dir.0).await;
    let partition = topic(&broker, "t", 1).await;
    let producer_id = broker.new_producer_id().await.expect("an id");
    let producer = |base_sequence| BatchProducer {
        producer_id,
        producer_epoch: 0,
        base_sequence,
    };
    for (n, value) in (0..).zip(["a", "b", "c"]) {
        let appended = append(&broker, partition, &[value], producer(n))
            .await
            .expect("new");
        assert_eq!(appended.base_offset.0, i64::from(n));
    }
    check_repeats(&broker, partition, producer).await;
    broker.shutdown().await;
    drop(broker);

    let broker = start(&dir.0).await;
    check_repeats(&broker, partition, producer).await;
    let other = broker.new_producer_id().await.expect("an id");
    assert_ne!(other, producer_id);
    broker.shutdown().await;
}

async fn check_repeats(
    broker: &Broker,
    partition: PartitionId,
    producer: impl Fn(i32) -> BatchProducer,
) {
    let repeated = append(broker, partition, &["b"], producer(1))
        .await
        .expect("repeated");
    assert_eq!(repeated.base_offset, Offset(1));
    let gap = append(broker, partition, &["x"], producer(7)).await;
    assert!(matches!(
        gap,
        Err(AppendError::OutOfOrderSequence { expected: 3, .. })
    ));
    assert_eq!(read(broker, partition, 0).await.len(), 3);
}

#[tokio::test]
async fn a_waiting_fetch_is_answered_when_enough_has_come() {
    let dir = TempDir::new();
    let broker = start(&dir.0).await;
    let partition = topic(&broker, "t", 1).await;
    let waiting = FetchRequest {
        wait_ms_max: 60_000,
        bytes_min: 2 * batch(&["a"], BatchProducer::default()).len(),
        ..request(partition, 0)
    };
    let fetching = tokio::spawn({
        let broker = broker.clone();
        async move { fetch(&broker, waiting).await }
    });
    put(&broker, partition, &["a"]).await;
    tokio::task::yield_now().await;
    put(&broker, partition, &["b"]).await;
    let fetched = tokio::time::timeout(Duration::from_secs(20), fetching).await;
    let fetched = fetched.expect("woken").expect("ran").expect("fetched");
    assert_eq!(fetched.high_watermark, Offset(2));
    assert_eq!(
        fetched.batches.iter().map(Bytes::len).sum::<usize>(),
        2 * 69
    );
    broker.shutdown().await;
}

#[tokio::test]
async fn offsets_outside_the_log_are_refused_and_its_end_is_not() {
    let dir = TempDir::new();
    let broker = start(&dir.0).await;
    let partition = topic(&broker, "t", 1).await;
    put(&broker, partition, &["a", "b", "c"]).await;
    put(&broker, partition, &["d"]).await;
    let out_of_range = |requested, start| BrokerError::OffsetOutOfRange {
        requested: Offset(requested),
        start: Offset(start),
        end: Offset(4),
    };
    assert_eq!(
        fetch(&broker, request(partition, 5)).await.unwrap_err(),
        out_of_range(5, 0)
    );
    assert!(
        fetch(&broker, request(partition, 4))
            .await
            .expect("at the end")
            .batches
            .is_empty()
    );
    let start = broker
        .delete_records(partition, Some(Offset(2)), DEADLINE_MS)
        .await;
    assert_eq!(start, Ok(Offset(2)));
    assert_eq!(
        fetch(&broker, request(partition, 1)).await.unwrap_err(),
        out_of_range(1, 2)
    );
    assert_eq!(
        read(&broker, partition, 2).await,
        expected(&[(2, "c"), (3, "d")])
    );
    let too_far = broker
        .delete_records(partition, Some(Offset(9)), DEADLINE_MS)
        .await;
    assert_eq!(too_far, Err(out_of_range(9, 2)));
    assert_eq!(
        broker.delete_records(partition, None, DEADLINE_MS).await,
        Ok(Offset(4))
    );
    broker.shutdown().await;
}

#[tokio::test]
async fn a_topic_created_again_is_another_topic() {
    let dir = TempDir::new();
    let broker = start(&dir.0).await;
    let old = topic(&broker, "t", 2).await;
    put(&broker, old, &["old"]).await;
    let exists = NewTopic {
        name: "t".to_owned(),
        ..NewTopic::default()
    };
    let refused = broker
        .create_topics(vec![exists], false, DEADLINE_MS)
        .await
        .remove(0);
    assert_eq!(refused.unwrap_err(), BrokerError::TopicExists);
    let deleted = broker
        .delete_topics(vec![TopicRef::Name("t".to_owned())], DEADLINE_MS)
        .await;
    assert_eq!(deleted, [Ok(("t".to_owned(), old.topic))]);
    let new = topic(&broker, "t", 1).await;
    assert_ne!(old.topic, new.topic);
    let stale = fetch(&broker, request(old, 0)).await.unwrap_err();
    assert_eq!(stale, BrokerError::UnknownTopicId);
    assert_eq!(put(&broker, new, &["new"]).await, 0);
    broker.shutdown().await;
    drop(broker);
    let broker = start(&dir.0).await;
    assert_eq!(read(&broker, new, 0).await, expected(&[(0, "new")]));
    broker.shutdown().await;
}

#[tokio::test]
async fn partitions_grow_and_configs_change_in_order() {
    let dir = TempDir::new();
    let broker = start(&dir.0).await;
    topic(&broker, "t", 1).await;
    let grow = |total| NewPartitions {
        topic: "t".to_owned(),
        total,
        assignments: None,
    };
    assert_eq!(
        broker
            .create_partitions(vec![grow(3)], false, DEADLINE_MS)
            .await,
        [Ok(())]
    );
    assert!(
        broker
            .create_partitions(vec![grow(3)], false, DEADLINE_MS)
            .await[0]
            .is_err()
    );
    let id = broker.catalogue().partition("t", 2).expect("grown");
    assert_eq!(put(&broker, id, &["a"]).await, 0);
    let set = |key: &str, value: &str| ConfigChange {
        key: key.to_owned(),
        operation: ConfigOperation::Set,
        value: Some(value.to_owned()),
    };
    let mixed = vec![set("retention.ms", "5"), set("cleanup.policy", "compacted")];
    assert!(broker.alter_topic_configs("t", mixed, false).await.is_err());
    assert_eq!(
        broker.catalogue().topics["t"].config.overrides.len(),
        0,
        "all or none"
    );
    let small = vec![set("max.message.bytes", "70")];
    broker
        .alter_topic_configs("t", small, false)
        .await
        .expect("altered");
    let large = append(&broker, id, &["far too large"], BatchProducer::default()).await;
    assert!(matches!(large, Err(AppendError::TooLarge { max: 70, .. })));
    broker.shutdown().await;
}

#[tokio::test]
async fn offsets_are_found_by_time_inside_compressed_batches() {
    let dir = TempDir::new();
    let broker = start(&dir.0).await;
    let partition = topic(&broker, "t", 1).await;
    let base = Clock::system().wall_ms() - 100_000;
    for n in 0..3_i64 {
        let records: Vec<Record> = (0..3)
            .map(|i| Record {
                timestamp_ms: base + n * 100 + i * 10,
                value: Some(Bytes::from(vec![b'x'; 100])),
                ..Record::default()
            })
            .collect();
        let batch = encode_batch(&records, Compression::Zstd, BatchProducer::default());
        let pending = broker
            .append(partition, batch, RequiredAcks::All)
            .await
            .expect("queued");
        pending.await.expect("appended");
    }
    let find = |query| broker.list_offset(partition, query, Isolation::ReadCommitted, None);
    let offset = async |query| {
        find(query)
            .await
            .expect("found")
            .offset
            .map(|offset| offset.0)
    };
    assert_eq!(offset(OffsetQuery::AtTimestamp(base + 105)).await, Some(4));
    assert_eq!(offset(OffsetQuery::AtTimestamp(0)).await, Some(0));
    assert_eq!(offset(OffsetQuery::AtTimestamp(base + 221)).await, None);
    assert_eq!(offset(OffsetQuery::MaxTimestamp).await, Some(8));
    assert_eq!(offset(OffsetQuery::Latest).await, Some(9));
    assert_eq!(offset(OffsetQuery::Earliest).await, Some(0));
    broker
        .delete_records(partition, Some(Offset(5)), DEADLINE_MS)
        .await
        .expect("trimmed");
    assert_eq!(offset(OffsetQuery::AtTimestamp(base + 105)).await, Some(5));
    let fenced = broker
        .list_offset(
            partition,
            OffsetQuery::Latest,
            Isolation::ReadCommitted,
            Some(LeaderEpoch(9)),
        )
        .await;
    assert!(matches!(
        fenced,
        Err(BrokerError::UnknownLeaderEpoch { .. })
    ));
    broker.shutdown().await;
}

#[tokio::test]
async fn retention_deletes_what_is_over_the_size() {
    let dir = TempDir::new();
    let config = BrokerConfig {
        journal_file_bytes: 1 << 20,
        upkeep_interval_ms: 20,
        ..BrokerConfig::default()
    };
    let broker = start_with(&dir.0, config).await;
    let configs = [("segment.bytes", "1024"), ("retention.bytes", "2048")];
    let partition = topic_with(&broker, "t", 1, &configs).await;
    let value = "v".repeat(300);
    for _ in 0..40 {
        put(&broker, partition, &[&value]).await;
    }
    let started = async || {
        let found = broker
            .list_offset(
                partition,
                OffsetQuery::Earliest,
                Isolation::ReadCommitted,
                None,
            )
            .await;
        found.expect("led").offset.expect("a start").0
    };
    let deadline = Clock::system();
    while started().await == 0 {
        assert!(deadline.monotonic_ms() < DEADLINE_MS, "retention runs");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let start = started().await;
    assert!(start < 40);
    assert_eq!(
        read(&broker, partition, start)
            .await
            .first()
            .map(|record| record.0),
        Some(start)
    );
    broker.shutdown().await;
}

#[tokio::test]
async fn a_directory_that_lost_its_journal_is_refused_and_left_as_it_is() {
    let dir = TempDir::new();
    let broker = start(&dir.0).await;
    topic(&broker, "t", 1).await;
    broker.shutdown().await;
    drop(broker);
    let (journal, aside) = (dir.0.join("journal"), dir.0.join("journal.aside"));
    Disk::Real.rename(&journal, &aside).expect("renamed");
    for _ in 0..2 {
        let env = Env {
            clock: Clock::system(),
            disk: Disk::Real,
            seed: [5; 4],
        };
        let data_dir = DataDir::open(&Disk::Real, &dir.0).expect("the directory is free");
        let started = Broker::start_alone(BrokerConfig::default(), env, data_dir).await;
        assert!(
            matches!(started, Err(StartError::DataMissing { .. })),
            "{started:?}"
        );
    }
    let made = Disk::Real.read_dir(&journal).expect("an empty directory");
    assert!(made.is_empty(), "nothing is made anew");
    Disk::Real.rename(&aside, &journal).expect("renamed back");
    let broker = start(&dir.0).await;
    assert!(broker.catalogue().topics.contains_key("t"));
    broker.shutdown().await;
}

#[tokio::test]
async fn a_directory_that_lost_its_identity_is_refused() {
    let dir = TempDir::new();
    let broker = start(&dir.0).await;
    broker.shutdown().await;
    drop(broker);
    let (identity, aside) = (dir.0.join("identity"), dir.0.join("identity.aside"));
    Disk::Real.rename(&identity, &aside).expect("renamed");
    for node_id in [1, 2] {
        let env = Env {
            clock: Clock::system(),
            disk: Disk::Real,
            seed: [5; 4],
        };
        let data_dir = DataDir::open(&Disk::Real, &dir.0).expect("the directory is free");
        let config = BrokerConfig {
            node_id: Some(NodeId(node_id)),
            ..BrokerConfig::default()
        };
        let started = Broker::start_alone(config, env, data_dir).await;
        assert!(
            matches!(started, Err(StartError::IdentityMissing)),
            "{started:?}"
        );
    }
    Disk::Real.rename(&aside, &identity).expect("renamed back");
    start(&dir.0).await.shutdown().await;
}

#[tokio::test]
async fn times_are_found_behind_a_log_start_inside_a_batch() {
    let dir = TempDir::new();
    let broker = start(&dir.0).await;
    let partition = topic(&broker, "t", 1).await;
    let base = Clock::system().wall_ms() - 100_000;
    let times = [[10, 10, 500, 20, 10], [200, 210, 200, 200, 200]];
    for times in times {
        let records: Vec<Record> = times
            .iter()
            .map(|time| Record {
                timestamp_ms: base + time,
                ..Record::default()
            })
            .collect();
        let batch = encode_batch(&records, Compression::None, BatchProducer::default());
        let pending = broker
            .append(partition, batch, RequiredAcks::All)
            .await
            .expect("queued");
        pending.await.expect("appended");
    }
    let find = async |query| {
        let found = broker
            .list_offset(partition, query, Isolation::ReadCommitted, None)
            .await;
        found.expect("found").offset.map(|offset| offset.0)
    };
    assert_eq!(find(OffsetQuery::MaxTimestamp).await, Some(2));
    assert_eq!(find(OffsetQuery::AtTimestamp(base + 50)).await, Some(2));
    broker
        .delete_records(partition, Some(Offset(3)), DEADLINE_MS)
        .await
        .expect("trimmed");
    assert_eq!(find(OffsetQuery::AtTimestamp(base + 15)).await, Some(3));
    assert_eq!(find(OffsetQuery::AtTimestamp(base + 50)).await, Some(5));
    assert_eq!(find(OffsetQuery::MaxTimestamp).await, Some(6));
    assert_eq!(find(OffsetQuery::AtTimestamp(base + 300)).await, None);
    broker.shutdown().await;
}

#[tokio::test]
async fn ids_are_new_also_when_a_node_with_the_same_seed_starts_again() {
    let dir = TempDir::new();
    let mut seen = std::collections::BTreeSet::new();
    for name in ["a", "b", "c"] {
        let broker = start(&dir.0).await;
        assert!(
            seen.insert(topic(&broker, name, 1).await.topic),
            "{name} has its own id"
        );
        assert_eq!(broker.catalogue().names.len(), seen.len());
        broker.shutdown().await;
    }
}

//! Each config of a topic that can be set does what it says, on the topic and for all brokers: one
//! test a key, `effect_of_<key>`. The first test fails when a key that can be set, or a quota, has none.

use std::path::Path;
use std::time::Duration;

use broker::BrokerConfig;
use broker::catalogue::QuotaKey;
use broker::record::{
    BatchProducer, Compression, Record, decode_batch, encode_batch, split_batches,
};
use bytes::Bytes;
use kafka::KafkaServerConfig;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::*;
use storage::clock::Clock;
use storage::disk::Disk;
use tokio::time::Instant;

use crate::harness::*;

#[test]
fn every_key_that_can_be_set_has_a_test_of_its_effect() {
    let tests = concat!(include_str!("config_effects.rs"), include_str!("quotas.rs"));
    let test = |key: &str| format!("effect_of_{}", key.replace('.', "_"));
    let definitions = broker::topic_config_definitions().iter();
    let settable: Vec<_> = definitions.filter(|known| known.settable).collect();
    let of_topics = settable.iter().map(|known| test(known.key));
    let of_all_brokers = settable.iter().map(|known| {
        let key = known.broker_key.expect("brokers have a default for it");
        match key == known.key {
            true => test(key) + "_of_all_brokers",
            false => test(key),
        }
    });
    let quotas = QuotaKey::all().map(|quota| test(quota.name()));
    for test in of_topics.chain(of_all_brokers).chain(quotas) {
        let declared = [",", ";", "()"].map(|end| format!(" {test}{end}"));
        assert!(
            declared.iter().any(|text| tests.contains(text)),
            "no {test}"
        );
    }
}

/// Where a config is set.
#[derive(Debug, Clone, Copy)]
enum Level {
    /// On the topic.
    Topic,
    /// For all brokers, with the topic saying nothing.
    AllBrokers,
}

impl Level {
    fn key(self, key: &str) -> &str {
        let mut known = broker::topic_config_definitions().iter();
        let known = known.find(|known| known.key == key).unwrap();
        match self {
            Level::Topic => known.key,
            Level::AllBrokers => known.broker_key.unwrap(),
        }
    }
}

/// Declares the tests of what configs do, each on a topic and for all brokers.
macro_rules! effects {
    ($($effect:ident: $on_topic:ident, $for_all_brokers:ident;)*) => {$(
        #[tokio::test]
        async fn $on_topic() {
            $effect(Level::Topic).await;
        }

        #[tokio::test]
        async fn $for_all_brokers() {
            $effect(Level::AllBrokers).await;
        }
    )*};
}

effects! {
    cleanup_policy: effect_of_cleanup_policy, effect_of_log_cleanup_policy;
    delete_retention_ms: effect_of_delete_retention_ms, effect_of_log_cleaner_delete_retention_ms;
    max_compaction_lag_ms: effect_of_max_compaction_lag_ms, effect_of_log_cleaner_max_compaction_lag_ms;
    min_cleanable_dirty_ratio: effect_of_min_cleanable_dirty_ratio, effect_of_log_cleaner_min_cleanable_ratio;
    min_compaction_lag_ms: effect_of_min_compaction_lag_ms, effect_of_log_cleaner_min_compaction_lag_ms;
    max_message_bytes: effect_of_max_message_bytes, effect_of_message_max_bytes;
    message_timestamp_before_max_ms: effect_of_message_timestamp_before_max_ms, effect_of_log_message_timestamp_before_max_ms;
    message_timestamp_after_max_ms: effect_of_message_timestamp_after_max_ms, effect_of_log_message_timestamp_after_max_ms;
    message_timestamp_type: effect_of_message_timestamp_type, effect_of_log_message_timestamp_type;
    min_insync_replicas: effect_of_min_insync_replicas, effect_of_min_insync_replicas_of_all_brokers;
    retention_ms: effect_of_retention_ms, effect_of_log_retention_ms;
    retention_bytes: effect_of_retention_bytes, effect_of_log_retention_bytes;
    segment_bytes: effect_of_segment_bytes, effect_of_log_segment_bytes;
    segment_ms: effect_of_segment_ms, effect_of_log_roll_ms;
}

/// A node that looks after its logs all the time, a client, and a topic `t` with these configs.
async fn node_with(level: Level, configs: &[(&str, &str)]) -> (Server, Client) {
    let config = BrokerConfig {
        upkeep_interval_ms: 20,
        ..BrokerConfig::default()
    };
    let server = Server::start_with(config, KafkaServerConfig::default()).await;
    let mut client = server.client_and_topic("t", 1).await;
    set(&mut client, level, configs).await;
    (server, client)
}

async fn set(client: &mut Client, level: Level, configs: &[(&str, &str)]) {
    let configs = configs.iter().map(|(key, value)| {
        AlterableConfig::default()
            .with_name(text(level.key(key)))
            .with_config_operation(0)
            .with_value(Some(text(value)))
    });
    let (kind, name) = match level {
        Level::Topic => (2, "t"),
        Level::AllBrokers => (4, ""),
    };
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(configs.collect());
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let response = client.call(1, &request).await;
    assert_eq!(response.responses[0].error_code, 0, "{response:?}");
}

/// The error code of a produce of one record, and the time its batch was given.
async fn put(client: &mut Client, bytes: usize, before_now_ms: i64) -> (i16, i64) {
    let record = Record {
        timestamp_ms: Clock::system().wall_ms() - before_now_ms,
        value: Some(Bytes::from(vec![b'v'; bytes])),
        ..Record::default()
    };
    let batch = encode_batch(&[record], Compression::None, BatchProducer::default());
    let response = client.call(9, &produce("t", 0, -1, batch)).await;
    let told = &response.responses[0].partition_responses[0];
    (told.error_code, told.log_append_time_ms)
}

/// Bytes of a value of which a segment of the least size takes one.
const OWN_SEGMENT: usize = 900;
const SMALL: (&str, &str) = ("segment.bytes", "1024");
const COMPACT: (&str, &str) = ("cleanup.policy", "compact");
/// Whatever is sealed and new is compacted.
const EAGER: (&str, &str) = ("min.cleanable.dirty.ratio", "0.01");

/// Writes a record with this key, in a segment of its own; without a value, a tombstone.
async fn put_key(client: &mut Client, key: &str, has_value: bool, before_now_ms: i64) {
    let record = Record {
        timestamp_ms: Clock::system().wall_ms() - before_now_ms,
        key: Some(Bytes::copy_from_slice(key.as_bytes())),
        value: has_value.then(|| Bytes::from(vec![b'v'; OWN_SEGMENT])),
        ..Record::default()
    };
    let batch = encode_batch(&[record], Compression::None, BatchProducer::default());
    let response = client.call(9, &produce("t", 0, -1, batch)).await;
    let told = &response.responses[0].partition_responses[0];
    assert_eq!(told.error_code, 0, "{told:?}");
}

async fn put_keys(client: &mut Client, keys: &[&str]) {
    for key in keys {
        put_key(client, key, true, 0).await;
    }
}

/// The offsets of all records there are.
async fn offsets(client: &mut Client) -> Vec<i64> {
    let (mut next, mut offsets) = (0, Vec::new());
    loop {
        let response = client.call(11, &fetch("t", 0, next)).await;
        let told = &response.responses[0].partitions[0];
        assert_eq!(told.error_code, 0, "{told:?}");
        let records = told.records.clone().unwrap_or_default();
        if records.is_empty() {
            return offsets;
        }
        for batch in split_batches(&records).unwrap() {
            let records = decode_batch(&batch, 1 << 20).unwrap();
            let new = records.iter().map(|record| record.offset);
            offsets.extend(new.filter(|offset| *offset >= next));
            next = offsets.last().map_or(0, |last| last + 1);
        }
    }
}

/// Waits until exactly these records are there.
async fn until_left(client: &mut Client, expected: &[i64]) {
    let begun = Instant::now();
    loop {
        let found = offsets(client).await;
        if found == expected {
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "{found:?} are left");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn first_offset(client: &mut Client) -> i64 {
    let partition = ListOffsetsPartition::default()
        .with_partition_index(0)
        .with_current_leader_epoch(-1)
        .with_timestamp(-2);
    let topic = ListOffsetsTopic::default()
        .with_name(topic_name("t"))
        .with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_topics(vec![topic]);
    let response = client.call(5, &request).await;
    response.topics[0].partitions[0].offset
}

/// Writes until the oldest records are gone.
async fn until_something_is_deleted(client: &mut Client) {
    let begun = Instant::now();
    while first_offset(client).await == 0 {
        assert!(begun.elapsed() < DEADLINE, "nothing is deleted");
        assert_eq!(put(client, 300, 10_000).await.0, 0);
    }
}

fn segments(dir: &Path) -> usize {
    let mut count = 0;
    for partition in Disk::Real.read_dir(dir).unwrap() {
        let files = Disk::Real.read_dir(&dir.join(partition.name)).unwrap();
        let logs = files.iter().filter(|file| file.name.ends_with(".log"));
        count += logs.count();
    }
    count
}

/// Writes until the log has more than one segment.
async fn until_there_are_segments(server: &Server, client: &mut Client) {
    let begun = Instant::now();
    while segments(&server.dir().join("partitions")) < 2 {
        assert!(begun.elapsed() < DEADLINE, "there is one segment");
        assert_eq!(put(client, 300, 0).await.0, 0);
    }
}

async fn cleanup_policy(level: Level) {
    let (server, mut client) = node_with(level, &[SMALL]).await;
    put_keys(&mut client, &["k", "k", "other", "k"]).await;
    assert_eq!(offsets(&mut client).await, [0, 1, 2, 3]);
    set(&mut client, level, &[COMPACT, ("retention.ms", "1")]).await;
    until_left(&mut client, &[1, 2, 3]).await;
    assert_eq!(put(&mut client, 1, 0).await.0, 87, "it has no key");
    assert_eq!(first_offset(&mut client).await, 0, "nothing is deleted");
    // Both: what is old goes too.
    set(&mut client, level, &[("cleanup.policy", "compact,delete")]).await;
    let begun = Instant::now();
    while first_offset(&mut client).await == 0 {
        assert!(begun.elapsed() < DEADLINE, "nothing is deleted");
        put_key(&mut client, "k", true, 10_000).await;
    }
    server.stop().await;
}

async fn delete_retention_ms(level: Level) {
    let configs = [SMALL, COMPACT, EAGER, ("delete.retention.ms", "0")];
    let (server, mut client) = node_with(level, &configs).await;
    put_key(&mut client, "gone", false, 0).await;
    assert_eq!(offsets(&mut client).await, [0]);
    let begun = Instant::now();
    while offsets(&mut client).await.contains(&0) {
        assert!(begun.elapsed() < DEADLINE, "the tombstone stays");
        put_key(&mut client, "k", true, 0).await;
    }
    server.stop().await;
}

async fn max_compaction_lag_ms(level: Level) {
    // No part of a log is more than all of it.
    let never = ("min.cleanable.dirty.ratio", "1");
    let (server, mut client) = node_with(level, &[SMALL, COMPACT, never]).await;
    put_keys(&mut client, &["k", "k", "other"]).await;
    assert_eq!(offsets(&mut client).await, [0, 1, 2]);
    set(&mut client, level, &[("max.compaction.lag.ms", "1000")]).await;
    until_left(&mut client, &[1, 2]).await;
    server.stop().await;
}

async fn min_cleanable_dirty_ratio(level: Level) {
    let (server, mut client) = node_with(level, &[SMALL]).await;
    let keys: Vec<String> = (0..30).map(|n| format!("k{}", n / 2)).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    put_keys(&mut client, &keys).await;
    put_keys(&mut client, &["open"]).await;
    // At first all of it is dirty, which is enough by any measure.
    set(&mut client, level, &[COMPACT]).await;
    let mut left: Vec<i64> = (0..15).map(|n| 2 * n + 1).chain([30]).collect();
    until_left(&mut client, &left).await;
    // Then less than a fifth of it is, which by default would be too little.
    put_keys(&mut client, &["twice", "twice", "open"]).await;
    assert_eq!(offsets(&mut client).await.len(), left.len() + 3);
    set(&mut client, level, &[EAGER]).await;
    left.extend([32, 33]);
    until_left(&mut client, &left).await;
    server.stop().await;
}

async fn min_compaction_lag_ms(level: Level) {
    let (server, mut client) = node_with(level, &[SMALL]).await;
    for key in ["x", "k", "k"] {
        put_key(&mut client, key, true, 7_200_000).await;
    }
    put_keys(&mut client, &["x", "x", "x"]).await;
    set(
        &mut client,
        level,
        &[COMPACT, EAGER, ("min.compaction.lag.ms", "3600000")],
    )
    .await;
    // Of the old ones the second is replaced by the third; the newer ones do not count, or the
    // first were replaced before.
    until_left(&mut client, &[0, 2, 3, 4, 5]).await;
    set(&mut client, level, &[("min.compaction.lag.ms", "0")]).await;
    until_left(&mut client, &[2, 4, 5]).await;
    server.stop().await;
}

async fn max_message_bytes(level: Level) {
    let (server, mut client) = node_with(level, &[("max.message.bytes", "200")]).await;
    assert_eq!(put(&mut client, 20, 0).await.0, 0);
    assert_eq!(put(&mut client, 200, 0).await.0, 10);
    server.stop().await;
}

async fn message_timestamp_before_max_ms(level: Level) {
    let (server, mut client) = node_with(level, &[]).await;
    assert_eq!(put(&mut client, 1, 600_000).await.0, 0);
    set(
        &mut client,
        level,
        &[("message.timestamp.before.max.ms", "300000")],
    )
    .await;
    assert_eq!(put(&mut client, 1, 600_000).await.0, 32);
    assert_eq!(put(&mut client, 1, 0).await.0, 0);
    server.stop().await;
}

async fn message_timestamp_after_max_ms(level: Level) {
    let (server, mut client) = node_with(level, &[]).await;
    assert_eq!(put(&mut client, 1, -1_200_000).await.0, 0);
    set(
        &mut client,
        level,
        &[("message.timestamp.after.max.ms", "300000")],
    )
    .await;
    assert_eq!(put(&mut client, 1, -1_200_000).await.0, 32);
    assert_eq!(put(&mut client, 1, 0).await.0, 0);
    server.stop().await;
}

async fn message_timestamp_type(level: Level) {
    let (server, mut client) = node_with(level, &[]).await;
    assert_eq!(put(&mut client, 1, 600_000).await, (0, -1));
    set(
        &mut client,
        level,
        &[("message.timestamp.type", "LogAppendTime")],
    )
    .await;
    let (code, appended_ms) = put(&mut client, 1, 600_000).await;
    assert_eq!(code, 0);
    let ago_ms = Clock::system().wall_ms() - appended_ms;
    assert!((0..600_000).contains(&ago_ms), "{ago_ms}");
    server.stop().await;
}

async fn min_insync_replicas(level: Level) {
    let (server, mut client) = node_with(level, &[]).await;
    assert_eq!(put(&mut client, 1, 0).await.0, 0);
    set(&mut client, level, &[("min.insync.replicas", "2")]).await;
    assert_eq!(put(&mut client, 1, 0).await.0, 19);
    server.stop().await;
}

async fn retention_ms(level: Level) {
    let small = ("segment.bytes", "1024");
    let (server, mut client) = node_with(level, &[small, ("retention.ms", "5000")]).await;
    until_something_is_deleted(&mut client).await;
    server.stop().await;
}

async fn retention_bytes(level: Level) {
    let configs = [
        ("segment.bytes", "1024"),
        ("retention.ms", "-1"),
        ("retention.bytes", "2048"),
    ];
    let (server, mut client) = node_with(level, &configs).await;
    until_something_is_deleted(&mut client).await;
    server.stop().await;
}

async fn segment_bytes(level: Level) {
    let (server, mut client) = node_with(level, &[("segment.bytes", "1024")]).await;
    until_there_are_segments(&server, &mut client).await;
    server.stop().await;
}

async fn segment_ms(level: Level) {
    let (server, mut client) = node_with(level, &[("segment.ms", "1")]).await;
    until_there_are_segments(&server, &mut client).await;
    server.stop().await;
}

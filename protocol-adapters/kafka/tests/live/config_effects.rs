//! Each config of a topic that can be set does what it says: one test a key, `effect_of_<key>`. The
//! first test fails when a key that can be set, or a quota, has none.

use std::path::Path;

use broker::BrokerConfig;
use broker::catalogue::QuotaKey;
use broker::record::{BatchProducer, Compression, Record, encode_batch};
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
    let definitions = broker::topic_config_definitions().iter();
    let settable = definitions.filter(|definition| definition.settable);
    let keys = settable.map(|definition| definition.key);
    let quotas = QuotaKey::all().map(QuotaKey::name);
    for key in keys.chain(quotas) {
        let test = format!("fn effect_of_{}()", key.replace('.', "_"));
        assert!(tests.contains(&test), "no {test}");
    }
}

/// A node that looks after its logs all the time, a client, and a topic `t` with these configs.
async fn node_with(configs: &[(&str, &str)]) -> (Server, Client) {
    let config = BrokerConfig {
        upkeep_interval_ms: 20,
        ..BrokerConfig::default()
    };
    let server = Server::start_with(config, KafkaServerConfig::default()).await;
    let mut client = server.client_and_topic("t", 1).await;
    set(&mut client, configs).await;
    (server, client)
}

async fn set(client: &mut Client, configs: &[(&str, &str)]) {
    let configs = configs.iter().map(|(key, value)| {
        AlterableConfig::default()
            .with_name(text(key))
            .with_config_operation(0)
            .with_value(Some(text(value)))
    });
    let resource = AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("t"))
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

#[tokio::test]
async fn effect_of_max_message_bytes() {
    let (server, mut client) = node_with(&[("max.message.bytes", "200")]).await;
    assert_eq!(put(&mut client, 20, 0).await.0, 0);
    assert_eq!(put(&mut client, 200, 0).await.0, 10);
    server.stop().await;
}

#[tokio::test]
async fn effect_of_message_timestamp_before_max_ms() {
    let (server, mut client) = node_with(&[]).await;
    assert_eq!(put(&mut client, 1, 600_000).await.0, 0);
    set(
        &mut client,
        &[("message.timestamp.before.max.ms", "300000")],
    )
    .await;
    assert_eq!(put(&mut client, 1, 600_000).await.0, 32);
    assert_eq!(put(&mut client, 1, 0).await.0, 0);
    server.stop().await;
}

#[tokio::test]
async fn effect_of_message_timestamp_after_max_ms() {
    let (server, mut client) = node_with(&[]).await;
    assert_eq!(put(&mut client, 1, -1_200_000).await.0, 0);
    set(&mut client, &[("message.timestamp.after.max.ms", "300000")]).await;
    assert_eq!(put(&mut client, 1, -1_200_000).await.0, 32);
    assert_eq!(put(&mut client, 1, 0).await.0, 0);
    server.stop().await;
}

#[tokio::test]
async fn effect_of_message_timestamp_type() {
    let (server, mut client) = node_with(&[]).await;
    assert_eq!(put(&mut client, 1, 600_000).await, (0, -1));
    set(&mut client, &[("message.timestamp.type", "LogAppendTime")]).await;
    let (code, appended_ms) = put(&mut client, 1, 600_000).await;
    assert_eq!(code, 0);
    let ago_ms = Clock::system().wall_ms() - appended_ms;
    assert!((0..600_000).contains(&ago_ms), "{ago_ms}");
    server.stop().await;
}

#[tokio::test]
async fn effect_of_min_insync_replicas() {
    let (server, mut client) = node_with(&[]).await;
    assert_eq!(put(&mut client, 1, 0).await.0, 0);
    set(&mut client, &[("min.insync.replicas", "2")]).await;
    assert_eq!(put(&mut client, 1, 0).await.0, 19);
    server.stop().await;
}

#[tokio::test]
async fn effect_of_retention_ms() {
    let small = ("segment.bytes", "1024");
    let (server, mut client) = node_with(&[small, ("retention.ms", "5000")]).await;
    until_something_is_deleted(&mut client).await;
    server.stop().await;
}

#[tokio::test]
async fn effect_of_retention_bytes() {
    let configs = [
        ("segment.bytes", "1024"),
        ("retention.ms", "-1"),
        ("retention.bytes", "2048"),
    ];
    let (server, mut client) = node_with(&configs).await;
    until_something_is_deleted(&mut client).await;
    server.stop().await;
}

#[tokio::test]
async fn effect_of_segment_bytes() {
    let (server, mut client) = node_with(&[("segment.bytes", "1024")]).await;
    until_there_are_segments(&server, &mut client).await;
    server.stop().await;
}

#[tokio::test]
async fn effect_of_segment_ms() {
    let (server, mut client) = node_with(&[("segment.ms", "1")]).await;
    until_there_are_segments(&server, &mut client).await;
    server.stop().await;
}

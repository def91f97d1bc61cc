//! ListOffsets, OffsetForLeaderEpoch and DeleteRecords.

use broker::record::{BatchProducer, Compression, Record, encode_batch};
use bytes::Bytes;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::*;

use crate::harness::*;

fn list(topic: &str, partition: i32, timestamp: i64) -> ListOffsetsRequest {
    ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_topics(vec![
            ListOffsetsTopic::default()
                .with_name(topic_name(topic))
                .with_partitions(vec![
                    ListOffsetsPartition::default()
                        .with_partition_index(partition)
                        .with_current_leader_epoch(-1)
                        .with_timestamp(timestamp),
                ]),
        ])
}

/// Error, offset and timestamp.
async fn listed(
    client: &mut Client,
    version: i16,
    request: &ListOffsetsRequest,
) -> (i16, i64, i64) {
    let response = client.call(version, request).await;
    let told = &response.topics[0].partitions[0];
    (told.error_code, told.offset, told.timestamp)
}

/// Records a second apart from `base` on, in two batches, the second one compressed.
async fn put_times(client: &mut Client, base: i64) {
    let record = |n: i64| Record {
        timestamp_ms: base + n * 1_000,
        value: Some(Bytes::from_static(b"v")),
        ..Record::default()
    };
    for (first, codec) in [(0, Compression::None), (3, Compression::Gzip)] {
        let records: Vec<Record> = (first..first + 3).map(record).collect();
        let batch = encode_batch(&records, codec, BatchProducer::default());
        let response = client.call(9, &produce("t", 0, -1, batch)).await;
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    }
}

fn base_ms() -> i64 {
    storage::clock::Clock::system().wall_ms() - 60_000
}

#[tokio::test]
async fn the_ends_of_a_log_are_found_in_every_version() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    put_times(&mut client, base_ms()).await;
    for version in 1..=10 {
        assert_eq!(
            listed(&mut client, version, &list("t", 0, -1)).await,
            (0, 6, -1)
        );
        assert_eq!(
            listed(&mut client, version, &list("t", 0, -2)).await,
            (0, 0, -1)
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn the_first_record_at_or_after_a_time_is_found_inside_compressed_batches() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    let base = base_ms();
    put_times(&mut client, base).await;
    for version in [1, 4, 7, 10] {
        let at = |ms: i64| list("t", 0, base + ms);
        assert_eq!(listed(&mut client, version, &at(0)).await, (0, 0, base));
        assert_eq!(
            listed(&mut client, version, &at(1_500)).await,
            (0, 2, base + 2_000)
        );
        assert_eq!(
            listed(&mut client, version, &at(3_001)).await,
            (0, 4, base + 4_000)
        );
        assert_eq!(listed(&mut client, version, &at(5_001)).await, (0, -1, -1));
    }
    server.stop().await;
}

#[tokio::test]
async fn each_sentinel_is_served_from_its_version_on() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    let base = base_ms();
    put_times(&mut client, base).await;
    let unsupported = (35, -1, -1);
    assert_eq!(listed(&mut client, 6, &list("t", 0, -3)).await, unsupported);
    assert_eq!(
        listed(&mut client, 7, &list("t", 0, -3)).await,
        (0, 5, base + 5_000)
    );
    assert_eq!(listed(&mut client, 7, &list("t", 0, -4)).await, unsupported);
    assert_eq!(listed(&mut client, 8, &list("t", 0, -4)).await, (0, 0, -1));
    assert_eq!(listed(&mut client, 8, &list("t", 0, -5)).await, unsupported);
    assert_eq!(listed(&mut client, 9, &list("t", 0, -5)).await, (0, -1, -1));
    assert_eq!(
        listed(&mut client, 10, &list("t", 0, -6)).await,
        unsupported
    );
    server.stop().await;
}

#[tokio::test]
async fn offsets_of_what_is_not_there_are_refused() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    assert_eq!(listed(&mut client, 5, &list("u", 0, -1)).await, (3, -1, -1));
    assert_eq!(listed(&mut client, 5, &list("t", 1, -1)).await, (3, -1, -1));
    let mut future = list("t", 0, -1);
    future.topics[0].partitions[0].current_leader_epoch = i32::MAX;
    assert_eq!(listed(&mut client, 4, &future).await, (75, -1, -1));
    let mut twice = list("t", 0, -1);
    twice.topics.extend(list("t", 0, -2).topics);
    assert_eq!(listed(&mut client, 5, &twice).await, (42, -1, -1));
    server.stop().await;
}

#[tokio::test]
async fn an_epoch_ends_where_the_log_does() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    put_times(&mut client, base_ms()).await;
    let topic = server.broker.catalogue().topics["t"].clone();
    let status = server
        .broker
        .partition_status(topic.partition(0).unwrap())
        .unwrap();
    let current = status.leader_epoch.0;
    for version in 2..=4 {
        let asked = |topic: &str, epoch| {
            OffsetForLeaderEpochRequest::default().with_topics(vec![
                OffsetForLeaderTopic::default()
                    .with_topic(topic_name(topic))
                    .with_partitions(vec![
                        OffsetForLeaderPartition::default()
                            .with_partition(0)
                            .with_current_leader_epoch(-1)
                            .with_leader_epoch(epoch),
                    ]),
            ])
        };
        let mut tell = async |request: OffsetForLeaderEpochRequest| {
            let response = client.call(version, &request).await;
            let told = &response.topics[0].partitions[0];
            (told.error_code, told.leader_epoch, told.end_offset)
        };
        assert_eq!(tell(asked("t", current)).await, (0, current, 6));
        assert_eq!(tell(asked("t", -1)).await, (0, -1, -1));
        assert_eq!(tell(asked("u", 0)).await, (3, -1, -1));
    }
    server.stop().await;
}

#[tokio::test]
async fn records_before_an_offset_are_deleted() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    put_times(&mut client, base_ms()).await;
    let delete = |partition, offset| {
        DeleteRecordsRequest::default()
            .with_timeout_ms(20_000)
            .with_topics(vec![
                DeleteRecordsTopic::default()
                    .with_name(topic_name("t"))
                    .with_partitions(vec![
                        DeleteRecordsPartition::default()
                            .with_partition_index(partition)
                            .with_offset(offset),
                    ]),
            ])
    };
    let mut deleted = async |version, request: DeleteRecordsRequest| {
        let response = client.call(version, &request).await;
        let told = &response.topics[0].partitions[0];
        (told.error_code, told.low_watermark)
    };
    assert_eq!(deleted(0, delete(0, 2)).await, (0, 2));
    assert_eq!(deleted(1, delete(0, 7)).await, (1, -1));
    assert_eq!(deleted(1, delete(0, -2)).await, (1, -1));
    assert_eq!(deleted(1, delete(9, 0)).await, (3, -1));
    assert_eq!(deleted(2, delete(0, -1)).await, (0, 6));
    assert_eq!(listed(&mut client, 5, &list("t", 0, -2)).await, (0, 6, -1));
    server.stop().await;
}

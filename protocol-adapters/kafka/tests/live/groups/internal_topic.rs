//! The topic where groups and their offsets are: to be read, and not to be touched.

use broker::record::{BatchProducer, decode_batch, split_batches};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::*;

use super::harness::*;
use crate::harness::*;

const OFFSETS: &str = "__consumer_offsets";

#[tokio::test]
async fn clients_read_the_topic_of_offsets_and_cannot_change_it() {
    let server = start().await;
    let mut client = server.client_and_topic("t", 1).await;
    await_coordinator(&mut client, "g").await;
    let told = client
        .call(9, &MetadataRequest::default().with_topics(None))
        .await;
    let internal: Vec<(String, bool)> = told
        .topics
        .iter()
        .map(|topic| {
            let name = topic.name.as_ref().unwrap();
            (name.to_string(), topic.is_internal)
        })
        .collect();
    let expected = [(OFFSETS, true), ("t", false)].map(|(name, is)| (name.to_owned(), is));
    assert_eq!(internal, expected);

    let batch = batch(&["value"], BatchProducer::default());
    let produced = client.call(9, &produce(OFFSETS, 0, -1, batch)).await;
    let produced = &produced.responses[0].partition_responses[0];
    assert_eq!(produced.error_code, 17);

    let records = DeleteRecordsTopic::default()
        .with_name(topic_name(OFFSETS))
        .with_partitions(vec![DeleteRecordsPartition::default().with_offset(-1)]);
    let request = DeleteRecordsRequest::default()
        .with_topics(vec![records])
        .with_timeout_ms(20_000);
    let told = client.call(2, &request).await;
    assert_eq!(told.topics[0].partitions[0].error_code, 17);

    let topic = DeleteTopicState::default().with_name(Some(topic_name(OFFSETS)));
    let request = DeleteTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(20_000);
    let told = client.call(6, &request).await;
    assert_eq!(told.responses[0].error_code, 17);
    server.stop().await;
}

#[tokio::test]
async fn nobody_but_the_coordinator_makes_the_topic_of_offsets() {
    let server = start().await;
    let mut client = server.connect().await;
    let topic = CreatableTopic::default()
        .with_name(topic_name(OFFSETS))
        .with_num_partitions(1)
        .with_replication_factor(1);
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(20_000);
    let told = client.call(7, &request).await;
    assert_eq!(told.topics[0].error_code, 17);
    await_coordinator(&mut client, "g").await;
    server.stop().await;
}

#[tokio::test]
async fn a_commit_is_a_record_in_kafkas_own_format() {
    let server = start().await;
    let mut client = server.client_and_topic("t", 1).await;
    await_coordinator(&mut client, "g").await;
    let nobody = Member::new("g");
    assert_eq!(
        nobody.commit(&mut client, 9, "t", (0, 7), Some("m")).await,
        0
    );
    let mut keys = Vec::new();
    for partition in 0..3 {
        let fetched = client.call(12, &fetch(OFFSETS, partition, 0)).await;
        let records = fetched.responses[0].partitions[0].records.clone();
        for batch in split_batches(&records.unwrap_or_default()).unwrap() {
            keys.extend(
                decode_batch(&batch, 1 << 20)
                    .unwrap()
                    .into_iter()
                    .filter_map(|r| r.key),
            );
        }
    }
    // Version 1, the group, the topic, the partition.
    let expected = b"\0\x01\0\x01g\0\x01t\0\0\0\0";
    assert!(keys.iter().any(|key| &key[..] == expected), "{keys:?}");
    server.stop().await;
}

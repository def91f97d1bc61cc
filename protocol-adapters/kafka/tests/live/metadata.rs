//! Metadata and DescribeTopicPartitions.

use broker::BrokerConfig;
use kafka::KafkaServerConfig;
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::*;

use crate::harness::*;

fn asked(name: &str) -> MetadataRequestTopic {
    MetadataRequestTopic::default().with_name(Some(topic_name(name)))
}

fn some(names: &[&str], create: bool) -> MetadataRequest {
    MetadataRequest::default()
        .with_topics(Some(names.iter().map(|name| asked(name)).collect()))
        .with_allow_auto_topic_creation(create)
}

async fn topics(
    client: &mut Client,
    version: i16,
    request: &MetadataRequest,
) -> Vec<MetadataResponseTopic> {
    client.call(version, request).await.topics
}

#[tokio::test]
async fn every_version_tells_the_cluster_and_the_topic() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 3).await;
    let port = i32::from(server.handle.local_addr().port());
    for version in 0..=13 {
        // Versions before 4 cannot say that nothing is to be created.
        let response = client.call(version, &some(&["t"], true)).await;
        let broker = &response.brokers[0];
        assert_eq!(
            (broker.node_id, broker.host.as_str(), broker.port),
            (BrokerId(1), "127.0.0.1", port)
        );
        assert_eq!(broker.rack.is_some(), version >= 1);
        assert_eq!(response.controller_id.0, if version >= 1 { 1 } else { -1 });
        if version >= 2 {
            assert_eq!(response.cluster_id.unwrap().len(), 22);
        }
        let topic = &response.topics[0];
        assert_eq!(
            (topic.error_code, topic.partitions.len()),
            (0, 3),
            "version {version}"
        );
        assert_eq!(topic.topic_id.is_nil(), version < 10);
        for (index, partition) in (0..).zip(&topic.partitions) {
            assert_eq!(
                (partition.error_code, partition.partition_index),
                (0, index)
            );
            assert_eq!(partition.leader_id, BrokerId(1));
            assert_eq!(partition.leader_epoch >= 0, version >= 7);
            assert_eq!(partition.replica_nodes, [BrokerId(1)]);
            assert_eq!(partition.isr_nodes, [BrokerId(1)]);
            assert!(partition.offline_replicas.is_empty());
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn null_is_all_topics_and_empty_is_none_but_in_version_0() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    let null = MetadataRequest::default().with_topics(None);
    let empty = MetadataRequest::default().with_topics(Some(vec![]));
    assert_eq!(topics(&mut client, 0, &empty).await.len(), 1);
    for version in 1..=13 {
        assert_eq!(
            topics(&mut client, version, &null).await.len(),
            1,
            "version {version}"
        );
        assert_eq!(
            topics(&mut client, version, &empty).await.len(),
            0,
            "version {version}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn a_topic_is_created_when_the_request_allows_it() {
    let config = BrokerConfig {
        default_partitions: 4,
        ..BrokerConfig::default()
    };
    let server = Server::start_with(config, KafkaServerConfig::default()).await;
    let mut client = server.connect().await;
    let told = topics(&mut client, 9, &some(&["new"], false)).await;
    assert_eq!(told[0].error_code, 3);
    let created = async {
        loop {
            let told = topics(&mut client, 9, &some(&["new"], true)).await;
            let ready = told[0]
                .partitions
                .iter()
                .all(|partition| partition.error_code == 0);
            if told[0].error_code == 0 && ready {
                return told[0].partitions.len();
            }
        }
    };
    assert_eq!(tokio::time::timeout(DEADLINE, created).await.unwrap(), 4);
    let told = topics(&mut client, 1, &some(&["newer"], true)).await;
    assert!(
        [0, 5].contains(&told[0].error_code),
        "versions before 4 always create"
    );
    let told = topics(&mut client, 9, &some(&["not valid"], true)).await;
    assert_eq!(told[0].error_code, 17);
    server.stop().await;
}

#[tokio::test]
async fn no_topic_is_created_when_the_broker_forbids_it() {
    let config = BrokerConfig {
        auto_create_topics: false,
        ..BrokerConfig::default()
    };
    let server = Server::start_with(config, KafkaServerConfig::default()).await;
    let mut client = server.connect().await;
    for version in [1, 9, 13] {
        assert_eq!(
            topics(&mut client, version, &some(&["new"], true)).await[0].error_code,
            3
        );
        assert_eq!(
            topics(&mut client, version, &some(&["a b"], true)).await[0].error_code,
            17
        );
    }
    assert!(server.broker.catalogue().topics.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_topic_is_asked_for_by_id_from_version_12_on() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    let id = server.broker.catalogue().topics["t"].id.0;
    let by_id = |id: [u8; 16]| {
        let topic = MetadataRequestTopic::default()
            .with_name(None)
            .with_topic_id(id.to_vec().try_into().unwrap());
        MetadataRequest::default().with_topics(Some(vec![topic]))
    };
    for version in [12, 13] {
        let told = topics(&mut client, version, &by_id(id)).await;
        assert_eq!(told[0].name.as_ref().unwrap().as_str(), "t");
        let told = topics(&mut client, version, &by_id([8; 16])).await;
        assert_eq!((told[0].error_code, told[0].name.clone()), (100, None));
        assert_eq!(told[0].topic_id.as_bytes(), &[8; 16]);
    }
    let told = topics(&mut client, 10, &by_id(id)).await;
    assert_eq!(told[0].error_code, 42);
    server.stop().await;
}

#[tokio::test]
async fn a_topic_named_twice_is_told_once() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    assert_eq!(
        topics(&mut client, 9, &some(&["t", "u", "t"], false))
            .await
            .len(),
        2
    );
    server.stop().await;
}

#[tokio::test]
async fn operations_are_told_when_asked_for() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    let request = some(&["t"], false)
        .with_include_cluster_authorized_operations(true)
        .with_include_topic_authorized_operations(true);
    let response = client.call(8, &request).await;
    assert_eq!(response.cluster_authorized_operations, 8096);
    assert_eq!(response.topics[0].topic_authorized_operations, 3576);
    let response = client.call(8, &some(&["t"], false)).await;
    assert_eq!(response.cluster_authorized_operations, i32::MIN);
    server.stop().await;
}

#[tokio::test]
async fn topic_partitions_are_told_page_by_page() {
    let server = Server::start().await;
    server.client_and_topic("a", 3).await;
    let mut client = server.client_and_topic("b", 2).await;
    let mut cursor = None;
    let mut pages = Vec::new();
    loop {
        let request = DescribeTopicPartitionsRequest::default()
            .with_response_partition_limit(2)
            .with_cursor(cursor);
        let response = client.call(0, &request).await;
        let page: Vec<(String, i32)> = response
            .topics
            .iter()
            .flat_map(|topic| {
                let name = topic.name.as_ref().unwrap().to_string();
                assert_eq!(topic.error_code, 0);
                topic
                    .partitions
                    .iter()
                    .map(move |p| (name.clone(), p.partition_index))
            })
            .collect();
        pages.push(page);
        let Some(next) = response.next_cursor else {
            break;
        };
        cursor = Some(
            Cursor::default()
                .with_topic_name(next.topic_name)
                .with_partition_index(next.partition_index),
        );
    }
    let page = |entries: &[(&str, i32)]| -> Vec<(String, i32)> {
        entries
            .iter()
            .map(|(name, index)| ((*name).to_owned(), *index))
            .collect()
    };
    assert_eq!(
        pages,
        [
            page(&[("a", 0), ("a", 1)]),
            page(&[("a", 2), ("b", 0)]),
            page(&[("b", 1)])
        ]
    );
    let named = |name| TopicRequest::default().with_name(topic_name(name));
    let request = DescribeTopicPartitionsRequest::default()
        .with_response_partition_limit(100)
        .with_topics(vec![named("b"), named("zz"), named("a")]);
    let response = client.call(0, &request).await;
    let told: Vec<_> = response
        .topics
        .iter()
        .map(|topic| (topic.name.as_ref().unwrap().to_string(), topic.error_code))
        .collect();
    assert_eq!(
        told,
        [
            ("a".to_owned(), 0),
            ("b".to_owned(), 0),
            ("zz".to_owned(), 3)
        ]
    );
    assert_eq!(
        response.topics[0].partitions[0].eligible_leader_replicas,
        Some(vec![])
    );
    server.stop().await;
}

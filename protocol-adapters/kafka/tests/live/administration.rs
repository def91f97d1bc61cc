//! The cluster's administration, at a node that is alone: ElectLeaders, DescribeQuorum,
//! AlterPartitionReassignments, ListPartitionReassignments, DescribeLogDirs, UnregisterBroker.

use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::*;

use crate::harness::*;

fn election(kind: i8, topics: Option<&[(&str, &[i32])]>) -> ElectLeadersRequest {
    let topics = topics.map(|topics| {
        let topics = topics.iter().map(|(topic, partitions)| {
            TopicPartitions::default()
                .with_topic(topic_name(topic))
                .with_partitions(partitions.to_vec())
        });
        topics.collect()
    });
    ElectLeadersRequest::default()
        .with_election_type(kind)
        .with_topic_partitions(topics)
        .with_timeout_ms(20_000)
}

fn codes(response: &ElectLeadersResponse) -> Vec<(String, i32, i16)> {
    let topics = response.replica_election_results.iter();
    let partitions = topics.flat_map(|topic| {
        let told = topic.partition_result.iter();
        told.map(|told| (topic.topic.to_string(), told.partition_id, told.error_code))
    });
    partitions.collect()
}

#[tokio::test]
async fn a_preferred_leader_that_leads_needs_no_election() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 2).await;
    let told = |topic: &str, partition, code| (topic.to_owned(), partition, code);
    for version in 0..=2 {
        let asked = election(0, Some(&[("t", &[0, 1, 2]), ("u", &[0])]));
        let response = client.call(version, &asked).await;
        assert_eq!(response.error_code, 0);
        assert_eq!(
            codes(&response),
            [
                told("t", 0, 84),
                told("t", 1, 84),
                told("t", 2, 3),
                told("u", 0, 3)
            ],
            "version {version}"
        );
        let all = client.call(version, &election(0, None)).await;
        assert_eq!(codes(&all), [], "nothing was needed");
    }
    server.stop().await;
}

#[tokio::test]
async fn an_unclean_election_is_never_held() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    for version in 1..=2 {
        let response = client
            .call(version, &election(1, Some(&[("t", &[0])])))
            .await;
        assert_eq!(
            codes(&response),
            [("t".to_owned(), 0, 84)],
            "it has a leader"
        );
        assert_eq!(codes(&client.call(version, &election(1, None)).await), []);
        let response = client.call(version, &election(7, None)).await;
        assert_eq!(response.error_code, 42, "no such type");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_quorum_is_that_of_the_catalogue() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    let partition = |index| PartitionData::default().with_partition_index(index);
    let topic = |name, partitions| {
        TopicData::default()
            .with_topic_name(topic_name(name))
            .with_partitions(partitions)
    };
    let request = DescribeQuorumRequest::default().with_topics(vec![
        topic("__cluster_metadata", vec![partition(0), partition(1)]),
        topic("t", vec![partition(0)]),
    ]);
    for version in 0..=2 {
        let response = client.call(version, &request).await;
        assert_eq!(response.error_code, 0);
        let quorum = &response.topics[0].partitions[0];
        assert_eq!((quorum.error_code, quorum.leader_id.0), (0, 1));
        assert!(quorum.leader_epoch > 0, "{quorum:?}");
        assert!(quorum.high_watermark > 0, "{quorum:?}");
        assert_eq!(quorum.current_voters.len(), 1);
        assert_eq!(quorum.current_voters[0].replica_id.0, 1);
        assert!(quorum.current_voters[0].log_end_offset >= quorum.high_watermark);
        assert!(quorum.observers.is_empty());
        assert_eq!(response.topics[0].partitions[1].error_code, 3);
        assert_eq!(response.topics[1].partitions[0].error_code, 3);
        assert_eq!(response.nodes.len(), usize::from(version >= 2));
    }
    server.stop().await;
}

fn reassignment(
    version: i16,
    topic: &str,
    partitions: &[(i32, Option<&[i32]>)],
) -> AlterPartitionReassignmentsRequest {
    let partitions = partitions.iter().map(|(index, replicas)| {
        let replicas =
            replicas.map(|replicas| replicas.iter().copied().map(BrokerId).collect::<Vec<_>>());
        ReassignablePartition::default()
            .with_partition_index(*index)
            .with_replicas(replicas)
    });
    let topic = ReassignableTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(partitions.collect());
    AlterPartitionReassignmentsRequest::default()
        .with_timeout_ms(20_000)
        .with_allow_replication_factor_change(version == 0)
        .with_topics(vec![topic])
}

#[tokio::test]
async fn a_reassignment_that_cannot_be_is_refused_with_its_reason() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    for (version, replicas, code) in [
        (0, Some(&[][..]), 39),
        (0, Some(&[1, 1][..]), 39),
        (0, Some(&[-1][..]), 39),
        (0, Some(&[9][..]), 39),
        (1, Some(&[9][..]), 39),
        (0, None, 85),
        (1, None, 85),
    ] {
        let request = reassignment(version, "t", &[(0, replicas)]);
        let response = client.call(version, &request).await;
        let told = &response.responses[0].partitions[0];
        assert_eq!(
            (response.error_code, told.error_code),
            (0, code),
            "{replicas:?}"
        );
        assert!(told.error_message.is_some());
    }
    let unknown = reassignment(1, "t", &[(1, Some(&[1]))]);
    let response = client.call(1, &unknown).await;
    assert_eq!(response.responses[0].partitions[0].error_code, 3);
    let twice = reassignment(1, "t", &[(0, Some(&[1])), (0, Some(&[1]))]);
    let response = client.call(1, &twice).await;
    let codes: Vec<i16> = response.responses[0]
        .partitions
        .iter()
        .map(|told| told.error_code)
        .collect();
    assert_eq!(codes, [0, 42], "{response:?}");
    server.stop().await;
}

#[tokio::test]
async fn no_reassignment_is_under_way_on_a_node_alone() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    let request = ListPartitionReassignmentsRequest::default().with_topics(None);
    let response = client.call(0, &request).await;
    assert_eq!((response.error_code, response.topics.len()), (0, 0));
    server.stop().await;
}

#[tokio::test]
async fn log_directories_are_told_with_the_sizes_of_their_partitions() {
    let server = Server::start().await;
    server.client_and_topic("other", 1).await;
    let mut client = server.client_and_topic("t", 2).await;
    let some = |partitions: &[i32]| {
        DescribeLogDirsRequest::default().with_topics(Some(vec![
            DescribableLogDirTopic::default()
                .with_topic(topic_name("t"))
                .with_partitions(partitions.to_vec()),
        ]))
    };
    for version in 1..=4 {
        let all = DescribeLogDirsRequest::default().with_topics(None);
        let response = client.call(version, &all).await;
        assert_eq!((response.error_code, response.results.len()), (0, 1));
        let dir = &response.results[0];
        assert_eq!(dir.error_code, 0);
        assert!(!dir.log_dir.is_empty());
        let told: Vec<(String, usize)> = dir
            .topics
            .iter()
            .map(|topic| (topic.name.to_string(), topic.partitions.len()))
            .collect();
        assert_eq!(told, [("other".to_owned(), 1), ("t".to_owned(), 2)]);
        assert_eq!(dir.total_bytes > 0, version >= 4, "{}", dir.total_bytes);
        assert!(dir.usable_bytes <= dir.total_bytes);

        let response = client.call(version, &some(&[1, 7])).await;
        let topics = &response.results[0].topics;
        assert_eq!(topics.len(), 1);
        assert_eq!(topics[0].partitions.len(), 1);
        assert_eq!(topics[0].partitions[0].partition_index, 1);
        assert_eq!(topics[0].partitions[0].offset_lag, 0);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_node_that_is_in_use_or_unknown_is_not_unregistered() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    let of = |id| UnregisterBrokerRequest::default().with_broker_id(BrokerId(id));
    for id in [-1, 9] {
        let response = client.call(0, &of(id)).await;
        assert_eq!(response.error_code, 102, "{response:?}");
    }
    let response = client.call(0, &of(1)).await;
    assert_eq!(response.error_code, 42, "{response:?}");
    assert!(response.error_message.is_some());
    server.stop().await;
}

//! Three nodes in one process: what Kafka clients see of a cluster.

use std::future::Future;
use std::time::Duration;

use broker::record::{BatchProducer, decode_batch, split_batches};
use kafka_client::api::{Acks, FetchOptions, FetchPartition as Wanted, ProducePartition};
use kafka_client::{ClusterClient, ClusterOptions, Resend};
use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponsePartition;
use kafka_protocol::messages::*;
use storage::NodeId;

use crate::configs::told;
use crate::harness::*;

/// How often something is looked at again.
const POLL: Duration = Duration::from_millis(20);

/// Waits until `look` finds what it looks for.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            // Looking takes what the nodes need to get there.
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(DEADLINE, looking)
        .await
        .unwrap_or_else(|_| panic!("in vain: {what}"))
}

async fn stop(servers: Vec<Server>) {
    let stops = servers.into_iter().map(Server::stop);
    futures_util::future::join_all(stops).await;
}

/// Creates a topic with these replicas of partition 0, through node 2, and has the first of them
/// lead it: by itself it would only once it has been in sync for a while.
async fn create(servers: &[Server], name: &str, replicas: &[i32]) {
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_assignments(vec![
            CreatableReplicaAssignment::default()
                .with_partition_index(0)
                .with_broker_ids(replicas.iter().copied().map(BrokerId).collect()),
        ]);
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(20_000);
    let mut client = servers[1].connect().await;
    let told = client.call(7, &request).await.topics.remove(0);
    assert_eq!(told.error_code, 0, "{told:?}");
    assert_eq!(usize::try_from(told.replication_factor), Ok(replicas.len()));
    let leader = replicas[0];
    until(&format!("{name} led by {leader}"), || async {
        let shard = servers[1].broker.catalogue().topics[name].partitions[0].shard;
        let leader_node = NodeId(u32::try_from(leader).unwrap());
        // Refused until the shard has a leader and this one is in sync; asked again.
        let _asked = servers[1].broker.transfer_leader(shard, leader_node).await;
        let told = described(&mut servers[1].connect().await, name).await?;
        (told.leader_id == BrokerId(leader)).then_some(())
    })
    .await;
}

async fn described(client: &mut Client, name: &str) -> Option<MetadataResponsePartition> {
    let topic = MetadataRequestTopic::default().with_name(Some(topic_name(name)));
    let request = MetadataRequest::default()
        .with_topics(Some(vec![topic]))
        .with_allow_auto_topic_creation(false);
    let mut topics = client.call(9, &request).await.topics;
    topics.remove(0).partitions.pop()
}

fn sorted(ids: &[BrokerId]) -> Vec<i32> {
    let mut ids: Vec<i32> = ids.iter().map(|id| id.0).collect();
    ids.sort_unstable();
    ids
}

/// Waits until this node tells that the partition is led by `leader` and these are in sync.
async fn settled(server: &Server, name: &str, leader: i32, in_sync: &[i32]) {
    until(
        &format!("{name} led by {leader}, in sync {in_sync:?}"),
        || async {
            let told = described(&mut server.connect().await, name).await?;
            let is_so = told.leader_id == BrokerId(leader) && sorted(&told.isr_nodes) == in_sync;
            is_so.then_some(())
        },
    )
    .await;
}

fn batch_of(value: &str) -> bytes::Bytes {
    batch(&[value], BatchProducer::default())
}

#[tokio::test]
async fn every_node_tells_the_same_truth() {
    let servers = Server::start_three().await;
    create(&servers, "t", &[2, 3, 1]).await;
    for server in &servers {
        settled(server, "t", 2, &[1, 2, 3]).await;
        let mut client = server.connect().await;
        let told = described(&mut client, "t").await.unwrap();
        assert_eq!(told.replica_nodes, [BrokerId(2), BrokerId(3), BrokerId(1)]);
        assert!(told.leader_epoch > 0 && told.offline_replicas.is_empty());
        let cluster = client
            .call(12, &MetadataRequest::default().with_topics(Some(vec![])))
            .await;
        let nodes: Vec<(i32, String, i32)> = cluster
            .brokers
            .iter()
            .map(|node| {
                (
                    node.node_id.0,
                    node.rack.as_ref().unwrap().to_string(),
                    node.port,
                )
            })
            .collect();
        let expected: Vec<_> = (1..)
            .zip(&servers)
            .map(|(id, server)| {
                let port = i32::from(server.handle.local_addr().port());
                (id, format!("rack-{id}"), port)
            })
            .collect();
        assert_eq!(nodes, expected);
        assert!(cluster.controller_id.0 > 0);
        let described = client.call(2, &DescribeClusterRequest::default()).await;
        assert_eq!(described.controller_id, cluster.controller_id);
    }
    stop(servers).await;
}

#[tokio::test]
async fn a_node_that_does_not_lead_says_who_does() {
    let servers = Server::start_three().await;
    create(&servers, "t", &[2, 3, 1]).await;
    settled(&servers[0], "t", 2, &[1, 2, 3]).await;
    let mut client = servers[0].connect().await;
    let port = i32::from(servers[1].handle.local_addr().port());
    for version in 9..=12 {
        let response = client
            .call(version, &produce("t", 0, -1, batch_of("a")))
            .await;
        let told = &response.responses[0].partition_responses[0];
        assert_eq!(told.error_code, 6);
        let hints: Vec<_> = response
            .node_endpoints
            .iter()
            .map(|at| (at.node_id.0, at.port))
            .collect();
        if version >= 10 {
            assert_eq!(told.current_leader.leader_id, BrokerId(2));
            assert!(told.current_leader.leader_epoch > 0);
            assert_eq!(hints, [(2, port)]);
        } else {
            assert_eq!(hints, []);
        }
    }
    // Before version 11 leaders alone answer a fetch.
    let response = client.call(10, &fetch("t", 0, 0)).await;
    assert_eq!(response.responses[0].partitions[0].error_code, 6);
    stop(servers).await;
}

#[tokio::test]
async fn a_consumer_is_sent_to_the_replica_in_its_rack() {
    let servers = Server::start_three().await;
    create(&servers, "t", &[1, 2, 3]).await;
    settled(&servers[0], "t", 1, &[1, 2, 3]).await;
    let mut leader = servers[0].connect().await;
    let written = leader.call(9, &produce("t", 0, -1, batch_of("a"))).await;
    assert_eq!(written.responses[0].partition_responses[0].error_code, 0);
    let in_rack = |rack: &str| fetch("t", 0, 0).with_rack_id(text(rack));
    for version in [11, 12] {
        let told = until("a preferred replica", || async {
            let mut client = servers[0].connect().await;
            let response = client.call(version, &in_rack("rack-3")).await;
            let told = response.responses[0].partitions[0].clone();
            assert_eq!(told.error_code, 0);
            (told.preferred_read_replica != BrokerId(-1)).then_some(told)
        })
        .await;
        assert_eq!(told.preferred_read_replica, BrokerId(3));
        assert_eq!(told.records.map_or(0, |records| records.len()), 0);
        let own = leader.call(version, &in_rack("rack-1")).await;
        let own = &own.responses[0].partitions[0];
        assert_eq!(own.preferred_read_replica, BrokerId(-1));
        assert!(!own.records.as_ref().unwrap().is_empty());
        let followed = until("records at the follower", || async {
            let mut client = servers[2].connect().await;
            let response = client.call(version, &in_rack("rack-3")).await;
            let told = response.responses[0].partitions[0].clone();
            assert!([0, 78].contains(&told.error_code), "{}", told.error_code);
            told.records.filter(|records| !records.is_empty())
        })
        .await;
        assert_eq!(Some(&followed), own.records.as_ref(), "the same bytes");
    }
    stop(servers).await;
}

#[tokio::test]
async fn a_client_follows_the_leader_of_a_node_that_went() {
    let mut servers = Server::start_three().await;
    create(&servers, "t", &[1, 2, 3]).await;
    settled(&servers[1], "t", 1, &[1, 2, 3]).await;
    let addresses: Vec<String> = servers
        .iter()
        .map(|server| server.handle.local_addr().to_string())
        .collect();
    let cluster = ClusterClient::new(addresses, ClusterOptions::default());
    let identity = cluster.init_producer_id().await.unwrap();
    let write = async |sequence: i32| {
        let producer = BatchProducer {
            producer_id: identity.producer_id,
            producer_epoch: identity.producer_epoch,
            base_sequence: sequence,
        };
        let batch = ProducePartition {
            topic: "t".to_owned(),
            partition: 0,
            records: Some(batch(&["v"], producer)),
        };
        let written = cluster.produce(&batch, Acks::All, Resend::Harmless).await;
        written.unwrap().base_offset
    };
    for sequence in 0..3 {
        assert_eq!(write(sequence).await, i64::from(sequence));
    }
    servers.remove(0).stop().await;
    for sequence in 3..6 {
        assert_eq!(write(sequence).await, i64::from(sequence));
    }
    let fetched = cluster
        .fetch(&Wanted::new("t", 0, 0), FetchOptions::default())
        .await
        .unwrap();
    let records: Vec<i64> = split_batches(&fetched.records)
        .unwrap()
        .iter()
        .flat_map(|batch| decode_batch(batch, 1 << 20).unwrap())
        .map(|record| record.offset)
        .collect();
    assert_eq!(records, [0, 1, 2, 3, 4, 5]);
    for server in &servers {
        until("the node that went is told as offline", || async {
            let told = described(&mut server.connect().await, "t").await?;
            let is_so = told.offline_replicas == [BrokerId(1)]
                && sorted(&told.isr_nodes) == [2, 3]
                && told.leader_id.0 > 1;
            is_so.then_some(())
        })
        .await;
        // It was the controller, and until there is another nobody is told as fenced.
        let listed = until("another controller", || async {
            let mut client = server.connect().await;
            let listed = client.call(1, &DescribeClusterRequest::default()).await;
            (listed.controller_id.0 > 1).then_some(listed)
        })
        .await;
        assert_eq!(listed.brokers.len(), 2, "{listed:?}");
        let request = DescribeClusterRequest::default().with_include_fenced_brokers(true);
        let listed = server.connect().await.call(2, &request).await;
        let fenced: Vec<bool> = listed.brokers.iter().map(|node| node.is_fenced).collect();
        assert_eq!(fenced, [true, false, false]);
    }
    stop(servers).await;
}

#[tokio::test]
async fn what_is_set_for_all_brokers_every_node_has() {
    let servers = Server::start_three().await;
    create(&servers, "t", &[1, 2, 3]).await;
    let set = alter_configs_request::AlterableConfig::default()
        .with_name(text("message.max.bytes"))
        .with_value(Some(text("200")));
    let resource = alter_configs_request::AlterConfigsResource::default()
        .with_resource_type(4)
        .with_configs(vec![set]);
    let request = AlterConfigsRequest::default().with_resources(vec![resource]);
    let response = servers[2].connect().await.call(2, &request).await;
    assert_eq!(response.responses[0].error_code, 0, "{response:?}");
    for server in &servers {
        let mut client = server.connect().await;
        let expected = "200 from 3: message.max.bytes=200 3 message.max.bytes=1048588 5";
        until("the config on every node", || async {
            let told = told(&mut server.connect().await, 2, "t", "max.message.bytes").await;
            (told.as_deref() == Some(expected)).then_some(())
        })
        .await;
        let id = server.broker.node_id().to_string();
        let of_node = told(&mut client, 4, &id, "message.max.bytes").await;
        assert_eq!(of_node.as_deref(), Some(expected));
    }
    let mut leader = servers[0].connect().await;
    let large = batch_of(&"v".repeat(300));
    let response = leader.call(9, &produce("t", 0, -1, large)).await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, 10);
    stop(servers).await;
}

#[tokio::test]
async fn the_preferred_leader_is_elected() {
    let servers = Server::start_three().await;
    create(&servers, "t", &[3, 1, 2]).await;
    settled(&servers[0], "t", 3, &[1, 2, 3]).await;
    let catalogue = servers[0].broker.catalogue();
    let shard = catalogue.topics["t"].partitions[0].shard;
    servers[0]
        .broker
        .transfer_leader(shard, NodeId(1))
        .await
        .unwrap();
    settled(&servers[0], "t", 1, &[1, 2, 3]).await;
    let request = ElectLeadersRequest::default()
        .with_topic_partitions(Some(vec![
            TopicPartitions::default()
                .with_topic(topic_name("t"))
                .with_partitions(vec![0]),
        ]))
        .with_timeout_ms(20_000);
    let response = servers[0].connect().await.call(2, &request).await;
    let told = &response.replica_election_results[0].partition_result[0];
    assert!([0, 84].contains(&told.error_code), "{told:?}");
    settled(&servers[0], "t", 3, &[1, 2, 3]).await;
    stop(servers).await;
}

#[tokio::test]
async fn the_quorum_is_told_by_its_leader() {
    let servers = Server::start_three().await;
    let partition = PartitionData::default().with_partition_index(0);
    let request = DescribeQuorumRequest::default().with_topics(vec![
        TopicData::default()
            .with_topic_name(topic_name("__cluster_metadata"))
            .with_partitions(vec![partition]),
    ]);
    let quorum = until("three voters", || async {
        for server in &servers {
            let response = server.connect().await.call(2, &request).await;
            if response.error_code == 6 {
                continue;
            }
            assert_eq!(response.error_code, 0, "{response:?}");
            let quorum = &response.topics[0].partitions[0];
            let known = quorum
                .current_voters
                .iter()
                .filter(|one| one.log_end_offset > 0);
            if known.count() == 3 {
                return Some(response);
            }
        }
        None
    })
    .await;
    let told = &quorum.topics[0].partitions[0];
    let mut voters: Vec<i32> = told
        .current_voters
        .iter()
        .map(|one| one.replica_id.0)
        .collect();
    voters.sort_unstable();
    assert_eq!(voters, [1, 2, 3]);
    assert!(voters.contains(&told.leader_id.0));
    let listeners = quorum.nodes.iter().map(|node| node.listeners.len());
    assert_eq!(listeners.sum::<usize>(), 3);
    stop(servers).await;
}

#[tokio::test]
async fn a_partition_gets_other_replicas() {
    let servers = Server::start_three().await;
    create(&servers, "t", &[1, 2]).await;
    // By the node that is asked: it may hear of the topic later than others.
    settled(&servers[2], "t", 1, &[1, 2]).await;
    let reassign = |replicas: &[i32], may_change: bool| {
        let partition = ReassignablePartition::default()
            .with_partition_index(0)
            .with_replicas(Some(replicas.iter().copied().map(BrokerId).collect()));
        AlterPartitionReassignmentsRequest::default()
            .with_timeout_ms(20_000)
            .with_allow_replication_factor_change(may_change)
            .with_topics(vec![
                ReassignableTopic::default()
                    .with_name(topic_name("t"))
                    .with_partitions(vec![partition]),
            ])
    };
    let mut client = servers[2].connect().await;
    let refused = client.call(1, &reassign(&[1, 2, 3], false)).await;
    assert_eq!(refused.responses[0].partitions[0].error_code, 38);
    let taken = client.call(1, &reassign(&[2, 3], false)).await;
    assert_eq!(taken.responses[0].partitions[0].error_code, 0, "{taken:?}");
    until("the replicas of now", || async {
        let told = described(&mut servers[2].connect().await, "t").await?;
        let is_so = told.replica_nodes == [BrokerId(2), BrokerId(3)]
            && sorted(&told.isr_nodes) == [2, 3]
            && told.leader_id == BrokerId(2);
        is_so.then_some(())
    })
    .await;
    until("nothing to be under way", || async {
        let request = ListPartitionReassignmentsRequest::default().with_topics(None);
        let response = servers[0].connect().await.call(0, &request).await;
        response.topics.is_empty().then_some(())
    })
    .await;
    let refused = client
        .call(
            0,
            &UnregisterBrokerRequest::default().with_broker_id(BrokerId(2)),
        )
        .await;
    assert_eq!(refused.error_code, 42, "it holds replicas: {refused:?}");
    stop(servers).await;
}

//! Fetch, as consumers see it.

use broker::record::{Compression, decode_batch, split_batches};
use kafka_protocol::messages::fetch_request::FetchTopic;
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::*;

use crate::harness::*;

async fn put(client: &mut Client, values: &[&str]) {
    let response = client
        .call(9, &produce("t", 0, -1, batch(values, Default::default())))
        .await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
}

async fn told(client: &mut Client, version: i16, request: &FetchRequest) -> PartitionData {
    let response = client.call(version, request).await;
    assert_eq!(response.error_code, 0);
    assert_eq!(response.session_id, 0);
    response.responses[0].partitions[0].clone()
}

pub(crate) fn offsets(told: &PartitionData) -> Vec<i64> {
    let batches = split_batches(told.records.as_ref().unwrap()).unwrap();
    let records = batches
        .iter()
        .flat_map(|batch| decode_batch(batch, 1 << 20).unwrap());
    records.map(|record| record.offset).collect()
}

pub(crate) fn by_id(request: FetchRequest, id: [u8; 16]) -> FetchRequest {
    let topics = request.topics.iter().map(|topic| {
        FetchTopic::default()
            .with_topic_id(id.to_vec().try_into().unwrap())
            .with_partitions(topic.partitions.clone())
    });
    request.clone().with_topics(topics.collect())
}

#[tokio::test]
async fn every_version_reads_what_was_written() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    put(&mut client, &["a", "b", "c"]).await;
    put(&mut client, &["d"]).await;
    let id = server.broker.catalogue().topics["t"].id.0;
    for version in 4..=17 {
        for isolation in [0, 1] {
            let mut request = fetch("t", 0, 0).with_isolation_level(isolation);
            if version >= 13 {
                request = by_id(request, id);
            }
            let told = told(&mut client, version, &request).await;
            assert_eq!(
                (told.error_code, told.high_watermark),
                (0, 4),
                "version {version}"
            );
            assert_eq!(told.last_stable_offset, 4);
            assert_eq!(offsets(&told), [0, 1, 2, 3]);
            assert_eq!(told.aborted_transactions.is_some(), isolation == 1);
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn an_offset_inside_a_batch_gets_the_whole_batch() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    put(&mut client, &["a", "b", "c"]).await;
    put(&mut client, &["d"]).await;
    assert_eq!(
        offsets(&told(&mut client, 11, &fetch("t", 0, 1)).await),
        [0, 1, 2, 3]
    );
    server.stop().await;
}

#[tokio::test]
async fn the_first_batch_is_whole_however_little_is_asked_for() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    put(&mut client, &["a", "b"]).await;
    put(&mut client, &["c"]).await;
    let mut request = fetch("t", 0, 0).with_max_bytes(1);
    request.topics[0].partitions[0].partition_max_bytes = 1;
    assert_eq!(offsets(&told(&mut client, 11, &request).await), [0, 1]);
    server.stop().await;
}

#[tokio::test]
async fn offsets_outside_the_log_are_refused_and_its_end_is_not() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    put(&mut client, &["a"]).await;
    assert_eq!(told(&mut client, 11, &fetch("t", 0, 2)).await.error_code, 1);
    assert_eq!(
        told(&mut client, 11, &fetch("t", 0, -1)).await.error_code,
        1
    );
    let at_end = told(&mut client, 11, &fetch("t", 0, 1)).await;
    assert_eq!((at_end.error_code, at_end.records.unwrap().len()), (0, 0));
    server.stop().await;
}

#[tokio::test]
async fn an_error_in_one_partition_ends_the_wait() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    let mut request = waiting_fetch("t", 0, 0);
    request.topics.extend(waiting_fetch("unknown", 0, 0).topics);
    let response = client.call(11, &request).await;
    let codes: Vec<i16> = response
        .responses
        .iter()
        .map(|topic| topic.partitions[0].error_code)
        .collect();
    assert_eq!(codes, [0, 3]);
    server.stop().await;
}

#[tokio::test]
async fn a_stale_topic_id_is_told_after_the_topic_was_made_anew() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    let old = server.broker.catalogue().topics["t"].id.0;
    let names = vec![topic_name("t")];
    let delete = DeleteTopicsRequest::default()
        .with_topic_names(names)
        .with_timeout_ms(20_000);
    assert_eq!(client.call(5, &delete).await.responses[0].error_code, 0);
    let mut client = server.client_and_topic("t", 1).await;
    let stale = by_id(fetch("t", 0, 0), old);
    assert_eq!(told(&mut client, 13, &stale).await.error_code, 100);
    let new = server.broker.catalogue().topics["t"].id.0;
    assert_ne!(old, new);
    assert_eq!(
        told(&mut client, 13, &by_id(fetch("t", 0, 0), new))
            .await
            .error_code,
        0
    );
    assert_eq!(
        told(&mut client, 13, &by_id(fetch("t", 7, 0), new))
            .await
            .error_code,
        3
    );
    server.stop().await;
}

#[tokio::test]
async fn leader_epochs_are_checked() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    let topic = server.broker.catalogue().topics["t"].clone();
    let status = server
        .broker
        .partition_status(topic.partition(0).unwrap())
        .unwrap();
    let current = status.leader_epoch.0;
    let with_epoch = |epoch| {
        let mut request = fetch("t", 0, 0);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        request
    };
    assert_eq!(
        told(&mut client, 9, &with_epoch(current)).await.error_code,
        0
    );
    assert_eq!(
        told(&mut client, 9, &with_epoch(current + 1))
            .await
            .error_code,
        75
    );
    if current > 0 {
        assert_eq!(
            told(&mut client, 9, &with_epoch(current - 1))
                .await
                .error_code,
            74
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn zstd_is_not_given_to_clients_that_cannot_read_it() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    let zstd = compressed(&["a"], Compression::Zstd, Default::default());
    client.call(9, &produce("t", 0, -1, zstd.clone())).await;
    assert_eq!(told(&mut client, 9, &fetch("t", 0, 0)).await.error_code, 76);
    let told = told(&mut client, 10, &fetch("t", 0, 0)).await;
    assert_eq!(told.error_code, 0);
    // The payload is what the producer sent, byte for byte; offset and epoch stand before it.
    assert_eq!(told.records.unwrap()[16..], zstd[16..]);
    server.stop().await;
}

#[tokio::test]
async fn a_fetch_without_partitions_does_not_wait() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let request = waiting_fetch("t", 0, 0).with_topics(vec![]);
    assert!(client.call(12, &request).await.responses.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_fetch_in_the_name_of_a_replica_is_refused() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    put(&mut client, &["a"]).await;
    let id = server.broker.catalogue().topics["t"].id.0;
    for version in 4..=17 {
        let from = |replica: i32| {
            let request = match version {
                13.. => by_id(fetch("t", 0, 0), id),
                _ => fetch("t", 0, 0),
            };
            match version {
                15.. => request.with_replica_state(
                    fetch_request::ReplicaState::default().with_replica_id(BrokerId(replica)),
                ),
                _ => request.with_replica_id(BrokerId(replica)),
            }
        };
        for consumer in [-1, -2] {
            let told = told(&mut client, version, &from(consumer)).await;
            assert_eq!((told.error_code, offsets(&told)), (0, vec![0]));
        }
        for replica in [0, 1, 2] {
            let told = told(&mut client, version, &from(replica)).await;
            assert_eq!(told.error_code, 29, "version {version} replica {replica}");
            assert_eq!(told.records.as_ref().map(|records| records.len()), Some(0));
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_fenced_epoch_is_answered_with_the_leader_of_now() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    let id = server.broker.catalogue().topics["t"].id.0;
    let port = i32::from(server.handle.local_addr().port());
    for version in 12..=17 {
        let mut request = fetch("t", 0, 0);
        request.topics[0].partitions[0].current_leader_epoch = 0;
        if version >= 13 {
            request = by_id(request, id);
        }
        let response = client.call(version, &request).await;
        let told = &response.responses[0].partitions[0];
        assert_eq!(told.error_code, 74);
        assert_eq!(told.current_leader.leader_id, BrokerId(1));
        assert!(told.current_leader.leader_epoch > 0);
        let endpoints: Vec<i32> = response.node_endpoints.iter().map(|at| at.port).collect();
        let expected = if version >= 16 { vec![port] } else { vec![] };
        assert_eq!(endpoints, expected, "version {version}");
    }
    server.stop().await;
}

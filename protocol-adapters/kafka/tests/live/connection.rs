//! Frames, order, bounds, and the end of connections.

use broker::BrokerConfig;
use bytes::{BufMut, BytesMut};
use kafka::KafkaServerConfig;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::Decodable;
use tokio::io::AsyncWriteExt;

use crate::harness::*;

fn api_versions() -> ApiVersionsRequest {
    ApiVersionsRequest::default()
        .with_client_software_name(text("test"))
        .with_client_software_version(text("1"))
}

#[tokio::test]
async fn every_advertised_api_is_told_in_every_version() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    for version in 0..=4 {
        let response = client.call(version, &api_versions()).await;
        assert_eq!(response.error_code, 0);
        assert_eq!(response.api_keys.len(), 39, "version {version}");
        let produce = &response.api_keys[0];
        assert_eq!(
            (produce.api_key, produce.min_version, produce.max_version),
            (0, 0, 13)
        );
        let features = response.finalized_features.iter();
        let features: Vec<&str> = features.map(|feature| &*feature.name).collect();
        let known: &[&str] = if version >= 3 {
            &["group.version"]
        } else {
            &[]
        };
        assert_eq!(features, known, "version {version}");
    }
    server.stop().await;
}

#[tokio::test]
async fn an_unknown_version_of_api_versions_is_answered_and_the_connection_goes_on() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    // Version 9, and a body that only a later broker would understand.
    client
        .stream
        .write_all(&[0, 0, 0, 11, 0, 18, 0, 9, 0, 0, 0, 7, 1, 2, 3])
        .await
        .unwrap();
    let (correlation_id, frame) = client.receive_frame().await.unwrap();
    assert_eq!(correlation_id, 7);
    let answer = ApiVersionsResponse::decode(&mut frame.slice(4..), 0).unwrap();
    assert_eq!(answer.error_code, 35);
    assert_eq!(
        (answer.api_keys[0].api_key, answer.api_keys[0].max_version),
        (18, 4)
    );
    assert_eq!(client.call(3, &api_versions()).await.error_code, 0);
    server.stop().await;
}

/// Sends bytes on a fresh connection, which is to end, while another one goes on.
async fn check_closes(server: &Server, bytes: &[u8]) {
    let mut client = server.connect().await;
    client.stream.write_all(bytes).await.unwrap();
    assert!(client.is_closed().await, "{bytes:?}");
    let mut other = server.connect().await;
    assert_eq!(other.call(0, &api_versions()).await.error_code, 0);
}

#[tokio::test]
async fn what_cannot_be_understood_closes_its_connection_only() {
    let config = KafkaServerConfig {
        frame_bytes_max: 1_000,
        ..KafkaServerConfig::default()
    };
    let server = Server::start_with(BrokerConfig::default(), config).await;
    check_closes(&server, &(-1i32).to_be_bytes()).await;
    check_closes(&server, &1_001i32.to_be_bytes()).await;
    // An API that is not answered, a version that is not, a header cut short.
    check_closes(&server, &[0, 0, 0, 10, 0, 68, 0, 0, 0, 0, 0, 1, 0xff, 0xff]).await;
    check_closes(&server, &[0, 0, 0, 10, 0, 3, 0, 99, 0, 0, 0, 1, 0xff, 0xff]).await;
    check_closes(&server, &[0, 0, 0, 10, 0, 1, 0, 3, 0, 0, 0, 1, 0xff, 0xff]).await;
    check_closes(&server, &[0, 0, 0, 3, 0, 3, 0]).await;
    // Metadata that declares two thousand million topics, in both encodings.
    let body = [0x7f, 0xff, 0xff, 0xff];
    check_closes(
        &server,
        &[
            &[0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff][..],
            &body,
        ]
        .concat(),
    )
    .await;
    let body = [0, 0xff, 0xff, 0xff, 0xff, 0x0f];
    check_closes(
        &server,
        &[
            &[0, 0, 0, 16, 0, 3, 0, 9, 0, 0, 0, 1, 0xff, 0xff][..],
            &body,
        ]
        .concat(),
    )
    .await;
    server.stop().await;
}

#[tokio::test]
async fn requests_before_a_malformed_one_are_answered() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let mut bytes = BytesMut::from(&frame(0, 1, &api_versions())[..]);
    bytes.put(frame(0, 2, &api_versions()));
    bytes.put_i32(-1);
    client.stream.write_all(&bytes).await.unwrap();
    assert_eq!(client.receive_frame().await.unwrap().0, 1);
    assert_eq!(client.receive_frame().await.unwrap().0, 2);
    assert!(client.is_closed().await);
    server.stop().await;
}

#[tokio::test]
async fn a_request_may_come_byte_by_byte() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    for byte in frame(3, 5, &api_versions()) {
        client.stream.write_all(&[byte]).await.unwrap();
        client.stream.flush().await.unwrap();
    }
    assert_eq!(client.receive::<ApiVersionsRequest>(3).await.error_code, 0);
    server.stop().await;
}

#[tokio::test]
async fn a_waiting_fetch_holds_up_answers_but_not_requests() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    client.send(4, &waiting_fetch("t", 0, 0)).await;
    let fetch_id = client.correlation_id;
    // Only this produce, on the same connection and after it, can end the fetch.
    client
        .send(9, &produce("t", 0, -1, batch(&["a"], Default::default())))
        .await;
    client.send(0, &api_versions()).await;
    let ids = [client.receive_frame().await, client.receive_frame().await];
    let ids = ids.map(|answer| answer.unwrap().0);
    assert_eq!(ids, [fetch_id, fetch_id + 1]);
    assert_eq!(client.receive::<ApiVersionsRequest>(0).await.error_code, 0);
    server.stop().await;
}

#[tokio::test]
async fn pipelined_fetches_are_answered_one_after_another() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    let value = "x".repeat(100_000);
    client
        .call(
            9,
            &produce("t", 0, -1, batch(&[&value], Default::default())),
        )
        .await;
    let mut bytes = BytesMut::new();
    for id in 0..300 {
        bytes.put(frame(11, id, &fetch("t", 0, 0)));
    }
    client.stream.write_all(&bytes).await.unwrap();
    for id in 0..300 {
        let (correlation_id, frame) = client.receive_frame().await.unwrap();
        assert_eq!(correlation_id, id);
        let response = FetchResponse::decode(&mut frame.slice(4..), 11).unwrap();
        let records = response.responses[0].partitions[0]
            .records
            .as_ref()
            .unwrap()
            .len();
        assert!(records > value.len());
    }
    server.stop().await;
}

#[tokio::test]
async fn a_dropped_connection_takes_its_waiting_fetches_with_it() {
    let config = BrokerConfig {
        waiting_fetches_max: 1,
        ..BrokerConfig::default()
    };
    let server = Server::start_with(config, KafkaServerConfig::default()).await;
    let mut first = server.client_and_topic("t", 1).await;
    first.send(11, &waiting_fetch("t", 0, 0)).await;
    let mut other = server.connect().await;
    // While the first one has the only place, others are answered early.
    let clock = storage::clock::Clock::system();
    let wait_ms = 1_000;
    let waits = async |other: &mut Client| {
        let before = clock.monotonic_ms();
        let response = other
            .call(11, &fetch("t", 0, 0).with_max_wait_ms(wait_ms))
            .await;
        assert_eq!(response.responses[0].partitions[0].error_code, 0);
        clock.monotonic_ms() - before >= i64::from(wait_ms)
    };
    let taken = async { while waits(&mut other).await {} };
    tokio::time::timeout(DEADLINE, taken)
        .await
        .expect("the place is taken");
    drop(first);
    let free = async { while !waits(&mut other).await {} };
    tokio::time::timeout(DEADLINE, free)
        .await
        .expect("the place is free");
    server.stop().await;
}

#[tokio::test]
async fn pipelined_produces_are_appended_and_answered_in_order() {
    let server = Server::start().await;
    let client = server.client_and_topic("t", 1).await;
    let mut bytes = BytesMut::new();
    for id in 0..1_000i32 {
        bytes.put(frame(
            9,
            id,
            &produce("t", 0, -1, batch(&["v"], Default::default())),
        ));
    }
    let (mut reader, mut writer) = client.stream.into_split();
    let writing = tokio::spawn(async move {
        writer.write_all(&bytes).await.unwrap();
        writer
    });
    for id in 0..1_000i32 {
        use tokio::io::AsyncReadExt;
        let length = usize::try_from(reader.read_i32().await.unwrap()).unwrap();
        let mut frame = vec![0; length];
        reader.read_exact(&mut frame).await.unwrap();
        assert_eq!(frame[..4], id.to_be_bytes());
        let mut body = bytes::Bytes::from(frame).slice(5..);
        let response = ProduceResponse::decode(&mut body, 9).unwrap();
        let told = &response.responses[0].partition_responses[0];
        assert_eq!((told.error_code, told.base_offset), (0, i64::from(id)));
    }
    writing.await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn more_requests_than_may_be_in_hand_are_all_answered() {
    let config = KafkaServerConfig {
        inflight_requests_per_connection_max: 2,
        inflight_bytes_per_connection_max: 10,
        ..KafkaServerConfig::default()
    };
    let server = Server::start_with(BrokerConfig::default(), config).await;
    let mut client = server.client_and_topic("t", 1).await;
    let mut bytes = BytesMut::new();
    for id in 0..50 {
        bytes.put(frame(
            9,
            id,
            &produce("t", 0, 1, batch(&["v"], Default::default())),
        ));
    }
    client.stream.write_all(&bytes).await.unwrap();
    for id in 0..50 {
        assert_eq!(client.receive_frame().await.unwrap().0, id);
    }
    server.stop().await;
}

#[tokio::test]
async fn shutdown_answers_what_is_in_hand_and_ends_waiting_fetches() {
    let server = Server::start().await;
    let mut client = server.client_and_topic("t", 1).await;
    client.send(11, &waiting_fetch("t", 0, 0)).await;
    // Begun before the shutdown: answered after a later request on another connection is.
    client.send(11, &waiting_fetch("t", 0, 0)).await;
    let begun = async {
        let mut other = server.connect().await;
        for _ in 0..20 {
            other.call(0, &api_versions()).await;
        }
    };
    begun.await;
    let Server { handle, .. } = server;
    let stopping = tokio::spawn(handle.shutdown());
    for _ in 0..2 {
        let response = client.receive::<FetchRequest>(11).await;
        assert_eq!(response.responses[0].partitions[0].error_code, 0);
    }
    assert!(client.is_closed().await);
    tokio::time::timeout(DEADLINE, stopping)
        .await
        .expect("stops in time")
        .unwrap();
}

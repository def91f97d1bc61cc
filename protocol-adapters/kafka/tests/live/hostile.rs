//! Clients that hold what they can: memory stays within its bounds and others are served.

use broker::BrokerConfig;
use bytes::{BufMut, BytesMut};
use kafka::KafkaServerConfig;
use kafka_protocol::messages::*;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::harness::*;

const MIB: usize = 1 << 20;
const BUDGET_BYTES: usize = 8 * MIB;

/// Frames of at most 1 MiB, and 8 MiB for all connections.
fn config() -> KafkaServerConfig {
    KafkaServerConfig {
        frame_bytes_max: MIB,
        inflight_bytes_max: BUDGET_BYTES,
        handshake_ms_max: 0,
        ..KafkaServerConfig::default()
    }
}

async fn start(config: KafkaServerConfig) -> Server {
    Server::start_with(BrokerConfig::default(), config).await
}

/// Waits until the connections hold this much; what they hold is within the budget all the while.
async fn wait_for_inflight(server: &Server, reached: impl Fn(usize) -> bool) {
    let reached = async {
        loop {
            let bytes = server.handle.inflight_bytes();
            assert!(bytes <= BUDGET_BYTES, "{bytes} bytes in hand");
            if reached(bytes) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, reached)
        .await
        .expect("in time");
}

/// Connections that each send the first half of a request of 1 MiB, as far as they are let, and
/// then nothing.
async fn half_requests(server: &Server, count: usize) -> JoinSet<Client> {
    let mut bytes = BytesMut::from(&1_048_576i32.to_be_bytes()[..]);
    bytes.put_bytes(0, MIB / 2);
    let bytes = bytes.freeze();
    let mut clients = JoinSet::new();
    for _ in 0..count {
        let mut client = server.connect().await;
        let bytes = bytes.clone();
        clients.spawn(async move {
            // Fails when the server closes the connection.
            let _ = client.stream.write_all(&bytes).await;
            client
        });
    }
    clients
}

/// Produces and fetches a little, which must not wait for anybody.
async fn check_is_served(client: &mut Client, count: usize) {
    for _ in 0..count {
        let request = produce("t", 0, -1, batch(&["a"], Default::default()));
        let response = client.call(9, &request).await;
        let told = &response.responses[0].partition_responses[0];
        assert_eq!(told.error_code, 0);
        let request = fetch("t", 0, told.base_offset);
        let response = client.call(11, &request).await;
        let told = &response.responses[0].partitions[0];
        assert_eq!(told.error_code, 0);
        assert!(!told.records.as_ref().unwrap().is_empty());
    }
}

fn large_value() -> String {
    "x".repeat(MIB - 10_000)
}

#[tokio::test]
async fn a_thousand_half_requests_leave_room_for_small_ones() {
    let server = start(config()).await;
    let mut client = server.client_and_topic("t", 1).await;
    let hostile = half_requests(&server, 1_000).await;
    // All that is shared by requests is held, which is some 3.5 MiB.
    wait_for_inflight(&server, |bytes| bytes > 3 * MIB).await;
    check_is_served(&mut client, 20).await;
    wait_for_inflight(&server, |bytes| bytes > 3 * MIB).await;
    drop(hostile);
    wait_for_inflight(&server, |bytes| bytes == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn half_requests_are_closed_in_time_and_large_ones_are_served() {
    let server = start(KafkaServerConfig {
        frame_ms_max: 1_000,
        ..config()
    })
    .await;
    drop(server.client_and_topic("t", 1).await);
    let mut hostile = half_requests(&server, 100).await;
    wait_for_inflight(&server, |bytes| bytes > 3 * MIB).await;
    let request = produce("t", 0, -1, batch(&[&large_value()], Default::default()));
    let large = frame(9, 1, &request);
    // A client whose request waits too long behind the others is closed like them, and comes again.
    let served = async {
        loop {
            let mut client = server.connect().await;
            if client.stream.write_all(&large).await.is_ok()
                && let Some((correlation_id, _)) = client.receive_frame().await
            {
                return correlation_id;
            }
        }
    };
    let served = tokio::time::timeout(DEADLINE, served).await;
    assert_eq!(served.expect("served in time"), 1);
    while let Some(client) = hostile.join_next().await {
        assert!(client.unwrap().is_closed().await);
    }
    wait_for_inflight(&server, |bytes| bytes == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn more_large_requests_than_fit_at_once_are_all_answered() {
    let server = start(config()).await;
    drop(server.client_and_topic("t", 1).await);
    let request = produce("t", 0, -1, batch(&[&large_value()], Default::default()));
    let large = frame(9, 1, &request);
    let mut clients = JoinSet::new();
    for _ in 0..60 {
        let mut client = server.connect().await;
        let large = large.clone();
        clients.spawn(async move {
            client.stream.write_all(&large).await.unwrap();
            client.receive::<ProduceRequest>(9).await
        });
    }
    while let Some(response) = clients.join_next().await {
        let response = response.unwrap();
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
        assert!(server.handle.inflight_bytes() <= BUDGET_BYTES);
    }
    wait_for_inflight(&server, |bytes| bytes == 0).await;
    server.stop().await;
}

/// Fills a partition with 12 MiB, in batches of some 60,000 bytes.
async fn fill(client: &mut Client) {
    let value = "x".repeat(60_000);
    let request = produce("t", 1, -1, batch(&[&value], Default::default()));
    for _ in 0..200 {
        let response = client.call(9, &request).await;
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    }
}

/// A fetch of all there is.
fn greedy_fetch() -> FetchRequest {
    let mut request = fetch("t", 1, 0).with_max_bytes(i32::MAX);
    request.topics[0].partitions[0].partition_max_bytes = i32::MAX;
    request
}

/// Connections that each ask for everything many times and read none of it.
async fn never_reading(server: &Server, count: usize) -> Vec<TcpStream> {
    let mut pipelined = BytesMut::new();
    for id in 0..50 {
        pipelined.put(frame(11, id, &greedy_fetch()));
    }
    let mut streams = Vec::new();
    for _ in 0..count {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 << 10).unwrap();
        let mut stream = socket.connect(server.handle.local_addr()).await.unwrap();
        stream.write_all(&pipelined).await.unwrap();
        streams.push(stream);
    }
    // All that is shared by reads is held, which is some 3.5 MiB.
    wait_for_inflight(server, |bytes| bytes > 3 * MIB).await;
    streams
}

#[tokio::test]
async fn answers_that_nobody_reads_leave_room_for_small_ones() {
    let server = start(config()).await;
    let mut client = server.client_and_topic("t", 2).await;
    fill(&mut client).await;
    let hostile = never_reading(&server, 20).await;
    check_is_served(&mut client, 100).await;
    wait_for_inflight(&server, |bytes| bytes > 3 * MIB).await;
    drop(hostile);
    wait_for_inflight(&server, |bytes| bytes == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn clients_that_do_not_read_their_answers_are_closed() {
    let server = start(KafkaServerConfig {
        send_ms_max: 1_000,
        ..config()
    })
    .await;
    let mut client = server.client_and_topic("t", 2).await;
    fill(&mut client).await;
    let hostile = never_reading(&server, 20).await;
    // Nothing of it is held for ever, although they stay.
    wait_for_inflight(&server, |bytes| bytes == 0).await;
    check_is_served(&mut client, 1).await;
    drop(hostile);
    server.stop().await;
}

#[tokio::test]
async fn all_who_ask_for_everything_at_once_get_some() {
    let server = start(config()).await;
    let mut client = server.client_and_topic("t", 2).await;
    fill(&mut client).await;
    let mut clients = JoinSet::new();
    for _ in 0..100 {
        let mut client = server.connect().await;
        clients.spawn(async move {
            client
                .call(11, &greedy_fetch().with_max_wait_ms(60_000))
                .await
        });
    }
    while let Some(response) = clients.join_next().await {
        let response = response.unwrap();
        let told = &response.responses[0].partitions[0];
        assert_eq!(told.error_code, 0);
        assert!(!told.records.as_ref().unwrap().is_empty());
        assert!(server.handle.inflight_bytes() <= BUDGET_BYTES);
    }
    wait_for_inflight(&server, |bytes| bytes == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn waiting_fetches_hold_nothing() {
    let server = start(config()).await;
    let mut client = server.client_and_topic("t", 2).await;
    fill(&mut client).await;
    let mut waiting = Vec::new();
    for _ in 0..50 {
        let mut client = server.connect().await;
        // All but what it waits for is there.
        let mut request = waiting_fetch("t", 1, 0)
            .with_max_bytes(3 << 20)
            .with_min_bytes(3 << 20);
        request.topics[0].partitions[0].partition_max_bytes = 1 << 20;
        client.send(11, &request).await;
        waiting.push(client);
    }
    check_is_served(&mut client, 20).await;
    wait_for_inflight(&server, |bytes| bytes == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn a_fetch_beyond_those_that_may_wait_is_answered_early_but_not_at_once() {
    let config = BrokerConfig {
        waiting_fetches_max: 0,
        ..BrokerConfig::default()
    };
    let server = Server::start_with(config, KafkaServerConfig::default()).await;
    let mut client = server.client_and_topic("t", 1).await;
    let clock = storage::clock::Clock::system();
    for _ in 0..3 {
        let before_ms = clock.monotonic_ms();
        let response = client.call(11, &waiting_fetch("t", 0, 0)).await;
        assert_eq!(response.responses[0].partitions[0].error_code, 0);
        let waited_ms = clock.monotonic_ms() - before_ms;
        assert!((100..20_000).contains(&waited_ms), "{waited_ms} ms");
    }
    // With something to tell it is told at once.
    check_is_served(&mut client, 3).await;
    server.stop().await;
}

#[tokio::test]
async fn a_budget_that_is_too_small_is_refused() {
    let config = KafkaServerConfig {
        inflight_bytes_max: 4 * MIB - 1,
        ..config()
    };
    let clock = storage::clock::Clock::system();
    let refused = kafka::KafkaServer::bind(([127, 0, 0, 1], 0).into(), config, clock);
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("inflight_bytes_max")
    );
}

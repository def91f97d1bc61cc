//! The memory of the whole process while clients send what is never complete; alone in its process,
//! so that nothing else is measured.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "live/harness.rs"]
#[expect(dead_code, reason = "only some of it is needed here")]
mod harness;

use std::path::Path;

use broker::BrokerConfig;
use bytes::{BufMut, BytesMut};
use harness::{DEADLINE, Server};
use kafka::KafkaServerConfig;
use storage::disk::{Disk, OpenMode};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

const MIB: usize = 1 << 20;
const CONNECTIONS: usize = 1_000;

/// Memory of this process in RAM.
fn resident_bytes() -> usize {
    let mut text = [0; 256];
    let file = Disk::Real
        .open(Path::new("/proc/self/statm"), OpenMode::Read)
        .unwrap();
    let count = file.read_at(&mut text, 0).unwrap();
    let text = std::str::from_utf8(&text[..count]).unwrap();
    let pages: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[tokio::test]
async fn half_requests_of_500_mib_take_no_more_than_their_bounds() {
    let config = KafkaServerConfig {
        frame_bytes_max: MIB,
        inflight_bytes_max: 8 * MIB,
        handshake_ms_max: 0,
        ..KafkaServerConfig::default()
    };
    let server = Server::start_with(BrokerConfig::default(), config).await;
    let before_bytes = resident_bytes();
    let mut bytes = BytesMut::from(&1_048_576i32.to_be_bytes()[..]);
    bytes.put_bytes(0, MIB / 2);
    let bytes = bytes.freeze();
    let mut clients = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let mut client = server.connect().await;
        let bytes = bytes.clone();
        clients.spawn(async move {
            // Fails when the server closes the connection.
            let _ = client.stream.write_all(&bytes).await;
            client
        });
    }
    let all_held = async {
        while server.handle.inflight_bytes() <= 3 * MIB {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, all_held)
        .await
        .expect("in time");
    // 64 KiB for each connection and what its buffer has beside them, and the budget.
    let grown_bytes = resident_bytes().saturating_sub(before_bytes);
    assert!(grown_bytes < 256 * MIB, "{grown_bytes} bytes are held");
    drop(clients);
    server.stop().await;
}

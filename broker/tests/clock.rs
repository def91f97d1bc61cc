//! Nodes whose clocks are an hour off, either way, and a clock that jumps: nothing that was
//! acknowledged is lost, whoever leads, and clients need not care.

mod trio;

use storage::clock::Clock;
use trio::{Load, Trio, eventually};

const HOUR_MS: i64 = 3_600_000;
/// Acknowledged between two events.
const RECORDS: i64 = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_an_hour_apart_lose_nothing_whoever_leads() {
    let clocks = [
        Clock::system(),
        Clock::skewed(HOUR_MS),
        Clock::skewed(-HOUR_MS),
    ];
    let trio = Trio::start(10, clocks).await;
    let partitions = trio.topic("apart", 4, &[]).await;
    let load = Load::start(&trio, &partitions);
    for node in [1, 2, 0] {
        load.more(RECORDS).await;
        trio.lead_all(node).await;
        load.more(RECORDS).await;
        // Topics are made and known whatever the time is there.
        trio.topic(&format!("made-by-{node}"), 1, &[]).await;
    }
    let written = load.end().await;
    trio.settled().await;
    assert!(trio.check(&written).await >= 6 * RECORDS);
    trio.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_an_hour_either_way_stops_nobody() {
    let jumping = Clock::skewed(0);
    let trio = Trio::start(20, [jumping.clone(), Clock::system(), Clock::system()]).await;
    let partitions = trio.topic("jumps", 4, &[]).await;
    trio.lead_all(0).await;
    let load = Load::start(&trio, &partitions);
    for by_ms in [HOUR_MS, -2 * HOUR_MS, HOUR_MS] {
        load.more(RECORDS).await;
        let before = trio.brokers[0].cluster_status();
        jumping.advance_ms(by_ms);
        load.more(RECORDS).await;
        // Nobody took the jump for a silence.
        let count = before.nodes.len();
        eventually("all nodes are alive", async || {
            let after = trio.brokers[0].cluster_status();
            let is_alive = after.nodes.iter().all(|node| node.alive);
            (is_alive && after.nodes.len() == count).then_some(())
        })
        .await;
    }
    let written = load.end().await;
    trio.settled().await;
    assert!(trio.check(&written).await >= 6 * RECORDS);
    trio.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stamps_of_the_log_follow_the_leader_and_its_offsets_do_not() {
    let clocks = [
        Clock::system(),
        Clock::skewed(HOUR_MS),
        Clock::skewed(-HOUR_MS),
    ];
    let trio = Trio::start(30, clocks).await;
    let stamped = [("message.timestamp.type", "LogAppendTime")];
    let partitions = trio.topic("stamped", 2, &stamped).await;
    let load = Load::start(&trio, &partitions);
    for node in [1, 2, 0] {
        trio.lead_all(node).await;
        load.more(RECORDS).await;
    }
    let written = load.end().await;
    trio.settled().await;
    assert!(trio.check(&written).await >= 3 * RECORDS);
    trio.stop().await;
}

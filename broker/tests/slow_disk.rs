//! One of three disks answers late or not at all: what is acknowledged stays, and service goes on.

mod trio;

use std::time::Duration;

use storage::clock::Clock;
use trio::{Load, Trio, Written};

/// Acknowledged between two events.
const RECORDS: i64 = 60;
/// What a dying disk takes for each write and sync.
const SLOW: Duration = Duration::from_millis(500);

fn longest_ms(written: &[Written]) -> i64 {
    written.iter().map(|one| one.longest_ms).max().unwrap_or(0)
}

#[expect(clippy::print_stdout, reason = "the figures of a test")]
async fn conclude(trio: Trio, load: Load, records: i64) {
    let written = load.end().await;
    trio.settled().await;
    let total = trio.check(&written).await;
    println!("{total} records, longest gap {} ms", longest_ms(&written));
    assert!(total >= records);
    trio.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_answers_in_500_ms_loses_nothing_and_service_goes_on() {
    let trio = Trio::start(100, [(); 3].map(|()| Clock::system())).await;
    let partitions = trio.topic("slow", 4, &[]).await;
    let load = Load::start(&trio, &partitions);
    // Under a node that leads nothing, then under one that leads everything.
    for (slow, leader) in [(1, 0), (2, 2)] {
        trio.lead_all(leader).await;
        load.more(RECORDS).await;
        trio.disks[slow].slow_down(SLOW);
        load.more(RECORDS).await;
        // Changes of the catalogue go through too.
        trio.topic(&format!("made-with-{slow}-slow"), 1, &[]).await;
        load.more(RECORDS).await;
        trio.disks[slow].slow_down(Duration::ZERO);
        trio.settled().await;
    }
    conclude(trio, load, 6 * RECORDS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_under_a_follower_is_missed_by_nobody() {
    let trio = Trio::start(200, [(); 3].map(|()| Clock::system())).await;
    let partitions = trio.topic("hangs", 4, &[]).await;
    trio.lead_all(0).await;
    let load = Load::start(&trio, &partitions);
    load.more(RECORDS).await;
    trio.disks[2].stall(true);
    load.more(10 * RECORDS).await;
    trio.disks[2].stall(false);
    conclude(trio, load, 11 * RECORDS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_under_the_leader_loses_nothing_and_service_goes_on() {
    let trio = Trio::start(300, [(); 3].map(|()| Clock::system())).await;
    let partitions = trio.topic("stuck", 4, &[]).await;
    trio.lead_all(1).await;
    let load = Load::start(&trio, &partitions);
    load.more(RECORDS).await;
    trio.disks[1].stall(true);
    load.more(10 * RECORDS).await;
    trio.disks[1].stall(false);
    conclude(trio, load, 11 * RECORDS).await;
}

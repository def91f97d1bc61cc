//! Whole nodes that lose power: what was not synced is thrown away, and nothing acknowledged may
//! be lost by it, nor anything be there twice, nor replicas differ.
//!
//! `SEED=<n> cargo test -p broker --test power` takes another seed.

mod power_support;

use std::time::Duration;

use power_support::load::Load;
use power_support::{Cluster, seed};
use storage::Durability;
use storage::clock::Clock;

/// How long power is cut again and again.
const ROUNDS_MS: i64 = 12_000;
const ROUNDS_MIN: u64 = 3;

async fn a_moment(random: u64) {
    // Not a wait for anything: power goes at any moment.
    tokio::time::sleep(Duration::from_millis(random % 250)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_lose_power_at_once_again_and_again_and_nothing_acknowledged_is_lost() {
    let seed = seed(1);
    let mut cluster = Cluster::new(seed, 3, Durability::Fsync);
    cluster.start(&[0, 1, 2]).await;
    cluster.settled().await;
    let partitions = cluster.topic("t", 6).await;
    let load = Load::start(&cluster.running, &partitions);
    let clock = Clock::system();
    let begun_ms = clock.monotonic_ms();
    let mut round = 0;
    while round < ROUNDS_MIN || clock.monotonic_ms() - begun_ms < ROUNDS_MS {
        round += 1;
        load.goes_on(20).await;
        a_moment(seed.wrapping_mul(31).wrapping_add(round * 97)).await;
        cluster
            .cut(&[0, 1, 2], seed.wrapping_mul(1_000) + round)
            .await;
        cluster.start(&[0, 1, 2]).await;
    }
    load.goes_on(20).await;
    cluster.settled().await;
    let acknowledged = load.end(&cluster.running).await;
    println!("{round} power cuts, {acknowledged} records");
    cluster.compare(&partitions).await;
}

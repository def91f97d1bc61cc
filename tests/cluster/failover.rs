//! Nodes that go and come back under load.

use test_support::{Cluster, Load, Loaded, check_replicas};

use crate::{BINARY, create};

const PARTITIONS: i32 = 4;
/// Acknowledged between two events.
const RECORDS: i64 = 300;

/// Ends the load, waits until nothing is amiss, and checks every replica.
#[expect(clippy::print_stdout, reason = "the figures of a test")]
async fn conclude(cluster: &Cluster, topic: &str, load: Load, nodes: usize) -> Vec<Loaded> {
    load.more(RECORDS).await;
    let loaded = load.stop().await;
    cluster.wait_healthy(nodes);
    let total = check_replicas(cluster, topic, &loaded).await;
    let acknowledged: i64 = loaded.iter().map(|done| done.witness.acknowledged()).sum();
    let gap_ms = loaded.iter().map(|done| done.longest_gap_ms).max().unwrap();
    println!("{acknowledged} acknowledged, {total} there, longest gap {gap_ms} ms");
    assert!(total >= acknowledged);
    loaded
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_killed_under_load_loses_nothing() {
    let mut cluster = Cluster::start(BINARY, 3);
    create(&cluster, "kills", PARTITIONS, 3);
    let load = Load::start(&cluster.bootstrap(), "kills", PARTITIONS, 300);
    load.more(RECORDS).await;
    for _ in 0..2 {
        let leader = cluster.leader("kills", 0).await;
        cluster.kill(leader);
        load.more(RECORDS).await;
        cluster.restart(leader);
        cluster.wait_healthy(3);
        load.more(RECORDS).await;
    }
    conclude(&cluster, "kills", load, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_node_paused_in_turn_loses_nothing() {
    let cluster = Cluster::start(BINARY, 3);
    create(&cluster, "pauses", PARTITIONS, 3);
    let load = Load::start(&cluster.bootstrap(), "pauses", PARTITIONS, 300);
    load.more(RECORDS).await;
    for node in 0..3 {
        cluster.pause(node);
        load.more(RECORDS).await;
        cluster.resume(node);
        cluster.wait_healthy(3);
    }
    conclude(&cluster, "pauses", load, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_nodes_lose_two_at_once_and_nothing_else() {
    let mut cluster = Cluster::start(BINARY, 5);
    create(&cluster, "five", PARTITIONS, 5);
    let load = Load::start(&cluster.bootstrap(), "five", PARTITIONS, 300);
    load.more(RECORDS).await;
    let leader = cluster.leader("five", 0).await;
    let other = (leader + 1) % 5;
    cluster.kill(leader);
    cluster.kill(other);
    load.more(RECORDS).await;
    cluster.restart(leader);
    cluster.restart(other);
    conclude(&cluster, "five", load, 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_killed_at_once_lose_nothing_that_was_acknowledged() {
    let mut cluster = Cluster::start(BINARY, 3);
    create(&cluster, "blackout", PARTITIONS, 3);
    let load = Load::start(&cluster.bootstrap(), "blackout", PARTITIONS, 300);
    load.more(RECORDS).await;
    for node in 0..3 {
        cluster.kill(node);
    }
    for node in 0..3 {
        cluster.spawn(node);
    }
    cluster.wait_ready();
    conclude(&cluster, "blackout", load, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_stopped_in_good_order_one_after_the_other_close_nothing() {
    let mut cluster = Cluster::start(BINARY, 3);
    create(&cluster, "rolling", PARTITIONS, 3);
    let load = Load::start(&cluster.bootstrap(), "rolling", PARTITIONS, 300);
    load.more(RECORDS).await;
    for node in 0..3 {
        assert_eq!(cluster.stop(node).code(), Some(0));
        load.more(RECORDS).await;
        cluster.restart(node);
        cluster.wait_healthy(3);
    }
    conclude(&cluster, "rolling", load, 3).await;
}

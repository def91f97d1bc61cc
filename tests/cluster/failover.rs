//! Nodes that go and come back under load.

use test_support::{Cluster, Cut, Load, Loaded, check_replicas, connect, eventually_async};

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

/// What befalls two of five nodes at once.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Kill,
    Pause,
    Cut(Cut),
    /// One is paused, the other cut off.
    Both,
}

#[tokio::test(flavor = "multi_thread")]
async fn five_nodes_go_on_while_any_two_are_killed_paused_or_cut_off() {
    let mut cluster = Cluster::start_behind_proxies(BINARY, 5);
    create(&cluster, "minority", PARTITIONS, 5);
    let load = Load::start(&cluster.bootstrap(), "minority", PARTITIONS, 300);
    let turns = [
        (Fault::Kill, true),
        (Fault::Pause, true),
        (Fault::Cut(Cut::BlackHole), true),
        (Fault::Cut(Cut::Refuse), false),
        (Fault::Both, true),
    ];
    for (turn, (fault, hits_leader)) in turns.into_iter().enumerate() {
        load.more(RECORDS).await;
        let leader = cluster.leader("minority", 0).await;
        let other = (leader + 1 + turn % 4) % 5;
        let third = (leader + 1 + (turn + 1) % 4) % 5;
        let hit = [if hits_leader { leader } else { third }, other];
        println!("{fault:?}: nodes {hit:?}");
        match fault {
            Fault::Kill => hit.map(|node| cluster.kill(node)),
            Fault::Pause => hit.map(|node| cluster.pause(node)),
            Fault::Cut(cut) => hit.map(|node| cluster.proxies().isolate(node, cut)),
            Fault::Both => {
                cluster.pause(hit[0]);
                cluster.proxies().isolate(hit[1], Cut::BlackHole);
                [(); 2]
            }
        };
        load.more(RECORDS).await;
        match fault {
            Fault::Kill => hit.map(|node| cluster.restart(node)),
            Fault::Pause => hit.map(|node| cluster.resume(node)),
            Fault::Cut(_) => [cluster.proxies().heal(); 2],
            Fault::Both => {
                cluster.resume(hit[0]);
                [cluster.proxies().heal(); 2]
            }
        };
        cluster.wait_healthy(5);
    }
    conclude(&cluster, "minority", load, 5).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_tells_nobody_what_was() {
    let mut cluster = Cluster::start(BINARY, 3);
    create(&cluster, "before", 1, 3);
    for round in 0..3 {
        cluster.kill(2);
        let topic = format!("meanwhile-{round}");
        create(&cluster, &topic, 1, 3);
        cluster.spawn(2);
        let address = cluster.kafka(2);
        let told = eventually_async("the node to answer", async || {
            let connection = connect(&address).await.ok()?;
            connection.metadata(None, false).await.ok()
        })
        .await;
        // It opens in the end even where it cannot catch up, and says so.
        let has_given_up = cluster.process(2).log().contains("before it has caught up");
        assert!(
            has_given_up || told.topics.iter().any(|told| told.name == topic),
            "round {round}: {told:?}"
        );
        cluster.wait_ready();
    }
    cluster.wait_healthy(3);
}

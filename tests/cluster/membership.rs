//! Nodes that come, are emptied and go.

use serde_json::Value;
use test_support::{Cluster, Load, check_replicas};

use crate::{BINARY, client, create, operate};

const PARTITIONS: i32 = 4;
const RECORDS: i64 = 300;

/// Every shard that carries partitions has this many replicas, all in sync, and none is on its way.
fn all_have(status: &Value, replicas: usize) -> bool {
    let shards = status["shards"].as_array().unwrap();
    let len = |shard: &Value, key: &str| shard[key].as_array().map_or(0, Vec::len);
    shards.iter().all(|shard| {
        let carries = shard["partitions"].as_u64().unwrap_or(0) > 0 || shard["id"] == 0;
        let is_so = len(shard, "replicas") == replicas
            && len(shard, "in_sync") == replicas
            && shard["target"].is_null();
        is_so || !carries
    })
}

fn node(status: &Value, id: u32) -> Option<&Value> {
    let mut nodes = status["nodes"].as_array()?.iter();
    nodes.find(|node| node["id"] == id)
}

/// The node that leads the catalogue.
fn controller(cluster: &Cluster) -> usize {
    let status = cluster.wait_until("a controller", |status| !status["controller"].is_null());
    let id = status["controller"].as_u64();
    let mut nodes = cluster.running().into_iter();
    nodes
        .find(|node| cluster.known_id(*node).map(u64::from) == id)
        .expect("the controller runs")
}

/// Creates a topic just after a node was killed: what was on its way to that node has an unknown
/// outcome, and is asked for again.
fn create_at_last(cluster: &Cluster, node: usize, topic: &str) {
    const UNKNOWN: i32 = 6;
    let mut is_unknown = false;
    test_support::eventually("the topic to be made", || {
        let finished = client(cluster, node, &["topic", "create", topic]);
        if is_unknown && finished.stderr.contains("exists") {
            return Some(());
        }
        is_unknown |= finished.code == UNKNOWN;
        assert!(
            finished.code == 0 || finished.code == UNKNOWN,
            "{}",
            finished.stderr
        );
        (finished.code == 0).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_grows_to_three_without_a_stop() {
    let mut cluster = Cluster::start_alone(BINARY);
    client(&cluster, 0, &["topic", "create", "grows", "-p", "4"]).ok();
    let load = Load::start(&cluster.bootstrap(), "grows", PARTITIONS, 300);
    load.more(RECORDS).await;
    cluster.add();
    load.more(RECORDS).await;
    cluster.add();
    load.more(RECORDS).await;
    cluster.wait_until("three replicas of everything", |status| all_have(status, 3));
    cluster.wait_healthy(3);

    // What stood on the first node alone stands without it.
    let loaded = load.stop().await;
    cluster.kill(0);
    create_at_last(&cluster, 1, "grows-more");
    let load = Load::start(&cluster.bootstrap(), "grows-more", 1, 300);
    load.more(RECORDS).await;
    let more = load.stop().await;
    cluster.restart(0);
    cluster.wait_healthy(3);
    assert!(check_replicas(&cluster, "grows", &loaded).await >= 3 * RECORDS);
    check_replicas(&cluster, "grows-more", &more).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_replaced_under_load_with_a_kill_in_the_middle() {
    let mut cluster = Cluster::start(BINARY, 3);
    create(&cluster, "moves", PARTITIONS, 3);
    let load = Load::start(&cluster.bootstrap(), "moves", PARTITIONS, 300);
    load.more(RECORDS).await;
    for _ in 0..2 {
        cluster.add();
    }
    let old = [cluster.id(0), cluster.id(1)];
    for id in old {
        operate(&cluster, 2, &["drain", &id.to_string(), "--no-wait"]).ok();
    }
    load.more(RECORDS).await;
    // The one that drives it, then one that stays: what was begun is gone on with.
    for victim in [controller(&cluster), 2] {
        cluster.kill(victim);
        load.more(RECORDS).await;
        cluster.restart(victim);
    }
    for id in old {
        let id_text = id.to_string();
        let drain = ["drain", &id_text, "--timeout", "120s"];
        operate(&cluster, 3, &drain).ok();
        operate(&cluster, 3, &["remove", &id_text]).ok();
        cluster.wait_until("the node to be gone", |status| node(status, id).is_none());
    }
    load.more(RECORDS).await;
    for gone in 0..2 {
        cluster.kill(gone);
    }
    load.more(RECORDS).await;
    let loaded = load.stop().await;
    cluster.wait_healthy(3);
    let total = check_replicas(&cluster, "moves", &loaded).await;
    println!("{total} records on the nodes that came");

    is_turned_away(&mut cluster, 0, old[0]);
}

/// Starts a node that was removed: it does not come back.
fn is_turned_away(cluster: &mut Cluster, at: usize, id: u32) {
    cluster.spawn(at);
    let log = test_support::eventually("the removed node to be refused", || {
        let log = cluster.process(at).log();
        log.contains("removed").then_some(log)
    });
    // The way out is named.
    assert!(log.contains("empty data directory"), "{log}");
    cluster.wait_until("the cluster without it", |status| {
        node(status, id).is_none()
    });
    cluster.kill(at);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_removed_while_it_was_away_is_turned_away_and_loses_nobody_anything() {
    let mut cluster = Cluster::start(BINARY, 4);
    create(&cluster, "forced", PARTITIONS, 3);
    let load = Load::start(&cluster.bootstrap(), "forced", PARTITIONS, 300);
    load.more(RECORDS).await;
    let gone = cluster.leader("forced", 0).await;
    let id = cluster.id(gone);
    cluster.kill(gone);
    load.more(RECORDS).await;
    test_support::eventually("every node to miss it", || {
        let mut running = cluster.running().into_iter();
        running
            .all(|other| {
                let status = cluster.status_of(other);
                status.is_some_and(|status| {
                    node(&status, id).is_some_and(|node| node["alive"] == false)
                })
            })
            .then_some(())
    });
    let asked = (gone + 1) % 4;
    operate(&cluster, asked, &["remove", &id.to_string(), "--force"]).ok();
    cluster.wait_until("the node to be gone", |status| node(status, id).is_none());
    load.more(RECORDS).await;
    // Its replicas are made anew on the others.
    cluster.wait_until("three replicas of everything", |status| all_have(status, 3));
    is_turned_away(&mut cluster, gone, id);
    load.more(RECORDS).await;
    let loaded = load.stop().await;
    cluster.wait_healthy(3);
    check_replicas(&cluster, "forced", &loaded).await;
}

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
    client(&cluster, 1, &["topic", "create", "grows-more"]).ok();
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
    cluster.kill(2);
    load.more(RECORDS).await;
    cluster.restart(2);
    for id in old {
        let id_text = id.to_string();
        let drain = ["drain", &id_text, "--timeout", "60s"];
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

    // A removed node does not come back.
    cluster.spawn(0);
    let log = test_support::eventually("the removed node to be refused", || {
        let log = cluster.process(0).log();
        log.contains("removed").then_some(log)
    });
    assert!(log.contains("removed"), "{log}");
    cluster.wait_until("the cluster without it", |status| {
        node(status, old[0]).is_none()
    });
}

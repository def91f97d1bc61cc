//! The cluster over HTTP and by command.

use serde_json::Value;
use test_support::{Answer, Cluster, eventually, request};

use crate::{BINARY, client, create, operate, run};

fn ask(cluster: &Cluster, node: usize, method: &str, path: &str, body: &str) -> Answer {
    cluster.request(node, method, path, body).unwrap()
}

/// A shard that carries a partition, its leader, and one of its other replicas.
fn led_shard(cluster: &Cluster) -> (u64, u64, u64) {
    let status = cluster.wait_until("a shard with a partition", |status| {
        let mut shards = status["shards"].as_array().unwrap().iter();
        shards.any(is_led)
    });
    let shards = status["shards"].as_array().unwrap();
    let shard = shards.iter().find(|shard| is_led(shard)).unwrap();
    let leader = shard["leader"].as_u64().unwrap();
    let mut replicas = shard["replicas"].as_array().unwrap().iter();
    let other = replicas.find_map(|id| id.as_u64().filter(|id| *id != leader));
    (shard["id"].as_u64().unwrap(), leader, other.unwrap())
}

fn is_led(shard: &Value) -> bool {
    shard["partitions"].as_u64() > Some(0) && shard["leader"].is_u64()
}

#[test]
fn any_node_answers_for_the_cluster() {
    let cluster = Cluster::start(BINARY, 3);
    create(&cluster, "orders", 3, 3);
    for node in 0..3 {
        for path in ["/livez", "/readyz"] {
            let answer = ask(&cluster, node, "GET", path, "");
            assert_eq!(
                (answer.status, answer.json()["status"].as_str()),
                (200, Some("ok"))
            );
        }
        // New shards count as behind until this node has heard of them.
        let status = eventually("the new shards to be in sync", || {
            let status = ask(&cluster, node, "GET", "/v1/cluster", "").json();
            (status["verdict"]["can_lose"] == 1).then_some(status)
        });
        assert_eq!(status["nodes"].as_array().unwrap().len(), 3);
        let local: Vec<&Value> = status["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|node| node["local"] == true)
            .collect();
        assert_eq!(local.len(), 1);
        assert_eq!(local[0]["id"], cluster.id(node));
        let nodes = ask(&cluster, node, "GET", "/v1/nodes", "").json();
        assert_eq!(nodes["nodes"].as_array().unwrap().len(), 3);
        assert!(
            !ask(&cluster, node, "GET", "/v1/shards", "").json()["shards"]
                .as_array()
                .unwrap()
                .is_empty()
        );
    }
    // A leadership is moved by each node, whoever leads.
    for node in 0..3 {
        let (shard, _, to) = led_shard(&cluster);
        let body = format!("{{\"to\": {to}}}");
        let path = format!("/v1/shards/{shard}/leader");
        let answer = ask(&cluster, node, "POST", &path, &body);
        assert_eq!(answer.status, 200, "{}", answer.body);
        cluster.wait_until("the new leader", |status| {
            let mut shards = status["shards"].as_array().unwrap().iter();
            shards.any(|found| found["id"] == shard && found["leader"] == to)
        });
    }
    let answer = ask(&cluster, 1, "POST", "/v1/cluster/rebalance", "");
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[test]
fn every_refusal_says_why_and_what_next() {
    let cluster = Cluster::start_alone(BINARY);
    let long = "x".repeat(100 << 10);
    for (method, path, body, status, kind) in [
        ("GET", "/v2", "", 404, "no_such_path"),
        ("DELETE", "/v1/cluster", "", 405, "wrong_method"),
        ("POST", "/v1/nodes/9/drain", "", 404, "unknown_node"),
        ("POST", "/v1/nodes/x/drain", "", 400, "invalid_request"),
        ("DELETE", "/v1/nodes/9", "", 404, "unknown_node"),
        (
            "DELETE",
            "/v1/nodes/1?froce=true",
            "",
            400,
            "invalid_request",
        ),
        (
            "POST",
            "/v1/shards/99/leader",
            "{\"to\": 1}",
            404,
            "unknown_shard",
        ),
        ("POST", "/v1/shards/1/leader", "", 400, "invalid_request"),
        (
            "POST",
            "/v1/shards/1/leader",
            "{\"two\": 1}",
            400,
            "invalid_request",
        ),
        ("DELETE", "/v1/nodes/1", "", 409, "conflict"),
    ] {
        let answer = ask(&cluster, 0, method, path, body);
        let problem = answer.json();
        assert_eq!(
            (answer.status, problem["type"].as_str()),
            (status, Some(kind)),
            "{method} {path}: {}",
            answer.body
        );
        assert_eq!(problem["status"], status);
        assert!(
            problem["detail"]
                .as_str()
                .is_some_and(|text| !text.is_empty())
        );
        assert!(
            answer.head.contains("application/problem+json"),
            "{}",
            answer.head
        );
    }
    // Too much is not taken; the node may close before it has read all of it.
    if let Ok(answer) = request(&cluster.http(0), "POST", "/v1/shards/1/leader", &long) {
        assert!((400..500).contains(&answer.status), "{}", answer.status);
    }
    assert_eq!(ask(&cluster, 0, "GET", "/livez", "").status, 200);
}

#[test]
fn a_node_that_waits_for_others_is_alive_and_not_ready() {
    let mut cluster = Cluster::start_alone(BINARY);
    cluster.kill(0);
    let node = cluster.add_unready(); // its only seed is gone
    let answer = eventually("the node to answer", || {
        request(&cluster.http(node), "GET", "/livez", "").ok()
    });
    assert_eq!(answer.status, 200);
    for path in ["/readyz", "/v1/cluster"] {
        let answer = ask(&cluster, node, "GET", path, "");
        assert_eq!(
            (answer.status, answer.json()["type"].as_str()),
            (503, Some("not_ready"))
        );
    }
    let error = operate(&cluster, node, &["status"]).failed(3);
    assert!(error.contains("help: "), "{error}");
}

#[test]
fn the_commands_say_how_it_stands_and_change_it() {
    let mut cluster = Cluster::start(BINARY, 3);
    create(&cluster, "orders", 3, 3);
    // New shards count as behind until every node has told of them.
    let status = eventually("the new shards to be in sync", || {
        let status = operate(&cluster, 1, &["status"]).ok();
        status
            .starts_with("Healthy. Can lose 1 more node.\n")
            .then_some(status)
    });
    assert!(status.contains("controller"), "{status}");
    let all = operate(&cluster, 1, &["status", "--shards"]).ok();
    assert!(all.contains("IN SYNC"), "{all}");

    let nodes = operate(&cluster, 0, &["nodes"]).ok();
    for node in 0..3 {
        assert!(nodes.contains(&cluster.kafka(node)), "{nodes}");
        assert!(nodes.contains(&cluster.peers(node)), "{nodes}");
    }
    let add = operate(&cluster, 0, &["add"]).ok();
    assert!(add.contains("braidlog start --seeds 127.0.0.1:"), "{add}");

    let (shard, _, to) = led_shard(&cluster);
    let transfer = ["transfer-leader", &shard.to_string(), &to.to_string()];
    operate(&cluster, 2, &transfer).ok();
    operate(&cluster, 2, &["rebalance"]).ok();
    operate(&cluster, 2, &["wait", "--nodes", "3", "--healthy"]).ok();

    let described = client(
        &cluster,
        1,
        &["topic", "describe", "orders", "--replicas", "-o", "json"],
    );
    for partition in described.json()["partitions"].as_array().unwrap() {
        assert_eq!(
            partition["replicas"].as_array().unwrap().len(),
            3,
            "{partition}"
        );
        assert_eq!(
            partition["in_sync"].as_array().unwrap().len(),
            3,
            "{partition}"
        );
        assert_eq!(partition["offline"], serde_json::json!([]), "{partition}");
    }

    let error = operate(&cluster, 0, &["drain", "9"]).failed(5);
    assert!(error.contains("no node 9"), "{error}");
    operate(&cluster, 0, &["transfer-leader", "999", "1"]).failed(5);
    let gone = cluster.id(2);
    cluster.kill(2);
    cluster.wait_until("the dead node to be missed", |status| {
        let sentence = status["verdict"]["sentence"].as_str().unwrap();
        sentence.contains("is down")
    });
    let status = operate(&cluster, 0, &["status"]).ok();
    let expected = format!("Degraded: node {gone} is down. Can lose no more nodes.");
    assert_eq!(status.lines().next().unwrap(), expected, "{status}");
    let error = operate(&cluster, 0, &["wait", "--timeout", "300ms"]).failed(6);
    assert!(error.contains("is down"), "{error}");
    let error = operate(&cluster, 2, &["status"]).failed(3);
    assert!(error.contains("nothing answers"), "{error}");
    cluster.restart(2);
    operate(&cluster, 0, &["wait"]).ok();
}

#[test]
fn a_drained_node_comes_back_when_undrained() {
    let mut cluster = Cluster::start(BINARY, 3);
    create(&cluster, "orders", 2, 3);
    cluster.add();
    cluster.wait_healthy(4);
    let id = cluster.id(0).to_string();
    operate(&cluster, 1, &["drain", &id, "--timeout", "60s"]).ok();
    let shown = operate(&cluster, 1, &["nodes"]).ok();
    assert!(shown.contains("drained"), "{shown}");
    operate(&cluster, 1, &["undrain", &id]).ok();
    cluster.wait_until("the node to take part", |status| {
        let mut nodes = status["nodes"].as_array().unwrap().iter();
        nodes.all(|node| node["state"] == "active")
    });
    run(&["cluster", "status", "--http", "127.0.0.1:1"]).failed(3);
}

//! `config` of topics and brokers.

use crate::Cluster;
use serde_json::{Value, json};
use test_support::Process;

/// One config of the list of a resource.
#[track_caller]
fn entry(cluster: &Cluster, resource: &str, key: &str) -> Value {
    let list = cluster
        .run(&["config", "list", resource, "-o", "json"])
        .json();
    let found = list.as_array().unwrap().iter().find(|e| e["key"] == key);
    found.unwrap_or_else(|| panic!("{list}")).clone()
}

#[test]
fn a_topics_configs_say_where_they_come_from_and_change() {
    let cluster = Cluster::start();
    cluster.ok(&["topic", "create", "orders"]);
    let resource = "topic/orders";
    let before = entry(&cluster, resource, "retention.ms");
    assert_eq!(before["origin"], "default");

    let set = ["config", "set", resource, "retention.ms=1000000"];
    let dry = [&set[..], &["--dry-run"]].concat();
    assert_eq!(cluster.ok(&dry), "could change orders: retention.ms\n");
    assert_eq!(entry(&cluster, resource, "retention.ms"), before);
    assert_eq!(cluster.ok(&set), "changed orders: retention.ms\n");
    assert_eq!(
        cluster.ok(&["config", "list", resource, "--changed"]),
        "CONFIG          VALUE  ORIGIN\n\
         retention.ms  1000000  topic\n"
    );

    let unset = ["config", "unset", resource, "retention.ms"];
    cluster.ok(&[&unset[..], &["--dry-run"]].concat());
    assert_eq!(
        entry(&cluster, resource, "retention.ms")["value"],
        "1000000"
    );
    let unset = cluster.run(&[&unset[..], &["-o", "json"]].concat()).json();
    assert_eq!(
        unset,
        json!({ "resource": resource, "name": "orders", "changed": ["retention.ms"], "dry_run": false })
    );
    assert_eq!(entry(&cluster, resource, "retention.ms"), before);
}

#[test]
fn a_config_is_explained() {
    let cluster = Cluster::start();
    cluster.ok(&["topic", "create", "orders"]);
    let describe = ["config", "describe", "topic/orders", "retention.ms"];
    let described = cluster
        .run(&[&describe[..], &["-o", "json"]].concat())
        .json();
    let [config] = described.as_array().unwrap().as_slice() else {
        panic!("{described}")
    };
    assert_eq!(
        (&config["type"], &config["settable"]),
        (&"long".into(), &true.into())
    );
    assert!(!config["documentation"].as_str().unwrap().is_empty());
    let table = cluster.ok(&describe);
    assert!(
        table.contains("MEANING") && table.lines().count() == 2,
        "{table}"
    );
    let all = cluster
        .run(&["config", "describe", "broker/1", "-o", "json"])
        .json();
    assert!(all.as_array().unwrap().len() > 3, "{all}");
}

#[test]
fn what_is_set_for_all_brokers_is_there_after_a_restart() {
    let cluster = Cluster::start();
    cluster.ok(&["topic", "create", "orders"]);
    let set = ["config", "set", "brokers", "log.retention.ms=1000000"];
    assert_eq!(cluster.ok(&set), "changed brokers: log.retention.ms\n");
    let is_told = |cluster: &Cluster| {
        for (resource, key) in [
            ("brokers", "log.retention.ms"),
            ("broker/1", "log.retention.ms"),
            ("topic/orders", "retention.ms"),
        ] {
            let told = entry(cluster, resource, key);
            assert_eq!(
                (&told["value"], &told["origin"]),
                (&"1000000".into(), &"brokers".into()),
                "{resource}"
            );
        }
    };
    is_told(&cluster);
    let Cluster { node, directory } = cluster;
    node.kill();
    let node = Process::start(crate::BINARY, &directory.join("data"), &[]);
    let cluster = Cluster { node, directory };
    is_told(&cluster);
    cluster.ok(&["config", "unset", "brokers", "log.retention.ms"]);
    let told = entry(&cluster, "topic/orders", "retention.ms");
    assert_eq!(told["origin"], "default");
    let error = cluster.run(&["config", "set", "broker/1", "log.retention.ms=5"]);
    let error = error.failed(1);
    assert!(error.contains("for all brokers"), "{error}");
}

#[test]
fn a_brokers_configs_are_asked_of_that_broker() {
    let cluster = Cluster::start_with(&["--node-id", "7"]);
    let listed = cluster
        .run(&["config", "list", "broker/7", "-o", "json"])
        .json();
    assert!(!listed.as_array().unwrap().is_empty());
    cluster.run(&["config", "list", "brokers"]).ok();
    let error = cluster.run(&["config", "list", "broker/8"]).failed(5);
    assert!(error.contains("there are: 7"), "{error}");
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let cluster = Cluster::start();
    cluster.ok(&["topic", "create", "orders"]);
    let refused = |arguments: &[&str], code, part: &str| {
        let error = cluster.run(arguments).failed(code);
        assert!(error.contains(part) && error.contains("help:"), "{error}");
    };
    refused(&["config", "list", "topic/nowhere"], 5, "does not exist");
    refused(
        &["config", "describe", "topic/orders", "no.such.key"],
        5,
        "no.such.key",
    );
    for assignment in ["no.such.key=1", "retention.ms=x", "max.message.bytes=-7"] {
        let key = assignment.split('=').next().unwrap();
        for dry_run in [&[][..], &["--dry-run"]] {
            let set = ["config", "set", "topic/orders", assignment];
            refused(&[&set[..], dry_run].concat(), 1, key);
        }
    }
    refused(
        &["config", "set", "topic/nowhere", "retention.ms=1"],
        5,
        "does not exist",
    );
    refused(
        &["config", "set", "broker/1", "no.such.key=1"],
        1,
        "config describe broker/1",
    );
}

//! `topic`.

use crate::Cluster;

#[test]
fn a_topic_is_created_listed_described_and_deleted() {
    let cluster = Cluster::start();
    let created = cluster.ok(&["topic", "create", "orders", "-p", "3"]);
    assert_eq!(created, "created orders  3 partitions  replication 1\n");
    cluster.ok(&["topic", "create", "audit", "-p", "1", "-r", "1"]);

    let listed = cluster.ok(&["topic", "list"]);
    assert_eq!(
        listed,
        "NAME    PARTITIONS  REPLICATION\n\
         audit            1            1\n\
         orders           3            1\n"
    );
    let listed = cluster.run(&["topic", "list", "-o", "json"]).json();
    assert_eq!(listed[1]["name"], "orders");
    assert_eq!(listed[1]["partitions"], 3);

    cluster.ok(&["produce", "orders", "-p", "1", "a value"]);
    let described = cluster
        .run(&["topic", "describe", "orders", "-o", "json"])
        .json();
    assert_eq!(described["id"], listed[1]["id"]);
    let partition = &described["partitions"][1];
    assert_eq!(partition["partition"], 1);
    assert_eq!(partition["leader"], 1);
    assert_eq!(
        (&partition["start_offset"], &partition["end_offset"]),
        (&0.into(), &1.into())
    );
    assert_eq!(partition["in_sync"], serde_json::json!([1]));
    let table = cluster.ok(&["topic", "describe", "orders"]);
    assert!(table.contains("PARTITION  LEADER  EPOCH"), "{table}");

    assert_eq!(
        cluster.ok(&["topic", "delete", "orders"]),
        "deleted orders\n"
    );
    cluster.run(&["topic", "describe", "orders"]).failed(5);
    assert_eq!(
        cluster
            .run(&["topic", "list", "-o", "json"])
            .json()
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn what_cannot_be_created_is_refused_with_the_reason() {
    let cluster = Cluster::start();
    cluster.ok(&["topic", "create", "orders"]);
    let error = cluster.run(&["topic", "create", "orders"]).failed(7);
    assert!(
        error.contains("exists already") && error.contains("topic describe orders"),
        "{error}"
    );
    let error = cluster.run(&["topic", "create", "not a name"]).failed(1);
    assert!(error.contains("not a name"), "{error}");
    cluster.run(&["topic", "create", "x", "-r", "3"]).failed(1);
    cluster.run(&["topic", "create", "x", "-p", "0"]).failed(2);
    let error = cluster
        .run(&["topic", "create", "x", "-c", "no.such.key=1"])
        .failed(1);
    assert!(error.contains("no.such.key"), "{error}");
    cluster.ok(&["topic", "create", "x", "--dry-run"]);
    cluster.run(&["topic", "describe", "x"]).failed(5);
}

#[test]
fn configs_are_set_and_taken_back() {
    let cluster = Cluster::start();
    cluster.ok(&["topic", "create", "orders", "-c", "retention.ms=1000000"]);
    let configs = || {
        cluster
            .run(&["topic", "describe", "orders", "-o", "json"])
            .json()["configs"]
            .clone()
    };
    assert_eq!(configs(), serde_json::json!({ "retention.ms": "1000000" }));
    cluster.ok(&[
        "topic",
        "alter",
        "orders",
        "--set",
        "max.message.bytes=2000",
        "--unset",
        "retention.ms",
    ]);
    assert_eq!(
        configs(),
        serde_json::json!({ "max.message.bytes": "2000" })
    );
    cluster.ok(&[
        "topic",
        "alter",
        "orders",
        "--set",
        "max.message.bytes=3000",
        "--dry-run",
    ]);
    assert_eq!(
        configs(),
        serde_json::json!({ "max.message.bytes": "2000" })
    );

    let error = cluster
        .run(&["topic", "alter", "orders", "--set", "no.such.key=1"])
        .failed(1);
    assert!(error.contains("no.such.key"), "{error}");
    cluster
        .run(&["topic", "alter", "orders", "--set", "max.message.bytes=x"])
        .failed(1);
    cluster.run(&["topic", "alter", "orders"]).failed(2);
    // Only a list can be added to and taken from.
    for flag in ["--append", "--subtract"] {
        let error = cluster
            .run(&["topic", "alter", "orders", flag, "retention.ms=1"])
            .failed(1);
        assert!(error.contains("retention.ms"), "{error}");
    }
    cluster
        .run(&["topic", "alter", "nowhere", "--set", "retention.ms=1"])
        .failed(5);
    let all = cluster
        .run(&["topic", "describe", "orders", "--configs", "-o", "json"])
        .json();
    assert!(all["configs"].as_object().unwrap().len() > 10);
    let table = cluster.ok(&["topic", "describe", "orders", "--configs"]);
    assert!(table.contains("MEANING"), "{table}");
}

#[test]
fn old_records_are_trimmed() {
    let cluster = Cluster::start();
    cluster.ok(&["topic", "create", "orders"]);
    cluster.feed(&["produce", "orders"], b"a\nb\nc\nd\n").ok();
    let trimmed = cluster
        .run(&["topic", "trim", "orders", "--before", "2", "-o", "json"])
        .json();
    assert_eq!(trimmed["partitions"][0]["start_offset"], 2);
    assert_eq!(cluster.values("orders"), ["c", "d"]);
    cluster
        .run(&["topic", "trim", "orders", "--before", "99"])
        .failed(1);
    cluster
        .run(&["topic", "trim", "orders", "--before", "start"])
        .failed(2);
    cluster
        .run(&[
            "topic",
            "trim",
            "orders",
            "--before",
            "0",
            "--partition",
            "5",
        ])
        .failed(5);
    assert_eq!(
        cluster.ok(&["topic", "trim", "orders", "--before", "end"]),
        "PARTITION  START\n        0      4\n"
    );
    assert_eq!(cluster.values("orders"), Vec::<String>::new());

    cluster.ok(&["topic", "create", "wide", "-p", "2"]);
    let error = cluster
        .run(&["topic", "trim", "wide", "--before", "1"])
        .failed(2);
    assert!(error.contains("--partition"), "{error}");
}

#[test]
fn partitions_are_added_and_never_taken() {
    let cluster = Cluster::start();
    cluster.ok(&["topic", "create", "orders"]);
    cluster.ok(&["topic", "add-partitions", "orders", "3", "--dry-run"]);
    assert_eq!(
        cluster.ok(&["topic", "add-partitions", "orders", "3"]),
        "orders has 3 partitions\n"
    );
    cluster.ok(&["produce", "orders", "-p", "2", "a value"]);
    cluster
        .run(&["topic", "add-partitions", "orders", "2"])
        .failed(1);
    cluster
        .run(&["topic", "add-partitions", "nowhere", "2"])
        .failed(5);
}

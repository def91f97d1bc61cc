//! `group`.

use std::process::{Command, Stdio};

use kafka_client::api::{
    ConsumerGroupHeartbeat, JoinGroup, OffsetCommit, OffsetToCommit, SyncGroup,
};
use kafka_client::consumer_protocol::{Assignment, CONSUMER_PROTOCOL_TYPE, Subscription};
use kafka_client::{ConnectOptions, Connection, ErrorCode};
use serde_json::{Value, json};
use test_support::eventually;

use crate::Cluster;

/// A node with a topic `orders` of two partitions, with three records and one.
fn start() -> Cluster {
    let cluster = Cluster::start_with(&[
        "--set",
        "groups.offsets_partitions=2",
        "--set",
        "groups.initial_rebalance_delay=10ms",
    ]);
    cluster.ok(&["topic", "create", "orders", "-p", "2"]);
    let produce = ["produce", "orders", "--partition"];
    cluster
        .feed(&[&produce[..], &["0"]].concat(), b"a\nb\nc\n")
        .ok();
    cluster.feed(&[&produce[..], &["1"]].concat(), b"d\n").ok();
    cluster
}

fn described(cluster: &Cluster, group: &str) -> Value {
    cluster
        .run(&["group", "describe", group, "-o", "json"])
        .json()
}

/// Committed offset, end and lag of each partition.
fn progress(cluster: &Cluster, group: &str) -> Value {
    let described = described(cluster, group);
    let rows = described["partitions"].as_array().unwrap().iter();
    Value::from_iter(rows.map(|row| {
        json!([
            row["topic"],
            row["partition"],
            row["committed_offset"],
            row["end_offset"],
            row["lag"]
        ])
    }))
}

async fn connect(cluster: &Cluster) -> Connection {
    Connection::connect(cluster.node.kafka(), ConnectOptions::default())
        .await
        .unwrap()
}

/// The only member of a group, with everything of `orders` assigned to it: its id and generation.
async fn join(connection: &Connection, group: &str) -> (String, i32) {
    let subscription = Subscription {
        topics: vec!["orders".to_owned()],
        owned: vec![],
    };
    let mut join = JoinGroup {
        group_id: group.to_owned(),
        session_timeout_ms: 120_000,
        rebalance_timeout_ms: 60_000,
        member_id: String::new(),
        instance_id: None,
        protocol_type: CONSUMER_PROTOCOL_TYPE.to_owned(),
        protocols: vec![("range".to_owned(), subscription.encode())],
        reason: None,
    };
    let refused = connection.join_group(&join).await.unwrap();
    assert_eq!(refused.error, ErrorCode::MEMBER_ID_REQUIRED);
    join.member_id = refused.member_id;
    let joined = connection.join_group(&join).await.unwrap();
    assert_eq!(joined.error, ErrorCode::NONE);
    let all = Assignment(vec![("orders".to_owned(), 0), ("orders".to_owned(), 1)]);
    let sync = SyncGroup {
        group_id: group.to_owned(),
        generation: joined.generation,
        member_id: joined.member_id.clone(),
        instance_id: None,
        protocol_type: joined.protocol_type,
        protocol_name: joined.protocol_name,
        assignments: vec![(joined.member_id.clone(), all.encode())],
    };
    let synced = connection.sync_group(&sync).await.unwrap();
    assert_eq!(synced.error, ErrorCode::NONE);
    (joined.member_id, joined.generation)
}

#[test]
fn a_group_is_moved_and_its_lag_shown() {
    let cluster = start();
    assert_eq!(
        cluster.ok(&["group", "list"]),
        "GROUP  TYPE  STATE  PROTOCOL  COORDINATOR\n"
    );
    // A group begins with its first commit.
    let begin = [
        "group", "seek", "readers", "--to", "start", "--topic", "orders",
    ];
    let table = "TOPIC   PARTITION  FROM  TO  END  LAG\n\
                 orders          0     -   0    3    3\n\
                 orders          1     -   0    1    1\n";
    assert_eq!(cluster.ok(&[&begin[..], &["--dry-run"]].concat()), table);
    cluster.run(&["group", "describe", "readers"]).failed(5);
    assert_eq!(cluster.ok(&begin), table);

    let described = cluster.ok(&["group", "describe", "readers"]);
    assert_eq!(
        described,
        "group readers  classic  Empty  coordinator 1\n\
         \n\
         TOPIC   PARTITION  COMMITTED  END  LAG  MEMBER\n\
         orders          0          0    3    3       -\n\
         orders          1          0    1    1       -\n"
    );
    let listed = cluster.run(&["group", "list", "-o", "json"]).json();
    assert_eq!(
        (
            &listed[0]["group"],
            &listed[0]["state"],
            &listed[0]["coordinator"]
        ),
        (&"readers".into(), &"Empty".into(), &1.into())
    );

    // No further than the end.
    let by = ["group", "seek", "readers", "--by", "2", "-o", "json"];
    let dry = cluster.run(&[&by[..], &["--dry-run"]].concat()).json();
    assert_eq!(dry["dry_run"], true);
    assert_eq!(
        progress(&cluster, "readers"),
        json!([["orders", 0, 0, 3, 3], ["orders", 1, 0, 1, 1]])
    );
    let done = cluster.run(&by).json();
    assert_eq!(done["partitions"], dry["partitions"]);
    assert_eq!(
        progress(&cluster, "readers"),
        json!([["orders", 0, 2, 3, 1], ["orders", 1, 1, 1, 0]])
    );

    let seek = |arguments: &[&str]| {
        cluster.ok(&[&["group", "seek", "readers"], arguments].concat());
        progress(&cluster, "readers")
    };
    assert_eq!(
        seek(&["--by", "-1", "--topic", "orders", "--partition", "0"]),
        json!([["orders", 0, 1, 3, 2], ["orders", 1, 1, 1, 0]])
    );
    assert_eq!(
        seek(&["--to", "2", "--topic", "orders", "--partition", "0"]),
        json!([["orders", 0, 2, 3, 1], ["orders", 1, 1, 1, 0]])
    );
    assert_eq!(
        seek(&["--to", "@2020-01-01"]),
        json!([["orders", 0, 0, 3, 3], ["orders", 1, 0, 1, 1]])
    );
    assert_eq!(
        seek(&["--to", "@9999-01-01"]),
        json!([["orders", 0, 3, 3, 0], ["orders", 1, 1, 1, 0]])
    );
}

#[test]
fn what_a_group_committed_is_there_after_a_restart_and_can_be_deleted() {
    let mut cluster = start();
    for group in ["one", "two", "three"] {
        cluster.ok(&["group", "seek", group, "--to", "end", "--topic", "orders"]);
    }
    let data_dir = cluster.directory.join("data");
    cluster.node.kill();
    cluster.node = test_support::Process::start(crate::BINARY, &data_dir, &[]);
    assert_eq!(
        progress(&cluster, "one"),
        json!([["orders", 0, 3, 3, 0], ["orders", 1, 1, 1, 0]])
    );

    let delete = ["group", "delete", "one", "--offsets"];
    let error = cluster.run(&[&delete[..], &["nowhere"]].concat()).failed(5);
    assert!(error.contains("no offsets in topic nowhere"), "{error}");
    assert_eq!(
        cluster.ok(&[&delete[..], &["orders"]].concat()),
        "deleted offsets of group one in orders  2 partitions\n"
    );
    let error = cluster
        .run(&["group", "delete", "two", "three", "--offsets", "orders"])
        .failed(2);
    assert!(error.contains("one group"), "{error}");

    // Those that can be deleted are, whatever becomes of others.
    let finished = cluster.run(&["group", "delete", "two", "none", "three"]);
    assert_eq!(finished.stdout, "deleted group two\ndeleted group three\n");
    let error = finished.failed(5);
    assert!(error.contains("group none does not exist"), "{error}");
    for group in ["two", "three"] {
        cluster.run(&["group", "describe", group]).failed(5);
    }
}

#[tokio::test]
async fn members_are_shown_with_what_they_have_and_hold_the_group() {
    let cluster = start();
    // Asking waits until there is a coordinator.
    cluster.run(&["group", "describe", "workers"]).failed(5);
    let connection = connect(&cluster).await;
    let (member_id, generation) = join(&connection, "workers").await;

    let shown = described(&cluster, "workers");
    assert_eq!(
        (&shown["type"], &shown["state"], &shown["assignor"]),
        (&"classic".into(), &"Stable".into(), &"range".into())
    );
    assert_eq!(shown["members"][0]["member"], *member_id);
    assert_eq!(
        shown["members"][0]["assigned"],
        json!([{ "topic": "orders", "partition": 0 }, { "topic": "orders", "partition": 1 }])
    );
    assert_eq!(
        shown["partitions"][0],
        json!({
            "topic": "orders", "partition": 0, "committed_offset": null,
            "end_offset": 3, "lag": null, "member": member_id,
        }),
        "nothing is committed, which is not the same as nothing to read"
    );
    let commit = OffsetCommit {
        group_id: "workers".to_owned(),
        generation_or_epoch: generation,
        member_id: member_id.clone(),
        instance_id: None,
        offsets: vec![OffsetToCommit {
            topic: "orders".to_owned(),
            partition: 0,
            offset: 1,
            leader_epoch: -1,
            metadata: None,
        }],
    };
    let committed = connection.offset_commit(&commit).await.unwrap();
    assert_eq!(committed[0].error, ErrorCode::NONE);
    let table = cluster.ok(&["group", "describe", "workers"]);
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let heading = [
        "group",
        "workers",
        "classic",
        "Stable",
        "assignor",
        "range",
        "coordinator",
        "1",
    ];
    assert_eq!(rows[0], heading);
    assert_eq!((rows[3][0], rows[3][4]), (member_id.as_str(), "orders:0,1"));
    assert_eq!(rows[6], ["orders", "0", "1", "3", "2", &member_id]);
    assert_eq!(rows[7], ["orders", "1", "-", "1", "-", &member_id]);

    let refused = |arguments: &[&str], part: &str| {
        let error = cluster.run(arguments).failed(7);
        assert!(error.contains(part), "{error}");
        assert!(error.contains("group describe workers"), "{error}");
    };
    refused(&["group", "seek", "workers", "--to", "end"], "has members");
    let dry = ["group", "seek", "workers", "--to", "end", "--dry-run"];
    refused(&dry, "has members");
    refused(&["group", "delete", "workers"], "has members");
    let offsets = ["group", "delete", "workers", "--offsets", "orders"];
    refused(&offsets, "are subscribed to topic orders");
    let rows = progress(&cluster, "workers");
    assert_eq!(rows[0], json!(["orders", 0, 1, 3, 2]));
}

#[tokio::test]
async fn a_group_of_the_new_protocol_is_shown_alike() {
    let cluster = start();
    cluster.run(&["group", "describe", "workers"]).failed(5);
    let connection = connect(&cluster).await;
    let join = ConsumerGroupHeartbeat::join("workers", "a-member", &["orders"], 60_000);
    let joined = connection.consumer_group_heartbeat(&join).await.unwrap();
    assert_eq!(joined.error, ErrorCode::NONE);
    let shown = described(&cluster, "workers");
    assert_eq!(shown["type"], "consumer");
    assert_eq!(shown["members"][0]["member"], "a-member");
    assert_eq!(shown["members"][0]["assigned"].as_array().unwrap().len(), 2);
    assert_eq!(shown["partitions"][1]["end_offset"], 1);
    assert_eq!(shown["partitions"][1]["lag"], Value::Null);
    let listed = cluster.run(&["group", "list", "-o", "json"]).json();
    assert_eq!(listed[0]["type"], "consumer");
    cluster
        .run(&[
            "group", "seek", "workers", "--to", "end", "--topic", "orders",
        ])
        .failed(7);
}

#[test]
fn every_node_answers_for_groups_that_others_coordinate() {
    let mut cluster = test_support::Cluster::start_with(
        crate::BINARY,
        3,
        &[
            "groups.offsets_partitions=8",
            "groups.initial_rebalance_delay=10ms",
        ],
    );
    let run = |cluster: &test_support::Cluster, node: usize, arguments: &[&str]| {
        let kafka = cluster.kafka(node);
        crate::run(&[arguments, &["--server", &kafka]].concat())
    };
    run(
        &cluster,
        0,
        &["topic", "create", "orders", "-p", "3", "-r", "3"],
    )
    .ok();
    for partition in ["0", "1", "2"] {
        let produce = ["produce", "orders", "--partition", partition, partition];
        run(&cluster, 0, &produce).ok();
    }
    let groups: Vec<String> = (0..8).map(|number| format!("group-{number}")).collect();
    for group in &groups {
        let consume = [
            "consume", "orders", "--group", group, "--from", "start", "-e",
        ];
        let read = run(&cluster, 1, &[&consume[..], &["-o", "json"]].concat());
        assert_eq!(read.json_lines().len(), 3);
    }
    let listed = run(&cluster, 2, &["group", "list", "-o", "json"]).json();
    let names = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|group| &group["group"]);
    assert!(names.eq(&groups), "{listed}");
    let coordinator = listed[0]["coordinator"].as_u64().unwrap();

    // Another node takes over with everything that was committed, and a member reads on.
    let dead = usize::try_from(coordinator).unwrap() - 1;
    let alive = (dead + 1) % 3;
    let mut member = Command::new(crate::BINARY)
        .args(["consume", "orders", "--group", "group-0", "-n", "1"])
        .args(["--server", &cluster.kafka(alive)])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let describe = |cluster: &test_support::Cluster, node| {
        let describe = ["group", "describe", "group-0", "-o", "json"];
        let finished = run(cluster, node, &describe);
        (finished.code == 0).then(|| finished.json())
    };
    eventually("the member to join", || {
        let group = describe(&cluster, alive)?;
        (group["state"] == "Stable" && group["members"].as_array()?.len() == 1).then_some(())
    });
    cluster.kill(dead);
    let moved = eventually("another coordinator", || {
        describe(&cluster, alive).filter(|group| group["coordinator"] != coordinator)
    });
    let committed = moved["partitions"].as_array().unwrap().iter();
    let committed: Vec<&Value> = committed.map(|row| &row["committed_offset"]).collect();
    assert_eq!(committed, [1, 1, 1]);
    eventually("a record to be written", || {
        let produce = ["produce", "orders", "after the kill"];
        (run(&cluster, alive, &produce).code == 0).then_some(())
    });
    let status = eventually("the member to read it", || member.try_wait().unwrap());
    let mut read = String::new();
    let mut stdout = member.stdout.take().unwrap();
    std::io::Read::read_to_string(&mut stdout, &mut read).unwrap();
    assert!(
        status.success() && read.contains("after the kill"),
        "{read}"
    );
}

#[test]
fn nonsense_is_refused_with_the_reason() {
    let cluster = start();
    let refused = |arguments: &[&str], code, part: &str| {
        let error = cluster.run(arguments).failed(code);
        assert!(error.contains(part) && error.contains("help:"), "{error}");
    };
    let gone = "group ghosts does not exist";
    refused(&["group", "describe", "ghosts"], 5, gone);
    refused(&["group", "seek", "ghosts", "--to", "end"], 5, gone);
    refused(&["group", "delete", "ghosts"], 5, gone);
    let seek = ["group", "seek", "ghosts", "--topic"];
    let to = |topic, rest: &[&str], code, part: &str| {
        refused(&[&seek[..], &[topic], rest].concat(), code, part);
    };
    to(
        "nowhere",
        &["--to", "end"],
        5,
        "topic nowhere does not exist",
    );
    to("orders", &["--to", "1"], 2, "--partition");
    to(
        "orders",
        &["--to", "4", "--partition", "0"],
        1,
        "from 0 to 3",
    );
    to(
        "orders",
        &["--to", "end", "--partition", "7"],
        5,
        "no partition 7",
    );
    to("orders", &["--by", "1"], 1, "no committed offset");
    // Nothing of this has made the group.
    refused(&["group", "describe", "ghosts"], 5, gone);
    cluster.run(&["group", "describe", ""]).failed(2);
}

#[test]
fn a_name_may_be_anything() {
    let cluster = start();
    let name = "grün \u{1b}[2J und \"mehr\"";
    let seek = ["group", "seek", name, "--to", "end", "--topic", "orders"];
    cluster.ok(&seek);
    let listed = cluster.run(&["group", "list", "-o", "json"]).json();
    assert_eq!(listed[0]["group"], name);
    for table in [
        cluster.ok(&["group", "list"]),
        cluster.ok(&["group", "describe", name]),
    ] {
        assert!(
            table.contains("\\u{1b}") && !table.contains('\u{1b}'),
            "{table}"
        );
    }
    assert!(!cluster.ok(&["group", "delete", name]).contains('\u{1b}'));
}

//! `consume`.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use test_support::{Signal, eventually};

use crate::{BINARY, Cluster};

/// A node whose groups do not wait for more members, with three records in `orders`.
fn with_records() -> Cluster {
    let cluster = Cluster::start_with(&["--set", "groups.initial_rebalance_delay=10ms"]);
    cluster.ok(&["topic", "create", "orders"]);
    cluster
        .feed(&["produce", "orders", "-k", "k1"], b"a\nb\nc\n")
        .ok();
    cluster
}

#[test]
fn a_table_is_for_people() {
    let cluster = with_records();
    let table = cluster.ok(&["consume", "orders", "--from", "start", "-n", "2"]);
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[0],
        ["PARTITION", "OFFSET", "TIMESTAMP", "KEY", "VALUE"]
    );
    assert_eq!(
        (lines[1][0], lines[1][1], lines[1][3], lines[1][4]),
        ("0", "0", "k1", "a")
    );
    assert_eq!(lines.len(), 3);
}

#[test]
fn reading_begins_where_it_is_told() {
    let cluster = with_records();
    let values = |from: &str| -> Vec<String> {
        let arguments = ["consume", "orders", "--from", from, "-e", "-o", "json"];
        let records = cluster.run(&arguments).json_lines();
        records
            .iter()
            .map(|record| record["value"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(values("start"), ["a", "b", "c"]);
    assert_eq!(values("1"), ["b", "c"]);
    assert_eq!(values("3"), Vec::<String>::new());
    assert_eq!(values("end"), Vec::<String>::new());
    assert_eq!(values("@0"), ["a", "b", "c"]);
    assert_eq!(values("@2020-01-01"), ["a", "b", "c"]);
    assert_eq!(values("@9999-01-01T00:00:00Z"), Vec::<String>::new());

    let error = cluster
        .run(&["consume", "orders", "--from", "9", "-n", "1"])
        .failed(1);
    assert!(error.contains("topic describe orders"), "{error}");
    cluster
        .run(&["consume", "orders", "--from", "yesterday"])
        .failed(2);
    cluster
        .run(&["consume", "nowhere", "--from", "start", "-e"])
        .failed(5);
    cluster
        .run(&["consume", "orders", "--partition", "3"])
        .failed(5);
}

#[test]
fn an_offset_needs_its_partition() {
    let cluster = Cluster::start();
    cluster.ok(&["topic", "create", "wide", "-p", "2"]);
    cluster.ok(&["produce", "wide", "-p", "1", "a value"]);
    let error = cluster
        .run(&["consume", "wide", "--from", "0", "-e"])
        .failed(2);
    assert!(error.contains("--partition"), "{error}");
    let arguments = [
        "consume",
        "wide",
        "--from",
        "0",
        "--partition",
        "1",
        "-n",
        "1",
        "-o",
        "json",
    ];
    let records = cluster.run(&arguments).json_lines();
    assert_eq!(
        (&records[0]["partition"], &records[0]["value"]),
        (&1.into(), &"a value".into())
    );
}

#[test]
fn bytes_that_are_no_text_come_as_base64_and_never_reach_the_terminal() {
    let cluster = Cluster::start();
    cluster.ok(&["topic", "create", "orders"]);
    cluster
        .feed(&["produce", "orders"], b"\xff\xfe\n\x1b[2J\n")
        .ok();
    let records = cluster
        .run(&["consume", "orders", "--from", "start", "-e", "-o", "json"])
        .json_lines();
    assert_eq!(records[0]["value"], serde_json::json!({ "base64": "//4=" }));
    assert_eq!(records[1]["value"], "\u{1b}[2J");
    let table = cluster.ok(&["consume", "orders", "--from", "start", "-e"]);
    assert!(
        table.contains("\\u{1b}[2J") && !table.contains('\u{1b}'),
        "{table}"
    );
}

#[test]
fn new_records_are_followed_until_a_signal() {
    let cluster = with_records();
    let mut child = Command::new(BINARY)
        .args([
            "consume",
            "orders",
            "-o",
            "json",
            "--server",
            cluster.node.kafka(),
        ])
        .args(["--from", "2"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("\"c\""));
    cluster.ok(&["produce", "orders", "the next one"]);
    assert!(lines.next().unwrap().unwrap().contains("the next one"));
    let signalled = Command::new("kill")
        .arg("-INT")
        .arg(child.id().to_string())
        .status()
        .unwrap();
    assert!(signalled.success());
    let status = eventually("consume to end", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    assert!(lines.next().is_none());
}

#[test]
fn a_closed_pipe_is_no_error() {
    let cluster = with_records();
    let many = "line\n".repeat(50_000);
    cluster.feed(&["produce", "orders"], many.as_bytes()).ok();
    let mut child = Command::new(BINARY)
        .args([
            "consume",
            "orders",
            "--from",
            "start",
            "--server",
            cluster.node.kafka(),
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    drop(out);
    let status = eventually("consume to end", || child.try_wait().unwrap());
    let mut error = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut error).unwrap();
    assert_eq!((status.code(), error.as_str()), (Some(0), ""));
}

#[test]
fn a_node_that_dies_is_unreachable() {
    let cluster = with_records();
    let mut child = Command::new(BINARY)
        .args([
            "consume",
            "orders",
            "--from",
            "2",
            "--server",
            cluster.node.kafka(),
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with('c')));
    cluster.node.signal(Signal::KILL);
    let status = eventually("consume to end", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(3));
}

/// What a member of a group reads until the end as it is.
#[track_caller]
fn grouped(cluster: &Cluster, arguments: &[&str]) -> Vec<String> {
    let common = ["consume", "orders", "--group", "readers", "-o", "json"];
    let records = cluster.run(&[&common[..], arguments].concat()).json_lines();
    records
        .iter()
        .map(|record| record["value"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_group_goes_on_where_it_was() {
    let cluster = with_records();
    assert_eq!(
        grouped(&cluster, &["--from", "start", "-n", "2"]),
        ["a", "b"]
    );
    let describe = ["group", "describe", "readers", "-o", "json"];
    let group = cluster.run(&describe).json();
    assert_eq!(group["state"], "Empty");
    assert_eq!(group["partitions"][0]["lag"], 1);
    assert_eq!(grouped(&cluster, &["-e"]), ["c"]);
    assert_eq!(grouped(&cluster, &["-e", "--from", "start"]), [""; 0]);
    cluster.ok(&["group", "seek", "readers", "--to", "1"]);
    assert_eq!(grouped(&cluster, &["-n", "1"]), ["b"]);
}

#[test]
fn a_group_that_began_at_the_end_misses_nothing_from_then_on() {
    let cluster = with_records();
    assert_eq!(grouped(&cluster, &["-e"]), [""; 0]);
    cluster.ok(&["produce", "orders", "while nobody reads"]);
    assert_eq!(grouped(&cluster, &["-e"]), ["while nobody reads"]);
}

#[test]
fn members_share_the_partitions_and_take_over_from_each_other() {
    let cluster = Cluster::start_with(&["--set", "groups.initial_rebalance_delay=10ms"]);
    cluster.ok(&["topic", "create", "orders", "-p", "2"]);
    let describe = ["group", "describe", "readers", "-o", "json"];
    // How many partitions each member has.
    let shares = |expected: &[usize]| {
        eventually("the partitions to be shared", || {
            let finished = cluster.run(&describe);
            if finished.code != 0 {
                return None;
            }
            let group = finished.json();
            let members = group["members"].as_array().unwrap().iter();
            let mut shares: Vec<usize> = members
                .map(|member| member["assigned"].as_array().map_or(0, Vec::len))
                .collect();
            shares.sort_unstable();
            (shares == expected && group["state"] == "Stable").then_some(())
        });
    };
    let mut members: Vec<_> = (1..=2)
        .map(|count| {
            let mut child = Command::new(BINARY)
                .args(["consume", "orders", "--group", "readers"])
                .args(["--from", "start", "-o", "json"])
                .args(["--server", cluster.node.kafka()])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            shares(if count == 1 { &[2] } else { &[1, 1] });
            (child, lines)
        })
        .collect();
    for partition in ["0", "1"] {
        cluster.ok(&["produce", "orders", "--partition", partition, partition]);
    }
    let mut read: Vec<String> = members
        .iter_mut()
        .map(|(_, lines)| {
            let record: serde_json::Value =
                serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            record["value"].as_str().unwrap().to_owned()
        })
        .collect();
    read.sort_unstable();
    assert_eq!(read, ["0", "1"], "each has read the other's nothing");

    // One goes and says so: its partition is read on by the other.
    let interrupt = |child: &mut std::process::Child| {
        let pid = child.id().to_string();
        let signalled = Command::new("kill").arg("-INT").arg(pid).status().unwrap();
        assert!(signalled.success());
        let status = eventually("consume to end", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(0));
    };
    let (mut child, mut lines) = members.remove(0);
    interrupt(&mut child);
    assert!(lines.next().is_none());
    shares(&[2]);
    for partition in ["0", "1"] {
        cluster.ok(&["produce", "orders", "--partition", partition, "more"]);
    }
    let (mut child, lines) = members.remove(0);
    let mut lines = lines.map(Result::unwrap);
    for _ in 0..2 {
        let line = lines.next().unwrap();
        assert!(line.contains("more"), "{line}");
    }
    interrupt(&mut child);
    assert!(lines.next().is_none());
}

#[test]
fn a_group_decides_itself_where_its_members_begin() {
    for wrong in [["--partition", "0"], ["--from", "5"]] {
        let consume = ["consume", "orders", "--group", "readers"];
        crate::run(&[&consume[..], &wrong].concat()).failed(2);
    }
    let cluster = Cluster::start();
    let consume = ["consume", "nowhere", "--group", "readers", "-e"];
    let error = cluster.run(&consume).failed(5);
    assert!(error.contains("topic nowhere does not exist"), "{error}");
}

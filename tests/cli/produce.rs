//! `produce`.

use std::collections::HashSet;

use crate::Cluster;

#[test]
fn one_record_is_acknowledged_with_its_place() {
    let cluster = Cluster::start();
    cluster.ok(&["topic", "create", "orders"]);
    assert_eq!(
        cluster.ok(&["produce", "orders", "-k", "k1", "hello"]),
        "orders/0 @ 0\n"
    );
    let second = cluster.run(&["produce", "orders", "", "-o", "json"]).json();
    assert_eq!(
        (&second["partition"], &second["offset"]),
        (&0.into(), &1.into())
    );
    let records = cluster
        .run(&["consume", "orders", "--from", "start", "-e", "-o", "json"])
        .json_lines();
    assert_eq!(
        (&records[0]["key"], &records[0]["value"]),
        (&"k1".into(), &"hello".into())
    );
    assert_eq!(
        (&records[1]["key"], &records[1]["value"]),
        (&().into(), &"".into())
    );
}

#[test]
fn every_line_of_input_is_a_record_in_every_codec() {
    let cluster = Cluster::start();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        cluster.ok(&["topic", "create", codec]);
        let input: String = (0..3000)
            .map(|number| format!("value {number}\n"))
            .collect();
        let result = cluster
            .feed(
                &["produce", codec, "-z", codec, "-o", "json"],
                input.as_bytes(),
            )
            .json();
        assert_eq!(result["records"], 3000);
        assert_eq!(result["partitions"][0]["last_offset"], 2999);
        let values = cluster.values(codec);
        assert!(
            values
                .iter()
                .zip(0..)
                .all(|(value, number)| *value == format!("value {number}"))
        );
        assert_eq!(values.len(), 3000);
    }
}

#[test]
fn much_input_arrives_once_and_in_order() {
    let cluster = Cluster::start();
    cluster.ok(&["topic", "create", "orders", "-p", "3"]);
    let input: String = (0..200_000).map(|number| format!("{number}\n")).collect();
    let result = cluster
        .feed(&["produce", "orders", "-o", "json"], input.as_bytes())
        .json();
    assert_eq!(result["records"], 200_000);
    let values = cluster.values("orders");
    assert_eq!(values.len(), 200_000);
    assert_eq!(values.iter().collect::<HashSet<_>>().len(), 200_000);

    cluster.ok(&["topic", "create", "one"]);
    cluster.feed(&["produce", "one"], input.as_bytes()).ok();
    assert!(
        cluster
            .values("one")
            .iter()
            .zip(0..)
            .all(|(value, number)| *value == number.to_string())
    );
}

#[test]
fn a_key_decides_the_partition_as_kafkas_clients_do() {
    let cluster = Cluster::start();
    cluster.ok(&["topic", "create", "orders", "-p", "10"]);
    // murmur2("foobar") = -790332482, without its sign bit 1357151166.
    let placed = cluster
        .run(&["produce", "orders", "-k", "foobar", "x", "-o", "json"])
        .json();
    assert_eq!(placed["partition"], 6);
    let placed = cluster
        .run(&[
            "produce", "orders", "-k", "foobar", "-p", "3", "x", "-o", "json",
        ])
        .json();
    assert_eq!(placed["partition"], 3);
}

#[test]
fn weaker_acks_are_kept_too() {
    let cluster = Cluster::start();
    cluster.ok(&["topic", "create", "orders"]);
    assert_eq!(
        cluster.ok(&["produce", "orders", "--acks", "1", "leader"]),
        "orders/0 @ 0\n"
    );
    assert_eq!(
        cluster.ok(&["produce", "orders", "--acks", "0", "nobody"]),
        "orders/0 @ ?\n"
    );
    cluster
        .feed(&["produce", "orders", "--acks", "0"], b"a\nb\n")
        .ok();
    let values = test_support::eventually("unacknowledged records", || {
        let values = cluster.values("orders");
        (values.len() == 4).then_some(values)
    });
    assert_eq!(values, ["leader", "nobody", "a", "b"]);
    cluster
        .run(&["produce", "orders", "--acks", "2", "x"])
        .failed(2);
}

#[test]
fn what_cannot_be_written_is_refused_with_the_reason() {
    let cluster = Cluster::start();
    let error = cluster.run(&["produce", "nowhere", "x"]).failed(5);
    assert!(error.contains("topic create nowhere"), "{error}");
    cluster.run(&["topic", "describe", "nowhere"]).failed(5);

    cluster.ok(&["topic", "create", "small", "-c", "max.message.bytes=200"]);
    cluster.run(&["produce", "small", "-p", "4", "x"]).failed(5);
    let error = cluster
        .run(&["produce", "small", &"x".repeat(500)])
        .failed(1);
    assert!(error.contains("1 refused, 0 of unknown outcome"), "{error}");
    let input = format!("fits\n{}\n", "x".repeat(500));
    let finished = cluster.feed(&["produce", "small", "-o", "json"], input.as_bytes());
    assert!(
        finished.stdout.contains("\"records\":1"),
        "{}",
        finished.stdout
    );
    let error = finished.failed(1);
    assert!(
        error.contains("1 record acknowledged, 1 refused"),
        "{error}"
    );
    // Lines that fit one by one are gathered within the topic's limit.
    let input = "a short line\n".repeat(100);
    cluster
        .feed(&["produce", "small", "-k", "key"], input.as_bytes())
        .ok();
    assert_eq!(cluster.values("small").len(), 101);
}

//! `bench`: sound runs have figures, others say what was wrong and fail.

use serde_json::Value;
use test_support::eventually;

use crate::{BINARY, Cluster};

/// Short, but with samples enough.
const SHORT: &[&str] = &["--records", "2000", "--rate", "10000", "--warm-up", "100ms"];

/// The result of a run that was sound.
#[track_caller]
fn sound(cluster: &Cluster, arguments: &[&str]) -> Value {
    let mut all = arguments.to_vec();
    all.extend(["-o", "json"]);
    let result = cluster.run(&all).json();
    assert_eq!(result["ok"], true, "{result}");
    let figures = &result["figures"];
    assert!(figures["mb_per_second"].as_f64().unwrap() > 0.0, "{result}");
    for fault in ["lost", "duplicates", "disordered", "damaged"] {
        assert_eq!(result[fault], 0, "{result}");
    }
    result
}

#[test]
fn produce_measures_every_record_and_reads_them_back() {
    let cluster = Cluster::start();
    let pid = cluster.node.id().to_string();
    let mut arguments = vec!["bench", "produce", "--partitions", "3", "--clients", "2"];
    arguments.extend(SHORT);
    arguments.extend(["--keys", "50", "--codec", "zstd", "--size", "200"]);
    if cfg!(target_os = "linux") {
        arguments.extend(["--broker-pid", &pid]);
    }
    let result = sound(&cluster, &arguments);
    let figures = &result["figures"];
    assert_eq!(figures["records"], 2_000);
    assert_eq!(figures["bytes"], 2_000 * 208);
    assert_eq!(figures["latency_us"]["samples"], 2_000);
    // A tenth of a second of warm-up at this rate comes on top.
    assert_eq!(result["checked_records"], 3_000);
    assert_eq!(result["settings"]["loop"], "open");
    if cfg!(target_os = "linux") {
        assert!(figures["broker"]["resident_bytes"].as_i64().unwrap() > 0);
    }
    // What was made for it is gone.
    cluster
        .run(&["topic", "describe", "braidlog-bench"])
        .failed(5);

    let closed = [
        "bench",
        "produce",
        "--records",
        "1000",
        "--rate",
        "0",
        "--warm-up",
        "0s",
    ];
    for acks in ["0", "1"] {
        let mut arguments = closed.to_vec();
        arguments.extend(["--acks", acks, "--batch-bytes", "1", "--in-flight", "1"]);
        let result = sound(&cluster, &arguments);
        assert_eq!(result["settings"]["loop"], "closed");
        assert_eq!(result["checked_records"], 1_000);
        assert_eq!(result["figures"]["latency_us"].is_null(), acks == "0");
    }
    // All answers may come before it looks for them.
    let mut arguments = closed.to_vec();
    arguments[3] = "10000";
    arguments.extend(["--batch-bytes", "4KiB", "--in-flight", "2"]);
    let result = sound(&cluster, &arguments);
    assert_eq!(result["checked_records"], 10_000);
    let text = cluster.ok(&[&closed[..], &["--check", "off"]].concat());
    assert!(
        text.contains("closed-loop") && text.contains("NOT CHECKED"),
        "{text}"
    );
}

#[test]
fn what_produce_leaves_consume_reads_and_a_record_of_others_is_found() {
    let cluster = Cluster::start();
    let keep = [
        "bench",
        "produce",
        "--partitions",
        "2",
        "--keep",
        "--topic",
        "kept",
    ];
    sound(&cluster, &[&keep[..], SHORT].concat());
    let read = ["bench", "consume", "--topic", "kept", "--clients", "2"];
    let result = sound(&cluster, &read);
    assert_eq!(result["figures"]["records"], 3_000);
    assert_eq!(result["checked_records"], 3_000);

    cluster.ok(&["produce", "kept", "no record of the generator"]);
    let finished = cluster.run(&[&read[..], &["-o", "json"]].concat());
    let result: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(result["damaged"], 1);
    assert!(result["figures"].is_null());
    let error = finished.failed(1);
    assert!(error.contains("1 records damaged"), "{error}");
    sound_unchecked(&cluster, &read);
}

#[track_caller]
fn sound_unchecked(cluster: &Cluster, read: &[&str]) {
    let text = cluster.ok(&[read, &["--check", "off"]].concat());
    assert!(text.contains("NOT CHECKED"), "{text}");
}

#[test]
fn e2e_measures_until_a_record_is_read() {
    let cluster = Cluster::start();
    let arguments = ["bench", "e2e", "--partitions", "2", "--fetchers", "2"];
    let result = sound(&cluster, &[&arguments[..], SHORT].concat());
    assert_eq!(result["figures"]["latency_us"]["samples"], 2_000);
    assert_eq!(result["checked_records"], 3_000);
}

#[test]
fn raw_requests_are_counted_in_the_log() {
    let cluster = Cluster::start();
    let arguments = ["bench", "raw", "--records", "1000", "--warm-up", "0s"];
    let sizes = [
        "--request-bytes",
        "4KiB",
        "--size",
        "100",
        "--connections",
        "2",
    ];
    let result = sound(&cluster, &[&arguments[..], &sizes[..]].concat());
    let records = result["figures"]["records"].as_u64().unwrap();
    assert_eq!(result["checked_records"], records);
    assert_eq!(records % 1_000, 0);
    assert_eq!(result["figures"]["latency_us"]["samples"], 1_000);
}

#[test]
fn runs_that_cannot_tell_anything_are_refused() {
    let cluster = Cluster::start();
    let few = ["bench", "produce", "--records", "10", "--warm-up", "0s"];
    let finished = cluster.run(&few);
    assert!(finished.stdout.contains("FAILED"), "{}", finished.stdout);
    assert!(!finished.stdout.contains("MB/s"), "{}", finished.stdout);
    let error = finished.failed(1);
    assert!(error.contains("too few samples: 10"), "{error}");

    cluster.ok(&["topic", "create", "orders", "-p", "2"]);
    let other = ["bench", "produce", "--topic", "orders", "--partitions", "3"];
    cluster.run(&other).failed(7);
    cluster.run(&["bench", "consume"]).failed(5);
    let error = cluster.run(&["bench", "produce", "--size", "35"]).failed(2);
    assert!(error.contains("36 to"), "{error}");
    cluster
        .run(&["bench", "raw", "--broker-pid", "999999999"])
        .failed(5);
    cluster.run(&["bench", "raw", "--acks", "0"]).failed(2);
}

#[test]
fn a_broker_that_dies_ends_the_run_without_figures() {
    for kind in ["produce", "e2e", "raw"] {
        let cluster = Cluster::start();
        let server = cluster.node.kafka().to_owned();
        let address = server.clone();
        let run = std::thread::spawn(move || {
            let mut arguments = vec!["bench", kind, "--duration", "10m", "--warm-up", "0s"];
            arguments.extend(["-o", "json", "--timeout", "20s", "--server", &address]);
            if kind == "raw" {
                arguments.extend(["--request-bytes", "1KiB"]);
            }
            test_support::run(BINARY, &arguments, b"")
        });
        let first = ["consume", "braidlog-bench", "--from", "start", "-n", "1"];
        eventually("the first record to be written", || {
            (cluster.run(&first).code == 0).then_some(())
        });
        cluster.node.kill();
        let finished = run.join().unwrap();
        let result: Value = serde_json::from_str(&finished.stdout)
            .unwrap_or_else(|error| panic!("{error}: {finished:?}"));
        assert_eq!(result["ok"], false, "{result}");
        assert!(result["figures"].is_null(), "{result}");
        let error = finished.failed(1);
        assert!(error.contains("acknowledged"), "{error}");
    }
}

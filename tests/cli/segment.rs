//! `debug segment`, on the files of a node that has stopped.

use storage::disk::{Disk, OpenMode};

use crate::{Cluster, run};

#[test]
fn segments_are_dumped_and_verified_and_damage_is_found() {
    let cluster = Cluster::start();
    cluster.ok(&["topic", "create", "orders"]);
    cluster
        .feed(&["produce", "orders", "-z", "lz4"], b"a\nb\nc\n")
        .ok();
    cluster.ok(&["produce", "orders", "-k", "k", "d"]);
    let data = cluster.directory.join("data");
    assert_eq!(cluster.node.terminate().code(), Some(0));
    let data = data.to_str().unwrap();

    let reports = run(&["debug", "segment", "verify", data, "-o", "json"]).json_lines();
    let report = reports
        .iter()
        .find(|report| report["records"] == 4)
        .unwrap();
    assert_eq!(report["ok"], true);
    assert_eq!(
        (&report["base_offset"], &report["end_offset"]),
        (&0.into(), &4.into())
    );
    let table = run(&["debug", "segment", "verify", data]).ok();
    assert!(table.contains("0..4"), "{table}");

    let file = report["file"].as_str().unwrap();
    let batches = run(&["debug", "segment", "dump", file, "-o", "json"]).json_lines();
    assert_eq!(batches.len(), 2);
    assert_eq!(
        (&batches[0]["codec"], &batches[0]["records"]),
        (&"lz4".into(), &3.into())
    );
    assert!(batches[0]["producer_id"].as_i64().unwrap() >= 0);
    assert_eq!(
        (&batches[1]["base_offset"], &batches[1]["producer_id"]),
        (&3.into(), &(-1).into())
    );
    assert!(batches.iter().all(|batch| batch["crc_ok"] == true));
    let table = run(&["debug", "segment", "dump", data]).ok();
    assert!(
        table.contains("lz4") && table.contains("POSITION"),
        "{table}"
    );

    // One flipped bit in the last batch's value.
    let segment = Disk::Real.open(file.as_ref(), OpenMode::ReadWrite).unwrap();
    let last = report["file_bytes"].as_u64().unwrap() - 2;
    let mut byte = [0];
    segment.read_exact_at(&mut byte, last).unwrap();
    segment.write_all_at(&[byte[0] ^ 1], last).unwrap();
    let error = run(&["debug", "segment", "verify", file]).failed(1);
    assert!(error.contains("1 of 1 segments are damaged"), "{error}");
    let dumped = run(&["debug", "segment", "dump", file, "-o", "json"]);
    assert!(
        dumped.stdout.contains("\"crc_ok\":false"),
        "{}",
        dumped.stdout
    );
}

#[test]
fn what_is_not_there_is_not_found() {
    run(&["debug", "segment", "verify", "/nonexistent"]).failed(5);
    let empty = test_support::TempDir::new();
    run(&["debug", "segment", "dump", empty.path().to_str().unwrap()]).failed(5);
}

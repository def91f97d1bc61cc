//! What was acknowledged is there: after `kill -9`, after power cuts, on full and failing disks.

use std::path::Path;
use std::process::Command;

use braidlog::node::Node;
use kafka_client::api::{FetchOptions, FetchPartition};
use kafka_client::{Connection, ErrorCode};
use storage::clock::Clock;
use storage::disk::{Disk, OpKind, SimDisk};
use test_support::{
    Process, ProduceFailure, TempDir, Witness, connect, create_topic, create_topic_with, env,
    eventually, eventually_async, start_node, within,
};

const BINARY: &str = env!("CARGO_BIN_EXE_braidlog");

async fn connected(address: &str) -> Connection {
    within("a connection", connect(address))
        .await
        .expect("the node takes connections")
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_kills_lose_and_repeat_nothing() {
    let dir = TempDir::new();
    let mut witness = Witness::new("kills", 200);
    let clock = Clock::system();
    for round in 0..20_usize {
        let process = Process::start(BINARY, dir.path(), &[]);
        let connection = connected(process.kafka()).await;
        if round == 0 {
            create_topic(&connection, "kills", 1).await;
            witness
                .produce(&connection, 1)
                .await
                .expect("the first produce");
            println!(
                "start to first accepted produce: {} ms",
                clock.monotonic_ms()
            );
        }
        let before = witness.acknowledged();
        // Killed by another thread, at a different point of the stream each time.
        let id = process.id();
        let producing = async {
            let failure = witness.produce(&connection, usize::MAX).await;
            assert!(
                matches!(failure, Err(ProduceFailure::Client(_))),
                "only the kill ends it: {failure:?}"
            );
        };
        let killing = async {
            let wanted = 5 + round * 13;
            tokio::time::sleep(std::time::Duration::from_millis(wanted as u64)).await;
            let status = Command::new("kill").args(["-9", &id.to_string()]).status();
            assert!(status.expect("kill runs").success());
        };
        within("the kill", async { tokio::join!(producing, killing) }).await;
        process.wait();
        println!(
            "round {round}: {} acknowledged",
            witness.acknowledged() - before
        );
    }
    let process = Process::start(BINARY, dir.path(), &[]);
    let connection = connected(process.kafka()).await;
    let there = witness.check(&connection).await;
    assert!(
        witness.acknowledged() > 100,
        "enough was acknowledged for the test to mean something"
    );
    println!("{} acknowledged, {there} there", witness.acknowledged());
    witness
        .produce(&connection, 10)
        .await
        .expect("the stream goes on where it was");
    witness.check(&connection).await;
    assert!(process.terminate().success());
}

/// Starts a node on a simulated disk, in this process.
async fn start_on(disk: &SimDisk, seed: u64, settings: &[&str]) -> Node {
    let mut all = vec!["storage.journal_file_bytes=1MiB", "storage.shards=2"];
    all.extend(settings);
    start_node(Path::new("/node"), env(Disk::Sim(disk.clone()), seed), &all).await
}

async fn connect_to(node: &Node) -> Connection {
    connected(&node.kafka_addr().to_string()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn power_cuts_lose_and_repeat_nothing() {
    let disk = SimDisk::new(7);
    let mut witness = Witness::new("cuts", 300);
    for round in 0..15_u64 {
        let node = start_on(&disk, round, &["storage.checkpoint_journal_bytes=64KiB"]).await;
        let connection = connect_to(&node).await;
        if round == 0 {
            create_topic_with(&connection, "cuts", 1, &[("segment.bytes", "16384")]).await;
        }
        witness.produce(&connection, 20).await.expect("power is on");
        disk.fail_after(1 + round * 7);
        let failure = witness.produce(&connection, usize::MAX).await;
        assert!(failure.is_err(), "the power is off");
        disk.cut_power();
        within("the node to stop", node.shutdown()).await;
        disk.crash(round);
    }
    let node = start_on(&disk, 99, &[]).await;
    let connection = connect_to(&node).await;
    witness.check(&connection).await;
    witness
        .produce(&connection, 5)
        .await
        .expect("the stream goes on where it was");
    witness.check(&connection).await;
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_data_serves_reads_and_recovers_without_a_restart() {
    let disk = SimDisk::new(8);
    disk.set_capacity(24 << 20);
    let node = start_on(&disk, 1, &["storage.checkpoint_journal_bytes=1MiB"]).await;
    let connection = connect_to(&node).await;
    create_topic(&connection, "ballast", 1).await;
    create_topic(&connection, "kept", 1).await;
    let mut kept = Witness::new("kept", 2_000);
    kept.produce(&connection, 30).await.expect("there is room");
    let mut ballast = Witness::new("ballast", 8_000);
    let refused = ballast.produce(&connection, usize::MAX).await;
    let Err(ProduceFailure::Refused(error)) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(error, ErrorCode::KAFKA_STORAGE_ERROR);
    // Whatever was acknowledged is still read, also what has only the journal behind it.
    kept.check(&connection).await;
    ballast.check(&connection).await;
    let deleted = connection
        .delete_topics(&["ballast"], 20_000)
        .await
        .expect("answered");
    assert_eq!(deleted[0].error, ErrorCode::NONE);
    eventually_async("writes to resume", async || {
        kept.produce(&connection, 1).await.ok()
    })
    .await;
    kept.check(&connection).await;
    node.shutdown().await;

    let node = start_on(&disk, 2, &[]).await;
    kept.check(&connect_to(&node).await).await;
    node.shutdown().await;
}

/// Waits until the node at this address takes records.
async fn served(address: &str, witness: &mut Witness) {
    eventually_async("the node to serve", async || {
        let connection = connect(address).await.ok()?;
        witness.produce(&connection, 5).await.ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_makes_the_node_start_over_and_loses_nothing() {
    let disk = SimDisk::new(9);
    let node = start_on(&disk, 1, &[]).await;
    let address = node.kafka_addr().to_string();
    let connection = connected(&address).await;
    create_topic(&connection, "t", 1).await;
    let mut witness = Witness::new("t", 500);
    for nth in [1, 2, 3] {
        served(&address, &mut witness).await;
        let connection = connected(&address).await;
        disk.inject(OpKind::Sync, nth, std::io::ErrorKind::Other);
        let failure = witness.produce(&connection, usize::MAX).await;
        assert!(failure.is_err(), "the sync fails");
    }
    served(&address, &mut witness).await;
    witness.check(&connected(&address).await).await;
    node.shutdown().await;
}

/// Flips a bit in the middle of the oldest segment of some partition; answers the partition's
/// directory.
fn damage_a_segment(data_dir: &Path) -> std::path::PathBuf {
    let disk = Disk::Real;
    let partitions = data_dir.join("partitions");
    let entries = disk.read_dir(&partitions).expect("partitions");
    let dir = partitions.join(&entries.first().expect("one partition").name);
    let segment = dir.join("00000000000000000000.log");
    let mut bytes = disk.read_file(&segment).expect("a segment");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    disk.write_file_atomic(&segment, &bytes).expect("written");
    dir
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_segment_is_refused_shown_and_never_shortened() {
    let dir = TempDir::new();
    let process = Process::start(BINARY, dir.path(), &[]);
    let connection = connected(process.kafka()).await;
    create_topic_with(&connection, "hurt", 1, &[("segment.bytes", "4096")]).await;
    let mut hurt = Witness::new("hurt", 300);
    hurt.produce(&connection, 20).await.expect("produced");
    assert!(process.terminate().success());
    let partition = damage_a_segment(dir.path());

    let process = Process::start(BINARY, dir.path(), &[]);
    let connection = connected(process.kafka()).await;
    create_topic(&connection, "well", 1).await;
    let mut well = Witness::new("well", 300);
    well.produce(&connection, 5)
        .await
        .expect("other partitions go on");
    let fetch = [FetchPartition::new("hurt", 0, 0)];
    let mut offset = 0;
    let error = loop {
        let fetch = [FetchPartition {
            offset,
            ..fetch[0].clone()
        }];
        let answer = connection.fetch(&fetch, FetchOptions::default()).await;
        let fetched = answer.expect("answered").partitions.remove(0);
        if fetched.error != ErrorCode::NONE {
            break fetched.error;
        }
        let batches = broker::record::split_batches(&fetched.records).expect("intact batches");
        for batch in &batches {
            let records = broker::record::decode_batch(batch, 1 << 20).expect("intact records");
            offset = records.last().expect("records").offset + 1;
        }
        assert!(offset < 40, "the damage lies before");
    };
    assert_eq!(error, ErrorCode::KAFKA_STORAGE_ERROR);
    let refused = hurt.produce(&connection, 1).await;
    assert!(matches!(
        refused,
        Err(ProduceFailure::Refused(ErrorCode::KAFKA_STORAGE_ERROR))
    ));
    eventually("one line in the log", || {
        process.log().contains("damaged").then_some(())
    });
    well.produce(&connection, 5)
        .await
        .expect("other partitions still go on");
    well.check(&connection).await;
    assert!(process.terminate().success());

    let path = partition.display().to_string();
    let verified = test_support::run(BINARY, &["debug", "segment", "verify", &path], b"");
    let report = verified.stdout.clone();
    verified.failed(1);
    assert!(report.contains("00000000000000000000.log"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_deleted_before_a_kill_is_no_damage() {
    let dir = TempDir::new();
    let small = ["--set", "storage.checkpoint_journal_bytes=64KiB"];
    for _ in 0..3 {
        let process = Process::start(BINARY, dir.path(), &small);
        let connection = connected(process.kafka()).await;
        create_topic_with(&connection, "gone", 4, &[("segment.bytes", "4096")]).await;
        // Enough for a checkpoint that names the partition, with some of it written later.
        let mut gone = Witness::new("gone", 1_000);
        gone.produce(&connection, 200).await.expect("produced");
        let deleted = connection
            .delete_topics(&["gone"], 20_000)
            .await
            .expect("answered");
        assert_eq!(deleted[0].error, ErrorCode::NONE);
        process.kill();
        let process = Process::start(BINARY, dir.path(), &small);
        connected(process.kafka()).await;
        assert!(!process.log().contains("damaged"), "{}", process.log());
        process.kill();
    }
}

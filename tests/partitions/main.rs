//! Ten thousand partitions on one node: made, idle, and open again after `kill -9`.
//!
//! Memory is asserted; times are printed, since this machine's say nothing about another's.

use kafka_client::api::CreateTopic;
use kafka_client::{Connection, ErrorCode};
use storage::clock::Clock;
use test_support::{Process, TempDir, Witness, connect, within};

const BINARY: &str = env!("CARGO_BIN_EXE_braidlog");
const PARTITIONS: i32 = 10_000;
/// What a partition may cost in memory.
const PARTITION_KIB_MAX: u64 = 25;

/// Resident memory of a process, in KiB.
#[expect(
    clippy::disallowed_methods,
    reason = "a file of the kernel's, not of a node's"
)]
fn resident_kib(process: &Process) -> u64 {
    let path = format!("/proc/{}/status", process.id());
    let status = std::fs::read_to_string(path).expect("Linux tells");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("resident memory");
    let number = line.split_whitespace().nth(1).expect("a number");
    number.parse().expect("a number")
}

/// How many partitions are led.
async fn led(connection: &Connection) -> usize {
    let metadata = connection.metadata(Some(&["wide"]), false).await;
    let partitions = &metadata.expect("answered").topics[0].partitions;
    partitions
        .iter()
        .filter(|partition| partition.leader == 1)
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_partitions_are_cheap_and_come_back() {
    let dir = TempDir::new();
    let process = Process::start(BINARY, dir.path(), &[]);
    let connection = connect(process.kafka()).await.expect("connected");
    let before_kib = resident_kib(&process);

    let clock = Clock::system();
    let mut topic = CreateTopic::new("wide");
    topic.partitions = PARTITIONS;
    let created = within(
        "the partitions",
        connection.create_topics(&[topic], 30_000, false),
    )
    .await;
    assert_eq!(created.expect("answered")[0].error, ErrorCode::NONE);
    println!(
        "{PARTITIONS} partitions created in {} ms",
        clock.monotonic_ms()
    );

    let each_kib = resident_kib(&process).saturating_sub(before_kib) / 10_000;
    println!("{each_kib} KiB of memory each");
    assert!(each_kib <= PARTITION_KIB_MAX);
    assert_eq!(led(&connection).await, 10_000);
    let mut witness = Witness::new("wide", 100);
    witness.produce(&connection, 10).await.expect("produced");
    process.kill();

    let process = Process::start(BINARY, dir.path(), &[]);
    println!("open again after kill -9: {}", process.ready()["ready_ms"]);
    let connection = connect(process.kafka()).await.expect("connected");
    assert_eq!(led(&connection).await, 10_000);
    witness.check(&connection).await;
    assert!(process.terminate().success());
}

//! Classic groups: members share, die and come back, and nodes as well.

use kafka_client::ErrorCode;
use test_support::{Cluster, Process, TempDir};

use crate::member::Member;
use crate::{BINARY, coordinating, create};

const PARTITIONS: i32 = 6;
/// The session of a member that dies: the shortest that nodes allow unless told.
const MORTAL_SESSION_MS: i32 = 6_000;

fn all(members: &[&Member]) -> Vec<i32> {
    let owned = members
        .iter()
        .flat_map(|member| member.owned.iter().copied());
    let mut all: Vec<i32> = owned.collect();
    all.sort_unstable();
    all
}

fn every_partition() -> Vec<i32> {
    (0..PARTITIONS).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_members_share_and_one_takes_over_when_the_other_dies() {
    let dir = TempDir::new();
    let process = Process::start(BINARY, dir.path(), &[]);
    create(process.kafka(), "t", PARTITIONS, 1);
    let bootstrap = [process.kafka().to_owned()];
    let mut first = Member::new(&bootstrap, "g", "t", PARTITIONS).await;
    first.join().await;
    assert_eq!(all(&[&first]), every_partition());
    let mut second = Member::new(&bootstrap, "g", "t", PARTITIONS).await;
    second.session_ms = MORTAL_SESSION_MS;
    // The second waits for the first, who learns of it by a heartbeat.
    let half = |it: &Member| it.owned.len() == every_partition().len() / 2;
    let second_shares = async {
        second.join().await;
        second.live_until("its half", half).await;
    };
    let first_shares = first.live_until("the other half", half);
    tokio::join!(Box::pin(first_shares), Box::pin(second_shares));
    assert_eq!(all(&[&first, &second]), every_partition());
    // It says nothing more: its session ends.
    drop(second);
    let whole = |it: &Member| it.owned.len() == every_partition().len();
    first.live_until("all partitions", whole).await;
    assert_eq!(all(&[&first]), every_partition());
    assert!(process.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_and_its_node_come_back_without_a_rebalance() {
    let dir = TempDir::new();
    let process = Process::start(BINARY, dir.path(), &[]);
    create(process.kafka(), "t", PARTITIONS, 1);
    let bootstrap = [process.kafka().to_owned()];
    let mut member = Member::new(&bootstrap, "g", "t", PARTITIONS).await;
    member.instance = Some("one".to_owned());
    member.join().await;
    let generation = member.generation;
    process.kill();

    let process = Process::start(BINARY, dir.path(), &[]);
    let bootstrap = [process.kafka().to_owned()];
    let mut again = Member::new(&bootstrap, "g", "t", PARTITIONS).await;
    again.instance = Some("one".to_owned());
    again.join().await;
    assert_eq!(again.generation, generation);
    assert_eq!(all(&[&again]), every_partition());
    assert!(again.id != member.id, "the one that was is fenced");
    again.id = member.id;
    assert_eq!(again.beat().await, Some(ErrorCode::FENCED_INSTANCE_ID));
    assert!(process.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn members_keep_their_generation_when_the_coordinator_is_killed() {
    let mut cluster = Cluster::start(BINARY, 3);
    create(&cluster.kafka(0), "t", PARTITIONS, 3);
    let bootstrap = cluster.bootstrap();
    let mut member = Member::new(&bootstrap, "g", "t", PARTITIONS).await;
    member.join().await;
    let generation = member.generation;
    let node = coordinating(&cluster, "g").await;
    cluster.kill(node);
    let mut told = None;
    while told.is_none() {
        told = member.beat().await;
    }
    assert_eq!(told, Some(ErrorCode::NONE), "nothing has changed for it");
    assert_eq!(member.generation, generation);
    cluster.restart(node);
}

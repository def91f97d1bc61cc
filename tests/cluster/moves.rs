//! Single partitions of a topic move between shards of real processes under load, while the nodes
//! that drive the moves are killed.

use std::time::Duration;

use kafka_client::ErrorCode;
use kafka_client::api::Reassignment;
use test_support::{Cluster, Load, check_replicas};

use crate::{BINARY, create};

const PARTITIONS: i32 = 12;
/// Partitions with a producer; they move one after the other, each away from others in its shard.
const LOADED: i32 = 3;
/// Acknowledged between two events.
const RECORDS: i64 = 300;
const DEADLINE: Duration = Duration::from_secs(120);

async fn within<T>(what: &str, doing: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(DEADLINE, doing).await;
    done.unwrap_or_else(|_| panic!("in vain: {what}"))
}

/// Asks any node that lives for these replicas of a partition, until one takes it.
async fn reassign(cluster: &Cluster, topic: &str, partition: i32, replicas: &[i32]) {
    let wanted = Reassignment {
        topic: topic.to_owned(),
        partition,
        replicas: Some(replicas.to_vec()),
    };
    let asking = async {
        let client = cluster.client();
        loop {
            if let Ok(connection) = client.any().await {
                let asked = std::slice::from_ref(&wanted);
                match connection
                    .alter_partition_reassignments(asked, false, 10_000)
                    .await
                {
                    Ok(altered) if altered[0].error == ErrorCode::NONE => return,
                    Ok(_) => {}
                    Err(_) => client.lost(&connection),
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within("a reassignment to be taken", asking).await;
}

/// Waits until a partition has these replicas and a leader. A move that was given up while nodes
/// were dead is asked for again, as an operator would.
async fn moved(cluster: &Cluster, topic: &str, partition: i32, replicas: &[i32]) {
    let looking = async {
        let client = cluster.client();
        loop {
            if let Ok(metadata) = client.metadata(Some(&[topic])).await {
                let topics = metadata.topics.into_iter();
                let mut partitions = topics.flat_map(|topic| topic.partitions);
                let told = partitions.find(|told| told.index == partition);
                if told.is_some_and(|told| told.replicas == replicas && told.leader >= 0) {
                    return;
                }
            }
            reassign(cluster, topic, partition, replicas).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within("a partition to be moved", looking).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_moves_under_load_and_is_closed_for_a_moment() {
    let cluster = Cluster::start(BINARY, 3);
    create(&cluster, "moves", PARTITIONS, 3);
    let load = Load::start(&cluster.bootstrap(), "moves", LOADED, 300);
    load.more(RECORDS).await;
    for (partition, list) in (0..).zip([[2, 3, 1], [3, 1, 2], [1, 3, 2]]) {
        reassign(&cluster, "moves", partition, &list).await;
        moved(&cluster, "moves", partition, &list).await;
        load.more(RECORDS).await;
    }
    let loaded = load.stop().await;
    let gaps: Vec<i64> = loaded.iter().map(|done| done.longest_gap_ms).collect();
    println!("each partition moved once; longest time between acknowledgements {gaps:?} ms");
    let total = check_replicas(&cluster, "moves", &loaded).await;
    let acknowledged: i64 = loaded.iter().map(|done| done.witness.acknowledged()).sum();
    assert!(total >= acknowledged);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_whose_driver_is_killed_loses_nothing() {
    let mut cluster = Cluster::start(BINARY, 3);
    create(&cluster, "killed", PARTITIONS, 3);
    let load = Load::start(&cluster.bootstrap(), "killed", LOADED, 300);
    load.more(RECORDS).await;
    for (partition, list) in (0..).zip([[2, 3, 1], [3, 1, 2], [1, 3, 2]]) {
        reassign(&cluster, "killed", partition, &list).await;
        // The first of the list leads the new shard, or is about to: it drives the move.
        let node = usize::try_from(list[0] - 1).expect("node 1 has index 0");
        cluster.kill(node);
        load.more(RECORDS).await;
        cluster.restart(node);
        cluster.wait_healthy(3);
        moved(&cluster, "killed", partition, &list).await;
        load.more(RECORDS).await;
    }
    let loaded = load.stop().await;
    cluster.wait_healthy(3);
    let total = check_replicas(&cluster, "killed", &loaded).await;
    let acknowledged: i64 = loaded.iter().map(|done| done.witness.acknowledged()).sum();
    assert!(total >= acknowledged);
}

//! Single partitions move between shards of three brokers in one process while idempotent writers
//! write, leaders change at any moment, topics go and moves are called off.

mod trio;

use std::collections::BTreeMap;
use std::time::Duration;

use broker::*;
use storage::clock::Clock;
use storage::{LeaderEpoch, NodeId, PartitionId, ShardId};
use trio::{Load, Trio, eventually};

fn clocks() -> [Clock; 3] {
    [Clock::system(), Clock::system(), Clock::system()]
}

fn nodes(list: &[u32]) -> Vec<NodeId> {
    list.iter().copied().map(NodeId).collect()
}

async fn reassign(broker: &Broker, id: PartitionId, list: Option<&[u32]>) {
    eventually("the change is taken", async || {
        let changes = vec![(id, list.map(nodes))];
        match broker.alter_reassignments(changes).await.remove(0).1 {
            Ok(()) => Some(()),
            // As a client does that is told to try again.
            Err(_) => None,
        }
    })
    .await;
}

fn shard_of(broker: &Broker, id: PartitionId) -> ShardId {
    let catalogue = broker.catalogue();
    catalogue.entry(id).expect("it exists").shard
}

/// Waits until every node tells that the partition has exactly these replicas, and who leads it.
async fn moved(trio: &Trio, id: PartitionId, list: &[u32]) {
    for broker in &trio.brokers {
        eventually(&format!("{id} has {list:?} and a leader"), async || {
            let status = broker.partition_status(id)?;
            let is_done = status.replicas == nodes(list) && status.leader.is_some();
            (is_done && broker.list_reassignments().is_empty()).then_some(())
        })
        .await;
    }
}

/// Gives shards other leaders, one after the other, until it is dropped.
async fn elect_for_ever(brokers: Vec<Broker>) {
    for turn in 0_usize.. {
        let shards = brokers[0].cluster_status().shards;
        let shard = &shards[turn % shards.len()];
        let others: Vec<NodeId> = shard
            .voters
            .iter()
            .copied()
            .filter(|node| Some(*node) != shard.leader)
            .collect();
        if let Some(to) = others.get(turn % others.len().max(1)) {
            // It may be too early for another one.
            let _ = brokers[turn % 3].transfer_leader(shard.id, *to).await;
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

fn epoch(trio: &Trio, id: PartitionId) -> LeaderEpoch {
    let told = trio
        .brokers
        .iter()
        .filter_map(|one| one.partition_status(id));
    told.map(|status| status.leader_epoch)
        .max()
        .expect("it exists")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_moves_under_load_and_its_neighbours_stay() {
    let trio = Trio::start(11, clocks()).await;
    let ids = trio.topic("t", 12, &[]).await;
    let shard = |id: &PartitionId| shard_of(&trio.brokers[0], *id);
    let before: Vec<ShardId> = ids.iter().map(shard).collect();
    let load = Load::start(&trio, &ids[..3]);
    load.more(300).await;
    for (id, list) in ids.iter().zip([[2, 3, 1], [3, 1, 2], [2, 3, 1]]) {
        let last = epoch(&trio, *id);
        reassign(&trio.brokers[1], *id, Some(&list)).await;
        moved(&trio, *id, &list).await;
        load.more(200).await;
        let now = epoch(&trio, *id);
        assert!(now > last, "{now} after {last}");
    }
    let after: Vec<ShardId> = ids.iter().map(shard).collect();
    assert_eq!(after[3..], before[3..], "the others stay where they are");
    assert_eq!(after[0], after[2], "the same list is the same shard");
    assert!(after[..3].iter().all(|shard| !before.contains(shard)));
    let written = load.end().await;
    trio.check(&written).await;
    trio.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_change_at_any_moment_of_a_move() {
    let trio = Trio::start(21, clocks()).await;
    let ids = trio.topic("t", 9, &[]).await;
    let load = Load::start(&trio, &ids[..3]);
    load.more(100).await;
    let electing = tokio::spawn(elect_for_ever(trio.brokers.clone()));
    for round in 0..4 {
        for (id, list) in ids.iter().zip([[1, 3, 2], [2, 1, 3], [3, 2, 1]]) {
            let turned: Vec<u32> = list.iter().map(|node| (node + round) % 3 + 1).collect();
            reassign(&trio.brokers[0], *id, Some(&turned)).await;
        }
        load.more(100).await;
    }
    electing.abort();
    for (id, list) in ids.iter().zip([[1, 2, 3], [2, 3, 1], [3, 1, 2]]) {
        // One that was given up on its way is asked for again, as an operator would.
        eventually("it is where it was sent", async || {
            reassign(&trio.brokers[0], *id, Some(&list)).await;
            let status = trio.brokers[0].partition_status(*id)?;
            (status.replicas == nodes(&list)).then_some(())
        })
        .await;
        moved(&trio, *id, &list).await;
    }
    load.more(100).await;
    let written = load.end().await;
    trio.check(&written).await;
    trio.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_to_a_dead_node_waits_until_it_is_called_off() {
    let trio = Trio::start(31, clocks()).await;
    let ids = trio.topic("t", 12, &[]).await;
    let load = Load::start(&trio, &ids[..1]);
    load.more(50).await;
    trio.brokers[2].shutdown().await;
    let broker = &trio.brokers[0];
    reassign(broker, ids[0], Some(&[3])).await;
    reassign(broker, ids[1], Some(&[3])).await;
    let before = broker.partition_status(ids[0]).expect("it exists");
    load.more(200).await;
    let found = broker.list_reassignments();
    let found: BTreeMap<PartitionId, &Reassignment> =
        found.iter().map(|one| (one.partition, one)).collect();
    let told = found[&ids[0]];
    assert!(
        told.adding.is_empty() && told.removing.len() == 2,
        "{told:?}"
    );
    assert_eq!(told.replicas.len(), 3);
    // Its replicas are those that it has.
    let now = broker.partition_status(ids[0]).expect("it exists");
    assert_eq!(now.replicas, before.replicas);
    // Both went to the same new shard.
    let to = |id: &PartitionId| broker.catalogue().entry(*id)?.moving;
    assert_eq!(to(&ids[0]).map(|one| one.to), to(&ids[1]).map(|one| one.to));
    assert!(to(&ids[0]).is_some());
    reassign(broker, ids[0], None).await;
    let present = broker.partition_status(ids[1]).expect("it exists").replicas;
    let present: Vec<u32> = present.iter().map(|node| node.0).collect();
    reassign(broker, ids[1], Some(&present)).await;
    assert!(broker.list_reassignments().is_empty());
    load.more(50).await;
    let written = load.end().await;
    assert!(!written[0].acknowledged.is_empty());
    // The same list has its shard already.
    let shards = broker.catalogue().shards.len();
    reassign(broker, ids[2], Some(&[3])).await;
    assert_eq!(broker.catalogue().shards.len(), shards);
    let gone = broker
        .delete_topics(vec![TopicRef::Name("t".to_owned())], 20_000)
        .await;
    assert!(
        gone[0].is_ok(),
        "a topic goes in the middle of a move: {gone:?}"
    );
    assert!(broker.list_reassignments().is_empty());
    let files = trio.disks[0].clone();
    eventually("nothing of it is left on the disk", async || {
        let disk = storage::disk::Disk::Sim(files.clone());
        let left = disk
            .read_dir(std::path::Path::new("/data/partitions"))
            .ok()?;
        left.is_empty().then_some(())
    })
    .await;
    trio.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_deleted_while_its_partitions_move_leaves_nothing() {
    let trio = Trio::start(41, clocks()).await;
    for round in 0..3 {
        let name = format!("t{round}");
        let ids = trio.topic(&name, 6, &[]).await;
        let load = Load::start(&trio, &ids[..2]);
        load.more(60).await;
        load.end().await;
        for (id, list) in ids.iter().zip([[3, 2, 1], [2, 1, 3], [1, 3, 2]]) {
            reassign(&trio.brokers[0], *id, Some(&list)).await;
        }
        let gone = trio.brokers[1]
            .delete_topics(vec![TopicRef::Name(name)], 20_000)
            .await;
        assert!(gone[0].is_ok(), "{gone:?}");
        for (broker, disk) in trio.brokers.iter().zip(&trio.disks) {
            let disk = storage::disk::Disk::Sim(disk.clone());
            eventually("nothing is left of it", async || {
                let left = disk
                    .read_dir(std::path::Path::new("/data/partitions"))
                    .ok()?;
                let is_gone = left.is_empty() && broker.list_reassignments().is_empty();
                is_gone.then_some(())
            })
            .await;
        }
    }
    trio.stop().await;
}

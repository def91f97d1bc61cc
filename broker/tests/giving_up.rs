//! A node that gives its shards up and is disturbed in the middle: it loses power, or nobody is
//! there to say that it may. What other nodes carry stays whole, and what it gave up is gone in the
//! end and can be had again.

#[allow(
    dead_code,
    reason = "some of it serves the other tests with power cuts only"
)]
mod power_support;

use std::sync::PoisonError;
use std::time::Duration;

use broker::{Broker, ClusterStatus};
use power_support::load::Load;
use power_support::{Cluster, eventually, seed};
use storage::{Durability, NodeId, PartitionId};

/// The place that is emptied.
const VICTIM: usize = 3;
/// Longer than a shard that nobody claims is kept for certain.
const FORGETS_WITHIN: Duration = Duration::from_secs(5);

fn broker(cluster: &Cluster, at: usize) -> Broker {
    let table = cluster.running.read();
    table.unwrap_or_else(PoisonError::into_inner)[&at].clone()
}

fn held(broker: &Broker) -> usize {
    broker.log_dirs()[0].partitions.len()
}

/// Nothing is in change, and everything has three replicas in sync.
fn is_settled(status: &ClusterStatus) -> bool {
    status.shards.iter().all(|shard| {
        let in_sync = |node| shard.in_sync.contains(node);
        let is_whole = shard.replicas.len() == 3 && shard.replicas.iter().all(in_sync);
        shard.target.is_none() && shard.leader.is_some() && is_whole
    })
}

/// Four nodes, the last of which carries some of these partitions.
async fn four(seed: u64) -> (Cluster, Vec<PartitionId>) {
    let mut cluster = Cluster::new(seed, 4, Durability::Fsync);
    cluster.start(&[0, 1, 2, 3]).await;
    settled(&cluster).await;
    let partitions = cluster.topic("t", 8).await;
    eventually("the victim carries something", async || {
        (held(&broker(&cluster, VICTIM)) > 0).then_some(())
    })
    .await;
    (cluster, partitions)
}

async fn settled(cluster: &Cluster) {
    let first = broker(cluster, 0);
    eventually("the cluster is at rest", async || {
        let status = first.cluster_status();
        let alive = status.nodes.iter().filter(|node| node.alive).count();
        (alive == 4 && is_settled(&status)).then_some(())
    })
    .await;
}

async fn drain(cluster: &Cluster, victim: NodeId) {
    let first = broker(cluster, 0);
    eventually("the drain is taken", async || {
        first.drain_node(victim).await.ok()
    })
    .await;
}

async fn is_emptied(cluster: &Cluster, victim: NodeId) {
    let first = broker(cluster, 0);
    eventually("the others carry everything", async || {
        let status = first.cluster_status();
        let node = status.nodes.iter().find(|node| node.node.id == victim)?;
        (node.replicas == 0 && is_settled(&status)).then_some(())
    })
    .await;
}

async fn forgets(cluster: &Cluster) {
    let victim = broker(cluster, VICTIM);
    eventually("it has forgotten all of it", async || {
        (held(&victim) == 0).then_some(())
    })
    .await;
}

/// It gets replicas of the same shards again, as one that never had any.
async fn carries_again(cluster: &Cluster) {
    let (first, victim) = (broker(cluster, 0), broker(cluster, VICTIM));
    eventually("it is used again", async || {
        first.undrain_node(victim.node_id()).await.ok()
    })
    .await;
    eventually("it carries something again", async || {
        (held(&victim) > 0).then_some(())
    })
    .await;
    settled(cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_loses_power_while_it_gives_shards_up_ends_up_without_them() {
    let seed = seed(7);
    let (mut cluster, partitions) = four(seed).await;
    let load = Load::start(&cluster.running, &partitions);
    load.goes_on(20).await;
    let victim = broker(&cluster, VICTIM).node_id();
    drain(&cluster, victim).await;
    for round in 0..5 {
        load.goes_on(20).await;
        // Not a wait for anything: power goes before, between and after closing and deleting.
        let moment = seed.wrapping_add(round).wrapping_mul(1_009) % 4_000;
        tokio::time::sleep(Duration::from_millis(moment)).await;
        cluster
            .cut(&[VICTIM], seed.wrapping_mul(1_000) + round)
            .await;
        cluster.start(&[VICTIM]).await;
    }
    is_emptied(&cluster, victim).await;
    forgets(&cluster).await;
    carries_again(&cluster).await;
    load.goes_on(20).await;
    let acknowledged = load.end(&cluster.running).await;
    println!("{acknowledged} records");
    cluster.end(&[0, 1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_an_old_catalogue_and_nobody_to_ask_deletes_nothing() {
    let seed = seed(8);
    let (mut cluster, partitions) = four(seed).await;
    let load = Load::start(&cluster.running, &partitions);
    load.goes_on(20).await;
    let before = held(&broker(&cluster, VICTIM));
    let victim = broker(&cluster, VICTIM).node_id();
    // Before the drain, which might have emptied it by then: its shards move without it.
    cluster.end(&[VICTIM]).await;
    drain(&cluster, victim).await;
    is_emptied(&cluster, victim).await;
    let acknowledged = load.end(&cluster.running).await;
    cluster.end(&[0, 1, 2]).await;
    cluster.start(&[VICTIM]).await;
    let alone = broker(&cluster, VICTIM);
    // Not a wait for anything: in this time it would have been deleted.
    tokio::time::sleep(FORGETS_WITHIN).await;
    assert!(held(&alone) > 0 && held(&alone) <= before, "{before}");
    cluster.start(&[0, 1, 2]).await;
    forgets(&cluster).await;
    carries_again(&cluster).await;
    println!("{acknowledged} records");
    let load = Load::start(&cluster.running, &partitions);
    load.goes_on(20).await;
    load.abandon().await;
    cluster.end(&[0, 1, 2, 3]).await;
}

//! Several brokers in one process, over loopback connections and simulated disks: how a cluster
//! comes about, grows, starts again, and whom it does not take.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use broker::record::{BatchProducer, Compression, Record, encode_batch};
use broker::*;
use futures_util::future::join_all;
use raft::{Peers, PeersConfig};
use storage::clock::Clock;
use storage::data_dir::DataDir;
use storage::disk::{Disk, SimDisk};
use storage::{NodeId, PartitionId};
use tokio::task::JoinHandle;

const DEADLINE: Duration = Duration::from_secs(40);

/// A node-to-be: its disk and its address outlive its runs.
#[derive(Clone)]
struct Place {
    number: u64,
    disk: SimDisk,
    address: SocketAddr,
    config: BrokerConfig,
}

impl Place {
    /// Starts the broker; the listener is there when this returns.
    async fn start(&self, run: u64) -> JoinHandle<Result<Broker, StartError>> {
        let disk = Disk::Sim(self.disk.clone());
        let bind = async || Peers::bind(PeersConfig::new(self.address), Clock::system()).await;
        let peers = eventually("the port is free again", async || bind().await.ok()).await;
        let env = Env {
            clock: Clock::system(),
            disk: disk.clone(),
            seed: [self.number, run, 3, 4],
        };
        let config = self.config.clone();
        tokio::spawn(async move {
            let data_dir = DataDir::open(&disk, Path::new("/data"))
                .map_err(|error| StartError::DataDir(error.to_string()))?;
            Broker::start(config, env, data_dir, peers).await
        })
    }
}

/// Tries until it is there.
async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let trying = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, trying)
        .await
        .unwrap_or_else(|_| panic!("in vain: {what}"))
}

/// Addresses that nobody listens at: bound once, so that they are different.
async fn free_addresses(count: usize) -> Vec<SocketAddr> {
    let mut bound = Vec::new();
    for _ in 0..count {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        bound.push(std::net::TcpListener::bind(any).expect("a free port"));
    }
    bound
        .iter()
        .map(|one| one.local_addr().expect("bound"))
        .collect()
}

/// `count` places that all go by the addresses of the first three.
async fn places(seed: u64, count: u64) -> Vec<Place> {
    let addresses = free_addresses(usize::try_from(count).expect("few")).await;
    let seeds: Vec<String> = addresses.iter().take(3).map(ToString::to_string).collect();
    let place = |(number, address): (u64, SocketAddr)| Place {
        number,
        disk: SimDisk::new(seed + number),
        address,
        config: BrokerConfig {
            seeds: seeds.clone(),
            advertised: BTreeMap::from([("peers".to_owned(), ("127.0.0.1".to_owned(), 0))]),
            election_ms_min: 500,
            election_ms_max: 900,
            journal_file_bytes: 1 << 20,
            ..BrokerConfig::default()
        },
    };
    (1..=count).zip(addresses).map(place).collect()
}

/// Starts all, in this order, and waits until all are up.
async fn start_all(places: &[Place], run: u64) -> Vec<Broker> {
    let mut starting = Vec::new();
    for place in places {
        starting.push(place.start(run).await);
    }
    let all = tokio::time::timeout(DEADLINE, join_all(starting)).await;
    let all = all.expect("they start in time");
    all.into_iter()
        .map(|one| one.expect("no panic").expect("started"))
        .collect()
}

async fn stop_all(brokers: Vec<Broker>) {
    join_all(brokers.iter().map(Broker::shutdown)).await;
}

fn cluster_ids(brokers: &[Broker]) -> BTreeSet<String> {
    let id = |broker: &Broker| broker.catalogue().cluster_id.clone();
    brokers.iter().map(id).collect()
}

fn node_ids(brokers: &[Broker]) -> BTreeSet<u32> {
    brokers.iter().map(|broker| broker.node_id().0).collect()
}

async fn topic(broker: &Broker, name: &str, replicas: i16) -> PartitionId {
    let new = NewTopic {
        name: name.to_owned(),
        partitions: Some(2),
        replication_factor: Some(replicas),
        ..NewTopic::default()
    };
    let created = eventually("the topic is created", async || {
        let result = broker.create_topics(vec![new.clone()], false, 10_000).await;
        match result.into_iter().next()? {
            Ok(created) => Some(created.id),
            Err(BrokerError::TopicExists) => {
                broker.catalogue().topics.get(name).map(|topic| topic.id)
            }
            Err(_) => None,
        }
    });
    PartitionId {
        topic: created.await,
        index: 0,
    }
}

/// Appends through whoever leads.
async fn put(brokers: &[Broker], id: PartitionId) -> i64 {
    let record = Record {
        timestamp_ms: Clock::system().wall_ms(),
        value: Some("v".into()),
        ..Record::default()
    };
    eventually("somebody leads and takes a record", async || {
        for broker in brokers {
            let batch = encode_batch(
                std::slice::from_ref(&record),
                Compression::None,
                BatchProducer::default(),
            );
            if let Ok(pending) = broker.append(id, batch, RequiredAcks::All).await
                && let Ok(appended) = pending.await
            {
                return Some(appended.base_offset.0);
            }
        }
        None
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_cluster_comes_about_in_any_order_of_starts() {
    let orders: [[usize; 3]; 6] = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    for (seed, order) in (0..).zip(orders) {
        let all = places(seed * 10, 3).await;
        let ordered: Vec<Place> = order.iter().map(|at| all[*at].clone()).collect();
        let brokers = start_all(&ordered, 1).await;
        assert_eq!(cluster_ids(&brokers).len(), 1, "{order:?}");
        assert_eq!(node_ids(&brokers), BTreeSet::from([1, 2, 3]), "{order:?}");
        for broker in &brokers {
            eventually("every node knows all and a leader", async || {
                let status = broker.cluster_status();
                let alive = status.nodes.iter().filter(|node| node.alive).count();
                (alive == 3 && status.controller.is_some()).then_some(())
            })
            .await;
        }
        stop_all(brokers).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fourth_joins_and_all_come_back_as_they_were() {
    let places = places(100, 4).await;
    let mut brokers = start_all(&places[..3], 1).await;
    let id = topic(&brokers[1], "t", 3).await;
    assert_eq!(put(&brokers, id).await, 0);
    brokers.extend(start_all(&places[3..], 1).await);
    assert_eq!(node_ids(&brokers), BTreeSet::from([1, 2, 3, 4]));
    let cluster = cluster_ids(&brokers);
    assert_eq!(cluster.len(), 1);
    let of: Vec<NodeId> = brokers.iter().map(Broker::node_id).collect();
    // The fourth serves metadata of a topic that it does not carry.
    eventually("the fourth knows the topic's leader", async || {
        brokers[3].partition_status(id)?.leader
    })
    .await;
    stop_all(brokers).await;

    let brokers = start_all(&places, 2).await;
    assert_eq!(cluster_ids(&brokers), cluster);
    let again: Vec<NodeId> = brokers.iter().map(Broker::node_id).collect();
    assert_eq!(again, of);
    assert_eq!(put(&brokers, id).await, 1);
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_taken_by_every_node_and_known_to_it_afterwards() {
    let places = places(200, 3).await;
    let brokers = start_all(&places, 1).await;
    for (broker, name) in brokers.iter().zip(["a", "b", "c"]) {
        topic(broker, name, 1).await;
        assert!(broker.catalogue().topics.contains_key(name));
        let set = ConfigChange {
            key: "retention.ms".to_owned(),
            operation: ConfigOperation::Set,
            value: Some("77".to_owned()),
        };
        // The catalogue's leader may be losing its majority while it gets more voters.
        eventually("the config is set", async || {
            let set = vec![set.clone()];
            broker.alter_topic_configs(name, set, false).await.ok()
        })
        .await;
        assert_eq!(broker.catalogue().topics[name].config.retention_ms, 77);
    }
    let mut ids = BTreeSet::new();
    for broker in &brokers {
        for _ in 0..3 {
            let id = eventually("an id", async || broker.new_producer_id().await.ok());
            assert!(ids.insert(id.await));
        }
    }
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_its_peers_comes_up_and_says_try_again() {
    let places = places(300, 3).await;
    let brokers = start_all(&places, 1).await;
    let id = topic(&brokers[0], "t", 3).await;
    put(&brokers, id).await;
    three_vote(&brokers).await;
    stop_all(brokers).await;
    let alone = start_all(&places[1..2], 2).await.remove(0);
    let batch = encode_batch(
        &[Record::default()],
        Compression::None,
        BatchProducer::default(),
    );
    let refused = alone.append(id, batch, RequiredAcks::All).await.err();
    let is_retriable = |error: &AppendError| {
        matches!(
            error,
            AppendError::Broker(
                BrokerError::LeaderNotAvailable
                    | BrokerError::NotLeader { .. }
                    | BrokerError::UnknownTopicId
                    | BrokerError::UnknownTopicOrPartition
            )
        )
    };
    let refused = refused.expect("nobody acknowledges without a majority");
    assert!(is_retriable(&refused), "{refused:?}");
    assert_eq!(alone.controller(), None);
    // When the others are back, everything is.
    let others = start_all(&[places[0].clone(), places[2].clone()], 2).await;
    let mut brokers = vec![alone];
    brokers.extend(others);
    assert_eq!(put(&brokers, id).await, 1);
    stop_all(brokers).await;
}

/// Until then the loss of one node may be the loss of the catalogue's majority.
async fn three_vote(brokers: &[Broker]) {
    for broker in brokers {
        eventually("three vote on the catalogue", async || {
            let status = broker.cluster_status();
            let shard = status.shards.first()?;
            (shard.voters.len() == 3 && shard.replicas.len() == 3).then_some(())
        })
        .await;
    }
}

async fn refusal(place: &Place, run: u64) -> String {
    let started = place.start(run).await;
    let started = tokio::time::timeout(DEADLINE, started).await;
    let started = started.expect("refused in time").expect("no panic");
    match started {
        Err(StartError::Refused { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_node_is_told_the_way_out() {
    let mut places = places(400, 3).await;
    for (place, id) in places.iter_mut().zip(1..) {
        place.config.node_id = Some(NodeId(id));
    }
    let brokers = start_all(&places, 1).await;
    three_vote(&brokers).await;
    brokers[1].shutdown().await;
    let mut wiped = places[1].clone();
    wiped.disk = SimDisk::new(4_711);
    let reason = refusal(&wiped, 2).await;
    assert!(reason.contains("another data directory"), "{reason}");
    assert!(
        reason.contains("--node-id") && reason.contains("cluster remove 2"),
        "{reason}"
    );
    // As a new node it is welcome.
    wiped.disk = SimDisk::new(4_712);
    wiped.config.node_id = None;
    let joined = start_all(&[wiped], 3).await.remove(0);
    assert_eq!(joined.node_id(), NodeId(4));
    stop_all(vec![brokers[0].clone(), brokers[2].clone(), joined]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_another_cluster_and_one_that_was_removed_are_told_so() {
    let places = places(500, 5).await;
    let brokers = start_all(&places[..3], 1).await;
    let mut other = places[3].clone();
    other.config.seeds.clear();
    stop_all(start_all(std::slice::from_ref(&other), 1).await).await;
    other.config.seeds = places[0].config.seeds.clone();
    let reason = refusal(&other, 2).await;
    assert!(reason.contains("belongs to cluster"), "{reason}");
    assert!(reason.contains("empty directory"), "{reason}");

    let fifth = start_all(&places[4..], 1).await.remove(0);
    let id = fifth.node_id();
    brokers[0].drain_node(id).await.expect("drains");
    eventually("a node that is drained is removed", async || {
        brokers[0].remove_node(id, false).await.ok()
    })
    .await;
    stop_all(vec![fifth]).await;
    let reason = refusal(&places[4], 2).await;
    assert!(reason.contains("was removed"), "{reason}");
    assert!(reason.contains("empty data directory"), "{reason}");
    stop_all(brokers).await;
}

/// Starts all with a disk that dies after so many operations on one of them, then starts all
/// again as after a crash.
async fn crash_while_it_comes_about(seed: u64, dies: usize, operations: u64) {
    let places = places(seed, 3).await;
    places[dies].disk.fail_after(operations);
    let mut starting = Vec::new();
    let mut started = Vec::new();
    for place in &places {
        starting.push(place.start(1).await);
    }
    // The one whose disk died gives up, or got through; the others may wait for it for ever.
    let mut dying = starting.remove(dies);
    match tokio::time::timeout(Duration::from_secs(5), &mut dying).await {
        Ok(ended) => started.extend(ended.expect("no panic")),
        Err(_) => dying.abort(),
    }
    for one in starting {
        one.abort();
        if let Ok(Ok(broker)) = one.await {
            started.push(broker);
        }
    }
    let clusters_before: BTreeSet<String> = cluster_ids(&started)
        .into_iter()
        .filter(|id| !id.is_empty())
        .collect();
    assert!(clusters_before.len() <= 1, "{clusters_before:?}");
    stop_all(started).await;
    for place in &places {
        place.disk.crash(seed ^ operations);
    }
    let brokers = start_all(&places, 2).await;
    let clusters = cluster_ids(&brokers);
    assert_eq!(clusters.len(), 1, "node {dies} after {operations}");
    assert!(clusters.is_superset(&clusters_before));
    assert_eq!(node_ids(&brokers).len(), 3);
    stop_all(brokers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_point_leaves_one_cluster() {
    for operations in [3, 25, 30, 35, 45] {
        for dies in [0, 1] {
            let seed = 1_000 + operations * 10;
            crash_while_it_comes_about(seed, dies, operations).await;
        }
    }
}

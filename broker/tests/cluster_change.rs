//! Clusters of brokers in one process whose nodes come and go while records are written.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use broker::record::{BatchProducer, Compression, Record, decode_batch, encode_batch};
use broker::*;
use bytes::Bytes;
use raft::{Peers, PeersConfig};
use storage::clock::Clock;
use storage::data_dir::DataDir;
use storage::disk::Disk;
use storage::{NodeId, Offset, PartitionId, ShardId};
use tokio::task::JoinSet;

const DEADLINE: Duration = Duration::from_secs(90);
const DEADLINE_MS: i64 = 60_000;
/// So long that a partition which had to wait for an election shows, also on a busy machine.
const ELECTION_MS_MIN: u64 = 15_000;

/// A directory of this test alone, removed when dropped.
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> TempDir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let name = format!("braidlog-change-{}-{number}", std::process::id());
        TempDir(std::env::temp_dir().join(name))
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // Nothing to report to: a directory left in the temporary folder harms no other test.
        let _ = Disk::Real.remove_dir_all(&self.0);
    }
}

struct Running {
    broker: Broker,
    _dir: TempDir,
}

async fn bind() -> Peers {
    let config = PeersConfig::new("127.0.0.1:0".parse().expect("an address"));
    let bound = Peers::bind(config, Clock::system()).await;
    bound.expect("a free port")
}

async fn start(id: u32, peers: Peers, seeds: Vec<String>) -> Running {
    let dir = TempDir::new();
    let address = peers.local_addr();
    let config = BrokerConfig {
        node_id: Some(NodeId(id)),
        seeds,
        advertised: BTreeMap::from([(
            "peers".to_owned(),
            (address.ip().to_string(), address.port()),
        )]),
        shards: 2,
        heartbeat_ms: 100,
        election_ms_min: ELECTION_MS_MIN,
        election_ms_max: ELECTION_MS_MIN + 2_000,
        journal_file_bytes: 1 << 20,
        checkpoint_journal_bytes: 512 << 10,
        ..BrokerConfig::default()
    };
    let env = Env {
        clock: Clock::system(),
        disk: Disk::Real,
        seed: [u64::from(id), 2, 3, 4],
    };
    let data_dir = DataDir::open(&Disk::Real, &dir.0).expect("the directory is free");
    let started = Broker::start(config, env, data_dir, peers);
    let started = tokio::time::timeout(DEADLINE, started).await;
    Running {
        broker: started.expect("starts in time").expect("starts"),
        _dir: dir,
    }
}

/// Nodes 1 to `count`, and the addresses that others may join through.
async fn cluster(count: u32) -> (BTreeMap<u32, Running>, Vec<String>) {
    let mut bound = Vec::new();
    for id in 1..=count {
        bound.push((id, bind().await));
    }
    let seeds: Vec<String> = bound
        .iter()
        .map(|(_, peers)| peers.local_addr().to_string())
        .collect();
    let starting = bound.into_iter().map(|(id, peers)| {
        let seeds = seeds.clone();
        async move { (id, start(id, peers, seeds).await) }
    });
    let running = futures_util::future::join_all(starting).await;
    let running: BTreeMap<u32, Running> = running.into_iter().collect();
    for node in running.values() {
        eventually("every node knows all", || {
            node.broker.catalogue().nodes.len() == running.len()
        })
        .await;
    }
    (running, seeds)
}

async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let trying = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, trying)
        .await
        .unwrap_or_else(|_| panic!("in vain: {what}"));
}

async fn eventually_at(broker: &Broker, what: &str, mut is_so: impl FnMut(&ClusterStatus) -> bool) {
    let trying = async {
        while !is_so(&broker.cluster_status()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let done = tokio::time::timeout(DEADLINE, trying).await;
    assert!(
        done.is_ok(),
        "in vain: {what}: {:#?}",
        broker.cluster_status()
    );
}

/// No shard is in change, and all have a leader and all replicas in sync.
fn is_settled(status: &ClusterStatus) -> bool {
    status.shards.iter().all(|shard| {
        let in_sync = |node| shard.in_sync.contains(node);
        shard.target.is_none() && shard.leader.is_some() && shard.replicas.iter().all(in_sync)
    })
}

fn node(status: &ClusterStatus, id: u32) -> Option<&NodeStatus> {
    status.nodes.iter().find(|node| node.node.id == NodeId(id))
}

async fn topic(broker: &Broker, partitions: i32, factor: Option<i16>) -> Vec<PartitionId> {
    let name = format!("t{}", factor.unwrap_or(0));
    topic_named(broker, &name, partitions, factor).await
}

fn shards_of(broker: &Broker, partitions: &[PartitionId]) -> BTreeSet<ShardId> {
    let catalogue = broker.catalogue();
    let shard = |id: &PartitionId| catalogue.entry(*id).expect("exists").shard;
    partitions.iter().map(shard).collect()
}

/// Asks until it is so: a leader may be another one by the time it is asked.
async fn transfer(broker: &Broker, shard: ShardId, to: NodeId) {
    let trying = async {
        while let Err(error) = broker.transfer_leader(shard, to).await {
            eprintln!("shard {shard} to {to}: {error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let done = tokio::time::timeout(DEADLINE, trying).await;
    assert!(done.is_ok(), "shard {shard} is never led by {to}");
}

async fn topic_named(
    broker: &Broker,
    name: &str,
    partitions: i32,
    factor: Option<i16>,
) -> Vec<PartitionId> {
    let new = NewTopic {
        name: name.to_owned(),
        partitions: Some(partitions),
        replication_factor: factor,
        ..NewTopic::default()
    };
    let created = broker.create_topics(vec![new], false, DEADLINE_MS).await;
    let created = created.into_iter().next().expect("one");
    let id = created.expect("the topic is made").id;
    (0..u32::try_from(partitions).expect("few"))
        .map(|index| PartitionId { topic: id, index })
        .collect()
}

fn batch(value: &str) -> Bytes {
    let record = Record {
        timestamp_ms: Clock::system().wall_ms(),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        ..Record::default()
    };
    encode_batch(&[record], Compression::None, BatchProducer::default())
}

/// What one writer had acknowledged, and how long it once waited for the next answer.
#[derive(Debug)]
struct Written {
    partition: PartitionId,
    acknowledged: Vec<(i64, String)>,
    longest_ms: i64,
}

/// Writes one record after the other through whoever leads, until told to stop.
async fn write(
    brokers: Arc<Vec<Broker>>,
    partition: PartitionId,
    stop: Arc<AtomicBool>,
) -> Written {
    let clock = Clock::system();
    let mut written = Written {
        partition,
        acknowledged: Vec::new(),
        longest_ms: 0,
    };
    let mut last_ms = clock.monotonic_ms();
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        number += 1;
        let value = format!("{partition}-{number}");
        for broker in brokers.iter() {
            let appended = async {
                broker
                    .append(partition, batch(&value), RequiredAcks::All)
                    .await?
                    .await
            };
            if let Ok(appended) = appended.await {
                written
                    .acknowledged
                    .push((appended.base_offset.0, value.clone()));
                let now_ms = clock.monotonic_ms();
                written.longest_ms = written.longest_ms.max(now_ms - last_ms);
                last_ms = now_ms;
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    written
}

/// Every record of a partition by offset, from whoever leads it.
async fn read(brokers: &[Broker], partition: PartitionId) -> BTreeMap<i64, String> {
    let mut found = BTreeMap::new();
    let mut offset = 0;
    let give_up = Clock::system().monotonic_ms() + 30_000;
    loop {
        assert!(
            Clock::system().monotonic_ms() < give_up,
            "{partition} cannot be read"
        );
        let mut progress = false;
        for broker in brokers {
            let request = FetchRequest {
                partitions: vec![FetchPartition {
                    partition,
                    offset: Offset(offset),
                    current_leader_epoch: None,
                    last_fetched_epoch: None,
                    bytes_max: 1 << 20,
                }],
                bytes_min: 0,
                bytes_max: 1 << 20,
                wait_ms_max: 0,
                isolation: Isolation::ReadUncommitted,
                client_rack: None,
            };
            let Ok(fetched) = broker.fetch(request).await.remove(0).1 else {
                continue;
            };
            progress = true;
            let joined: Bytes = fetched.batches.concat().into();
            if joined.is_empty() {
                return found;
            }
            for batch in record::split_batches(&joined).expect("whole batches") {
                for record in decode_batch(&batch, 1 << 20).expect("records") {
                    let value = record.value.expect("a value").to_vec();
                    found.insert(record.offset, String::from_utf8(value).expect("text"));
                    offset = record.offset + 1;
                }
            }
        }
        if !progress {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

struct Load {
    stop: Arc<AtomicBool>,
    writers: JoinSet<Written>,
}

impl Load {
    fn start(brokers: &BTreeMap<u32, Running>, partitions: &[PartitionId]) -> Load {
        let all: Vec<Broker> = brokers.values().map(|node| node.broker.clone()).collect();
        let all = Arc::new(all);
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = JoinSet::new();
        for partition in partitions {
            writers.spawn(write(all.clone(), *partition, stop.clone()));
        }
        Load { stop, writers }
    }

    /// Ends it; answers how long the longest silence was, after checking that everything that was
    /// acknowledged is there.
    async fn end(self, brokers: &BTreeMap<u32, Running>) -> i64 {
        self.stop.store(true, Ordering::SeqCst);
        let all: Vec<Broker> = brokers.values().map(|node| node.broker.clone()).collect();
        let mut longest_ms = 0;
        for written in self.writers.join_all().await {
            assert!(!written.acknowledged.is_empty(), "nothing was written");
            let found = read(&all, written.partition).await;
            for (offset, value) in &written.acknowledged {
                assert_eq!(found.get(offset), Some(value), "{}", written.partition);
            }
            longest_ms = longest_ms.max(written.longest_ms);
        }
        longest_ms
    }
}

/// A leader that goes hands over: nobody has to notice that it is gone.
fn check_silence(longest_ms: i64) {
    eprintln!("longest silence of a partition: {longest_ms} ms");
    let election_ms = i64::try_from(ELECTION_MS_MIN).expect("small");
    assert!(
        longest_ms < election_ms,
        "closed for {longest_ms} ms: for an election"
    );
}

async fn stop(nodes: BTreeMap<u32, Running>) {
    futures_util::future::join_all(nodes.values().map(|node| node.broker.shutdown())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_three_spreads_replicas_voters_and_leaders() {
    let (nodes, _) = cluster(3).await;
    let broker = nodes[&1].broker.clone();
    let settled = |status: &ClusterStatus| {
        let full = |shard: &ShardStatus| shard.replicas.len() == 3;
        is_settled(status) && status.shards.len() == 7 && status.shards.iter().all(full)
    };
    eventually_at(&broker, "everything on three nodes", settled).await;
    // Whether a topic leaves the number of replicas to the cluster or names three: the same shards.
    let automatic = topic(&broker, 6, None).await;
    let partitions = topic(&broker, 6, Some(3)).await;
    for id in automatic.iter().chain(&partitions) {
        let status = broker.partition_status(*id).expect("exists");
        assert_eq!(status.replicas.len(), 3);
    }
    let automatic = topic_named(&broker, "later", 6, None).await;
    assert_eq!(
        shards_of(&broker, &automatic),
        shards_of(&broker, &partitions)
    );
    eventually_at(&broker, "no shards beside those", settled).await;
    let leaders: Vec<Option<NodeId>> = partitions
        .iter()
        .map(|partition| broker.partition_status(*partition).expect("exists").leader)
        .collect();
    assert!(leaders.iter().all(Option::is_some));
    for node in nodes.values() {
        eventually("each node sees the same", || {
            let status = node.broker.cluster_status();
            is_settled(&status) && status.nodes.iter().all(|node| node.alive)
        })
        .await;
    }
    let load = Load::start(&nodes, &partitions);
    // By hand, everywhere and back.
    for to in [1, 2, 3].map(NodeId) {
        for shard in broker.cluster_status().shards {
            transfer(&broker, shard.id, to).await;
        }
    }
    let moved = broker.rebalance_leaders().await.expect("moves");
    assert!(moved > 0);
    let longest_ms = load.end(&nodes).await;
    check_silence(longest_ms);
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_grows_to_three_without_a_stop() {
    let (mut nodes, seeds) = cluster(1).await;
    let broker = nodes[&1].broker.clone();
    let partitions = topic(&broker, 4, None).await;
    let load = Load::start(&nodes, &partitions);
    for id in [2, 3] {
        nodes.insert(id, start(id, bind().await, seeds.clone()).await);
    }
    eventually_at(&broker, "three replicas of everything", |status| {
        let full = |shard: &ShardStatus| shard.replicas.len() == 3;
        is_settled(status) && status.shards.iter().all(full)
    })
    .await;
    load.end(&nodes).await;
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_drained_and_removed_and_another_added_under_load() {
    let (mut nodes, seeds) = cluster(4).await;
    let broker = nodes[&1].broker.clone();
    let partitions = topic(&broker, 6, Some(3)).await;
    eventually_at(&broker, "the cluster is at rest", is_settled).await;
    let load = Load::start(&nodes, &partitions);

    broker.drain_node(NodeId(2)).await.expect("drains");
    eventually_at(&broker, "node 2 is empty", |status| {
        let two = node(status, 2).expect("exists");
        let catalogue = &status.shards[0];
        let votes = catalogue.voters.contains(&NodeId(2));
        two.replicas == 0 && two.leads == 0 && !votes && is_settled(status)
    })
    .await;
    let drained = nodes[&2].broker.clone();
    eventually("node 2 forgets its shards", || {
        drained.log_dirs()[0].partitions.is_empty()
    })
    .await;
    let longest_ms = load.end(&nodes).await;
    check_silence(longest_ms);

    broker.remove_node(NodeId(2), false).await.expect("removes");
    nodes.remove(&2).expect("runs").broker.shutdown().await;
    let load = Load::start(&nodes, &partitions);
    nodes.insert(5, start(5, bind().await, seeds).await);
    eventually_at(&broker, "node 5 has its share", |status| {
        let five = node(status, 5);
        five.is_some_and(|five| five.replicas >= 6) && is_settled(status)
    })
    .await;
    load.end(&nodes).await;
    let status = broker.cluster_status();
    assert!(node(&status, 2).is_none());
    assert!(status.shards.iter().all(|shard| shard.replicas.len() == 3));
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_given_by_hand_are_kept_and_moved_by_hand() {
    let (nodes, _) = cluster(3).await;
    let broker = nodes[&1].broker.clone();
    let list = |nodes: &[u32]| nodes.iter().copied().map(NodeId).collect::<Vec<_>>();
    let new = NewTopic {
        name: "by-hand".to_owned(),
        assignments: BTreeMap::from([(0, list(&[3, 1]))]),
        ..NewTopic::default()
    };
    let created = broker.create_topics(vec![new], false, DEADLINE_MS).await;
    let id = created.into_iter().next().expect("one").expect("made").id;
    let partition = PartitionId {
        topic: id,
        index: 0,
    };
    let replicas = || broker.partition_status(partition).expect("exists").replicas;
    assert_eq!(replicas(), list(&[3, 1]));
    let load = Load::start(&nodes, &[partition]);
    // Its leader may be another one by the time it is asked.
    let asking = async {
        loop {
            let wanted = vec![(partition, Some(list(&[2])))];
            let altered = broker.alter_reassignments(wanted).await;
            if altered == [(partition, Ok(()))] {
                return;
            }
            eprintln!("{altered:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let asked = tokio::time::timeout(DEADLINE, asking).await;
    assert!(asked.is_ok(), "its replicas cannot be changed");
    eventually("it moved to node 2 alone", || {
        replicas() == list(&[2]) && broker.list_reassignments().is_empty()
    })
    .await;
    eventually("node 2 leads it", || {
        broker.partition_status(partition).expect("exists").leader == Some(NodeId(2))
    })
    .await;
    load.end(&nodes).await;
    let refused = broker.transfer_leader(ShardId(0), NodeId(9)).await;
    assert_eq!(refused, Err(BrokerError::UnknownNode { node: NodeId(9) }));
    stop(nodes).await;
}

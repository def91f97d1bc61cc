//! Three brokers in one process over loopback connections and simulated disks: replicas that were
//! away, damaged files, answers that wait for replicas, readers of followers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use raft::{Peers, PeersConfig};
use storage::clock::Clock;
use storage::data_dir::DataDir;
use storage::disk::{Disk, OpenMode, SimDisk};
use storage::{NodeId, Offset, PartitionId, ShardId};

use crate::record::{BatchProducer, Compression, Record, encode_batch};
use crate::{
    AppendError, Appended, Broker, BrokerConfig, BrokerError, Env, FetchPartition, FetchRequest,
    FetchedPartition, Isolation, NewTopic, RequiredAcks,
};

const DEADLINE: Duration = Duration::from_secs(30);

/// A node that can be stopped and started again.
pub(crate) struct TestNode {
    pub(crate) disk: SimDisk,
    address: String,
    config: BrokerConfig,
    seed: u64,
    broker: Option<Broker>,
}

impl TestNode {
    async fn start(&mut self, peers: Peers) -> Broker {
        let disk = Disk::Sim(self.disk.clone());
        let data_dir = DataDir::open(&disk, Path::new("/data")).unwrap();
        self.seed += 1;
        let env = Env {
            clock: Clock::system(),
            disk,
            seed: [self.seed, 2, 3, 4],
        };
        Broker::start(self.config.clone(), env, data_dir, peers)
            .await
            .unwrap()
    }

    pub(crate) async fn restart(&mut self) {
        let listen = self.address.parse().unwrap();
        let peers = Peers::bind(PeersConfig::new(listen), Clock::system())
            .await
            .unwrap();
        self.broker = Some(self.start(peers).await);
    }

    pub(crate) async fn stop(&mut self) {
        let broker = self.broker.take().unwrap();
        broker.shutdown().await;
    }

    pub(crate) fn broker(&self) -> &Broker {
        self.broker.as_ref().unwrap()
    }
}

/// Nodes 1, 2 and 3, each in its rack `r1`, `r2`, `r3`.
async fn cluster(seed: u64) -> Vec<TestNode> {
    cluster_with(seed, |_| {}).await
}

/// Such a cluster with other settings.
pub(crate) async fn cluster_with(seed: u64, set: impl Fn(&mut BrokerConfig)) -> Vec<TestNode> {
    let mut bound = Vec::new();
    for _ in 0..3 {
        let config = PeersConfig::new("127.0.0.1:0".parse().unwrap());
        bound.push(Peers::bind(config, Clock::system()).await.unwrap());
    }
    let seeds: Vec<String> = bound
        .iter()
        .map(|peers| peers.local_addr().to_string())
        .collect();
    let mut nodes: Vec<TestNode> = (1..=3)
        .zip(&bound)
        .map(|(id, peers)| TestNode {
            disk: SimDisk::new(seed + u64::from(id)),
            address: peers.local_addr().to_string(),
            config: BrokerConfig {
                node_id: Some(NodeId(id)),
                rack: Some(format!("r{id}")),
                seeds: seeds.clone(),
                advertised: BTreeMap::from([(
                    "peers".to_owned(),
                    (
                        peers.local_addr().ip().to_string(),
                        peers.local_addr().port(),
                    ),
                )]),
                heartbeat_ms: 100,
                election_ms_min: 500,
                election_ms_max: 900,
                journal_file_bytes: 1 << 20,
                checkpoint_journal_bytes: 512 << 10,
                ..BrokerConfig::default()
            },
            seed: seed + 100 * u64::from(id),
            broker: None,
        })
        .collect();
    nodes.iter_mut().for_each(|node| set(&mut node.config));
    let starting = nodes
        .iter_mut()
        .zip(bound)
        .map(|(node, peers)| async { node.broker = Some(node.start(peers).await) });
    tokio::time::timeout(DEADLINE, futures_util::future::join_all(starting))
        .await
        .expect("the cluster starts");
    nodes
}

/// Tries until it is there.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
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

/// Makes a topic of one partition with three replicas; returns it once all replicas are in sync.
pub(crate) async fn topic(nodes: &[TestNode], name: &str, configs: &[(&str, &str)]) -> PartitionId {
    let any = nodes.iter().find(|node| node.broker.is_some()).unwrap();
    let new = || NewTopic {
        name: name.to_owned(),
        partitions: Some(1),
        replication_factor: Some(3),
        configs: configs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), Some((*value).to_owned())))
            .collect(),
        ..NewTopic::default()
    };
    let id = eventually("the topic is made", async || {
        let made = any.broker().create_topics(vec![new()], false, 5_000).await;
        match made.into_iter().next()? {
            Ok(created) => Some(created.id),
            Err(BrokerError::TopicExists) => Some(any.broker().catalogue().topics.get(name)?.id),
            Err(_) => None,
        }
    })
    .await;
    let partition = PartitionId {
        topic: id,
        index: 0,
    };
    eventually("three replicas are in sync", async || {
        let leader = leader(nodes, partition)?;
        let status = leader.partition_status(partition)?;
        (status.in_sync.len() == 3).then_some(())
    })
    .await;
    partition
}

pub(crate) fn leader(nodes: &[TestNode], partition: PartitionId) -> Option<Broker> {
    let mut running = nodes.iter().filter_map(|node| node.broker.as_ref());
    running
        .find(|broker| broker.led(partition).is_ok())
        .cloned()
}

pub(crate) fn follower_position(nodes: &[TestNode], partition: PartitionId) -> usize {
    let leader = leader(nodes, partition).unwrap().node_id();
    let follows = |node: &TestNode| {
        node.broker
            .as_ref()
            .is_some_and(|broker| broker.node_id() != leader)
    };
    nodes.iter().position(follows).unwrap()
}

fn batch(number: u8, bytes: usize) -> Bytes {
    let record = Record {
        timestamp_ms: Clock::system().wall_ms(),
        value: Some(Bytes::from(vec![number; bytes])),
        ..Record::default()
    };
    encode_batch(&[record], Compression::None, BatchProducer::default())
}

pub(crate) async fn append(
    nodes: &[TestNode],
    partition: PartitionId,
    batch: Bytes,
) -> Result<Appended, AppendError> {
    let leader = leader(nodes, partition).ok_or(BrokerError::LeaderNotAvailable)?;
    leader
        .append(partition, batch, RequiredAcks::All)
        .await?
        .await
}

async fn put(nodes: &[TestNode], partition: PartitionId, numbers: std::ops::Range<u8>) {
    for number in numbers {
        eventually("a batch is taken", async || {
            append(nodes, partition, batch(number, 50_000)).await.ok()
        })
        .await;
    }
}

fn request(partition: PartitionId, offset: i64, rack: Option<&str>) -> FetchRequest {
    FetchRequest {
        partitions: vec![FetchPartition {
            partition,
            offset: Offset(offset),
            current_leader_epoch: None,
            last_fetched_epoch: None,
            bytes_max: 1 << 20,
        }],
        bytes_min: 1,
        bytes_max: 1 << 20,
        wait_ms_max: 0,
        isolation: Isolation::ReadUncommitted,
        client_rack: rack.map(str::to_owned),
    }
}

pub(crate) async fn fetch(
    broker: &Broker,
    partition: PartitionId,
    offset: i64,
    rack: Option<&str>,
) -> Result<FetchedPartition, BrokerError> {
    let request = request(partition, offset, rack);
    broker.fetch(request).await.remove(0).1
}

/// Everything that a replica has of a partition, as its own log has it.
fn bytes_of(broker: &Broker, partition: PartitionId) -> Option<Vec<u8>> {
    let here = broker.inner.directory.get(partition)?;
    let (mut at, end) = (here.log.start_offset(), here.log.end_offset());
    let mut bytes = Vec::new();
    while at < end {
        let read = here.log.read(at, end, 1 << 20).ok()?;
        at = read.next;
        bytes.extend(read.batches.concat());
    }
    Some(bytes)
}

async fn all_equal(nodes: &[TestNode], partition: PartitionId) {
    eventually("all replicas have the same bytes", async || {
        let all: BTreeSet<Option<Vec<u8>>> = nodes
            .iter()
            .map(|node| bytes_of(node.broker(), partition))
            .collect();
        (all.len() == 1 && !all.contains(&None)).then_some(())
    })
    .await;
}

pub(crate) async fn stop_all(mut nodes: Vec<TestNode>) {
    for node in &mut nodes {
        if node.broker.is_some() {
            node.stop().await;
        }
    }
}

/// Stops a follower and writes until its leader's journal has nothing for it any more.
async fn leave_behind(nodes: &mut [TestNode], partition: PartitionId) -> usize {
    put(nodes, partition, 0..10).await;
    all_equal(nodes, partition).await;
    let away = follower_position(nodes, partition);
    let shard = shard_of(&nodes[away], partition);
    nodes[away].stop().await;
    put(nodes, partition, 10..120).await;
    let shard = leader(nodes, partition).unwrap().data_shard(shard).unwrap();
    let last = shard.shard.progress().last;
    eventually("all that the absent replica lacks is purged", async || {
        shard.shard.checkpoint().await.ok();
        (shard.shard.progress().purged >= last).then_some(())
    })
    .await;
    away
}

pub(crate) fn shard_of(node: &TestNode, partition: PartitionId) -> ShardId {
    let here = node.broker().inner.directory.get(partition);
    here.unwrap().shard
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_while_it_catches_up_does_so_when_it_is_back() {
    let mut nodes = cluster(50).await;
    let partition = topic(&nodes, "twice", &[]).await;
    let shard = shard_of(&nodes[0], partition);
    let away = leave_behind(&mut nodes, partition).await;
    // It would take more than ten seconds.
    nodes[away].config.catch_up_bytes_per_second = 500_000;
    nodes[away].restart().await;
    let node = nodes[away].broker().node_id();
    let left = eventually("it catches up", async || {
        let status = leader(&nodes, partition)?.cluster_status();
        let shard = status.shards.into_iter().find(|one| one.id == shard)?;
        let (_, left) = shard
            .catching_up
            .into_iter()
            .find(|(one, _)| *one == node)?;
        (left > 0).then_some(left)
    })
    .await;
    assert!(left < 10_000_000, "{left} bytes left");
    nodes[away].stop().await;
    put(&nodes, partition, 120..125).await;
    nodes[away].config.catch_up_bytes_per_second = 0;
    nodes[away].restart().await;
    all_equal(&nodes, partition).await;
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_away_while_the_journal_was_recycled_catches_up_by_ranges() {
    let mut nodes = cluster(10).await;
    let partition = topic(&nodes, "away", &[]).await;
    let away = leave_behind(&mut nodes, partition).await;
    nodes[away].restart().await;
    all_equal(&nodes, partition).await;
    put(&nodes, partition, 120..125).await;
    all_equal(&nodes, partition).await;
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_segment_is_mended_from_another_replica() {
    let nodes = cluster(20).await;
    let partition = topic(&nodes, "hurt", &[("segment.bytes", "200000")]).await;
    put(&nodes, partition, 0..30).await;
    all_equal(&nodes, partition).await;
    let hurt = &nodes[follower_position(&nodes, partition)];
    let log = hurt
        .broker()
        .inner
        .directory
        .get(partition)
        .unwrap()
        .log
        .clone();
    assert!(
        log.segments().len() > 2,
        "followers keep the topic's segments"
    );
    let whole = bytes_of(hurt.broker(), partition);
    let file = PathBuf::from("/data/partitions")
        .join(partition.to_string())
        .join("00000000000000000000.log");
    eventually("the first segment is in its file", async || {
        hurt.disk.flip_bit(&file, 8 * 70_000).ok()
    })
    .await;
    assert!(log.verify().is_err());
    eventually("the segment is whole again", async || {
        log.failed().is_none().then_some(())
    })
    .await;
    log.verify().unwrap();
    assert_eq!(bytes_of(hurt.broker(), partition), whole);
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_that_nobody_reads_is_found_and_mended() {
    let scrub_often = |config: &mut BrokerConfig| {
        config.scrub_interval_ms = 200;
        config.tail_bytes_max = 100_000;
    };
    let nodes = cluster_with(60, scrub_often).await;
    let partition = topic(&nodes, "rots", &[("segment.bytes", "200000")]).await;
    put(&nodes, partition, 0..30).await;
    all_equal(&nodes, partition).await;
    let hurt = &nodes[follower_position(&nodes, partition)];
    let file = PathBuf::from("/data/partitions")
        .join(partition.to_string())
        .join("00000000000000000000.log");
    let byte = 70_000;
    let whole = eventually("the first segment is in its file", async || {
        let whole = read_byte(&hurt.disk, &file, byte);
        hurt.disk.flip_bit(&file, 8 * byte).ok().and(whole)
    })
    .await;
    eventually("the file is whole again", async || {
        (read_byte(&hurt.disk, &file, byte) == Some(whole)).then_some(())
    })
    .await;
    stop_all(nodes).await;
}

fn read_byte(disk: &SimDisk, file: &Path, at: u64) -> Option<u8> {
    let file = Disk::Sim(disk.clone()).open(file, OpenMode::Read).ok()?;
    let mut byte = [0];
    (file.read_at(&mut byte, at).ok()? == 1).then_some(byte[0])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_few_replicas_in_sync_refuse_and_enough_hold_the_answer() {
    let mut nodes = cluster(30).await;
    let partition = topic(&nodes, "all", &[("min.insync.replicas", "3")]).await;
    put(&nodes, partition, 0..3).await;
    // Answered: every replica has it in its journal, and applies it as soon as it hears of it.
    all_equal(&nodes, partition).await;
    let away = follower_position(&nodes, partition);
    nodes[away].stop().await;
    let refused = eventually("it is refused before the log", async || {
        match append(&nodes, partition, batch(3, 10)).await {
            Err(AppendError::Broker(BrokerError::NotEnoughReplicas { alive, required })) => {
                Some((alive, required))
            }
            _ => None,
        }
    })
    .await;
    assert_eq!(refused, (2, 3));
    let end = |nodes: &[TestNode]| {
        let leader = leader(nodes, partition).unwrap();
        leader
            .inner
            .directory
            .get(partition)
            .unwrap()
            .log
            .end_offset()
    };
    let before = end(&nodes);
    let again = append(&nodes, partition, batch(3, 10)).await;
    assert!(again.is_err());
    assert_eq!(end(&nodes), before);
    nodes[away].restart().await;
    put(&nodes, partition, 3..5).await;
    all_equal(&nodes, partition).await;
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_are_sent_to_their_rack_and_served_there() {
    let nodes = cluster(40).await;
    let partition = topic(&nodes, "near", &[]).await;
    put(&nodes, partition, 0..3).await;
    all_equal(&nodes, partition).await;
    let leads = leader(&nodes, partition).unwrap();
    let near = nodes[follower_position(&nodes, partition)].broker();
    let rack = near.config().rack.clone().unwrap();
    let sent = fetch(&leads, partition, 0, Some(&rack)).await.unwrap();
    assert_eq!(sent.preferred_read_replica, Some(near.node_id()));
    assert!(sent.batches.is_empty());
    let own_rack = leads.config().rack.clone().unwrap();
    for rack in [None, Some(""), Some("elsewhere"), Some(own_rack.as_str())] {
        let kept = fetch(&leads, partition, 0, rack).await.unwrap();
        assert_eq!(kept.preferred_read_replica, None, "{rack:?}");
        assert!(!kept.batches.is_empty());
    }
    let served = fetch(near, partition, 0, Some(&rack)).await.unwrap();
    assert_eq!(served.high_watermark, Offset(3));
    assert!(!served.batches.is_empty());
    // Whoever asks for the leader gets no follower.
    let refused = fetch(near, partition, 0, None).await.unwrap_err();
    let leader = Some(leads.node_id());
    assert_eq!(refused, BrokerError::NotLeader { leader });
    // What may exist at the leader is not denied here; what does not exist is.
    let ahead = fetch(near, partition, 4, Some(&rack)).await.unwrap_err();
    let (requested, end) = (Offset(4), Offset(3));
    assert_eq!(ahead, BrokerError::OffsetNotAvailable { requested, end });
    let ahead = fetch(&leads, partition, 4, Some(&rack)).await.unwrap_err();
    assert!(matches!(ahead, BrokerError::OffsetOutOfRange { .. }));
    // A reader that waits at a follower is woken by what comes.
    let waiting = FetchRequest {
        wait_ms_max: 20_000,
        ..request(partition, 3, Some(&rack))
    };
    let waiting = tokio::spawn({
        let near = near.clone();
        async move { near.fetch(waiting).await.remove(0).1 }
    });
    put(&nodes, partition, 3..4).await;
    let woken = waiting.await.unwrap().unwrap();
    assert_eq!((woken.high_watermark, woken.batches.len()), (Offset(4), 1));
    // Epochs are checked at followers as at leaders.
    let (_, _, leadership) = leads.led(partition).unwrap();
    let here = near.inner.directory.get(partition).unwrap();
    let current = here.epoch_in(leadership.term);
    for (epoch, fenced) in [(current.0 - 1, true), (current.0 + 1, false)] {
        let mut stale = request(partition, 0, Some(&rack));
        stale.partitions[0].current_leader_epoch = Some(storage::LeaderEpoch(epoch));
        let error = near.fetch(stale).await.remove(0).1.unwrap_err();
        let is_fenced = matches!(error, BrokerError::FencedLeaderEpoch { .. });
        let is_unknown = matches!(error, BrokerError::UnknownLeaderEpoch { .. });
        assert_eq!((is_fenced, is_unknown), (fenced, !fenced), "{error}");
    }
    stop_all(nodes).await;
}

//! Three brokers in one process over loopback connections, each with a disk and a clock of its own,
//! and idempotent writers that remember what they were told.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use broker::record::{
    BatchProducer, Compression, Record, decode_batch, encode_batch, split_batches,
};
use broker::*;
use bytes::Bytes;
use raft::{Peers, PeersConfig};
use storage::clock::Clock;
use storage::data_dir::DataDir;
use storage::disk::{Disk, SimDisk};
use storage::{NodeId, Offset, PartitionId};
use tokio::task::JoinSet;

/// In which everything has to happen, on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
const DEADLINE_MS: i64 = 60_000;
/// A writer that is not answered asks again, as a client does that gives up a request.
const ANSWER_MAX: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

/// Three brokers.
pub(crate) struct Trio {
    pub(crate) brokers: Vec<Broker>,
    pub(crate) disks: Vec<SimDisk>,
}

/// Tries until it is there.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let trying = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let found = tokio::time::timeout(DEADLINE, trying).await;
    found.unwrap_or_else(|_| panic!("in vain: {what}"))
}

impl Trio {
    /// Nodes 1, 2 and 3, with these clocks, once every shard is on all of them.
    pub(crate) async fn start(seed: u64, clocks: [Clock; 3]) -> Trio {
        let mut bound = Vec::new();
        for _ in 0..3 {
            let config = PeersConfig::new("127.0.0.1:0".parse().expect("an address"));
            let peers = Peers::bind(config, Clock::system()).await;
            bound.push(peers.expect("a free port"));
        }
        let addresses = bound.iter().map(Peers::local_addr);
        let seeds: Vec<String> = addresses.map(|address| address.to_string()).collect();
        let disks: Vec<SimDisk> = (0..3).map(|node| SimDisk::new(seed + node)).collect();
        let mut starting = Vec::new();
        for (((id, peers), clock), disk) in (1..).zip(bound).zip(clocks).zip(&disks) {
            let address = peers.local_addr();
            let peers_at = (address.ip().to_string(), address.port());
            let config = BrokerConfig {
                node_id: Some(NodeId(id)),
                seeds: seeds.clone(),
                advertised: BTreeMap::from([("peers".to_owned(), peers_at)]),
                shards: 2,
                election_ms_min: 600,
                election_ms_max: 1_200,
                journal_file_bytes: 1 << 20,
                checkpoint_journal_bytes: 256 << 10,
                ..BrokerConfig::default()
            };
            let disk = Disk::Sim(disk.clone());
            let data_dir = DataDir::open(&disk, Path::new("/data")).expect("nobody has it");
            let env = Env {
                clock,
                disk,
                seed: [seed, u64::from(id), 3, 4],
            };
            starting.push(Broker::start(config, env, data_dir, peers));
        }
        let started = tokio::time::timeout(DEADLINE, futures_util::future::join_all(starting));
        let started = started.await.expect("they start in time");
        let brokers = started.into_iter().map(|one| one.expect("it starts"));
        let trio = Trio {
            brokers: brokers.collect(),
            disks,
        };
        trio.settled().await;
        trio
    }

    /// Waits until every node sees three replicas of everything, in sync, and a leader.
    pub(crate) async fn settled(&self) {
        for broker in &self.brokers {
            let is_settled = |status: &ClusterStatus| {
                status.nodes.len() == 3
                    && status.nodes.iter().all(|node| node.alive)
                    && status.shards.iter().all(|shard| {
                        shard.target.is_none()
                            && shard.leader.is_some()
                            && shard.voters.len() == 3
                            && shard.in_sync.len() == 3
                    })
            };
            eventually("three replicas of everything, in sync", async || {
                is_settled(&broker.cluster_status()).then_some(())
            })
            .await;
        }
    }

    /// Makes a topic and waits until every node knows a leader for each partition.
    pub(crate) async fn topic(
        &self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Vec<PartitionId> {
        let config = |(key, value): &(&str, &str)| ((*key).to_owned(), Some((*value).to_owned()));
        let new = NewTopic {
            name: name.to_owned(),
            partitions: Some(partitions),
            replication_factor: Some(3),
            configs: configs.iter().map(config).collect(),
            ..NewTopic::default()
        };
        let topic = eventually("the topic is made", async || {
            let made = self.brokers[0].create_topics(vec![new.clone()], false, 20_000);
            match made.await.into_iter().next()? {
                Ok(made) => Some(made.id),
                Err(BrokerError::TopicExists) => {
                    Some(self.brokers[0].catalogue().topics.get(name)?.id)
                }
                Err(_) => None,
            }
        })
        .await;
        let indexes = 0..u32::try_from(partitions).expect("few");
        let ids: Vec<PartitionId> = indexes.map(|index| PartitionId { topic, index }).collect();
        for broker in &self.brokers {
            for id in &ids {
                eventually("every node knows the leader", async || {
                    broker.partition_status(*id)?.leader
                })
                .await;
            }
        }
        ids
    }

    /// Has a node lead everything, the catalogue too.
    pub(crate) async fn lead_all(&self, node: usize) {
        let to = self.brokers[node].node_id();
        eventually("one node leads everything", async || {
            let shards = self.brokers[node].cluster_status().shards;
            let mut is_done = true;
            for shard in shards.iter().filter(|shard| shard.leader != Some(to)) {
                is_done = false;
                // It is asked for again: leaders may change meanwhile.
                let _ = self.brokers[node].transfer_leader(shard.id, to).await;
            }
            is_done.then_some(())
        })
        .await;
    }

    /// Ends all of them.
    pub(crate) async fn stop(self) {
        futures_util::future::join_all(self.brokers.iter().map(Broker::shutdown)).await;
    }

    /// Everything below `end` as one node has it, whether it leads or follows.
    async fn read(&self, node: usize, partition: PartitionId, end: i64) -> Bytes {
        let mut all = Vec::new();
        let mut offset = 0;
        while offset < end {
            let batches = eventually("the replica has all", async || {
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
                    // Any rack at all: then followers answer.
                    client_rack: Some(String::new()),
                };
                let fetched = self.brokers[node].fetch(request).await.remove(0).1.ok()?;
                let joined: Bytes = fetched.batches.concat().into();
                (!joined.is_empty()).then_some(joined)
            })
            .await;
            for batch in split_batches(&batches).expect("whole batches") {
                let records = decode_batch(&batch, 1 << 20).expect("records");
                let last = records.last().expect("a batch has records").offset;
                if last >= offset && offset < end {
                    all.extend_from_slice(&batch);
                    offset = last + 1;
                }
            }
        }
        all.into()
    }

    /// Checks that what was acknowledged is there once, at its offset, on every node, and that the
    /// nodes have the same bytes. Answers how many records there are.
    pub(crate) async fn check(&self, written: &[Written]) -> i64 {
        let mut total = 0;
        for one in written {
            let end = one.acknowledged.last().map_or(0, |(_, offset)| offset + 1);
            let first = self.read(0, one.partition, end).await;
            for node in 1..3 {
                let other = self.read(node, one.partition, end).await;
                assert!(first == other, "nodes 1 and {} differ", node + 1);
            }
            let mut found = BTreeMap::new();
            for batch in split_batches(&first).expect("whole batches") {
                for record in decode_batch(&batch, 1 << 20).expect("records") {
                    let value = record.value.expect("a value").to_vec();
                    let number = String::from_utf8(value).expect("text");
                    let number: i32 = number.parse().expect("a number");
                    assert_eq!(i64::from(number), record.offset, "once each, in order");
                    found.insert(record.offset, number);
                }
            }
            for (number, offset) in &one.acknowledged {
                assert_eq!(found.get(offset), Some(number), "{}", one.partition);
            }
            total += end;
        }
        total
    }
}

/// What one writer was told.
pub(crate) struct Written {
    pub(crate) partition: PartitionId,
    /// Records by number, with their offsets.
    pub(crate) acknowledged: Vec<(i32, i64)>,
    /// The longest time between two acknowledgements.
    pub(crate) longest_ms: i64,
}

/// Idempotent writers with `acks=all`, one a partition.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicI64>,
    writers: JoinSet<Written>,
}

impl Load {
    pub(crate) fn start(trio: &Trio, partitions: &[PartitionId]) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicI64::new(0));
        let mut writers = JoinSet::new();
        for partition in partitions {
            let brokers = trio.brokers.clone();
            let shared = (Arc::clone(&stop), Arc::clone(&acknowledged));
            writers.spawn(write(brokers, *partition, shared.0, shared.1));
        }
        Load {
            stop,
            acknowledged,
            writers,
        }
    }

    /// Waits until so many more records were acknowledged.
    pub(crate) async fn more(&self, records: i64) {
        let wanted = self.acknowledged.load(Ordering::SeqCst) + records;
        eventually("more is acknowledged", async || {
            (self.acknowledged.load(Ordering::SeqCst) >= wanted).then_some(())
        })
        .await;
    }

    pub(crate) async fn end(self) -> Vec<Written> {
        self.stop.store(true, Ordering::SeqCst);
        self.writers.join_all().await
    }
}

async fn write(
    brokers: Vec<Broker>,
    partition: PartitionId,
    stop: Arc<AtomicBool>,
    count: Arc<AtomicI64>,
) -> Written {
    let clock = Clock::system();
    let producer_id = tokio::time::timeout(DEADLINE, async {
        loop {
            if let Ok(id) = brokers[0].new_producer_id().await {
                return id;
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
    let producer_id = producer_id.await.expect("a producer id");
    let mut written = Written {
        partition,
        acknowledged: Vec::new(),
        longest_ms: 0,
    };
    let mut at = 0;
    let mut last_ms = clock.monotonic_ms();
    let mut number = 0;
    let mut refused = None;
    while !stop.load(Ordering::SeqCst) {
        let record = Record {
            timestamp_ms: clock.wall_ms(),
            value: Some(number.to_string().into()),
            ..Record::default()
        };
        let producer = BatchProducer {
            producer_id,
            producer_epoch: 0,
            base_sequence: number,
        };
        let batch = encode_batch(&[record], Compression::None, producer);
        // The same batch until it is acknowledged.
        loop {
            let waited_ms = clock.monotonic_ms() - last_ms;
            assert!(
                waited_ms < DEADLINE_MS,
                "{partition} takes nothing for {waited_ms} ms: {refused:?}"
            );
            let appended = async {
                let pending = brokers[at].append(partition, batch.clone(), RequiredAcks::All);
                pending.await?.await
            };
            match tokio::time::timeout(ANSWER_MAX, appended).await {
                Ok(Ok(appended)) => {
                    written.acknowledged.push((number, appended.base_offset.0));
                    break;
                }
                Ok(Err(error)) => refused = Some(format!("{error:?}")),
                Err(_) => refused = Some("no answer".to_owned()),
            }
            at = (at + 1) % brokers.len();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        number += 1;
        count.fetch_add(1, Ordering::SeqCst);
        let now_ms = clock.monotonic_ms();
        written.longest_ms = written.longest_ms.max(now_ms - last_ms);
        last_ms = now_ms;
    }
    written
}

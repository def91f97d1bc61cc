//! Three brokers in one process that lose power: simulated disks, real loopback connections.

pub(crate) mod load;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use broker::*;
use futures_util::future::join_all;
use raft::{Peers, PeersConfig};
use storage::PartitionId;
use storage::clock::Clock;
use storage::data_dir::{DataDir, DataDirError};
use storage::disk::{Disk, SimDisk};
use storage::journal::{self, JournalError, JournalReport};
use tokio::task::JoinHandle;

pub(crate) const DEADLINE: Duration = Duration::from_secs(90);
pub(crate) const DATA_DIR: &str = "/data";

/// The brokers that run now, by place; shared with whoever writes.
pub(crate) type Running = Arc<RwLock<BTreeMap<usize, Broker>>>;

/// A node: its disk and its address outlive its runs.
pub(crate) struct Place {
    pub(crate) disk: SimDisk,
    pub(crate) config: BrokerConfig,
    number: u64,
    address: SocketAddr,
    runs: u64,
}

/// Some nodes, and those of them that run.
pub(crate) struct Cluster {
    pub(crate) places: Vec<Place>,
    pub(crate) running: Running,
}

/// The seed of this run: `SEED`, or the given one. Printed, so that a failure says it.
pub(crate) fn seed(default: u64) -> u64 {
    let given = std::env::var("SEED").ok();
    let seed = given.and_then(|seed| seed.parse().ok()).unwrap_or(default);
    eprintln!("SEED={seed}");
    seed
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

/// Addresses that nobody listens at: bound once, so that they are different.
fn free_addresses(count: usize) -> Vec<SocketAddr> {
    let bind = |_| std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let bound: Vec<_> = (0..count).map(bind).collect();
    let address = |one: &std::net::TcpListener| one.local_addr().expect("bound");
    bound.iter().map(address).collect()
}

impl Place {
    /// Begins to start the broker.
    pub(crate) async fn start(&mut self) -> JoinHandle<Result<Broker, StartError>> {
        self.runs += 1;
        let (disk, config) = (Disk::Sim(self.disk.clone()), self.config.clone());
        let bind = async || Peers::bind(PeersConfig::new(self.address), Clock::system()).await;
        let peers = eventually("the port is free again", async || bind().await.ok()).await;
        let env = Env {
            clock: Clock::system(),
            disk: disk.clone(),
            seed: [self.number, self.runs, 3, 4],
        };
        // Whoever was still being answered lets go of it before long.
        let open = || match DataDir::open(&disk, Path::new(DATA_DIR)) {
            Err(DataDirError::Locked { .. }) => None,
            opened => Some(opened),
        };
        let opened = eventually("the data directory is free", async || open()).await;
        tokio::spawn(async move {
            let data_dir = opened.map_err(|error| StartError::DataDir(error.to_string()))?;
            Broker::start(config, env, data_dir, peers).await
        })
    }
}

impl Cluster {
    /// Nodes that know each other as seeds; none runs yet.
    pub(crate) fn new(seed: u64, count: usize, durability: storage::Durability) -> Cluster {
        let addresses = free_addresses(count);
        let seeds: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let place = |(number, address): (u64, SocketAddr)| Place {
            disk: SimDisk::new(seed.wrapping_mul(100) + number),
            config: BrokerConfig {
                seeds: seeds.clone(),
                advertised: BTreeMap::from([("peers".to_owned(), ("127.0.0.1".to_owned(), 0))]),
                shards: 2,
                election_ms_min: 500,
                election_ms_max: 900,
                journal_file_bytes: 256 << 10,
                checkpoint_journal_bytes: 128 << 10,
                tail_bytes_max: 1 << 20,
                durability,
                ..BrokerConfig::default()
            },
            number,
            address,
            runs: 0,
        };
        Cluster {
            places: (1..).zip(addresses).map(place).collect(),
            running: Running::default(),
        }
    }

    fn table(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<usize, Broker>> {
        self.running.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn brokers(&self) -> Vec<Broker> {
        self.table().values().cloned().collect()
    }

    pub(crate) fn broker(&self, at: usize) -> Broker {
        self.table()[&at].clone()
    }

    /// What tells a node's lives apart.
    pub(crate) fn incarnation(&self, at: usize) -> [u8; 16] {
        let broker = self.broker(at);
        let catalogue = broker.catalogue();
        catalogue.nodes[&broker.node_id()].incarnation
    }

    /// Waits until one that was begun to be started is up.
    pub(crate) async fn started(&self, at: usize, one: JoinHandle<Result<Broker, StartError>>) {
        let one = tokio::time::timeout(DEADLINE, one).await;
        let broker = one.expect("it starts in time").expect("no panic");
        let broker = broker.unwrap_or_else(|error| panic!("place {at}: {error}"));
        self.table().insert(at, broker);
    }

    /// Starts these together and waits until they are up.
    pub(crate) async fn start(&mut self, which: &[usize]) {
        let mut starting = Vec::new();
        for at in which {
            starting.push((*at, self.places[*at].start().await));
        }
        let all = starting
            .into_iter()
            .map(|(at, one)| async move { (at, one.await) });
        let all = tokio::time::timeout(DEADLINE, join_all(all)).await;
        for (at, one) in all.expect("they start in time") {
            let broker = one.expect("no panic");
            let broker = broker.unwrap_or_else(|error| panic!("place {at}: {error}"));
            self.table().insert(at, broker);
        }
    }

    /// Power of these goes at the same moment; then what was not synced is decided about, by seed.
    pub(crate) async fn cut(&mut self, which: &[usize], seed: u64) {
        for at in which {
            self.places[*at].disk.cut_power();
        }
        self.end(which).await;
        for at in which {
            self.places[*at].disk.crash(seed.wrapping_add(*at as u64));
        }
    }

    /// Processes of these are killed: what was written stays, synced or not.
    pub(crate) async fn kill(&mut self, which: &[usize]) {
        for at in which {
            self.places[*at].disk.cut_power();
        }
        self.end(which).await;
        for at in which {
            self.places[*at].disk.kill_processes();
        }
    }

    /// Ends brokers; with power on, in good order.
    pub(crate) async fn end(&mut self, which: &[usize]) {
        let ended: Vec<Broker> = {
            let mut table = self.table();
            which.iter().filter_map(|at| table.remove(at)).collect()
        };
        join_all(ended.iter().map(Broker::shutdown)).await;
    }

    /// Waits until every shard has all nodes as replicas, in sync, and no change is under way.
    pub(crate) async fn settled(&self) {
        let count = self.places.len();
        let is_settled = |broker: &Broker| {
            let status = broker.cluster_status();
            let full = |shard: &ShardStatus| {
                shard.replicas.len() == count
                    && shard.target.is_none()
                    && shard.leader.is_some()
                    && shard.in_sync.len() == count
                    && shard.voters.len() == count
            };
            status.nodes.iter().filter(|node| node.alive).count() == count
                && status.shards.iter().all(full)
        };
        let settling = async {
            loop {
                if self.brokers().iter().all(is_settled) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(DEADLINE, settling).await.is_err() {
            let status: Vec<_> = self.brokers().iter().map(Broker::cluster_status).collect();
            panic!("never settled: {status:#?}");
        }
    }

    pub(crate) async fn topic(&self, name: &str, partitions: u32) -> Vec<PartitionId> {
        let new = NewTopic {
            name: name.to_owned(),
            partitions: i32::try_from(partitions).ok(),
            replication_factor: Some(3),
            ..NewTopic::default()
        };
        let broker = self.brokers()[0].clone();
        let topic = eventually("the topic is created", async || {
            let result = broker.create_topics(vec![new.clone()], false, 10_000).await;
            match result.into_iter().next()? {
                Ok(created) => Some(created.id),
                Err(BrokerError::TopicExists) => Some(broker.catalogue().topics[name].id),
                Err(_) => None,
            }
        })
        .await;
        (0..partitions)
            .map(|index| PartitionId { topic, index })
            .collect()
    }

    /// Waits until all have the same bytes of each partition, ends all in good order, and compares
    /// what the disks hold.
    pub(crate) async fn compare(&mut self, partitions: &[PartitionId]) {
        let sizes = |broker: &Broker| -> BTreeMap<PartitionId, u64> {
            let dirs = broker.log_dirs().into_iter();
            let all = dirs.flat_map(|dir| dir.partitions);
            all.filter(|(id, _)| partitions.contains(id)).collect()
        };
        eventually("all replicas have the same length", async || {
            let all: Vec<_> = self.brokers().iter().map(sizes).collect();
            (all.iter()
                .all(|one| one.len() == partitions.len() && *one == all[0]))
            .then_some(())
        })
        .await;
        let all: Vec<usize> = (0..self.places.len()).collect();
        self.end(&all).await;
        for id in partitions {
            let bytes: BTreeSet<Vec<u8>> = self.places.iter().map(|one| one.read(*id)).collect();
            assert_eq!(bytes.len(), 1, "{id} differs between replicas");
            assert!(!bytes.into_iter().all(|bytes| bytes.is_empty()));
        }
    }
}

impl Place {
    pub(crate) fn disk(&self) -> Disk {
        Disk::Sim(self.disk.clone())
    }

    /// Whether the directory says that its node is being taken back.
    pub(crate) fn is_returning(&self) -> bool {
        self.has("returning")
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        let path = Path::new(DATA_DIR).join(name);
        self.disk().exists(&path).expect("looked up")
    }

    /// What is noted of the run's end.
    pub(crate) fn run_note(&self) -> Vec<u8> {
        let path = Path::new(DATA_DIR).join("run");
        self.disk().read_file(&path).expect("read")
    }

    /// Flips a bit that proves the journal damaged; answers which.
    pub(crate) fn damage_journal(&self) -> (PathBuf, u64) {
        self.damage_journal_where(|found, _| is_corrupt(found))
    }

    /// Flips a bit that proves the journal damaged only to who knows that power was not lost.
    pub(crate) fn damage_unsynced_journal(&self) -> (PathBuf, u64) {
        self.damage_journal_where(|found, kept| found.error.is_none() && is_corrupt(kept))
    }

    fn damage_journal_where(
        &self,
        wanted: impl Fn(&JournalReport, &JournalReport) -> bool,
    ) -> (PathBuf, u64) {
        let dir = Path::new(DATA_DIR).join("journal");
        for file in self.files(&dir, ".journal") {
            for bit in (0..1 << 20).step_by(4_099) {
                if self.disk.flip_bit(&file, bit).is_err() {
                    break;
                }
                let disk = self.disk();
                let found = journal::verify(&disk, &dir);
                if wanted(&found, &journal::verify_kept(&disk, &dir)) {
                    return (file, bit);
                }
                self.disk.flip_bit(&file, bit).expect("flipped back");
            }
        }
        panic!("no bit of the journal matters");
    }

    /// Flips a bit of a shard's checkpoint, or deletes it.
    pub(crate) fn damage_checkpoint(&self, shard: u32, delete: bool) {
        let path = Path::new(DATA_DIR).join(format!("shards/{shard}.checkpoint"));
        if delete {
            self.disk().remove_file(&path).expect("it is there");
        } else {
            self.disk.flip_bit(&path, 240).expect("it is there");
        }
    }

    /// Files in a directory whose names end so, in order.
    pub(crate) fn files(&self, dir: &Path, suffix: &str) -> Vec<PathBuf> {
        let entries = self.disk().read_dir(dir).unwrap_or_default().into_iter();
        let named = entries.filter(|entry| entry.name.ends_with(suffix));
        named.map(|entry| dir.join(entry.name)).collect()
    }

    /// The bytes of a partition's segments.
    fn read(&self, id: PartitionId) -> Vec<u8> {
        let partitions = Path::new(DATA_DIR).join("partitions");
        let entries = self.disk().read_dir(&partitions).expect("listed");
        let name = id.to_string();
        let of_it = entries.into_iter().filter(|entry| {
            let rest = entry.name.strip_prefix(&name);
            entry.is_dir && rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
        });
        let mut bytes = Vec::new();
        for entry in of_it {
            for file in self.files(&partitions.join(entry.name), ".log") {
                bytes.extend(self.disk().read_file(&file).expect("read"));
            }
        }
        bytes
    }
}

fn is_corrupt(report: &JournalReport) -> bool {
    matches!(report.error, Some(JournalError::Corrupt { .. }))
}

//! A shard's replicas on simulated disks, driven by hand: no ticks, so that a test decides who
//! campaigns and when.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use openraft::error::Fatal;
use openraft::raft::TransferLeaderRequest;
use openraft::type_config::alias::StoredMembershipOf;
use openraft::{Config, RaftMetrics, SnapshotPolicy};
use storage::data_dir::DataDir;
use storage::disk::{Disk, SimDisk};
use storage::journal::{Journal, JournalConfig};
use storage::{LogPosition, ShardId};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::ledger::{Ledger, op};
use super::network::{Link, Net, TestRaft};
use crate::CheckpointError;
use crate::entry::encode_committed;
use crate::machine::Machine;
use crate::snapshot::Checkpoints;
use crate::status::Status;
use crate::store::{CacheLimits, Log};
use crate::types::{Bundle, Entry, LogId, Payload, Types, log_id};

const SHARD: ShardId = ShardId(0);
/// Small, so that replication and apply read the journal too.
const CACHES: CacheLimits = CacheLimits {
    open_bytes: 3_000,
    bytes_max: 600,
};

/// How a replica's process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The journal is closed in order.
    Stop,
    /// The process dies, what it wrote stays.
    Kill,
    /// Power goes with this seed.
    Crash(u64),
}

/// One replica's disk, and what runs on it.
pub(super) struct Replica {
    pub(super) sim: SimDisk,
    pub(super) ledger: Ledger,
    running: Option<Running>,
}

struct Running {
    _data_dir: DataDir,
    journal: Journal,
    log: Log,
    checkpoints: Arc<Checkpoints>,
}

/// A checkpoint that is captured and held.
pub(super) struct Captured {
    node: u64,
    made: oneshot::Receiver<Result<LogPosition, CheckpointError>>,
}

pub(super) struct Cluster {
    pub(super) net: Arc<Net>,
    config: Arc<Config>,
    replicas: BTreeMap<u64, Replica>,
    written: u64,
    /// Bodies that were acknowledged, in order.
    acknowledged: Vec<Bytes>,
    heartbeats: JoinHandle<()>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.heartbeats.abort();
    }
}

fn config(keep: u64) -> Arc<Config> {
    let config = Config {
        heartbeat_interval: 300,
        election_timeout_min: 1_000,
        election_timeout_max: 2_000,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: keep,
        enable_tick: false,
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        backoff: "20ms 40ms ...100ms".into(),
        ..Config::default()
    };
    Arc::new(config.validate().unwrap())
}

impl Cluster {
    /// A group whose checkpoints purge the journal.
    pub(super) async fn new(nodes: &[u64]) -> Cluster {
        Cluster::keeping(0, nodes).await
    }

    /// A group that keeps `keep` entries below a checkpoint.
    pub(super) async fn keeping(keep: u64, nodes: &[u64]) -> Cluster {
        let net = Arc::new(Net::default());
        let beating = Arc::clone(&net);
        let heartbeats = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(150)).await;
                let rafts: Vec<TestRaft> =
                    beating.rafts.lock().unwrap().values().cloned().collect();
                for raft in rafts.iter().filter(|raft| raft.is_leader()) {
                    let _ = raft.trigger().heartbeat().await;
                }
            }
        });
        let mut cluster = Cluster {
            net,
            config: config(keep),
            replicas: BTreeMap::new(),
            written: 0,
            acknowledged: Vec::new(),
            heartbeats,
        };
        for node in nodes {
            cluster.start(*node).await.unwrap();
        }
        let voters: BTreeSet<u64> = nodes.iter().copied().collect();
        cluster.raft(nodes[0]).initialize(voters).await.unwrap();
        cluster.elect(nodes[0]).await;
        cluster
    }

    pub(super) fn raft(&self, node: u64) -> TestRaft {
        self.net.rafts.lock().unwrap()[&node].clone()
    }

    pub(super) fn is_up(&self, node: u64) -> bool {
        self.net.rafts.lock().unwrap().contains_key(&node)
    }

    pub(super) fn metrics(&self, node: u64) -> RaftMetrics<Types> {
        self.raft(node).metrics().borrow_watched().clone()
    }

    pub(super) fn ledger(&self, node: u64) -> &Ledger {
        &self.replicas[&node].ledger
    }

    fn running(&self, node: u64) -> &Running {
        self.replicas[&node].running.as_ref().unwrap()
    }

    /// Index of the last entry in a node's log.
    pub(super) fn last(&self, node: u64) -> u64 {
        self.running(node).log.ends().1.unwrap().index.0
    }

    fn purged(&self, node: u64) -> Option<u64> {
        self.running(node).log.ends().0.map(|floor| floor.index.0)
    }

    pub(super) fn applied(&self, node: u64) -> u64 {
        self.metrics(node).last_applied.map_or(0, |id| id.index)
    }

    pub(super) fn snapshot(&self, node: u64) -> Option<u64> {
        self.metrics(node).snapshot.map(|id| id.index)
    }

    pub(super) fn installs(&self, node: u64) -> usize {
        self.ledger(node).view().installs
    }

    pub(super) fn snapshots_sent(&self) -> u64 {
        self.net.snapshots.load(Relaxed)
    }

    pub(super) fn down(&self, node: u64) {
        self.net.faults().down.insert(node);
    }

    pub(super) fn up(&self, node: u64) {
        self.net.faults().down.remove(&node);
    }

    pub(super) fn cut(&self, pairs: &[(u64, u64)]) {
        self.net.faults().cut.extend(pairs.iter().copied());
    }

    pub(super) fn heal(&self) {
        self.net.faults().cut.clear();
    }

    pub(super) fn kick(&self) {
        self.net.kicks.fetch_add(1, Relaxed);
    }

    /// Starts a replica on what its disk holds.
    pub(super) async fn start(&mut self, node: u64) -> Result<(), Fatal<Types>> {
        let replica = self.replicas.entry(node).or_insert_with(|| Replica {
            sim: SimDisk::new(node),
            ledger: Ledger::default(),
            running: None,
        });
        replica.ledger = Ledger::default();
        let running = open(&replica.sim);
        let machine = Machine::open(
            replica.ledger.clone(),
            running.log.clone(),
            Arc::clone(&running.checkpoints),
            Arc::new(Status::new(u64::MAX)),
        );
        let link = Link {
            net: Arc::clone(&self.net),
            me: node,
            target: 0,
        };
        let log = running.log.clone();
        replica.running = Some(running);
        let config = Arc::clone(&self.config);
        let raft = TestRaft::new(node, config, link, log, machine.unwrap()).await?;
        self.net.rafts.lock().unwrap().insert(node, raft);
        Ok(())
    }

    pub(super) async fn end(&mut self, node: u64, end: End) {
        let raft = self.net.rafts.lock().unwrap().remove(&node).unwrap();
        let replica = self.replicas.get_mut(&node).unwrap();
        replica.ledger.hold_checkpoints(false);
        let running = replica.running.take().unwrap();
        match end {
            End::Stop => {
                raft.shutdown().await.unwrap();
                running.journal.close();
            }
            End::Kill => replica.sim.kill_processes(),
            End::Crash(seed) => replica.sim.crash(seed),
        }
        let _ = raft.shutdown().await;
        // What still runs on the dead disk must be gone before the next start.
        running.journal.close();
    }

    pub(super) async fn stop(&mut self, node: u64) {
        self.end(node, End::Stop).await;
    }

    /// Makes a stopped replica forget how much was committed beyond `index`.
    pub(super) fn rewind_committed(&mut self, node: u64, index: u64) {
        let running = open(&self.replicas[&node].sim);
        let term = running
            .journal
            .term_of(SHARD, storage::LogIndex(index))
            .unwrap();
        let mark = encode_committed(&LogId::new_term_index(term.0, index));
        running.journal.save_committed(SHARD, mark).unwrap();
        running.journal.close();
    }

    /// Cuts a stopped replica's log after `index`, as a journal that lost its tail would.
    pub(super) fn lose_tail(&mut self, node: u64, index: u64) {
        let running = open(&self.replicas[&node].sim);
        let term = running
            .journal
            .term_of(SHARD, storage::LogIndex(index))
            .unwrap();
        let kept = LogPosition {
            term,
            index: storage::LogIndex(index),
        };
        running
            .journal
            .truncate_after(SHARD, Some(kept), Box::new(|_| ()))
            .unwrap();
        running.journal.close();
    }

    /// Gives a stopped replica the checkpoint file of another.
    pub(super) fn copy_checkpoint(&mut self, from: u64, to: u64) {
        let path = Path::new("/data/shards/0.checkpoint");
        let bytes = Disk::Sim(self.replicas[&from].sim.clone())
            .read_file(path)
            .unwrap();
        Disk::Sim(self.replicas[&to].sim.clone())
            .write_file_atomic(path, &bytes)
            .unwrap();
    }

    /// Waits until `holds`, at most a minute.
    pub(super) async fn until(&self, what: impl Display, holds: impl Fn(&Cluster) -> bool) {
        let waiting = async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(60), waiting)
            .await
            .is_err()
        {
            panic!("never: {what}\n{}", self.describe());
        }
    }

    pub(super) fn describe(&self) -> String {
        let up = self.replicas.keys().filter(|node| self.is_up(**node));
        let lines = up.map(|node| {
            let metrics = self.metrics(*node);
            let last = self.running(*node).log.ends();
            let (term, state, leader) = (metrics.current_term, metrics.state, metrics.current_leader);
            let (applied, snapshot) = (metrics.last_applied, metrics.snapshot);
            format!(
                "{node}: {state:?} T{term} of {leader:?}, log {last:?}, applied {applied:?}, snapshot {snapshot:?}\n"
            )
        });
        lines.collect()
    }

    /// Campaigns until it leads: a term may be used up, or a lease still hold.
    pub(super) async fn elect(&self, node: u64) {
        let electing = async {
            while !self.raft(node).is_leader() {
                self.raft(node).trigger().elect(false).await.unwrap();
                let again = tokio::time::sleep(Duration::from_millis(200));
                tokio::select! {
                    () = self.until("", |cluster| cluster.raft(node).is_leader()) => {}
                    () = again => {}
                }
            }
        };
        if tokio::time::timeout(Duration::from_secs(60), electing)
            .await
            .is_err()
        {
            panic!(
                "never: {node} leads
{}",
                self.describe()
            );
        }
    }

    pub(super) fn leader(&self) -> Option<u64> {
        let rafts = self.net.rafts.lock().unwrap();
        let down = self.net.faults().down.clone();
        let leaders = rafts
            .iter()
            .filter(|(node, raft)| raft.is_leader() && !down.contains(node));
        leaders
            .max_by_key(|(_, raft)| raft.metrics().borrow_watched().current_term)
            .map(|(node, _)| *node)
    }

    /// Adds a learner and waits until it has caught up.
    pub(super) async fn add_learner(&self, leader: u64, node: u64) {
        let raft = self.raft(leader);
        self.persist(async || raft.add_learner(node, (), true).await.is_ok())
            .await;
    }

    pub(super) async fn change_voters(&self, leader: u64, voters: impl Into<BTreeSet<u64>>) {
        let (raft, voters) = (self.raft(leader), voters.into());
        self.persist(async || raft.change_membership(voters.clone(), false).await.is_ok())
            .await;
    }

    /// A busy machine delays heartbeats, and a leader without a fresh majority refuses: ask again.
    async fn persist(&self, mut done: impl AsyncFnMut() -> bool) {
        let asking = async {
            while !done().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(60), asking)
            .await
            .is_err()
        {
            panic!("the membership never changes\n{}", self.describe());
        }
    }

    fn next_body(&mut self) -> Bytes {
        self.written += 1;
        // A hundred bytes: the cache holds a few, older ones are read back.
        Bytes::from(format!("{:0100}", self.written))
    }

    fn payload(body: Bytes) -> Payload {
        Payload::Ops(Arc::new(Bundle {
            time_ms: 1,
            ops: vec![op(body)],
        }))
    }

    /// Writes `count` operations, each acknowledged, to whoever leads.
    pub(super) async fn write(&mut self, count: usize) {
        let writing = async {
            let mut done = 0;
            while done < count {
                let body = self.next_body();
                let answer = match self.leader() {
                    Some(leader) => {
                        let raft = self.raft(leader);
                        let written = raft.client_write(Cluster::payload(body.clone()));
                        let limit = Duration::from_secs(2);
                        tokio::time::timeout(limit, written)
                            .await
                            .is_ok_and(|answer| answer.is_ok())
                    }
                    None => false,
                };
                if answer {
                    self.acknowledged.push(body);
                    done += 1;
                } else {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        };
        if tokio::time::timeout(Duration::from_secs(60), writing)
            .await
            .is_err()
        {
            panic!("writes stall\n{}", self.describe());
        }
    }

    /// Sends `count` operations to a leader that cannot commit them.
    pub(super) async fn write_in_vain(&mut self, node: u64, count: u64) {
        let end = self.last(node) + count;
        for _ in 0..count {
            let (raft, payload) = (self.raft(node), Cluster::payload(self.next_body()));
            raft.client_write_ff(payload, None).await.unwrap();
        }
        self.until("the tail is in the log", |cluster| {
            cluster.last(node) == end
        })
        .await;
    }

    /// Captures a checkpoint as of now and holds it there.
    pub(super) async fn capture(&self, node: u64) -> Captured {
        self.ledger(node).hold_checkpoints(true);
        let (wanted, made) = oneshot::channel();
        self.running(node).checkpoints.want(wanted);
        self.raft(node).trigger().snapshot().await.unwrap();
        let taken = |cluster: &Cluster| !cluster.running(node).checkpoints.is_wanted();
        self.until("the checkpoint is captured", taken).await;
        Captured { node, made }
    }

    /// Lets a captured checkpoint finish; returns its index once openraft knows of it.
    pub(super) async fn release(&self, captured: Captured) -> u64 {
        let Captured { node, made } = captured;
        self.ledger(node).hold_checkpoints(false);
        let made = tokio::time::timeout(Duration::from_secs(60), made)
            .await
            .unwrap();
        let index = made.unwrap().unwrap().index.0;
        let known = |cluster: &Cluster| cluster.snapshot(node) >= Some(index);
        self.until(format!("{node} knows of its checkpoint at {index}"), known)
            .await;
        index
    }

    /// A checkpoint of what is applied now.
    pub(super) async fn floor(&self, node: u64) -> u64 {
        self.release(self.capture(node).await).await
    }

    pub(super) async fn until_purged(&self, node: u64, index: u64) {
        let purged = |cluster: &Cluster| cluster.purged(node) >= Some(index);
        self.until(format!("{node} is purged up to {index}"), purged)
            .await;
    }

    pub(super) async fn floor_and_purge(&self, node: u64) -> u64 {
        let index = self.floor(node).await;
        self.until_purged(node, index).await;
        index
    }

    /// Makes `to` the leader as a failure detector would, calling `others` too.
    pub(super) async fn drive(&self, to: u64, others: &[u64]) {
        let vote = self
            .raft(to)
            .with_raft_state(|state| *state.vote_ref())
            .await
            .unwrap();
        let last = self.running(to).log.ends().1.map(log_id);
        for node in others.iter().chain([&to]) {
            let request = TransferLeaderRequest::new(vote, to, last);
            // Refused where another vote is held; the election below is what counts.
            let _ = self.raft(*node).handle_transfer_leader(request).await;
        }
        self.until(format!("{to} leads"), |cluster| {
            cluster.raft(to).is_leader()
        })
        .await;
    }

    /// Waits until the replicas hold the same, and checks that nothing acknowledged is missing.
    pub(super) async fn equal(&self, nodes: &[u64]) {
        let same = |cluster: &Cluster| {
            nodes
                .iter()
                .all(|node| cluster.difference(nodes[0], *node).is_none())
        };
        let waiting = async {
            while !same(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(60), waiting)
            .await
            .is_err()
        {
            let found = nodes
                .iter()
                .filter_map(|node| self.difference(nodes[0], *node));
            panic!(
                "not equal: {:?}\n{}",
                found.collect::<Vec<_>>(),
                self.describe()
            );
        }
        self.same_entries(nodes).await;
        let mut bodies = self.ledger(nodes[0]).bodies().into_iter();
        for body in &self.acknowledged {
            assert!(
                bodies.any(|held| held == *body),
                "{body:?} was acknowledged and is gone"
            );
        }
    }

    fn difference(&self, one: u64, other: u64) -> Option<String> {
        let (left, right) = (self.metrics(one), self.metrics(other));
        if left.last_applied != right.last_applied || left.last_applied.is_none() {
            return Some(format!(
                "applied {:?} and {:?}",
                left.last_applied, right.last_applied
            ));
        }
        let logs = (
            self.running(one).log.ends().1,
            self.running(other).log.ends().1,
        );
        if logs.0 != logs.1 {
            return Some(format!("logs end at {:?} and {:?}", logs.0, logs.1));
        }
        if left.membership_config != right.membership_config {
            return Some("memberships".to_owned());
        }
        if left.running_state.is_err() || right.running_state.is_err() {
            return Some(format!(
                "{:?} and {:?}",
                left.running_state, right.running_state
            ));
        }
        if self.ledger(one).bodies() != self.ledger(other).bodies() {
            return Some("bodies".to_owned());
        }
        None
    }

    /// Nothing where a checkpoint has taken the entry's place meanwhile: replicas cut their logs
    /// off on their own time.
    async fn entry(&self, node: u64, index: u64) -> Option<Entry> {
        match self.running(node).log.entries(index, index + 1).await {
            Ok(mut read) => Some(read.remove(0)),
            Err(_) if self.purged(node) >= Some(index) => None,
            Err(failure) => panic!("entry {index} of node {node}: {failure}"),
        }
    }

    /// Every entry that all of them hold is the same entry.
    async fn same_entries(&self, nodes: &[u64]) {
        let first = nodes
            .iter()
            .map(|node| self.purged(*node).map_or(0, |floor| floor + 1))
            .max();
        for index in first.unwrap()..=self.last(nodes[0]) {
            let Some(entry) = self.entry(nodes[0], index).await else {
                continue;
            };
            for node in &nodes[1..] {
                if let Some(other) = self.entry(*node, index).await {
                    assert!(
                        entry == other,
                        "entry {index} differs: {entry:?} and {other:?}"
                    );
                }
            }
        }
    }

    pub(super) fn voters(&self, node: u64) -> Vec<u64> {
        self.membership(node).membership().voter_ids().collect()
    }

    pub(super) fn is_joint(&self, node: u64) -> bool {
        self.membership(node).membership().get_joint_config().len() > 1
    }

    fn membership(&self, node: u64) -> Arc<StoredMembershipOf<Types>> {
        self.metrics(node).membership_config
    }

    /// Nobody panicked and nobody stopped.
    pub(super) async fn finish(mut self) {
        let up: Vec<u64> = self
            .replicas
            .keys()
            .copied()
            .filter(|node| self.is_up(*node))
            .collect();
        for node in up {
            let state = self.metrics(node).running_state;
            assert!(state.is_ok(), "{node}: {state:?}");
            // A dead core does not answer.
            self.raft(node).with_raft_state(|_| ()).await.unwrap();
            self.stop(node).await;
        }
    }
}

fn open(sim: &SimDisk) -> Running {
    let disk = Disk::Sim(sim.clone());
    let data_dir = DataDir::open(&disk, Path::new("/data")).unwrap();
    let config = JournalConfig {
        file_bytes: 64 << 10,
        ..JournalConfig::new(data_dir.journal_dir())
    };
    let journal = Journal::open(&disk, config).unwrap();
    let log = Log::open(journal.clone(), SHARD, CACHES, Arc::default()).unwrap();
    let checkpoints = Checkpoints::open(disk, data_dir.shard_checkpoint(SHARD)).unwrap();
    Running {
        _data_dir: data_dir,
        journal,
        log,
        checkpoints: Arc::new(checkpoints),
    }
}

//! A state machine that remembers everything it applied, and a node to run it on.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "only tests use it")]

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use raft::{
    Apply, CheckpointError, CheckpointJob, EntryAt, Host, HostConfig, InstallError, Op, OpenError,
    Peers, PeersConfig, Shard, ShardOptions,
};
use storage::clock::Clock;
use storage::data_dir::DataDir;
use storage::disk::{Disk, SimDisk};
use storage::journal::{Journal, JournalConfig};
use storage::{LogPosition, NodeId, ShardId};

/// What a ledger shows of itself to its test.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// Bodies of all operations in order, restored ones included.
    pub(crate) bodies: Vec<Bytes>,
    /// Entries applied since the ledger was made, blank and membership ones included.
    pub(crate) entries: Vec<(EntryAt, usize)>,
    pub(crate) installs: usize,
    /// Checkpoint jobs that ran.
    pub(crate) checkpoints: usize,
    /// Checkpoint jobs that are still to fail.
    pub(crate) failing_checkpoints: usize,
    /// Checkpoint jobs wait while this is set; see [`Ledger::hold_checkpoints`].
    pub(crate) holds_checkpoints: bool,
    /// Whether entries may be missing, as in openraft's own tests.
    pub(crate) allows_gaps: bool,
}

/// The state machine. `apply` holds the view's lock: a test that holds it stops the shard.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    view: Arc<Mutex<View>>,
    released: Arc<Condvar>,
}

/// Number of the operation in the ledger, and where its entry stands.
pub(crate) type Outcome = (usize, LogPosition);

impl Ledger {
    pub(crate) fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap()
    }

    pub(crate) fn bodies(&self) -> Vec<Bytes> {
        self.view().bodies.clone()
    }

    /// Makes checkpoint jobs wait, or lets them go on: a checkpoint in the past is one that was
    /// captured and held while more entries were applied.
    pub(crate) fn hold_checkpoints(&self, hold: bool) {
        self.view().holds_checkpoints = hold;
        self.released.notify_all();
    }
}

impl Apply for Ledger {
    type Outcome = Outcome;

    fn apply(&mut self, at: EntryAt, ops: &[Op]) -> Vec<Outcome> {
        let mut view = self.view();
        let last = view.entries.last().map(|(at, _)| at.position.index);
        let follows = last.is_none_or(|last| last.0 + 1 == at.position.index.0);
        assert!(follows || view.allows_gaps, "a gap: {last:?}, then {at:?}");
        view.entries.push((at, ops.len()));
        let mut outcomes = Vec::new();
        for op in ops {
            assert_ne!(op.head.as_ref(), b"panic", "told to panic");
            let number = view.bodies.len();
            view.bodies.push(if op.body.is_empty() {
                op.head.clone()
            } else {
                op.body.clone()
            });
            outcomes.push((number, at.position));
        }
        outcomes
    }

    fn checkpoint(&mut self) -> CheckpointJob {
        let bodies = self.bodies();
        let (view, released) = (Arc::clone(&self.view), Arc::clone(&self.released));
        Box::new(move || {
            let view = view.lock().unwrap();
            let mut view = released
                .wait_while(view, |view| view.holds_checkpoints)
                .unwrap();
            if view.failing_checkpoints > 0 {
                view.failing_checkpoints -= 1;
                return Err(CheckpointError::Storage(io::Error::other("told to fail")));
            }
            view.checkpoints += 1;
            let mut manifest = BytesMut::new();
            for body in bodies {
                manifest.put_u32(u32::try_from(body.len()).unwrap());
                manifest.put(body);
            }
            Ok(manifest.freeze())
        })
    }

    fn install(&mut self, mut manifest: Bytes) -> Result<(), InstallError> {
        let mut view = self.view();
        view.installs += 1;
        view.entries.clear();
        view.bodies.clear();
        while !manifest.is_empty() {
            let bytes = manifest.get_u32() as usize;
            view.bodies.push(manifest.split_to(bytes));
        }
        Ok(())
    }
}

/// A computer with a disk: what outlives the node's processes.
pub(crate) struct Computer {
    pub(crate) sim: SimDisk,
    pub(crate) node: NodeId,
    /// Largest request between nodes, if not the usual one.
    pub(crate) frame_bytes_max: Option<usize>,
}

impl Computer {
    pub(crate) fn new(seed: u64) -> Computer {
        Computer {
            sim: SimDisk::new(seed),
            node: NodeId(1),
            frame_bytes_max: None,
        }
    }

    pub(crate) fn disk(&self) -> Disk {
        Disk::Sim(self.sim.clone())
    }

    pub(crate) fn config(&self) -> HostConfig {
        HostConfig::new(self.node, Path::new("/data/shards").into())
    }

    /// Starts the node's journal, transport and host.
    pub(crate) async fn boot(&self) -> Node {
        self.boot_with(self.config()).await
    }

    pub(crate) async fn boot_with(&self, config: HostConfig) -> Node {
        self.try_boot(config).await.unwrap()
    }

    /// As [`Computer::boot_with`]; fails when power goes meanwhile.
    pub(crate) async fn try_boot(
        &self,
        config: HostConfig,
    ) -> Result<Node, Box<dyn std::error::Error>> {
        let disk = self.disk();
        let data_dir = DataDir::open(&disk, Path::new("/data"))?;
        assert_eq!(data_dir.shards_dir(), config.checkpoint_dir);
        let journal = JournalConfig {
            file_bytes: 256 << 10,
            ..JournalConfig::new(data_dir.journal_dir())
        };
        let journal = Journal::open(&disk, journal)?;
        let mut listen = PeersConfig::new((Ipv4Addr::LOCALHOST, 0).into());
        listen.frame_bytes_max = self.frame_bytes_max.unwrap_or(listen.frame_bytes_max);
        let peers = Peers::bind(listen, Clock::system()).await?;
        let started = Host::start(
            config,
            disk,
            Clock::system(),
            journal.clone(),
            peers.clone(),
        );
        let host = match started {
            Ok(host) => host,
            Err(error) => {
                peers.shutdown().await;
                return Err(error.into());
            }
        };
        Ok(Node {
            host,
            peers,
            journal,
            data_dir,
            node: self.node,
        })
    }

    /// Cuts the power: what is not synced is kept, lost or torn.
    pub(crate) async fn crash(&self, node: Node, seed: u64) {
        self.sim.cut_power();
        node.vanish().await;
        self.sim.crash(seed);
    }

    /// Ends the node's process where it stands; what it wrote stays.
    pub(crate) async fn kill(&self, node: Node) {
        self.sim.cut_power();
        node.vanish().await;
        self.sim.kill_processes();
    }
}

/// A running node. Dropping it kills it.
pub(crate) struct Node {
    pub(crate) host: Host,
    pub(crate) peers: Peers,
    pub(crate) journal: Journal,
    pub(crate) data_dir: DataDir,
    node: NodeId,
}

impl Node {
    /// Opens a shard of which this node is the founder.
    pub(crate) async fn open(
        &self,
        shard: ShardId,
        ledger: Ledger,
    ) -> Result<Shard<Outcome>, OpenError> {
        let options = ShardOptions::founded_by([self.node]);
        self.host.open_shard(shard, ledger, options).await
    }

    /// An orderly end.
    pub(crate) async fn shutdown(self) {
        self.host.shutdown().await;
        self.peers.shutdown().await;
        self.journal.close();
    }

    /// Ends at once, whoever still holds a shard; returns when nothing of it runs any more. Its disk
    /// must take nothing by now.
    async fn vanish(self) {
        drop(self.host);
        self.peers.shutdown().await;
        self.journal.close();
    }
}

pub(crate) fn op(body: impl Into<Bytes>) -> Op {
    Op::data(Bytes::from_static(b"append"), body.into())
}

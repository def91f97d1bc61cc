//! A state machine that remembers everything it applied, and a node to run it on.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use raft::{Apply, CheckpointError, CheckpointJob, EntryAt, Host, HostConfig, InstallError, Op};
use storage::clock::Clock;
use storage::disk::Disk;
use storage::journal::{Journal, JournalConfig};
use storage::{LogPosition, NodeId};

/// What a ledger shows of itself to its test.
#[derive(Debug, Default)]
pub struct View {
    /// Bodies of all operations in order, restored ones included.
    pub bodies: Vec<Bytes>,
    /// Entries applied since the ledger was made, blank and membership ones included.
    pub entries: Vec<(EntryAt, usize)>,
    pub installs: usize,
    /// Checkpoint jobs that ran.
    pub checkpoints: usize,
    /// Checkpoint jobs that are still to fail.
    pub failing_checkpoints: usize,
}

/// The state machine. `apply` holds the view's lock: a test that holds it stops the shard.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    view: Arc<Mutex<View>>,
}

/// Number of the operation in the ledger, and where its entry stands.
pub type Outcome = (usize, LogPosition);

impl Ledger {
    pub fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap()
    }

    pub fn bodies(&self) -> Vec<Bytes> {
        self.view().bodies.clone()
    }
}

impl Apply for Ledger {
    type Outcome = Outcome;

    fn apply(&mut self, at: EntryAt, ops: &[Op]) -> Vec<Outcome> {
        let mut view = self.view();
        let last = view.entries.last().map(|(at, _)| at.position.index);
        assert!(
            last.is_none_or(|last| last.0 + 1 == at.position.index.0),
            "a gap in the log"
        );
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
        let view = Arc::clone(&self.view);
        Box::new(move || {
            let mut view = view.lock().unwrap();
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

/// A disk that outlives the node's processes.
pub struct Machine {
    pub disk: Disk,
    pub dir: PathBuf,
}

impl Machine {
    pub fn new(disk: Disk) -> Machine {
        static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Machine {
            disk,
            dir: PathBuf::from(format!("/node{number}")),
        }
    }

    pub fn config(&self) -> HostConfig {
        HostConfig::new(NodeId(1), self.dir.join("shards"))
    }

    pub fn journal_config(&self) -> JournalConfig {
        JournalConfig {
            file_bytes: 1 << 20,
            ..JournalConfig::new(self.dir.join("journal"))
        }
    }

    /// Starts the node's journal and host.
    pub fn boot(&self) -> Node {
        self.boot_with(self.config())
    }

    pub fn boot_with(&self, config: HostConfig) -> Node {
        let journal = Journal::open(&self.disk, self.journal_config()).unwrap();
        let host =
            Host::start(config, self.disk.clone(), Clock::system(), journal.clone()).unwrap();
        Node { host, journal }
    }
}

/// A running node. Dropping it kills it.
pub struct Node {
    pub host: Host,
    pub journal: Journal,
}

impl Node {
    /// An orderly end.
    pub async fn shutdown(self) {
        self.host.shutdown().await;
        self.journal.close();
    }
}

pub fn op(body: impl Into<Bytes>) -> Op {
    Op::data(Bytes::from_static(b"append"), body.into())
}

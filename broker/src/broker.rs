//! The broker as a running thing: what it is made of, how it starts and how it stops.
//!
//! What it can be asked for stands beside it, one noun a file (`produce.rs`, `fetch.rs`, ...). It
//! holds no state that is not in a shard's log: after a restart everything comes back from disk.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use raft::{Host, Leadership, LinkState, Peers, ProposeError, Shard};
use storage::clock::Clock;
use storage::data_dir::{DataDir, Identity, Returning};
use storage::disk::Disk;
use storage::journal::Journal;
use storage::store::LogStore;
use storage::{NodeId, PartitionId, ShardId};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::catalogue::Catalogue;
use crate::catalogue::machine::Outcome as CatalogueOutcome;
use crate::controller::Stalls;
use crate::coordinators::GroupCoordinators;
use crate::ids::Ids;
use crate::partition::machine::Outcome;
use crate::partition::{Directory, Partition};
use crate::peers::book::Book;
use crate::producer_ids::ProducerIds;
use crate::quotas::Usage;
use crate::returning::run_end::RunEnd;
use crate::returning::stale::Return;
use crate::stage::CatchUp;
use crate::view::ClusterView;
use crate::{BrokerConfig, BrokerError};

/// The shard that carries the catalogue.
pub(crate) const CATALOGUE_SHARD: ShardId = ShardId(0);
/// Name of the listener for other nodes in the catalogue.
pub(crate) const PEERS_LISTENER: &str = "peers";

/// A running broker. Cheap to clone; all clones are the same broker.
#[derive(Clone)]
pub struct Broker {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) node: NodeId,
    pub(crate) identity: Identity,
    pub(crate) config: BrokerConfig,
    pub(crate) clock: Clock,
    pub(crate) disk: Disk,
    pub(crate) ids: Mutex<Ids>,
    pub(crate) journal: Journal,
    pub(crate) logs: LogStore,
    pub(crate) host: Arc<Host>,
    /// How far a node that lost its memory has come back.
    pub(crate) returning: Return,
    /// Whether what such a node has is taken for good, as whoever runs it said.
    pub(crate) accepts_loss: bool,
    /// A return that the cluster may have carried out while this node was told not to wait for it.
    pub(crate) unanswered: Option<Returning>,
    pub(crate) peers: Peers,
    pub(crate) links: watch::Receiver<BTreeMap<NodeId, LinkState>>,
    pub(crate) catalogue_shard: Shard<CatalogueOutcome>,
    pub(crate) images: watch::Receiver<Arc<Catalogue>>,
    pub(crate) directory: Directory,
    pub(crate) catch_up: CatchUp,
    pub(crate) shards: RwLock<BTreeMap<ShardId, DataShard>>,
    pub(crate) view: Mutex<ClusterView>,
    pub(crate) stalls: Mutex<Stalls>,
    /// Where this node is reached, as the catalogue shall know it.
    pub(crate) listeners: watch::Sender<BTreeMap<String, (String, u16)>>,
    /// Held by whoever reads the catalogue in order to change it.
    pub(crate) administration: tokio::sync::Mutex<()>,
    pub(crate) producer_ids: ProducerIds,
    pub(crate) quota_usage: Mutex<Usage>,
    /// Coordinators of consumer groups.
    pub(crate) groups: Arc<GroupCoordinators>,
    pub(crate) unpacking: Semaphore,
    pub(crate) searching: Semaphore,
    pub(crate) waiting_fetches: AtomicUsize,
    /// Counts up whenever partitions were made or removed, or what is known of leaders and in-sync
    /// replicas changed.
    pub(crate) changes: watch::Sender<u64>,
    pub(crate) failure: watch::Sender<Option<String>>,
    pub(crate) run_end: Arc<RunEnd>,
    pub(crate) stopping: watch::Sender<bool>,
    pub(crate) tasks: tokio::sync::Mutex<JoinSet<()>>,
    /// Holds the lock on the data directory while the broker lives.
    pub(crate) data_dir: DataDir,
}

/// A data shard of this node.
#[derive(Clone)]
pub(crate) struct DataShard {
    pub(crate) shard: Shard<Outcome>,
    pub(crate) leadership: watch::Receiver<Leadership>,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker")
            .field("node", &self.inner.node)
            .finish_non_exhaustive()
    }
}

/// What a shard's refusal means to a caller.
pub(crate) fn refused(error: &ProposeError) -> BrokerError {
    match error {
        ProposeError::NotLeader { leader } => BrokerError::NotLeader { leader: *leader },
        ProposeError::StorageFull => BrokerError::DiskFull,
        ProposeError::TooLarge { bytes, max } => BrokerError::InvalidRequest {
            reason: format!("{bytes} bytes in one operation, at most {max}"),
        },
        ProposeError::Busy => BrokerError::LeaderNotAvailable,
        ProposeError::ShuttingDown => BrokerError::ShuttingDown,
        ProposeError::Unknown { reason } => BrokerError::TimedOut {
            reason: reason.to_string(),
        },
    }
}

impl Broker {
    pub(crate) async fn spawn_tasks(&self, book: Book) {
        let mut tasks = self.inner.tasks.lock().await;
        tasks.spawn(self.until_stopped(self.clone().keep_book_forever(book)));
        tasks.spawn(self.until_stopped(self.clone().report_forever()));
        tasks.spawn(self.until_stopped(self.clone().register_forever()));
        tasks.spawn(self.until_stopped(self.clone().manage_shards_forever()));
        tasks.spawn(self.until_stopped(self.clone().control_forever()));
        tasks.spawn(self.until_stopped(self.clone().reconcile_forever()));
        tasks.spawn(self.until_stopped(self.clone().follow_moves_forever()));
        tasks.spawn(self.until_stopped(self.clone().move_forever()));
        tasks.spawn(self.until_stopped(self.clone().upkeep_forever()));
        tasks.spawn(self.until_stopped(self.clone().compact_forever()));
        tasks.spawn(self.until_stopped(self.clone().repair_forever()));
        tasks.spawn(self.until_stopped(self.clone().scrub_forever()));
        tasks.spawn(self.until_stopped(self.clone().tell_returns_forever()));
        tasks.spawn(self.until_stopped(self.clone().accept_what_waits()));
        tasks.spawn(self.until_stopped(self.clone().learn_answer()));
        tasks.spawn(self.until_stopped(self.clone().watch_host()));
        let groups = Arc::clone(&self.inner.groups);
        tasks.spawn(self.until_stopped(self.clone().coordinate_forever(groups)));
    }

    /// The task, ended when the broker stops.
    fn until_stopped(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let mut stopping = self.inner.stopping.subscribe();
        async move {
            tokio::select! {
                biased;
                _ = stopping.wait_for(|stopping| *stopping) => {}
                () = task => {}
            }
        }
    }

    /// Stops: refuses what is new, answers what is on its way, makes a last checkpoint, closes the
    /// files. Calling it again does nothing more.
    pub async fn shutdown(&self) {
        self.inner.stopping.send_replace(true);
        let mut tasks = std::mem::take(&mut *self.inner.tasks.lock().await);
        while tasks.join_next().await.is_some() {}
        for partition in self.inner.directory.all() {
            partition.waiters.wake_all();
        }
        self.inner.host.shutdown().await;
        self.inner.peers.shutdown().await;
        close_disk(self.inner.logs.clone(), self.inner.journal.clone()).await;
        self.end_run().await;
    }

    /// Notes how the run ended, for the next start.
    async fn end_run(&self) {
        let run_end = self.inner.run_end.clone();
        let has_failed = self.inner.journal.failed().is_some();
        let ending = net::blocking(move || match has_failed {
            true => run_end.note_failed(),
            false => run_end.note_end(),
        });
        if let Err(error) = ending.await {
            tracing::error!(%error, "noting how the run ended failed");
        }
    }

    /// Whether the disk has failed and a start over from it would trust what it may have lost,
    /// because the failure could not be noted. To be asked after [`Broker::shutdown`].
    #[must_use]
    pub fn must_not_start_over(&self) -> bool {
        self.inner.run_end.is_unnoted()
    }

    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.inner.stopping.subscribe()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.inner.stopping.borrow()
    }

    /// This node.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.inner.node
    }

    /// How this broker is configured.
    #[must_use]
    pub fn config(&self) -> &BrokerConfig {
        &self.inner.config
    }

    /// The clock everything here goes by.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// The present picture of the cluster.
    #[must_use]
    pub fn catalogue(&self) -> Arc<Catalogue> {
        self.inner.images.borrow().clone()
    }

    /// Turns to `Some(reason)` when the storage failed and the node must start over from disk.
    #[must_use]
    pub fn failure(&self) -> watch::Receiver<Option<String>> {
        self.inner.failure.subscribe()
    }

    pub(crate) fn shards(&self) -> Vec<(ShardId, DataShard)> {
        let shards = self
            .inner
            .shards
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        shards
            .iter()
            .map(|(id, shard)| (*id, shard.clone()))
            .collect()
    }

    pub(crate) fn data_shard(&self, id: ShardId) -> Option<DataShard> {
        self.inner
            .shards
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&id)
            .cloned()
    }

    /// The partition and its shard, if this node leads it and serves.
    pub(crate) fn led(
        &self,
        id: PartitionId,
    ) -> Result<(Arc<Partition>, DataShard, Leadership), BrokerError> {
        let Some(partition) = self.inner.directory.get(id) else {
            return Err(self.why_absent(id));
        };
        let shard = self
            .data_shard(partition.shard)
            .ok_or_else(|| self.not_leader(partition.shard))?;
        let leadership = *shard.leadership.borrow();
        if leadership.serving {
            return Ok((partition, shard, leadership));
        }
        if self.is_stopping() {
            return Err(BrokerError::ShuttingDown);
        }
        // Also when this node would lead but is cut off from the others, or has only just begun.
        let leader = leadership.leader.filter(|leader| *leader != self.node_id());
        Err(BrokerError::NotLeader { leader })
    }

    fn not_leader(&self, shard: ShardId) -> BrokerError {
        BrokerError::NotLeader {
            leader: self.shard_seen(shard).leader,
        }
    }

    /// Why a partition is not in this node's directory.
    pub(crate) fn why_absent(&self, id: PartitionId) -> BrokerError {
        let catalogue = self.catalogue();
        match (catalogue.topic_by_id(id.topic), catalogue.entry(id)) {
            (None, _) => BrokerError::UnknownTopicId,
            (Some(_), None) => BrokerError::UnknownTopicOrPartition,
            (Some(_), Some(entry)) if self.data_shard(entry.shard).is_none() => {
                self.not_leader(entry.shard)
            }
            // It came here by a move, and whoever leads has it; this node lags.
            (Some(_), Some(entry)) if entry.generation > 0 => match self.not_leader(entry.shard) {
                BrokerError::NotLeader { leader } if leader == Some(self.node_id()) => {
                    BrokerError::LeaderNotAvailable
                }
                error => error,
            },
            (Some(_), Some(_)) => BrokerError::LeaderNotAvailable,
        }
    }

    /// Wakes a shard's waiting fetches whenever its leader changes.
    pub(crate) async fn watch_leadership(self, id: ShardId, mut shard: DataShard) {
        while shard.leadership.changed().await.is_ok() {
            let leadership = *shard.leadership.borrow_and_update();
            tracing::info!(shard = %id, term = %leadership.term, serving = leadership.serving,
                "leadership changed");
            self.inner.changes.send_modify(|changes| *changes += 1);
            for partition in self.inner.directory.all() {
                if partition.shard == id {
                    partition.waiters.wake_all();
                }
            }
        }
    }

    async fn watch_host(self) {
        let mut failed = self.inner.host.failed();
        let reason = match failed.wait_for(Option::is_some).await {
            Ok(failure) => failure.as_ref().map(ToString::to_string),
            Err(_) => None,
        };
        if let Some(reason) = reason {
            let run_end = self.inner.run_end.clone();
            let noting = net::blocking(move || run_end.note_failed());
            if let Err(error) = noting.await {
                tracing::error!(%error, "noting that the disk has failed failed");
            }
            fail(&self.inner.failure, reason);
        }
    }

    /// Counts one more waiting fetch, unless there are too many.
    pub(crate) fn start_waiting(&self) -> bool {
        let max = self.inner.config.waiting_fetches_max;
        let counted = self.inner.waiting_fetches.fetch_update(
            Ordering::AcqRel,
            Ordering::Acquire,
            |waiting| (waiting < max).then_some(waiting + 1),
        );
        counted.is_ok()
    }
}

pub(crate) async fn close_disk(logs: LogStore, journal: Journal) {
    let closing = net::blocking(move || {
        logs.close();
        journal.close();
    });
    if let Err(error) = closing.await {
        tracing::error!(%error, "closing the disk failed");
    }
}

/// The first reason stands; later failures follow from it.
pub(crate) fn fail(failure: &watch::Sender<Option<String>>, reason: String) {
    failure.send_if_modified(|failure| {
        let first = failure.is_none();
        if first {
            *failure = Some(reason);
        }
        first
    });
}

//! The broker as a running thing: what it is made of, how it starts and how it stops.
//!
//! What it can be asked for stands beside it, one noun a file (`produce.rs`, `fetch.rs`, ...). It
//! holds no state that is not in a shard's log: after a restart everything comes back from disk.

use std::collections::{BTreeMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use raft::{
    Host, HostConfig, Leadership, OpenError, Peers, PeersConfig, ProposeError, Shard, ShardOptions,
};
use storage::clock::Clock;
use storage::data_dir::{DataDir, Identity};
use storage::journal::{Journal, JournalConfig};
use storage::store::{LogStore, LogStoreConfig};
use storage::{LeaderEpoch, NodeId, PartitionId, ShardId};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::catalogue::command::Command;
use crate::catalogue::machine::{CatalogueMachine, Outcome as CatalogueOutcome};
use crate::catalogue::membership::FIRST_NODE;
use crate::catalogue::{Catalogue, Factor, Node, PartitionStatus, Shard as ShardEntry};
use crate::ids::Ids;
use crate::partition::machine::{Outcome, PartitionsMachine};
use crate::partition::{Directory, Partition};
use crate::producer_ids::ProducerIds;
use crate::stage::{CatchUp, PeerRanges};
use crate::{BrokerConfig, BrokerError};

/// The shard that carries the catalogue.
const CATALOGUE_SHARD: ShardId = ShardId(0);
/// Version of the data directory's layout.
const LAYOUT_VERSION: u32 = storage::data_dir::LAYOUT_VERSION;
/// Bytes of one shard that may wait to be proposed. On a full disk this much, and what is in
/// flight, comes on top of what the segment writer holds.
const PENDING_BYTES_MAX: usize = 16 << 20;
/// Compressed batches that are unpacked for validation at the same time; with the largest size of
/// one it bounds the memory this takes.
const UNPACKING_MAX: usize = 4;
/// Look-ups by time that run at the same time; each may unpack a batch.
const SEARCHING_MAX: usize = 2;

/// What a node gives its broker: time, a disk and randomness.
#[derive(Debug, Clone)]
pub struct Env {
    /// Time.
    pub clock: Clock,
    /// The disk.
    pub disk: storage::disk::Disk,
    /// Seeds every id this node makes.
    pub seed: [u64; 4],
}

/// Why a broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The journal cannot be opened; damaged or unreadable.
    #[error("cannot open the journal: {0}")]
    Journal(#[source] storage::journal::JournalError),
    /// The partition logs cannot be opened.
    #[error("cannot open the partition logs: {0}")]
    Logs(String),
    /// The consensus layer did not start.
    #[error("cannot start the raft host: {0}")]
    Host(#[from] raft::HostError),
    /// The transport to other nodes did not start.
    #[error("cannot start the transport to other nodes")]
    Peers(#[from] raft::PeersError),
    /// A shard cannot be opened.
    #[error("{}", with_cause(.0))]
    Shard(#[from] OpenError),
    /// The data directory belongs to someone else.
    #[error("the data directory belongs to node {found}, this is node {expected}")]
    WrongNode {
        /// The node that it belongs to.
        found: NodeId,
        /// This node.
        expected: NodeId,
    },
    /// The file that says whose data this is has gone.
    #[error(
        "the data directory holds data but its identity file is missing: restore it, or start on another directory"
    )]
    IdentityMissing,
    /// The data directory has a history that its files no longer hold.
    #[error(
        "the data directory belongs to cluster {cluster_id}, but its files hold {found}: restore what is missing, or start on another directory"
    )]
    DataMissing {
        /// The cluster it belongs to.
        cluster_id: String,
        /// What its files hold instead.
        found: String,
    },
    /// The catalogue could not be founded or read.
    #[error("the catalogue does not answer: {0}")]
    Catalogue(BrokerError),
    /// The data directory cannot be written or read.
    #[error("cannot use the data directory: {0}")]
    DataDir(String),
}

fn with_cause(error: &OpenError) -> String {
    std::error::Error::source(error)
        .map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

/// A running broker. Cheap to clone; all clones are the same broker.
#[derive(Clone)]
pub struct Broker {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) node: NodeId,
    pub(crate) config: BrokerConfig,
    pub(crate) clock: Clock,
    pub(crate) ids: Mutex<Ids>,
    pub(crate) journal: Journal,
    pub(crate) logs: LogStore,
    host: Host,
    pub(crate) catalogue_shard: Shard<CatalogueOutcome>,
    pub(crate) images: watch::Receiver<Arc<Catalogue>>,
    pub(crate) directory: Directory,
    pub(crate) catch_up: CatchUp,
    pub(crate) shards: RwLock<BTreeMap<ShardId, DataShard>>,
    /// Held by whoever reads the catalogue in order to change it.
    pub(crate) administration: tokio::sync::Mutex<()>,
    pub(crate) producer_ids: ProducerIds,
    pub(crate) unpacking: Semaphore,
    pub(crate) searching: Semaphore,
    pub(crate) waiting_fetches: AtomicUsize,
    /// Counts up whenever partitions were made, removed or changed hands.
    pub(crate) changes: watch::Sender<u64>,
    failure: watch::Sender<Option<String>>,
    stopping: watch::Sender<bool>,
    tasks: tokio::sync::Mutex<JoinSet<()>>,
    // Holds the lock on the data directory while the broker lives.
    _data_dir: DataDir,
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
    /// Starts over what the directory holds; an empty one founds a cluster of this node alone.
    /// Returns when everything committed has been applied again and every shard takes operations.
    pub async fn start(
        config: BrokerConfig,
        env: Env,
        data_dir: DataDir,
    ) -> Result<Broker, StartError> {
        let mut ids = Ids::new(env.seed);
        let known = data_dir
            .identity()
            .map_err(|e| StartError::DataDir(e.to_string()))?;
        if let Some(identity) = &known {
            check_identity(identity, &config, &env, &data_dir)?;
        }
        let (failure, _) = watch::channel(None);
        let (journal, logs) = open_disk(&config, &env, &data_dir).await?;
        watch_disk(&journal, &logs, &failure);
        let identity = match known {
            Some(identity) => identity,
            None => match new_identity(&config, &data_dir, &journal, &mut ids) {
                Ok(identity) => identity,
                Err(error) => {
                    close_disk(logs, journal).await;
                    return Err(error);
                }
            },
        };
        let node = identity.node_id;
        let mut host_config = HostConfig::new(node, data_dir.shards_dir());
        host_config.checkpoint_journal_bytes = config.checkpoint_journal_bytes;
        host_config.pending_bytes_max = PENDING_BYTES_MAX;
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let peers = Peers::bind(PeersConfig::new(listen), env.clock.clone()).await?;
        let host = Host::start(
            host_config,
            env.disk.clone(),
            env.clock.clone(),
            journal.clone(),
            peers.clone(),
        )?;

        let (machine, mut images) = CatalogueMachine::new();
        let catalogue_shard = host
            .open_shard(CATALOGUE_SHARD, machine, ShardOptions::founded_by([node]))
            .await?;
        let history = check_history(&identity, &images.borrow(), &env, &data_dir);
        if let Err(error) = history {
            host.shutdown().await;
            close_disk(logs, journal).await;
            return Err(error);
        }
        // The term is new at each start, also within one process: so is every id from here on.
        let mut seed = env.seed;
        seed[0] ^= catalogue_shard.leadership().borrow().term.0;
        let ids = Ids::new(seed);
        found_cluster(&catalogue_shard, &images, &config, &identity).await?;
        let catalogue = images.borrow_and_update().clone();

        let directory = Directory::default();
        let catch_up = CatchUp::new(
            directory.clone(),
            logs.clone(),
            images.clone(),
            Arc::new(PeerRanges::new(peers, std::convert::identity)),
            (config.catch_up_bytes_per_second, env.clock.clone()),
        );
        let shards = open_shards(&host, (&logs, &directory, &catch_up), &catalogue, node).await?;
        set_aside_unknown(&logs, &directory).await?;
        logs.note_recovered();

        let (changes, _) = watch::channel(0);
        let (stopping, _) = watch::channel(false);
        let broker = Broker {
            inner: Arc::new(Inner {
                node,
                clock: env.clock,
                ids: Mutex::new(ids),
                journal,
                logs,
                host,
                catalogue_shard,
                images,
                directory,
                catch_up,
                shards: RwLock::new(shards),
                administration: tokio::sync::Mutex::new(()),
                producer_ids: ProducerIds::default(),
                unpacking: Semaphore::new(UNPACKING_MAX),
                searching: Semaphore::new(SEARCHING_MAX),
                waiting_fetches: AtomicUsize::new(0),
                changes,
                failure,
                stopping,
                tasks: tokio::sync::Mutex::new(JoinSet::new()),
                config: BrokerConfig {
                    node_id: Some(node),
                    ..config
                },
                _data_dir: data_dir,
            }),
        };
        broker.spawn_tasks().await;
        Ok(broker)
    }

    async fn spawn_tasks(&self) {
        let mut tasks = self.inner.tasks.lock().await;
        tasks.spawn(self.until_stopped(self.clone().reconcile_forever()));
        tasks.spawn(self.until_stopped(self.clone().upkeep_forever()));
        tasks.spawn(self.until_stopped(self.clone().repair_forever()));
        tasks.spawn(self.until_stopped(self.clone().watch_host()));
        for (id, shard) in self.shards() {
            tasks.spawn(self.until_stopped(self.clone().watch_leadership(id, shard)));
        }
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
        close_disk(self.inner.logs.clone(), self.inner.journal.clone()).await;
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

    /// The node that clients are told is the controller: the catalogue's leader.
    #[must_use]
    pub fn controller(&self) -> Option<NodeId> {
        self.inner.catalogue_shard.leadership().borrow().leader
    }

    /// Who serves this partition, `None` when it does not exist.
    #[must_use]
    pub fn partition_status(&self, id: PartitionId) -> Option<PartitionStatus> {
        let catalogue = self.catalogue();
        let shard_id = &catalogue.entry(id)?.shard;
        let replicas = catalogue
            .shards
            .get(shard_id)
            .map_or(Vec::new(), |shard| shard.replicas.clone());
        let leadership = self
            .data_shard(*shard_id)
            .map(|shard| *shard.leadership.borrow());
        let partition = self.inner.directory.get(id);
        let (leader, leader_epoch) = match (&leadership, &partition) {
            (Some(leadership), Some(partition)) => {
                (leadership.leader, partition.epoch_in(leadership.term))
            }
            _ => (None, LeaderEpoch(0)),
        };
        // With one voter the leader alone is in sync.
        let in_sync = replicas
            .iter()
            .copied()
            .filter(|node| Some(*node) == leader)
            .collect();
        Some(PartitionStatus {
            partition: id,
            leader,
            leader_epoch,
            in_sync,
            offline: Vec::new(),
            replicas,
        })
    }

    /// Enters this node and where clients reach it into the catalogue.
    pub async fn register_node(&self, node: Node) -> Result<(), BrokerError> {
        if self.catalogue().nodes.get(&node.id) == Some(&node) {
            return Ok(());
        }
        self.change_catalogue(&Command::PutNode(node))
            .await
            .map(|_| ())
    }

    /// Proposes a change of the catalogue and waits until it is applied.
    pub(crate) async fn change_catalogue(
        &self,
        command: &Command,
    ) -> Result<CatalogueOutcome, BrokerError> {
        propose(&self.inner.catalogue_shard, command).await
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
            .ok_or(BrokerError::NotLeader { leader: None })?;
        let leadership = *shard.leadership.borrow();
        if leadership.serving {
            return Ok((partition, shard, leadership));
        }
        if self.is_stopping() {
            return Err(BrokerError::ShuttingDown);
        }
        match leadership.leader {
            Some(leader) if leader != self.node_id() => Err(BrokerError::NotLeader {
                leader: Some(leader),
            }),
            _ => Err(BrokerError::LeaderNotAvailable),
        }
    }

    pub(crate) fn why_absent(&self, id: PartitionId) -> BrokerError {
        let catalogue = self.catalogue();
        match catalogue.topic_by_id(id.topic) {
            None => BrokerError::UnknownTopicId,
            Some(topic) if (id.index as usize) < topic.partitions.len() => {
                BrokerError::LeaderNotAvailable
            }
            Some(_) => BrokerError::UnknownTopicOrPartition,
        }
    }

    /// Wakes a shard's waiting fetches whenever its leader changes.
    async fn watch_leadership(self, id: ShardId, mut shard: DataShard) {
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
        if let Ok(failure) = failed.wait_for(Option::is_some).await {
            let reason = failure.map_or(String::new(), |failure| failure.to_string());
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

/// The directory must be this node's, and its journal must be there: looked at before anything is
/// made, so that what is missing can still be put back.
fn check_identity(
    identity: &Identity,
    config: &BrokerConfig,
    env: &Env,
    data_dir: &DataDir,
) -> Result<(), StartError> {
    if let Some(expected) = config.node_id
        && identity.node_id != expected
    {
        let found = identity.node_id;
        return Err(StartError::WrongNode { found, expected });
    }
    let there = Journal::exists(&env.disk, &data_dir.journal_dir());
    if there.map_err(StartError::Journal)? {
        return Ok(());
    }
    Err(data_missing(identity, "no journal"))
}

/// Gives a new directory its identity. The journal is there by then, and empty; one that holds
/// something belongs to somebody whose name is missing.
fn new_identity(
    config: &BrokerConfig,
    data_dir: &DataDir,
    journal: &Journal,
    ids: &mut Ids,
) -> Result<Identity, StartError> {
    if !journal.shards().is_empty() {
        return Err(StartError::IdentityMissing);
    }
    let identity = Identity {
        cluster_id: ids.cluster_id(),
        node_id: config.node_id.unwrap_or(FIRST_NODE),
        incarnation: ids.uuid(),
        layout_version: LAYOUT_VERSION,
    };
    data_dir
        .set_identity(&identity)
        .map_err(|error| StartError::DataDir(error.to_string()))?;
    Ok(identity)
}

/// An empty catalogue is right only before the cluster was founded: then there are no partitions.
fn check_history(
    identity: &Identity,
    catalogue: &Catalogue,
    env: &Env,
    data_dir: &DataDir,
) -> Result<(), StartError> {
    if catalogue.cluster_id == identity.cluster_id {
        return Ok(());
    }
    if !catalogue.cluster_id.is_empty() {
        let found = format!("those of cluster {}", catalogue.cluster_id);
        return Err(data_missing(identity, &found));
    }
    let partitions = env.disk.read_dir(&data_dir.partitions_dir());
    match partitions {
        Ok(partitions) if partitions.is_empty() => Ok(()),
        Ok(_) => Err(data_missing(identity, "partitions and no catalogue")),
        Err(error) => Err(StartError::DataDir(error.to_string())),
    }
}

fn data_missing(identity: &Identity, found: &str) -> StartError {
    let cluster_id = identity.cluster_id.clone();
    StartError::DataMissing {
        cluster_id,
        found: found.to_owned(),
    }
}

async fn close_disk(logs: LogStore, journal: Journal) {
    let closing = tokio::task::spawn_blocking(move || {
        logs.close();
        journal.close();
    });
    if let Err(error) = closing.await {
        tracing::error!(%error, "closing the disk failed");
    }
}

/// The first reason stands; later failures follow from it.
fn fail(failure: &watch::Sender<Option<String>>, reason: String) {
    failure.send_if_modified(|failure| {
        let first = failure.is_none();
        if first {
            *failure = Some(reason);
        }
        first
    });
}

async fn open_disk(
    config: &BrokerConfig,
    env: &Env,
    data_dir: &DataDir,
) -> Result<(Journal, LogStore), StartError> {
    let mut journal_config = JournalConfig::new(data_dir.journal_dir());
    journal_config.file_bytes = config.journal_file_bytes;
    let mut logs_config = LogStoreConfig::new(data_dir.partitions_dir());
    logs_config.tail_bytes_max = config.tail_bytes_max;
    logs_config.use_mmap = config.use_mmap;
    logs_config.open_files_max = config.open_files_max;
    let (disk, clock) = (env.disk.clone(), env.clock.clone());
    let open = move || {
        let journal = Journal::open(&disk, journal_config).map_err(StartError::Journal)?;
        let logs = LogStore::open(&disk, &clock, logs_config)
            .map_err(|error| StartError::Logs(error.to_string()))?;
        Ok((journal, logs))
    };
    tokio::task::spawn_blocking(open)
        .await
        .map_err(|error| StartError::Logs(format!("opening the disk panicked: {error}")))?
}

fn watch_disk(journal: &Journal, logs: &LogStore, failure: &watch::Sender<Option<String>>) {
    let journal_failure = failure.clone();
    journal.on_failure(Box::new(move |error| {
        fail(&journal_failure, error.to_string())
    }));
    let logs_failure = failure.clone();
    logs.on_failure(Box::new(move |error| {
        fail(&logs_failure, error.to_string())
    }));
}

async fn propose(
    shard: &Shard<CatalogueOutcome>,
    command: &Command,
) -> Result<CatalogueOutcome, BrokerError> {
    let op = raft::Op::control(command.encode());
    let pending = shard.submit(op).await.map_err(|error| refused(&error))?;
    match pending.await.map_err(|error| refused(&error))? {
        CatalogueOutcome::Refused(error) => Err(error),
        outcome => Ok(outcome),
    }
}

/// On an empty directory: names the cluster and lays out its shards, all on this node.
async fn found_cluster(
    shard: &Shard<CatalogueOutcome>,
    images: &watch::Receiver<Arc<Catalogue>>,
    config: &BrokerConfig,
    identity: &Identity,
) -> Result<(), StartError> {
    if !images.borrow().cluster_id.is_empty() {
        return Ok(());
    }
    let replicas = vec![identity.node_id];
    let shards = (0..=config.shards.max(1))
        .map(|id| ShardEntry::new(ShardId(id), replicas.clone(), Factor::Auto))
        .collect();
    let command = Command::Found {
        cluster_id: identity.cluster_id.clone(),
        shards,
        nodes: Vec::new(),
    };
    propose(shard, &command)
        .await
        .map_err(StartError::Catalogue)?;
    Ok(())
}

/// Opens this node's data shards, all at once.
async fn open_shards(
    host: &Host,
    (logs, directory, catch_up): (&LogStore, &Directory, &CatchUp),
    catalogue: &Catalogue,
    node: NodeId,
) -> Result<BTreeMap<ShardId, DataShard>, StartError> {
    let mine = catalogue
        .shards
        .values()
        .filter(|shard| shard.id != CATALOGUE_SHARD && shard.replicas.contains(&node));
    let open = |id: ShardId| {
        let machine = PartitionsMachine::new(id, logs.clone(), directory.clone());
        async move {
            let mut options = ShardOptions::founded_by([node]);
            options.stage = Some(Arc::new(catch_up.stager(id)));
            let shard = host.open_shard(id, machine, options).await?;
            let leadership = shard.leadership();
            Ok::<_, OpenError>((id, DataShard { shard, leadership }))
        }
    };
    let opened = futures_util::future::join_all(mine.map(|shard| open(shard.id))).await;
    Ok(opened.into_iter().collect::<Result<_, OpenError>>()?)
}

/// Puts directories of partitions that nobody knows aside; it deletes nothing.
async fn set_aside_unknown(logs: &LogStore, directory: &Directory) -> Result<(), StartError> {
    let known: HashSet<PartitionId> = directory
        .all()
        .iter()
        .map(|partition| partition.id)
        .collect();
    let logs = logs.clone();
    let aside = tokio::task::spawn_blocking(move || logs.set_aside_unknown(&known))
        .await
        .map_err(|error| StartError::Logs(error.to_string()))?
        .map_err(|error| StartError::Logs(error.to_string()))?;
    if aside > 0 {
        tracing::warn!(
            directories = aside,
            "put directories of unknown partitions aside"
        );
    }
    Ok(())
}

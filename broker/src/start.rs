//! How a broker starts: disk, cluster, catalogue, shards, tasks, in this order.
//!
//! What the directory holds is looked at before anything is made, so that what is missing can
//! still be put back. A node that has once had its catalogue comes up without its peers and serves
//! what it can; one that has just joined waits for the catalogue.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, RwLock, Weak};
use std::time::Duration;

use raft::{Host, HostConfig, OpenError, PeerIdentity, Peers, PeersConfig, Shard, ShardOptions};
use storage::clock::Clock;
use storage::data_dir::{DataDir, Identity, Returning};
use storage::journal::{Journal, JournalConfig, JournalError};
use storage::store::{LogStore, LogStoreConfig};
use storage::{LogId, NodeId, ShardId};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::bootstrap::marker::Marker;
use crate::bootstrap::shell::{Bootstrap, Settled, advertised};
use crate::broker::{Broker, CATALOGUE_SHARD, Inner, close_disk, fail, refused};
use crate::catalogue::command::Command;
use crate::catalogue::machine::{CatalogueMachine, Outcome};
use crate::catalogue::voids::Comeback;
use crate::catalogue::{Catalogue, Factor, Node, NodeState, Shard as ShardEntry};
use crate::coordinators::{Coordinators, GroupKind};
use crate::ids::Ids;
use crate::partition::Directory;
use crate::peers::book::Book;
use crate::peers::message::read_range;
use crate::peers::service::Desk;
use crate::producer_ids::ProducerIds;
use crate::returning::node::{Comer, Memory};
use crate::returning::run_end::RunEnd;
use crate::returning::stale::Return;
use crate::stage::{CatchUp, PeerRanges};
use crate::{BrokerConfig, BrokerError};

/// Bytes of one shard that may wait to be proposed. On a full disk this much, and what is in
/// flight, comes on top of what the segment writer holds.
const PENDING_BYTES_MAX: usize = 16 << 20;
/// Compressed batches that are unpacked for validation at the same time; with the largest size of
/// one it bounds the memory this takes.
const UNPACKING_MAX: usize = 4;
/// Look-ups by time that run at the same time; each may unpack a batch.
const SEARCHING_MAX: usize = 2;
/// Time between two lines of the log about a catalogue that does not come.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// What a node gives its broker: time, a disk and randomness.
#[derive(Debug, Clone)]
pub struct Env {
    /// Time.
    pub clock: Clock,
    /// The disk.
    pub disk: storage::disk::Disk,
    /// Seeds every id this node makes; another one on each node.
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
    #[error("cannot listen for other nodes: {0}")]
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
    /// The cluster does not take this node; the reason says the way out.
    #[error("{reason}")]
    Refused {
        /// Why, and what can be done.
        reason: String,
    },
    /// The directory is about to join a cluster and no seeds are given.
    #[error(
        "the data directory has begun to join a cluster: start it with the same --seeds again, or on an empty directory"
    )]
    JoinBegun,
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

/// Everything below a broker, while it is being put together.
struct Base {
    journal: Journal,
    logs: LogStore,
    failure: watch::Sender<Option<String>>,
    run_end: Arc<RunEnd>,
}

/// The catalogue's shard, and what came of it on this disk.
pub(crate) struct CatalogueShard {
    pub(crate) shard: Shard<Outcome>,
    pub(crate) images: watch::Receiver<Arc<Catalogue>>,
}

impl Broker {
    /// Starts over what the directory holds; an empty one founds a cluster of this node alone, or
    /// with seeds finds its cluster, which takes until the others are there. `peers` must be this
    /// broker's alone and is shut down with it. Returns when everything that is known here to be
    /// committed has been applied again, and where this node is the only one, when every shard
    /// takes operations.
    pub async fn start(
        config: BrokerConfig,
        env: Env,
        data_dir: DataDir,
        peers: Peers,
    ) -> Result<Broker, StartError> {
        let started = Box::pin(start(config, env, data_dir, &peers)).await;
        if started.is_err() {
            peers.shutdown().await;
        }
        started
    }

    /// Starts a broker that awaits other nodes on some port of the loopback interface: for tests
    /// and tools that need one node only.
    pub async fn start_alone(
        config: BrokerConfig,
        env: Env,
        data_dir: DataDir,
    ) -> Result<Broker, StartError> {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let peers = Peers::bind(PeersConfig::new(listen), env.clock.clone()).await?;
        Broker::start(config, env, data_dir, peers).await
    }
}

async fn start(
    config: BrokerConfig,
    env: Env,
    data_dir: DataDir,
    peers: &Peers,
) -> Result<Broker, StartError> {
    let mut ids = Ids::new(env.seed);
    let mut known = data_dir.identity().map_err(data_dir_error)?;
    let mut memory = Memory::look(&data_dir)?;
    if let Some(identity) = &known
        && !memory.has_to_put_aside(identity)
    {
        check_identity(identity, &config, &env, &data_dir)?;
    }
    let desk = Desk::new();
    peers.serve(Arc::new(desk.clone()));
    let comer = Comer {
        config: &config,
        clock: &env.clock,
        disk: &env.disk,
        data_dir: &data_dir,
        peers,
        desk: &desk,
        seed: env.seed,
    };
    let base = open_or_lose(&comer, &mut memory, &mut known, &env).await?;
    if let Err(error) = begin_run(&comer, &mut memory, known.as_ref(), &base) {
        close_disk(base.logs, base.journal).await;
        return Err(error);
    }
    let bootstrap = Bootstrap {
        config: &config,
        clock: &env.clock,
        data_dir: &data_dir,
        peers,
        desk: &desk,
    };
    let (journal, logs) = (base.journal.clone(), base.logs.clone());
    let begun = match (known, memory.returning.take()) {
        // An empty journal is made with an empty directory; this one is somebody's.
        (None, _) if !base.journal.shards().is_empty() => Err(StartError::IdentityMissing),
        (Some(identity), Some(returning)) => {
            come_back(&comer, identity, returning, (&config, &env, &base)).await
        }
        (known, _) => match bootstrap.settle(known, &mut ids).await {
            Ok(settled) => start_host(
                &config,
                &env,
                &data_dir,
                &base.journal,
                peers,
                &settled.identity,
            )
            .map(|host| Begun::settled(settled, host))
            .map_err(StartError::from),
            Err(error) => Err(error),
        },
    };
    let begun = match begun {
        Ok(begun) => begun,
        Err(error) => {
            close_disk(logs, journal).await;
            return Err(error);
        }
    };
    let stopping_host = begun.host.clone();
    introduce(peers, &begun.settled.identity);
    let assembled = assemble((config, env, data_dir, peers), begun, base, &desk).await;
    if assembled.is_err() {
        stopping_host.shutdown().await;
        close_disk(logs, journal).await;
    }
    assembled
}

/// A node that knows who it is, and its shards' host.
struct Begun {
    settled: Settled,
    host: Arc<Host>,
    returning: Option<Returning>,
    unanswered: Option<Returning>,
    /// The catalogue's shard, when it is open already.
    catalogue: Option<CatalogueShard>,
}

impl Begun {
    fn settled(settled: Settled, host: Arc<Host>) -> Begun {
        Begun {
            settled,
            host,
            returning: None,
            unanswered: None,
            catalogue: None,
        }
    }
}

fn data_dir_error(error: impl std::fmt::Display) -> StartError {
    StartError::DataDir(error.to_string())
}

/// Opens the disk, unless a checkpoint is damaged or gone: the journal is of no use without it.
async fn open_whole_disk(
    comer: &Comer<'_>,
    memory: &Memory,
    env: &Env,
) -> Result<Base, StartError> {
    let base = open_disk(comer.config, env, comer.data_dir, memory).await?;
    let (journal, disk) = (base.journal.clone(), env.disk.clone());
    let dir = comer.data_dir.shards_dir();
    let checking = net::blocking(move || raft::check_checkpoints(&journal, &disk, &dir)).await;
    match checking {
        Ok(Err(error)) if error.is_damage() => {
            close_disk(base.logs, base.journal).await;
            Err(error.into())
        }
        // Whatever else is wrong shows when the shard is opened.
        Ok(_) => Ok(base),
        Err(panicked) => Err(StartError::Logs(format!(
            "reading the checkpoints panicked: {panicked}"
        ))),
    }
}

/// Opens the disk. Where the journal or a checkpoint is damaged, or was when the node began to come
/// back, that takes until the cluster has taken the node back without it.
async fn open_or_lose(
    comer: &Comer<'_>,
    memory: &mut Memory,
    known: &mut Option<Identity>,
    env: &Env,
) -> Result<Base, StartError> {
    let opened = match known
        .as_ref()
        .filter(|known| memory.has_to_put_aside(known))
    {
        Some(_) => Err(StartError::Journal(JournalError::Closed)),
        None => open_whole_disk(comer, memory, env).await,
    };
    let is_lost = |error: &StartError| match error {
        StartError::Journal(JournalError::Corrupt { .. } | JournalError::Closed) => true,
        StartError::Shard(error) => error.is_damage(),
        _ => false,
    };
    match (opened, known.take()) {
        (Err(damage), Some(identity)) if is_lost(&damage) => {
            *known = Some(comer.lose_all(memory, identity, damage).await?);
            open_disk(comer.config, env, comer.data_dir, memory).await
        }
        (opened, identity) => {
            *known = identity;
            opened
        }
    }
}

/// Notes what this run may have forgotten, and then that it has begun.
fn begin_run(
    comer: &Comer<'_>,
    memory: &mut Memory,
    known: Option<&Identity>,
    base: &Base,
) -> Result<(), StartError> {
    if let Some(identity) = known {
        comer.note_forgotten(memory, identity, base.journal.shards())?;
    }
    let begun = comer.data_dir.begin_run(comer.config.durability);
    begun.map_err(data_dir_error)?;
    if base.failure.borrow().is_some() {
        // That was before this run was noted.
        base.run_end.note_failed();
    }
    Ok(())
}

/// Starts a node that lost its memory as far as the cluster lets it.
async fn come_back(
    comer: &Comer<'_>,
    identity: Identity,
    returning: Returning,
    (config, env, base): (&BrokerConfig, &Env, &Base),
) -> Result<Begun, StartError> {
    let (journal, data_dir) = (&base.journal, comer.data_dir);
    let host = start_host(config, env, data_dir, journal, comer.peers, &identity)?;
    let back = match comer.come_back(&host, identity, returning).await {
        Ok(back) => back,
        Err(error) => {
            host.shutdown().await;
            return Err(error);
        }
    };
    Ok(Begun {
        settled: Settled {
            identity: back.identity,
            marker: None,
            members: back.members,
        },
        host,
        returning: back.returning,
        unanswered: back.unanswered,
        catalogue: back.catalogue,
    })
}

type Given<'a> = (BrokerConfig, Env, DataDir, &'a Peers);

async fn assemble(
    (config, env, data_dir, peers): Given<'_>,
    begun: Begun,
    base: Base,
    desk: &Desk,
) -> Result<Broker, StartError> {
    let Begun {
        settled,
        host,
        mut returning,
        unanswered,
        catalogue,
    } = begun;
    let identity = settled.identity;
    let node = identity.node_id;
    let catalogue = match catalogue {
        Some(catalogue) => catalogue,
        None => open_catalogue(&host, &settled.marker, &identity).await?,
    };
    let CatalogueShard { shard, mut images } = catalogue;
    let has_others = {
        let members = shard.members().borrow().clone();
        members.voters.iter().any(|voter| *voter != node)
    };
    if returning.is_none() {
        check_history(
            &identity,
            (&settled.marker, has_others),
            &images.borrow(),
            &env,
            &data_dir,
        )?;
    }
    let book = Book::new(settled.members, &images.borrow());
    book.tell(peers, &images.borrow());
    let listeners = advertised(&config, peers);
    match settled.marker {
        Some(Marker::Founding(_)) => {
            let own = Node {
                id: node,
                incarnation: identity.incarnation,
                rack: config.rack.clone(),
                listeners: listeners.clone(),
                state: NodeState::Active,
            };
            found_cluster(&shard, &images, &config, &identity, own).await?;
        }
        Some(Marker::Joining(_)) => {
            await_catalogue(&mut images, &identity).await?;
            // So that the next start has it without the others.
            if let Err(error) = shard.checkpoint().await {
                tracing::warn!(%error, "the catalogue is not in a checkpoint yet");
            }
        }
        None => {}
    }
    if let Some(returning) = &mut returning {
        await_return(&shard, &mut images, &identity, returning).await?;
        if let Err(error) = shard.checkpoint().await {
            tracing::warn!(%error, "the catalogue is not in a checkpoint yet");
        }
        data_dir.set_returning(returning).map_err(data_dir_error)?;
    }
    if settled.marker.is_some() {
        data_dir
            .clear_joining()
            .map_err(|error| StartError::DataDir(error.to_string()))?;
    }
    // The term is new at each start of a single node, also within one process, and the incarnation
    // is one node's alone: so is every id from here on.
    let mut seed = env.seed;
    seed[0] ^= shard.leadership().borrow().term.0;
    let (half, _) = identity.incarnation.split_at(8);
    seed[1] ^= half.iter().fold(0, |all, byte| all << 8 | u64::from(*byte));
    if !shard.leadership().borrow().serving {
        seed[2] ^= env.clock.wall_ms().unsigned_abs();
    }
    let directory = Directory::new(images.clone());
    let catch_up = CatchUp::new(
        directory.clone(),
        base.logs.clone(),
        Arc::new(PeerRanges::new(peers.clone(), read_range)),
        (config.catch_up_bytes_per_second, env.clock.clone()),
    );
    let broker = Broker {
        inner: Arc::new(Inner {
            node,
            identity: identity.clone(),
            clock: env.clock,
            disk: env.disk,
            ids: Mutex::new(Ids::new(seed)),
            journal: base.journal,
            logs: base.logs,
            host,
            accepts_loss: (returning.as_ref())
                .is_some_and(|returning| config.accept_power_loss || returning.is_accepted),
            unanswered,
            returning: Return::new(returning),
            links: peers.links(),
            peers: peers.clone(),
            catalogue_shard: shard,
            images,
            directory,
            catch_up,
            shards: RwLock::default(),
            view: Mutex::default(),
            stalls: Mutex::default(),
            listeners: watch::Sender::new(listeners),
            administration: tokio::sync::Mutex::new(()),
            producer_ids: ProducerIds::default(),
            quota_usage: Mutex::default(),
            groups: Arc::new(Coordinators::new(GroupKind::new(config.groups.clone()))),
            unpacking: Semaphore::new(UNPACKING_MAX),
            searching: Semaphore::new(SEARCHING_MAX),
            waiting_fetches: AtomicUsize::new(0),
            changes: watch::Sender::new(0),
            failure: base.failure,
            run_end: base.run_end,
            stopping: watch::Sender::new(false),
            tasks: tokio::sync::Mutex::new(JoinSet::new()),
            config: BrokerConfig {
                node_id: Some(node),
                ..config
            },
            data_dir,
        }),
    };
    if broker.is_waiting_in(CATALOGUE_SHARD) {
        // It takes part in the catalogue all the same: it has waited long enough.
        broker.accept_loss().await.map_err(StartError::Catalogue)?;
    }
    broker.open_shards().await?;
    broker.set_aside_unknown().await?;
    broker.inner.logs.note_recovered();
    desk.set_broker(identity, &broker);
    broker.spawn_tasks(book).await;
    Ok(broker)
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

/// An empty catalogue is right only while this node founds its cluster, or has just joined it:
/// then there are no partitions.
fn check_history(
    identity: &Identity,
    (marker, has_others): (&Option<Marker>, bool),
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
    if marker.is_none() && has_others {
        // It is in the journal, and is read once a leader says how much of it is committed.
        return Ok(());
    }
    if marker.is_none() {
        return Err(data_missing(identity, "no catalogue"));
    }
    match env.disk.read_dir(&data_dir.partitions_dir()) {
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

async fn open_disk(
    config: &BrokerConfig,
    env: &Env,
    data_dir: &DataDir,
    memory: &Memory,
) -> Result<Base, StartError> {
    let mut journal_config = JournalConfig::new(data_dir.journal_dir());
    journal_config.file_bytes = config.journal_file_bytes;
    journal_config.durability = config.durability;
    // Who the members are, and who has come back, is never forgotten.
    journal_config.always_synced = Some(CATALOGUE_SHARD);
    journal_config.keeps_written = memory.keeps_written();
    let mut logs_config = LogStoreConfig::new(data_dir.partitions_dir());
    logs_config.tail_bytes_max = config.tail_bytes_max;
    logs_config.use_mmap = config.use_mmap;
    logs_config.open_files_max = config.open_files_max;
    // A checkpoint says up to where logs are sound, and lets the journal before it go: they are
    // synced before it is written, in every mode.
    let (disk, clock) = (env.disk.clone(), env.clock.clone());
    let open = move || {
        let journal = Journal::open(&disk, journal_config).map_err(StartError::Journal)?;
        let logs = LogStore::open(&disk, &clock, logs_config)
            .map_err(|error| StartError::Logs(error.to_string()))?;
        Ok::<_, StartError>((journal, logs))
    };
    let opened = net::blocking(open).await;
    let (journal, logs) = opened
        .map_err(|error| StartError::Logs(format!("opening the disk panicked: {error}")))??;
    let failure = watch::Sender::new(None);
    let is_relaxed = config.durability.is_relaxed();
    let run_end = Arc::new(RunEnd::new(data_dir.clone(), is_relaxed));
    // Whoever still has the journal or the logs does not keep the directory locked by it.
    let noting = |failure: watch::Sender<Option<String>>, run_end: Weak<RunEnd>| {
        move |reason: String| {
            if let Some(run_end) = run_end.upgrade() {
                run_end.note_failed();
            }
            fail(&failure, reason);
        }
    };
    let journal_failed = noting(failure.clone(), Arc::downgrade(&run_end));
    journal.on_failure(Box::new(move |error| journal_failed(error.to_string())));
    let logs_failed = noting(failure.clone(), Arc::downgrade(&run_end));
    logs.on_failure(Box::new(move |error| logs_failed(error.to_string())));
    Ok(Base {
        journal,
        logs,
        failure,
        run_end,
    })
}

/// From now on others are told who this node is, and it is reached.
fn introduce(peers: &Peers, identity: &Identity) {
    peers.set_identity(PeerIdentity {
        cluster_id: identity.cluster_id.clone(),
        node: identity.node_id,
        incarnation: identity.incarnation,
    });
}

fn start_host(
    config: &BrokerConfig,
    env: &Env,
    data_dir: &DataDir,
    journal: &Journal,
    peers: &Peers,
    identity: &Identity,
) -> Result<Arc<Host>, raft::HostError> {
    let mut host_config = HostConfig::new(identity.node_id, data_dir.shards_dir());
    host_config.checkpoint_journal_bytes = config.checkpoint_journal_bytes;
    host_config.pending_bytes_max = PENDING_BYTES_MAX;
    host_config.heartbeat_ms = config.heartbeat_ms;
    host_config.election_ms_min = config.election_ms_min;
    host_config.election_ms_max = config.election_ms_max;
    let host = Host::start(
        host_config,
        env.disk.clone(),
        env.clock.clone(),
        journal.clone(),
        peers.clone(),
    )?;
    Ok(Arc::new(host))
}

pub(crate) async fn open_catalogue(
    host: &Host,
    marker: &Option<Marker>,
    identity: &Identity,
) -> Result<CatalogueShard, StartError> {
    let (machine, images) = CatalogueMachine::new();
    let options = match marker {
        Some(Marker::Founding(_)) => ShardOptions::founded_by([identity.node_id]),
        Some(Marker::Joining(_)) | None => ShardOptions {
            founders: None,
            stage: None,
        },
    };
    let shard = host.open_shard(CATALOGUE_SHARD, machine, options).await?;
    Ok(CatalogueShard { shard, images })
}

/// Names the cluster and lays out its first shards, all on this node.
async fn found_cluster(
    shard: &Shard<Outcome>,
    images: &watch::Receiver<Arc<Catalogue>>,
    config: &BrokerConfig,
    identity: &Identity,
    own: Node,
) -> Result<(), StartError> {
    if !images.borrow().cluster_id.is_empty() {
        return Ok(());
    }
    let new = |id| ShardEntry::new(ShardId(id), vec![own.id], Factor::Auto);
    let command = Command::Found {
        cluster_id: identity.cluster_id.clone(),
        shards: (0..=config.shards.max(1)).map(new).collect(),
        nodes: vec![own.clone()],
    };
    let op = raft::Op::control(command.encode());
    let done = async { shard.submit(op).await?.await };
    match done.await.map_err(|error| refused(&error)) {
        Ok(Outcome::Refused(error)) | Err(error) => Err(StartError::Catalogue(error)),
        Ok(_) => Ok(()),
    }
}

/// Waits until a node that has joined has the catalogue with itself in it.
async fn await_catalogue(
    images: &mut watch::Receiver<Arc<Catalogue>>,
    identity: &Identity,
) -> Result<(), StartError> {
    loop {
        let is_there = |catalogue: &Arc<Catalogue>| catalogue.nodes.contains_key(&identity.node_id);
        match tokio::time::timeout(LOG_INTERVAL, images.wait_for(is_there)).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(_)) => return Err(StartError::Catalogue(BrokerError::ShuttingDown)),
            Err(_) => tracing::info!(
                cluster_id = identity.cluster_id,
                "waiting for the catalogue from the other nodes"
            ),
        }
    }
}

/// Waits until a node that came back has a catalogue that knows of it; tells the catalogue itself
/// where it alone votes for it.
async fn await_return(
    shard: &Shard<Outcome>,
    images: &mut watch::Receiver<Arc<Catalogue>>,
    identity: &Identity,
    returning: &mut Returning,
) -> Result<(), StartError> {
    let (node, drawn) = (identity.node_id, returning.incarnation);
    loop {
        let is_alone = shard.members().borrow().voters.iter().eq([&node]);
        let is_told = images.borrow().has_returned(node, drawn);
        if is_alone && !is_told && shard.leadership().borrow().serving {
            let comeback = Comeback {
                node,
                before: identity.incarnation,
                incarnation: drawn,
                keeps_incarnation: true,
                lost_all: returning.has_lost_all,
            };
            let op = raft::Op::control(Command::Return(comeback).encode());
            let done = async { shard.submit(op).await?.await };
            if let Ok(Outcome::Refused(error)) = done.await.map_err(|error| refused(&error)) {
                return Err(StartError::Catalogue(error));
            }
        }
        let knows = |catalogue: &Arc<Catalogue>| catalogue.has_returned(node, drawn);
        match tokio::time::timeout(LOG_INTERVAL, images.wait_for(knows)).await {
            Ok(Ok(_)) => break,
            Ok(Err(_)) => return Err(StartError::Catalogue(BrokerError::ShuttingDown)),
            Err(_) => tracing::info!(
                cluster_id = identity.cluster_id,
                "waiting for a catalogue in which this node has come back"
            ),
        }
    }
    returning.is_answered = true;
    Ok(())
}

impl Broker {
    /// Puts directories of partitions that nobody knows aside; it deletes nothing. Only where this
    /// node is the only replica everything is known at the start: elsewhere a directory may belong
    /// to a partition whose entry is applied when the shard has a leader.
    async fn set_aside_unknown(&self) -> Result<(), StartError> {
        let is_alone = |members: &raft::Members| members.voters.len() <= 1;
        let catalogue_alone = is_alone(&self.inner.catalogue_shard.members().borrow());
        let shards = self.shards();
        let all_alone = shards
            .iter()
            .all(|(_, shard)| is_alone(&shard.shard.members().borrow()));
        if !catalogue_alone || !all_alone {
            return Ok(());
        }
        let known: HashSet<LogId> = self
            .inner
            .directory
            .all()
            .iter()
            .map(|partition| partition.log.id())
            .collect();
        let logs = self.inner.logs.clone();
        let aside = net::blocking(move || logs.set_aside_unknown(&known))
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
}

//! All shards of a node, on the one thread that also carries the connections to its peers.
//!
//! One thread, because waking another costs more than the work handed over. It never waits for a
//! disk: the journal has its own thread, checkpoints and cold reads run on blocking threads.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use storage::clock::Clock;
use storage::disk::Disk;
use storage::journal::Journal;
use storage::{NodeId, ShardId};
use tokio::runtime::Handle;
use tokio::sync::{RwLock, watch};

use crate::beat::Beat;
use crate::group::{self, CloseMode, Group, Wire};
use crate::peer::Peers;
use crate::status::{End, Status};
use crate::store::Log;
use crate::tombstone::Floor;
use crate::wire::PeerWire;
use crate::{
    Apply, DestroyError, HostConfig, HostError, HostFailure, OpenError, Shard, ShardOptions,
};

/// All shards of a node, on its peers' thread. Dropping it without [`Host::shutdown`] stops
/// everything where it is, as a crash would.
pub struct Host {
    /// Keeps the thread alive; `shared` must not, since what runs there holds it.
    peers: Peers,
    shared: Arc<Shared>,
    handle: Handle,
    shards: Arc<Shards>,
}

/// The shards that are open or being opened.
#[derive(Default)]
struct Shards {
    /// Held for reading while a shard is opened, for writing to close them all.
    opening: Arc<RwLock<()>>,
    closing: AtomicBool,
    open: Mutex<BTreeMap<ShardId, Option<Close>>>,
}

/// Closes one shard.
type Close = Box<dyn FnOnce(CloseMode) -> BoxFuture<'static, ()> + Send>;

/// What the shards of a host share.
pub(crate) struct Shared {
    pub(crate) config: HostConfig,
    pub(crate) disk: Disk,
    pub(crate) clock: Clock,
    pub(crate) journal: Journal,
    pub(crate) peers: Peers,
    /// Where stagings run.
    pub(crate) ambient: Handle,
    /// When leaders send heartbeats, and followers look whether they hear them.
    pub(crate) beat: Beat,
    /// Bytes appended by all shards since the start.
    pub(crate) node_bytes: Arc<AtomicU64>,
    failed: watch::Sender<Option<HostFailure>>,
    members: Mutex<Vec<(Weak<Status>, Log)>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Makes a shard known to [`Shared::pace`] and to a failure of the journal.
    pub(crate) fn enlist(&self, status: &Arc<Status>, log: &Log) {
        let mut members = locked(&self.members);
        members.retain(|(status, _)| status.strong_count() > 0);
        members.push((Arc::downgrade(status), log.clone()));
    }

    fn members(&self) -> Vec<(Arc<Status>, Log)> {
        locked(&self.members)
            .iter()
            .filter_map(|(status, log)| Some((status.upgrade()?, log.clone())))
            .collect()
    }

    /// Lets idle shards notice what the others have written.
    pub(crate) fn pace(&self) {
        for (status, log) in self.members() {
            status.pace(log.appended_bytes());
        }
    }

    /// Says that the host no longer serves. The first reason stands.
    pub(crate) fn fail(&self, failure: HostFailure) {
        let first = self.failed.send_if_modified(|held| {
            let first = held.is_none();
            held.get_or_insert(failure);
            first
        });
        if first {
            tracing::error!(%failure, "the raft host failed; the node must start over from disk");
        }
    }

    fn journal_failed(&self) {
        for (status, _) in self.members() {
            status.end(End::JournalFailed);
        }
        self.fail(HostFailure::Journal);
    }
}

impl Host {
    /// Takes up work on the thread of `peers`, which must outlive it, as must the journal; the
    /// journal's failure ends every shard. Stagings run on the runtime in which this is called.
    ///
    /// # Errors
    /// A setting out of range, or no checkpoint directory.
    pub fn start(
        config: HostConfig,
        disk: Disk,
        clock: Clock,
        journal: Journal,
        peers: Peers,
    ) -> Result<Host, HostError> {
        config.validate()?;
        create_dir(&disk, &config.checkpoint_dir).map_err(HostError::CheckpointDir)?;
        let handle = peers.handle();
        let beat = Beat::start(&handle, Duration::from_millis(config.heartbeat_ms));
        let shared = Arc::new(Shared {
            beat,
            config,
            disk,
            clock,
            journal,
            peers: peers.unowned(),
            ambient: Handle::try_current().unwrap_or_else(|_| handle.clone()),
            node_bytes: Arc::default(),
            failed: watch::Sender::new(None),
            members: Mutex::default(),
        });
        let failing = Arc::downgrade(&shared);
        shared.journal.on_failure(Box::new(move |_error| {
            if let Some(shared) = failing.upgrade() {
                shared.journal_failed();
            }
        }));
        Ok(Host {
            peers,
            shared,
            handle,
            shards: Arc::default(),
        })
    }

    /// Opens a shard on what the disk holds of it; see [`ShardOptions`] for one of which it holds
    /// nothing. Returns once everything known to be committed has been applied again, and when this
    /// node is the only voter, once the shard takes operations. Several may be opened at once.
    ///
    /// # Errors
    /// See [`OpenError`]; the shard is not open then.
    pub async fn open_shard<A: Apply>(
        &self,
        shard: ShardId,
        machine: A,
        options: ShardOptions,
    ) -> Result<Shard<A::Outcome>, OpenError> {
        let wire = PeerWire::new(&self.shared, shard, options.stage);
        self.open(shard, machine, wire, options.founders).await
    }

    /// Opens a shard with the given way to its other replicas.
    pub(crate) async fn open<A, W>(
        &self,
        shard: ShardId,
        machine: A,
        wire: W,
        founders: Option<BTreeSet<NodeId>>,
    ) -> Result<Shard<A::Outcome>, OpenError>
    where
        A: Apply,
        W: Wire<A>,
    {
        let opening = Arc::clone(&self.shards.opening).read_owned().await;
        if self.shards.closing.load(Ordering::SeqCst) {
            return Err(OpenError::ShuttingDown);
        }
        if !self.reserve(shard) {
            return Err(OpenError::AlreadyOpen { shard });
        }
        let (shared, shards) = (Arc::clone(&self.shared), Arc::clone(&self.shards));
        let opened = self.handle.spawn(async move {
            let _opening = opening;
            let opened = group::open(&shared, shard, machine, wire, founders).await;
            let mut open = locked(&shards.open);
            match opened {
                Ok((group, handle)) => {
                    open.insert(
                        shard,
                        Some(Box::new(move |mode| close(group, mode).boxed())),
                    );
                    Ok(handle)
                }
                Err(error) => {
                    open.remove(&shard);
                    Err(error)
                }
            }
        });
        opened.await.unwrap_or_else(|_| {
            locked(&self.shards.open).remove(&shard);
            Err(OpenError::Failed { shard })
        })
    }

    /// Takes the shard's place in the table; false when it is taken.
    fn reserve(&self, shard: ShardId) -> bool {
        let mut open = locked(&self.shards.open);
        let is_free = !open.contains_key(&shard);
        if is_free {
            open.insert(shard, None);
        }
        is_free
    }

    /// Closes one shard in order, if it is open: lets what is in flight land and makes a last
    /// checkpoint. Its place is free when this returns.
    pub async fn close_shard(&self, shard: ShardId) {
        self.end_shard(shard, CloseMode::Orderly).await;
    }

    /// Forgets one shard: closes it, deletes its checkpoint and everything the journal holds of it.
    /// Never to be called but on a committed decision that this node holds no replica of it. May be
    /// repeated; a shard that was forgotten half-way is forgotten whole when it is opened again.
    ///
    /// # Errors
    /// The shard is being opened or closed, or the disk failed; then call again.
    pub async fn destroy_shard(&self, shard: ShardId) -> Result<(), DestroyError> {
        let _opening = Arc::clone(&self.shards.opening).read_owned().await;
        self.end_shard(shard, CloseMode::Abrupt).await;
        if !self.reserve(shard) {
            return Err(DestroyError::Busy { shard });
        }
        let shared = Arc::clone(&self.shared);
        let destroyed = self
            .handle
            .spawn(async move { group::destroy(&shared, shard).await })
            .await;
        locked(&self.shards.open).remove(&shard);
        destroyed
            .map_err(io::Error::other)
            .and_then(|destroyed| destroyed)
            .map_err(|source| DestroyError::Storage { shard, source })
    }

    /// Makes a shard that is not open, and of which nothing is left here, remember this when it is
    /// opened. Does nothing to one that has been opened since it forgot. May be repeated.
    ///
    /// # Errors
    /// The shard is open, or the disk failed.
    pub async fn raise_floor(&self, shard: ShardId, floor: Floor) -> Result<(), DestroyError> {
        let _opening = Arc::clone(&self.shards.opening).read_owned().await;
        if !self.reserve(shard) {
            return Err(DestroyError::Busy { shard });
        }
        let shared = Arc::clone(&self.shared);
        let raised = net::blocking(move || group::raise_floor(&shared, shard, floor)).await;
        locked(&self.shards.open).remove(&shard);
        raised
            .map_err(io::Error::other)
            .and_then(|raised| raised)
            .map_err(|source| DestroyError::Storage { shard, source })
    }

    async fn end_shard(&self, shard: ShardId, mode: CloseMode) {
        let close = locked(&self.shards.open)
            .get_mut(&shard)
            .and_then(Option::take);
        let Some(close) = close else { return };
        if let Err(error) = self.handle.spawn(close(mode)).await {
            tracing::error!(shard = shard.0, %error, "a shard did not close");
        }
        locked(&self.shards.open).remove(&shard);
    }

    /// Shows why the host stopped serving, once it has: the node then starts over from disk.
    #[must_use]
    pub fn failed(&self) -> watch::Receiver<Option<HostFailure>> {
        self.shared.failed.subscribe()
    }

    /// Closes every shard: refuses what is not yet proposed, waits for what is in flight and makes
    /// a last checkpoint. Later calls return at once.
    pub async fn shutdown(&self) {
        self.shards.closing.store(true, Ordering::SeqCst);
        let _none_is_opening = self.shards.opening.write().await;
        let open = std::mem::take(&mut *locked(&self.shards.open));
        let closing = open
            .into_values()
            .flatten()
            .map(|close| self.handle.spawn(close(CloseMode::Orderly)));
        for closed in join_all(closing).await {
            if let Err(error) = closed {
                tracing::error!(%error, "a shard did not close");
            }
        }
    }
}

/// Makes a directory and makes its name durable, and those of its ancestors that it made.
fn create_dir(disk: &Disk, path: &Path) -> io::Result<()> {
    let mut made = Vec::new();
    for dir in path
        .ancestors()
        .take_while(|dir| !dir.as_os_str().is_empty())
    {
        if disk.exists(dir)? {
            break;
        }
        made.push(dir);
    }
    disk.create_dir_all(path)?;
    let parents = made.into_iter().filter_map(Path::parent);
    parents
        .map(|parent| {
            if parent.as_os_str().is_empty() {
                Path::new(".")
            } else {
                parent
            }
        })
        .try_for_each(|parent| disk.sync_dir(parent))
}

async fn close<A: Apply>(group: Group<A>, mode: CloseMode) {
    group.close(mode).await;
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open: Vec<ShardId> = locked(&self.shards.open).keys().copied().collect();
        f.debug_struct("Host")
            .field("node", &self.shared.config.node)
            .field("peers", &self.peers.local_addr())
            .field("shards", &open)
            .finish()
    }
}

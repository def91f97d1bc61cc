//! A node's raft thread: one current-thread runtime that carries all its shards.
//!
//! One thread, because waking another costs more than the work handed over. It never waits for a
//! disk: the journal has its own thread, checkpoints and cold reads run on blocking threads.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use openraft::network::{NetSnapshot, RaftNetworkFactory};
use storage::ShardId;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::journal::Journal;
use tokio::runtime::Handle;
use tokio::sync::{RwLock, oneshot, watch};

use crate::group::{self, Group, GroupRaft};
use crate::network::Nobody;
use crate::snapshot::Manifest;
use crate::status::{End, Status};
use crate::store::Log;
use crate::types::Types;
use crate::{Apply, HostConfig, HostError, HostFailure, OpenError, Shard};

/// Threads for checkpoints and cold reads.
const BLOCKING_THREADS_MAX: usize = 8;
/// How long the end of the thread waits for blocking work that was started.
const BLOCKING_MAX: Duration = Duration::from_secs(10);

/// All shards of a node, on one thread. Dropping it without [`Host::shutdown`] stops everything
/// where it is, as a crash would.
pub struct Host {
    shared: Arc<Shared>,
    handle: Handle,
    shards: Arc<Shards>,
    thread: Mutex<Option<Thread>>,
}

struct Thread {
    stop: oneshot::Sender<()>,
    handle: JoinHandle<()>,
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
type Close = Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>;

/// What the shards of a host share.
pub(crate) struct Shared {
    pub(crate) config: HostConfig,
    pub(crate) disk: Disk,
    pub(crate) clock: Clock,
    pub(crate) journal: Journal,
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
    /// Starts the thread. The journal must be open and outlive the host; its failure ends every
    /// shard.
    ///
    /// # Errors
    /// A setting out of range, or no thread or checkpoint directory.
    pub fn start(
        config: HostConfig,
        disk: Disk,
        clock: Clock,
        journal: Journal,
    ) -> Result<Host, HostError> {
        config.validate()?;
        create_dir(&disk, &config.checkpoint_dir).map_err(HostError::CheckpointDir)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("raft-blocking")
            .build()
            .map_err(HostError::Thread)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new()
            .name("raft".to_owned())
            .spawn(move || {
                // Ends when told to, or when the host is dropped.
                let _ = runtime.block_on(stopped);
                runtime.shutdown_timeout(BLOCKING_MAX);
            })
            .map_err(HostError::Thread)?;
        let shared = Arc::new(Shared {
            config,
            disk,
            clock,
            journal,
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
            shared,
            handle,
            shards: Arc::default(),
            thread: Mutex::new(Some(Thread {
                stop,
                handle: thread,
            })),
        })
    }

    /// Opens a shard of which this node is the only voter, creating it when the journal knows
    /// nothing of it. Returns once everything committed before has been applied again and the shard
    /// takes operations. Several shards may be opened at once.
    ///
    /// # Errors
    /// See [`OpenError`]; the shard is not open then.
    pub async fn open_shard<A: Apply>(
        &self,
        shard: ShardId,
        machine: A,
    ) -> Result<Shard<A::Outcome>, OpenError> {
        let voters = BTreeSet::from([u64::from(self.shared.config.node.0)]);
        self.open_group(shard, machine, Nobody, voters, |_| ())
            .await
    }

    /// Opens a shard with the given members and transport; see [`group::open`].
    pub(crate) async fn open_group<A, N>(
        &self,
        shard: ShardId,
        machine: A,
        network: N,
        voters: BTreeSet<u64>,
        attach: impl FnOnce(GroupRaft<A>) + Send + 'static,
    ) -> Result<Shard<A::Outcome>, OpenError>
    where
        A: Apply,
        N: RaftNetworkFactory<Types>,
        N::Network: NetSnapshot<Types, SnapshotData = Manifest>,
    {
        let opening = Arc::clone(&self.shards.opening).read_owned().await;
        if self.shards.closing.load(Ordering::SeqCst) {
            return Err(OpenError::ShuttingDown);
        }
        {
            let mut open = locked(&self.shards.open);
            if open.contains_key(&shard) {
                return Err(OpenError::AlreadyOpen { shard });
            }
            open.insert(shard, None);
        }
        let (shared, shards) = (Arc::clone(&self.shared), Arc::clone(&self.shards));
        let opened = self.handle.spawn(async move {
            let _opening = opening;
            let opened = group::open(&shared, shard, machine, network, voters, attach).await;
            let mut open = locked(&shards.open);
            match opened {
                Ok((group, handle)) => {
                    open.insert(shard, Some(Box::new(move || close(group).boxed())));
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

    /// Shows why the host stopped serving, once it has: the node then starts over from disk.
    #[must_use]
    pub fn failed(&self) -> watch::Receiver<Option<HostFailure>> {
        self.shared.failed.subscribe()
    }

    /// Closes every shard: refuses what is not yet proposed, waits for what is in flight, makes a
    /// last checkpoint, and ends the thread. Later calls return at once.
    pub async fn shutdown(&self) {
        self.shards.closing.store(true, Ordering::SeqCst);
        let _none_is_opening = self.shards.opening.write().await;
        let open = std::mem::take(&mut *locked(&self.shards.open));
        let closing = open
            .into_values()
            .flatten()
            .map(|close| self.handle.spawn(close()));
        for closed in join_all(closing).await {
            if let Err(error) = closed {
                tracing::error!(%error, "a shard did not close");
            }
        }
        self.stop();
    }

    fn stop(&self) {
        let Some(thread) = locked(&self.thread).take() else {
            return;
        };
        // The thread may have ended by itself.
        let _ = thread.stop.send(());
        let inside = std::thread::current().id() == thread.handle.thread().id();
        if !inside && thread.handle.join().is_err() {
            tracing::error!("the raft thread panicked");
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

async fn close<A: Apply>(group: Group<A>) {
    group.close().await;
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open: Vec<ShardId> = locked(&self.shards.open).keys().copied().collect();
        f.debug_struct("Host")
            .field("node", &self.shared.config.node)
            .field("shards", &open)
            .finish()
    }
}

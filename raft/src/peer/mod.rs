//! The transport between nodes: who is linked with whom, and requests, streams and their answers.
//!
//! [`Peers`] owns the node's raft thread, one current-thread runtime that carries control and data
//! connections and all shards; bulk connections and the [`PeerService`] run on the runtime that
//! bound it. Each node dials three connections to each other member and serves those that the
//! others dial. Nothing here knows what a request means. Everything that waits is bounded: bytes
//! in flight per peer and per stream, requests in hand per connection, connections.

mod accept;
mod config;
mod dial;
mod error;
mod frame;
mod hello;
mod link;
mod members;
mod outbox;
mod serve;
mod service;
mod socket;
mod stream;
#[cfg(test)]
mod tests;
mod throttle;
mod tls;
mod twins;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use net::{RuntimeThread, TcpListener};
use storage::clock::Clock;
use storage::{NodeId, ShardId};
use tokio::runtime::Handle;
use tokio::sync::{broadcast, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;

pub use config::{Lane, PeerIdentity, PeerMember, PeerTls, PeersConfig};
pub use error::{AskError, LinkError, PeersError, Refusal, RefusedReason, TlsError};
pub use service::{Caller, PeerService};

pub(crate) use error::CallError;
pub(crate) use serve::StreamAnswers;
pub(crate) use service::{Attachment, Receive};
pub(crate) use stream::{StreamAnswersReceiver, StreamSender};

use accept::Door;
use dial::Link;
use frame::Kind;
use hello::Hello;
use link::Connection;
use members::Book;
use service::Attached;
use tls::Tls;

/// Threads of the raft thread's runtime for the shards' checkpoints and cold reads. The thread itself
/// never waits for a disk.
const BLOCKING_THREADS_MAX: usize = 8;
/// How long the end of the raft thread waits for blocking work that was started.
const BLOCKING_MAX: Duration = Duration::from_secs(10);
/// Members that may be gone and not yet heard of by a slow listener; it then misses the oldest.
const GONE_MAX: usize = 64;

/// State of the link to one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkState {
    /// The control connection stands.
    pub connected: bool,
    /// [`Clock::monotonic_ms`] of the last change of `connected`.
    pub since_ms: i64,
    /// Why the peer does not let this node in, when that is what the last dial ended with.
    pub refused: Option<Refusal>,
}

/// The node's side of all links. Cheap to clone. Dropping the last clone without
/// [`Peers::shutdown`] stops everything where it is, as a crash would.
#[derive(Debug, Clone)]
pub struct Peers {
    shared: Arc<Shared>,
    /// Never held by what runs on the raft thread, which would keep itself alive.
    owner: Option<Arc<Owner>>,
}

/// Ends everything when the last [`Peers`] is dropped.
#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    thread: RuntimeThread,
}

/// What all connections of a node share.
struct Shared {
    config: PeersConfig,
    clock: Clock,
    tls: Option<Tls>,
    local_addr: SocketAddr,
    raft: Handle,
    ambient: Handle,
    book: Mutex<Book>,
    service: Mutex<Option<Arc<dyn PeerService>>>,
    shards: Mutex<HashMap<ShardId, Attached>>,
    door: Door,
    members: Mutex<Linked>,
    links: watch::Sender<BTreeMap<NodeId, LinkState>>,
    gone: broadcast::Sender<NodeId>,
    stopped: AtomicBool,
}

/// The links to the members, and the task that accepts theirs.
#[derive(Debug, Default)]
struct Linked {
    links: BTreeMap<NodeId, MemberLinks>,
    accepting: Option<AbortOnDrop>,
}

/// The three links to one member.
#[derive(Debug)]
struct MemberLinks {
    member: PeerMember,
    control: Arc<Link>,
    data: Arc<Link>,
    bulk: Arc<Link>,
    _tasks: [AbortOnDrop; 3],
}

#[derive(Debug)]
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        locked(&self.book)
    }

    fn service(&self) -> Option<Arc<dyn PeerService>> {
        locked(&self.service).clone()
    }

    fn shards(&self) -> MutexGuard<'_, HashMap<ShardId, Attached>> {
        locked(&self.shards)
    }

    fn shard(&self, shard: ShardId) -> Option<Attached> {
        self.shards().get(&shard).cloned()
    }

    /// Changes the state of a link, if the member is still listed.
    fn report(&self, node: NodeId, change: impl FnOnce(&mut LinkState)) {
        self.links.send_if_modified(|links| {
            let Some(state) = links.get_mut(&node) else {
                return false;
            };
            let before = state.clone();
            change(state);
            if state.connected != before.connected {
                state.since_ms = self.clock.monotonic_ms();
            }
            *state != before
        });
    }

    /// Dials who is new or has moved, drops who is gone, on both sides.
    fn relink(self: &Arc<Shared>) {
        let mut linked = locked(&self.members);
        if self.stopped.load(Ordering::SeqCst) {
            return;
        }
        let others = self.book().others();
        linked
            .links
            .retain(|node, links| others.get(node) == Some(&links.member));
        let now = self.clock.monotonic_ms();
        self.links.send_modify(|states| {
            states.retain(|node, _| linked.links.contains_key(node));
            for node in others.keys() {
                states.entry(*node).or_insert(LinkState {
                    connected: false,
                    since_ms: now,
                    refused: None,
                });
            }
        });
        for (node, member) in others {
            linked
                .links
                .entry(node)
                .or_insert_with(|| self.link(node, member));
        }
        drop(linked);
        self.door
            .sweep(|node, incarnation| self.book().admits(node, incarnation).is_ok());
    }

    fn link(self: &Arc<Shared>, node: NodeId, member: PeerMember) -> MemberLinks {
        let bytes_max = self.config.inflight_bytes_per_peer_max;
        let start = |lane, runtime: &Handle, siblings| {
            let link = Arc::new(Link::new(node, lane, member.clone(), bytes_max, siblings));
            let task = runtime.spawn(Arc::clone(&link).run(Arc::clone(self)));
            (link, AbortOnDrop(task.abort_handle()))
        };
        let (data, data_task) = start(Lane::Data, &self.raft, Vec::new());
        let (bulk, bulk_task) = start(Lane::Bulk, &self.ambient, Vec::new());
        let siblings = vec![Arc::clone(&data), Arc::clone(&bulk)];
        let (control, control_task) = start(Lane::Control, &self.raft, siblings);
        MemberLinks {
            member,
            control,
            data,
            bulk,
            _tasks: [control_task, data_task, bulk_task],
        }
    }

    fn member_link(&self, node: NodeId, lane: Lane) -> Result<Arc<Link>, LinkError> {
        if self.stopped.load(Ordering::SeqCst) {
            return Err(LinkError::ShuttingDown);
        }
        let linked = locked(&self.members);
        let links = linked
            .links
            .get(&node)
            .ok_or(LinkError::NotAMember { node })?;
        Ok(Arc::clone(match lane {
            Lane::Control => &links.control,
            Lane::Data => &links.data,
            Lane::Bulk => &links.bulk,
        }))
    }

    /// Closes the listener and every connection.
    fn close(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        let linked = std::mem::take(&mut *locked(&self.members));
        drop(linked);
        self.door.close();
        let shards = std::mem::take(&mut *self.shards());
        drop(shards);
        let service = locked(&self.service).take();
        drop(service);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("local_addr", &self.local_addr)
            .field("book", &self.book)
            .finish_non_exhaustive()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.close();
        self.thread.stop();
    }
}

/// Tells this process from every other, one from a copy of its data directory included.
fn draw_instance(clock: &Clock) -> [u8; 16] {
    let random = RandomState::new();
    let salt = (storage::turns::process_id(), clock.wall_ms());
    let words = [0_u8, 1].map(|word| random.hash_one((word, salt)));
    let [low, high] = words.map(u128::from);
    (high << 64 | low).to_le_bytes()
}

fn validate(config: &PeersConfig) -> Result<(), PeersError> {
    let check = |ok: bool, setting| {
        if ok {
            Ok(())
        } else {
            Err(PeersError::Config { setting })
        }
    };
    check(
        (1 << 16..=1 << 30).contains(&config.frame_bytes_max),
        "frame_bytes_max",
    )?;
    check(
        (1 << 16..=1 << 30).contains(&config.inflight_bytes_per_peer_max),
        "inflight_bytes_per_peer_max",
    )?;
    check(
        (1 << 10..=1 << 30).contains(&config.inflight_bytes_per_stream_max),
        "inflight_bytes_per_stream_max",
    )?;
    check(config.connect_timeout_ms > 0, "connect_timeout_ms")?;
    check(config.stream_stall_ms > 0, "stream_stall_ms")?;
    check(config.silence_ms >= 30, "silence_ms")?;
    check(config.write_stall_ms > 0, "write_stall_ms")?;
    check(config.stranger_ms > 0, "stranger_ms")?;
    check(
        (1..=1 << 20).contains(&config.connections_max),
        "connections_max",
    )
}

impl Peers {
    /// Starts the raft thread and listens. Must be called within a tokio runtime. Lets no member in until it knows who it is, and answers
    /// no request until it serves.
    ///
    /// # Errors
    /// No thread, no such address, or unusable settings or certificates.
    pub async fn bind(config: PeersConfig, clock: Clock) -> Result<Peers, PeersError> {
        validate(&config)?;
        let tls = config.tls.as_ref().map(Tls::new).transpose()?;
        let thread = RuntimeThread::start("raft", BLOCKING_THREADS_MAX, BLOCKING_MAX)
            .map_err(PeersError::Thread)?;
        let address = config.listen;
        let listening = thread.handle().spawn(TcpListener::bind(address));
        let listening = listening.await.unwrap_or_else(|e| Err(io::Error::other(e)));
        let listen_error = |source| PeersError::Listen { address, source };
        let listener = listening.map_err(listen_error)?;
        let local_addr = listener.local_addr().map_err(listen_error)?;
        if tls.is_none() {
            tracing::warn!(address = %local_addr, "peers are spoken to without TLS");
        }
        let raft = thread.handle().clone();
        let shared = Arc::new(Shared {
            tls,
            local_addr,
            raft: raft.clone(),
            ambient: Handle::current(),
            book: Mutex::new(Book {
                instance: draw_instance(&clock),
                ..Book::default()
            }),
            service: Mutex::default(),
            shards: Mutex::default(),
            door: Door::new(&config),
            members: Mutex::default(),
            links: watch::Sender::new(BTreeMap::new()),
            gone: broadcast::Sender::new(GONE_MAX),
            stopped: AtomicBool::new(false),
            config,
            clock,
        });
        let accepting = raft.spawn(accept::accept(listener, Arc::clone(&shared)));
        locked(&shared.members).accepting = Some(AbortOnDrop(accepting.abort_handle()));
        let owner = Arc::new(Owner {
            shared: Arc::clone(&shared),
            thread,
        });
        Ok(Peers {
            shared,
            owner: Some(owner),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local_addr
    }

    /// Answers peers' requests with `service` from now on.
    pub fn serve(&self, service: Arc<dyn PeerService>) {
        let older = locked(&self.shared.service).replace(service);
        drop(older);
    }

    /// Says who this node is, once that is known.
    pub fn set_identity(&self, identity: PeerIdentity) {
        self.shared.book().identity = Some(identity);
        self.shared.relink();
    }

    /// Says who the members are, this node included or not. Drops links to and from who is gone and
    /// dials who has moved. Before the first call, any node of the same cluster is let in.
    pub fn set_members(&self, members: BTreeMap<NodeId, PeerMember>) {
        self.shared.book().members = Some(members);
        self.shared.relink();
    }

    /// Says which nodes were removed for good. Once said, nodes of this cluster that are neither
    /// listed nor removed are let in: they may be newer than this node's list.
    pub fn set_removed(&self, removed: BTreeSet<NodeId>) {
        self.shared.book().removed = Some(removed);
        self.shared.relink();
    }

    /// Asks a member's [`PeerService`]; this node's own without a connection.
    ///
    /// # Errors
    /// See [`LinkError`] for what is known of the request then.
    pub async fn ask(
        &self,
        node: NodeId,
        lane: Lane,
        request: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, AskError> {
        let own = self.shared.book().identity.as_ref().map(|own| own.node);
        if own == Some(node) {
            let service = self.shared.service().ok_or(LinkError::NotServing)?;
            let asked = service.ask(Caller::Member(node), request);
            return timeout(deadline, asked)
                .await
                .map_err(|_| LinkError::TimedOut);
        }
        self.send(node, lane, (Kind::Ask, ShardId(0)), vec![request], deadline)
            .await
    }

    /// Asks whoever listens at `address` (`host:port`), member or not, over a connection of its own.
    /// The request has at most 64 KiB.
    ///
    /// # Errors
    /// As [`Peers::ask`].
    pub async fn ask_stranger(
        &self,
        address: &str,
        request: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, AskError> {
        if self.shared.stopped.load(Ordering::SeqCst) {
            return Err(LinkError::ShuttingDown);
        }
        let bytes_max = self.shared.config.frame_bytes_max;
        if request.len() > bytes_max.min(serve::STRANGER_BYTES_MAX) {
            return Err(LinkError::TooLarge);
        }
        let asking = ask_stranger(Arc::clone(&self.shared), address.to_owned(), request);
        let asking = self.shared.ambient.spawn(asking);
        let _dropped_with_us = AbortOnDrop(asking.abort_handle());
        match timeout(deadline, asking).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(LinkError::ShuttingDown),
            Err(_) => Err(LinkError::TimedOut),
        }
    }

    /// The links to all listed members but this node.
    #[must_use]
    pub fn links(&self) -> watch::Receiver<BTreeMap<NodeId, LinkState>> {
        self.shared.links.subscribe()
    }

    /// Names each member whose process is surely gone: its connection closed and a new one is
    /// refused.
    #[must_use]
    pub fn gone(&self) -> broadcast::Receiver<NodeId> {
        self.shared.gone.subscribe()
    }

    /// Closes the listener and all links, and ends the raft thread with all that runs there.
    pub async fn shutdown(&self) {
        self.shared.close();
        let Some(owner) = self.owner.clone() else {
            return;
        };
        let stopped = net::blocking(move || owner.thread.stop());
        if let Err(error) = stopped.await {
            tracing::error!(%error, "the raft thread was not waited for");
        }
    }

    /// A clone that keeps nothing alive: for what runs on the raft thread.
    pub(crate) fn unowned(&self) -> Peers {
        Peers {
            shared: Arc::clone(&self.shared),
            owner: None,
        }
    }

    /// The raft thread.
    pub(crate) fn handle(&self) -> Handle {
        self.shared.raft.clone()
    }

    /// Makes a shard reachable for peers, in place of what was attached before.
    pub(crate) fn attach(&self, shard: ShardId, receive: Arc<dyn Receive>) -> Attachment {
        Attachment::new(&self.shared, shard, receive)
    }

    /// Asks a member's part of a shard.
    pub(crate) async fn call(
        &self,
        node: NodeId,
        lane: Lane,
        shard: ShardId,
        request: Vec<Bytes>,
        deadline: Duration,
    ) -> Result<Bytes, LinkError> {
        self.send(node, lane, (Kind::Call, shard), request, deadline)
            .await
    }

    /// Most bytes of one request.
    pub(crate) fn frame_bytes_max(&self) -> usize {
        self.shared.config.frame_bytes_max
    }

    async fn send(
        &self,
        node: NodeId,
        lane: Lane,
        (kind, shard): (Kind, ShardId),
        request: Vec<Bytes>,
        deadline: Duration,
    ) -> Result<Bytes, LinkError> {
        let bytes: usize = request.iter().map(Bytes::len).sum();
        if bytes > self.shared.config.frame_bytes_max {
            return Err(LinkError::TooLarge);
        }
        let link = self.shared.member_link(node, lane)?;
        link.request(kind, shard, request, deadline).await
    }

    /// Opens an append stream to a member's part of a shard, on the data connection. That the peer
    /// does not carry the shard shows at the first answer.
    pub(crate) async fn open_stream(
        &self,
        node: NodeId,
        shard: ShardId,
    ) -> Result<(StreamSender, StreamAnswersReceiver), LinkError> {
        let link = self.shared.member_link(node, Lane::Data)?;
        link.open_stream(shard, &self.shared).await
    }
}

async fn ask_stranger(
    shared: Arc<Shared>,
    address: String,
    request: Bytes,
) -> Result<Bytes, LinkError> {
    let unusable = LinkError::Unreachable {
        kind: io::ErrorKind::InvalidInput,
    };
    let (host, port) = address.rsplit_once(':').ok_or(unusable.clone())?;
    let port = port.parse().map_err(|_| unusable)?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let dialled = dial::dial(&shared, host, port, &Hello::stranger()).await;
    let (socket, welcome) = dialled.map_err(dial::DialError::into_link_error)?;
    if let Some(refusal) = welcome.refusal {
        return Err(LinkError::Refused(refusal));
    }
    let connection = Connection::default();
    tokio::select! {
        biased;
        answer = connection.request(Kind::Ask, ShardId(0), vec![request]) => answer,
        _ended = connection.run(socket, &shared.config, false) => Err(LinkError::Closed),
    }
}

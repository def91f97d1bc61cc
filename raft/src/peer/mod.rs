//! The transport between nodes: who is linked with whom, and requests, streams and their answers.
//!
//! [`Peers`] owns the node's raft thread, one current-thread runtime that carries control and data
//! connections and all shards; bulk connections and the [`PeerService`] run on the runtime that
//! bound it. Each node dials three connections to each other member and serves those that the
//! others dial. Nothing here knows what a request means. Everything that waits is bounded: bytes
//! in flight per peer and per stream, requests in hand per connection, connections.

mod config;
mod error;
mod service;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use storage::clock::Clock;
use storage::{NodeId, ShardId};
use tokio::sync::{broadcast, watch};

pub use config::{Lane, PeerIdentity, PeerMember, PeerTls, PeersConfig};
pub use error::{AskError, LinkError, PeersError, Refusal, RefusedReason, TlsError};
pub use service::{Caller, PeerService};

pub(crate) use error::CallError;
pub(crate) use service::Receive;

/// State of the link to one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkState {
    /// The control connection stands.
    pub connected: bool,
    /// [`Clock::monotonic_ms`] of the last change of `connected`.
    pub since_ms: i64,
    /// Why the peer does not let this node in, when it last refused.
    pub refused: Option<Refusal>,
}

/// The node's side of all links. Cheap to clone. Dropping the last clone outside the raft thread
/// without [`Peers::shutdown`] stops everything where it is, as a crash would.
#[derive(Debug, Clone)]
pub struct Peers {
}

/// Ends one direction of an append stream when dropped.
#[derive(Debug)]
pub(crate) struct StreamSender {}

impl StreamSender {
    /// Sends the next request; waits while too many bytes or requests of the stream or the peer are
    /// unanswered. An answer counts when it was taken from [`StreamAnswersReceiver::recv`], so take
    /// them meanwhile. Not sent when dropped before it returns.
    pub(crate) async fn send(&mut self, _request: Vec<Bytes>) -> Result<(), LinkError> {
        Err(LinkError::ShuttingDown)
    }
}

/// The answers of an append stream, one per request, in order.
#[derive(Debug)]
pub(crate) struct StreamAnswersReceiver {}

impl StreamAnswersReceiver {
    /// The next answer; waits also while nothing is asked. After an error the stream is over. Fails
    /// with [`LinkError::TimedOut`] when requests are unanswered and no answer comes for
    /// [`PeersConfig::stream_stall_ms`]. Cancel-safe.
    pub(crate) async fn recv(&mut self) -> Result<Bytes, LinkError> {
        Err(LinkError::ShuttingDown)
    }
}

/// Takes a shard's answers on a stream.
#[derive(Debug)]
pub(crate) struct StreamAnswers {}

impl StreamAnswers {
    /// Answers the oldest unanswered request. Never waits: answers are bounded by requests.
    pub(crate) fn send(&self, _answer: Vec<Bytes>) -> Result<(), LinkError> {
        Err(LinkError::ShuttingDown)
    }
}

/// A shard's registration; dropped, the shard takes nothing more.
#[derive(Debug)]
pub(crate) struct Attachment {}

impl Peers {
    /// Starts the raft thread and listens. Answers nobody until it knows who it is and serves.
    ///
    /// # Errors
    /// No thread, no such address, or unusable certificates.
    pub async fn bind(_config: PeersConfig, _clock: Clock) -> Result<Peers, PeersError> {
        Ok(Peers {})
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    /// Answers peers' requests with `service` from now on.
    pub fn serve(&self, _service: Arc<dyn PeerService>) {}

    /// Says who this node is, once that is known.
    pub fn set_identity(&self, _identity: PeerIdentity) {}

    /// Says who the members are, this node included or not. Drops links to and from who is gone and
    /// dials who has moved. Before the first call, any node of the same cluster is let in.
    pub fn set_members(&self, _members: BTreeMap<NodeId, PeerMember>) {}

    /// Says which nodes were removed for good. Once said, nodes of this cluster that are neither
    /// listed nor removed are let in: they may be newer than this node's list.
    pub fn set_removed(&self, _removed: BTreeSet<NodeId>) {}

    /// Asks a member's [`PeerService`].
    ///
    /// # Errors
    /// See [`LinkError`] for what is known of the request then.
    pub async fn ask(
        &self,
        _node: NodeId,
        _lane: Lane,
        _request: Bytes,
        _deadline: Duration,
    ) -> Result<Bytes, AskError> {
        Err(LinkError::ShuttingDown)
    }

    /// Asks whoever listens at `address` (`host:port`), member or not, over a connection of its own.
    ///
    /// # Errors
    /// As [`Peers::ask`].
    pub async fn ask_stranger(
        &self,
        _address: &str,
        _request: Bytes,
        _deadline: Duration,
    ) -> Result<Bytes, AskError> {
        Err(LinkError::ShuttingDown)
    }

    /// The links to all listed members but this node.
    #[must_use]
    pub fn links(&self) -> watch::Receiver<BTreeMap<NodeId, LinkState>> {
        watch::channel(BTreeMap::new()).1
    }

    /// Names each member whose process is surely gone: its connection closed and a new one is
    /// refused.
    #[must_use]
    pub fn gone(&self) -> broadcast::Receiver<NodeId> {
        broadcast::channel(1).1
    }

    /// Closes the listener and all links, and ends the raft thread with all that runs there.
    pub async fn shutdown(&self) {}

    /// The same at once and without waiting, as a crash would.
    pub(crate) fn halt(&self) {}

    /// The raft thread.
    pub(crate) fn handle(&self) -> tokio::runtime::Handle {
        tokio::runtime::Handle::current()
    }

    /// Makes a shard reachable for peers, in place of what was attached before.
    pub(crate) fn attach(&self, _shard: ShardId, _receive: Arc<dyn Receive>) -> Attachment {
        Attachment {}
    }

    /// Asks a member's part of a shard.
    pub(crate) async fn call(
        &self,
        _node: NodeId,
        _lane: Lane,
        _shard: ShardId,
        _request: Vec<Bytes>,
        _deadline: Duration,
    ) -> Result<Bytes, LinkError> {
        Err(LinkError::ShuttingDown)
    }

    /// Opens an append stream to a member's part of a shard, on the data connection. That the peer
    /// does not carry the shard shows at the first answer.
    pub(crate) async fn open_stream(
        &self,
        _node: NodeId,
        _shard: ShardId,
    ) -> Result<(StreamSender, StreamAnswersReceiver), LinkError> {
        Err(LinkError::ShuttingDown)
    }
}


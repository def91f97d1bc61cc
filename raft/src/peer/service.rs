//! What answers a peer's requests: the node's one [`PeerService`] and each shard's [`Receive`].

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use storage::NodeId;
use tokio::sync::mpsc;

use super::{CallError, Lane, StreamAnswers};

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// A member of this cluster.
    Member(NodeId),
    /// Somebody who is none, or not yet; with TLS it holds a certificate of the cluster's authority.
    Stranger(SocketAddr),
}

/// Answers requests that concern the node, not a shard.
pub trait PeerService: Send + Sync + 'static {
    /// Answers one request. Runs on the runtime in which [`crate::Peers::bind`] was called; dropped
    /// when the connection closes before it is done.
    fn ask(&self, from: Caller, request: Bytes) -> BoxFuture<'static, Bytes>;
}

/// Takes a shard's share of what peers send. Runs on the raft thread.
pub(crate) trait Receive: Send + Sync + 'static {
    /// Answers one request.
    fn call(
        &self,
        from: NodeId,
        lane: Lane,
        request: Bytes,
    ) -> BoxFuture<'static, Result<Vec<Bytes>, CallError>>;

    /// Takes an append stream: one answer per request, in order. The stream ends when the future
    /// does; when the peer ends it, `requests` runs dry and the future should end.
    fn stream(
        &self,
        from: NodeId,
        requests: mpsc::Receiver<Bytes>,
        answers: StreamAnswers,
    ) -> BoxFuture<'static, ()>;
}

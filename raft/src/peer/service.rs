//! What answers a peer's requests: the node's one [`PeerService`] and each shard's [`Receive`].

use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use storage::{NodeId, ShardId};
use tokio::sync::{mpsc, watch};

use super::{CallError, Lane, Shared, StreamAnswers};

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

/// Takes a shard's share of what peers send. Runs on the raft thread. What it returned is dropped,
/// done or not, when the connection closes and when the [`Attachment`] is dropped.
pub(crate) trait Receive: Send + Sync + 'static {
    /// Answers one request.
    fn call(
        &self,
        from: NodeId,
        lane: Lane,
        request: Bytes,
    ) -> BoxFuture<'static, Result<Vec<Bytes>, CallError>>;

    /// Takes an append stream: one answer per request, in order. The stream ends when the future
    /// does; the future is dropped when the peer ends the stream.
    fn stream(
        &self,
        from: NodeId,
        requests: mpsc::Receiver<Bytes>,
        answers: StreamAnswers,
    ) -> BoxFuture<'static, ()>;
}

/// A shard that takes requests.
#[derive(Clone)]
pub(super) struct Attached {
    pub(super) receive: Arc<dyn Receive>,
    /// Closed when it is detached.
    pub(super) detached: watch::Receiver<()>,
}

/// Waits until a shard is detached.
pub(super) async fn is_detached(mut detached: watch::Receiver<()>) {
    while detached.changed().await.is_ok() {}
}

/// A shard's registration; dropped, the shard takes nothing more and what it has in hand is dropped.
#[derive(Debug)]
pub(crate) struct Attachment {
    shard: ShardId,
    /// Nothing is ever sent; its end is the message.
    attached: watch::Sender<()>,
    shared: Weak<Shared>,
}

impl Attachment {
    pub(super) fn new(
        shared: &Arc<Shared>,
        shard: ShardId,
        receive: Arc<dyn Receive>,
    ) -> Attachment {
        let (attached, detached) = watch::channel(());
        let older = shared
            .shards()
            .insert(shard, Attached { receive, detached });
        drop(older);
        Attachment {
            shard,
            attached,
            shared: Arc::downgrade(shared),
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let own = self.attached.subscribe();
        let attached = {
            let mut shards = shared.shards();
            // Another may have taken its place.
            match shards.get(&self.shard) {
                Some(held) if held.detached.same_channel(&own) => shards.remove(&self.shard),
                _ => None,
            }
        };
        drop(attached);
    }
}

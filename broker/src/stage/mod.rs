//! Catching up: what a replica lacks is copied from another one, in ranges of committed logs.
//!
//! [`CatchUp`] is what a node has of it: the serving side, the way to other nodes, and one
//! [`Stager`] per data shard, which raft calls when a leader offers a checkpoint. Partition logs
//! are committed prefixes of one another, so only what lies above the local end travels.

#[cfg(test)]
pub(crate) mod cluster_test;
pub(crate) mod fitting;
pub(crate) mod holds;
mod manifest_plan;
pub(crate) mod pace;
pub(crate) mod range;
pub(crate) mod serve;
mod slot;
mod stager;
#[cfg(test)]
mod tests;
pub(crate) mod throttle;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use raft::{Lane, Peers};
use storage::clock::Clock;
use storage::store::LogStore;
use storage::{NodeId, ShardId};
use tokio::sync::OwnedSemaphorePermit;

use crate::Broker;
use crate::partition::Directory;
use holds::Holds;
use pace::Pace;
use range::{RangeAnswer, ReadRange};
use serve::RangeServer;
pub(crate) use stager::Stager;
use throttle::Throttle;

/// How long one range may take.
const RANGE_DEADLINE: Duration = Duration::from_secs(20);

/// The way to other replicas.
pub(crate) trait RangeSource: Send + Sync + 'static {
    /// Hands an encoded [`ReadRange`] to a node and returns its answer, or why there is none.
    fn ask(&self, node: NodeId, request: Bytes) -> BoxFuture<'static, Result<Bytes, String>>;
}

/// Ranges over the bulk connections between nodes.
#[derive(Debug, Clone)]
pub(crate) struct PeerRanges {
    peers: Peers,
    // Makes a range a request to another node's broker.
    wrap: fn(Bytes) -> Bytes,
}

impl PeerRanges {
    pub(crate) fn new(peers: Peers, wrap: fn(Bytes) -> Bytes) -> PeerRanges {
        PeerRanges { peers, wrap }
    }
}

impl RangeSource for PeerRanges {
    fn ask(&self, node: NodeId, request: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        let peers = self.peers.clone();
        let request = (self.wrap)(request);
        Box::pin(async move {
            let answer = peers.ask(node, Lane::Bulk, request, RANGE_DEADLINE).await;
            answer.map_err(|error| error.to_string())
        })
    }
}

/// A node's part in catching up: serves ranges and fetches them. Clones share limits.
#[derive(Clone)]
pub(crate) struct CatchUp {
    server: RangeServer,
    ranges: Ranges,
    directory: Directory,
    logs: LogStore,
    holds: Arc<Mutex<HashMap<ShardId, Holds>>>,
}

impl fmt::Debug for CatchUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CatchUp").finish_non_exhaustive()
    }
}

impl CatchUp {
    /// `bytes_per_second` bounds what this node fetches, 0 does not.
    pub(crate) fn new(
        directory: Directory,
        logs: LogStore,
        source: Arc<dyn RangeSource>,
        (bytes_per_second, clock): (u64, Clock),
    ) -> CatchUp {
        CatchUp {
            server: RangeServer::new(directory.clone(), logs.clone(), clock.clone()),
            ranges: Ranges {
                source,
                throttle: Arc::new(Throttle::new(bytes_per_second, clock)),
            },
            directory,
            logs,
            holds: Arc::default(),
        }
    }

    /// Whether another replica has copied something from here within the last milliseconds.
    pub(crate) fn was_copied_from(&self, within_ms: i64) -> bool {
        self.server.has_served(within_ms)
    }

    /// What holds a shard's files while checkpoints are taken over.
    pub(crate) fn holds(&self, shard: ShardId) -> Holds {
        let mut holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        holds.entry(shard).or_default().clone()
    }

    /// What a data shard is opened with.
    pub(crate) fn stager(&self, shard: ShardId) -> Stager {
        Stager::new(
            shard,
            self.directory.clone(),
            self.logs.clone(),
            self.ranges.clone(),
            self.holds(shard),
        )
    }

    /// What keeps the serving of ranges from being felt by producers.
    pub(crate) fn pace(&self) -> &Pace {
        self.server.pace()
    }

    pub(crate) fn ranges(&self) -> &Ranges {
        &self.ranges
    }
}

/// Fetches ranges within the node's limits.
#[derive(Clone)]
pub(crate) struct Ranges {
    source: Arc<dyn RangeSource>,
    throttle: Arc<Throttle>,
}

/// An answer, and the room in memory that it takes.
pub(crate) type RoomyAnswer = (RangeAnswer, OwnedSemaphorePermit);

impl Ranges {
    /// Asks `node` for a range; waits for room and, above the rate, afterwards.
    pub(crate) async fn fetch(
        &self,
        node: NodeId,
        range: ReadRange,
    ) -> Result<RoomyAnswer, String> {
        let asking = self.source.ask(node, range.encode());
        self.take(range.bytes_max, asking).await
    }

    /// Takes the answer of whoever is asked by that; waits as [`Ranges::fetch`] does.
    pub(crate) async fn take(
        &self,
        bytes_max: u32,
        asking: impl Future<Output = Result<Bytes, String>>,
    ) -> Result<RoomyAnswer, String> {
        let room = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let room = self.throttle.room_for(room).await;
        let answer = asking.await?;
        self.throttle.spend(answer.len()).await;
        match RangeAnswer::decode(answer) {
            Ok(answer) => Ok((answer, room)),
            Err(error) => Err(format!("the answer is {error}")),
        }
    }
}

impl Broker {
    /// Answers the body of another member's request for a range.
    pub(crate) fn answer_range(&self, request: Bytes) -> BoxFuture<'static, Bytes> {
        let leads = |shard| {
            let shard = self.data_shard(shard);
            shard.is_some_and(|shard| shard.leadership.borrow().serving)
        };
        self.inner.catch_up.server.answer(request, &leads)
    }
}

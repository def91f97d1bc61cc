//! Replicas in one process call each other directly; a test takes nodes or links down, slows a
//! follower, lets its answers hang, or breaks every stream once.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use openraft::base::{BoxFuture, BoxStream};
use openraft::error::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::v2::RaftNetworkV2;
use openraft::network::{RPCOption, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, Raft};
use tokio::sync::Semaphore;

use super::ledger::Ledger;
use crate::machine::Machine;
use crate::snapshot::Manifest;
use crate::types::{Snapshot, Types, Vote};

pub(super) type TestRaft = Raft<Types, Machine<Ledger>>;

/// Append requests of one stream that may be unanswered.
const WINDOW: usize = 2;

#[derive(Default)]
pub(super) struct Faults {
    pub(super) down: BTreeSet<u64>,
    /// Pairs that do not reach each other, the lower first.
    pub(super) cut: BTreeSet<(u64, u64)>,
    /// Followers whose answers do not arrive.
    pub(super) hung: BTreeSet<u64>,
    /// Pause before each append to a follower, in milliseconds.
    pub(super) slow_ms: BTreeMap<u64, u64>,
    /// A stream whose acknowledgement is below this index is failed: how a leader's transport gets
    /// rid of a follower that holds up the purge.
    pub(super) floor: u64,
}

#[derive(Default)]
pub(super) struct Net {
    pub(super) rafts: Mutex<BTreeMap<u64, TestRaft>>,
    pub(super) faults: Mutex<Faults>,
    /// Every stream begun at a lower number fails.
    pub(super) kicks: AtomicU64,
    pub(super) snapshots: AtomicU64,
}

impl Net {
    pub(super) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap()
    }

    fn separated(&self, one: u64, other: u64) -> bool {
        let faults = self.faults();
        faults.down.contains(&one)
            || faults.down.contains(&other)
            || faults.cut.contains(&(one.min(other), one.max(other)))
    }

    fn hangs(&self, target: u64) -> bool {
        self.faults().hung.contains(&target)
    }
}

/// One node's way to another.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) net: Arc<Net>,
    pub(super) me: u64,
    pub(super) target: u64,
}

fn no_route() -> Unreachable<Types> {
    Unreachable::new(&io::Error::from(io::ErrorKind::HostUnreachable))
}

fn unreachable() -> RPCError<Types> {
    RPCError::Unreachable(no_route())
}

impl Link {
    fn peer(&self) -> Result<TestRaft, RPCError<Types>> {
        if self.net.separated(self.me, self.target) {
            return Err(unreachable());
        }
        self.net
            .rafts
            .lock()
            .unwrap()
            .get(&self.target)
            .cloned()
            .ok_or_else(unreachable)
    }
}

impl RaftNetworkFactory<Types> for Link {
    type Network = Link;

    async fn new_client(&mut self, target: u64, _node: &()) -> Link {
        Link {
            target,
            ..self.clone()
        }
    }
}

impl RaftNetworkV2<Types> for Link {
    type SnapshotData = Manifest;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        self.peer()?
            .append_entries(request)
            .await
            .map_err(|_| unreachable())
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            let peer = self.peer()?;
            let (net, me, target) = (Arc::clone(&self.net), self.me, self.target);
            let kicks = net.kicks.load(Relaxed);
            let window = Arc::new(Semaphore::new(WINDOW));
            let answered = Arc::clone(&window);
            let sending = Arc::clone(&net);
            let requests =
                futures_util::stream::unfold((input, window), move |(mut input, window)| {
                    let net = Arc::clone(&sending);
                    async move {
                        window.acquire().await.unwrap().forget();
                        let request = input.next().await?;
                        let slow = net.faults().slow_ms.get(&target).copied();
                        if let Some(ms) = slow {
                            tokio::time::sleep(Duration::from_millis(ms)).await;
                        }
                        (!net.separated(me, target)).then_some((request, (input, window)))
                    }
                });
            let answers = peer.stream_append(Box::pin(requests)).then(move |answer| {
                let (net, answered) = (Arc::clone(&net), Arc::clone(&answered));
                async move {
                    while net.hangs(target) && net.kicks.load(Relaxed) == kicks {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    if net.kicks.load(Relaxed) != kicks || net.separated(me, target) {
                        return Err(unreachable());
                    }
                    answered.add_permits(1);
                    let answer = answer.map_err(|_| unreachable())?;
                    let acknowledged = answer.as_ref().ok().map(|id| id.map_or(0, |id| id.index));
                    if acknowledged.is_some_and(|index| index < net.faults().floor) {
                        let behind = io::Error::other("acknowledged below the floor");
                        return Err(RPCError::Network(NetworkError::new(&behind)));
                    }
                    Ok(answer)
                }
            });
            let answers: BoxStream<'s, _> = Box::pin(answers);
            Ok(answers)
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.peer()?.vote(request).await.map_err(|_| unreachable())
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.peer()?
            .pre_vote(request)
            .await
            .map_err(|_| unreachable())
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        self.peer()?
            .handle_transfer_leader(request)
            .await
            .map_err(|_| unreachable())
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let peer = self
            .peer()
            .map_err(|_| StreamingError::Unreachable(no_route()))?;
        self.net.snapshots.fetch_add(1, Relaxed);
        let installed = peer.install_full_snapshot(vote, snapshot).await;
        installed.map_err(|_| StreamingError::Unreachable(no_route()))
    }
}

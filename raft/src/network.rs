//! The transport between replicas. A shard has one voter so far, so there is nobody to reach: every
//! peer is refused as unreachable, and no call hangs.

use std::future::Future;
use std::io;

use futures_util::Stream;
use openraft::OptionalSend;
use openraft::base::{BoxFuture, BoxStream};
use openraft::error::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
    RaftNetworkFactory,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};

use crate::snapshot::Manifest;
use crate::types::{Snapshot, Types, Vote};

/// A transport that reaches nobody.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nobody;

fn unreachable() -> Unreachable<Types> {
    Unreachable::new(&io::Error::new(
        io::ErrorKind::HostUnreachable,
        "the shard has no peers",
    ))
}

impl RaftNetworkFactory<Types> for Nobody {
    type Network = Nobody;

    async fn new_client(&mut self, _target: u64, _node: &()) -> Nobody {
        Nobody
    }
}

impl NetBackoff<Types> for Nobody {
    fn backoff(&self) -> Option<Backoff> {
        None
    }
}

impl NetStreamAppend<Types> for Nobody {
    fn stream_append<'s, S>(
        &'s mut self,
        _input: S,
        _option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async { Err(RPCError::Unreachable(unreachable())) })
    }
}

impl NetVote<Types> for Nobody {
    async fn vote(
        &mut self,
        _request: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        Err(RPCError::Unreachable(unreachable()))
    }

    async fn pre_vote(
        &mut self,
        _request: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        Err(RPCError::Unreachable(unreachable()))
    }
}

impl NetSnapshot<Types> for Nobody {
    type SnapshotData = Manifest;

    async fn full_snapshot(
        &mut self,
        _vote: Vote,
        _snapshot: Snapshot,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        Err(StreamingError::Unreachable(unreachable()))
    }
}

impl NetTransferLeader<Types> for Nobody {
    async fn transfer_leader(
        &mut self,
        _request: TransferLeaderRequest<Types>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        Err(RPCError::Unreachable(unreachable()))
    }
}

//! openraft's way to one other replica, over the node's [`Peers`].
//!
//! Appends go through a stream with two requests in flight; heartbeats, votes and transfers of
//! leadership are single calls on the control lane, so that no bulk of entries delays them. Every
//! wait has an end: the deadline openraft gives, the transport's stall time, or the follower's
//! silence while it takes over a checkpoint (offer.rs).

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::base::{BoxFuture, BoxStream};
use openraft::error::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
    RaftNetworkFactory,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use storage::bugs::{self, Bug};
use storage::clock::Clock;
use storage::{NodeId, ShardId};

use crate::message::{Answer, Request, encode_append};
use crate::offer;
use crate::peer::{Lane, LinkError, Peers, StreamAnswersReceiver, StreamSender};
use crate::snapshot::{Checkpoints, Manifest};
use crate::steering::Stagings;
use crate::types::{Snapshot, Types, Vote, node_id};

/// Append requests of one stream that may be unanswered: while one is written and synced there the
/// next is on its way.
const WINDOW: usize = 2;
/// How long a follower may lag behind this node's checkpoint before its stream is failed. Until
/// then the journal below the checkpoint stays, for entries are cheaper than a checkpoint; after it
/// the follower gets the checkpoint, so that no follower holds the journal for ever.
const BELOW_CHECKPOINT_MAX_MS: i64 = 10_000;
/// Pauses between tries to reach a replica; the last one repeats.
const BACKOFF_MS: [u64; 4] = [20, 50, 100, 200];

/// What the clients of one shard share.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(crate) shard: ShardId,
    pub(crate) peers: Peers,
    pub(crate) clock: Clock,
    pub(crate) checkpoints: Arc<Checkpoints>,
    pub(crate) stagings: Arc<Stagings>,
}

/// What a client is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Entries, and single calls.
    Log,
    Heartbeats,
}

/// The way to one replica.
#[derive(Debug)]
pub(crate) struct Client {
    network: Network,
    target: NodeId,
    purpose: Purpose,
    /// Since when the follower has lagged behind this node's checkpoint, on a monotonic clock.
    below_since_ms: Option<i64>,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, _node: &()) -> Client {
        self.client(target, Purpose::Log)
    }

    async fn new_heartbeat_client(&mut self, target: u64, _node: &()) -> Client {
        self.client(target, Purpose::Heartbeats)
    }
}

impl Network {
    fn client(&self, target: u64, purpose: Purpose) -> Client {
        Client {
            network: self.clone(),
            target: node_id(target),
            purpose,
            below_since_ms: None,
        }
    }
}

/// What went wrong as openraft sorts it: what cannot work at once again waits for the back-off.
pub(crate) fn rpc_error(error: &LinkError) -> RPCError<Types> {
    match error {
        LinkError::Closed | LinkError::TimedOut => RPCError::Network(NetworkError::new(error)),
        LinkError::NotAMember { .. }
        | LinkError::Unreachable { .. }
        | LinkError::Refused(_)
        | LinkError::NoShard
        | LinkError::NotServing
        | LinkError::Rejected
        | LinkError::TooLarge
        | LinkError::ShuttingDown => RPCError::Unreachable(Unreachable::new(error)),
    }
}

/// The peer answered something else than what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("the peer's answer does not fit the request")]
struct WrongAnswer;

fn wrong_answer() -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::new(&WrongAnswer))
}

fn decoded(bytes: Bytes) -> Result<Answer, RPCError<Types>> {
    Answer::decode(bytes).map_err(|error| RPCError::Unreachable(Unreachable::new(&error)))
}

impl Client {
    /// One small request on the control lane.
    async fn call(
        &self,
        request: Vec<Bytes>,
        deadline: Duration,
    ) -> Result<Answer, RPCError<Types>> {
        let Network { peers, shard, .. } = &self.network;
        let answer = peers
            .call(self.target, Lane::Control, *shard, request, deadline)
            .await
            .map_err(|error| rpc_error(&error))?;
        decoded(answer)
    }

    /// Notes an acknowledgement; an error when the follower has lagged for too long.
    fn judge(&mut self, matched: Option<u64>) -> Result<(), RPCError<Types>> {
        let floor = self.network.checkpoints.position().map(|at| at.index.0);
        if matched >= floor {
            self.below_since_ms = None;
            return Ok(());
        }
        let now_ms = self.network.clock.monotonic_ms();
        let since_ms = *self.below_since_ms.get_or_insert(now_ms);
        if now_ms.saturating_sub(since_ms) < BELOW_CHECKPOINT_MAX_MS {
            return Ok(());
        }
        self.below_since_ms = None;
        Err(RPCError::Network(NetworkError::new(&BelowCheckpoint)))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the follower lags behind the checkpoint and holds up the journal")]
struct BelowCheckpoint;

/// Whether it says what was believed already when the request was sent.
fn is_believed(answer: &Result<Bytes, LinkError>) -> bool {
    let is_taken = |bytes: &Bytes| matches!(decoded(bytes.clone()), Ok(Answer::Appended(Ok(_))));
    bugs::is_on(Bug::SentCountsAsHeld) && answer.as_ref().is_ok_and(is_taken)
}

/// One append stream on its way.
struct Appends<'s, S> {
    client: &'s mut Client,
    /// The requests to come; `None` when openraft has no more.
    requests: Option<S>,
    sender: Option<StreamSender>,
    answers: StreamAnswersReceiver,
    unanswered: usize,
    /// Answers that came while a request waited to be sent.
    early: VecDeque<Result<Bytes, LinkError>>,
    is_over: bool,
}

impl<S> Appends<'_, S>
where
    S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
{
    /// The next answer; sends what there is to send meanwhile.
    async fn next(&mut self) -> Option<Result<StreamAppendResult<Types>, RPCError<Types>>> {
        if self.is_over {
            return None;
        }
        loop {
            if let Some(answer) = self.early.pop_front() {
                if is_believed(&answer) {
                    continue;
                }
                return Some(self.take(answer));
            }
            let may_send = self.unanswered < WINDOW;
            let Some(requests) = self.requests.as_mut() else {
                if self.unanswered == 0 {
                    self.is_over = true;
                    return None;
                }
                let answer = self.answers.recv().await;
                if is_believed(&answer) {
                    self.unanswered -= 1;
                    continue;
                }
                return Some(self.take(answer));
            };
            tokio::select! {
                biased;
                answer = self.answers.recv(), if self.unanswered > 0 => {
                    if is_believed(&answer) {
                        self.unanswered -= 1;
                        continue;
                    }
                    return Some(self.take(answer));
                }
                request = requests.next(), if may_send => match request {
                    Some(request) => {
                        if let Err(error) = self.send(&request).await {
                            self.is_over = true;
                            return Some(Err(rpc_error(&error)));
                        }
                        if bugs::is_on(Bug::SentCountsAsHeld) {
                            let last = request.entries.last().map(|entry| entry.log_id);
                            return Some(Ok(Ok(last.or(request.prev_log_id))));
                        }
                    }
                    None => {
                        self.requests = None;
                        self.sender = None;
                    }
                },
            }
        }
    }

    /// Sends one request, and takes answers while it waits for room.
    async fn send(&mut self, request: &AppendEntriesRequest<Types>) -> Result<(), LinkError> {
        let sender = self.sender.as_mut().ok_or(LinkError::Closed)?;
        let mut sending = pin!(sender.send(encode_append(request)));
        let unanswered = self.unanswered;
        loop {
            tokio::select! {
                biased;
                sent = &mut sending => {
                    sent?;
                    self.unanswered += 1;
                    return Ok(());
                }
                answer = self.answers.recv(), if self.early.len() < unanswered => {
                    self.early.push_back(Ok(answer?));
                }
            }
        }
    }

    fn take(
        &mut self,
        answer: Result<Bytes, LinkError>,
    ) -> Result<StreamAppendResult<Types>, RPCError<Types>> {
        self.unanswered = self.unanswered.saturating_sub(1);
        let taken = answer
            .map_err(|error| rpc_error(&error))
            .and_then(decoded)
            .and_then(|answer| match answer {
                Answer::Appended(result) => Ok(result),
                _ => Err(wrong_answer()),
            })
            .and_then(|result| {
                if let Ok(matched) = &result {
                    self.client.judge(matched.map(|id| id.index))?;
                }
                Ok(result)
            });
        self.is_over = !matches!(taken, Ok(Ok(_)));
        taken
    }
}

impl NetStreamAppend<Types> for Client {
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        if self.purpose == Purpose::Heartbeats {
            return Box::pin(async move {
                let deadline = option.hard_ttl();
                let answers =
                    futures_util::stream::unfold(Some((self, input)), move |state| async move {
                        let (client, mut input) = state?;
                        let request = input.next().await?;
                        let answer = client.call(encode_append(&request), deadline).await;
                        let answer = answer.and_then(|answer| match answer {
                            Answer::Appended(result) => Ok(result),
                            _ => Err(wrong_answer()),
                        });
                        let goes_on = matches!(answer, Ok(Ok(_)));
                        Some((answer, goes_on.then_some((client, input))))
                    });
                let answers: BoxStream<'s, _> = Box::pin(answers);
                Ok(answers)
            });
        }
        Box::pin(async move {
            let state = Sending::Closed(self, input);
            let answers = futures_util::stream::unfold(state, |state| async move {
                let mut appends = match state {
                    Sending::Closed(client, mut input) => {
                        // openraft pauses after a failure where it is asked for a request: to fail
                        // without asking would be to try again at once, for ever.
                        let first = input.next().await?;
                        let Network { peers, shard, .. } = &client.network;
                        let opened = peers.open_stream(client.target, *shard).await;
                        let (sender, answers) = match opened {
                            Ok(opened) => opened,
                            Err(error) => return Some((Err(rpc_error(&error)), Sending::Over)),
                        };
                        Appends {
                            client,
                            requests: Some(futures_util::stream::iter([first]).chain(input)),
                            sender: Some(sender),
                            answers,
                            unanswered: 0,
                            early: VecDeque::new(),
                            is_over: false,
                        }
                    }
                    Sending::Open(appends) => appends,
                    Sending::Over => return None,
                };
                let answer = appends.next().await?;
                Some((answer, Sending::Open(appends)))
            });
            let answers: BoxStream<'s, _> = Box::pin(answers);
            Ok(answers)
        })
    }
}

/// How far a stream of appends has come.
enum Sending<'s, S, A> {
    /// Nothing was asked for yet.
    Closed(&'s mut Client, S),
    Open(A),
    /// It could not be opened.
    Over,
}

impl NetBackoff<Types> for Client {
    fn backoff(&self) -> Option<Backoff> {
        let last = BACKOFF_MS[BACKOFF_MS.len() - 1];
        let pauses = BACKOFF_MS.into_iter().chain(std::iter::repeat(last));
        Some(Backoff::new(pauses.map(Duration::from_millis)))
    }
}

impl NetVote<Types> for Client {
    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let request = Request::Vote(request).encode();
        match self.call(request, option.hard_ttl()).await? {
            Answer::Voted(voted) => Ok(voted),
            _ => Err(wrong_answer()),
        }
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let request = Request::PreVote(request).encode();
        match self.call(request, option.hard_ttl()).await? {
            Answer::Voted(voted) => Ok(voted),
            _ => Err(wrong_answer()),
        }
    }
}

impl NetSnapshot<Types> for Client {
    type SnapshotData = Manifest;

    /// May take minutes: as long as the follower says that it gets on.
    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        offer::offer(&self.network, self.target, vote, snapshot, cancel).await
    }
}

impl NetTransferLeader<Types> for Client {
    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        // The target may wait for its log to be flushed before it answers.
        let request = Request::Transfer(request).encode();
        match self.call(request, option.hard_ttl()).await? {
            Answer::Transferred(result) => Ok(result),
            _ => Err(wrong_answer()),
        }
    }
}

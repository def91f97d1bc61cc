//! What other replicas of a shard send: decoded, given to openraft, answered.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use openraft::raft::{AppendEntriesResponse, StreamAppendError, VoteRequest, VoteResponse};
use storage::bugs::{self, Bug};
use storage::{LogIndex, LogPosition, NodeId, ShardId, Term};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::Apply;
use crate::claims;
use crate::group::GroupRaft;
use crate::message::{Answer, Request};
use crate::peer::{CallError, Lane, Receive, StreamAnswers};
use crate::staging::Staging;
use crate::status::Status;
use crate::tombstone::Recall;
use crate::types::{Types, log_id};

/// A shard's way in.
pub(crate) struct Receiver<A: Apply> {
    pub(crate) shard: ShardId,
    pub(crate) raft: GroupRaft<A>,
    pub(crate) staging: Arc<Staging<A>>,
    pub(crate) recall: Recall,
    pub(crate) status: Arc<Status>,
}

impl<A: Apply> Receive for Receiver<A> {
    fn call(
        &self,
        from: NodeId,
        _lane: Lane,
        request: Bytes,
    ) -> BoxFuture<'static, Result<Vec<Bytes>, CallError>> {
        let Some(request) = read(self.shard, from, request) else {
            return async { Err(CallError::Malformed) }.boxed();
        };
        let (raft, staging) = (self.raft.clone(), Arc::clone(&self.staging));
        let (recall, status) = (self.recall.clone(), Arc::clone(&self.status));
        let received = Instant::now();
        async move {
            let answer = answer(&raft, &staging, &recall, from, request).await?;
            // Single appends are heartbeats. A conflict comes from who is taken for the leader.
            if let Answer::Appended(Ok(_) | Err(StreamAppendError::Conflict(_))) = &answer {
                status.hear(received);
            }
            Ok(answer.encode())
        }
        .boxed()
    }

    fn stream(
        &self,
        from: NodeId,
        requests: mpsc::Receiver<Bytes>,
        answers: StreamAnswers,
    ) -> BoxFuture<'static, ()> {
        let (raft, shard) = (self.raft.clone(), self.shard);
        async move {
            let appends = futures_util::stream::unfold(requests, move |mut requests| async move {
                match read(shard, from, requests.recv().await?) {
                    Some(Request::Append(append)) => Some((append, requests)),
                    _ => None,
                }
            });
            let mut appended = Box::pin(raft.stream_append(Box::pin(appends)));
            // Ends with the requests, with the first refusal, and when the shard stops.
            while let Some(Ok(result)) = appended.next().await {
                let is_last = result.is_err();
                if answers.send(Answer::Appended(result).encode()).is_err() || is_last {
                    return;
                }
            }
        }
        .boxed()
    }
}

/// The request, when it can be read and believed.
fn read(shard: ShardId, from: NodeId, bytes: Bytes) -> Option<Request> {
    let request = match Request::decode(bytes) {
        Ok(request) => request,
        Err(error) => {
            tracing::warn!(shard = shard.0, node = from.0, %error, "a peer's request cannot be read");
            return None;
        }
    };
    if let Err(error) = claims::check(from, &request) {
        tracing::warn!(shard = shard.0, node = from.0, %error, "a peer's request is refused");
        return None;
    }
    Some(request)
}

async fn answer<A: Apply>(
    raft: &GroupRaft<A>,
    staging: &Arc<Staging<A>>,
    recall: &Recall,
    from: NodeId,
    request: Request,
) -> Result<Answer, CallError> {
    // openraft fails only when the shard stopped.
    let closed = |_| CallError::Closed;
    let request = match request {
        Request::Vote(asked) if bugs::is_on(Bug::VoteForShorterLog) => {
            Request::Vote(with_longest_log(asked))
        }
        Request::PreVote(asked) if bugs::is_on(Bug::VoteForShorterLog) => {
            Request::PreVote(with_longest_log(asked))
        }
        request => request,
    };
    Ok(match request {
        Request::Append(append) => {
            let prev = append.prev_log_id;
            let last = append.entries.last().map(|entry| entry.log_id).or(prev);
            let response = raft.append_entries(append).await.map_err(closed)?;
            if prev.is_none() && response == AppendEntriesResponse::Conflict {
                // Nothing before the first entry can conflict.
                return Err(CallError::Malformed);
            }
            Answer::Appended(response.into_stream_result(prev, last))
        }
        Request::Vote(asked) | Request::PreVote(asked)
            if !recall.admits(asked.last_log_id.as_ref()) =>
        {
            // Refused as if that log were still here, which is longer.
            let vote = raft.with_raft_state(|state| *state.vote_ref()).await;
            let last = recall.last.map(log_id);
            let vote = vote.map_err(|_| CallError::Closed)?;
            Answer::Voted(VoteResponse::new(vote, last, false))
        }
        Request::Vote(vote) => Answer::Voted(raft.vote(vote).await.map_err(closed)?),
        Request::PreVote(vote) => Answer::Voted(raft.pre_vote(vote).await.map_err(closed)?),
        Request::Transfer(transfer) => Answer::Transferred(
            raft.handle_transfer_leader(transfer)
                .await
                .map_err(|_| CallError::Closed)?,
        ),
        Request::Offer {
            number,
            vote,
            checkpoint,
        } => staging.offered(from, number, vote, checkpoint).await?,
        Request::Part { number, vote, part } => staging.part(from, number, vote, part).await?,
        Request::Poll { number } => staging.polled(from, number).await,
        Request::Withdraw { number } => staging.withdrawn(from, number),
    })
}

/// The request of a candidate whose log is longer than any.
fn with_longest_log(mut asked: VoteRequest<Types>) -> VoteRequest<Types> {
    asked.last_log_id = Some(log_id(LogPosition {
        term: Term(u64::MAX),
        index: LogIndex(u64::MAX),
    }));
    asked
}

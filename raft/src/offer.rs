//! A leader's side of handing its checkpoint to a follower.
//!
//! The checkpoint is offered once, in one request or, when it is large, in several; the follower
//! then fetches what it names by its own means while the leader asks how far it is. As long as it answers that it gets on there is no
//! time-out; when openraft gives up, the offer is withdrawn.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use openraft::OptionalSend;
use openraft::error::{NetworkError, ReplicationClosed, StreamingError, Unreachable};
use openraft::raft::SnapshotResponse;
use storage::NodeId;

use crate::StageProgress;
use crate::message::{Answer, Request};
use crate::network::Network;
use crate::parts::{CHECKPOINT_BYTES_MAX, cut, part_bytes};
use crate::peer::{Lane, LinkError};
use crate::snapshot::Checkpoint;
use crate::steering::Stagings;
use crate::types::{Snapshot, Types, Vote};

/// For one offer or poll to be answered.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Between an answer and the next poll; the follower answers a poll late when there is no news.
const POLL_PAUSE: Duration = Duration::from_millis(20);
/// Polls in a row that may fail before the offer is given up.
const POLL_FAILURES_MAX: usize = 5;
/// Between a failed poll and the next.
const POLL_FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// Tells offers of this process apart; the follower pairs it with the leader's vote.
static NUMBER: AtomicU64 = AtomicU64::new(1);

/// The follower could not take the checkpoint over.
#[derive(Debug, thiserror::Error)]
#[error("the follower could not take the checkpoint over: {sentence}")]
struct Refused {
    sentence: String,
}

/// The follower knows nothing of the offer: it started anew, or took a newer one.
#[derive(Debug, thiserror::Error)]
#[error("the follower forgot the offer")]
struct Forgotten;

/// No follower would take it.
#[derive(Debug, thiserror::Error)]
#[error("the checkpoint has {bytes} bytes, at most {CHECKPOINT_BYTES_MAX}")]
struct TooLarge {
    bytes: usize,
}

/// Shows that a checkpoint is on its way, as long as it lives.
struct Shown<'a> {
    stagings: &'a Stagings,
    node: NodeId,
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        self.stagings.end(self.node);
    }
}

/// Hands `snapshot` to `target`; returns when it is installed there.
pub(crate) async fn offer(
    network: &Network,
    target: NodeId,
    vote: Vote,
    snapshot: Snapshot,
    cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let shown = Shown {
        stagings: &network.stagings,
        node: target,
    };
    network.stagings.set(target, StageProgress::default());
    let checkpoint = Checkpoint {
        meta: snapshot.meta,
        manifest: snapshot.snapshot,
    };
    let carried = carry(network, target, (number, vote), checkpoint);
    let result = tokio::select! {
        carried = carried => carried,
        closed = cancel => {
            // If it gets lost the follower notices that nobody asks any more.
            let _ = call(network, target, &Request::Withdraw { number }).await;
            Err(StreamingError::Closed(closed))
        }
    };
    drop(shown);
    result
}

async fn carry(
    network: &Network,
    target: NodeId,
    (number, vote): (u64, Vote),
    checkpoint: Checkpoint,
) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
    let bytes: usize = checkpoint.pieces().iter().map(Bytes::len).sum();
    if bytes as u64 > CHECKPOINT_BYTES_MAX {
        let (shard, node) = (network.shard.0, target.0);
        tracing::error!(
            shard,
            node,
            bytes,
            "a checkpoint is too large to be handed to a follower"
        );
        return Err(unreachable(&TooLarge { bytes }));
    }
    let mut answer = begin(network, target, (number, vote), checkpoint).await;
    let mut failures = 0;
    loop {
        match answer {
            Ok(Answer::Installed { vote }) => return Ok(SnapshotResponse::new(vote)),
            Ok(Answer::Staging(progress)) => {
                failures = 0;
                network.stagings.set(target, progress);
                tokio::time::sleep(POLL_PAUSE).await;
            }
            Ok(Answer::Failed { sentence }) => {
                let (shard, node) = (network.shard.0, target.0);
                tracing::warn!(shard, node, reason = %sentence, "a follower could not take a checkpoint over");
                return Err(unreachable(&Refused { sentence }));
            }
            // Offered anew at once, for it is a new process or took another leader's.
            Ok(_) => return Err(StreamingError::Network(NetworkError::new(&Forgotten))),
            Err(
                error @ (LinkError::Closed | LinkError::TimedOut | LinkError::Unreachable { .. }),
            ) if failures < POLL_FAILURES_MAX => {
                failures += 1;
                tracing::debug!(shard = network.shard.0, node = target.0, %error, "no answer about a checkpoint");
                tokio::time::sleep(POLL_FAILURE_PAUSE).await;
            }
            Err(error) => return Err(unreachable(&error)),
        }
        answer = call(network, target, &Request::Poll { number }).await;
    }
}

/// Offers it; answers what is said to the offer, or to the part of it that was not taken.
async fn begin(
    network: &Network,
    target: NodeId,
    (number, vote): (u64, Vote),
    checkpoint: Checkpoint,
) -> Result<Answer, LinkError> {
    let pieces = checkpoint.pieces();
    let bytes_max = part_bytes(network.peers.frame_bytes_max());
    if pieces.iter().map(Bytes::len).sum::<usize>() <= bytes_max {
        let offer = Request::Offer {
            number,
            vote,
            checkpoint,
        };
        return call(network, target, &offer).await;
    }
    drop(checkpoint);
    let mut answer = Answer::UnknownOffer;
    for part in cut(&pieces, bytes_max) {
        let request = Request::Part { number, vote, part };
        answer = call_again(network, target, &request).await?;
        if !matches!(answer, Answer::More) {
            // Of the last part it is the answer to the offer, of any other its end.
            return Ok(answer);
        }
    }
    Ok(answer)
}

/// Asks again when there is no answer.
async fn call_again(
    network: &Network,
    target: NodeId,
    request: &Request,
) -> Result<Answer, LinkError> {
    let mut failures = 0;
    loop {
        match call(network, target, request).await {
            Err(LinkError::Closed | LinkError::TimedOut | LinkError::Unreachable { .. })
                if failures < POLL_FAILURES_MAX =>
            {
                failures += 1;
                tokio::time::sleep(POLL_FAILURE_PAUSE).await;
            }
            answer => return answer,
        }
    }
}

fn unreachable(error: &(impl std::error::Error + 'static)) -> StreamingError<Types> {
    StreamingError::Unreachable(Unreachable::new(error))
}

async fn call(network: &Network, target: NodeId, request: &Request) -> Result<Answer, LinkError> {
    let answer = network
        .peers
        .call(
            target,
            Lane::Bulk,
            network.shard,
            request.encode(),
            ANSWER_MAX,
        )
        .await?;
    Answer::decode(answer).map_err(|_| LinkError::Rejected)
}

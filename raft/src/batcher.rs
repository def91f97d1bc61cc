//! Makes entries of waiting operations, proposes them, and answers each operation when its entry is
//! applied.
//!
//! Whatever happens to an entry, everybody who waits for it is answered exactly once: with the
//! outcome, with a definite error when openraft says that it never entered the log, and with
//! `Unknown` in every other case, also when openraft drops the entry without a word. A leader that
//! has lost the majority answers `Unknown` before the entry's fate is known, which may take for ever.

use std::sync::Arc;

use openraft::Raft;
use openraft::error::ClientWriteError;
use openraft::raft::ClientWriteResult;
use openraft::storage::RaftStateMachine;
use storage::clock::Clock;
use storage::journal::Journal;

use crate::queue::{Proposal, Queue};
use crate::status::{End, Status};
use crate::types::{Answer, Bundle, Payload, Types, node_id};
use crate::{ProposeError, UnknownReason};

pub(crate) struct Batcher<O, SM: RaftStateMachine<Types>> {
    pub(crate) queue: Arc<Queue<O>>,
    pub(crate) raft: Raft<Types, SM>,
    pub(crate) status: Arc<Status>,
    pub(crate) journal: Journal,
    pub(crate) clock: Clock,
}

impl<O: Send + Sync + 'static, SM: RaftStateMachine<Types>> Batcher<O, SM> {
    /// Runs until the queue is closed.
    pub(crate) async fn run(self) {
        while let Some(proposals) = self.queue.take().await {
            let proposals = self.admit(proposals);
            if proposals.is_empty() {
                self.queue.landed();
            } else {
                self.propose(proposals).await;
            }
        }
    }

    /// Refuses data that was queued before the disk filled up.
    fn admit(&self, proposals: Vec<Proposal<O>>) -> Vec<Proposal<O>> {
        if self.journal.admits_data() {
            return proposals;
        }
        let (refused, admitted): (Vec<_>, Vec<_>) =
            proposals.into_iter().partition(Proposal::has_data);
        for proposal in refused {
            proposal.reply.fail(ProposeError::StorageFull);
        }
        admitted
    }

    async fn propose(&self, proposals: Vec<Proposal<O>>) {
        let mut ops = Vec::with_capacity(proposals.iter().map(|proposal| proposal.ops.len()).sum());
        let mut replies = Vec::with_capacity(proposals.len());
        for proposal in proposals {
            ops.extend(proposal.ops);
            replies.push(proposal.reply);
        }
        let bundle = Arc::new(Bundle {
            time_ms: self.clock.wall_ms(),
            ops,
        });
        let flight = Flight {
            number: self.queue.depart(replies),
            queue: Arc::clone(&self.queue),
            status: Arc::clone(&self.status),
            journal: self.journal.clone(),
        };
        let answer = Answer(Box::new(move |result| flight.land(result)));
        if self
            .raft
            .client_write_ff(Payload::Ops(bundle), Some(answer))
            .await
            .is_err()
        {
            // The core is gone; the flight was dropped with the message and has answered.
            self.status.end(failure(&self.journal));
        }
    }
}

fn failure(journal: &Journal) -> End {
    if journal.failed().is_some() {
        End::JournalFailed
    } else {
        End::Failed
    }
}

/// An entry on its way. Those who wait for it stand in the queue under its number, where they can be
/// answered before it lands.
struct Flight<O> {
    number: u64,
    queue: Arc<Queue<O>>,
    status: Arc<Status>,
    journal: Journal,
}

impl<O: Send + Sync + 'static> Flight<O> {
    fn land(self, result: ClientWriteResult<Types>) {
        let replies = self.queue.arrive(self.number);
        let error = match result {
            Ok(response) => {
                let outcomes = response
                    .data
                    .0
                    .and_then(|all| all.downcast::<Vec<O>>().ok());
                let outcomes = outcomes.expect("apply answers what it was asked to answer");
                let mut outcomes = outcomes.into_iter();
                replies
                    .into_iter()
                    .for_each(|reply| reply.send(&mut outcomes));
                return;
            }
            // Never appended.
            Err(ClientWriteError::ForwardToLeader(forward)) => ProposeError::NotLeader {
                leader: forward.leader_id.map(node_id),
            },
            // Appended here, overtaken by another leader who may have committed it. The other two
            // belong to membership changes; nothing definite is claimed of them.
            Err(
                ClientWriteError::LogEntryDiscarded(_)
                | ClientWriteError::ChangeMembershipError(_)
                | ClientWriteError::PreconditionFailed(_),
            ) => ProposeError::Unknown {
                reason: UnknownReason::LeaderChanged,
            },
        };
        replies
            .into_iter()
            .for_each(|reply| reply.fail(error.clone()));
    }
}

impl<O> Drop for Flight<O> {
    fn drop(&mut self) {
        let replies = self.queue.arrive(self.number);
        if !replies.is_empty() {
            let end = self
                .status
                .ended()
                .unwrap_or_else(|| failure(&self.journal));
            let error = end.unknown();
            replies
                .into_iter()
                .for_each(|reply| reply.fail(error.clone()));
        }
        self.queue.landed();
    }
}

//! Asks other nodes: forwards changes of the catalogue to its leader, moves leaders.
//!
//! A change is proposed here when this node leads the catalogue and sent to the leader otherwise,
//! again and again while it is certain that nothing came of it, until the time is up. After an
//! unknown outcome only commands that may be repeated are sent again.

use std::time::Duration;

use bytes::Bytes;
use raft::{AskError, Lane, MembersError};
use storage::{NodeId, ShardId};

use super::message::{Answer, Applied, Proposed, Request, decode_answer};
use crate::broker::{CATALOGUE_SHARD, refused};
use crate::catalogue::command::Command;
use crate::catalogue::machine::Outcome;
use crate::{Broker, BrokerError};

/// How long a change of the catalogue may take.
const CHANGE_MAX: Duration = Duration::from_secs(10);
/// How long a node waits until its own catalogue has what the leader's had.
const CATCH_UP_MAX: Duration = Duration::from_secs(2);
/// Pause before a change is tried again when nothing is seen to change.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Pause between two looks at how far this node's catalogue is.
const LOOK_PAUSE: Duration = Duration::from_millis(10);
/// How long it may take to find out how far the catalogue is.
const BARRIER_MAX: Duration = Duration::from_secs(5);
/// How long moving a leader may take.
const TRANSFER_MAX: Duration = Duration::from_secs(10);

/// Whether nothing came of it for certain, and it may come of it when tried again.
fn is_worth_another_try(error: &BrokerError) -> bool {
    matches!(
        error,
        BrokerError::NotLeader { .. } | BrokerError::LeaderNotAvailable
    )
}

/// Whether carrying it out twice is like carrying it out once.
fn may_be_repeated(command: &Command) -> bool {
    match command {
        Command::Found { .. }
        | Command::PutNode(_)
        | Command::TakeProducerIds { .. }
        | Command::Join(_)
        | Command::SetNodeState { .. }
        | Command::RemoveNode { .. }
        | Command::SetTarget { .. }
        | Command::BeginMove { .. }
        | Command::FinishMove { .. }
        | Command::CancelMove { .. }
        | Command::PinShards { .. }
        | Command::Return(_)
        | Command::Voided { .. }
        | Command::Accept { .. } => true,
        Command::CreateTopic(_)
        | Command::DeleteTopic(_)
        | Command::AddPartitions { .. }
        | Command::SetTopicConfig { .. }
        | Command::AlterQuotas { .. }
        | Command::SetBrokerConfigs { .. }
        | Command::CreateShards { .. }
        | Command::ShardChanged { .. } => false,
    }
}

impl Broker {
    /// Changes the catalogue, wherever its leader is, and waits until the change is applied there
    /// and, mostly, here.
    pub(crate) async fn change_catalogue(&self, command: &Command) -> Result<Outcome, BrokerError> {
        let changing = self.change_until_done(command);
        let proposed = match tokio::time::timeout(CHANGE_MAX, changing).await {
            Ok(proposed) => proposed?,
            Err(_) => {
                return Err(BrokerError::TimedOut {
                    reason: "the catalogue's leader did not answer in time".to_owned(),
                });
            }
        };
        match proposed.outcome {
            Outcome::Refused(error) => Err(error),
            outcome => Ok(outcome),
        }
    }

    async fn change_until_done(&self, command: &Command) -> Result<Proposed, BrokerError> {
        let mut leadership = self.inner.catalogue_shard.leadership();
        loop {
            if self.is_stopping() {
                return Err(BrokerError::ShuttingDown);
            }
            let seen = *leadership.borrow_and_update();
            let leader = seen.leader.or_else(|| self.controller());
            let proposed = match leader {
                _ if seen.serving => self.propose_here(command).await,
                Some(leader) if leader != self.node_id() => {
                    self.propose_there(leader, command).await
                }
                _ => Err(BrokerError::LeaderNotAvailable),
            };
            match proposed {
                Err(BrokerError::TimedOut { .. }) if may_be_repeated(command) => {}
                Err(error) if is_worth_another_try(&error) => {}
                proposed => return proposed,
            }
            // Either way it is looked at again; a shard that is closed is noticed above.
            let _ = tokio::time::timeout(RETRY_PAUSE, leadership.changed()).await;
        }
    }

    /// Proposes a change of the catalogue, as its leader.
    pub(crate) async fn propose_here(&self, command: &Command) -> Result<Proposed, BrokerError> {
        let shard = &self.inner.catalogue_shard;
        let op = raft::Op::control(command.encode());
        let pending = shard.submit(op).await.map_err(|error| refused(&error))?;
        let outcome = pending.await.map_err(|error| refused(&error))?;
        // The command's entry is not behind the last of the log.
        let last = shard.progress().last;
        Ok(Proposed {
            outcome,
            applied: last.map_or(0, |last| last.index.0),
        })
    }

    /// Sends a change to a node that leads the catalogue, as far as known.
    pub(crate) async fn propose_there(
        &self,
        leader: NodeId,
        command: &Command,
    ) -> Result<Proposed, BrokerError> {
        let request = Request::Propose(command.encode());
        let proposed: Proposed = self
            .ask(leader, Lane::Control, request.encode(), CHANGE_MAX)
            .await?;
        // Reading the own catalogue afterwards shows the change. When this node lags for longer
        // the change is no less true.
        if !self.catalogue_reaches(proposed.applied).await {
            tracing::warn!("this node's catalogue is behind its leader's");
        }
        Ok(proposed)
    }

    /// Waits until this node's catalogue is as far; `false` when that takes long.
    async fn catalogue_reaches(&self, index: u64) -> bool {
        let reaching = async {
            let applied = || self.inner.catalogue_shard.progress().applied;
            while applied().is_none_or(|applied| applied.index.0 < index) {
                tokio::time::sleep(LOOK_PAUSE).await;
            }
        };
        tokio::time::timeout(CATCH_UP_MAX, reaching).await.is_ok()
    }

    /// How far the catalogue is for certain, asked of this node as its leader.
    pub(crate) async fn barrier_here(&self) -> Result<Applied, BrokerError> {
        let shard = &self.inner.catalogue_shard;
        let passed = shard.read_barrier().await;
        passed.map_err(|error| refused(&error))?;
        let last = shard.progress().last;
        Ok(Applied(last.map_or(0, |last| last.index.0)))
    }

    /// Makes sure that this node's catalogue has everything that was committed before the call.
    pub(crate) async fn catalogue_is_current(&self) -> Result<(), BrokerError> {
        let leadership = *self.inner.catalogue_shard.leadership().borrow();
        if leadership.serving {
            return self.barrier_here().await.map(|_| ());
        }
        let leader = leadership.leader.filter(|leader| *leader != self.node_id());
        let leader = leader.ok_or(BrokerError::LeaderNotAvailable)?;
        let request = Request::Barrier.encode();
        let Applied(index) = self
            .ask(leader, Lane::Control, request, BARRIER_MAX)
            .await?;
        if self.catalogue_reaches(index).await {
            return Ok(());
        }
        Err(BrokerError::LeaderNotAvailable)
    }

    /// Asks another node; its refusal is like one of this node's own.
    pub(crate) async fn ask<T: Answer>(
        &self,
        node: NodeId,
        lane: Lane,
        request: Bytes,
        deadline: Duration,
    ) -> Result<T, BrokerError> {
        let answer = self.inner.peers.ask(node, lane, request, deadline).await;
        let answer = answer.map_err(|error| unanswered(node, &error))?;
        decode_answer(answer).unwrap_or_else(|error| {
            Err(BrokerError::TimedOut {
                reason: format!("node {node} answered what this node cannot read: {error}"),
            })
        })
    }

    /// Asks the node that leads a shard, which may be this one, to let another replica lead.
    pub(crate) async fn ask_transfer(
        &self,
        leader: NodeId,
        shard: ShardId,
        to: NodeId,
    ) -> Result<(), BrokerError> {
        if leader == self.node_id() {
            return self.transfer_here(shard, to).await;
        }
        let request = Request::TransferLeader { shard, to }.encode();
        self.ask(leader, Lane::Control, request, TRANSFER_MAX).await
    }

    /// Lets another replica lead a shard that this node leads.
    pub(crate) async fn transfer_here(
        &self,
        shard: ShardId,
        to: NodeId,
    ) -> Result<(), BrokerError> {
        let moved = if shard == CATALOGUE_SHARD {
            self.inner.catalogue_shard.transfer_leader(to).await
        } else {
            let shard = self.data_shard(shard);
            let shard = shard.ok_or(BrokerError::NotLeader { leader: None })?;
            shard.shard.transfer_leader(to).await
        };
        moved.map_err(|error| not_moved(&error))
    }
}

fn not_moved(error: &MembersError) -> BrokerError {
    match error {
        MembersError::NotLeader { leader } => BrokerError::NotLeader { leader: *leader },
        MembersError::TimedOut | MembersError::Unknown => BrokerError::TimedOut {
            reason: error.to_string(),
        },
        MembersError::Closed => BrokerError::LeaderNotAvailable,
        MembersError::InProgress
        | MembersError::NotReplica { .. }
        | MembersError::NoVoters
        | MembersError::NotVoter { .. } => BrokerError::Conflict {
            reason: error.to_string(),
        },
    }
}

/// What a missing answer means: nothing came of it, or that is not known.
fn unanswered(node: NodeId, error: &AskError) -> BrokerError {
    match error {
        AskError::Closed | AskError::TimedOut | AskError::Rejected => BrokerError::TimedOut {
            reason: format!("node {node}: {error}"),
        },
        AskError::ShuttingDown => BrokerError::ShuttingDown,
        AskError::NotAMember { .. }
        | AskError::Unreachable { .. }
        | AskError::Refused(_)
        | AskError::NoShard
        | AskError::NotServing
        | AskError::TooLarge => BrokerError::LeaderNotAvailable,
    }
}

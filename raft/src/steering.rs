//! What handles on a shard steer it by: changes of members, of the leader, and what is known of
//! replicas. Handles hold it weakly, so that a forgotten handle keeps no shard alive.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use openraft::async_runtime::WatchReceiver;
use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, Instant};
use storage::{LogIndex, NodeId, ShardId};

use crate::group::GroupRaft;
use crate::inspect::{self, ShardInspection};
use crate::membership::Replicas;
use crate::status::Status;
use crate::types::{Types, node_id};
use crate::{Apply, MembersError, ReplicaProgress, StageProgress};

/// How long a transfer of leadership may take, in longest election time-outs.
const TRANSFER_TIMEOUTS: u64 = 5;
/// Between one request to take the lead and the next: the last entries may not have been synced
/// there yet.
const ASK_AGAIN_MS: u64 = 150;

/// Checkpoints on their way from this node to followers.
#[derive(Debug, Default)]
pub(crate) struct Stagings {
    running: Mutex<BTreeMap<NodeId, StageProgress>>,
}

impl Stagings {
    pub(crate) fn set(&self, node: NodeId, progress: StageProgress) {
        self.locked().insert(node, progress);
    }

    pub(crate) fn end(&self, node: NodeId) {
        self.locked().remove(&node);
    }

    pub(crate) fn is_active(&self) -> bool {
        !self.locked().is_empty()
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, StageProgress>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Steers one shard, whatever its state machine.
pub(crate) trait Steer: Send + Sync {
    fn replicas(&self) -> Option<Replicas>;
    fn add_learner(self: Arc<Self>, node: NodeId) -> BoxFuture<'static, Result<(), MembersError>>;
    fn change_members(
        self: Arc<Self>,
        voters: BTreeSet<NodeId>,
        learners: BTreeSet<NodeId>,
    ) -> BoxFuture<'static, Result<(), MembersError>>;
    fn transfer_leader(self: Arc<Self>, to: NodeId)
    -> BoxFuture<'static, Result<(), MembersError>>;
    fn inspect(&self, shard: ShardId) -> ShardInspection;
}

pub(crate) struct Steering<A: Apply> {
    pub(crate) raft: GroupRaft<A>,
    pub(crate) status: Arc<Status>,
    pub(crate) me: NodeId,
    pub(crate) stagings: Arc<Stagings>,
}

impl<A: Apply> Steer for Steering<A> {
    fn replicas(&self) -> Option<Replicas> {
        let metrics = self.raft.data_metrics();
        let (replication, heartbeat) = {
            let metrics = metrics.borrow_watched();
            (metrics.replication.clone()?, metrics.heartbeat.clone())
        };
        let stagings = self.stagings.locked().clone();
        let replicas = replication.into_iter().map(|(id, matched)| {
            let node = node_id(id);
            let acknowledged = heartbeat.as_ref().and_then(|all| all.get(&id)?.as_ref());
            let ago = acknowledged.map(|at| at.elapsed().as_millis());
            let progress = ReplicaProgress {
                matched: matched.map(|id| LogIndex(id.index)),
                acknowledged_ms_ago: if node == self.me {
                    Some(0)
                } else {
                    ago.map(|ago| u64::try_from(ago).unwrap_or(u64::MAX))
                },
                staging: stagings.get(&node).copied(),
            };
            (node, progress)
        });
        Some(replicas.collect())
    }

    fn add_learner(self: Arc<Self>, node: NodeId) -> BoxFuture<'static, Result<(), MembersError>> {
        async move {
            let added = self.raft.add_learner(u64::from(node.0), (), false).await;
            added.map(|_| ()).map_err(refusal)
        }
        .boxed()
    }

    fn change_members(
        self: Arc<Self>,
        voters: BTreeSet<NodeId>,
        learners: BTreeSet<NodeId>,
    ) -> BoxFuture<'static, Result<(), MembersError>> {
        async move { self.change(voters, learners).await }.boxed()
    }

    fn transfer_leader(
        self: Arc<Self>,
        to: NodeId,
    ) -> BoxFuture<'static, Result<(), MembersError>> {
        async move { self.transfer(to).await }.boxed()
    }

    fn inspect(&self, shard: ShardId) -> ShardInspection {
        inspect::look(&self.raft, shard)
    }
}

impl<A: Apply> Steering<A> {
    /// At most three changes: those who leave without ever having voted go first, while the leader
    /// is still one; then the voters; then voters of before who are not to stay as learners.
    async fn change(
        &self,
        voters: BTreeSet<NodeId>,
        learners: BTreeSet<NodeId>,
    ) -> Result<(), MembersError> {
        if voters.is_empty() {
            return Err(MembersError::NoVoters);
        }
        let learners: BTreeSet<NodeId> = learners.difference(&voters).copied().collect();
        let held = self.status.members.borrow().clone();
        if let Some(stranger) = voters
            .union(&learners)
            .find(|node| !held.voters.contains(node) && !held.learners.contains(node))
        {
            self.leads()?;
            return Err(MembersError::NotReplica { node: *stranger });
        }
        let wanted = |node: &NodeId| voters.contains(node) || learners.contains(node);
        let unwanted: BTreeSet<u64> = ids(held.learners.iter().filter(|node| !wanted(node)));
        if !unwanted.is_empty() {
            self.commit(ChangeMembers::RemoveNodes(unwanted), false)
                .await?;
        }
        let demoted = held.voters.iter().any(|node| learners.contains(node));
        if held.voters != voters || held.is_joint {
            let change = ChangeMembers::ReplaceAllVoters(ids(voters.iter()));
            self.commit(change, demoted).await?;
        }
        let removed: BTreeSet<u64> = ids(held.voters.iter().filter(|node| !wanted(node)));
        if demoted && !removed.is_empty() {
            self.commit(ChangeMembers::RemoveNodes(removed), false)
                .await?;
        }
        Ok(())
    }

    async fn commit(
        &self,
        change: ChangeMembers<u64, ()>,
        retain: bool,
    ) -> Result<(), MembersError> {
        let changed = self.raft.change_membership(change, retain).await;
        changed.map(|_| ()).map_err(refusal)
    }

    fn leads(&self) -> Result<(), MembersError> {
        let leader = self.status.leadership.borrow().leader;
        if leader == Some(self.me) {
            Ok(())
        } else {
            Err(MembersError::NotLeader { leader })
        }
    }

    /// Moves leadership, when it is here, to the voter that has come farthest of those heard from
    /// lately.
    pub(crate) async fn hand_over(&self) {
        let Some(replicas) = self.replicas() else {
            return;
        };
        let recent_ms = self.raft.config().election_timeout_max;
        let voters = self.status.members.borrow().voters.clone();
        let best = replicas
            .iter()
            .filter(|(node, replica)| {
                let is_heard = replica
                    .acknowledged_ms_ago
                    .is_some_and(|ago| ago < recent_ms);
                **node != self.me && voters.contains(node) && is_heard
            })
            .max_by_key(|(_, replica)| replica.matched);
        let Some((to, _)) = best else { return };
        self.status.hand_over();
        let asked = self.raft.trigger().transfer_leader(u64::from(to.0)).await;
        if asked.is_err() {
            // It has stopped.
            return;
        }
        let mut server = self.raft.server_metrics();
        let me = Some(u64::from(self.me.0));
        while server.borrow_watched().current_leader == me {
            if server.changed().await.is_err() {
                return;
            }
        }
    }

    /// Asks again every now and then: what is asked may be lost.
    async fn transfer(&self, to: NodeId) -> Result<(), MembersError> {
        self.leads()?;
        if to == self.me {
            return Ok(());
        }
        if !self.status.members.borrow().voters.contains(&to) {
            return Err(MembersError::NotVoter { node: to });
        }
        let mut leadership = self.status.leadership.subscribe();
        let limit_ms = self.raft.config().election_timeout_max * TRANSFER_TIMEOUTS;
        self.status.hand_over();
        for _ in 0..limit_ms.div_ceil(ASK_AGAIN_MS) {
            self.raft
                .trigger()
                .transfer_leader(u64::from(to.0))
                .await
                .map_err(|_| MembersError::Closed)?;
            let moved = leadership.wait_for(|held| held.leader != Some(self.me));
            match tokio::time::timeout(Duration::from_millis(ASK_AGAIN_MS), moved).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(_)) => return Err(MembersError::Closed),
                Err(_) => {}
            }
        }
        Err(MembersError::TimedOut)
    }
}

fn ids<'a>(nodes: impl Iterator<Item = &'a NodeId>) -> BTreeSet<u64> {
    nodes.map(|node| u64::from(node.0)).collect()
}

/// Why openraft did not change the members.
fn refusal(error: RaftError<Types, ClientWriteError<Types>>) -> MembersError {
    match error {
        RaftError::Fatal(_) => MembersError::Closed,
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            MembersError::NotLeader {
                leader: forward.leader_id.map(node_id),
            }
        }
        RaftError::APIError(
            ClientWriteError::LogEntryDiscarded(_) | ClientWriteError::PreconditionFailed(_),
        ) => MembersError::Unknown,
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => match error {
            ChangeMembershipError::EmptyMembership(_) => MembersError::NoVoters,
            ChangeMembershipError::LearnerNotFound(missing) => MembersError::NotReplica {
                node: node_id(missing.node_id),
            },
            ChangeMembershipError::InProgress(_)
            | ChangeMembershipError::UncommittedLeaderLog(_)
            | ChangeMembershipError::UnsupportedMembershipTransition(_)
            | ChangeMembershipError::NodeMetadataChanged(_) => MembersError::InProgress,
        },
    }
}

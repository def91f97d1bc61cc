//! A shard's replicas: who they are, how far each has come, and how they change.
//!
//! Changes go through the shard's log. Each call returns when its change is committed, or with the
//! reason why it was not begun; after `Unknown` it may still come about.

use std::collections::{BTreeMap, BTreeSet};

use storage::{LogIndex, NodeId};

use crate::StageProgress;
use crate::types::{StoredMembership, node_id};

/// The replicas of a shard, as of the last membership in this node's log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    /// Those who vote; of both configurations while a change is under way.
    pub voters: BTreeSet<NodeId>,
    /// Those who only receive the log.
    pub learners: BTreeSet<NodeId>,
    /// Whether a change of voters is under way.
    pub is_joint: bool,
    /// Index of the entry that made them so, which may not be committed yet.
    pub at: Option<LogIndex>,
}

impl Members {
    pub(crate) fn of(membership: &StoredMembership) -> Members {
        let at = membership.log_id().as_ref();
        let at = at.map(|id| LogIndex(id.index));
        let membership = membership.membership();
        Members {
            at,
            voters: membership.voter_ids().map(node_id).collect(),
            learners: membership.learner_ids().map(node_id).collect(),
            is_joint: membership.get_joint_config().len() > 1,
        }
    }

    /// Whether no node but this one takes part: such a shard needs no ticks. Where another is the
    /// only voter that is not so: it may lack the entry that made it so, and then it is for this
    /// node to lead once more.
    pub(crate) fn is_alone(&self, me: NodeId) -> bool {
        self.voters.iter().all(|voter| *voter == me) && self.learners.is_empty()
    }
}

/// What the leader knows of one replica.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplicaProgress {
    /// Last entry known to be in its log; `None` when nothing is known to match.
    pub matched: Option<LogIndex>,
    /// How long ago it last acknowledged anything; `None` when it never did. The leader itself: 0.
    pub acknowledged_ms_ago: Option<u64>,
    /// Set while it fetches a checkpoint.
    pub staging: Option<StageProgress>,
}

/// What the leader knows of each replica.
pub(crate) type Replicas = BTreeMap<NodeId, ReplicaProgress>;

/// Why members did not change, or leadership did not move.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembersError {
    /// This node does not lead the shard: ask the leader.
    #[error("this node does not lead the shard")]
    NotLeader {
        /// The leader, when this node knows of one.
        leader: Option<NodeId>,
    },
    /// A change is under way: wait for it.
    #[error("another change of members is under way")]
    InProgress,
    /// A voter to be is neither voter nor learner: add it as a learner first.
    #[error("node {node} is not a replica of the shard", node = node.0)]
    NotReplica {
        /// The node.
        node: NodeId,
    },
    /// No voters were named.
    #[error("a shard needs a voter")]
    NoVoters,
    /// The node to lead does not vote.
    #[error("node {node} is not a voter of the shard", node = node.0)]
    NotVoter {
        /// The node.
        node: NodeId,
    },
    /// Leadership was still here when the time was up.
    #[error("leadership did not move in time")]
    TimedOut,
    /// The change may or may not come about.
    #[error("whether the members change is unknown")]
    Unknown,
    /// The shard is closed or has failed.
    #[error("the shard is closed")]
    Closed,
}

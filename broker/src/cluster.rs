//! The cluster as operators and Kafka clients see it: its state, and what can be done to it.
//!
//! The types and the face only. What this node knows of the others stands in `view.rs`; the
//! operations are carried out in `controller/`.

use std::path::PathBuf;

use storage::{NodeId, PartitionId, ShardId};

use crate::catalogue::command::Command;
use crate::catalogue::membership::check_voters_without;
use crate::catalogue::{Node, NodeState};
use crate::{Broker, BrokerError, controller};

/// The cluster at this moment, as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterStatus {
    /// The cluster's id.
    pub cluster_id: String,
    /// The node that leads the catalogue, when one is known.
    pub controller: Option<NodeId>,
    /// Every node, by id.
    pub nodes: Vec<NodeStatus>,
    /// Every shard, by id; shard 0 is the catalogue.
    pub shards: Vec<ShardStatus>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// What the catalogue says of it.
    pub node: Node,
    /// Whether it answers, as far as this node can tell.
    pub alive: bool,
    /// Shards that it leads.
    pub leads: usize,
    /// Shards of which it has a replica.
    pub replicas: usize,
    /// Whether it is the node that was asked.
    pub is_local: bool,
    /// What its drain waits for, if it is being drained and cannot be emptied now.
    pub waits_for: Option<String>,
    /// Shards whose change it held up, so that it gets no replica of them for a while, and if
    /// they are several none at all.
    pub barred_from: Vec<ShardId>,
}

/// One shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardStatus {
    /// Its id.
    pub id: ShardId,
    /// Its replicas, the preferred leader first.
    pub replicas: Vec<NodeId>,
    /// The replicas it shall have, while that is being carried out.
    pub target: Option<Vec<NodeId>>,
    /// Who votes in it now.
    pub voters: Vec<NodeId>,
    /// Who follows it without a vote.
    pub learners: Vec<NodeId>,
    /// Its leader, when one is known.
    pub leader: Option<NodeId>,
    /// The newest term that is known.
    pub term: u64,
    /// Replicas that have everything, or nearly.
    pub in_sync: Vec<NodeId>,
    /// Partitions it carries.
    pub partitions: usize,
    /// Replicas that are being filled, and the bytes that they lack; 0 while
    /// that is not known.
    pub catching_up: Vec<(NodeId, u64)>,
    /// Nodes that lost their memory, and that the shard has to go on without before they come back.
    pub returning: Vec<NodeId>,
    /// For how many milliseconds the change under way has made no progress, once that is long.
    pub stalled_ms: Option<i64>,
}

/// Which leaders to elect (KIP-460).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Election {
    /// The first of each replica list.
    Preferred,
    /// Any replica, even one that lacks acknowledged records: never done here.
    Unclean,
}

/// A partition whose replicas are being changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reassignment {
    /// The partition.
    pub partition: PartitionId,
    /// All its replicas, those that come and those that go included.
    pub replicas: Vec<NodeId>,
    /// Those that come.
    pub adding: Vec<NodeId>,
    /// Those that go.
    pub removing: Vec<NodeId>,
}

/// The catalogue's shard, as Kafka's DescribeQuorum tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuorumStatus {
    /// Its leader, when one is known.
    pub leader: Option<NodeId>,
    /// Its term.
    pub term: u64,
    /// End of what is committed, as an index of its log.
    pub high_watermark: i64,
    /// Who votes.
    pub voters: Vec<QuorumReplica>,
    /// Who follows without a vote.
    pub observers: Vec<QuorumReplica>,
}

/// One replica of the catalogue's shard. What is not known is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuorumReplica {
    /// The node.
    pub node: NodeId,
    /// End of its log.
    pub log_end: Option<i64>,
    /// When it last answered the leader, wall-clock milliseconds.
    pub last_fetch_ms: Option<i64>,
    /// When it last had everything, wall-clock milliseconds.
    pub last_caught_up_ms: Option<i64>,
}

/// A directory that holds partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDir {
    /// Where it is.
    pub path: PathBuf,
    /// Why it cannot be used, if it cannot.
    pub error: Option<String>,
    /// Size of its file system; `None` when that cannot be found out.
    pub total_bytes: Option<u64>,
    /// What is free there; `None` when that cannot be found out.
    pub usable_bytes: Option<u64>,
    /// The partitions on this node, and their bytes on disk.
    pub partitions: Vec<(PartitionId, u64)>,
}

impl Broker {
    /// The cluster as this node sees it.
    #[must_use]
    pub fn cluster_status(&self) -> ClusterStatus {
        crate::view::cluster_status(self)
    }

    /// Moves a node's replicas away, and gives it no new ones. Returns when that is decided; it
    /// may have to wait, see [`Broker::drain_waits_for`].
    pub async fn drain_node(&self, node: NodeId) -> Result<(), BrokerError> {
        let state = NodeState::Draining;
        self.change_catalogue(&Command::SetNodeState { node, state })
            .await?;
        if let Some(what) = self.drain_waits_for(node) {
            tracing::warn!(%node, "the drain waits for {what}");
        }
        Ok(())
    }

    /// What a node that is being drained waits for, if it cannot be emptied now: no replica goes
    /// while those that stay would be too few, or dead.
    #[must_use]
    pub fn drain_waits_for(&self, node: NodeId) -> Option<String> {
        let (alive, stalls) = (self.alive_nodes(), self.stalls());
        controller::drain_waits_for(&self.catalogue(), &alive, &stalls, node)
    }

    /// Uses a node again that was to be drained, and turns back what was begun to empty it.
    pub async fn undrain_node(&self, node: NodeId) -> Result<(), BrokerError> {
        let state = NodeState::Active;
        self.change_catalogue(&Command::SetNodeState { node, state })
            .await
            .map(|_| ())
    }

    /// Removes a node for ever: one that is drained, or with `force` one that is dead and whose
    /// replicas have enough others.
    pub async fn remove_node(&self, node: NodeId, force: bool) -> Result<(), BrokerError> {
        if force && self.is_alive(node) {
            return Err(BrokerError::Conflict {
                reason: format!(
                    "node {node} is alive: drain it with `braidlog cluster drain {node}`, or stop \
                     it first"
                ),
            });
        }
        if force {
            let catalogue = self.catalogue();
            for shard in catalogue.shards.keys() {
                let voters = self.shard_seen(*shard).voters;
                check_voters_without(&catalogue, *shard, &voters, node)?;
            }
        }
        self.change_catalogue(&Command::RemoveNode { node, force })
            .await
            .map(|_| ())
    }

    /// Makes another replica of a shard its leader. Returns when the present one no longer leads.
    pub async fn transfer_leader(&self, shard: ShardId, to: NodeId) -> Result<(), BrokerError> {
        controller::transfer_leader(self, shard, to).await
    }

    /// Gives every shard back to its preferred leader where that is in sync; answers how many
    /// leaders moved.
    pub async fn rebalance_leaders(&self) -> Result<usize, BrokerError> {
        controller::rebalance_leaders(self).await
    }

    /// Elects leaders of some partitions, or of all (KIP-460).
    pub async fn elect_leaders(
        &self,
        kind: Election,
        partitions: Option<Vec<PartitionId>>,
    ) -> Result<Vec<(PartitionId, Result<(), BrokerError>)>, BrokerError> {
        controller::elect_leaders(self, kind, partitions).await
    }

    /// Gives partitions new replicas; `None` cancels a change that is under way (KIP-455).
    pub async fn alter_reassignments(
        &self,
        changes: Vec<(PartitionId, Option<Vec<NodeId>>)>,
    ) -> Vec<(PartitionId, Result<(), BrokerError>)> {
        controller::alter_reassignments(self, changes).await
    }

    /// Partitions whose replicas are being changed.
    #[must_use]
    pub fn list_reassignments(&self) -> Vec<Reassignment> {
        controller::list_reassignments(self)
    }

    /// The catalogue's shard, as Kafka's DescribeQuorum tells it.
    #[must_use]
    pub fn quorum_status(&self) -> QuorumStatus {
        controller::quorum_status(self)
    }

    /// Where partitions are on this node's disk.
    #[must_use]
    pub fn log_dirs(&self) -> Vec<LogDir> {
        controller::log_dirs(self)
    }
}

//! What can go wrong, grouped by what the caller can do about it. Adapters map each variant once.

use storage::{LeaderEpoch, NodeId, Offset};

/// Why the broker refused or could not finish something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// No topic or partition of that name or number. Retry after refreshing metadata.
    #[error("no such topic or partition")]
    UnknownTopicOrPartition,
    /// No topic has this id: it was deleted, or created anew under the same name.
    #[error("no topic has this id")]
    UnknownTopicId,
    /// This node does not lead the partition; definite: nothing was written.
    #[error("this node does not lead the partition")]
    NotLeader {
        /// Who leads it, when known.
        leader: Option<NodeId>,
    },
    /// The partition has no leader that serves yet. Retry.
    #[error("the partition has no serving leader yet")]
    LeaderNotAvailable,
    /// The caller's leader epoch is older than the partition's.
    #[error("leader epoch {requested} is fenced, the partition is at {current}")]
    FencedLeaderEpoch {
        /// What the caller named.
        requested: LeaderEpoch,
        /// What the partition is at.
        current: LeaderEpoch,
    },
    /// The caller's leader epoch is newer than this node knows.
    #[error("leader epoch {requested} is not known here yet, the partition is at {current}")]
    UnknownLeaderEpoch {
        /// What the caller named.
        requested: LeaderEpoch,
        /// What the partition is at.
        current: LeaderEpoch,
    },
    /// The offset lies outside `[start, end]`.
    #[error("offset {requested} is outside {start}..={end}")]
    OffsetOutOfRange {
        /// What the caller named.
        requested: Offset,
        /// First offset that exists.
        start: Offset,
        /// End of the log, exclusive.
        end: Offset,
    },
    /// This follower has not come as far as the offset yet; whether it exists is for the leader to
    /// say. Retry here later, or at the leader.
    #[error("offset {requested} is not available on this follower yet, it ends at {end}")]
    OffsetNotAvailable {
        /// What the caller named.
        requested: Offset,
        /// End of the log here, exclusive.
        end: Offset,
    },
    /// The partition's data on this disk is damaged or unreadable; it refuses rather than guess.
    #[error("storage of the partition failed: {reason}")]
    Storage {
        /// For the log and the operator.
        reason: String,
    },
    /// The disk has no room for more data; definite. Writes resume when there is room.
    #[error("the disk is full")]
    DiskFull,
    /// Too few replicas are alive for `min.insync.replicas`; refused before the log; definite.
    #[error("{alive} of {required} required replicas are alive")]
    NotEnoughReplicas {
        /// Alive replicas.
        alive: usize,
        /// `min.insync.replicas`.
        required: usize,
    },
    /// In the log and committed, but fewer replicas than `min.insync.replicas` have it. A repeat by
    /// an idempotent producer is recognised.
    #[error("in the log, but only {in_sync} of {required} required replicas have it")]
    NotEnoughReplicasAfterAppend {
        /// Replicas that have it or are alive to get it.
        in_sync: usize,
        /// `min.insync.replicas`.
        required: usize,
    },
    /// Not known whether it happened: the deadline passed, or the node stopped half-way.
    #[error("the outcome is unknown: {reason}")]
    TimedOut {
        /// What was waited for.
        reason: String,
    },
    /// The node is going down or restarting from disk; definite: nothing was written.
    #[error("the node is shutting down")]
    ShuttingDown,
    /// A topic of that name exists.
    #[error("topic already exists")]
    TopicExists,
    /// The topic name is not `[a-zA-Z0-9._-]{1,249}`, or is `.` or `..`, or collides.
    #[error("invalid topic name: {reason}")]
    InvalidTopic {
        /// What is wrong with it.
        reason: String,
    },
    /// A partition count below 1, not above the current one, or beyond the limit.
    #[error("invalid number of partitions: {reason}")]
    InvalidPartitions {
        /// What is wrong with it.
        reason: String,
    },
    /// More replicas than nodes, or fewer than one.
    #[error("invalid replication factor: {reason}")]
    InvalidReplicationFactor {
        /// What is wrong with it.
        reason: String,
    },
    /// A manual assignment that cannot be carried out.
    #[error("invalid replica assignment: {reason}")]
    InvalidReplicaAssignment {
        /// What is wrong with it.
        reason: String,
    },
    /// A config that is unknown, not enforced here, or has a bad value.
    #[error("invalid config: {reason}")]
    InvalidConfig {
        /// What is wrong with it, naming the key.
        reason: String,
    },
    /// The request contradicts itself.
    #[error("invalid request: {reason}")]
    InvalidRequest {
        /// What is wrong with it.
        reason: String,
    },
    /// No node of the cluster has this id.
    #[error("there is no node {node}")]
    UnknownNode {
        /// The id.
        node: NodeId,
    },
    /// What is asked for does not go with the cluster's present state; definite.
    #[error("not possible now: {reason}")]
    Conflict {
        /// What stands in the way, and the way out.
        reason: String,
    },
    /// A limit of this cluster forbids it (partitions, topics, waiting fetches).
    #[error("refused by a limit: {reason}")]
    PolicyViolation {
        /// Which limit, and its value.
        reason: String,
    },
}

//! One disk: the journal, partition logs, checkpoints, recovery.
pub mod clock;
pub mod disk;
mod ids;

pub use ids::{
    LeaderEpoch, LogIndex, LogPosition, NodeId, Offset, PartitionId, ProducerId, ShardId, Term,
    TopicId,
};

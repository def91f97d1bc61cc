//! One disk: the journal, partition logs, checkpoints, recovery.
pub mod batch;
pub mod bugs;
pub mod checksum;
pub mod clock;
pub mod data_dir;
pub mod disk;
mod durability;
mod fd_cache;
mod ids;
pub mod journal;
pub mod partition_log;
pub mod state_file;
pub mod store;
mod store_core;
pub mod turns;
pub mod verify;
mod writer;

pub use durability::Durability;
pub use ids::{
    LeaderEpoch, LogId, LogIndex, LogPosition, NodeId, Offset, PartitionId, ProducerId, ShardId,
    Term, TopicId,
};

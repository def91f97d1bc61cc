//! Consumer groups, classic and new (KIP-848), and committed offsets: the state machine behind one
//! partition of `__consumer_offsets`.
//!
//! [`Groups`] is a [`coordinator::Coordinator`]: commands in, records, answers and timers out, no
//! clock, no disk, no network, no randomness. Commands and responses are plain structs named as in
//! Kafka's API; records are in Kafka's own formats ([`record`]), so that what reads the topic reads
//! ours. The meaning of everything follows Apache Kafka 4: KIP-62, 134, 211, 345, 394, 429, 447, 496,
//! 814 and 848.
//!
//! Everything that a client can make grow has a limit ([`GroupsConfig`]), and everything is ordered,
//! so that two replicas never differ.

mod admin;
mod assignor;
mod classic;
mod command;
mod config;
mod consumer;
mod error;
mod groups;
mod offsets;
mod partition;
pub mod record;
mod response;
#[cfg(test)]
mod testing;
mod topics;
mod turn;
mod uuid;

pub use classic::{ClassicGroup, ClassicTimer};
pub use command::{
    Client, Command, CommitPartition, CommitTopic, ConsumerGroupHeartbeat, FetchTopic,
    GroupProtocol, Heartbeat, JoinGroup, LeaveGroup, LeavingMember, ListGroups, OffsetCommit,
    OffsetDelete, OffsetFetch, OwnedTopic, SyncAssignment, SyncGroup,
};
pub use config::{GroupsConfig, MigrationPolicy};
pub use consumer::{ConsumerGroup, ConsumerTimer};
pub use error::GroupError;
pub use groups::{Group, Groups, Hard, Timer};
pub use offsets::Offsets;
pub use partition::partition_of;
pub use response::{
    CommittedOffset, CommittedTopic, ConsumerAssignment, ConsumerGroupDescription,
    ConsumerGroupHeartbeatResponse, ConsumerMember, DeletedGroup, DescribedGroup, DescribedMember,
    Joined, JoinedMember, LeaveGroupResponse, LeftMember, ListedGroup, OffsetFetchResponse,
    PartitionOutcome, Response, SyncGroupResponse, TopicOutcome, TopicPartitions,
};
pub use topics::{Topic, Topics};
pub use uuid::Uuid;

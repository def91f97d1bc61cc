//! What a log means: the catalogue, partitions, producers, fetches, topic administration.
//!
//! [`Broker`] is the one face that protocol adapters see. It speaks in partitions, batches and
//! offsets and knows no wire protocol; below it, every change travels through a shard of `raft`.

mod batch_check;
mod bootstrap;
mod broker;
mod broker_configs;
mod byte_budget;
pub mod catalogue;
mod cluster;
mod compaction;
mod config;
mod config_definition;
mod controller;
mod coordinators;
mod error;
mod fetch;
mod forget;
mod ids;
pub mod inspect;
mod list_offsets;
mod moves;
mod partition;
mod peers;
mod placement;
mod produce;
mod producer_ids;
mod quotas;
mod reconcile;
pub mod record;
mod registration;
mod repair;
mod returning;
mod scrub;
mod shards;
mod stage;
mod start;
mod statuses;
mod sync_state;
mod topic_config;
mod topic_config_changes;
mod topic_config_table;
mod topics;
mod upkeep;
mod view;
mod wire;

pub use broker::Broker;
pub use broker_configs::{broker_config_refusal, told_broker_configs};
pub use byte_budget::{ByteBudget, ByteShare};
pub use cluster::{
    ClusterStatus, Election, LogDir, NodeStatus, QuorumReplica, QuorumStatus, Reassignment,
    ShardStatus,
};
pub use config::BrokerConfig;
pub use config_definition::{ConfigDefinition, ConfigEntry, ConfigKind, ConfigSource};
pub use coordinators::{CoordinatorError, PendingReply};
pub use error::BrokerError;
pub use fetch::{FetchPartition, FetchRequest, Fetched, FetchedPartition, Isolation};
/// Consumer groups: the commands that coordinators take, and their answers.
pub use groups;
pub use list_offsets::{FoundOffset, OffsetQuery};
pub use produce::{AppendError, Appended, PendingAppend, RecordError, RequiredAcks};
pub use quotas::QuotaStanding;
pub use start::{Env, StartError};
pub use statuses::Statuses;
pub use topic_config::TopicConfig;
pub use topic_config_changes::{ConfigChange, ConfigOperation};
pub use topic_config_table::topic_config_definitions;
pub use topics::{CreatedTopic, NewPartitions, NewTopic, TopicRef};

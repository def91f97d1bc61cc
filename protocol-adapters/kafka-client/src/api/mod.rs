//! The APIs, a file each: the version spoken, the request as arguments, the answer as a struct.
//!
//! Every version here is flexible (KIP-482), so all share one header and encoding; OffsetDelete has
//! none that is.

mod cluster;
mod configs;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod delete_groups;
mod describe_groups;
mod elections;
mod epochs;
mod fetch;
mod find_coordinator;
mod heartbeat;
mod join_group;
mod leave_group;
mod list_groups;
mod log_dirs;
mod metadata;
mod nodes;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offsets;
mod partitions;
mod produce;
mod producer_id;
mod quorum;
mod reassignments;
mod records;
mod sync_group;
mod topics;
mod versions;

pub use cluster::{ClusterDescription, ClusterNode};
pub use configs::{AlterConfig, AlterOperation, Config, ConfigResource};
pub use consumer_group_describe::{AssignedTopic, ConsumerGroup, ConsumerMember};
pub use consumer_group_heartbeat::{
    ConsumerGroupHeartbeat, ConsumerGroupHeartbeatAnswer, PartitionsById,
};
pub use describe_groups::{ClassicGroup, ClassicMember};
pub use elections::{ElectedLeader, ElectionKind};
pub use epochs::{EpochEnd, EpochQuery};
pub use fetch::{AbortedTransaction, FetchAnswer, FetchOptions, FetchPartition, FetchedPartition};
pub use find_coordinator::{Coordinator, CoordinatorKind};
pub use heartbeat::Heartbeat;
pub use join_group::{JoinGroup, JoinedGroup, JoinedMember};
pub use leave_group::{LeavingMember, LeftGroup, LeftMember};
pub use list_groups::{GroupList, ListedGroup};
pub use log_dirs::{LogDir, LogDirPartition};
pub use metadata::{Metadata, MetadataBroker, MetadataPartition, MetadataTopic};
pub use offset_commit::{CommitOutcome, OffsetCommit, OffsetToCommit};
pub use offset_delete::DeletedOffsets;
pub use offset_fetch::{CommittedOffset, GroupOffsets, OffsetFetch};
pub use offsets::{ListedOffset, OffsetQuery};
pub use partitions::NewPartitions;
pub use produce::{
    Acks, LeaderHint, PendingProduce, ProducePartition, ProduceRequest, ProducedPartition,
    RecordError,
};
pub use producer_id::ProducerIdentity;
pub use quorum::{Quorum, QuorumReplica};
pub use reassignments::{AlteredReassignment, OngoingReassignment, Reassignment};
pub use records::{DeleteRecords, DeletedRecords};
pub use sync_group::{SyncGroup, SyncedGroup};
pub use topics::{CreateTopic, CreatedTopic, DeletedTopic};
pub use versions::ApiRange;

/// Key of Produce.
pub const PRODUCE: i16 = 0;
/// Key of Fetch.
pub const FETCH: i16 = 1;
/// Key of ListOffsets.
pub const LIST_OFFSETS: i16 = 2;
/// Key of Metadata.
pub const METADATA: i16 = 3;
/// Key of OffsetCommit.
pub const OFFSET_COMMIT: i16 = 8;
/// Key of OffsetFetch.
pub const OFFSET_FETCH: i16 = 9;
/// Key of FindCoordinator.
pub const FIND_COORDINATOR: i16 = 10;
/// Key of JoinGroup.
pub const JOIN_GROUP: i16 = 11;
/// Key of Heartbeat.
pub const HEARTBEAT: i16 = 12;
/// Key of LeaveGroup.
pub const LEAVE_GROUP: i16 = 13;
/// Key of SyncGroup.
pub const SYNC_GROUP: i16 = 14;
/// Key of DescribeGroups.
pub const DESCRIBE_GROUPS: i16 = 15;
/// Key of ListGroups.
pub const LIST_GROUPS: i16 = 16;
/// Key of ApiVersions.
pub const API_VERSIONS: i16 = 18;
/// Key of CreateTopics.
pub const CREATE_TOPICS: i16 = 19;
/// Key of DeleteTopics.
pub const DELETE_TOPICS: i16 = 20;
/// Key of DeleteRecords.
pub const DELETE_RECORDS: i16 = 21;
/// Key of InitProducerId.
pub const INIT_PRODUCER_ID: i16 = 22;
/// Key of OffsetForLeaderEpoch.
pub const OFFSET_FOR_LEADER_EPOCH: i16 = 23;
/// Key of DescribeConfigs.
pub const DESCRIBE_CONFIGS: i16 = 32;
/// Key of DescribeLogDirs.
pub const DESCRIBE_LOG_DIRS: i16 = 35;
/// Key of CreatePartitions.
pub const CREATE_PARTITIONS: i16 = 37;
/// Key of DeleteGroups.
pub const DELETE_GROUPS: i16 = 42;
/// Key of ElectLeaders.
pub const ELECT_LEADERS: i16 = 43;
/// Key of IncrementalAlterConfigs.
pub const INCREMENTAL_ALTER_CONFIGS: i16 = 44;
/// Key of AlterPartitionReassignments.
pub const ALTER_PARTITION_REASSIGNMENTS: i16 = 45;
/// Key of ListPartitionReassignments.
pub const LIST_PARTITION_REASSIGNMENTS: i16 = 46;
/// Key of OffsetDelete.
pub const OFFSET_DELETE: i16 = 47;
/// Key of DescribeQuorum.
pub const DESCRIBE_QUORUM: i16 = 55;
/// Key of DescribeCluster.
pub const DESCRIBE_CLUSTER: i16 = 60;
/// Key of UnregisterBroker.
pub const UNREGISTER_BROKER: i16 = 64;
/// Key of ConsumerGroupHeartbeat.
pub const CONSUMER_GROUP_HEARTBEAT: i16 = 68;
/// Key of ConsumerGroupDescribe.
pub const CONSUMER_GROUP_DESCRIBE: i16 = 69;

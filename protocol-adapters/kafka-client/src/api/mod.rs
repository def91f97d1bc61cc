//! The APIs, a file each: the version spoken, the request as arguments, the answer as a struct.
//!
//! Every version here is flexible (KIP-482), so all share one header and encoding.

mod cluster;
mod configs;
mod fetch;
mod metadata;
mod offsets;
mod partitions;
mod produce;
mod producer_id;
mod records;
mod topics;
mod versions;

pub use cluster::{ClusterDescription, ClusterNode};
pub use configs::{AlterConfig, AlterOperation, Config, ConfigResource};
pub use fetch::{AbortedTransaction, FetchAnswer, FetchOptions, FetchPartition, FetchedPartition};
pub use metadata::{Metadata, MetadataBroker, MetadataPartition, MetadataTopic};
pub use offsets::{ListedOffset, OffsetQuery};
pub use partitions::NewPartitions;
pub use produce::{
    Acks, PendingProduce, ProducePartition, ProduceRequest, ProducedPartition, RecordError,
};
pub use producer_id::ProducerIdentity;
pub use records::{DeleteRecords, DeletedRecords};
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
/// Key of DescribeConfigs.
pub const DESCRIBE_CONFIGS: i16 = 32;
/// Key of CreatePartitions.
pub const CREATE_PARTITIONS: i16 = 37;
/// Key of IncrementalAlterConfigs.
pub const INCREMENTAL_ALTER_CONFIGS: i16 = 44;
/// Key of DescribeCluster.
pub const DESCRIBE_CLUSTER: i16 = 60;

//! Administration of topics: creating, deleting, growing, trimming, configuring.

use std::collections::BTreeMap;

use storage::{NodeId, TopicId};

/// A topic to create.
#[derive(Debug, Clone, Default)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Number of partitions; `None` takes the cluster's default.
    pub partitions: Option<i32>,
    /// Number of replicas; `None` takes the cluster's default.
    pub replication_factor: Option<i16>,
    /// Replicas by partition, given by hand; empty means automatic.
    pub assignments: BTreeMap<i32, Vec<NodeId>>,
    /// Configs, as text.
    pub configs: Vec<(String, Option<String>)>,
}

/// A topic as it was (or, when only validated, would be) created.
#[derive(Debug, Clone)]
pub struct CreatedTopic {
    /// Its name.
    pub name: String,
    /// Its id; [`TopicId::NONE`] when only validated.
    pub id: TopicId,
    /// Number of partitions.
    pub partitions: i32,
    /// Number of replicas of each.
    pub replication_factor: i16,
}

/// Names a topic by name or id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicRef {
    /// By name.
    Name(String),
    /// By id.
    Id(TopicId),
}

/// A request to raise a topic's partition count.
#[derive(Debug, Clone)]
pub struct NewPartitions {
    /// The topic.
    pub topic: String,
    /// The new total, above the present one.
    pub total: i32,
    /// Replicas of each new partition, by hand; `None` means automatic.
    pub assignments: Option<Vec<Vec<NodeId>>>,
}

/// What to do with one config (KIP-339).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigOperation {
    /// Set it.
    Set,
    /// Back to the default.
    Delete,
    /// Add to a list.
    Append,
    /// Take from a list.
    Subtract,
}

/// One change of one config.
#[derive(Debug, Clone)]
pub struct ConfigChange {
    /// The key.
    pub key: String,
    /// What to do.
    pub operation: ConfigOperation,
    /// The value; `None` only with [`ConfigOperation::Delete`].
    pub value: Option<String>,
}

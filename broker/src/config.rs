//! Configs of topics and of the broker: what exists, its default, and whether it can be set.
//!
//! A key that can be set is enforced; one that is listed as fixed describes how this broker
//! behaves and is refused when set; any other key is refused as unknown.

use std::collections::BTreeMap;

/// How the broker behaves where a topic or a client does not say.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// This node.
    pub node_id: storage::NodeId,
    /// Its rack.
    pub rack: Option<String>,
    /// Create a topic when a client asks for its metadata (Kafka's `auto.create.topics.enable`).
    pub auto_create_topics: bool,
    /// Partitions of a topic that does not say (Kafka's `num.partitions`).
    pub default_partitions: i32,
    /// Replicas of a topic that does not say (Kafka's `default.replication.factor`).
    pub default_replication_factor: i16,
    /// Data shards made on an empty directory.
    pub shards: u32,
    /// Most partitions this node carries.
    pub partitions_max: usize,
    /// Fetches that may wait at the same time.
    pub waiting_fetches_max: usize,
    /// Bytes of recent batches kept in memory.
    pub tail_bytes_max: usize,
    /// Size of one journal file, in bytes.
    pub journal_file_bytes: u64,
    /// Interval between rounds of retention and other upkeep.
    pub upkeep_interval_ms: i64,
}

impl Default for BrokerConfig {
    fn default() -> BrokerConfig {
        BrokerConfig {
            node_id: storage::NodeId(1),
            rack: None,
            auto_create_topics: true,
            default_partitions: 1,
            default_replication_factor: 1,
            shards: 4,
            partitions_max: 100_000,
            waiting_fetches_max: 100_000,
            tail_bytes_max: 256 << 20,
            journal_file_bytes: 64 << 20,
            upkeep_interval_ms: 5_000,
        }
    }
}

/// The type of a config's value, as Kafka's DescribeConfigs names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigKind {
    /// `true` or `false`.
    Boolean,
    /// Text.
    String,
    /// 32 bits.
    Int,
    /// 64 bits.
    Long,
    /// A floating-point number.
    Double,
    /// Values separated by commas.
    List,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigSource {
    /// Set on the topic.
    Topic,
    /// From this node's configuration.
    StaticBroker,
    /// Built in.
    Default,
}

/// A config that exists.
#[derive(Debug, Clone, Copy)]
pub struct ConfigDefinition {
    /// Its key.
    pub key: &'static str,
    /// Its type.
    pub kind: ConfigKind,
    /// Its default, as text.
    pub default: &'static str,
    /// Whether it can be set (and is then enforced); else it only describes.
    pub settable: bool,
    /// What it means.
    pub documentation: &'static str,
}

/// A config with its present value.
#[derive(Debug, Clone)]
pub struct ConfigEntry {
    /// What it is.
    pub definition: ConfigDefinition,
    /// Its value; `None` stands for Kafka's null.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
}

/// A topic's configs, parsed; `overrides` holds what was set, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicConfig {
    /// What was set on the topic, by key.
    pub overrides: BTreeMap<String, String>,
}

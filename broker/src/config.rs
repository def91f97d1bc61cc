//! Configs of topics and of the broker: what exists, its default, and whether it can be set.
//!
//! A key that can be set is enforced; one that is listed as fixed describes how this broker
//! behaves and is refused when set; any other key is refused as unknown.

use std::collections::BTreeMap;

use storage::batch::TimestampType;
use storage::partition_log::LogConfig;

use crate::BrokerError;

/// How the broker behaves where a topic or a client does not say.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// The id this node wants on an empty directory, and must have on any other; `None`: whatever
    /// the directory or the cluster says.
    pub node_id: Option<storage::NodeId>,
    /// Its rack.
    pub rack: Option<String>,
    /// Peer addresses (`host:port`) of nodes of the cluster to form or join; empty: this node
    /// founds one alone.
    pub seeds: Vec<String>,
    /// Where this node is reached, by listener name, as far as it is known before it starts; the
    /// port 0 of `peers` stands for the one that is bound.
    pub advertised: BTreeMap<String, (String, u16)>,
    /// Interval between the heartbeats of a leader.
    pub heartbeat_ms: u64,
    /// Shortest time without a leader after which a replica stands for election.
    pub election_ms_min: u64,
    /// Longest time without a leader after which a replica stands for election.
    pub election_ms_max: u64,
    /// When what was written counts.
    pub durability: storage::Durability,
    /// Whether this node, having lost power while it answered before it synced, trusts what is on
    /// its disk all the same. For one start.
    pub accept_power_loss: bool,
    /// How long such a node still waits for the others, once they have answered it.
    pub accept_power_loss_after_ms: u64,
    /// Bytes a second that this node pulls to catch up, over all shards; 0: as fast as goes.
    pub catch_up_bytes_per_second: u64,
    /// Time between two passes that read all sealed segments to find damage; 0: none.
    pub scrub_interval_ms: u64,
    /// Bytes a second that such a pass reads; 0: none.
    pub scrub_bytes_per_second: u64,
    /// Bytes a second that compaction reads and writes; 0: as fast as goes.
    pub compaction_bytes_per_second: u64,
    /// Memory for the keys of the partition that is compacted.
    pub compaction_memory_bytes: usize,
    /// How long tombstones stay on this node after another replica has copied something from it,
    /// which must not get a record without what deletes it.
    pub compaction_copied_ms: i64,
    /// Create a topic when a client asks for its metadata (Kafka's `auto.create.topics.enable`).
    pub auto_create_topics: bool,
    /// Partitions of a topic that does not say (Kafka's `num.partitions`).
    pub default_partitions: i32,
    /// Replicas of a topic that does not say (Kafka's `default.replication.factor`); 0: three, or
    /// one on each node while there are fewer.
    pub default_replication_factor: i16,
    /// Data shards made on an empty directory.
    pub shards: u32,
    /// Most partitions this node carries.
    pub partitions_max: usize,
    /// Fetches that may wait at the same time; one more is answered with what is there.
    pub waiting_fetches_max: usize,
    /// Bytes of recent batches kept in memory.
    pub tail_bytes_max: usize,
    /// Segment files and indexes open at the same time.
    pub open_files_max: usize,
    /// Size of one journal file, in bytes.
    pub journal_file_bytes: u64,
    /// Journal bytes of a shard after which it is checkpointed.
    pub checkpoint_journal_bytes: u64,
    /// Interval between rounds of retention and other upkeep.
    pub upkeep_interval_ms: i64,
    /// Memory-map sealed segments and indexes for reading.
    pub use_mmap: bool,
}

impl Default for BrokerConfig {
    fn default() -> BrokerConfig {
        BrokerConfig {
            node_id: None,
            rack: None,
            seeds: Vec::new(),
            advertised: BTreeMap::new(),
            heartbeat_ms: 100,
            election_ms_min: 300,
            election_ms_max: 600,
            durability: storage::Durability::default(),
            accept_power_loss: false,
            accept_power_loss_after_ms: 30_000,
            catch_up_bytes_per_second: 0,
            scrub_interval_ms: 7 * 24 * 3_600_000,
            scrub_bytes_per_second: 8 << 20,
            compaction_bytes_per_second: 64 << 20,
            compaction_memory_bytes: 64 << 20,
            compaction_copied_ms: 600_000,
            auto_create_topics: true,
            default_partitions: 1,
            default_replication_factor: 0,
            shards: 4,
            partitions_max: 100_000,
            waiting_fetches_max: 100_000,
            tail_bytes_max: 256 << 20,
            open_files_max: 1_000,
            journal_file_bytes: 64 << 20,
            checkpoint_journal_bytes: 64 << 20,
            upkeep_interval_ms: 5_000,
            use_mmap: true,
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
    /// Batches older than this may go; -1 keeps them for ever.
    pub retention_ms: i64,
    /// A partition larger than this may lose its oldest segments; -1 sets no limit.
    pub retention_bytes: i64,
    /// Size at which a segment is closed.
    pub segment_bytes: i32,
    /// Age at which a segment is closed.
    pub segment_ms: i64,
    /// Largest batch, compressed, header included.
    pub max_message_bytes: i32,
    /// Whose timestamp a record carries.
    pub timestamp_type: TimestampType,
    /// How far a record's timestamp may lie before the broker's clock.
    pub timestamp_before_max_ms: i64,
    /// How far a record's timestamp may lie after the broker's clock.
    pub timestamp_after_max_ms: i64,
    /// Replicas that must have a batch before `acks=all` is answered.
    pub min_insync_replicas: i32,
    /// What happens to old records.
    pub cleanup: CleanupPolicy,
    /// How long a tombstone stays once compaction has met it.
    pub delete_retention_ms: i64,
    /// Records younger than this are not compacted.
    pub min_compaction_lag_ms: i64,
    /// Records that have waited longer than this are compacted whatever the ratio.
    pub max_compaction_lag_ms: i64,
    /// Dirty part of a log above which it is compacted, in millionths.
    pub min_dirty_millionths: u32,
}

/// What happens to old records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Retention deletes segments.
    pub deletes: bool,
    /// Of each key the last record stays.
    pub compacts: bool,
}

/// Every topic config this broker knows. Defaults are those of Apache Kafka 4.
static TOPIC_CONFIGS: [ConfigDefinition; 20] = [
    ConfigDefinition {
        key: "cleanup.policy",
        kind: ConfigKind::List,
        default: "delete",
        settable: true,
        documentation: "What happens to old records: delete (by retention), compact (the last \
                        record of each key stays), or both.",
    },
    ConfigDefinition {
        key: "compression.type",
        kind: ConfigKind::String,
        default: "producer",
        settable: false,
        documentation: "Batches are stored as the producer compressed them.",
    },
    ConfigDefinition {
        key: "delete.retention.ms",
        kind: ConfigKind::Long,
        default: "86400000",
        settable: true,
        documentation: "How long a record without value stays in a compacted topic, counted from \
                        the first compaction that met it.",
    },
    ConfigDefinition {
        key: "flush.messages",
        kind: ConfigKind::Long,
        default: "1",
        settable: false,
        documentation: "Records are acknowledged once synced to disk, unless the broker's durability \
                        says otherwise.",
    },
    ConfigDefinition {
        key: "index.interval.bytes",
        kind: ConfigKind::Int,
        default: "4096",
        settable: false,
        documentation: "Distance between two entries of the sparse index.",
    },
    ConfigDefinition {
        key: "max.compaction.lag.ms",
        kind: ConfigKind::Long,
        default: "9223372036854775807",
        settable: true,
        documentation: "Age at which records are compacted however few they are.",
    },
    ConfigDefinition {
        key: "max.message.bytes",
        kind: ConfigKind::Int,
        default: "1048588",
        settable: true,
        documentation: "Largest record batch, after compression, header included.",
    },
    ConfigDefinition {
        key: "message.timestamp.after.max.ms",
        kind: ConfigKind::Long,
        default: "3600000",
        settable: true,
        documentation: "How far a record's timestamp may lie after the broker's clock.",
    },
    ConfigDefinition {
        key: "message.timestamp.before.max.ms",
        kind: ConfigKind::Long,
        default: "9223372036854775807",
        settable: true,
        documentation: "How far a record's timestamp may lie before the broker's clock.",
    },
    ConfigDefinition {
        key: "message.timestamp.type",
        kind: ConfigKind::String,
        default: "CreateTime",
        settable: true,
        documentation: "Whose time a record carries: CreateTime or LogAppendTime.",
    },
    ConfigDefinition {
        key: "min.cleanable.dirty.ratio",
        kind: ConfigKind::Double,
        default: "0.5",
        settable: true,
        documentation: "Part of a log that must be new since it was compacted last before it is \
                        compacted again.",
    },
    ConfigDefinition {
        key: "min.compaction.lag.ms",
        kind: ConfigKind::Long,
        default: "0",
        settable: true,
        documentation: "Age below which records are not compacted.",
    },
    ConfigDefinition {
        key: "min.insync.replicas",
        kind: ConfigKind::Int,
        default: "1",
        settable: true,
        documentation: "Replicas that must have a batch before acks=all is answered.",
    },
    ConfigDefinition {
        key: "preallocate",
        kind: ConfigKind::Boolean,
        default: "false",
        settable: false,
        documentation: "Segment files grow as they are written.",
    },
    ConfigDefinition {
        key: "remote.storage.enable",
        kind: ConfigKind::Boolean,
        default: "false",
        settable: false,
        documentation: "Nothing is tiered to remote storage.",
    },
    ConfigDefinition {
        key: "retention.bytes",
        kind: ConfigKind::Long,
        default: "-1",
        settable: true,
        documentation: "Size over which a partition loses its oldest segments; -1: no limit.",
    },
    ConfigDefinition {
        key: "retention.ms",
        kind: ConfigKind::Long,
        default: "604800000",
        settable: true,
        documentation: "Age over which segments are deleted; -1: never.",
    },
    ConfigDefinition {
        key: "segment.bytes",
        kind: ConfigKind::Int,
        default: "1073741824",
        settable: true,
        documentation: "Size at which a segment file is closed and the next one begun.",
    },
    ConfigDefinition {
        key: "segment.ms",
        kind: ConfigKind::Long,
        default: "604800000",
        settable: true,
        documentation: "Age at which a segment file is closed and the next one begun.",
    },
    ConfigDefinition {
        key: "unclean.leader.election.enable",
        kind: ConfigKind::Boolean,
        default: "false",
        settable: false,
        documentation: "A replica that lacks committed records never leads.",
    },
];

/// Smallest `segment.bytes`.
const SEGMENT_BYTES_MIN: i64 = 1024;
/// Largest `max.message.bytes`: a batch must fit a frame of 100 MiB with room for its request.
const MESSAGE_BYTES_MAX: i64 = 99 << 20;

/// Every topic config this broker knows, sorted by key.
#[must_use]
pub fn topic_config_definitions() -> &'static [ConfigDefinition] {
    &TOPIC_CONFIGS
}

impl Default for TopicConfig {
    fn default() -> TopicConfig {
        TopicConfig {
            overrides: BTreeMap::new(),
            retention_ms: 604_800_000,
            retention_bytes: -1,
            segment_bytes: 1 << 30,
            segment_ms: 604_800_000,
            max_message_bytes: 1_048_588,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            min_insync_replicas: 1,
            cleanup: CleanupPolicy {
                deletes: true,
                compacts: false,
            },
            delete_retention_ms: 86_400_000,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            min_dirty_millionths: 500_000,
        }
    }
}

impl TopicConfig {
    /// Parses what was set; any unknown, fixed or malformed config is refused by name.
    pub fn parse(overrides: BTreeMap<String, String>) -> Result<TopicConfig, BrokerError> {
        let mut config = TopicConfig::default();
        for (key, value) in &overrides {
            config.set(key, value)?;
        }
        if config.min_compaction_lag_ms > config.max_compaction_lag_ms {
            return Err(invalid(format!(
                "min.compaction.lag.ms={} is more than max.compaction.lag.ms={}",
                config.min_compaction_lag_ms, config.max_compaction_lag_ms
            )));
        }
        config.overrides = overrides;
        Ok(config)
    }

    /// When logs of the topic's partitions begin new segments.
    #[must_use]
    pub fn log_config(&self) -> LogConfig {
        // Only what is in a sealed segment can be compacted: as in Kafka one is as old as the
        // greatest lag at most.
        let segment_ms = match self.cleanup.compacts {
            true => self.segment_ms.min(self.max_compaction_lag_ms),
            false => self.segment_ms,
        };
        LogConfig {
            segment_bytes: u32::try_from(self.segment_bytes).unwrap_or(u32::MAX),
            segment_ms,
        }
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), BrokerError> {
        match key {
            "retention.ms" => self.retention_ms = number(key, value, -1, i64::MAX)?,
            "retention.bytes" => self.retention_bytes = number(key, value, -1, i64::MAX)?,
            "segment.bytes" => {
                self.segment_bytes = number32(key, value, SEGMENT_BYTES_MIN, i64::from(i32::MAX))?;
            }
            "segment.ms" => self.segment_ms = number(key, value, 1, i64::MAX)?,
            "max.message.bytes" => {
                self.max_message_bytes = number32(key, value, 0, MESSAGE_BYTES_MAX)?;
            }
            "message.timestamp.before.max.ms" => {
                self.timestamp_before_max_ms = number(key, value, 0, i64::MAX)?;
            }
            "message.timestamp.after.max.ms" => {
                self.timestamp_after_max_ms = number(key, value, 0, i64::MAX)?;
            }
            "cleanup.policy" => self.cleanup = cleanup_policy(key, value)?,
            "delete.retention.ms" => {
                self.delete_retention_ms = number(key, value, 0, i64::MAX)?;
            }
            "min.compaction.lag.ms" => {
                self.min_compaction_lag_ms = number(key, value, 0, i64::MAX)?;
            }
            "max.compaction.lag.ms" => {
                self.max_compaction_lag_ms = number(key, value, 1, i64::MAX)?;
            }
            "min.cleanable.dirty.ratio" => self.min_dirty_millionths = ratio(key, value)?,
            "min.insync.replicas" => {
                self.min_insync_replicas = number32(key, value, 1, i64::from(i16::MAX))?;
            }
            "message.timestamp.type" => {
                self.timestamp_type = match value {
                    "CreateTime" => TimestampType::CreateTime,
                    "LogAppendTime" => TimestampType::LogAppendTime,
                    _ => {
                        return Err(invalid(format!(
                            "{key}={value}: must be CreateTime or LogAppendTime"
                        )));
                    }
                };
            }
            _ => return refuse_fixed(key, value),
        }
        Ok(())
    }

    /// Every known key with its value.
    #[must_use]
    pub fn entries(&self) -> Vec<ConfigEntry> {
        let entry = |definition: &ConfigDefinition| match self.overrides.get(definition.key) {
            Some(value) => ConfigEntry {
                definition: *definition,
                value: Some(value.clone()),
                source: ConfigSource::Topic,
            },
            None => ConfigEntry {
                definition: *definition,
                value: Some(definition.default.to_owned()),
                source: ConfigSource::Default,
            },
        };
        TOPIC_CONFIGS.iter().map(entry).collect()
    }
}

/// A fixed config may be "set" to the value it has; anything else is refused, as is an unknown key.
fn refuse_fixed(key: &str, value: &str) -> Result<(), BrokerError> {
    match TOPIC_CONFIGS
        .iter()
        .find(|definition| definition.key == key)
    {
        Some(definition) if definition.default == value => Ok(()),
        Some(definition) => Err(invalid(format!(
            "{key}={value}: only {key}={} is supported ({})",
            definition.default, definition.documentation
        ))),
        None => Err(invalid(format!(
            "{key}: not a config that this broker enforces"
        ))),
    }
}

fn number(key: &str, value: &str, min: i64, max: i64) -> Result<i64, BrokerError> {
    match value.trim().parse::<i64>() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        Ok(_) => Err(invalid(format!(
            "{key}={value}: must lie within {min}..={max}"
        ))),
        Err(_) => Err(invalid(format!("{key}={value}: not a whole number"))),
    }
}

/// A list of `delete` and `compact`, one of them at least.
fn cleanup_policy(key: &str, value: &str) -> Result<CleanupPolicy, BrokerError> {
    let mut policy = CleanupPolicy {
        deletes: false,
        compacts: false,
    };
    for one in value.split(',').map(str::trim) {
        match one {
            "delete" => policy.deletes = true,
            "compact" => policy.compacts = true,
            _ => {
                return Err(invalid(format!(
                    "{key}={value}: must be delete, compact, or both, separated by a comma"
                )));
            }
        }
    }
    Ok(policy)
}

/// A part of a whole, in millionths.
fn ratio(key: &str, value: &str) -> Result<u32, BrokerError> {
    match value.trim().parse::<f64>() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "within 0 and a million"
            )]
            let millionths = (ratio * 1_000_000.0).round() as u32;
            Ok(millionths)
        }
        Ok(_) => Err(invalid(format!("{key}={value}: must lie within 0..=1"))),
        Err(_) => Err(invalid(format!("{key}={value}: not a number"))),
    }
}

fn number32(key: &str, value: &str, min: i64, max: i64) -> Result<i32, BrokerError> {
    number(key, value, min, max)
        .map(|number| i32::try_from(number).expect("the caller's maximum fits 32 bits"))
}

fn invalid(reason: String) -> BrokerError {
    BrokerError::InvalidConfig { reason }
}

/// The configs of this node, read-only, under Kafka's names.
#[must_use]
pub fn broker_config_entries(config: &BrokerConfig) -> Vec<ConfigEntry> {
    let entry = |key, kind, default, documentation, value: String| ConfigEntry {
        definition: ConfigDefinition {
            key,
            kind,
            default,
            settable: false,
            documentation,
        },
        source: if value == default {
            ConfigSource::Default
        } else {
            ConfigSource::StaticBroker
        },
        value: Some(value),
    };
    vec![
        entry(
            "auto.create.topics.enable",
            ConfigKind::Boolean,
            "true",
            "Create a topic when a client first asks for it.",
            config.auto_create_topics.to_string(),
        ),
        entry(
            "default.replication.factor",
            ConfigKind::Int,
            "0",
            "Replicas of a topic that does not say; 0: three, or one on each node while there are \
             fewer.",
            config.default_replication_factor.to_string(),
        ),
        entry(
            "durability",
            ConfigKind::String,
            "fsync",
            "When a record counts on this node: once synced (fsync), or once written and synced \
             soon after (interval) or some time (os).",
            match config.durability {
                storage::Durability::Fsync => "fsync",
                storage::Durability::Interval { .. } => "interval",
                storage::Durability::Os => "os",
            }
            .to_owned(),
        ),
        entry(
            "node.id",
            ConfigKind::Int,
            "1",
            "The id of this node.",
            config
                .node_id
                .map_or_else(|| "1".to_owned(), |node| node.to_string()),
        ),
        entry(
            "num.partitions",
            ConfigKind::Int,
            "1",
            "Partitions of a topic that does not say.",
            config.default_partitions.to_string(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(key: &str, value: &str) -> Result<TopicConfig, BrokerError> {
        TopicConfig::parse(BTreeMap::from([(key.to_owned(), value.to_owned())]))
    }

    #[test]
    fn table_is_sorted_and_its_defaults_are_the_parsed_defaults() {
        assert!(TOPIC_CONFIGS.is_sorted_by_key(|definition| definition.key));
        for definition in &TOPIC_CONFIGS {
            let mut config = parse(definition.key, definition.default)
                .unwrap_or_else(|error| panic!("{}: {error}", definition.key));
            config.overrides.clear();
            assert_eq!(config, TopicConfig::default(), "{}", definition.key);
        }
    }

    #[test]
    fn what_is_not_enforced_is_refused_by_name() {
        for (key, value) in [
            ("cleanup.policy", "compacted"),
            ("cleanup.policy", ""),
            ("delete.retention.ms", "-1"),
            ("min.compaction.lag.ms", "-1"),
            ("max.compaction.lag.ms", "0"),
            ("min.cleanable.dirty.ratio", "1.01"),
            ("min.cleanable.dirty.ratio", "NaN"),
            ("min.cleanable.dirty.ratio", "-0.1"),
            ("min.cleanable.dirty.ratio", "half"),
            ("compression.type", "zstd"),
            ("flush.messages", "1000"),
            ("no.such.key", "1"),
            ("retention.ms", "-2"),
            ("retention.ms", "soon"),
            ("segment.bytes", "3"),
            ("message.timestamp.type", "createtime"),
        ] {
            let error = parse(key, value).expect_err(key).to_string();
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn a_topic_is_compacted_deleted_or_both() {
        let policy = |value| {
            let policy = parse("cleanup.policy", value).expect(value).cleanup;
            (policy.deletes, policy.compacts)
        };
        assert_eq!(policy("delete"), (true, false));
        assert_eq!(policy("compact"), (false, true));
        assert_eq!(policy("compact, delete"), (true, true));
    }

    #[test]
    fn the_least_lag_is_not_above_the_greatest() {
        let both = |min: &str, max: &str| {
            TopicConfig::parse(BTreeMap::from([
                ("min.compaction.lag.ms".to_owned(), min.to_owned()),
                ("max.compaction.lag.ms".to_owned(), max.to_owned()),
            ]))
        };
        assert!(both("5", "5").is_ok());
        assert!(matches!(
            both("6", "5"),
            Err(BrokerError::InvalidConfig { .. })
        ));
    }

    #[test]
    fn a_segment_of_a_compacted_topic_is_no_older_than_the_greatest_lag() {
        let age = |policy: &str, lag: &str| {
            let config = TopicConfig::parse(BTreeMap::from([
                ("cleanup.policy".to_owned(), policy.to_owned()),
                ("max.compaction.lag.ms".to_owned(), lag.to_owned()),
                ("segment.ms".to_owned(), "7000".to_owned()),
            ]));
            config.expect("is accepted").log_config().segment_ms
        };
        assert_eq!(age("compact", "5000"), 5_000);
        assert_eq!(age("compact", "9000"), 7_000);
        assert_eq!(age("delete", "5000"), 7_000);
    }
}

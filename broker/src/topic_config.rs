//! A topic's configs: parsed, checked, and as they are told.

use std::collections::BTreeMap;

use storage::batch::TimestampType;
use storage::partition_log::LogConfig;

use crate::topic_config_table::TOPIC_CONFIGS;
use crate::{BrokerError, ConfigDefinition, ConfigEntry};

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

/// Longest value: it is kept as it was given.
const VALUE_BYTES_MAX: usize = 1024;
/// Smallest `segment.bytes`.
const SEGMENT_BYTES_MIN: i64 = 1024;
/// Largest `max.message.bytes`: a batch must fit a frame of 100 MiB with room for its request.
const MESSAGE_BYTES_MAX: i64 = 99 << 20;

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
    /// Parses what was set on a topic, and for all brokers under the names that brokers have for it;
    /// any unknown, fixed or malformed config is refused by name.
    pub fn parse(
        overrides: BTreeMap<String, String>,
        defaults: &BTreeMap<String, String>,
    ) -> Result<TopicConfig, BrokerError> {
        let mut config = TopicConfig::default();
        for (key, value) in defaults {
            let Some(definition) = default_definition(key) else {
                return Err(invalid(format!("{key}: not a config of all brokers")));
            };
            config
                .set(definition.key, value)
                .map_err(|error| invalid(format!("{key}: topics cannot have {error}")))?;
        }
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
        if value.len() > VALUE_BYTES_MAX {
            return Err(invalid(format!(
                "{key}: a value has at most {VALUE_BYTES_MAX} bytes"
            )));
        }
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

    /// Every known key with its value, where these are set for all brokers.
    #[must_use]
    pub fn entries(&self, defaults: &BTreeMap<String, String>) -> Vec<ConfigEntry> {
        let entry = |definition: &ConfigDefinition| {
            let own = self.overrides.get(definition.key).cloned();
            ConfigEntry::of_topic(definition, own, defaults)
        };
        TOPIC_CONFIGS.iter().map(entry).collect()
    }
}

/// The config of topics whose default has this name when it is set for all brokers.
pub(crate) fn default_definition(key: &str) -> Option<&'static ConfigDefinition> {
    let mut settable = TOPIC_CONFIGS.iter().filter(|known| known.settable);
    settable.find(|known| known.broker_key == Some(key))
}

/// A fixed config may be "set" to the value it has; anything else is refused, as is an unknown key.
fn refuse_fixed(key: &str, value: &str) -> Result<(), BrokerError> {
    match TOPIC_CONFIGS
        .iter()
        .find(|definition| definition.key == key)
    {
        Some(definition) if definition.default == Some(value) => Ok(()),
        Some(definition) => Err(invalid(format!(
            "{key}={value}: only {key}={} is supported ({})",
            definition.default.unwrap_or_default(),
            definition.documentation
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(key: &str, value: &str) -> Result<TopicConfig, BrokerError> {
        let overrides = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        TopicConfig::parse(overrides, &BTreeMap::new())
    }

    #[test]
    fn a_topic_has_what_all_brokers_have_until_it_says_otherwise() {
        let set = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let defaults = set("log.retention.ms", "77");
        let plain = TopicConfig::parse(BTreeMap::new(), &defaults).unwrap();
        assert_eq!(plain.retention_ms, 77);
        let own = TopicConfig::parse(set("retention.ms", "5"), &defaults).unwrap();
        assert_eq!(own.retention_ms, 5);
        for (key, value) in [
            ("log.retention.ms", "-2"),
            ("retention.ms", "5"),
            ("compression.type", "producer"),
            ("num.partitions", "5"),
        ] {
            let error = TopicConfig::parse(BTreeMap::new(), &set(key, value));
            let error = error.expect_err(key).to_string();
            assert!(error.contains(key), "{error}");
        }
        // Together they may contradict one another.
        let lag = set("log.cleaner.min.compaction.lag.ms", "9");
        assert!(TopicConfig::parse(set("max.compaction.lag.ms", "8"), &lag).is_err());
    }

    #[test]
    fn table_is_sorted_and_its_defaults_are_the_parsed_defaults() {
        assert!(TOPIC_CONFIGS.is_sorted_by_key(|definition| definition.key));
        for definition in &TOPIC_CONFIGS {
            let default = definition.default.expect("topics' configs have defaults");
            let mut config = parse(definition.key, default)
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
            ("segment.bytes", &"0".repeat(1024).replacen('0', "4096", 1)),
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
            let overrides = BTreeMap::from([
                ("min.compaction.lag.ms".to_owned(), min.to_owned()),
                ("max.compaction.lag.ms".to_owned(), max.to_owned()),
            ]);
            TopicConfig::parse(overrides, &BTreeMap::new())
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
            let overrides = BTreeMap::from([
                ("cleanup.policy".to_owned(), policy.to_owned()),
                ("max.compaction.lag.ms".to_owned(), lag.to_owned()),
                ("segment.ms".to_owned(), "7000".to_owned()),
            ]);
            let config = TopicConfig::parse(overrides, &BTreeMap::new());
            config.expect("is accepted").log_config().segment_ms
        };
        assert_eq!(age("compact", "5000"), 5_000);
        assert_eq!(age("compact", "9000"), 7_000);
        assert_eq!(age("delete", "5000"), 7_000);
    }
}

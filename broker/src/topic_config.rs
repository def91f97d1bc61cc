//! A topic's configs: parsed, checked, and as they are told.

use std::collections::BTreeMap;

use storage::batch::TimestampType;

use crate::topic_config_table::TOPIC_CONFIGS;
use crate::{BrokerError, ConfigDefinition, ConfigEntry, ConfigSource};

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
}

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
        config.overrides = overrides;
        Ok(config)
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
                value: definition.default.map(str::to_owned),
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
        TopicConfig::parse(BTreeMap::from([(key.to_owned(), value.to_owned())]))
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
            ("cleanup.policy", "compact"),
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
}

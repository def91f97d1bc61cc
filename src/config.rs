//! What a node can be told: one typed tree, every default written here.
//!
//! A TOML file (`--config`), then `--set key=value`, then the flags of `braidlog start`; what comes
//! later wins. A key that does not exist is refused. [`Config::validate`] runs once, before anything
//! starts. Sizes are written as `"64MiB"`, times as `"10s"`.

use std::path::PathBuf;

use broker::BrokerConfig;
use kafka::KafkaServerConfig;
use serde::{Deserialize, Serialize};
use storage::NodeId;

use crate::units::{ByteSize, Period};

/// Kafka's port, before `port_offset`.
pub const KAFKA_PORT: u16 = 9092;

/// The whole configuration of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// This node's id, 0 to 2147483647. Must not change over the life of a data directory. Default 1.
    pub node_id: u32,
    /// Its rack, as clients are told. Default none.
    pub rack: Option<String>,
    /// Where its data lives. Default `./data`.
    pub data_dir: PathBuf,
    /// Added to every port. Default 0.
    pub port_offset: u16,
    /// What is written to standard error, as `tracing` directives. Default: what happens rarely.
    pub log: String,
    /// The Kafka listener.
    pub kafka: KafkaConfig,
    /// What a topic has that does not say otherwise.
    pub topics: TopicsConfig,
    /// The disk.
    pub storage: StorageConfig,
    /// Limits of this node.
    pub limits: LimitsConfig,
}

/// The Kafka listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaConfig {
    /// The address it listens on. Default `127.0.0.1`.
    pub host: String,
    /// Its port; 0 takes a free one, to which `port_offset` is not added. Default 9092.
    pub port: u16,
    /// The host that clients are told to connect to. Default: `host`.
    pub advertised_host: Option<String>,
    /// The port that clients are told to connect to. Default: the port it listens on.
    pub advertised_port: Option<u16>,
    /// Largest request. Default 100 MiB.
    pub frame_bytes_max: ByteSize,
    /// Open connections in total. Default 10,000.
    pub connections_max: usize,
    /// Open connections from one address. Default 10,000.
    pub connections_per_address_max: usize,
    /// A connection's first request must have come within this. Default 10 s.
    pub handshake_max: Period,
    /// A connection on which nothing moves for this long is closed. Default 10 min.
    pub idle_max: Period,
    /// A request must have come completely within this time of its first byte. Default 60 s.
    pub frame_time_max: Period,
    /// While answers are not sent, 1 MiB of them, or all, must leave within this. Default 60 s.
    pub send_time_max: Period,
    /// Bytes of requests in hand and of records read for answers, over all connections; at least 4
    /// times `frame_bytes_max`. Default 1 GiB.
    pub inflight_bytes_max: ByteSize,
    /// Bytes of requests in hand and answers not yet sent, for one connection. Default 32 MiB.
    pub inflight_bytes_per_connection_max: ByteSize,
    /// Requests in hand for one connection. Default 256.
    pub inflight_requests_per_connection_max: usize,
    /// Most bytes of records in one answer to a fetch. Default 55 MiB.
    pub fetch_bytes_max: ByteSize,
    /// How long a shutdown waits for requests in hand. Default 5 s.
    pub shutdown_max: Period,
}

/// What a topic has that does not say otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopicsConfig {
    /// Create a topic when a client asks for its metadata. Default true.
    pub auto_create: bool,
    /// Partitions. Default 1.
    pub partitions: i32,
    /// Replicas. Default 1.
    pub replication_factor: i16,
}

/// The disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageConfig {
    /// Shards made on an empty directory. Default 4.
    pub shards: u32,
    /// Recent batches kept in memory. Default 256 MiB.
    pub tail_bytes_max: ByteSize,
    /// Segment files and indexes open at the same time. Default 1,000.
    pub open_files_max: usize,
    /// Size of one journal file. Default 64 MiB.
    pub journal_file_bytes: ByteSize,
    /// Journal written for a shard after which it is checkpointed. Default 64 MiB.
    pub checkpoint_journal_bytes: ByteSize,
    /// Time between rounds of retention and other upkeep. Default 5 s.
    pub upkeep_interval: Period,
    /// Memory-map sealed segments for reading. Default true.
    pub use_mmap: bool,
}

/// Limits of this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Partitions this node carries. Default 100,000.
    pub partitions_max: usize,
    /// Fetches that wait at the same time. Default 100,000.
    pub waiting_fetches_max: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            node_id: 1,
            rack: None,
            data_dir: PathBuf::from("./data"),
            port_offset: 0,
            log: "info,openraft=error".to_owned(),
            kafka: KafkaConfig::default(),
            topics: TopicsConfig::default(),
            storage: StorageConfig::default(),
            limits: LimitsConfig::default(),
        }
    }
}

impl Default for KafkaConfig {
    fn default() -> KafkaConfig {
        KafkaConfig {
            host: "127.0.0.1".to_owned(),
            port: KAFKA_PORT,
            advertised_host: None,
            advertised_port: None,
            frame_bytes_max: ByteSize(100 << 20),
            connections_max: 10_000,
            connections_per_address_max: 10_000,
            handshake_max: Period::from_secs(10),
            idle_max: Period::from_secs(600),
            frame_time_max: Period::from_secs(60),
            send_time_max: Period::from_secs(60),
            inflight_bytes_max: ByteSize(1 << 30),
            inflight_bytes_per_connection_max: ByteSize(32 << 20),
            inflight_requests_per_connection_max: 256,
            fetch_bytes_max: ByteSize(55 << 20),
            shutdown_max: Period::from_secs(5),
        }
    }
}

impl Default for TopicsConfig {
    fn default() -> TopicsConfig {
        TopicsConfig {
            auto_create: true,
            partitions: 1,
            replication_factor: 1,
        }
    }
}

impl Default for StorageConfig {
    fn default() -> StorageConfig {
        StorageConfig {
            shards: 4,
            tail_bytes_max: ByteSize(256 << 20),
            open_files_max: 1_000,
            journal_file_bytes: ByteSize(64 << 20),
            checkpoint_journal_bytes: ByteSize(64 << 20),
            upkeep_interval: Period::from_secs(5),
            use_mmap: true,
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> LimitsConfig {
        LimitsConfig {
            partitions_max: 100_000,
            waiting_fetches_max: 100_000,
        }
    }
}

/// Why a configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The text is no TOML, names a key that does not exist, or gives one a value of another kind.
    #[error("{0}")]
    Toml(String),
    /// A `--set` that is not `key=value`.
    #[error("`--set {0}` is not of the form key=value")]
    Assignment(String),
    /// A `--set` for a key below something that is no table.
    #[error("`{0}` is no section")]
    NoSection(String),
    /// A value that cannot be.
    #[error("{key}: {reason}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong with the value.
        reason: String,
    },
}

impl Config {
    /// Reads a configuration: the text of a file (empty for none), then assignments `key=value`,
    /// the key dotted (`kafka.port=0`), the value as in TOML, where text needs no quotes.
    pub fn read(toml: &str, assignments: &[String]) -> Result<Config, ConfigError> {
        let mut table: toml::Table = toml
            .parse()
            .map_err(|error: toml::de::Error| ConfigError::Toml(plain(&error)))?;
        for assignment in assignments {
            let (key, value) = assignment
                .split_once('=')
                .ok_or_else(|| ConfigError::Assignment(assignment.clone()))?;
            assign(&mut table, key.trim(), parse_value(value.trim()))?;
        }
        table
            .try_into()
            .map_err(|error: toml::de::Error| ConfigError::Toml(plain(&error)))
    }

    /// Refuses what cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |key, reason: &str| {
            Err(ConfigError::Value {
                key,
                reason: reason.to_owned(),
            })
        };
        if i32::try_from(self.node_id).is_err() {
            return refuse("node_id", "must be at most 2147483647");
        }
        if self.kafka.port != 0 && self.kafka.port.checked_add(self.port_offset).is_none() {
            return refuse("port_offset", "moves kafka.port beyond 65535");
        }
        if self
            .kafka
            .host
            .parse()
            .is_ok_and(|ip: std::net::IpAddr| ip.is_unspecified())
            && self.kafka.advertised_host.is_none()
        {
            return refuse(
                "kafka.advertised_host",
                "must say where clients reach this node when kafka.host listens on every address",
            );
        }
        if self.kafka.frame_bytes_max.0 < 1024 || self.kafka.frame_bytes_max.0 > 0x7fff_ffff {
            return refuse("kafka.frame_bytes_max", "must be between 1KiB and 2GiB");
        }
        if self.kafka.inflight_bytes_max.0 / 4 < self.kafka.frame_bytes_max.0 {
            return refuse(
                "kafka.inflight_bytes_max",
                "must be at least 4 times kafka.frame_bytes_max",
            );
        }
        for (key, period) in [
            ("kafka.frame_time_max", self.kafka.frame_time_max),
            ("kafka.send_time_max", self.kafka.send_time_max),
        ] {
            if period.ms == 0 {
                return refuse(key, "must be above 0");
            }
        }
        if self.kafka.connections_max == 0 || self.kafka.connections_per_address_max == 0 {
            return refuse("kafka.connections_max", "must be at least 1");
        }
        if self.kafka.inflight_requests_per_connection_max == 0 {
            return refuse(
                "kafka.inflight_requests_per_connection_max",
                "must be at least 1",
            );
        }
        if self.topics.partitions < 1 {
            return refuse("topics.partitions", "must be at least 1");
        }
        if self.topics.replication_factor < 1 {
            return refuse("topics.replication_factor", "must be at least 1");
        }
        if !(1..=64).contains(&self.storage.shards) {
            return refuse("storage.shards", "must be between 1 and 64");
        }
        if self.storage.journal_file_bytes.0 < 1 << 20 {
            return refuse("storage.journal_file_bytes", "must be at least 1MiB");
        }
        if self.storage.open_files_max == 0 {
            return refuse("storage.open_files_max", "must be at least 1");
        }
        if self.storage.upkeep_interval.ms == 0 {
            return refuse("storage.upkeep_interval", "must be above 0");
        }
        Ok(())
    }

    /// The port to bind for the Kafka listener, 0 for any.
    #[must_use]
    pub fn kafka_port(&self) -> u16 {
        match self.kafka.port {
            0 => 0,
            port => port.saturating_add(self.port_offset),
        }
    }

    /// The broker's part.
    #[must_use]
    pub fn broker(&self) -> BrokerConfig {
        BrokerConfig {
            node_id: NodeId(self.node_id),
            rack: self.rack.clone(),
            auto_create_topics: self.topics.auto_create,
            default_partitions: self.topics.partitions,
            default_replication_factor: self.topics.replication_factor,
            shards: self.storage.shards,
            partitions_max: self.limits.partitions_max,
            waiting_fetches_max: self.limits.waiting_fetches_max,
            tail_bytes_max: self.storage.tail_bytes_max.as_usize(),
            open_files_max: self.storage.open_files_max,
            journal_file_bytes: self.storage.journal_file_bytes.0,
            checkpoint_journal_bytes: self.storage.checkpoint_journal_bytes.0,
            upkeep_interval_ms: self.storage.upkeep_interval.signed_ms(),
            use_mmap: self.storage.use_mmap,
        }
    }

    /// The Kafka listener's part.
    #[must_use]
    pub fn kafka_server(&self) -> KafkaServerConfig {
        let kafka = &self.kafka;
        KafkaServerConfig {
            frame_bytes_max: kafka.frame_bytes_max.as_usize(),
            connections_max: kafka.connections_max,
            connections_per_address_max: kafka.connections_per_address_max,
            handshake_ms_max: kafka.handshake_max.signed_ms(),
            idle_ms_max: kafka.idle_max.signed_ms(),
            frame_ms_max: kafka.frame_time_max.signed_ms(),
            send_ms_max: kafka.send_time_max.signed_ms(),
            inflight_bytes_max: kafka.inflight_bytes_max.as_usize(),
            inflight_bytes_per_connection_max: kafka.inflight_bytes_per_connection_max.as_usize(),
            inflight_requests_per_connection_max: kafka.inflight_requests_per_connection_max,
            fetch_bytes_max: kafka.fetch_bytes_max.as_usize(),
            shutdown_ms_max: kafka.shutdown_max.ms,
            listener_name: crate::node::KAFKA_LISTENER.to_owned(),
        }
    }

    /// As a file that would give the same configuration.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let value = serde_json::to_value(self).expect("a configuration is plain data");
        let mut out = String::new();
        let mut sections = String::new();
        for (key, value) in value.as_object().into_iter().flatten() {
            match value {
                serde_json::Value::Object(section) => {
                    sections.push_str(&format!("\n[{key}]\n"));
                    for (key, value) in section {
                        put_line(&mut sections, key, value);
                    }
                }
                value => put_line(&mut out, key, value),
            }
        }
        out + &sections
    }
}

/// A JSON scalar is a TOML one, except null, which TOML leaves out.
fn put_line(out: &mut String, key: &str, value: &serde_json::Value) {
    if value.is_null() {
        out.push_str(&format!("# {key} =\n"));
    } else {
        out.push_str(&format!("{key} = {value}\n"));
    }
}

/// A value as TOML has it; what is no TOML value is text.
fn parse_value(text: &str) -> toml::Value {
    format!("value = {text}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut table| table.remove("value").filter(|_| table.is_empty()))
        .unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

fn assign(table: &mut toml::Table, key: &str, value: toml::Value) -> Result<(), ConfigError> {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
            Ok(())
        }
        Some((section, rest)) => {
            let inner = table
                .entry(section)
                .or_insert_with(|| toml::Value::Table(toml::Table::new()))
                .as_table_mut()
                .ok_or_else(|| ConfigError::NoSection(section.to_owned()))?;
            assign(inner, rest, value)
        }
    }
}

fn plain(error: &toml::de::Error) -> String {
    error.to_string().trim().replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(toml: &str, assignments: &[&str]) -> Result<Config, ConfigError> {
        let assignments: Vec<String> = assignments.iter().map(|text| (*text).to_owned()).collect();
        Config::read(toml, &assignments)
    }

    #[test]
    fn nothing_said_is_the_default() {
        assert_eq!(read("", &[]), Ok(Config::default()));
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn assignments_win_over_the_file() {
        let config = read(
            "node_id = 3\n[kafka]\nport = 1\nidle_max = \"1m\"\n",
            &[
                "kafka.port=0",
                "storage.tail_bytes_max=1MiB",
                "rack=eu-1",
                "data_dir=/tmp/x",
            ],
        )
        .unwrap();
        assert_eq!((config.node_id, config.kafka.port), (3, 0));
        assert_eq!(config.kafka.idle_max, Period::from_secs(60));
        assert_eq!(config.storage.tail_bytes_max, ByteSize(1 << 20));
        assert_eq!(config.rack.as_deref(), Some("eu-1"));
        assert_eq!(config.data_dir, PathBuf::from("/tmp/x"));
    }

    #[test]
    fn what_does_not_exist_is_refused_by_name() {
        for (toml, assignment, name) in [
            ("nodeid = 1", None, "nodeid"),
            ("[kafka]\nprot = 1", None, "prot"),
            ("", Some("kafka.prot=1"), "prot"),
            ("", Some("mqtt.port=1"), "mqtt"),
        ] {
            let assignments: Vec<&str> = assignment.into_iter().collect();
            let error = read(toml, &assignments).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
        assert_eq!(
            read("", &["kafka.port"]),
            Err(ConfigError::Assignment("kafka.port".to_owned()))
        );
        assert_eq!(
            read("", &["node_id=1", "node_id.x=1"]),
            Err(ConfigError::NoSection("node_id".to_owned()))
        );
    }

    #[test]
    fn values_that_cannot_be_are_refused() {
        for (assignment, key) in [
            ("topics.partitions=0", "topics.partitions"),
            ("topics.replication_factor=0", "topics.replication_factor"),
            ("kafka.host=0.0.0.0", "kafka.advertised_host"),
            ("port_offset=60000", "port_offset"),
            ("node_id=4294967295", "node_id"),
            ("storage.shards=0", "storage.shards"),
            (
                "kafka.inflight_bytes_max=399MiB",
                "kafka.inflight_bytes_max",
            ),
            ("kafka.frame_bytes_max=257MiB", "kafka.inflight_bytes_max"),
            ("kafka.frame_time_max=0s", "kafka.frame_time_max"),
            ("kafka.send_time_max=0s", "kafka.send_time_max"),
        ] {
            let error = read("", &[assignment])
                .unwrap()
                .validate()
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(key), "{error}");
        }
        assert!(read("", &["kafka.idle_max=10"]).is_err());
    }

    #[test]
    fn the_effective_configuration_reads_back() {
        let config = read("", &["rack=\"quo\\\"te\"", "kafka.advertised_port=7"]).unwrap();
        assert_eq!(read(&config.to_toml(), &[]), Ok(config));
    }

    /// Rows of the page's table of keys: key and default, as they stand there.
    fn documented() -> Vec<(String, String)> {
        let page = include_str!("../docs/operating.md");
        let (_, table) = page.split_once("### Every key").unwrap();
        let cells = |row: &str| -> Option<(String, String)> {
            let mut cells = row.strip_prefix("| `")?.split(" | ");
            let key = cells.next()?.trim_end_matches('`').to_owned();
            Some((key, cells.next()?.trim_matches('`').to_owned()))
        };
        let rows = table.lines().skip_while(|line| !line.starts_with('|'));
        let rows = rows.take_while(|line| line.starts_with('|'));
        rows.filter_map(cells).collect()
    }

    #[test]
    fn the_page_on_operating_has_every_key_with_its_default() {
        let text = |value: &serde_json::Value| match value {
            serde_json::Value::Null => "none".to_owned(),
            value => value.to_string(),
        };
        let mut expected = Vec::new();
        let all = serde_json::to_value(Config::default()).unwrap();
        for (key, value) in all.as_object().unwrap() {
            match value.as_object() {
                Some(section) => expected.extend(
                    section
                        .iter()
                        .map(|(inner, value)| (format!("{key}.{inner}"), text(value))),
                ),
                None => expected.push((key.clone(), text(value))),
            }
        }
        let mut documented = documented();
        documented.sort();
        expected.sort();
        assert_eq!(documented, expected, "left: docs/operating.md");
    }
}

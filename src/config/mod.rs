//! What a node can be told: one typed tree, every default written here.
//!
//! A TOML file (`--config`), then `--set key=value`, then the flags of `braidlog start`; what comes
//! later wins. A key that does not exist is refused. [`Config::validate`] runs once, before anything
//! starts. Sizes are written as `"64MiB"`, times as `"10s"`.

mod check;
mod sections;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use broker::BrokerConfig;
use http_admin::HttpServerConfig;
use kafka::KafkaServerConfig;
use storage::NodeId;

use crate::node::{HTTP_LISTENER, KAFKA_LISTENER, PEERS_LISTENER};

pub use sections::{
    Config, Durability, GroupMigration, GroupsConfig, HttpConfig, KafkaConfig, LimitsConfig,
    PeersConfig, StorageConfig, TopicsConfig,
};

/// Kafka's port, before `port_offset`.
pub const KAFKA_PORT: u16 = 9092;
/// The port for the other nodes of the cluster, before `port_offset`.
pub const PEERS_PORT: u16 = 9094;
/// The port for operators, before `port_offset`.
pub const HTTP_PORT: u16 = 8080;

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

    /// The port to bind for the Kafka listener, 0 for any.
    #[must_use]
    pub fn kafka_port(&self) -> u16 {
        self.shifted(self.kafka.port)
    }

    /// The port to bind for other nodes, 0 for any.
    #[must_use]
    pub fn peers_port(&self) -> u16 {
        self.shifted(self.peers.port)
    }

    /// The port to bind for operators, 0 for any.
    #[must_use]
    pub fn http_port(&self) -> u16 {
        self.shifted(self.http.port)
    }

    fn shifted(&self, port: u16) -> u16 {
        match port {
            0 => 0,
            port => port.saturating_add(self.port_offset),
        }
    }

    /// Where this node is reached, given where its listeners were bound: host and port by the name
    /// of the listener.
    #[must_use]
    pub fn advertised(
        &self,
        kafka: SocketAddr,
        http: SocketAddr,
        peers: SocketAddr,
    ) -> BTreeMap<String, (String, u16)> {
        let host = |advertised: Option<&String>, listens_on: &String| {
            advertised.unwrap_or(listens_on).clone()
        };
        let public = self.kafka.advertised_host.as_ref();
        let kafka_host = host(public, &self.kafka.host);
        let kafka_port = self.kafka.advertised_port.unwrap_or(kafka.port());
        let peers_host = host(
            self.peers.advertised_host.as_ref().or(public),
            &self.peers.host,
        );
        let peers_port = self.peers.advertised_port.unwrap_or(peers.port());
        let http_public = public.filter(|_| check::is_every_address(&self.http.host));
        let http_host = host(http_public, &self.http.host);
        BTreeMap::from([
            (KAFKA_LISTENER.to_owned(), (kafka_host, kafka_port)),
            (PEERS_LISTENER.to_owned(), (peers_host, peers_port)),
            (HTTP_LISTENER.to_owned(), (http_host, http.port())),
        ])
    }

    /// The HTTP listener's part.
    #[must_use]
    pub fn http_server(&self) -> HttpServerConfig {
        HttpServerConfig {
            connections_max: self.http.connections_max,
            request_ms_max: self.http.request_time_max.ms,
            ..HttpServerConfig::default()
        }
    }

    /// The broker's part.
    #[must_use]
    pub fn broker(&self) -> BrokerConfig {
        BrokerConfig {
            node_id: self.node_id.map(NodeId),
            rack: self.rack.clone(),
            seeds: self.seeds.clone(),
            advertised: BTreeMap::new(), // known once the listeners are bound
            heartbeat_ms: self.peers.heartbeat.ms,
            election_ms_min: self.peers.election_timeout_min.ms,
            election_ms_max: self.peers.election_timeout_max.ms,
            durability: match self.durability {
                Durability::Fsync => storage::Durability::Fsync,
                Durability::Interval => storage::Durability::interval(),
                Durability::Os => storage::Durability::Os,
            },
            accept_power_loss: self.accept_power_loss,
            accept_power_loss_after_ms: BrokerConfig::default().accept_power_loss_after_ms,
            catch_up_bytes_per_second: self.storage.catch_up_bytes_per_second.0,
            scrub_interval_ms: self.storage.scrub_interval.ms,
            scrub_bytes_per_second: self.storage.scrub_bytes_per_second.0,
            compaction_bytes_per_second: self.storage.compaction_bytes_per_second.0,
            compaction_memory_bytes: self.storage.compaction_memory.as_usize(),
            compaction_copied_ms: BrokerConfig::default().compaction_copied_ms,
            auto_create_topics: self.topics.auto_create,
            default_partitions: self.topics.partitions,
            default_replication_factor: self.topics.replication_factor,
            offsets_topic_partitions: self.groups.offsets_partitions,
            groups: self.groups.broker(),
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
            fetch_sessions_max: kafka.fetch_sessions_max,
            fetch_session_bytes_max: kafka.fetch_session_bytes_max.as_usize(),
            shutdown_ms_max: kafka.shutdown_max.ms,
            listener_name: KAFKA_LISTENER.to_owned(),
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
    use std::path::PathBuf;

    use super::*;
    use crate::units::{ByteSize, Period};

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
        assert_eq!((config.node_id, config.kafka.port), (Some(3), 0));
        assert_eq!(config.kafka.idle_max, Period::from_secs(60));
        assert_eq!(config.storage.tail_bytes_max, ByteSize(1 << 20));
        assert_eq!(config.rack.as_deref(), Some("eu-1"));
        assert_eq!(config.data_dir, PathBuf::from("/tmp/x"));
    }

    #[test]
    fn durability_reaches_the_broker() {
        for (text, durability) in [
            ("fsync", storage::Durability::Fsync),
            ("interval", storage::Durability::interval()),
            ("os", storage::Durability::Os),
        ] {
            let config = read("", &[&format!("durability={text}")]).unwrap();
            assert_eq!(config.broker().durability, durability);
            assert!(
                config
                    .to_toml()
                    .contains(&format!("durability = \"{text}\""))
            );
        }
        assert_eq!(
            Config::default().broker().durability,
            storage::Durability::Fsync
        );
        assert!(read("", &["durability=sometimes"]).is_err());
        assert!(
            read("", &["accept_power_loss=true"]).is_err(),
            "never from a file"
        );
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
            ("topics.replication_factor=-1", "topics.replication_factor"),
            ("seeds=[\"a\"]", "seeds"),
            ("seeds=[\"a:0\"]", "seeds"),
            ("seeds=[\"::1:9094\"]", "seeds"),
            ("seeds=[\"a:9094/x\"]", "seeds"),
            ("peers.host=\"::\"", "peers.advertised_host"),
            ("peers.tls_key=/x", "peers.tls_certificate"),
            ("peers.heartbeat=0s", "peers.heartbeat"),
            ("peers.heartbeat=300ms", "peers.election_timeout_min"),
            (
                "peers.election_timeout_max=500ms",
                "peers.election_timeout_max",
            ),
            (
                "peers.election_timeout_max=2m",
                "peers.election_timeout_max",
            ),
            ("http.connections_max=0", "http.connections_max"),
            ("http.request_time_max=0s", "http.request_time_max"),
            ("kafka.host=0.0.0.0", "kafka.advertised_host"),
            ("port_offset=57000", "port_offset"),
            ("node_id=4294967295", "node_id"),
            ("storage.shards=0", "storage.shards"),
            ("groups.offsets_partitions=0", "groups.offsets_partitions"),
            (
                "groups.offsets_partitions=1001",
                "groups.offsets_partitions",
            ),
            (
                "groups.session_timeout_min=0s",
                "groups.session_timeout_min",
            ),
            (
                "groups.session_timeout_max=5s",
                "groups.session_timeout_min",
            ),
            (
                "groups.session_timeout_max=2d",
                "groups.session_timeout_max",
            ),
            (
                "groups.initial_rebalance_delay=25h",
                "groups.initial_rebalance_delay",
            ),
            (
                "groups.consumer_heartbeat_interval=45s",
                "groups.consumer_heartbeat_interval",
            ),
            (
                "groups.consumer_session_timeout=2d",
                "groups.consumer_session_timeout",
            ),
            ("groups.offsets_retention=0s", "groups.offsets_retention"),
            (
                "groups.offsets_retention_check_interval=0s",
                "groups.offsets_retention_check_interval",
            ),
            (
                "groups.offset_metadata_bytes_max=32768B",
                "groups.offset_metadata_bytes_max",
            ),
            ("groups.members_max=0", "groups.members_max"),
            (
                "groups.consumer_members_max=0",
                "groups.consumer_members_max",
            ),
            ("groups.consumer_assignors=[]", "groups.consumer_assignors"),
            (
                "groups.consumer_assignors=[\"range\", \"best\"]",
                "groups.consumer_assignors",
            ),
            (
                "kafka.inflight_bytes_max=399MiB",
                "kafka.inflight_bytes_max",
            ),
            ("kafka.frame_bytes_max=257MiB", "kafka.inflight_bytes_max"),
            ("kafka.frame_time_max=0s", "kafka.frame_time_max"),
            ("kafka.send_time_max=0s", "kafka.send_time_max"),
            (
                "kafka.fetch_sessions_max=100001",
                "kafka.fetch_sessions_max",
            ),
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
    fn groups_are_as_the_broker_has_them_and_as_they_are_told() {
        let broker = Config::default().broker();
        let default = BrokerConfig::default();
        assert_eq!(broker.groups, default.groups);
        assert_eq!(
            broker.offsets_topic_partitions,
            default.offsets_topic_partitions
        );
        let told = [
            "groups.offsets_partitions=7",
            "groups.session_timeout_min=1s",
            "groups.session_timeout_max=2s",
            "groups.initial_rebalance_delay=3ms",
            "groups.consumer_session_timeout=4s",
            "groups.consumer_heartbeat_interval=5ms",
            "groups.offsets_retention=6s",
            "groups.offsets_retention_check_interval=7s",
            "groups.offset_metadata_bytes_max=8B",
            "groups.members_max=9",
            "groups.consumer_members_max=10",
            "groups.consumer_assignors=[\"range\"]",
            "groups.consumer_migration=upgrade",
        ];
        let config = read("", &told).unwrap();
        assert_eq!(config.validate(), Ok(()));
        let broker = config.broker();
        assert_eq!(broker.offsets_topic_partitions, 7);
        let expected = broker::groups::GroupsConfig {
            group_min_session_timeout_ms: 1_000,
            group_max_session_timeout_ms: 2_000,
            group_initial_rebalance_delay_ms: 3,
            consumer_session_timeout_ms: 4_000,
            consumer_heartbeat_interval_ms: 5,
            offsets_retention_ms: 6_000,
            offsets_retention_check_interval_ms: 7_000,
            offset_metadata_max_bytes: 8,
            group_max_size: 9,
            consumer_max_size: 10,
            consumer_assignors: vec!["range".to_owned()],
            consumer_migration_policy: broker::groups::MigrationPolicy::Upgrade,
            ..default.groups
        };
        assert_eq!(broker.groups, expected);
    }

    #[test]
    fn the_effective_configuration_reads_back() {
        let config = read("", &["rack=\"quo\\\"te\"", "kafka.advertised_port=7"]).unwrap();
        assert_eq!(read(&config.to_toml(), &[]), Ok(config));
    }

    #[test]
    fn every_listener_is_reached_where_it_says() {
        let bound = |port| SocketAddr::from(([0, 0, 0, 0], port));
        let advertised = |assignments: &[&str]| {
            let config = read("", assignments).unwrap();
            assert_eq!(config.validate(), Ok(()), "{assignments:?}");
            let all = config.advertised(bound(1), bound(2), bound(3));
            ["kafka", "http", "peers"].map(|name| {
                let (host, port) = &all[name];
                format!("{host}:{port}")
            })
        };
        assert_eq!(
            advertised(&[]),
            ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]
        );
        let everywhere = [
            "kafka.host=0.0.0.0",
            "peers.host=0.0.0.0",
            "kafka.advertised_host=h",
        ];
        assert_eq!(advertised(&everywhere), ["h:1", "127.0.0.1:2", "h:3"]);
        assert_eq!(
            advertised(&[
                "kafka.advertised_host=h",
                "kafka.advertised_port=7",
                "peers.advertised_host=p",
                "peers.advertised_port=8",
                "http.host=\"::\"",
            ]),
            ["h:7", "h:2", "p:8"]
        );
    }

    #[test]
    fn an_offset_moves_every_port_but_those_that_are_free_to_choose() {
        let ports = |assignments: &[&str]| {
            let config = read("", assignments).unwrap();
            [config.kafka_port(), config.peers_port(), config.http_port()]
        };
        assert_eq!(ports(&["port_offset=100"]), [9192, 9194, 8180]);
        let free = [
            "port_offset=100",
            "kafka.port=0",
            "peers.port=0",
            "http.port=0",
        ];
        assert_eq!(ports(&free), [0, 0, 0]);
    }

    /// Rows of the page's table of keys: key and default, as they stand there.
    fn documented() -> Vec<(String, String)> {
        let page = include_str!("../../docs/operating.md");
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

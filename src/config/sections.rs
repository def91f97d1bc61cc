//! The keys, section by section, with their defaults.

use std::path::PathBuf;

use broker::groups::MigrationPolicy;
use serde::{Deserialize, Serialize};

use super::{HTTP_PORT, KAFKA_PORT, PEERS_PORT};
use crate::units::{ByteSize, Period};

/// The whole configuration of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The id wanted for this node, 0 to 2147483647, when its directory is new. Default: 1 without
    /// seeds, else whichever is free.
    pub node_id: Option<u32>,
    /// Its rack, as clients are told. Default none.
    pub rack: Option<String>,
    /// Where its data lives. Default `./data`.
    pub data_dir: PathBuf,
    /// Added to every port. Default 0.
    pub port_offset: u16,
    /// What is written to standard error, as `tracing` directives. Default: what happens rarely.
    pub log: String,
    /// Nodes of the cluster, `host:port` of their peer listeners. With none, an empty directory
    /// founds a cluster of this node alone. Default none.
    pub seeds: Vec<String>,
    /// When a record counts on this node: `fsync`, once it is synced to disk; `interval`, once it
    /// is written, with a sync behind every 256 KiB or 100 ms; `os`, once it is written, and the
    /// system syncs when it likes. The same on every node. Default `fsync`.
    pub durability: Durability,
    /// The Kafka listener.
    pub kafka: KafkaConfig,
    /// The listener for the other nodes of the cluster.
    pub peers: PeersConfig,
    /// The listener for operators.
    pub http: HttpConfig,
    /// What a topic has that does not say otherwise.
    pub topics: TopicsConfig,
    /// Consumer groups.
    pub groups: GroupsConfig,
    /// The disk.
    pub storage: StorageConfig,
    /// Limits of this node.
    pub limits: LimitsConfig,
    /// Whether this start trusts what is on the disk after a loss of power, where records were
    /// acknowledged before they were synced. Of the command line only, and for one start.
    #[serde(skip)]
    pub accept_power_loss: bool,
}

/// When a record counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Once synced.
    #[default]
    Fsync,
    /// Once written; synced soon after.
    Interval,
    /// Once written.
    Os,
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
    /// Fetch sessions at the same time (KIP-227); with 0 every fetch names all of its partitions.
    /// Default 1,000.
    pub fetch_sessions_max: usize,
    /// Bytes that fetch sessions may take, some 800 a partition. Default 128 MiB.
    pub fetch_session_bytes_max: ByteSize,
    /// How long a shutdown waits for requests in hand. Default 5 s.
    pub shutdown_max: Period,
}

/// The listener for the other nodes of the cluster, and how their silence is understood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PeersConfig {
    /// The address it listens on. Default `127.0.0.1`.
    pub host: String,
    /// Its port; 0 takes a free one, to which `port_offset` is not added. Default 9094.
    pub port: u16,
    /// The host that other nodes are told to connect to. Default: `kafka.advertised_host` when that
    /// is given, else `host`.
    pub advertised_host: Option<String>,
    /// The port that other nodes are told to connect to. Default: the port it listens on.
    pub advertised_port: Option<u16>,
    /// PEM file with this node's certificate and those up to the authority. With it, all three of
    /// them, nodes speak TLS and check one another. Default none.
    pub tls_certificate: Option<PathBuf>,
    /// PEM file with its private key. Default none.
    pub tls_key: Option<PathBuf>,
    /// PEM file with the authority that the nodes' certificates must come from. Default none.
    pub tls_ca: Option<PathBuf>,
    /// How often a leader tells its followers that it lives. Default 100 ms.
    pub heartbeat: Period,
    /// Shortest silence of a leader before a follower wants to lead. Default 500 ms.
    pub election_timeout_min: Period,
    /// Longest such silence; each follower draws its own between the two. Default 1 s.
    pub election_timeout_max: Period,
}

/// The listener for operators: status, drains and health checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// The address it listens on. Default `127.0.0.1`.
    pub host: String,
    /// Its port; 0 takes a free one, to which `port_offset` is not added. Default 8080.
    pub port: u16,
    /// Open connections in total. Default 256.
    pub connections_max: usize,
    /// A request is answered within this, if only that it takes longer. Default 60 s.
    pub request_time_max: Period,
}

/// What a topic has that does not say otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopicsConfig {
    /// Create a topic when a client asks for its metadata. Default true.
    pub auto_create: bool,
    /// Partitions. Default 1.
    pub partitions: i32,
    /// Replicas; 0 takes as many as there are nodes, 3 at most, and more as nodes come. Default 0.
    pub replication_factor: i16,
}

/// Consumer groups; the same on every node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GroupsConfig {
    /// Partitions of `__consumer_offsets` when it is made. Default 50.
    pub offsets_partitions: i32,
    /// Shortest session that a member of a classic group may ask for. Default 6 s.
    pub session_timeout_min: Period,
    /// Longest such session. Default 30 min.
    pub session_timeout_max: Period,
    /// How long a new classic group waits for further members. Default 3 s.
    pub initial_rebalance_delay: Period,
    /// How long a silent member of a consumer group (KIP-848) stays one. Default 45 s.
    pub consumer_session_timeout: Period,
    /// How often such members are told to give a sign of life. Default 5 s.
    pub consumer_heartbeat_interval: Period,
    /// How long offsets stay after their group lost its last member. Default 7 days.
    pub offsets_retention: Period,
    /// Time between two looks for offsets that have stayed for so long. Default 10 min.
    pub offsets_retention_check_interval: Period,
    /// Longest note that a client may commit beside an offset. Default 4 KiB.
    pub offset_metadata_bytes_max: ByteSize,
    /// Most members of a classic group. Default 2147483647.
    pub members_max: usize,
    /// Most members of a consumer group (KIP-848). Default 2147483647.
    pub consumer_members_max: usize,
    /// The assignors that such groups may use, `uniform` and `range` or one of them, the default
    /// one first. Default both.
    pub consumer_assignors: Vec<String>,
    /// Which ways a group may go between the two protocols while it has members. Default both.
    pub consumer_migration: GroupMigration,
}

/// Which ways a group may go between the two protocols while it has members.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupMigration {
    /// Both.
    #[default]
    Bidirectional,
    /// From classic to consumer.
    Upgrade,
    /// From consumer to classic.
    Downgrade,
    /// None.
    Disabled,
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
    /// Bytes a second at which this node copies what it lacks from others; 0 sets no limit.
    /// Default 0.
    pub catch_up_bytes_per_second: ByteSize,
    /// Time between two passes that read all sealed segments to find damage; 0 means none. Default
    /// 7 days.
    pub scrub_interval: Period,
    /// Bytes a second that such a pass reads; 0 means none. Default 8 MiB.
    pub scrub_bytes_per_second: ByteSize,
    /// Bytes a second that compaction reads and writes; 0 sets no limit. Default 256 MiB.
    pub compaction_bytes_per_second: ByteSize,
    /// Memory for the keys of the partition that is compacted, 24 bytes each. Default 64 MiB.
    pub compaction_memory: ByteSize,
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
            node_id: None,
            rack: None,
            data_dir: PathBuf::from("./data"),
            port_offset: 0,
            log: "info,openraft=error,openraft::core::heartbeat=off".to_owned(),
            seeds: Vec::new(),
            durability: Durability::default(),
            kafka: KafkaConfig::default(),
            peers: PeersConfig::default(),
            http: HttpConfig::default(),
            topics: TopicsConfig::default(),
            groups: GroupsConfig::default(),
            storage: StorageConfig::default(),
            limits: LimitsConfig::default(),
            accept_power_loss: false,
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
            fetch_sessions_max: 1_000,
            fetch_session_bytes_max: ByteSize(128 << 20),
            shutdown_max: Period::from_secs(5),
        }
    }
}

impl Default for PeersConfig {
    fn default() -> PeersConfig {
        PeersConfig {
            host: "127.0.0.1".to_owned(),
            port: PEERS_PORT,
            advertised_host: None,
            advertised_port: None,
            tls_certificate: None,
            tls_key: None,
            tls_ca: None,
            heartbeat: Period { ms: 100 },
            election_timeout_min: Period { ms: 500 },
            election_timeout_max: Period::from_secs(1),
        }
    }
}

impl Default for HttpConfig {
    fn default() -> HttpConfig {
        HttpConfig {
            host: "127.0.0.1".to_owned(),
            port: HTTP_PORT,
            connections_max: 256,
            request_time_max: Period::from_secs(60),
        }
    }
}

impl Default for TopicsConfig {
    fn default() -> TopicsConfig {
        TopicsConfig {
            auto_create: true,
            partitions: 1,
            replication_factor: 0,
        }
    }
}

impl Default for GroupsConfig {
    fn default() -> GroupsConfig {
        GroupsConfig {
            offsets_partitions: 50,
            session_timeout_min: Period::from_secs(6),
            session_timeout_max: Period::from_secs(1_800),
            initial_rebalance_delay: Period::from_secs(3),
            consumer_session_timeout: Period::from_secs(45),
            consumer_heartbeat_interval: Period::from_secs(5),
            offsets_retention: Period::from_secs(7 * 24 * 3_600),
            offsets_retention_check_interval: Period::from_secs(600),
            offset_metadata_bytes_max: ByteSize(4 << 10),
            members_max: 0x7fff_ffff,
            consumer_members_max: 0x7fff_ffff,
            consumer_assignors: vec!["uniform".to_owned(), "range".to_owned()],
            consumer_migration: GroupMigration::default(),
        }
    }
}

impl GroupsConfig {
    /// The broker's part.
    pub(super) fn broker(&self) -> broker::groups::GroupsConfig {
        broker::groups::GroupsConfig {
            group_min_session_timeout_ms: self.session_timeout_min.wire_ms(),
            group_max_session_timeout_ms: self.session_timeout_max.wire_ms(),
            group_initial_rebalance_delay_ms: self.initial_rebalance_delay.wire_ms(),
            consumer_session_timeout_ms: self.consumer_session_timeout.wire_ms(),
            consumer_heartbeat_interval_ms: self.consumer_heartbeat_interval.wire_ms(),
            offsets_retention_ms: self.offsets_retention.signed_ms(),
            offsets_retention_check_interval_ms: self.offsets_retention_check_interval.signed_ms(),
            offset_metadata_max_bytes: self.offset_metadata_bytes_max.as_usize(),
            group_max_size: self.members_max,
            consumer_max_size: self.consumer_members_max,
            consumer_assignors: self.consumer_assignors.clone(),
            consumer_migration_policy: match self.consumer_migration {
                GroupMigration::Bidirectional => MigrationPolicy::Bidirectional,
                GroupMigration::Upgrade => MigrationPolicy::Upgrade,
                GroupMigration::Downgrade => MigrationPolicy::Downgrade,
                GroupMigration::Disabled => MigrationPolicy::Disabled,
            },
            ..broker::groups::GroupsConfig::default()
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
            catch_up_bytes_per_second: ByteSize(0),
            scrub_interval: Period::from_secs(7 * 24 * 3_600),
            scrub_bytes_per_second: ByteSize(8 << 20),
            compaction_bytes_per_second: ByteSize(256 << 20),
            compaction_memory: ByteSize(64 << 20),
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

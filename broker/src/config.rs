//! What a broker is started with. Nothing here can be changed while it runs.
//!
//! How clients see it, under Kafka's names, is said in `broker_configs/`.

use std::collections::BTreeMap;

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
    /// Partitions of the internal topic of groups, when it is made (Kafka's
    /// `offsets.topic.num.partitions`).
    pub offsets_topic_partitions: i32,
    /// Limits and times of consumer groups.
    pub groups: groups::GroupsConfig,
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
            compaction_bytes_per_second: 256 << 20,
            compaction_memory_bytes: 64 << 20,
            compaction_copied_ms: 600_000,
            auto_create_topics: true,
            default_partitions: 1,
            default_replication_factor: 0,
            offsets_topic_partitions: 50,
            groups: groups::GroupsConfig::default(),
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

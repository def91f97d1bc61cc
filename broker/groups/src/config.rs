//! The limits and times of groups.

/// Which conversions between the two protocols a group may go through while it has members:
/// `group.consumer.migration.policy`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MigrationPolicy {
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

/// The limits and times of groups. The fields are named after Kafka's configs, with its defaults;
/// those without a config there say so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupsConfig {
    /// `group.min.session.timeout.ms`.
    pub group_min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`.
    pub group_max_session_timeout_ms: i32,
    /// `group.initial.rebalance.delay.ms`.
    pub group_initial_rebalance_delay_ms: i32,
    /// `group.max.size`: members of a classic group.
    pub group_max_size: usize,
    /// `group.consumer.session.timeout.ms`.
    pub consumer_session_timeout_ms: i32,
    /// `group.consumer.heartbeat.interval.ms`.
    pub consumer_heartbeat_interval_ms: i32,
    /// `group.consumer.max.size`: members of a consumer group.
    pub consumer_max_size: usize,
    /// `group.consumer.assignors`: the names, the default one first.
    pub consumer_assignors: Vec<String>,
    /// `group.consumer.migration.policy`.
    pub consumer_migration_policy: MigrationPolicy,
    /// `group.consumer.regex.refresh.interval.ms`.
    pub consumer_regex_refresh_interval_ms: i64,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_max_bytes: usize,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_interval_ms: i64,
    /// The longest id of a group, member or instance, in bytes. Kafka: what fits in a string.
    pub id_bytes_max: usize,
    /// The most bytes of protocols (names and metadata) of one member. Kafka: the size of a request.
    pub member_metadata_bytes_max: usize,
    /// The most bytes of one record. Kafka: `max.message.bytes` of the topic.
    pub record_bytes_max: usize,
    /// The most members that have asked for an id and not come back with it, in one group. Kafka:
    /// counted in `group.max.size`, without a limit by default.
    pub pending_members_max: usize,
    /// The most records that one round of expiry appends.
    pub expiry_records_max: usize,
    /// The most groups that one coordinator has. Kafka: none.
    pub groups_max: usize,
    /// The most partitions that a group has offsets of. Kafka: none.
    pub offsets_per_group_max: usize,
    /// The most bytes that the offsets of a group take, so that one batch can forget them all. Kafka:
    /// none.
    pub offsets_bytes_per_group_max: usize,
    /// The most bytes of the offsets of one commit. Kafka: `max.message.bytes` of the topic.
    pub commit_bytes_max: usize,
    /// The most protocols of one member. Kafka: none.
    pub member_protocols_max: usize,
    /// The most bytes that the members of a group say of themselves. Kafka: none.
    pub members_bytes_per_group_max: usize,
    /// The most bytes that all groups of one coordinator take, offsets and members. Kafka: none.
    pub coordinator_bytes_max: usize,
    /// The most regular expressions of a group. Kafka: none.
    pub regexes_per_group_max: usize,
    /// Bytes of topics' names that expressions were found to match anew after which a call leaves the
    /// others to the next one. Kafka: none.
    pub regex_refresh_bytes: usize,
    /// The most bytes of a subscription's regular expression. Compiled it may take a thousand times
    /// as much. Kafka: none.
    pub regex_bytes_max: usize,
}

/// Strings of records have a length of sixteen bits; an id of a member is made of another id and a
/// UUID.
const ID_BYTES_MAX: usize = i16::MAX as usize - 64;

impl GroupsConfig {
    /// With no limit beyond what the formats of records can hold.
    pub(crate) fn within_formats(mut self) -> Self {
        self.id_bytes_max = self.id_bytes_max.min(ID_BYTES_MAX);
        self.regex_bytes_max = self.regex_bytes_max.min(ID_BYTES_MAX);
        self
    }
}

impl Default for GroupsConfig {
    fn default() -> Self {
        Self {
            group_min_session_timeout_ms: 6_000,
            group_max_session_timeout_ms: 1_800_000,
            group_initial_rebalance_delay_ms: 3_000,
            group_max_size: i32::MAX as usize,
            consumer_session_timeout_ms: 45_000,
            consumer_heartbeat_interval_ms: 5_000,
            consumer_max_size: i32::MAX as usize,
            consumer_assignors: vec!["uniform".to_owned(), "range".to_owned()],
            consumer_migration_policy: MigrationPolicy::Bidirectional,
            consumer_regex_refresh_interval_ms: 600_000,
            offset_metadata_max_bytes: 4_096,
            offsets_retention_ms: 7 * 24 * 60 * 60 * 1_000,
            offsets_retention_check_interval_ms: 600_000,
            id_bytes_max: 1_024,
            member_metadata_bytes_max: 1 << 20,
            record_bytes_max: 4 << 20,
            pending_members_max: 10_000,
            expiry_records_max: 1_000,
            groups_max: 100_000,
            offsets_per_group_max: 100_000,
            offsets_bytes_per_group_max: 32 << 20,
            commit_bytes_max: 16 << 20,
            member_protocols_max: 100,
            members_bytes_per_group_max: 32 << 20,
            coordinator_bytes_max: 128 << 20,
            regexes_per_group_max: 100,
            regex_refresh_bytes: 4 << 20,
            regex_bytes_max: 1_024,
        }
    }
}

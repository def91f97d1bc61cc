//! Groups of consumers, and the offsets they commit.

use groups::{GroupsConfig, MigrationPolicy};

use super::row::{Row, fixed, node, unused};
use crate::Broker;
use crate::ConfigKind::{Int, List, Long, Short, String};

pub(super) static GROUPS: [Row; 59] = [
    node(
        "group.consumer.assignors",
        List,
        Some("uniform,range"),
        "Assignors that the broker has for groups of the newer protocol, the default one first.",
        |broker| Some(limits(broker).consumer_assignors.join(",")),
    ),
    node(
        "group.consumer.heartbeat.interval.ms",
        Int,
        Some("5000"),
        "How often members of the newer protocol report.",
        |broker| Some(limits(broker).consumer_heartbeat_interval_ms.to_string()),
    ),
    unused(
        "group.consumer.max.heartbeat.interval.ms",
        Int,
        "Longest interval of reports that a group may be given; groups have no intervals of their own.",
    ),
    unused(
        "group.consumer.max.session.timeout.ms",
        Int,
        "Longest session that a group of the newer protocol may be given; groups have no sessions of their own.",
    ),
    node(
        "group.consumer.max.size",
        Int,
        Some("2147483647"),
        "Most members of a group of the newer protocol.",
        |broker| Some(limits(broker).consumer_max_size.to_string()),
    ),
    node(
        "group.consumer.migration.policy",
        String,
        Some("bidirectional"),
        "Whether groups may go from one protocol to the other while they work.",
        |broker| Some(migration(limits(broker).consumer_migration_policy).to_owned()),
    ),
    unused(
        "group.consumer.min.heartbeat.interval.ms",
        Int,
        "Shortest interval of reports that a group may be given; groups have no intervals of their own.",
    ),
    unused(
        "group.consumer.min.session.timeout.ms",
        Int,
        "Shortest session that a group of the newer protocol may be given; groups have no sessions of their own.",
    ),
    node(
        "group.consumer.session.timeout.ms",
        Int,
        Some("45000"),
        "A member of the newer protocol that was silent for this long is out.",
        |broker| Some(limits(broker).consumer_session_timeout_ms.to_string()),
    ),
    unused(
        "group.coordinator.append.linger.ms",
        Int,
        "How long a coordinator gathers what it writes; it takes what is there, and never waits for more.",
    ),
    fixed(
        "group.coordinator.rebalance.protocols",
        List,
        "classic,consumer",
        "Protocols of groups that are spoken.",
    ),
    unused(
        "group.coordinator.threads",
        Int,
        "Threads of the groups' coordinators; they share those of the node.",
    ),
    node(
        "group.initial.rebalance.delay.ms",
        Int,
        Some("3000"),
        "How long a new classic group waits for more members.",
        |broker| Some(limits(broker).group_initial_rebalance_delay_ms.to_string()),
    ),
    node(
        "group.max.session.timeout.ms",
        Int,
        Some("1800000"),
        "Longest session that a member of a classic group may ask for.",
        |broker| Some(limits(broker).group_max_session_timeout_ms.to_string()),
    ),
    node(
        "group.max.size",
        Int,
        Some("2147483647"),
        "Most members of a classic group.",
        |broker| Some(limits(broker).group_max_size.to_string()),
    ),
    node(
        "group.min.session.timeout.ms",
        Int,
        Some("6000"),
        "Shortest session that a member of a classic group may ask for.",
        |broker| Some(limits(broker).group_min_session_timeout_ms.to_string()),
    ),
    unused(
        "group.share.assignors",
        List,
        "Assignors of share groups. No share groups are served yet.",
    ),
    unused(
        "group.share.delivery.count.limit",
        Int,
        "How often a record is delivered to a share group before it is given up. No share groups are served yet.",
    ),
    unused(
        "group.share.heartbeat.interval.ms",
        Int,
        "How often members of a share group report. No share groups are served yet.",
    ),
    unused(
        "group.share.max.heartbeat.interval.ms",
        Int,
        "Longest interval of reports that a share group may be given. No share groups are served yet.",
    ),
    unused(
        "group.share.max.record.lock.duration.ms",
        Int,
        "Longest lock on a record that a share group may be given. No share groups are served yet.",
    ),
    unused(
        "group.share.max.session.timeout.ms",
        Int,
        "Longest session that a share group may be given. No share groups are served yet.",
    ),
    unused(
        "group.share.max.share.sessions",
        Int,
        "Sessions of share fetches that a node keeps. No share groups are served yet.",
    ),
    unused(
        "group.share.max.size",
        Int,
        "Most members of a share group. No share groups are served yet.",
    ),
    unused(
        "group.share.min.heartbeat.interval.ms",
        Int,
        "Shortest interval of reports that a share group may be given. No share groups are served yet.",
    ),
    unused(
        "group.share.min.record.lock.duration.ms",
        Int,
        "Shortest lock on a record that a share group may be given. No share groups are served yet.",
    ),
    unused(
        "group.share.min.session.timeout.ms",
        Int,
        "Shortest session that a share group may be given. No share groups are served yet.",
    ),
    unused(
        "group.share.partition.max.record.locks",
        Int,
        "Records of a partition that a share group may have locked. No share groups are served yet.",
    ),
    unused(
        "group.share.record.lock.duration.ms",
        Int,
        "How long a delivered record is locked for its consumer. No share groups are served yet.",
    ),
    unused(
        "group.share.session.timeout.ms",
        Int,
        "A member of a share group that was silent for this long is out. No share groups are served yet.",
    ),
    unused(
        "group.streams.heartbeat.interval.ms",
        Int,
        "How often members of a streams group report. No streams groups are served.",
    ),
    unused(
        "group.streams.max.heartbeat.interval.ms",
        Int,
        "Longest interval of reports that a streams group may be given. No streams groups are served.",
    ),
    unused(
        "group.streams.max.session.timeout.ms",
        Int,
        "Longest session that a streams group may be given. No streams groups are served.",
    ),
    unused(
        "group.streams.max.size",
        Int,
        "Most members of a streams group. No streams groups are served.",
    ),
    unused(
        "group.streams.max.standby.replicas",
        Int,
        "Most standby tasks that a streams group may be given. No streams groups are served.",
    ),
    unused(
        "group.streams.min.heartbeat.interval.ms",
        Int,
        "Shortest interval of reports that a streams group may be given. No streams groups are served.",
    ),
    unused(
        "group.streams.min.session.timeout.ms",
        Int,
        "Shortest session that a streams group may be given. No streams groups are served.",
    ),
    unused(
        "group.streams.num.standby.replicas",
        Int,
        "Standby tasks of a streams group. No streams groups are served.",
    ),
    unused(
        "group.streams.session.timeout.ms",
        Int,
        "A member of a streams group that was silent for this long is out. No streams groups are served.",
    ),
    node(
        "offset.metadata.max.bytes",
        Int,
        Some("4096"),
        "Most bytes of text beside a committed offset.",
        |broker| Some(limits(broker).offset_metadata_max_bytes.to_string()),
    ),
    unused(
        "offsets.commit.timeout.ms",
        Int,
        "How long a commit waits to be written; commits have no time of their own.",
    ),
    unused(
        "offsets.load.buffer.size",
        Int,
        "Memory through which a coordinator reads what was committed; every replica follows it all the time.",
    ),
    node(
        "offsets.retention.check.interval.ms",
        Long,
        Some("600000"),
        "Time between two looks at offsets that have expired.",
        |broker| {
            Some(
                limits(broker)
                    .offsets_retention_check_interval_ms
                    .to_string(),
            )
        },
    ),
    node(
        "offsets.retention.minutes",
        Int,
        Some("10080"),
        "How long the offsets of an empty group are kept, in whole minutes.",
        |broker| Some((limits(broker).offsets_retention_ms / 60_000).to_string()),
    ),
    fixed(
        "offsets.topic.compression.codec",
        Int,
        "0",
        "The topic of committed offsets is not compressed by a codec (0).",
    ),
    node(
        "offsets.topic.num.partitions",
        Int,
        Some("50"),
        "Partitions of the topic of committed offsets, when it is made.",
        |broker| Some(broker.config().offsets_topic_partitions.to_string()),
    ),
    node(
        "offsets.topic.replication.factor",
        Short,
        Some("0"),
        "Replicas of the topic of committed offsets, as of one that does not say; 0: three, or one on each node while there are fewer.",
        |broker| Some(broker.config().default_replication_factor.to_string()),
    ),
    fixed(
        "offsets.topic.segment.bytes",
        Int,
        "104857600",
        "Size of a segment of the topic of committed offsets, when it is made.",
    ),
    unused(
        "share.coordinator.append.linger.ms",
        Int,
        "How long a coordinator of share groups gathers what it writes. No share groups are served yet.",
    ),
    unused(
        "share.coordinator.load.buffer.size",
        Int,
        "Memory through which a coordinator of share groups reads its state. No share groups are served yet.",
    ),
    unused(
        "share.coordinator.snapshot.update.records.per.snapshot",
        Int,
        "Changes of a share group's state between two whole pictures of it. No share groups are served yet.",
    ),
    unused(
        "share.coordinator.state.topic.compression.codec",
        Int,
        "How the topic of share groups' state is compressed. No share groups are served yet.",
    ),
    unused(
        "share.coordinator.state.topic.min.isr",
        Short,
        "Replicas that must have a change of a share group's state. No share groups are served yet.",
    ),
    unused(
        "share.coordinator.state.topic.num.partitions",
        Int,
        "Partitions of the topic of share groups' state. No share groups are served yet.",
    ),
    unused(
        "share.coordinator.state.topic.replication.factor",
        Short,
        "Replicas of the topic of share groups' state. No share groups are served yet.",
    ),
    unused(
        "share.coordinator.state.topic.segment.bytes",
        Int,
        "Size of a segment of the topic of share groups' state. No share groups are served yet.",
    ),
    unused(
        "share.coordinator.threads",
        Int,
        "Threads of the share groups' coordinators. No share groups are served yet.",
    ),
    unused(
        "share.coordinator.write.timeout.ms",
        Int,
        "How long a change of a share group's state waits to be written. No share groups are served yet.",
    ),
    unused(
        "share.fetch.purgatory.purge.interval.requests",
        Int,
        "Upkeep of share fetches that wait. No share groups are served yet.",
    ),
];

fn limits(broker: &Broker) -> &GroupsConfig {
    &broker.config().groups
}

fn migration(policy: MigrationPolicy) -> &'static str {
    match policy {
        MigrationPolicy::Bidirectional => "bidirectional",
        MigrationPolicy::Upgrade => "upgrade",
        MigrationPolicy::Downgrade => "downgrade",
        MigrationPolicy::Disabled => "disabled",
    }
}

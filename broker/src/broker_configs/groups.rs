//! Groups of consumers, and the offsets they commit.

use super::row::{Row, unused};
use crate::ConfigKind::{Int, List, Long, Short, String};

pub(super) static GROUPS: [Row; 59] = [
    unused(
        "group.consumer.assignors",
        List,
        "Which assignors the broker has for groups of the newer protocol. No consumer groups are served yet.",
    ),
    unused(
        "group.consumer.heartbeat.interval.ms",
        Int,
        "How often members of the newer protocol report. No consumer groups are served yet.",
    ),
    unused(
        "group.consumer.max.heartbeat.interval.ms",
        Int,
        "Longest interval of reports that a group may be given. No consumer groups are served yet.",
    ),
    unused(
        "group.consumer.max.session.timeout.ms",
        Int,
        "Longest session that a group of the newer protocol may be given. No consumer groups are served yet.",
    ),
    unused(
        "group.consumer.max.size",
        Int,
        "Most members of a group of the newer protocol. No consumer groups are served yet.",
    ),
    unused(
        "group.consumer.migration.policy",
        String,
        "Whether groups may go from one protocol to the other while they work. No consumer groups are served yet.",
    ),
    unused(
        "group.consumer.min.heartbeat.interval.ms",
        Int,
        "Shortest interval of reports that a group may be given. No consumer groups are served yet.",
    ),
    unused(
        "group.consumer.min.session.timeout.ms",
        Int,
        "Shortest session that a group of the newer protocol may be given. No consumer groups are served yet.",
    ),
    unused(
        "group.consumer.session.timeout.ms",
        Int,
        "A member of the newer protocol that was silent for this long is out. No consumer groups are served yet.",
    ),
    unused(
        "group.coordinator.append.linger.ms",
        Int,
        "How long a coordinator gathers what it writes. No consumer groups are served yet.",
    ),
    unused(
        "group.coordinator.rebalance.protocols",
        List,
        "Which protocols of groups are spoken. No consumer groups are served yet.",
    ),
    unused(
        "group.coordinator.threads",
        Int,
        "Threads of the groups' coordinators. No consumer groups are served yet.",
    ),
    unused(
        "group.initial.rebalance.delay.ms",
        Int,
        "How long a new classic group waits for more members. No consumer groups are served yet.",
    ),
    unused(
        "group.max.session.timeout.ms",
        Int,
        "Longest session that a member of a classic group may ask for. No consumer groups are served yet.",
    ),
    unused(
        "group.max.size",
        Int,
        "Most members of a classic group. No consumer groups are served yet.",
    ),
    unused(
        "group.min.session.timeout.ms",
        Int,
        "Shortest session that a member of a classic group may ask for. No consumer groups are served yet.",
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
    unused(
        "offset.metadata.max.bytes",
        Int,
        "Most bytes of text beside a committed offset. No consumer groups are served yet.",
    ),
    unused(
        "offsets.commit.timeout.ms",
        Int,
        "How long a commit waits to be written. No consumer groups are served yet.",
    ),
    unused(
        "offsets.load.buffer.size",
        Int,
        "Memory through which a coordinator reads what was committed. No consumer groups are served yet.",
    ),
    unused(
        "offsets.retention.check.interval.ms",
        Long,
        "Time between two looks at offsets that have expired. No consumer groups are served yet.",
    ),
    unused(
        "offsets.retention.minutes",
        Int,
        "How long the offsets of an empty group are kept. No consumer groups are served yet.",
    ),
    unused(
        "offsets.topic.compression.codec",
        Int,
        "How the topic of committed offsets is compressed. No consumer groups are served yet.",
    ),
    unused(
        "offsets.topic.num.partitions",
        Int,
        "Partitions of the topic of committed offsets. No consumer groups are served yet.",
    ),
    unused(
        "offsets.topic.replication.factor",
        Short,
        "Replicas of the topic of committed offsets. No consumer groups are served yet.",
    ),
    unused(
        "offsets.topic.segment.bytes",
        Int,
        "Size of a segment of the topic of committed offsets. No consumer groups are served yet.",
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

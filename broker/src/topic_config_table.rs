//! Every config that Kafka's topics have: one list, one row a key, sorted by key.
//!
//! Defaults are those of Apache Kafka 4 where this broker does what they say. A row that is
//! [`settable`] is enforced by [`crate::TopicConfig`] and shown to be by a test; a [`fixed`] one is
//! refused when it is set to anything but the value here.

use crate::ConfigKind::{self, Boolean, Double, Int, List, Long, String};
use crate::config_definition::ConfigDefinition;

const fn settable(
    key: &'static str,
    kind: ConfigKind,
    default: &'static str,
    broker_key: &'static str,
    documentation: &'static str,
) -> ConfigDefinition {
    ConfigDefinition {
        key,
        kind,
        default: Some(default),
        settable: true,
        broker_key: Some(broker_key),
        documentation,
    }
}

const fn fixed(
    key: &'static str,
    kind: ConfigKind,
    value: &'static str,
    broker_key: Option<&'static str>,
    documentation: &'static str,
) -> ConfigDefinition {
    ConfigDefinition {
        key,
        kind,
        default: Some(value),
        settable: false,
        broker_key,
        documentation,
    }
}

/// Every config that a topic has.
pub(crate) static TOPIC_CONFIGS: [ConfigDefinition; 33] = [
    settable(
        "cleanup.policy",
        List,
        "delete",
        "log.cleanup.policy",
        "What happens to old records: delete (by retention), compact (the last record of each key stays), or both.",
    ),
    fixed(
        "compression.gzip.level",
        Int,
        "-1",
        Some("compression.gzip.level"),
        "Batches are never compressed anew, so no level applies.",
    ),
    fixed(
        "compression.lz4.level",
        Int,
        "9",
        Some("compression.lz4.level"),
        "Batches are never compressed anew, so no level applies.",
    ),
    fixed(
        "compression.type",
        String,
        "producer",
        Some("compression.type"),
        "Batches are stored as the producer compressed them.",
    ),
    fixed(
        "compression.zstd.level",
        Int,
        "3",
        Some("compression.zstd.level"),
        "Batches are never compressed anew, so no level applies.",
    ),
    settable(
        "delete.retention.ms",
        Long,
        "86400000",
        "log.cleaner.delete.retention.ms",
        "How long a record without value stays in a compacted topic, counted from the first compaction that met it.",
    ),
    fixed(
        "file.delete.delay.ms",
        Long,
        "0",
        Some("log.segment.delete.delay.ms"),
        "Files of deleted segments go at once; readers finish with those they have open.",
    ),
    fixed(
        "flush.messages",
        Long,
        "1",
        Some("log.flush.interval.messages"),
        "Records are acknowledged once synced to disk, unless the broker's durability says otherwise.",
    ),
    fixed(
        "flush.ms",
        Long,
        "0",
        Some("log.flush.interval.ms"),
        "Records do not wait to be synced, unless the broker's durability says otherwise.",
    ),
    fixed(
        "follower.replication.throttled.replicas",
        List,
        "",
        None,
        "Replicas whose catching up is throttled; a node throttles all of it alike, where it is started.",
    ),
    fixed(
        "index.interval.bytes",
        Int,
        "4096",
        Some("log.index.interval.bytes"),
        "Distance between two entries of the sparse index.",
    ),
    fixed(
        "leader.replication.throttled.replicas",
        List,
        "",
        None,
        "Replicas that are throttled when others catch up from them; a node paces that by itself.",
    ),
    fixed(
        "local.retention.bytes",
        Long,
        "-2",
        Some("log.local.retention.bytes"),
        "Size kept beside remote storage; nothing is tiered, all that is kept is local.",
    ),
    fixed(
        "local.retention.ms",
        Long,
        "-2",
        Some("log.local.retention.ms"),
        "Age kept beside remote storage; nothing is tiered, all that is kept is local.",
    ),
    settable(
        "max.compaction.lag.ms",
        Long,
        "9223372036854775807",
        "log.cleaner.max.compaction.lag.ms",
        "Age at which records are compacted however few they are.",
    ),
    settable(
        "max.message.bytes",
        Int,
        "1048588",
        "message.max.bytes",
        "Largest record batch, after compression, header included.",
    ),
    settable(
        "message.timestamp.after.max.ms",
        Long,
        "3600000",
        "log.message.timestamp.after.max.ms",
        "How far a record's timestamp may lie after the broker's clock.",
    ),
    settable(
        "message.timestamp.before.max.ms",
        Long,
        "9223372036854775807",
        "log.message.timestamp.before.max.ms",
        "How far a record's timestamp may lie before the broker's clock.",
    ),
    settable(
        "message.timestamp.type",
        String,
        "CreateTime",
        "log.message.timestamp.type",
        "Whose time a record carries: CreateTime or LogAppendTime.",
    ),
    settable(
        "min.cleanable.dirty.ratio",
        Double,
        "0.5",
        "log.cleaner.min.cleanable.ratio",
        "Part of a log that must be new since it was compacted last before it is compacted again.",
    ),
    settable(
        "min.compaction.lag.ms",
        Long,
        "0",
        "log.cleaner.min.compaction.lag.ms",
        "Age below which records are not compacted.",
    ),
    settable(
        "min.insync.replicas",
        Int,
        "1",
        "min.insync.replicas",
        "Replicas that must have a batch before acks=all is answered.",
    ),
    fixed(
        "preallocate",
        Boolean,
        "false",
        Some("log.preallocate"),
        "Segment files grow as they are written.",
    ),
    fixed(
        "remote.log.copy.disable",
        Boolean,
        "false",
        None,
        "Whether no more segments are copied to remote storage; nothing is tiered.",
    ),
    fixed(
        "remote.log.delete.on.disable",
        Boolean,
        "false",
        None,
        "Whether remote segments go when tiering is switched off; nothing is tiered.",
    ),
    fixed(
        "remote.storage.enable",
        Boolean,
        "false",
        None,
        "Nothing is tiered to remote storage.",
    ),
    settable(
        "retention.bytes",
        Long,
        "-1",
        "log.retention.bytes",
        "Size over which a partition loses its oldest segments; -1: no limit.",
    ),
    settable(
        "retention.ms",
        Long,
        "604800000",
        "log.retention.ms",
        "Age over which segments are deleted; -1: never.",
    ),
    settable(
        "segment.bytes",
        Int,
        "1073741824",
        "log.segment.bytes",
        "Size at which a segment file is closed and the next one begun.",
    ),
    fixed(
        "segment.index.bytes",
        Int,
        "10485760",
        Some("log.index.size.max.bytes"),
        "Largest index of a segment: what one of the largest size needs.",
    ),
    fixed(
        "segment.jitter.ms",
        Long,
        "0",
        Some("log.roll.jitter.ms"),
        "Segments are closed at their age, to which nothing random is added.",
    ),
    settable(
        "segment.ms",
        Long,
        "604800000",
        "log.roll.ms",
        "Age at which a segment file is closed and the next one begun.",
    ),
    fixed(
        "unclean.leader.election.enable",
        Boolean,
        "false",
        Some("unclean.leader.election.enable"),
        "A replica that lacks committed records never leads.",
    ),
];

/// Every topic config this broker knows, sorted by key.
#[must_use]
pub fn topic_config_definitions() -> &'static [ConfigDefinition] {
    &TOPIC_CONFIGS
}

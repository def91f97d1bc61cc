//! What topics have that do not say otherwise, and how logs are kept.

use super::row::{Row, fixed, node, unused};
use crate::ConfigKind::{Boolean, Double, Int, List, Long, String};

pub(super) static TOPICS: [Row; 52] = [
    node(
        "auto.create.topics.enable",
        Boolean,
        Some("true"),
        "Create a topic when a client first asks for it.",
        |broker| Some(broker.config().auto_create_topics.to_string()),
    ),
    fixed(
        "compression.gzip.level",
        Int,
        "-1",
        "Batches are never compressed anew, so no level applies.",
    ),
    fixed(
        "compression.lz4.level",
        Int,
        "9",
        "Batches are never compressed anew, so no level applies.",
    ),
    fixed(
        "compression.type",
        String,
        "producer",
        "Batches are stored as the producer compressed them.",
    ),
    fixed(
        "compression.zstd.level",
        Int,
        "3",
        "Batches are never compressed anew, so no level applies.",
    ),
    node(
        "default.replication.factor",
        Int,
        Some("0"),
        "Replicas of a topic that does not say; 0: three, or one on each node while there are fewer.",
        |broker| Some(broker.config().default_replication_factor.to_string()),
    ),
    fixed(
        "delete.topic.enable",
        Boolean,
        "true",
        "Topics can be deleted.",
    ),
    node(
        "durability",
        String,
        Some("fsync"),
        "When a record counts on this node: once synced (fsync), or once written and synced soon after (interval) or some time (os).",
        |broker| Some(durability(broker.config().durability).to_owned()),
    ),
    unused(
        "log.cleaner.backoff.ms",
        Long,
        "Pause of compaction when there is nothing to do. Not used here.",
    ),
    unused(
        "log.cleaner.dedupe.buffer.size",
        Long,
        "Memory in which compaction finds repeated keys. Not used here.",
    ),
    fixed(
        "log.cleaner.delete.retention.ms",
        Long,
        "86400000",
        "How long tombstones stay after compaction, where the topic does not say.",
    ),
    fixed(
        "log.cleaner.enable",
        Boolean,
        "false",
        "Whether logs are compacted; none is.",
    ),
    unused(
        "log.cleaner.io.buffer.load.factor",
        Double,
        "How full the memory of compaction may get. Not used here.",
    ),
    unused(
        "log.cleaner.io.buffer.size",
        Int,
        "Memory through which compaction reads and writes. Not used here.",
    ),
    unused(
        "log.cleaner.io.max.bytes.per.second",
        Double,
        "Pace of compaction. Not used here.",
    ),
    fixed(
        "log.cleaner.max.compaction.lag.ms",
        Long,
        "9223372036854775807",
        "Longest time until a record is compacted, where the topic does not say.",
    ),
    fixed(
        "log.cleaner.min.cleanable.ratio",
        Double,
        "0.5",
        "Part of a log that must be new for it to be compacted, where the topic does not say.",
    ),
    fixed(
        "log.cleaner.min.compaction.lag.ms",
        Long,
        "0",
        "Shortest time until a record may be compacted, where the topic does not say.",
    ),
    unused(
        "log.cleaner.threads",
        Int,
        "Threads that compact. Not used here.",
    ),
    fixed(
        "log.cleanup.policy",
        List,
        "delete",
        "What happens to old records, where the topic does not say.",
    ),
    node(
        "log.dir",
        String,
        None,
        "The directory that holds this node's data.",
        |broker| Some(broker.data_path()),
    ),
    unused(
        "log.dir.failure.timeout.ms",
        Long,
        "How long a failed directory may go unreported; a node with a failed disk starts over from it.",
    ),
    node(
        "log.dirs",
        String,
        None,
        "The directories that hold this node's data: one.",
        |broker| Some(broker.data_path()),
    ),
    fixed(
        "log.flush.interval.messages",
        Long,
        "1",
        "Records are acknowledged once synced to disk, unless the durability says otherwise.",
    ),
    fixed(
        "log.flush.interval.ms",
        Long,
        "0",
        "Records do not wait to be synced, unless the durability says otherwise.",
    ),
    unused(
        "log.flush.offset.checkpoint.interval.ms",
        Int,
        "How often recovery points are written; checkpoints follow the journal's growth instead.",
    ),
    unused(
        "log.flush.scheduler.interval.ms",
        Long,
        "How often logs are looked at to be synced; each write is.",
    ),
    unused(
        "log.flush.start.offset.checkpoint.interval.ms",
        Int,
        "How often log starts are written; they stand in the log itself.",
    ),
    fixed(
        "log.index.interval.bytes",
        Int,
        "4096",
        "Distance between two entries of the sparse index.",
    ),
    fixed(
        "log.index.size.max.bytes",
        Int,
        "10485760",
        "Largest index of a segment: what one of the largest size needs.",
    ),
    fixed(
        "log.local.retention.bytes",
        Long,
        "-2",
        "Size kept beside remote storage; nothing is tiered.",
    ),
    fixed(
        "log.local.retention.ms",
        Long,
        "-2",
        "Age kept beside remote storage; nothing is tiered.",
    ),
    fixed(
        "log.message.timestamp.after.max.ms",
        Long,
        "3600000",
        "How far a record's timestamp may lie after the broker's clock, where the topic does not say.",
    ),
    fixed(
        "log.message.timestamp.before.max.ms",
        Long,
        "9223372036854775807",
        "How far a record's timestamp may lie before the broker's clock, where the topic does not say.",
    ),
    fixed(
        "log.message.timestamp.type",
        String,
        "CreateTime",
        "Whose time a record carries, where the topic does not say.",
    ),
    fixed(
        "log.preallocate",
        Boolean,
        "false",
        "Segment files grow as they are written.",
    ),
    fixed(
        "log.retention.bytes",
        Long,
        "-1",
        "Size over which a partition loses its oldest segments, where the topic does not say.",
    ),
    node(
        "log.retention.check.interval.ms",
        Long,
        Some("5000"),
        "Time between two looks at what retention may delete.",
        |broker| Some(broker.config().upkeep_interval_ms.to_string()),
    ),
    fixed(
        "log.retention.hours",
        Int,
        "168",
        "Age over which segments are deleted, where the topic does not say, in hours.",
    ),
    fixed(
        "log.retention.minutes",
        Int,
        "10080",
        "Age over which segments are deleted, where the topic does not say, in minutes.",
    ),
    fixed(
        "log.retention.ms",
        Long,
        "604800000",
        "Age over which segments are deleted, where the topic does not say.",
    ),
    fixed(
        "log.roll.hours",
        Int,
        "168",
        "Age at which a segment is closed, where the topic does not say, in hours.",
    ),
    fixed(
        "log.roll.jitter.hours",
        Int,
        "0",
        "Segments are closed at their age, to which nothing random is added.",
    ),
    fixed(
        "log.roll.jitter.ms",
        Long,
        "0",
        "Segments are closed at their age, to which nothing random is added.",
    ),
    fixed(
        "log.roll.ms",
        Long,
        "604800000",
        "Age at which a segment is closed, where the topic does not say.",
    ),
    fixed(
        "log.segment.bytes",
        Int,
        "1073741824",
        "Size at which a segment is closed, where the topic does not say.",
    ),
    fixed(
        "log.segment.delete.delay.ms",
        Long,
        "0",
        "Files of deleted segments go at once; readers finish with those they have open.",
    ),
    fixed(
        "message.max.bytes",
        Int,
        "1048588",
        "Largest record batch, where the topic does not say.",
    ),
    fixed(
        "min.insync.replicas",
        Int,
        "1",
        "Replicas that must have a batch before acks=all is answered, where the topic does not say.",
    ),
    node(
        "num.partitions",
        Int,
        Some("1"),
        "Partitions of a topic that does not say.",
        |broker| Some(broker.config().default_partitions.to_string()),
    ),
    unused(
        "num.recovery.threads.per.data.dir",
        Int,
        "Threads that recover a directory; the node sizes its own.",
    ),
    fixed(
        "producer.id.expiration.ms",
        Int,
        "86400000",
        "An idempotent producer that wrote nothing for this long may be forgotten.",
    ),
];

fn durability(durability: storage::Durability) -> &'static str {
    match durability {
        storage::Durability::Fsync => "fsync",
        storage::Durability::Interval { .. } => "interval",
        storage::Durability::Os => "os",
    }
}

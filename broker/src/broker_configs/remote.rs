//! Remote storage.

use super::row::{Row, fixed, unused};
use crate::ConfigKind::{Boolean, Int, Long, String};

pub(super) static REMOTE: [Row; 24] = [
    unused(
        "remote.fetch.max.wait.ms",
        Int,
        "How long a fetch waits for remote storage. Nothing is tiered.",
    ),
    unused(
        "remote.list.offsets.request.timeout.ms",
        Long,
        "How long ListOffsets waits for remote storage. Nothing is tiered.",
    ),
    unused(
        "remote.log.index.file.cache.total.size.bytes",
        Long,
        "Disk on which indexes of remote segments are kept. Nothing is tiered.",
    ),
    unused(
        "remote.log.manager.copier.thread.pool.size",
        Int,
        "Threads that copy segments to remote storage. Nothing is tiered.",
    ),
    unused(
        "remote.log.manager.copy.max.bytes.per.second",
        Long,
        "Pace of copying to remote storage. Nothing is tiered.",
    ),
    unused(
        "remote.log.manager.copy.quota.window.num",
        Int,
        "Windows over which that pace is measured. Nothing is tiered.",
    ),
    unused(
        "remote.log.manager.copy.quota.window.size.seconds",
        Int,
        "Length of such a window. Nothing is tiered.",
    ),
    unused(
        "remote.log.manager.expiration.thread.pool.size",
        Int,
        "Threads that delete from remote storage. Nothing is tiered.",
    ),
    unused(
        "remote.log.manager.fetch.max.bytes.per.second",
        Long,
        "Pace of reading from remote storage. Nothing is tiered.",
    ),
    unused(
        "remote.log.manager.fetch.quota.window.num",
        Int,
        "Windows over which that pace is measured. Nothing is tiered.",
    ),
    unused(
        "remote.log.manager.fetch.quota.window.size.seconds",
        Int,
        "Length of such a window. Nothing is tiered.",
    ),
    unused(
        "remote.log.manager.task.interval.ms",
        Long,
        "How often segments are looked at to be copied. Nothing is tiered.",
    ),
    unused(
        "remote.log.manager.thread.pool.size",
        Int,
        "Threads that plan what is copied. Nothing is tiered.",
    ),
    unused(
        "remote.log.metadata.custom.metadata.max.bytes",
        Int,
        "Most bytes that remote storage may say of a segment. Nothing is tiered.",
    ),
    unused(
        "remote.log.metadata.manager.class.name",
        String,
        "A Java class that remembers what is in remote storage. Nothing is tiered.",
    ),
    unused(
        "remote.log.metadata.manager.class.path",
        String,
        "Where that class is found. Nothing is tiered.",
    ),
    unused(
        "remote.log.metadata.manager.impl.prefix",
        String,
        "How configs of that class begin. Nothing is tiered.",
    ),
    unused(
        "remote.log.metadata.manager.listener.name",
        String,
        "Which listener that class uses. Nothing is tiered.",
    ),
    unused(
        "remote.log.reader.max.pending.tasks",
        Int,
        "Reads from remote storage that may wait. Nothing is tiered.",
    ),
    unused(
        "remote.log.reader.threads",
        Int,
        "Threads that read from remote storage. Nothing is tiered.",
    ),
    unused(
        "remote.log.storage.manager.class.name",
        String,
        "A Java class that reaches remote storage. Nothing is tiered.",
    ),
    unused(
        "remote.log.storage.manager.class.path",
        String,
        "Where that class is found. Nothing is tiered.",
    ),
    unused(
        "remote.log.storage.manager.impl.prefix",
        String,
        "How configs of that class begin. Nothing is tiered.",
    ),
    fixed(
        "remote.log.storage.system.enable",
        Boolean,
        "false",
        "Whether segments are tiered to remote storage; none is.",
    ),
];

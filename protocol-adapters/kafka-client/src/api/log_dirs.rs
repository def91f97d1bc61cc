//! DescribeLogDirs, key 35, version 4 (KIP-113, KIP-827): what a node's disks hold.

use super::DESCRIBE_LOG_DIRS;
use crate::wire::Writer;
use crate::{ClientError, Connection, ErrorCode};

/// A directory with logs in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDir {
    /// What is wrong with it.
    pub error: ErrorCode,
    /// Where it is.
    pub path: String,
    /// Size of the disk, -1 for unknown.
    pub total_bytes: i64,
    /// What is free of it, -1 for unknown.
    pub usable_bytes: i64,
    /// The replicas in it.
    pub partitions: Vec<LogDirPartition>,
}

/// A replica in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDirPartition {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Bytes of its log.
    pub size_bytes: i64,
    /// How many offsets it is behind.
    pub offset_lag: i64,
}

impl Connection {
    /// The log directories of the node that is connected to, with the replicas of these partitions,
    /// or of all with `None`.
    pub async fn describe_log_dirs(
        &self,
        partitions: Option<&[(String, i32)]>,
    ) -> Result<Vec<LogDir>, ClientError> {
        let mut body = Writer::new();
        match partitions {
            Some(partitions) => body.partitions_by_topic(partitions),
            None => body.null_array(),
        };
        body.no_tags();
        let mut answer = self.call(DESCRIBE_LOG_DIRS, 4, &body.finish()).await?;
        let _throttle_ms = answer.i32()?;
        let error = ErrorCode(answer.i16()?);
        let dirs = answer.array(|item| {
            let error = ErrorCode(item.i16()?);
            let path = item.string()?;
            let topics = item.array(|item| {
                let topic = item.string()?;
                let partitions = item.array(|item| {
                    let partition = LogDirPartition {
                        topic: topic.clone(),
                        partition: item.i32()?,
                        size_bytes: item.i64()?,
                        offset_lag: item.i64()?,
                    };
                    let _is_future = item.bool()?;
                    item.skip_tags()?;
                    Ok(partition)
                })?;
                item.skip_tags()?;
                Ok(partitions)
            })?;
            let dir = LogDir {
                error,
                path,
                total_bytes: item.i64()?,
                usable_bytes: item.i64()?,
                partitions: topics.into_iter().flatten().collect(),
            };
            item.skip_tags()?;
            Ok(dir)
        })?;
        answer.skip_tags()?;
        answer.finish()?;
        error.check()?;
        Ok(dirs)
    }
}

//! DeleteRecords, key 21, version 2.

use super::DELETE_RECORDS;
use crate::wire::Writer;
use crate::{ClientError, Connection, ErrorCode};

/// Records to delete: those of one partition before an offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteRecords {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// First offset that stays; -1 for the high watermark.
    pub before_offset: i64,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedRecords {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// First offset that exists now, -1 on an error.
    pub log_start: i64,
    /// What went wrong.
    pub error: ErrorCode,
}

impl Connection {
    /// Deletes records; one result each, grouped by topic as the server answers them.
    pub async fn delete_records(
        &self,
        requests: &[DeleteRecords],
        timeout_ms: i32,
    ) -> Result<Vec<DeletedRecords>, ClientError> {
        let mut body = Writer::new();
        body.by_topic(
            requests,
            |request| &request.topic,
            |item, request| {
                item.i32(request.partition)
                    .i64(request.before_offset)
                    .no_tags();
            },
        );
        body.i32(timeout_ms).no_tags();
        let mut answer = self.call(DELETE_RECORDS, 2, &body.finish()).await?;
        let _throttle_ms = answer.i32()?;
        let topics = answer.array(|item| {
            let topic = item.string()?;
            let partitions = item.array(|item| {
                let deleted = DeletedRecords {
                    topic: topic.clone(),
                    partition: item.i32()?,
                    log_start: item.i64()?,
                    error: ErrorCode(item.i16()?),
                };
                item.skip_tags()?;
                Ok(deleted)
            })?;
            item.skip_tags()?;
            Ok(partitions)
        })?;
        answer.skip_tags()?;
        answer.finish()?;
        Ok(topics.into_iter().flatten().collect())
    }
}

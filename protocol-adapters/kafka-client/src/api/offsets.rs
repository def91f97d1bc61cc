//! ListOffsets, key 2, version 7 (KIP-734).

use super::LIST_OFFSETS;
use crate::wire::Writer;
use crate::{ClientError, Connection, ErrorCode};

/// What is asked of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetQuery {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The leader epoch believed in, -1 for none.
    pub current_leader_epoch: i32,
    /// Milliseconds since the Unix epoch, or one of the constants here.
    pub timestamp: i64,
}

impl OffsetQuery {
    /// The end of the log.
    pub const LATEST: i64 = -1;
    /// The log start.
    pub const EARLIEST: i64 = -2;
    /// The record with the greatest timestamp.
    pub const MAX_TIMESTAMP: i64 = -3;
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// What went wrong.
    pub error: ErrorCode,
    /// The record's timestamp, -1 for none.
    pub timestamp: i64,
    /// The offset, -1 when no record qualifies.
    pub offset: i64,
    /// The leader epoch of it, -1 when unknown.
    pub leader_epoch: i32,
}

impl Connection {
    /// Finds offsets; one result each, as the server orders them.
    pub async fn list_offsets(
        &self,
        queries: &[OffsetQuery],
        read_committed: bool,
    ) -> Result<Vec<ListedOffset>, ClientError> {
        let mut body = Writer::new();
        body.i32(-1).i8(i8::from(read_committed));
        body.by_topic(
            queries,
            |query| &query.topic,
            |item, query| {
                item.i32(query.partition)
                    .i32(query.current_leader_epoch)
                    .i64(query.timestamp)
                    .no_tags();
            },
        );
        body.no_tags();
        let mut answer = self.call(LIST_OFFSETS, 7, &body.finish()).await?;
        let _throttle_ms = answer.i32()?;
        let topics = answer.array(|item| {
            let topic = item.string()?;
            let partitions = item.array(|item| {
                let listed = ListedOffset {
                    topic: topic.clone(),
                    partition: item.i32()?,
                    error: ErrorCode(item.i16()?),
                    timestamp: item.i64()?,
                    offset: item.i64()?,
                    leader_epoch: item.i32()?,
                };
                item.skip_tags()?;
                Ok(listed)
            })?;
            item.skip_tags()?;
            Ok(partitions)
        })?;
        answer.skip_tags()?;
        answer.finish()?;
        Ok(topics.into_iter().flatten().collect())
    }
}

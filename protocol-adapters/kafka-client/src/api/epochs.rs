//! OffsetForLeaderEpoch, key 23, version 4 (KIP-320).

use super::OFFSET_FOR_LEADER_EPOCH;
use crate::wire::Writer;
use crate::{ClientError, Connection, ErrorCode};

/// What is asked of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochQuery {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The leader epoch believed in, -1 for none.
    pub current_leader_epoch: i32,
    /// The epoch whose end is asked for.
    pub leader_epoch: i32,
}

/// Where an epoch ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochEnd {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// What went wrong.
    pub error: ErrorCode,
    /// The largest epoch that is not above the asked one, -1 for none.
    pub leader_epoch: i32,
    /// Where it ends, -1 for none.
    pub end_offset: i64,
}

impl Connection {
    /// Where leader epochs end; one result each, as the server orders them.
    pub async fn offsets_for_leader_epochs(
        &self,
        queries: &[EpochQuery],
    ) -> Result<Vec<EpochEnd>, ClientError> {
        let mut body = Writer::new();
        body.i32(-1);
        body.by_topic(
            queries,
            |query| &query.topic,
            |item, query| {
                item.i32(query.partition)
                    .i32(query.current_leader_epoch)
                    .i32(query.leader_epoch)
                    .no_tags();
            },
        );
        body.no_tags();
        let mut answer = self
            .call(OFFSET_FOR_LEADER_EPOCH, 4, &body.finish())
            .await?;
        let _throttle_ms = answer.i32()?;
        let topics = answer.array(|item| {
            let topic = item.string()?;
            let partitions = item.array(|item| {
                let error = ErrorCode(item.i16()?);
                let end = EpochEnd {
                    topic: topic.clone(),
                    error,
                    partition: item.i32()?,
                    leader_epoch: item.i32()?,
                    end_offset: item.i64()?,
                };
                item.skip_tags()?;
                Ok(end)
            })?;
            item.skip_tags()?;
            Ok(partitions)
        })?;
        answer.skip_tags()?;
        answer.finish()?;
        Ok(topics.into_iter().flatten().collect())
    }
}

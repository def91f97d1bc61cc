//! OffsetDelete, key 47, version 0 (KIP-496). Its encoding is the old one.

use super::OFFSET_DELETE;
use crate::wire::Writer;
use crate::{ClientError, Connection, ErrorCode};

/// What became of deleting a group's offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedOffsets {
    /// What went wrong with the whole.
    pub error: ErrorCode,
    /// Topics with partitions, and what went wrong with each.
    pub partitions: Vec<(String, i32, ErrorCode)>,
}

impl Connection {
    /// Deletes committed offsets; partitions of one topic stand together.
    pub async fn offset_delete(
        &self,
        group_id: &str,
        partitions: &[(String, i32)],
    ) -> Result<DeletedOffsets, ClientError> {
        let topics: Vec<_> = partitions
            .chunk_by(|left, right| left.0 == right.0)
            .collect();
        let mut body = Writer::new();
        body.legacy_string(group_id);
        body.legacy_array(topics, |item, partitions| {
            item.legacy_string(&partitions[0].0);
            item.legacy_array(partitions, |item, (_, partition)| {
                item.i32(*partition);
            });
        });
        let mut answer = self.call(OFFSET_DELETE, 0, &body.finish()).await?;
        let error = ErrorCode(answer.i16()?);
        let _throttle_ms = answer.i32()?;
        let topics = answer.legacy_array(|item| {
            let topic = item.legacy_string()?;
            item.legacy_array(|item| Ok((topic.clone(), item.i32()?, ErrorCode(item.i16()?))))
        })?;
        answer.finish()?;
        Ok(DeletedOffsets {
            error,
            partitions: topics.into_iter().flatten().collect(),
        })
    }
}

//! OffsetCommit, key 8, version 9 (KIP-848: an epoch in the generation's place).

use super::OFFSET_COMMIT;
use crate::wire::Writer;
use crate::{ClientError, Connection, ErrorCode};

/// Offsets to commit for a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetCommit {
    /// The group.
    pub group_id: String,
    /// The member's generation or epoch; -1 for a commit from outside of the group.
    pub generation_or_epoch: i32,
    /// The member's id; empty for a commit from outside of the group.
    pub member_id: String,
    /// The id of a static member.
    pub instance_id: Option<String>,
    /// What to commit; those of one topic stand together.
    pub offsets: Vec<OffsetToCommit>,
}

/// One partition's offset to commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetToCommit {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The first offset not consumed yet.
    pub offset: i64,
    /// The leader epoch of the last record consumed, -1 for unknown.
    pub leader_epoch: i32,
    /// What the consumer notes beside it.
    pub metadata: Option<String>,
}

/// What became of one partition's commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitOutcome {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// What went wrong.
    pub error: ErrorCode,
}

impl Connection {
    /// Commits offsets; one result each, grouped by topic.
    pub async fn offset_commit(
        &self,
        commit: &OffsetCommit,
    ) -> Result<Vec<CommitOutcome>, ClientError> {
        let mut body = Writer::new();
        body.string(&commit.group_id)
            .i32(commit.generation_or_epoch)
            .string(&commit.member_id)
            .nullable_string(commit.instance_id.as_deref());
        body.by_topic(
            &commit.offsets,
            |offset| &offset.topic,
            |item, offset| {
                item.i32(offset.partition)
                    .i64(offset.offset)
                    .i32(offset.leader_epoch)
                    .nullable_string(offset.metadata.as_deref())
                    .no_tags();
            },
        );
        body.no_tags();
        let mut answer = self.call(OFFSET_COMMIT, 9, &body.finish()).await?;
        let _throttle_ms = answer.i32()?;
        let topics = answer.array(|item| {
            let topic = item.string()?;
            let partitions = item.array(|item| {
                let outcome = CommitOutcome {
                    topic: topic.clone(),
                    partition: item.i32()?,
                    error: ErrorCode(item.i16()?),
                };
                item.skip_tags()?;
                Ok(outcome)
            })?;
            item.skip_tags()?;
            Ok(partitions)
        })?;
        answer.skip_tags()?;
        answer.finish()?;
        Ok(topics.into_iter().flatten().collect())
    }
}

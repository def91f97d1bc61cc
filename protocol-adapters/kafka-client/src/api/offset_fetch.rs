//! OffsetFetch, key 9, version 9 (KIP-709: several groups at once; KIP-848: member epochs).

use super::OFFSET_FETCH;
use crate::wire::{Reader, Writer};
use crate::{ClientError, Connection, ErrorCode};

/// Committed offsets to fetch of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetFetch {
    /// The group.
    pub group_id: String,
    /// The asking member's id, none from outside of the group.
    pub member_id: Option<String>,
    /// The asking member's epoch, -1 from outside of the group.
    pub member_epoch: i32,
    /// Topics with partitions, those of one topic together; none for all that have an offset.
    pub partitions: Option<Vec<(String, i32)>>,
}

impl OffsetFetch {
    /// From outside of the group.
    #[must_use]
    pub fn new(group_id: impl Into<String>, partitions: Option<Vec<(String, i32)>>) -> OffsetFetch {
        OffsetFetch {
            group_id: group_id.into(),
            member_id: None,
            member_epoch: -1,
            partitions,
        }
    }
}

/// The committed offsets of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOffsets {
    /// The group.
    pub group_id: String,
    /// What went wrong with the whole.
    pub error: ErrorCode,
    /// Its offsets.
    pub offsets: Vec<CommittedOffset>,
}

/// One partition's committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset, -1 for none.
    pub offset: i64,
    /// The leader epoch of the last record consumed, -1 for unknown.
    pub leader_epoch: i32,
    /// What the consumer noted beside it.
    pub metadata: Option<String>,
    /// What went wrong.
    pub error: ErrorCode,
}

impl Connection {
    /// Committed offsets; one result a group. With `require_stable`, partitions with an open
    /// transaction's offsets are refused.
    pub async fn offset_fetch(
        &self,
        groups: &[OffsetFetch],
        require_stable: bool,
    ) -> Result<Vec<GroupOffsets>, ClientError> {
        let mut body = Writer::new();
        body.array(groups, |item, group| {
            item.string(&group.group_id)
                .nullable_string(group.member_id.as_deref())
                .i32(group.member_epoch);
            match &group.partitions {
                Some(partitions) => item.partitions_by_topic(partitions),
                None => item.null_array(),
            };
            item.no_tags();
        });
        body.bool(require_stable).no_tags();
        let mut answer = self.call(OFFSET_FETCH, 9, &body.finish()).await?;
        let _throttle_ms = answer.i32()?;
        let groups = answer.array(read_group)?;
        answer.skip_tags()?;
        answer.finish()?;
        Ok(groups)
    }
}

fn read_group(item: &mut Reader) -> Result<GroupOffsets, ClientError> {
    let group_id = item.string()?;
    let topics = item.array(|item| {
        let topic = item.string()?;
        let partitions = item.array(|item| {
            let committed = CommittedOffset {
                topic: topic.clone(),
                partition: item.i32()?,
                offset: item.i64()?,
                leader_epoch: item.i32()?,
                metadata: item.nullable_string()?,
                error: ErrorCode(item.i16()?),
            };
            item.skip_tags()?;
            Ok(committed)
        })?;
        item.skip_tags()?;
        Ok(partitions)
    })?;
    let group = GroupOffsets {
        group_id,
        error: ErrorCode(item.i16()?),
        offsets: topics.into_iter().flatten().collect(),
    };
    item.skip_tags()?;
    Ok(group)
}

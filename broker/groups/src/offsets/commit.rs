//! OffsetCommit, key 8, versions 2-10.

use coordinator::ReplyId;

use crate::command::{CommitPartition, CommitTopic, OffsetCommit};
use crate::config::GroupsConfig;
use crate::error::GroupError;
use crate::groups::{Found, Groups};
use crate::record::{OffsetKey, OffsetValue, Record};
use crate::response::{PartitionOutcome, Response, TopicOutcome};
use crate::turn::Turn;

/// The longest metadata that the format of the record can hold.
const METADATA_BYTES_MAX: usize = i16::MAX as usize;

/// Answers OffsetCommit.
pub(crate) fn commit(groups: &Groups, command: OffsetCommit, reply: ReplyId, turn: &mut Turn<'_>) {
    let outcome = check(groups, &command, turn.config);
    if outcome.is_ok() {
        // Who commits is alive.
        if let Some(Found::Classic(live)) = groups.find(&command.group_id) {
            live.set_session_timer(&command.member_id, turn);
        }
    }
    let mut room = Room::of(groups, &command.group_id, turn.config);
    let mut outcomes = Vec::with_capacity(command.topics.len());
    for topic in &command.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let outcome = outcome.and_then(|()| {
                check_partition(topic, partition, turn)?;
                room.take(topic, partition.partition)?;
                turn.append(record(&command, topic, partition, turn.now_ms));
                Ok(())
            });
            partitions.push(PartitionOutcome {
                partition: partition.partition,
                error: outcome.err(),
            });
        }
        outcomes.push(TopicOutcome {
            name: topic.name.clone(),
            id: topic.id,
            partitions,
        });
    }
    turn.answer(reply, Response::OffsetCommit(outcomes));
}

/// Whether the one who asks may commit.
fn check(groups: &Groups, command: &OffsetCommit, config: &GroupsConfig) -> Result<(), GroupError> {
    let generation = command.generation_id_or_member_epoch;
    if command.group_id.len() > config.id_bytes_max {
        return Err(GroupError::InvalidGroupId);
    }
    match groups.find(&command.group_id) {
        Some(Found::Classic(live)) => live.check_commit(command),
        Some(Found::Consumer(group)) => group.check_commit(
            &command.member_id,
            command.group_instance_id.as_deref(),
            generation,
            command.understands_member_epochs,
        ),
        Some(Found::OffsetsOnly) if generation < 0 => Ok(()),
        Some(Found::OffsetsOnly) => Err(GroupError::UnknownMemberId),
        None if generation < 0 && groups.has_room(config) => Ok(()),
        None if generation < 0 => Err(GroupError::InvalidCommitOffsetSize),
        None if command.understands_member_epochs => Err(GroupError::GroupIdNotFound),
        None => Err(GroupError::IllegalGeneration),
    }
}

fn check_partition(
    topic: &CommitTopic,
    partition: &CommitPartition,
    turn: &Turn<'_>,
) -> Result<(), GroupError> {
    if turn.topics.by_name(&topic.name).is_none() {
        return Err(GroupError::UnknownTopicOrPartition);
    }
    let metadata = partition.metadata.as_deref().unwrap_or_default();
    // Kafka counts as Java does: in units of UTF-16, of which there are never more than bytes.
    let allowed = turn.config.offset_metadata_max_bytes;
    let is_over = metadata.len() > allowed && metadata.encode_utf16().count() > allowed;
    if is_over || metadata.len() > METADATA_BYTES_MAX {
        return Err(GroupError::OffsetMetadataTooLarge);
    }
    Ok(())
}

fn record(
    command: &OffsetCommit,
    topic: &CommitTopic,
    partition: &CommitPartition,
    now_ms: i64,
) -> Record {
    let key = OffsetKey {
        group_id: command.group_id.clone(),
        topic: topic.name.clone(),
        partition: partition.partition,
    };
    let value = OffsetValue {
        offset: partition.offset,
        leader_epoch: partition.leader_epoch,
        metadata: partition.metadata.clone().unwrap_or_default(),
        commit_timestamp_ms: now_ms,
        expire_timestamp_ms: command
            .retention_time_ms
            .map(|retention_ms| now_ms.saturating_add(retention_ms)),
    };
    Record::Offset(key, Some(value))
}

/// How many partitions more a group may have offsets of.
struct Room<'a> {
    groups: &'a Groups,
    group_id: &'a str,
    left: usize,
}

impl<'a> Room<'a> {
    fn of(groups: &'a Groups, group_id: &'a str, config: &GroupsConfig) -> Self {
        let count = groups.hard.offsets.count(group_id);
        Self {
            groups,
            group_id,
            left: config.offsets_per_group_max.saturating_sub(count),
        }
    }

    fn take(&mut self, topic: &CommitTopic, partition: i32) -> Result<(), GroupError> {
        let offsets = &self.groups.hard.offsets;
        if offsets.get(self.group_id, &topic.name, partition).is_none() {
            let left = self.left.checked_sub(1);
            self.left = left.ok_or(GroupError::InvalidCommitOffsetSize)?;
        }
        Ok(())
    }
}

//! OffsetCommit, key 8, versions 2-10.

use coordinator::ReplyId;

use super::bytes_of;
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
pub(crate) fn commit(
    groups: &mut Groups,
    command: OffsetCommit,
    reply: ReplyId,
    turn: &mut Turn<'_>,
) {
    let outcomes = decide(groups, &command, turn);
    let mut told = Vec::with_capacity(command.topics.len());
    for (topic, outcomes) in command.topics.iter().zip(outcomes) {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for (partition, outcome) in topic.partitions.iter().zip(outcomes) {
            if outcome.is_ok() {
                let deleted = &mut groups.soft.deleted_topics;
                deleted.committed(&command.group_id, &topic.name, partition.partition);
                turn.append(record(&command, topic, partition, turn.now_ms));
            }
            partitions.push(PartitionOutcome {
                partition: partition.partition,
                error: outcome.err(),
            });
        }
        told.push(TopicOutcome {
            name: topic.name.clone(),
            id: topic.id,
            partitions,
        });
    }
    turn.answer(reply, Response::OffsetCommit(told));
}

type Outcome = Result<(), GroupError>;

/// What becomes of each partition.
fn decide(groups: &Groups, command: &OffsetCommit, turn: &mut Turn<'_>) -> Vec<Vec<Outcome>> {
    let all = check(groups, command, turn.config);
    if all.is_ok() {
        // Who commits is alive.
        if let Some(Found::Classic(live)) = groups.find(&command.group_id) {
            live.set_session_timer(&command.member_id, turn);
        }
    }
    let mut room = Room::of(groups, &command.group_id, turn.config);
    let mut decide = |topic, partition| {
        // Before anything of the group, as in Kafka.
        check_partition(topic, partition, turn)?;
        all?;
        room.take(topic, partition)
    };
    let topics = command.topics.iter();
    let decided = topics.map(|topic| {
        let partitions = topic.partitions.iter();
        let decided = partitions.map(|partition| decide(topic, partition));
        decided.collect::<Vec<Outcome>>()
    });
    let mut decided: Vec<Vec<Outcome>> = decided.collect();
    if room.batch_bytes > turn.config.commit_bytes_max {
        // One batch, or nothing.
        let accepted = decided.iter_mut().flatten().filter(|one| one.is_ok());
        accepted.for_each(|one| *one = Err(GroupError::InvalidCommitOffsetSize));
    }
    decided
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
    let known = turn.topics.by_name(&topic.name);
    if !known.is_some_and(|known| (0..known.partitions).contains(&partition.partition)) {
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

/// How much more a group may have offsets of.
struct Room<'a> {
    groups: &'a Groups,
    group_id: &'a str,
    partitions: usize,
    /// In memory, by [`bytes_of`].
    bytes: usize,
    /// What was taken of a batch.
    batch_bytes: usize,
}

impl<'a> Room<'a> {
    fn of(groups: &'a Groups, group_id: &'a str, config: &GroupsConfig) -> Self {
        let offsets = &groups.hard.offsets;
        let of_group = offsets.bytes_of_group(group_id);
        let of_group = config.offsets_bytes_per_group_max.saturating_sub(of_group);
        Self {
            groups,
            group_id,
            partitions: (config.offsets_per_group_max).saturating_sub(offsets.count(group_id)),
            bytes: of_group.min(groups.bytes_left()),
            batch_bytes: 0,
        }
    }

    /// Takes what the offset needs. One in the place of another that is no smaller needs nothing.
    fn take(&mut self, topic: &CommitTopic, partition: &CommitPartition) -> Result<(), GroupError> {
        let full = GroupError::InvalidCommitOffsetSize;
        let bytes_of = |metadata: &str| bytes_of(self.group_id, &topic.name, metadata);
        let bytes = bytes_of(partition.metadata.as_deref().unwrap_or_default());
        let offsets = &self.groups.hard.offsets;
        let before = offsets.get(self.group_id, &topic.name, partition.partition);
        let before_bytes = before.map(|before| bytes_of(&before.metadata));
        let partitions = match before_bytes {
            Some(_) => self.partitions,
            None => self.partitions.checked_sub(1).ok_or(full)?,
        };
        let more_bytes = bytes.saturating_sub(before_bytes.unwrap_or(0));
        self.bytes = self.bytes.checked_sub(more_bytes).ok_or(full)?;
        self.partitions = partitions;
        self.batch_bytes += bytes;
        Ok(())
    }
}

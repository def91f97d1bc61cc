//! OffsetDelete, key 47, version 0 (KIP-496).

use std::collections::BTreeSet;

use coordinator::ReplyId;

use super::tombstone;
use crate::classic::State;
use crate::command::{FetchTopic, OffsetDelete};
use crate::error::GroupError;
use crate::groups::{Found, Groups};
use crate::response::{PartitionOutcome, Response, TopicOutcome};
use crate::turn::Turn;

/// Answers OffsetDelete.
pub(crate) fn delete(groups: &Groups, command: &OffsetDelete, reply: ReplyId, turn: &mut Turn<'_>) {
    let outcome = check(groups, command).map(|found| {
        // One that is named often is deleted once.
        let mut deleted = BTreeSet::new();
        let delete =
            |topic| delete_topic(groups, &command.group_id, &found, topic, &mut deleted, turn);
        command.topics.iter().map(delete).collect()
    });
    turn.answer(reply, Response::OffsetDelete(outcome));
}

fn check<'a>(groups: &'a Groups, command: &OffsetDelete) -> Result<Found<'a>, GroupError> {
    if command.group_id.is_empty() {
        return Err(GroupError::InvalidGroupId);
    }
    let found = groups.find(&command.group_id);
    let found = found.ok_or(GroupError::GroupIdNotFound)?;
    match &found {
        // What members of another protocol type read is not known here.
        Found::Classic(live) if live.state != State::Empty && !live.uses_consumer_protocol() => {
            Err(GroupError::NonEmptyGroup)
        }
        _ => Ok(found),
    }
}

fn delete_topic(
    groups: &Groups,
    group_id: &str,
    found: &Found<'_>,
    topic: &FetchTopic,
    deleted: &mut BTreeSet<(String, i32)>,
    turn: &mut Turn<'_>,
) -> TopicOutcome {
    if turn.topics.by_name(&topic.name).is_none() {
        return TopicOutcome::refused(topic, GroupError::UnknownTopicOrPartition);
    }
    if found.is_subscribed_to(&topic.name) {
        return TopicOutcome::refused(topic, GroupError::GroupSubscribedToTopic);
    }
    let offsets = &groups.hard.offsets;
    let mut partitions = Vec::with_capacity(topic.partitions.len());
    for &partition in &topic.partitions {
        let is_there = offsets.get(group_id, &topic.name, partition).is_some();
        if is_there && deleted.insert((topic.name.clone(), partition)) {
            turn.append(tombstone(group_id, &topic.name, partition));
        }
        partitions.push(PartitionOutcome {
            partition,
            error: None,
        });
    }
    TopicOutcome {
        name: topic.name.clone(),
        id: topic.id,
        partitions,
    }
}

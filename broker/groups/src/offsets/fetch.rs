//! OffsetFetch, key 9, versions 1-10, of one group.

use std::collections::{BTreeMap, BTreeSet};

use super::GroupOffsets;
use crate::command::{FetchTopic, OffsetFetch};
use crate::error::GroupError;
use crate::groups::{Found, Groups};
use crate::record::OffsetValue;
use crate::response::{CommittedOffset, CommittedTopic, OffsetFetchResponse};
use crate::uuid::Uuid;

/// What there is of the offsets. A group that is not there has none, which is no error.
pub(crate) fn fetch(groups: &Groups, command: &OffsetFetch) -> OffsetFetchResponse {
    let answer = |error, topics| OffsetFetchResponse {
        group_id: command.group_id.clone(),
        error,
        topics,
    };
    if let Err(error) = check(groups, command) {
        return answer(Some(error), Vec::new());
    }
    let offsets = groups.hard.offsets.of_group(&command.group_id);
    let offsets = offsets.map(GroupOffsets::topics);
    let topics = match &command.topics {
        Some(asked) => {
            let mut seen = BTreeSet::new();
            let find = |topic: &FetchTopic| {
                let partitions = offsets.and_then(|topics| topics.get(&topic.name));
                asked_topic(topic, partitions, |partition| {
                    seen.insert((topic.name.clone(), partition))
                })
            };
            asked.iter().map(find).collect()
        }
        None => {
            let all = offsets.into_iter().flatten();
            all.map(|(name, partitions)| CommittedTopic {
                name: name.clone(),
                id: Uuid::ZERO,
                partitions: partitions
                    .iter()
                    .map(|(&partition, value)| committed(partition, Some(value)))
                    .collect(),
            })
            .collect()
        }
    };
    answer(None, topics)
}

fn check(groups: &Groups, command: &OffsetFetch) -> Result<(), GroupError> {
    match groups.find(&command.group_id) {
        Some(Found::Consumer(group)) => {
            group.check_fetch(command.member_id.as_deref(), command.member_epoch)
        }
        Some(Found::Classic(_) | Found::OffsetsOnly) | None => Ok(()),
    }
}

/// What there is of the partitions that are asked for the first time: one that is named often would
/// make a large answer of a small request.
fn asked_topic(
    topic: &FetchTopic,
    partitions: Option<&BTreeMap<i32, OffsetValue>>,
    mut is_first: impl FnMut(i32) -> bool,
) -> CommittedTopic {
    let find = |&partition: &i32| {
        let value = partitions.and_then(|partitions| partitions.get(&partition));
        committed(partition, value)
    };
    let asked = topic.partitions.iter();
    let asked = asked.filter(|partition| is_first(**partition));
    CommittedTopic {
        name: topic.name.clone(),
        id: topic.id,
        partitions: asked.map(find).collect(),
    }
}

fn committed(partition: i32, value: Option<&OffsetValue>) -> CommittedOffset {
    CommittedOffset {
        partition,
        offset: value.map_or(-1, |value| value.offset),
        leader_epoch: value.map_or(-1, |value| value.leader_epoch),
        metadata: value.map_or_else(String::new, |value| value.metadata.clone()),
        error: None,
    }
}

//! Offsets of topics that were deleted: all groups forget them, a bounded number at a time.

use std::collections::{BTreeSet, VecDeque};

use coordinator::ReplyId;

use super::{Offsets, tombstone};
use crate::groups::{Groups, Timer};
use crate::record::Record;
use crate::response::Response;
use crate::turn::Turn;

/// Deletions that are not done with, the oldest first.
pub(crate) type DeletedTopics = VecDeque<(ReplyId, BTreeSet<String>)>;

/// These topics were deleted. Answered when their offsets are forgotten.
pub(crate) fn topics_deleted(
    groups: &mut Groups,
    topics: Vec<String>,
    reply: ReplyId,
    turn: &mut Turn<'_>,
) {
    let topics = topics.into_iter().collect();
    groups.soft.deleted_topics.push_back((reply, topics));
    if groups.soft.deleted_topics.len() == 1 {
        go_on_forgetting(groups, turn);
    }
}

/// One round. The next one is due at once; other commands may come between.
pub(crate) fn go_on_forgetting(groups: &mut Groups, turn: &mut Turn<'_>) {
    let records_max = turn.config.expiry_records_max.max(1);
    let Some((reply, topics)) = groups.soft.deleted_topics.front() else {
        return;
    };
    let mut found = offsets_of(&groups.hard.offsets, topics);
    for record in found.by_ref().take(records_max) {
        turn.append(record);
    }
    if found.next().is_none() {
        turn.answer(*reply, Response::Done);
        drop(found);
        groups.soft.deleted_topics.pop_front();
    }
    if !groups.soft.deleted_topics.is_empty() {
        turn.set_timer(Timer::DeletedTopics, 0);
    }
}

fn offsets_of(offsets: &Offsets, topics: &BTreeSet<String>) -> impl Iterator<Item = Record> {
    let groups = offsets.groups().iter();
    groups.flat_map(move |(group_id, of_group)| {
        let topics = topics.iter();
        let found = topics.filter_map(move |topic| Some((topic, of_group.get(topic)?)));
        found.flat_map(move |(topic, partitions)| {
            let partitions = partitions.keys();
            partitions.map(move |&partition| tombstone(group_id, topic, partition))
        })
    })
}

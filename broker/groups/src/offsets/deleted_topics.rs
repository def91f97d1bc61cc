//! Offsets of topics that were deleted: all groups forget them, a bounded number at a time.

use std::collections::{BTreeSet, VecDeque};

use coordinator::ReplyId;

use super::{Offsets, tombstone};
use crate::groups::{Groups, Timer};
use crate::record::Record;
use crate::response::Response;
use crate::turn::Turn;

/// Deletions that are not done with, the oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeletedTopics {
    waiting: VecDeque<Deletion>,
}

/// A deletion of topics.
#[derive(Debug, Clone)]
struct Deletion {
    reply: ReplyId,
    topics: BTreeSet<String>,
    /// What was committed since: it is of another topic that took the name. Group, topic, partition.
    since: BTreeSet<(String, String, i32)>,
}

impl DeletedTopics {
    /// An offset is committed. If its topic is not done with, it is not what is to be forgotten.
    pub(crate) fn committed(&mut self, group_id: &str, topic: &str, partition: i32) {
        for deletion in &mut self.waiting {
            if deletion.topics.contains(topic) {
                let place = (group_id.to_owned(), topic.to_owned(), partition);
                deletion.since.insert(place);
            }
        }
    }
}

/// These topics were deleted. Answered when their offsets are forgotten.
pub(crate) fn topics_deleted(
    groups: &mut Groups,
    topics: Vec<String>,
    reply: ReplyId,
    turn: &mut Turn<'_>,
) {
    let topics = topics.into_iter().collect();
    groups.soft.deleted_topics.waiting.push_back(Deletion {
        reply,
        topics,
        since: BTreeSet::new(),
    });
    if groups.soft.deleted_topics.waiting.len() == 1 {
        go_on_forgetting(groups, turn);
    }
}

/// One round. The next one is due at once; other commands may come between.
pub(crate) fn go_on_forgetting(groups: &mut Groups, turn: &mut Turn<'_>) {
    let records_max = turn.config.expiry_records_max.max(1);
    let Some(deletion) = groups.soft.deleted_topics.waiting.front() else {
        return;
    };
    let mut found = offsets_of(&groups.hard.offsets, deletion);
    for record in found.by_ref().take(records_max) {
        turn.append(record);
    }
    if found.next().is_none() {
        turn.answer(deletion.reply, Response::Done);
        drop(found);
        groups.soft.deleted_topics.waiting.pop_front();
    }
    if !groups.soft.deleted_topics.waiting.is_empty() {
        turn.set_timer(Timer::DeletedTopics, 0);
    }
}

fn offsets_of(offsets: &Offsets, deletion: &Deletion) -> impl Iterator<Item = Record> {
    let groups = offsets.groups().iter();
    groups.flat_map(move |(group_id, of_group)| {
        let topics = deletion.topics.iter();
        let found = topics.filter_map(move |topic| Some((topic, of_group.topics().get(topic)?)));
        found.flat_map(move |(topic, partitions)| {
            let is_old = move |partition: &&i32| {
                let since = &deletion.since;
                since.is_empty() || !since.contains(&(group_id.clone(), topic.clone(), **partition))
            };
            let partitions = partitions.keys().filter(is_old);
            partitions.map(move |&partition| tombstone(group_id, topic, partition))
        })
    })
}

//! Committed offsets: OffsetCommit, OffsetFetch, OffsetDelete, and their end (KIP-211, KIP-496).
//!
//! A group may have offsets without being a group otherwise: consumers that assign partitions to
//! themselves keep them under a name. Such a group is listed as an empty classic one.
//!
//! Offsets that belong to an open transaction (KIP-447, TxnOffsetCommit) will lie beside the others
//! in [`Offsets`], by producer; `OffsetFetch::require_stable`, expiry and OffsetDelete will ask for
//! them where they now ask for a committed one.

mod commit;
mod delete;
mod deleted_topics;
mod expiry;
mod fetch;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use commit::commit;
pub(crate) use delete::delete;
pub(crate) use deleted_topics::{DeletedTopics, go_on_forgetting, topics_deleted};
pub(crate) use expiry::{Cursor, expire};
pub(crate) use fetch::fetch;

use crate::groups::Groups;
use crate::record::{OffsetKey, OffsetValue, Record};

/// The offsets of a group, by topic and partition.
pub(crate) type GroupOffsets = BTreeMap<String, BTreeMap<i32, OffsetValue>>;

/// The hard state: offsets by group, topic and partition. No empty maps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offsets {
    groups: BTreeMap<String, GroupOffsets>,
}

impl Groups {
    /// Names of the topics that groups have offsets of.
    #[must_use]
    pub fn topics_with_offsets(&self) -> BTreeSet<&str> {
        let groups = self.hard.offsets.groups.values();
        let topics = groups.flat_map(BTreeMap::keys);
        topics.map(String::as_str).collect()
    }
}

impl Offsets {
    pub(crate) fn replay(&mut self, key: &OffsetKey, value: Option<&OffsetValue>) {
        match value {
            Some(value) => {
                let topics = self.groups.entry(key.group_id.clone()).or_default();
                let partitions = topics.entry(key.topic.clone()).or_default();
                partitions.insert(key.partition, value.clone());
            }
            None => self.forget(key),
        }
    }

    fn forget(&mut self, key: &OffsetKey) {
        let Some(topics) = self.groups.get_mut(&key.group_id) else {
            return;
        };
        if let Some(partitions) = topics.get_mut(&key.topic) {
            partitions.remove(&key.partition);
            if partitions.is_empty() {
                topics.remove(&key.topic);
            }
        }
        if topics.is_empty() {
            self.groups.remove(&key.group_id);
        }
    }

    /// The groups that have offsets.
    pub(crate) fn groups(&self) -> &BTreeMap<String, GroupOffsets> {
        &self.groups
    }

    pub(crate) fn of_group(&self, group_id: &str) -> Option<&GroupOffsets> {
        self.groups.get(group_id)
    }

    pub(crate) fn get(&self, group_id: &str, topic: &str, partition: i32) -> Option<&OffsetValue> {
        self.groups.get(group_id)?.get(topic)?.get(&partition)
    }

    /// How many partitions the group has offsets of.
    pub(crate) fn count(&self, group_id: &str) -> usize {
        let topics = self.groups.get(group_id);
        topics.map_or(0, |topics| topics.values().map(BTreeMap::len).sum())
    }

    /// The records that forget all offsets of the group.
    pub(crate) fn tombstones(&self, group_id: &str) -> impl Iterator<Item = Record> {
        let topics = self.groups.get(group_id).into_iter().flatten();
        topics.flat_map(move |(topic, partitions)| {
            let partitions = partitions.keys();
            partitions.map(move |&partition| tombstone(group_id, topic, partition))
        })
    }
}

/// The record that forgets an offset.
pub(crate) fn tombstone(group_id: &str, topic: &str, partition: i32) -> Record {
    let key = OffsetKey {
        group_id: group_id.to_owned(),
        topic: topic.to_owned(),
        partition,
    };
    Record::Offset(key, None)
}

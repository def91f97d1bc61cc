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

/// The offsets of a group, by topic and partition. No empty maps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GroupOffsets {
    topics: BTreeMap<String, BTreeMap<i32, OffsetValue>>,
    /// How many there are.
    count: usize,
    /// What they take, by [`bytes_of`].
    bytes: usize,
}

/// The hard state: offsets by group, topic and partition. No group without any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offsets {
    groups: BTreeMap<String, GroupOffsets>,
    /// What those of all groups take.
    bytes: usize,
}

/// About what an offset takes in memory, and never less than its record, or its tombstone, in the
/// log.
pub(crate) fn bytes_of(group_id: &str, topic: &str, metadata: &str) -> usize {
    const FIELDS: usize = 96;
    FIELDS + group_id.len() + topic.len() + metadata.len()
}

impl GroupOffsets {
    /// By topic and partition.
    pub(crate) fn topics(&self) -> &BTreeMap<String, BTreeMap<i32, OffsetValue>> {
        &self.topics
    }
}

impl Groups {
    /// Names of the topics that groups have offsets of.
    #[must_use]
    pub fn topics_with_offsets(&self) -> BTreeSet<&str> {
        let groups = self.hard.offsets.groups.values();
        let topics = groups.flat_map(|group| group.topics.keys());
        topics.map(String::as_str).collect()
    }
}

impl Offsets {
    pub(crate) fn replay(&mut self, key: &OffsetKey, value: Option<&OffsetValue>) {
        let bytes = |value: &OffsetValue| bytes_of(&key.group_id, &key.topic, &value.metadata);
        let before = match value {
            Some(value) => {
                let group = self.groups.entry(key.group_id.clone()).or_default();
                let partitions = group.topics.entry(key.topic.clone()).or_default();
                let before = partitions.insert(key.partition, value.clone());
                group.count += usize::from(before.is_none());
                group.bytes += bytes(value);
                self.bytes += bytes(value);
                before
            }
            None => self.forget(key),
        };
        if let Some(before) = before {
            self.bytes -= bytes(&before);
            if let Some(group) = self.groups.get_mut(&key.group_id) {
                group.bytes -= bytes(&before);
            }
        }
    }

    fn forget(&mut self, key: &OffsetKey) -> Option<OffsetValue> {
        let group = self.groups.get_mut(&key.group_id)?;
        let partitions = group.topics.get_mut(&key.topic)?;
        let before = partitions.remove(&key.partition)?;
        group.count -= 1;
        if partitions.is_empty() {
            group.topics.remove(&key.topic);
        }
        if group.topics.is_empty() {
            self.groups.remove(&key.group_id);
        }
        Some(before)
    }

    /// The groups that have offsets.
    pub(crate) fn groups(&self) -> &BTreeMap<String, GroupOffsets> {
        &self.groups
    }

    pub(crate) fn of_group(&self, group_id: &str) -> Option<&GroupOffsets> {
        self.groups.get(group_id)
    }

    pub(crate) fn get(&self, group_id: &str, topic: &str, partition: i32) -> Option<&OffsetValue> {
        let group = self.groups.get(group_id)?;
        group.topics.get(topic)?.get(&partition)
    }

    /// How many partitions the group has offsets of.
    pub(crate) fn count(&self, group_id: &str) -> usize {
        self.groups.get(group_id).map_or(0, |group| group.count)
    }

    /// What the offsets of the group take.
    pub(crate) fn bytes_of_group(&self, group_id: &str) -> usize {
        self.groups.get(group_id).map_or(0, |group| group.bytes)
    }

    /// What the offsets of all groups take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The records that forget all offsets of the group.
    pub(crate) fn tombstones(&self, group_id: &str) -> impl Iterator<Item = Record> {
        let group = self.groups.get(group_id).into_iter();
        let topics = group.flat_map(|group| &group.topics);
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

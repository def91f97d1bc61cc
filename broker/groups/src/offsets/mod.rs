//! Committed offsets.

use std::collections::BTreeMap;

use crate::record::{OffsetKey, OffsetValue};

/// The hard state: offsets by group, topic and partition. No empty maps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offsets {
    groups: BTreeMap<String, BTreeMap<String, BTreeMap<i32, OffsetValue>>>,
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
}

//! `range`: for every topic its subscribers in order, and each takes the next range of partitions.
//!
//! Static members come first, in the order of their instance ids, so that a restart under another
//! member id changes nothing; then dynamic members in the order of their ids.
//! What does not divide evenly goes to the first members, one partition each.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{GroupSpec, Partitions, TopicId};

/// The ranges of one topic that are yet to be taken.
struct Ranges {
    count: i32,
    subscribers: i32,
    next: i32,
    taken_by: i32,
}

impl Ranges {
    /// The next range: a partition more for each of the first `count % subscribers` members.
    fn take(&mut self) -> std::ops::Range<i32> {
        let more = i32::from(self.taken_by < self.count % self.subscribers);
        let start = self.next;
        self.next += self.count / self.subscribers + more;
        self.taken_by += 1;
        start..self.next
    }
}

/// Assigns by ranges.
pub(super) fn assign(spec: &GroupSpec) -> BTreeMap<Arc<str>, Partitions> {
    let mut topics: BTreeMap<TopicId, Ranges> = BTreeMap::new();
    for member in spec.members.values() {
        for &topic in member.topics.iter() {
            topics
                .entry(topic)
                .or_insert(Ranges {
                    count: spec.count(topic),
                    subscribers: 0,
                    next: 0,
                    taken_by: 0,
                })
                .subscribers += 1;
        }
    }
    let mut order: Vec<_> = spec.members.iter().collect();
    order.sort_by_key(|(id, member)| match &member.instance_id {
        Some(instance) => (0, instance.as_str(), &***id),
        None => (1, &***id, ""),
    });
    let mut assignment = BTreeMap::new();
    for (id, member) in order {
        let mut partitions = Partitions::new();
        for topic in member.topics.iter() {
            let range = topics.get_mut(topic).map(Ranges::take).unwrap_or(0..0);
            if !range.is_empty() {
                partitions.insert(*topic, range.collect());
            }
        }
        assignment.insert(id.clone(), partitions);
    }
    assignment
}

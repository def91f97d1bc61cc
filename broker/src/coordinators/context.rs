//! The topics as groups see them, made from the catalogue and kept as long as nothing changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use groups::{Topic, Topics, Uuid};
use storage::{NodeId, ShardId};
use tokio::sync::watch;

use crate::catalogue::{self, Catalogue};

/// The newest topics, shared by all coordinators.
#[derive(Debug, Default)]
pub(super) struct TopicsCache {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    image: Arc<Catalogue>,
    topics: Arc<Topics>,
}

impl TopicsCache {
    /// The topics of the newest catalogue; the same as before if they are. Made at the expense of
    /// whoever comes first after a change.
    pub(super) fn newest(&self, images: &watch::Receiver<Arc<Catalogue>>) -> Arc<Topics> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that an older one never takes the place of a newer one.
        let image = images.borrow().clone();
        if !Arc::ptr_eq(&image, &held.image) {
            if let Some(topics) = changed(&held, &image) {
                held.topics = Arc::new(topics);
            }
            held.image = image;
        }
        Arc::clone(&held.topics)
    }
}

/// The topics of a catalogue, if they differ from those that are held.
fn changed(held: &Held, image: &Catalogue) -> Option<Topics> {
    let (racks, racks_before) = (racks_of(image), racks_of(&held.image));
    let same_racks = racks == racks_before;
    let mut newer: Option<Topics> = None;
    for topic in image.topics.values() {
        let before = held.image.topics.get(&topic.name);
        if same_racks && before.is_some_and(|before| Arc::ptr_eq(before, topic)) {
            continue;
        }
        let topic = made(topic, &racks);
        if held.topics.by_name(&topic.name) != Some(&topic) {
            let newer = newer.get_or_insert_with(|| Topics::clone(&held.topics));
            newer.insert(topic);
        }
    }
    let gone = held.image.topics.keys();
    for name in gone.filter(|name| !image.topics.contains_key(*name)) {
        let newer = newer.get_or_insert_with(|| Topics::clone(&held.topics));
        newer.remove(name);
    }
    newer
}

/// The racks that each shard has replicas in; empty when no node has a rack.
fn racks_of(image: &Catalogue) -> BTreeMap<ShardId, BTreeSet<String>> {
    let rack = |node: &NodeId| image.nodes.get(node)?.rack.clone();
    if image.nodes.values().all(|node| node.rack.is_none()) {
        return BTreeMap::new();
    }
    let shards = image.shards.values();
    let racks = shards.map(|shard| (shard.id, shard.replicas.iter().filter_map(rack).collect()));
    racks.collect()
}

fn made(topic: &catalogue::Topic, racks: &BTreeMap<ShardId, BTreeSet<String>>) -> Topic {
    let racks = match racks.is_empty() {
        true => Vec::new(),
        false => {
            let shards = topic.partitions.iter().map(|entry| entry.shard);
            let racks = shards.map(|shard| racks.get(&shard).cloned().unwrap_or_default());
            racks.collect()
        }
    };
    Topic {
        id: Uuid(u128::from_be_bytes(topic.id.0)),
        name: topic.name.clone(),
        partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
        racks,
    }
}

/// Names of topics that were in `before` and are not in `now`, or are others now.
pub(super) fn gone(before: &Topics, now: &Topics) -> Vec<String> {
    let is_gone = |topic: &&Topic| now.by_id(topic.id).is_none();
    let gone = before.iter().filter(is_gone);
    gone.map(|topic| topic.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use storage::TopicId;

    use super::*;
    use crate::TopicConfig;
    use crate::catalogue::PartitionEntry;

    fn topic(name: &str, id: u8, partitions: usize) -> Arc<catalogue::Topic> {
        Arc::new(catalogue::Topic {
            name: name.to_owned(),
            id: TopicId([id; 16]),
            partitions: vec![PartitionEntry::new(ShardId(1)); partitions],
            config: Arc::new(TopicConfig::default()),
            internal: false,
        })
    }

    fn image(topics: &[Arc<catalogue::Topic>]) -> Arc<Catalogue> {
        let topics = topics.iter();
        Arc::new(Catalogue {
            topics: topics.map(|one| (one.name.clone(), one.clone())).collect(),
            ..Catalogue::default()
        })
    }

    #[test]
    fn topics_are_made_anew_only_when_they_change() {
        let (a, b) = (topic("a", 1, 3), topic("b", 2, 1));
        let (sender, images) = watch::channel(image(&[a.clone(), b.clone()]));
        let cache = TopicsCache::default();
        let first = cache.newest(&images);
        assert_eq!(first.by_name("a").map(|topic| topic.partitions), Some(3));
        // Its configs are another's business.
        sender.send_replace(image(&[topic("a", 1, 3), b.clone()]));
        let second = cache.newest(&images);
        assert!(Arc::ptr_eq(&first, &second));
        sender.send_replace(image(&[topic("a", 1, 4), b.clone()]));
        let third = cache.newest(&images);
        assert_eq!(third.by_name("a").map(|topic| topic.partitions), Some(4));
        assert!(third.version > first.version);
        assert_eq!(gone(&first, &third), Vec::<String>::new());
        sender.send_replace(image(&[topic("b", 3, 1)]));
        let fourth = cache.newest(&images);
        assert!(fourth.version > third.version);
        assert_eq!(gone(&third, &fourth), ["a", "b"]);
    }
}

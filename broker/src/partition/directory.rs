//! All partitions on this node.
//!
//! While a partition moves between shards the node may hold several logs of it. The one that
//! readers and writers get is the one that the catalogue here names by its generation; a log that
//! is being filled is never that. So nothing is served from a new log before the move is committed.
//! While the catalogue here does not know a partition, only a log that no move made may be served.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use storage::partition_log::LogConfig;
use storage::{LogId, PartitionId, ShardId};
use tokio::sync::watch;

use super::Partition;
use super::manifest::Stand;
use super::waiters::Waiters;
use crate::catalogue::{Catalogue, Topic};

/// All partitions of this node, by id. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Directory {
    held: Arc<RwLock<Held>>,
    images: Option<watch::Receiver<Arc<Catalogue>>>,
}

#[derive(Debug, Default)]
struct Held {
    slots: HashMap<PartitionId, Slot>,
    /// Those that are filled or sealed.
    moving: BTreeMap<LogId, Arc<Partition>>,
    /// Partitions that were made in a shard of this node and have moved away, by shard.
    departed: BTreeMap<ShardId, BTreeSet<PartitionId>>,
}

/// The logs of one partition.
#[derive(Debug, Default)]
struct Slot {
    served: Option<Arc<Partition>>,
    others: Vec<Arc<Partition>>,
}

impl Slot {
    fn all(&self) -> impl Iterator<Item = &Arc<Partition>> {
        self.served.iter().chain(&self.others)
    }

    fn take(&mut self, log: LogId) -> Option<Arc<Partition>> {
        if self.served.as_ref().is_some_and(|one| one.log_id() == log) {
            return self.served.take();
        }
        let at = self.others.iter().position(|one| one.log_id() == log)?;
        Some(self.others.swap_remove(at))
    }

    /// Chooses the log that is the partition, as it is named; without a catalogue the newest is.
    fn choose(&mut self, named: Option<u32>) {
        self.others.extend(self.served.take());
        let may_be = |one: &Arc<Partition>| {
            let is_it = named.is_none_or(|generation| generation == one.generation());
            is_it && one.stand != Stand::Filling
        };
        let all = self.others.iter().enumerate();
        let fit = all.filter(|(_, one)| may_be(one));
        let newest = fit.max_by_key(|(_, one)| one.generation());
        let at = newest.map(|(at, _)| at);
        self.served = at.map(|at| self.others.swap_remove(at));
    }
}

/// Generation of the log that a catalogue names. Of a partition that it does not know yet that is
/// the one that was made first: whether any other one ever was it, cannot be known.
fn named(image: Option<&Catalogue>, id: PartitionId) -> Option<u32> {
    image.map(|image| image.entry(id).map_or(0, |entry| entry.generation))
}

/// The topics of a catalogue that differ from what they were, or are new.
fn changed<'a>(before: &Catalogue, image: &'a Catalogue) -> Vec<&'a Arc<Topic>> {
    let topics = image.topics.values();
    let differs = |topic: &&Arc<Topic>| {
        let known = before.topics.get(&topic.name);
        known.is_none_or(|known| !Arc::ptr_eq(known, topic))
    };
    topics.filter(differs).collect()
}

impl Directory {
    /// An empty one that goes by the catalogue.
    pub(crate) fn new(images: watch::Receiver<Arc<Catalogue>>) -> Directory {
        Directory {
            held: Arc::default(),
            images: Some(images),
        }
    }

    fn held(&self) -> RwLockReadGuard<'_, Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn held_mut(&self) -> RwLockWriteGuard<'_, Held> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn image(&self) -> Option<Arc<Catalogue>> {
        self.images.as_ref().map(|images| images.borrow().clone())
    }

    /// When a partition's log begins new segments: local to this replica, so apply may use it. The
    /// default while the catalogue here does not know the topic; it is set when it comes to.
    pub(crate) fn log_config(&self, id: PartitionId) -> LogConfig {
        let image = self.images.as_ref().map(watch::Receiver::borrow);
        let topic = image.as_ref().and_then(|image| image.topic_by_id(id.topic));
        topic.map_or_else(LogConfig::default, |topic| topic.config.log_config())
    }

    /// The log that is the partition.
    pub(crate) fn get(&self, id: PartitionId) -> Option<Arc<Partition>> {
        self.held().slots.get(&id)?.served.clone()
    }

    /// Whether a log is here that is the partition.
    pub(crate) fn contains(&self, id: PartitionId) -> bool {
        let held = self.held();
        held.slots
            .get(&id)
            .is_some_and(|slot| slot.served.is_some())
    }

    /// The log that a shard has of the partition, whatever it is used for.
    pub(crate) fn get_in(&self, shard: ShardId, id: PartitionId) -> Option<Arc<Partition>> {
        let held = self.held();
        let mut logs = held.slots.get(&id)?.all();
        logs.find(|one| one.shard == shard).cloned()
    }

    /// All logs of a partition.
    pub(crate) fn logs_of(&self, id: PartitionId) -> Vec<Arc<Partition>> {
        let held = self.held();
        let slot = held.slots.get(&id);
        slot.map_or_else(Vec::new, |slot| slot.all().cloned().collect())
    }

    /// A picture of what is there now, every log.
    pub(crate) fn all(&self) -> Vec<Arc<Partition>> {
        let held = self.held();
        held.slots.values().flat_map(Slot::all).cloned().collect()
    }

    /// The logs of which this holds.
    pub(crate) fn select(&self, holds: impl Fn(&Partition) -> bool) -> Vec<Arc<Partition>> {
        let held = self.held();
        let all = held.slots.values().flat_map(Slot::all);
        all.filter(|one| holds(one)).cloned().collect()
    }

    /// The logs that are being filled or are sealed.
    pub(crate) fn moving(&self) -> Vec<Arc<Partition>> {
        self.held().moving.values().cloned().collect()
    }

    /// Fetches that wait for this partition, whatever log it is in.
    pub(crate) fn waiters(&self, id: PartitionId) -> Arc<Waiters> {
        let held = self.held();
        let one = held.slots.get(&id).and_then(|slot| slot.all().next());
        one.map_or_else(Arc::default, |one| Arc::clone(&one.waiters))
    }

    /// Enters partitions, each in the place of the same log that was there.
    pub(crate) fn insert(&self, partitions: impl IntoIterator<Item = Arc<Partition>>) {
        let mut held = self.held_mut();
        // Under the lock, or an older picture might have the last word.
        let image = self.image();
        let held = &mut *held;
        for partition in partitions {
            let log = partition.log_id();
            match partition.stand {
                Stand::Serving => held.moving.remove(&log),
                Stand::Filling | Stand::Sealed(_) => {
                    held.moving.insert(log, Arc::clone(&partition))
                }
            };
            let named = named(image.as_deref(), partition.id);
            let slot = held.slots.entry(partition.id).or_default();
            slot.take(log);
            slot.others.push(partition);
            slot.choose(named);
        }
    }

    pub(crate) fn remove(&self, log: LogId) {
        let mut held = self.held_mut();
        let image = self.image();
        held.moving.remove(&log);
        let Some(slot) = held.slots.get_mut(&log.partition) else {
            return;
        };
        slot.take(log);
        if slot.all().next().is_none() {
            held.slots.remove(&log.partition);
        } else {
            slot.choose(named(image.as_deref(), log.partition));
        }
    }

    /// Goes by the newest catalogue where it differs from `before`, and wakes who waits for a
    /// partition that is in another log now. Returns that catalogue, and whether there was such one.
    pub(crate) fn follow(&self, before: &Catalogue) -> (Arc<Catalogue>, bool) {
        let mut woken = Vec::new();
        let Some(mut image) = self.image() else {
            return (Arc::default(), false);
        };
        // Readers and writers do not wait while all topics are looked through.
        let (mut held, topics) = loop {
            let topics = changed(before, &image);
            let held = self.held_mut();
            // What came meanwhile `insert` may have gone by: an older picture must not undo it.
            match self.image() {
                Some(newest) if !Arc::ptr_eq(&newest, &image) => image = newest,
                _ => break (held, topics),
            }
        };
        for topic in topics {
            for (index, entry) in (0..).zip(&topic.partitions) {
                let id = PartitionId {
                    topic: topic.id,
                    index,
                };
                let Some(slot) = held.slots.get_mut(&id) else {
                    continue;
                };
                let generation = |slot: &Slot| slot.served.as_ref().map(|one| one.generation());
                let was = generation(slot);
                if was != Some(entry.generation) {
                    slot.choose(Some(entry.generation));
                    if generation(slot) != was {
                        woken.extend(slot.all().next().map(|one| Arc::clone(&one.waiters)));
                    }
                }
            }
        }
        drop(held);
        woken.iter().for_each(|waiters| waiters.wake_all());
        (image, !woken.is_empty())
    }

    /// Says which partitions that were made in a shard have moved away from it.
    pub(crate) fn set_departed(&self, shard: ShardId, departed: BTreeSet<PartitionId>) {
        let mut held = self.held_mut();
        if departed.is_empty() {
            held.departed.remove(&shard);
        } else {
            held.departed.insert(shard, departed);
        }
    }

    /// Partitions that were made in a shard and have moved away from it.
    pub(crate) fn departed(&self) -> Vec<(ShardId, PartitionId)> {
        let held = self.held();
        let departed = held.departed.iter();
        departed
            .flat_map(|(shard, ids)| ids.iter().map(|id| (*shard, *id)))
            .collect()
    }
}

#[cfg(test)]
#[path = "directory_test.rs"]
mod tests;

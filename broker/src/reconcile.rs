//! Makes the shards carry what the catalogue says: partitions are created in their shards, removed
//! from them, and get their topic's configs.
//!
//! It compares and proposes what is missing, again and again; a crash between a change of the
//! catalogue and its carrying out is mended the same way as an ordinary change is carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use storage::{LogId, PartitionId, ShardId};
use tokio::time::Instant;

use crate::Broker;
use crate::broker::refused;
use crate::catalogue::{Catalogue, Topic};
use crate::partition::op::PartitionOp;

/// Partitions in one operation; several operations share an entry.
const PARTITIONS_PER_OPERATION: usize = 1_000;
/// Time between two full comparisons when nothing seems to change.
const FULL_INTERVAL: Duration = Duration::from_secs(5);

/// A comparison of many partitions costs milliseconds, and leaders change many at a time: before
/// the next one for their sake there is a pause of so many times what the last one took, at most
/// this long.
const RESTS: u32 = 20;
const REST_MAX: Duration = Duration::from_millis(200);

/// How long one operation may take. It may still come about: what is to do is found out anew.
const OPERATION_MAX: Duration = Duration::from_secs(5);

/// What one shard lacks and has too much.
#[derive(Debug, Default)]
struct Difference {
    missing: Vec<PartitionId>,
    extra: Vec<PartitionId>,
    /// Logs that can never become the partition again: it has moved, or was not moved after all.
    past: Vec<LogId>,
}

impl Difference {
    fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty() && self.past.is_empty()
    }
}

impl Broker {
    /// Runs until it is dropped. Each shard is seen to for itself: one that is stuck holds none of
    /// the others up.
    pub(crate) async fn reconcile_forever(self) {
        let mut images = self.inner.images.clone();
        let mut changes = self.inner.changes.subscribe();
        let mut configured = Arc::new(Catalogue::default());
        let mut running = FuturesUnordered::new();
        let mut busy = BTreeSet::new();
        loop {
            let image = images.borrow_and_update().clone();
            changes.borrow_and_update();
            let began = Instant::now();
            let differences = self.differences();
            let rest = (began.elapsed() * RESTS).min(REST_MAX);
            for (shard, difference) in differences {
                if !difference.is_empty() && busy.insert(shard) {
                    let broker = self.clone();
                    running.push(async move {
                        (shard, broker.reconcile_shard(shard, difference).await)
                    });
                }
            }
            self.configure(&configured, &image);
            configured = image;
            let interval = tokio::time::sleep(FULL_INTERVAL);
            tokio::pin!(interval);
            loop {
                tokio::select! {
                    changed = images.changed() => if changed.is_err() { return },
                    changed = changes.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        tokio::time::sleep(rest).await;
                    }
                    Some((shard, is_done)) = running.next() => {
                        busy.remove(&shard);
                        if !is_done {
                            // Looked at again when something changes, or after the interval.
                            continue;
                        }
                    }
                    () = &mut interval => {}
                }
                break;
            }
        }
    }

    /// Answers whether all of it was carried out.
    async fn reconcile_shard(&self, shard: ShardId, difference: Difference) -> bool {
        let (mut changed, mut is_done) = (false, true);
        for part in difference.missing.chunks(PARTITIONS_PER_OPERATION) {
            let partitions = part.to_vec();
            is_done &= self
                .carry_out(shard, PartitionOp::Create { partitions })
                .await;
            changed |= is_done;
            if !is_done {
                break;
            }
        }
        self.configure_partitions(&difference.missing);
        // What is past stays past, whatever the catalogue comes to: no need to ask how old it is.
        for part in difference.past.chunks(PARTITIONS_PER_OPERATION) {
            if !is_done {
                break;
            }
            let logs = part.to_vec();
            is_done = self.carry_out(shard, PartitionOp::Drop { logs }).await;
            changed |= is_done;
        }
        if is_done && !difference.extra.is_empty() {
            is_done = self.delete_extra(shard).await;
            changed |= is_done;
        }
        if changed {
            self.inner.changes.send_modify(|changes| *changes += 1);
        }
        is_done
    }

    /// Deletes what the catalogue no longer has. Not having it yet looks the same, so this node's
    /// picture of it must be as new as what is deleted.
    async fn delete_extra(&self, shard: ShardId) -> bool {
        // Seen before the barrier: it came into its shard after the catalogue had it.
        let mut present = self.inner.directory.all();
        present.retain(|partition| partition.shard == shard);
        let mut present: Vec<PartitionId> = present.iter().map(|one| one.id).collect();
        let departed = self.inner.directory.departed().into_iter();
        present.extend(departed.filter(|(of, _)| *of == shard).map(|(_, id)| id));
        if let Err(error) = self.catalogue_is_current().await {
            tracing::warn!(%error, "deleted topics have to wait for the catalogue");
            return false;
        }
        let catalogue = self.catalogue();
        let extra: Vec<PartitionId> = present
            .into_iter()
            .filter(|id| catalogue.topic_by_id(id.topic).is_none())
            .collect();
        for part in extra.chunks(PARTITIONS_PER_OPERATION) {
            let partitions = part.to_vec();
            if !self
                .carry_out(shard, PartitionOp::Delete { partitions })
                .await
            {
                return false;
            }
        }
        true
    }

    /// What differs in the shards that this node leads.
    fn differences(&self) -> BTreeMap<ShardId, Difference> {
        let catalogue = self.catalogue();
        let mut differences: BTreeMap<ShardId, Difference> = self
            .shards()
            .into_iter()
            .filter(|(_, shard)| shard.leadership.borrow().serving)
            .map(|(id, _)| (id, Difference::default()))
            .collect();
        if differences.is_empty() {
            return differences;
        }
        let directory = &self.inner.directory;
        for partition in directory.select(|one| differences.contains_key(&one.shard)) {
            let Some(difference) = differences.get_mut(&partition.shard) else {
                continue;
            };
            match catalogue.topic_by_id(partition.id.topic) {
                None => difference.extra.push(partition.id),
                // Only what was ever to be moved has more than one log.
                Some(_) => {
                    let entry = catalogue.entry(partition.id);
                    if entry.is_some_and(|entry| entry.is_past(partition.generation())) {
                        difference.past.push(partition.log_id());
                    }
                }
            }
        }
        let departed: BTreeSet<(ShardId, PartitionId)> =
            self.inner.directory.departed().into_iter().collect();
        for (shard, id) in &departed {
            if catalogue.topic_by_id(id.topic).is_none()
                && let Some(difference) = differences.get_mut(shard)
            {
                difference.extra.push(*id);
            }
        }
        for topic in catalogue.topics.values() {
            for (index, entry) in (0..).zip(&topic.partitions) {
                let id = PartitionId {
                    topic: topic.id,
                    index,
                };
                // What came by a move is there, or everything would be lost: it is never made.
                if entry.generation == 0
                    && let Some(difference) = differences.get_mut(&entry.shard)
                    && self.inner.directory.get_in(entry.shard, id).is_none()
                    // Or the catalogue here is from before it moved away.
                    && !departed.contains(&(entry.shard, id))
                {
                    difference.missing.push(id);
                }
            }
        }
        differences
    }

    async fn carry_out(&self, shard: ShardId, operation: PartitionOp) -> bool {
        let Some(shard) = self.data_shard(shard) else {
            return false;
        };
        let done = async {
            let pending = shard.shard.submit(operation.encode()).await?;
            pending.await
        };
        match tokio::time::timeout(OPERATION_MAX, done).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => {
                let error = refused(&error);
                tracing::warn!(%error, "cannot carry out a change of the catalogue yet");
                false
            }
            Err(_) => {
                tracing::warn!("a change of the catalogue takes long to be carried out");
                false
            }
        }
    }

    /// Gives the partitions of changed topics their configs.
    fn configure(&self, before: &Catalogue, after: &Catalogue) {
        for topic in after.topics.values() {
            let same = before
                .topics
                .get(&topic.name)
                .is_some_and(|before| Arc::ptr_eq(&before.config, &topic.config));
            if !same {
                for index in (0..).take(topic.partitions.len()) {
                    self.configure_partition(
                        topic,
                        PartitionId {
                            topic: topic.id,
                            index,
                        },
                    );
                }
            }
        }
    }

    fn configure_partitions(&self, partitions: &[PartitionId]) {
        let catalogue = self.catalogue();
        for id in partitions {
            if let Some(topic) = catalogue.topic_by_id(id.topic) {
                self.configure_partition(topic, *id);
            }
        }
    }

    fn configure_partition(&self, topic: &Topic, id: PartitionId) {
        for log in self.inner.directory.logs_of(id) {
            log.log.set_config(topic.config.log_config());
        }
    }
}

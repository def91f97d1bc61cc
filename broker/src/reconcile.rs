//! Makes the shards carry what the catalogue says: partitions are created in their shards, removed
//! from them, and get their topic's configs.
//!
//! It compares and proposes what is missing, again and again; a crash between a change of the
//! catalogue and its carrying out is mended the same way as an ordinary change is carried out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use storage::partition_log::LogConfig;
use storage::{PartitionId, ShardId};

use crate::Broker;
use crate::broker::refused;
use crate::catalogue::{Catalogue, Topic};
use crate::partition::Partition;
use crate::partition::op::PartitionOp;

/// Partitions in one operation; several operations share an entry.
const PARTITIONS_PER_OPERATION: usize = 1_000;
/// Time between two full comparisons when nothing seems to change.
const FULL_INTERVAL: Duration = Duration::from_secs(5);

/// What one shard lacks and has too much.
#[derive(Debug, Default)]
struct Difference {
    missing: Vec<PartitionId>,
    extra: Vec<PartitionId>,
}

impl Broker {
    /// Runs until it is dropped.
    pub(crate) async fn reconcile_forever(self) {
        let mut images = self.inner.images.clone();
        let mut changes = self.inner.changes.subscribe();
        let mut configured = Arc::new(Catalogue::default());
        loop {
            let image = images.borrow_and_update().clone();
            changes.borrow_and_update();
            self.reconcile().await;
            self.configure(&configured, &image);
            configured = image;
            tokio::select! {
                changed = images.changed() => if changed.is_err() { return },
                changed = changes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(FULL_INTERVAL) => {}
            }
        }
    }

    async fn reconcile(&self) {
        let mut changed = false;
        let differences = self.differences();
        for (shard, difference) in &differences {
            for part in difference.missing.chunks(PARTITIONS_PER_OPERATION) {
                let partitions = part.to_vec();
                changed |= self
                    .carry_out(*shard, PartitionOp::Create { partitions })
                    .await;
            }
            self.configure_partitions(&difference.missing);
        }
        if differences.values().any(|d| !d.extra.is_empty()) {
            changed |= self.delete_extra().await;
        }
        if changed {
            self.inner.changes.send_modify(|changes| *changes += 1);
        }
    }

    /// Deletes what the catalogue no longer has. Not having it yet looks the same, so this node's
    /// picture of it must be as new as what is deleted.
    async fn delete_extra(&self) -> bool {
        // Seen before the barrier: it came into its shard after the catalogue had it.
        let present = self.inner.directory.all();
        if let Err(error) = self.catalogue_is_current().await {
            tracing::warn!(%error, "deleted topics have to wait for the catalogue");
            return false;
        }
        let mut changed = false;
        for (shard, difference) in self.differences_from(&present) {
            for part in difference.extra.chunks(PARTITIONS_PER_OPERATION) {
                let partitions = part.to_vec();
                changed |= self
                    .carry_out(shard, PartitionOp::Delete { partitions })
                    .await;
            }
        }
        changed
    }

    /// What differs in the shards that this node leads.
    fn differences(&self) -> BTreeMap<ShardId, Difference> {
        self.differences_from(&self.inner.directory.all())
    }

    fn differences_from(&self, present: &[Arc<Partition>]) -> BTreeMap<ShardId, Difference> {
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
        for partition in present {
            if catalogue.topic_by_id(partition.id.topic).is_none()
                && let Some(difference) = differences.get_mut(&partition.shard)
            {
                difference.extra.push(partition.id);
            }
        }
        for topic in catalogue.topics.values() {
            for (index, entry) in (0..).zip(&topic.partitions) {
                let id = PartitionId {
                    topic: topic.id,
                    index,
                };
                if let Some(difference) = differences.get_mut(&entry.shard)
                    && !self.inner.directory.contains(id)
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
        match done.await {
            Ok(_) => true,
            Err(error) => {
                let error = refused(&error);
                tracing::warn!(%error, "cannot carry out a change of the catalogue yet");
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
        if let Some(partition) = self.inner.directory.get(id) {
            partition.log.set_config(log_config(topic));
        }
    }
}

fn log_config(topic: &Topic) -> LogConfig {
    LogConfig {
        segment_bytes: u32::try_from(topic.config.segment_bytes).unwrap_or(u32::MAX),
        segment_ms: topic.config.segment_ms,
    }
}

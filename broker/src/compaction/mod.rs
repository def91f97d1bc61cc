//! Compaction: topics of which the last record of each key stays (`cleanup.policy=compact`).
//!
//! Each replica cleans its own segments by itself: `plan.rs` decides what and when, `clean.rs` goes
//! through a partition, `rewrite.rs` says what stays of a batch. Offsets stay what they are, so
//! consensus knows nothing of it, and replicas have the same records but not the same bytes. One
//! partition at a time on a node, at a bounded rate, with a bounded memory.
//!
//! The log goes over to the new segments at once; the old ones are deleted when a checkpoint that
//! names the new ones is the newest. Nothing is deleted while a checkpoint of another node is
//! taken over, which may name the old ones as well.

pub(crate) mod aligned;
mod clean;
#[cfg(test)]
mod cluster_test;
mod offset_map;
mod plan;
pub(crate) mod rewrite;

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use storage::{LogId, ShardId};

use crate::Broker;
use crate::partition::Partition;
use crate::stage::pace::BYTES_PER_SECOND_MIN;
use crate::stage::throttle::Throttle;
use clean::{CleanError, Cleaner};
use plan::{Plan, ROUND_BYTES_MIN, plan};
use rewrite::Rules;

/// How long a partition is left alone that could not be cleaned.
const RETRY_AFTER_MS: i64 = 30_000;
/// The same where nothing failed: it has changed meanwhile, or is not quite in the files yet.
const RETRY_CHANGED_AFTER_MS: i64 = 1_000;
/// Bytes cleaned after which the old files are deleted, before others are cleaned.
const SETTLE_BYTES: u64 = 64 << 20;
/// What is at most taken of what is dirty because it went well before.
const ROUND_BYTES_MAX: u64 = 1 << 40;
/// Partitions that are looked at before others get their turn.
const LOOKS_AT_ONCE: usize = 256;

impl Broker {
    /// Runs until it is dropped.
    pub(crate) async fn compact_forever(self) {
        let config = &self.inner.config;
        let interval = u64::try_from(config.upkeep_interval_ms).unwrap_or(1).max(1);
        let throttle = Throttle::new(config.compaction_bytes_per_second, self.inner.clock.clone());
        let mut retry_at_ms: HashMap<LogId, i64> = HashMap::new();
        // How much of what is dirty is taken next, where it is cleaned in several rounds.
        let mut rounds: HashMap<LogId, u64> = HashMap::new();
        let mut has_more = false;
        loop {
            if !has_more {
                tokio::time::sleep(Duration::from_millis(interval)).await;
            }
            has_more = false;
            let mut bytes = 0;
            let dirty = self.dirty_ones().await;
            let is_dirty = |log: &LogId| dirty.iter().any(|(one, _)| one.log_id() == *log);
            rounds.retain(|log, _| is_dirty(log));
            let now_ms = self.inner.clock.monotonic_ms();
            retry_at_ms.retain(|_, at| *at > now_ms);
            for (partition, _) in dirty {
                let log = partition.log_id();
                if retry_at_ms.contains_key(&log) {
                    continue;
                }
                // It may have come differently while others were cleaned.
                let round = rounds.entry(log).or_insert(ROUND_BYTES_MIN);
                let Some(plan) = self.plan_of(&partition, *round) else {
                    continue;
                };
                let cleaned = self.clean(&partition, plan, &throttle).await;
                has_more |= cleaned.is_ok() && plan.has_more;
                *round = match cleaned.is_ok() && plan.has_more {
                    true => round.saturating_mul(2).min(ROUND_BYTES_MAX),
                    false => ROUND_BYTES_MIN,
                };
                if let Err(error) = cleaned {
                    let now_ms = self.inner.clock.monotonic_ms();
                    let after_ms = match error {
                        CleanError::Changed => RETRY_CHANGED_AFTER_MS,
                        _ => RETRY_AFTER_MS,
                    };
                    retry_at_ms.insert(log, now_ms.saturating_add(after_ms));
                    match error {
                        CleanError::Changed => {}
                        error => tracing::warn!(partition = %partition.id, %error,
                            "cannot compact a partition; it is tried again later"),
                    }
                }
                bytes += plan.bytes;
                if bytes > SETTLE_BYTES {
                    bytes = 0;
                    self.settle_all().await;
                }
            }
            self.settle_all().await;
        }
    }

    /// Partitions on this node that have something to clean, the dirtiest first.
    async fn dirty_ones(&self) -> Vec<(Arc<Partition>, Plan)> {
        let catalogue = self.catalogue();
        let is_compacted = |partition: &Partition| {
            let topic = catalogue.topic_by_id(partition.id.topic);
            topic.is_some_and(|topic| topic.config.cleanup.compacts)
        };
        let mut dirty = Vec::new();
        let here = self.inner.directory.select(is_compacted);
        for some in here.chunks(LOOKS_AT_ONCE) {
            let planned = some
                .iter()
                .filter_map(|one| Some((Arc::clone(one), self.plan_of(one, ROUND_BYTES_MIN)?)));
            dirty.extend(planned);
            tokio::task::yield_now().await;
        }
        dirty.sort_by_key(|(_, plan)| Reverse(plan.dirty_millionths));
        dirty
    }

    fn plan_of(&self, partition: &Partition, round_bytes: u64) -> Option<Plan> {
        let catalogue = self.catalogue();
        let topic = catalogue.topic_by_id(partition.id.topic)?;
        // What is damaged is mended first.
        if !topic.config.cleanup.compacts || partition.log.failed().is_some() {
            return None;
        }
        let now_ms = self.inner.clock.wall_ms();
        plan(
            &topic.config,
            &partition.log.segments(),
            now_ms,
            round_bytes,
        )
    }

    async fn clean(
        &self,
        partition: &Arc<Partition>,
        plan: Plan,
        throttle: &Throttle,
    ) -> Result<(), CleanError> {
        let catalogue = self.catalogue();
        let topic = catalogue.topic_by_id(partition.id.topic);
        let config = topic.ok_or(CleanError::Changed)?.config.clone();
        let catch_up = &self.inner.catch_up;
        let cleaner = Cleaner {
            partition: Arc::clone(partition),
            memory_bytes: self.inner.config.compaction_memory_bytes,
            segment_bytes: u64::try_from(config.segment_bytes).unwrap_or(u64::MAX),
            rules: Rules {
                upto: 0,
                now_ms: self.inner.clock.wall_ms(),
                delete_retention_ms: config.delete_retention_ms,
                keeps_tombstones: false,
            },
            keeps_tombstones: &|| catch_up.was_copied_from(self.inner.config.compaction_copied_ms),
            throttle,
            pace: catch_up.pace(),
            bytes_per_second_min: BYTES_PER_SECOND_MIN * plan.urgency(),
        };
        let began_ms = self.inner.clock.monotonic_ms();
        let cleaned = cleaner.clean(plan).await?;
        let took_ms = self.inner.clock.monotonic_ms().saturating_sub(began_ms);
        tracing::info!(partition = %partition.id, records = cleaned.records,
            bytes_before = cleaned.bytes_before, bytes_after = cleaned.bytes_after,
            segments_before = cleaned.segments_before, segments_after = cleaned.segments_after,
            passes = cleaned.passes, took_ms, "compacted a partition");
        Ok(())
    }

    /// Deletes what was replaced, shard by shard.
    async fn settle_all(&self) {
        let has_replaced = |one: &Partition| !one.log.replaced_files().is_empty();
        let partitions = self.inner.directory.select(has_replaced);
        let shards: BTreeSet<ShardId> = partitions.iter().map(|one| one.shard).collect();
        for shard in shards {
            let here = partitions.iter().filter(|one| one.shard == shard);
            self.settle(shard, here.cloned().collect()).await;
        }
    }

    /// Makes a checkpoint that names the new files, and deletes the old ones.
    async fn settle(&self, id: ShardId, partitions: Vec<Arc<Partition>>) {
        let Some(shard) = self.data_shard(id) else {
            return;
        };
        let holds = self.inner.catch_up.holds(id);
        let Some(before) = holds.none_since() else {
            return;
        };
        // A checkpoint drops journal that a follower needs which takes one over.
        if shard.shard.has_followers_staging() {
            return;
        }
        let replaced: Vec<_> = partitions
            .into_iter()
            .map(|one| (one.log.replaced_files(), one))
            .collect();
        if let Err(error) = shard.shard.checkpoint().await {
            tracing::debug!(shard = %id, %error, "what compaction replaced stays for now");
            return;
        }
        // One that was taken over meanwhile may name the old files, and be the newest.
        if holds.none_since() != Some(before) {
            return;
        }
        let deleting = net::blocking(move || {
            for (files, partition) in replaced {
                if let Err(error) = partition.log.delete_replaced(&files) {
                    tracing::warn!(partition = %partition.id, %error,
                        "cannot delete what compaction replaced");
                }
            }
        });
        if deleting.await.is_err() {
            tracing::error!(shard = %id, "deleting what compaction replaced panicked");
        }
    }
}

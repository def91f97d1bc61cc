//! What is looked at now and then: retention by age and by size.
//!
//! The leader decides and proposes a higher log start; every replica then drops the segments below
//! it. A failing partition is reported once and left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use storage::partition_log::SegmentInfo;
use storage::{Offset, PartitionId, ShardId};

use crate::partition::Partition;
use crate::partition::op::PartitionOp;
use crate::{Broker, TopicConfig};

/// How long raising a log start may take; after that its shard is left alone until the next time.
const RAISE_MAX: Duration = Duration::from_secs(5);
/// Partitions that are looked at before others get their turn.
const LOOKS_AT_ONCE: usize = 256;

impl Broker {
    /// Runs until it is dropped.
    pub(crate) async fn upkeep_forever(self) {
        let interval = u64::try_from(self.inner.config.upkeep_interval_ms)
            .unwrap_or(1)
            .max(1);
        loop {
            tokio::time::sleep(Duration::from_millis(interval)).await;
            let mut shards: BTreeMap<ShardId, Vec<Arc<Partition>>> = BTreeMap::new();
            for partition in self.expired_ones().await {
                let shard = shards.entry(partition.shard).or_default();
                shard.push(partition);
            }
            let shards = shards.into_values();
            join_all(shards.map(|partitions| self.retain_all(partitions))).await;
        }
    }

    /// Partitions that this node leads and whose oldest segments are to go. There may be tens of
    /// thousands of which none are: nothing else is done for each.
    async fn expired_ones(&self) -> Vec<Arc<Partition>> {
        let shards = self.shards().into_iter();
        let led = shards.filter(|(_, shard)| shard.leadership.borrow().serving);
        let led: BTreeSet<ShardId> = led.map(|(id, _)| id).collect();
        if led.is_empty() {
            return Vec::new();
        }
        let (catalogue, now_ms) = (self.catalogue(), self.inner.clock.wall_ms());
        let directory = &self.inner.directory;
        let here = directory.select(|partition| led.contains(&partition.shard));
        let mut expired_ones = Vec::new();
        for some in here.chunks(LOOKS_AT_ONCE) {
            let is_expired = |partition: &&Arc<Partition>| {
                let topic = catalogue.topic_by_id(partition.id.topic);
                topic.is_some_and(|topic| retained(&topic.config, partition, now_ms).is_some())
            };
            expired_ones.extend(some.iter().filter(is_expired).cloned());
            tokio::task::yield_now().await;
        }
        expired_ones
    }

    /// One shard's partitions; a shard that is stuck holds up itself only.
    async fn retain_all(&self, partitions: Vec<Arc<Partition>>) {
        for partition in partitions {
            if tokio::time::timeout(RAISE_MAX, self.retain(&partition))
                .await
                .is_err()
            {
                tracing::warn!(shard = %partition.shard, "retention takes long and has to wait");
                return;
            }
        }
    }

    async fn retain(&self, partition: &Arc<Partition>) {
        let Ok((led, shard, _)) = self.led(partition.id) else {
            return;
        };
        if led.log_id() != partition.log_id() {
            // It moves, or has: another log of it is the one that counts.
            return;
        }
        let catalogue = self.catalogue();
        let Some(topic) = catalogue.topic_by_id(partition.id.topic) else {
            return;
        };
        let now_ms = self.inner.clock.wall_ms();
        let Some(to) = retained(&topic.config, partition, now_ms) else {
            return;
        };
        let op = PartitionOp::RaiseStart {
            partition: partition.id,
            to,
        }
        .encode();
        let raised = async { shard.shard.submit(op).await?.await };
        match raised.await {
            Ok(_) => log_raised(partition.id, to),
            Err(error) => {
                tracing::warn!(partition = %partition.id, %error, "retention has to wait");
            }
        }
    }
}

fn log_raised(partition: PartitionId, to: Offset) {
    tracing::info!(%partition, log_start = %to, "retention deleted old segments");
}

/// The log start that retention asks for now, when it is above the present one.
fn retained(config: &TopicConfig, partition: &Partition, now_ms: i64) -> Option<Offset> {
    let log = &partition.log;
    let keeps_all = config.retention_ms < 0 && config.retention_bytes < 0;
    if !config.cleanup.deletes || keeps_all || log.start_offset() == log.end_offset() {
        return None;
    }
    expired(config, &log.segments(), now_ms)
}

/// The log start that retention asks for, when it is above the present one: the end of the last of
/// the oldest segments that are all too old, or that are over the size together.
fn expired(config: &TopicConfig, segments: &[SegmentInfo], now_ms: i64) -> Option<Offset> {
    let too_old = |at: &usize| {
        let newest_ms = newest_ms(segments, *at);
        config.retention_ms >= 0
            && segments[*at].end > segments[*at].base
            && newest_ms.is_some_and(|newest| now_ms.saturating_sub(newest) > config.retention_ms)
    };
    let by_age = (0..segments.len()).take_while(too_old).count();
    let mut size: u64 = segments.iter().map(|segment| segment.bytes).sum();
    let limit = u64::try_from(config.retention_bytes).ok();
    let too_much = |segment: &&SegmentInfo| {
        // A segment goes only if the limit is still reached without it, and never the active one.
        let goes = limit.is_some_and(|limit| segment.sealed && size - segment.bytes >= limit);
        size -= segment.bytes;
        goes
    };
    let by_size = segments.iter().take_while(too_much).count();
    let count = by_age.max(by_size);
    segments[..count].last().map(|segment| segment.end)
}

/// The time of a segment's newest record; where records have none, the time by which the last of
/// them was there: when the next segment was begun. `None` while that is not known.
pub(crate) fn newest_ms(segments: &[SegmentInfo], at: usize) -> Option<i64> {
    let newest = segments[at].max_timestamp;
    let next = segments.get(at + 1);
    (newest >= 0)
        .then_some(newest)
        .or(next.map(|next| next.created_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments() -> Vec<SegmentInfo> {
        let segment = |n: i64| SegmentInfo {
            base: Offset(n * 10),
            end: Offset(n * 10 + 10),
            bytes: 100,
            max_timestamp: n * 1_000,
            created_ms: n * 1_000,
            sealed: n < 3,
            written: true,
            compacted: false,
            cleaned: false,
        };
        (0..4).map(segment).collect()
    }

    fn config(retention_ms: i64, retention_bytes: i64) -> TopicConfig {
        TopicConfig {
            retention_ms,
            retention_bytes,
            ..TopicConfig::default()
        }
    }

    #[test]
    fn segments_go_when_their_newest_record_is_too_old() {
        assert_eq!(
            expired(&config(1_500, -1), &segments(), 3_000),
            Some(Offset(20))
        );
        assert_eq!(
            expired(&config(0, -1), &segments(), 99_000),
            Some(Offset(40))
        );
        assert_eq!(expired(&config(-1, -1), &segments(), 99_000), None);
        assert_eq!(expired(&config(9_000, -1), &segments(), 3_000), None);
    }

    #[test]
    fn segments_go_while_the_rest_still_fills_the_size() {
        assert_eq!(expired(&config(-1, 300), &segments(), 0), Some(Offset(10)));
        assert_eq!(expired(&config(-1, 250), &segments(), 0), Some(Offset(10)));
        assert_eq!(expired(&config(-1, 301), &segments(), 0), None);
        assert_eq!(expired(&config(-1, 0), &segments(), 0), Some(Offset(30)));
    }

    #[test]
    fn what_is_only_compacted_is_never_too_old() {
        use std::path::Path;

        use storage::clock::Clock;
        use storage::disk::{Disk, SimDisk};
        use storage::store::{LogStore, LogStoreConfig};
        use storage::{ShardId, TopicId};

        use crate::partition::manifest::Stand;
        use crate::record::{BatchProducer, Compression, Record, encode_batch};
        use crate::topic_config::CleanupPolicy;

        let disk = Disk::Sim(SimDisk::new(1));
        let config_of_store = LogStoreConfig::new(Path::new("/partitions").into());
        let logs = LogStore::open(&disk, &Clock::manual(0), config_of_store).expect("opens");
        let id = PartitionId {
            topic: TopicId([1; 16]),
            index: 0,
        };
        let log = logs.create(id, storage::partition_log::LogConfig::default(), Offset(0));
        let batch = encode_batch(
            &[Record::default()],
            Compression::None,
            BatchProducer::default(),
        );
        let header = storage::batch::BatchHeader::parse(&batch).expect("a batch");
        log.append(batch, &header, storage::LeaderEpoch(1), 0);
        let partition = Partition::new(ShardId(1), (0, Stand::Serving), log, Arc::default());
        let to = |deletes, compacts| {
            let config = TopicConfig {
                cleanup: CleanupPolicy { deletes, compacts },
                ..config(1_000, -1)
            };
            retained(&config, &partition, 99_000)
        };
        assert_eq!(to(true, false), Some(Offset(1)));
        assert_eq!(to(true, true), Some(Offset(1)));
        assert_eq!(to(false, true), None);
        logs.close();
    }

    #[test]
    fn records_without_a_time_are_as_old_as_the_segment_after_them() {
        let mut segments = segments();
        for segment in &mut segments {
            segment.max_timestamp = -1;
        }
        assert_eq!(expired(&config(1_500, -1), &segments, 2_000), None);
        assert_eq!(
            expired(&config(1_500, -1), &segments, 4_000),
            Some(Offset(20))
        );
        let never = expired(&config(1_500, -1), &segments, i64::MAX);
        assert_eq!(never, Some(Offset(30)), "the active one stays");
    }
}

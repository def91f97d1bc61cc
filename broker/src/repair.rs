//! Mends damaged segments: their batches are fetched from another replica, byte for byte the same,
//! or, where compaction has made them differ, the same offsets of all that was compacted.
//!
//! Damage is found by reads and by checks; until it is mended, what is damaged is refused here, and
//! what is intact is served. A segment for which no replica has intact bytes stays as it is, said
//! loudly and tried again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use storage::batch::BatchHeader;
use storage::partition_log::{SegmentInfo, SegmentRepair, SegmentReplacement, TombstoneView};
use storage::{LogId, NodeId, Offset};

use crate::Broker;
use crate::partition::Partition;
use crate::stage::Ranges;
use crate::stage::fitting::Fitting;
use crate::stage::range::{RangeAnswer, ReadRange};
use crate::stage::serve::RANGE_BYTES_MAX;

/// Time between two looks for damage.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Time after which a segment that could not be mended is tried again.
const RETRY_AFTER_MS: i64 = 10_000;

impl Broker {
    /// Runs until it is dropped.
    pub(crate) async fn repair_forever(self) {
        let mut retry_at_ms: HashMap<(LogId, Offset), i64> = HashMap::new();
        let mut seen = None;
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let notes = self.inner.logs.damage_notes();
            if seen.replace(notes) == Some(notes) && retry_at_ms.is_empty() {
                continue;
            }
            let damaged: Vec<(Arc<Partition>, SegmentInfo)> = self
                .inner
                .directory
                .select(|partition| partition.log.is_damaged())
                .into_iter()
                .flat_map(|partition| {
                    let segments = partition.log.damaged_segments();
                    segments
                        .into_iter()
                        .map(move |segment| (Arc::clone(&partition), segment))
                })
                .collect();
            retry_at_ms.retain(|(id, base), _| {
                let is_it = |(partition, segment): &(Arc<Partition>, SegmentInfo)| {
                    partition.log_id() == *id && segment.base == *base
                };
                damaged.iter().any(is_it)
            });
            for (partition, segment) in damaged {
                let now_ms = self.inner.clock.monotonic_ms();
                let key = (partition.log_id(), segment.base);
                if retry_at_ms.get(&key).is_some_and(|at| *at > now_ms) {
                    continue;
                }
                if !self.repair(&partition, segment).await {
                    retry_at_ms.insert(key, now_ms.saturating_add(RETRY_AFTER_MS));
                }
            }
        }
    }

    /// Asks one replica after the other; says whether one had what is needed.
    async fn repair(&self, partition: &Arc<Partition>, segment: SegmentInfo) -> bool {
        let id = partition.id;
        let (base, end) = (segment.base, segment.end);
        tracing::warn!(partition = %id, %base, %end, bytes = segment.bytes,
            "mending a damaged segment");
        let others = self.other_replicas(partition);
        let ranges = self.inner.catch_up.ranges();
        for node in &others {
            let mended = match segment.compacted {
                true => Err("it was compacted here".to_owned()),
                false => repair_from(ranges, *node, partition, base).await,
            };
            let mended = match mended {
                Err(reason) if self.is_compacted(partition, &segment) => {
                    let anew = copy_anew(ranges, *node, partition, end).await;
                    anew.map_err(|other| format!("{reason}; {other}"))
                }
                mended => mended,
            };
            match mended {
                Ok(bytes) => {
                    tracing::info!(partition = %id, %base, from = %node, bytes,
                        "a damaged segment is whole again");
                    return true;
                }
                Err(reason) => {
                    tracing::warn!(partition = %id, %base, from = %node, %reason,
                        "a replica cannot mend a damaged segment");
                }
            }
        }
        tracing::error!(partition = %id, %base, %end, asked = others.len(),
            "no replica can mend a damaged segment: what is damaged stays refused here");
        false
    }

    /// Whether replicas need not have the same bytes of a segment.
    fn is_compacted(&self, partition: &Partition, segment: &SegmentInfo) -> bool {
        let catalogue = self.catalogue();
        let topic = catalogue.topic_by_id(partition.id.topic);
        let compacts = topic.is_some_and(|topic| topic.config.cleanup.compacts);
        segment.sealed && (segment.compacted || compacts)
    }

    /// The other replicas of a partition's shard, those that seem alive first.
    fn other_replicas(&self, partition: &Partition) -> Vec<NodeId> {
        let catalogue = self.catalogue();
        let shard = catalogue.shards.get(&partition.shard);
        let mut others: Vec<NodeId> = shard.map_or_else(Vec::new, |shard| shard.replicas.clone());
        others.retain(|node| *node != self.node_id());
        others.sort_by_key(|node| !self.is_alive(*node));
        others
    }
}

/// Copies the segment at `base` from a node and puts it into place; returns its bytes.
pub(crate) async fn repair_from(
    ranges: &Ranges,
    node: NodeId,
    partition: &Arc<Partition>,
    base: Offset,
) -> Result<u64, String> {
    let log = partition.log.clone();
    let mut repair: SegmentRepair = blocking(move || log.begin_repair(base)).await?;
    let (limit, is_known) = (repair.target_end(), repair.is_digest_known());
    let mut bytes = 0;
    while repair.end() < limit {
        let range = ReadRange {
            shard: partition.shard,
            partition: partition.id,
            from: repair.end(),
            limit,
            bytes_max: u32::try_from(RANGE_BYTES_MAX).unwrap_or(u32::MAX),
        };
        let (answer, room) = ranges.fetch(node, range).await?;
        let (batches, gone) = batches_of(answer)?;
        if gone.is_some() && !is_known {
            return Err("compaction has dropped tombstones there".to_owned());
        }
        bytes += batches.len() as u64;
        let before = repair.end();
        repair = blocking(move || {
            let appended = repair.append(&batches);
            drop((batches, room));
            appended.map(|()| repair)
        })
        .await?;
        if repair.end() == before {
            return Err(format!("its batches end at {before}"));
        }
    }
    blocking(move || repair.finish()).await?;
    Ok(bytes)
}

/// Copies everything from a node that compaction has been through, and at least up to `end`, and
/// puts it into place; returns its bytes. Less will not do: of two replicas one may have dropped a
/// tombstone, and the other still have what it deletes. Together they fit if they are of one.
pub(crate) async fn copy_anew(
    ranges: &Ranges,
    node: NodeId,
    partition: &Arc<Partition>,
    end: Offset,
) -> Result<u64, String> {
    let log = partition.log.clone();
    let segments = log.segments();
    let first = segments.first().ok_or("the log is empty now")?.base;
    let cleaned = segments.iter().filter(|one| one.cleaned || one.compacted);
    let to = cleaned
        .map(|one| one.end)
        .max()
        .map_or(end, |to| to.max(end));
    let start = log.start_offset();
    let mut copy: SegmentReplacement = blocking(move || log.begin_replacement(first, to)).await?;
    let mut bytes = 0;
    let mut fitting = Fitting::default();
    while copy.end() < to {
        let range = ReadRange {
            shard: partition.shard,
            partition: partition.id,
            from: copy.end().max(start),
            limit: to,
            bytes_max: u32::try_from(RANGE_BYTES_MAX).unwrap_or(u32::MAX),
        };
        let (answer, room) = ranges.fetch(node, range).await?;
        let (batches, gone) = batches_of(answer)?;
        fitting.take(gone).map_err(|error| error.to_string())?;
        bytes += batches.len() as u64;
        let before = copy.end();
        copy = blocking(move || -> Result<SegmentReplacement, String> {
            let header = BatchHeader::parse(&batches).map_err(|error| error.to_string())?;
            // Below the log start there may be less of it than here.
            copy.fill_to(Offset(header.base_offset).min(start))
                .map_err(|error| error.to_string())?;
            let appended = copy.append(&batches);
            drop((batches, room));
            appended.map(|()| copy).map_err(|error| error.to_string())
        })
        .await?;
        if copy.end() == before {
            return Err(format!("its batches end at {before}"));
        }
    }
    copy.is_copied(fitting.gone_below().min(to));
    match blocking(move || copy.finish()).await? {
        true => Ok(bytes),
        false => Err("the log has changed meanwhile".to_owned()),
    }
}

fn batches_of(answer: RangeAnswer) -> Result<(Bytes, Option<TombstoneView>), String> {
    match answer {
        RangeAnswer::Batches { batches, gone, .. } => Ok((batches, gone)),
        RangeAnswer::Deleted { start } => Err(format!("its log begins at {start}")),
        RangeAnswer::Behind { end } => Err(format!("its log ends at {end}")),
        RangeAnswer::NoSuchPartition { .. } => Err("it does not carry the partition".to_owned()),
        RangeAnswer::Failed { reason } => Err(reason),
    }
}

async fn blocking<T: Send + 'static, E: ToString + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, String> {
    match net::blocking(work).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

//! The serving side: ranges of committed logs for replicas that lack them.
//!
//! Any replica serves what it has, since its log holds committed data only. Few ranges are read at
//! once, they give way while this node's own writes wait, and their pace follows what producers
//! notice of them (`pace.rs`).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use storage::clock::Clock;
use storage::partition_log::{PartitionLog, ReadBatches, ReadError, TombstoneView};
use storage::store::LogStore;
use storage::{Offset, ShardId};
use tokio::sync::Semaphore;

use super::pace::Pace;
use super::range::{RangeAnswer, ReadRange};
use crate::compaction::aligned::read_aligned;
use crate::partition::{Directory, Partition};

/// Bytes of one answer, batches larger than this aside.
pub(crate) const RANGE_BYTES_MAX: usize = 4 << 20;
/// Ranges that are read at the same time.
const READS_MAX: usize = 2;
/// Bytes waiting for this node's segment writer at which reads for others give way,
const BUSY_BYTES: usize = 8 << 20;
/// for this long each time,
const GIVE_WAY: Duration = Duration::from_millis(2);
/// and so many times at most: a busy node still serves.
const GIVE_WAY_MAX: usize = 25;

/// Answers [`ReadRange`]. Clones share their limits.
#[derive(Clone)]
pub(crate) struct RangeServer {
    directory: Directory,
    logs: LogStore,
    reads: Arc<Semaphore>,
    pace: Arc<Pace>,
    clock: Clock,
    /// When a range was served last, milliseconds; before all times: never.
    served_ms: Arc<AtomicI64>,
}

impl fmt::Debug for RangeServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RangeServer").finish_non_exhaustive()
    }
}

impl RangeServer {
    pub(crate) fn new(directory: Directory, logs: LogStore, clock: Clock) -> RangeServer {
        RangeServer {
            directory,
            logs,
            reads: Arc::new(Semaphore::new(READS_MAX)),
            pace: Arc::new(Pace::new(clock.clone())),
            clock,
            served_ms: Arc::new(AtomicI64::new(i64::MIN)),
        }
    }

    pub(crate) fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Whether a range was served within the last milliseconds.
    pub(crate) fn has_served(&self, within_ms: i64) -> bool {
        let served_ms = self.served_ms.load(Ordering::Relaxed);
        self.clock.monotonic_ms().saturating_sub(served_ms) < within_ms
    }

    /// Answers an encoded request; only for members of the cluster. `leads` says whether this node
    /// leads a shard and serves.
    pub(crate) fn answer(
        &self,
        request: Bytes,
        leads: &dyn Fn(ShardId) -> bool,
    ) -> BoxFuture<'static, Bytes> {
        let server = self.clone();
        let range = ReadRange::decode(request);
        // Asked first: who leads has applied everything, so what it lacks then has been deleted.
        let leads = range.as_ref().is_ok_and(|range| leads(range.shard));
        Box::pin(async move {
            match range {
                Ok(range) => server.read(range, leads).await,
                Err(error) => failed(format!("malformed request: {error}")),
            }
        })
    }

    async fn read(&self, range: ReadRange, leads: bool) -> Bytes {
        let Some(partition) = self.directory.get_in(range.shard, range.partition) else {
            return RangeAnswer::NoSuchPartition { leads }.encode();
        };
        let now_ms = self.clock.monotonic_ms();
        self.served_ms.store(now_ms, Ordering::Relaxed);
        let permit = self.reads.acquire().await;
        let _permit = permit.expect("the semaphore is never closed");
        self.give_way().await;
        let expected = usize::try_from(range.bytes_max).unwrap_or(RANGE_BYTES_MAX);
        self.pace.turn(expected.min(RANGE_BYTES_MAX)).await;
        let reading = net::blocking(move || {
            let read = read_range(&partition, &range);
            (read, partition.is_superseded())
        });
        match reading.await {
            Ok((Ok(answer), _)) => answer,
            Ok((Err(_), true)) => failed("the partition is being replaced".to_owned()),
            Ok((Err(answer), false))
                if self
                    .directory
                    .get_in(range.shard, range.partition)
                    .is_some() =>
            {
                answer.encode()
            }
            Ok((Err(_), false)) => RangeAnswer::NoSuchPartition { leads }.encode(),
            Err(error) => failed(format!("reading panicked: {error}")),
        }
    }

    async fn give_way(&self) {
        for _ in 0..GIVE_WAY_MAX {
            if self.logs.queued_bytes() < BUSY_BYTES {
                return;
            }
            tokio::time::sleep(GIVE_WAY).await;
        }
    }
}

fn failed(reason: String) -> Bytes {
    RangeAnswer::Failed { reason }.encode()
}

/// The encoded batches, or what else to answer.
fn read_range(partition: &Partition, range: &ReadRange) -> Result<Bytes, RangeAnswer> {
    let log = &partition.log;
    if range.from > log.end_offset() {
        let end = log.end_offset();
        return Err(RangeAnswer::Behind { end });
    }
    let bytes_max = usize::try_from(range.bytes_max)
        .unwrap_or(RANGE_BYTES_MAX)
        .min(RANGE_BYTES_MAX);
    let limit = range.limit.min(log.end_offset());
    match read_of_one_view(log, range.from, limit, bytes_max) {
        Ok((ReadBatches { batches, next, .. }, gone)) => {
            Ok(RangeAnswer::encode_batches(next, gone, &batches))
        }
        Err(ReadError::OutOfRange { start, .. }) if range.from < start => {
            Err(RangeAnswer::Deleted { start })
        }
        Err(error) => Err(RangeAnswer::Failed {
            reason: error.to_string(),
        }),
    }
}

/// Batches, and the tombstones that had been dropped when they were read, unless none of those may
/// be in the range.
fn read_of_one_view(
    log: &PartitionLog,
    from: Offset,
    limit: Offset,
    bytes_max: usize,
) -> Result<(ReadBatches, Option<TombstoneView>), ReadError> {
    let mut before = log.tombstones();
    loop {
        let read = read_aligned(log, from, limit, bytes_max)?;
        let after = log.tombstones();
        if after.gone_below <= from {
            return Ok((read, None));
        }
        // It was cleaned meanwhile, which happens once in a long while.
        if after == before {
            return Ok((read, Some(after)));
        }
        before = after;
    }
}

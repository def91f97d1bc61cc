//! Reading committed batches, waiting for more when there are too few.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use raft::Leadership;
use storage::partition_log::{ReadBatches, ReadError};
use storage::{LeaderEpoch, NodeId, Offset, PartitionId};

use crate::list_offsets::end_offset_for_epoch;
use crate::partition::Partition;
use crate::partition::manifest::Stand;
use crate::partition::waiters::Waiter;
use crate::{Broker, BrokerError, ByteBudget, ByteShare};

/// What a reader may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Everything below the high watermark.
    ReadUncommitted,
    /// Everything below the last stable offset.
    ReadCommitted,
}

/// One partition of a fetch.
#[derive(Debug, Clone)]
pub struct FetchPartition {
    /// The partition.
    pub partition: PartitionId,
    /// First offset wanted.
    pub offset: Offset,
    /// The leader epoch the client believes in; `None` skips the check (Kafka's -1).
    pub current_leader_epoch: Option<LeaderEpoch>,
    /// Epoch of the last record the client has, to detect a diverged log (KIP-595); `None` skips it.
    pub last_fetched_epoch: Option<LeaderEpoch>,
    /// At most this many bytes, except that a first batch is always whole.
    pub bytes_max: usize,
}

/// A fetch of several partitions.
#[derive(Debug, Clone)]
pub struct FetchRequest {
    /// What to read, in the order of preference for the byte budget.
    pub partitions: Vec<FetchPartition>,
    /// Wait until this many bytes are there, over all partitions,
    pub bytes_min: usize,
    /// return about this many at most (the first non-empty batch is always returned whole),
    pub bytes_max: usize,
    /// and wait no longer than this. 0 does not wait.
    pub wait_ms_max: i64,
    /// What may be seen.
    pub isolation: Isolation,
    /// Whether others than the leader may answer (KIP-392): `None` asks the leader alone; `Some` is
    /// the reader's rack, empty when it has none.
    pub client_rack: Option<String>,
}

/// What one partition of a fetch came to.
#[derive(Debug, Clone)]
pub struct FetchedPartition {
    /// The partition.
    pub partition: PartitionId,
    /// High watermark: the end of the committed log.
    pub high_watermark: Offset,
    /// Last stable offset (equal to the high watermark while no transaction is open).
    pub last_stable_offset: Offset,
    /// First offset that exists.
    pub log_start: Offset,
    /// Whole batches in the order of the log; each `Bytes` holds one or more. May start before the
    /// asked offset when it lies inside a batch. Empty is no error.
    pub batches: Vec<Bytes>,
    /// Set when `last_fetched_epoch` does not fit the log: the epoch and the end offset to cut to.
    pub diverging: Option<(LeaderEpoch, Offset)>,
    /// A replica in the reader's rack that it should read from instead; then there are no batches.
    pub preferred_read_replica: Option<NodeId>,
}

/// What a fetch of several partitions came to: one result a partition, in the request's order.
pub type Fetched = Vec<(PartitionId, Result<FetchedPartition, BrokerError>)>;

/// Least room for a fetch that takes part of what it wants, since the rest is taken.
const SHORT_READ_BYTES_MIN: usize = 1 << 20;
/// What a fetch may read when there is no room at all, so that readers of a few records are served
/// whatever the others do.
const FREE_READ_BYTES: usize = 64 << 10;
/// Partitions of one fetch that are looked at before others get a turn.
const PARTITIONS_PER_TURN: usize = 256;
/// Times that a partition is looked up again because another log took its place.
const REPLACED_READS_MAX: usize = 3;
/// How long a fetch is held up that may not wait, because too many do: clients ask again at once.
const CROWDED_WAIT: Duration = Duration::from_millis(100);

impl Broker {
    /// Reads, waiting as the request says. An error in any partition ends the wait. When too many
    /// fetches wait already, the answer comes early. Dropping the future gives the wait up.
    pub async fn fetch(&self, request: FetchRequest) -> Fetched {
        let (fetched, _) = self.fetch_within(request, &ByteBudget::unlimited()).await;
        fetched
    }

    /// Like [`Broker::fetch`], with room for what is read taken from `budget` before it is read.
    /// What comes back is covered by the share, or is no more than 64 KiB when there was no room.
    /// Nothing is held while waiting. When room is short less is read than the request allows; a
    /// first batch that does not fit waits for room, also beyond the request's wait.
    pub async fn fetch_within(
        &self,
        request: FetchRequest,
        budget: &ByteBudget,
    ) -> (Fetched, ByteShare) {
        let wait = Duration::from_millis(u64::try_from(request.wait_ms_max).unwrap_or(0));
        let deadline = tokio::time::sleep(wait);
        tokio::pin!(deadline);
        let mut stopping = self.stopping();
        let mut waiting: Option<Waiting> = None;
        let mut is_last = wait.is_zero();
        loop {
            let (read, share) = self.read_within(&request, budget).await;
            if is_last || read.is_enough(&request) || self.is_stopping() {
                return (read.partitions, share);
            }
            let bytes = read.bytes;
            drop((read, share));
            let missing = request.bytes_min.saturating_sub(bytes);
            let Some(waiting) = &mut waiting else {
                if self.start_waiting() {
                    // What comes before it is entered shows when it is read again.
                    waiting = Some(Waiting::enter(self, &request, bytes, missing));
                } else {
                    is_last = true;
                    tokio::select! {
                        () = tokio::time::sleep(CROWDED_WAIT.min(wait)) => {}
                        _ = stopping.changed() => {}
                    }
                }
                continue;
            };
            if waiting.bytes != Some(bytes) {
                // What came while it was read does not count for the new target: read once more.
                waiting.bytes = Some(bytes);
                waiting.waiter.rearm(missing);
                continue;
            }
            tokio::select! {
                () = waiting.waiter.woken() => waiting.bytes = None,
                () = &mut deadline => is_last = true,
                _ = stopping.changed() => {}
            }
        }
    }

    /// Reads as much as there is room for.
    async fn read_within(&self, request: &FetchRequest, budget: &ByteBudget) -> (Read, ByteShare) {
        let asked = request
            .partitions
            .iter()
            .fold(0, |sum: usize, wanted| sum.saturating_add(wanted.bytes_max));
        let wanted = asked.min(request.bytes_max).max(SHORT_READ_BYTES_MIN);
        let mut least = SHORT_READ_BYTES_MIN;
        let mut share = match budget.try_take(least, wanted) {
            Some(share) => share,
            None => {
                let leave = budget.unsure_read().await;
                let read = self.read_all(request, FREE_READ_BYTES).await;
                if read.bytes <= FREE_READ_BYTES {
                    return (read, ByteShare::default());
                }
                least = least.max(read.bytes);
                drop((read, leave));
                budget.take(least, wanted).await
            }
        };
        loop {
            let leave = match share.bytes() < wanted {
                true => Some(budget.unsure_read().await),
                false => None,
            };
            let read = self.read_all(request, share.bytes()).await;
            if read.bytes <= share.bytes() || share.bytes() == budget.share_bytes_max() {
                share.shrink(read.bytes);
                return (read, share);
            }
            // The first batch alone is larger: it waits for its room outside of memory.
            least = read.bytes;
            drop((read, leave, share));
            share = budget.take(least, wanted).await;
        }
    }

    async fn read_all(&self, request: &FetchRequest, room: usize) -> Read {
        let bytes_max = request.bytes_max.min(room);
        let mut read = Read {
            partitions: Vec::with_capacity(request.partitions.len()),
            bytes: 0,
            bytes_max,
            failed: false,
        };
        for (position, wanted) in request.partitions.iter().enumerate() {
            if position % PARTITIONS_PER_TURN == PARTITIONS_PER_TURN - 1 {
                tokio::task::yield_now().await;
            }
            let room = bytes_max.saturating_sub(read.bytes);
            let rack = request.client_rack.as_deref();
            let result = self.read_one(wanted, rack, room, read.bytes == 0).await;
            match &result {
                Ok(fetched) => {
                    read.bytes += fetched.batches.iter().map(Bytes::len).sum::<usize>();
                    read.failed |= fetched.diverging.is_some();
                    read.failed |= fetched.preferred_read_replica.is_some();
                }
                // It may come while the fetch waits.
                Err(BrokerError::OffsetNotAvailable { .. }) => {}
                Err(_) => read.failed = true,
            }
            read.partitions.push((wanted.partition, result));
        }
        read
    }

    /// Reads one partition. `first` says that nothing was read yet: then a whole batch is returned
    /// even when it is larger than `room` (KIP-74).
    async fn read_one(
        &self,
        wanted: &FetchPartition,
        rack: Option<&str>,
        room: usize,
        first: bool,
    ) -> Result<FetchedPartition, BrokerError> {
        for _ in 0..REPLACED_READS_MAX {
            let readable = self.readable(wanted.partition, rack)?;
            let read = self.read_from(&readable, wanted, rack, room, first).await;
            if !readable.partition.is_superseded() {
                return read;
            }
            // Another log took its place meanwhile: what it said of its ends is void.
            tokio::task::yield_now().await;
        }
        Err(BrokerError::LeaderNotAvailable)
    }

    /// The partition, if this node leads it, or follows it and the reader takes that (KIP-392).
    fn readable(&self, id: PartitionId, rack: Option<&str>) -> Result<Readable, BrokerError> {
        match self.led(id) {
            // What serves appends is not left behind: it would have been sealed first.
            Ok((partition, ..))
                if partition.stand != Stand::Serving && self.has_moved_on(partition.log_id()) =>
            {
                Err(self.why_absent(id))
            }
            Ok((partition, _, leadership)) => Ok(Readable {
                partition,
                leadership,
                leads: true,
            }),
            Err(BrokerError::NotLeader { leader }) if rack.is_some() && leader.is_some() => {
                let here = self.inner.directory.get(id).and_then(|partition| {
                    let leadership = *self.data_shard(partition.shard)?.leadership.borrow();
                    Some((partition, leadership))
                });
                let (partition, leadership) = here.ok_or(BrokerError::NotLeader { leader })?;
                Ok(Readable {
                    partition,
                    leadership,
                    leads: false,
                })
            }
            Err(error) => Err(error),
        }
    }

    async fn read_from(
        &self,
        readable: &Readable,
        wanted: &FetchPartition,
        rack: Option<&str>,
        room: usize,
        first: bool,
    ) -> Result<FetchedPartition, BrokerError> {
        let partition = &readable.partition;
        let current = partition.epoch_in(readable.leadership.term);
        check_epoch(wanted.current_leader_epoch, current)?;
        let (start, end) = (partition.log.start_offset(), partition.high_watermark());
        let requested = wanted.offset;
        // Of a log that is sealed another one may have grown that this node knows nothing of.
        let may_lag = !readable.leads || partition.stand != Stand::Serving;
        if requested > end && may_lag {
            return Err(BrokerError::OffsetNotAvailable { requested, end });
        }
        let mut fetched = FetchedPartition {
            partition: wanted.partition,
            high_watermark: end,
            last_stable_offset: end,
            log_start: start,
            batches: Vec::new(),
            diverging: None,
            preferred_read_replica: None,
        };
        if let Some(epoch) = wanted.last_fetched_epoch {
            fetched.diverging = diverging(partition, epoch, requested, current);
            if fetched.diverging.is_some() {
                return Ok(fetched);
            }
        }
        if requested < start || requested > end {
            if !self.inner.directory.contains(wanted.partition) {
                return Err(self.why_absent(wanted.partition));
            }
            return Err(BrokerError::OffsetOutOfRange {
                requested,
                start,
                end,
            });
        }
        if let (true, Some(rack)) = (readable.leads, rack) {
            fetched.preferred_read_replica = self.nearer_replica(wanted.partition, rack);
            if fetched.preferred_read_replica.is_some() {
                return Ok(fetched);
            }
        }
        let bytes_max = wanted.bytes_max.min(room);
        if requested == end || (bytes_max == 0 && !first) {
            return Ok(fetched);
        }
        let read = read_log(partition, requested, end, bytes_max).await?;
        if first || read.bytes <= bytes_max {
            fetched.batches = read.batches;
        }
        Ok(fetched)
    }

    /// An in-sync replica in the reader's rack, when this node is not in it.
    fn nearer_replica(&self, id: PartitionId, rack: &str) -> Option<NodeId> {
        if rack.is_empty() {
            return None;
        }
        let catalogue = self.catalogue();
        let is_near = |node: &NodeId| {
            let node = catalogue.nodes.get(node);
            node.is_some_and(|node| node.rack.as_deref() == Some(rack))
        };
        if is_near(&self.node_id()) {
            return None;
        }
        let mut near = self.partition_status(id)?.in_sync;
        near.retain(|node| is_near(node) && self.is_alive(*node));
        // The same one each time, and not the same one for all partitions.
        let position = usize::try_from(id.index).unwrap_or(0) % near.len().max(1);
        near.get(position).copied()
    }
}

/// A partition that a reader may read here.
struct Readable {
    partition: Arc<Partition>,
    leadership: Leadership,
    leads: bool,
}

/// What a round of reading found.
struct Read {
    partitions: Fetched,
    bytes: usize,
    bytes_max: usize, // how much could be read
    // Some partition has news that are no records.
    failed: bool,
}

impl Read {
    fn is_enough(&self, request: &FetchRequest) -> bool {
        // With less room than the request has, half of it counts as full: batches are whole.
        let bytes_min = match self.bytes_max < request.bytes_max {
            true => request.bytes_min.min(self.bytes_max / 2),
            false => request.bytes_min,
        };
        self.failed || self.bytes >= bytes_min || request.partitions.is_empty()
    }
}

/// Reads from memory where that is enough, else on a thread that may wait for the disk.
pub(crate) async fn read_log(
    partition: &Arc<Partition>,
    from: Offset,
    limit: Offset,
    bytes_max: usize,
) -> Result<ReadBatches, BrokerError> {
    if let Some(read) = partition.log.read_tail(from, limit, bytes_max) {
        return Ok(read);
    }
    let shared = Arc::clone(partition);
    let read = net::blocking(move || shared.log.read_records(from, limit, bytes_max)).await;
    match read.expect("reading a log does not panic") {
        Ok(read) => Ok(read),
        Err(error) => Err(read_failed(partition.id, error)),
    }
}

/// What a failed read means to a client.
pub(crate) fn read_failed(partition: PartitionId, error: ReadError) -> BrokerError {
    match error {
        // The log start rose while the read was on its way.
        ReadError::OutOfRange {
            requested,
            start,
            end,
        } => BrokerError::OffsetOutOfRange {
            requested,
            start,
            end,
        },
        // Said once, when it was found.
        ReadError::Corrupt { .. } => BrokerError::Storage {
            reason: error.to_string(),
        },
        ReadError::Io { .. } => {
            tracing::error!(%partition, %error, "cannot read a partition");
            BrokerError::Storage {
                reason: error.to_string(),
            }
        }
    }
}

/// KIP-320: an older epoch is fenced, a newer one is not known yet.
pub(crate) fn check_epoch(
    requested: Option<LeaderEpoch>,
    current: LeaderEpoch,
) -> Result<(), BrokerError> {
    match requested {
        Some(requested) if requested < current => {
            Err(BrokerError::FencedLeaderEpoch { requested, current })
        }
        Some(requested) if requested > current => {
            Err(BrokerError::UnknownLeaderEpoch { requested, current })
        }
        _ => Ok(()),
    }
}

/// KIP-595: the client's last epoch ended before the offset it asks for, so its log differs.
fn diverging(
    partition: &Partition,
    epoch: LeaderEpoch,
    offset: Offset,
    current: LeaderEpoch,
) -> Option<(LeaderEpoch, Offset)> {
    let (found, end) = end_offset_for_epoch(partition, epoch, current)?;
    (found < epoch || end < offset).then_some((found, end))
}

/// A waiting fetch, entered with its partitions until it is dropped.
struct Waiting {
    waiter: Arc<Waiter>,
    bytes: Option<usize>, // found when the waiter was armed last; `None` when it must be again
    broker: Broker,
    entries: Vec<(Arc<Partition>, u64)>,
}

impl Waiting {
    /// Enters a fetch that was counted before.
    fn enter(broker: &Broker, request: &FetchRequest, bytes: usize, missing: usize) -> Waiting {
        let waiter = Waiter::new(missing);
        let ids: BTreeSet<PartitionId> = request
            .partitions
            .iter()
            .map(|wanted| wanted.partition)
            .collect();
        let partitions = ids
            .into_iter()
            .filter_map(|id| broker.inner.directory.get(id));
        let enter = |partition: Arc<Partition>| {
            let number = partition.waiters.register(&waiter);
            (partition, number)
        };
        Waiting {
            entries: partitions.map(enter).collect(),
            waiter,
            bytes: Some(bytes),
            broker: broker.clone(),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        for (partition, number) in &self.entries {
            partition.waiters.remove(*number);
        }
        self.broker
            .inner
            .waiting_fetches
            .fetch_sub(1, Ordering::AcqRel);
    }
}

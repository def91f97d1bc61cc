//! Appending a record batch: checked without state here, with state when it is applied.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use raft::{Members, ProposeError, ReplicaProgress};
use storage::{LogId, LogIndex, NodeId, Offset, PartitionId};

use crate::batch_check::{CheckFailure, check_batch, unpacked_bytes_max};
use crate::broker::{DataShard, refused};
use crate::coordinators::refuse_internal;
use crate::partition::machine::Outcome;
use crate::partition::manifest::Stand;
use crate::partition::op::PartitionOp;
use crate::{Broker, BrokerError, TopicConfig};

/// Compressed batches up to this size, unpacked, are checked on the connection's own thread.
const UNPACK_INLINE_BYTES_MAX: usize = 256 << 10;

/// Time between two looks at what replicas have, at first and at last.
const HOLD_POLL_MIN: Duration = Duration::from_millis(1);
const HOLD_POLL_MAX: Duration = Duration::from_millis(16);
/// An answer that replicas hold up is given after this time.
const HOLD_MS_MAX: i64 = 30_000;

/// An append to a partition that is about to be another shard's is answered when it is, or after
/// this time: then it is known where to go on.
const MOVE_WAIT_MS_MAX: i64 = 1_000;

/// How much must have happened before a produce is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequiredAcks {
    /// Kafka's `acks=0`: not answered.
    None,
    /// Kafka's `acks=1`. Treated like [`RequiredAcks::All`], but `min.insync.replicas` is not asked for.
    Leader,
    /// Kafka's `acks=all` (-1).
    All,
}

/// One record at fault, for Kafka's `record_errors` (KIP-467).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordError {
    /// Index of the record within its batch, from 0.
    pub batch_index: i32,
    /// What is wrong with it.
    pub message: String,
}

/// Why a batch was not appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Reasons that are not about the batch.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The bytes are damaged: CRC mismatch or lengths that contradict each other.
    #[error("corrupt batch: {0}")]
    Corrupt(String),
    /// Well-formed but against the rules (`INVALID_RECORD`).
    #[error("invalid record: {message}")]
    InvalidRecord {
        /// What is wrong.
        message: String,
        /// Which records, when it is known.
        records: Vec<RecordError>,
    },
    /// A timestamp outside the topic's limits.
    #[error("invalid timestamp: {message}")]
    InvalidTimestamp {
        /// What is wrong.
        message: String,
        /// Which records, when it is known.
        records: Vec<RecordError>,
    },
    /// Record formats before v2.
    #[error("record format {magic} is not supported, only 2 is")]
    UnsupportedFormat {
        /// The batch's magic byte.
        magic: i8,
    },
    /// A compression codec that does not exist, or that this request version does not allow.
    #[error("unsupported compression type")]
    UnsupportedCompression,
    /// The compressed batch is larger than `max.message.bytes`.
    #[error("batch of {bytes} bytes is over max.message.bytes {max}")]
    TooLarge {
        /// Size of the batch, header included.
        bytes: usize,
        /// The topic's limit.
        max: usize,
    },
    /// The batch is neither the next in its producer's sequence nor one of the last five.
    #[error("sequence {got} of producer {producer_id} is out of order, {expected} was next")]
    OutOfOrderSequence {
        /// The producer.
        producer_id: i64,
        /// The batch's base sequence.
        got: i32,
        /// The sequence that was expected.
        expected: i32,
    },
    /// Older than the five batches that are remembered, yet not new (`DUPLICATE_SEQUENCE_NUMBER`).
    #[error(
        "sequence {got} of producer {producer_id} was written before and is no longer remembered"
    )]
    DuplicateSequence {
        /// The producer.
        producer_id: i64,
        /// The batch's base sequence.
        got: i32,
    },
    /// A newer instance of the producer has written here.
    #[error("producer epoch {got} is fenced by {current}")]
    InvalidProducerEpoch {
        /// The batch's epoch.
        got: i16,
        /// The newest epoch seen.
        current: i16,
    },
}

/// Where a batch went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record; for a repeated batch, the original one.
    pub base_offset: Offset,
    /// The time the log stamped, when the topic uses `LogAppendTime`; else `None`.
    pub log_append_time_ms: Option<i64>,
    /// The log start offset at that moment.
    pub log_start_offset: Offset,
}

/// An append on its way: its place among the appends of the same caller is fixed. Resolves when
/// the batch is committed and applied. Dropping it does not take the append back.
pub struct PendingAppend {
    pub(crate) inner: Pin<Box<dyn Future<Output = Result<Appended, AppendError>> + Send>>,
}

impl Future for PendingAppend {
    type Output = Result<Appended, AppendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.as_mut().poll(cx)
    }
}

impl Broker {
    /// Checks a batch and queues it. Returns when its place in the order is fixed (waiting for room
    /// when there is none: this is the back-pressure); the result comes through [`PendingAppend`].
    ///
    /// # Errors
    /// All are definite: nothing was queued.
    pub async fn append(
        &self,
        id: PartitionId,
        batch: Bytes,
        acks: RequiredAcks,
    ) -> Result<PendingAppend, AppendError> {
        let (partition, shard, _) = match self.led(id) {
            Err(BrokerError::NotLeader { .. }) => {
                self.leader_settled(id).await;
                self.led(id)?
            }
            led => led?,
        };
        let log = partition.log_id();
        // Looked at after the log was chosen, so that the picture is no older than that choice.
        let catalogue = self.catalogue();
        if partition.stand != Stand::Serving || self.has_moved_on(log) {
            let broker = self.clone();
            return Ok(PendingAppend {
                inner: Box::pin(async move { Err(broker.moved_away(log).await.into()) }),
            });
        }
        let topic = catalogue
            .topic_by_id(id.topic)
            .ok_or(BrokerError::UnknownTopicId)?;
        refuse_internal(&topic.name)?;
        if catalogue.entry(id).is_none() {
            // Whether this log is the partition is not known.
            return Err(BrokerError::UnknownTopicOrPartition.into());
        }
        if let Some(error) = partition.log.failed() {
            return Err(BrokerError::Storage {
                reason: error.to_string(),
            }
            .into());
        }
        let required = match acks {
            RequiredAcks::All => usize::try_from(topic.config.min_insync_replicas).unwrap_or(0),
            RequiredAcks::Leader | RequiredAcks::None => 0,
        };
        self.check_in_sync(id, required)?;
        if self.inner.logs.writer_stalled() {
            return Err(BrokerError::DiskFull.into());
        }
        let batch = self.check(batch, &topic.config).await?;
        let bytes = batch.len();
        // It names the log, so that it enters no other one, however long it was on its way.
        let op = PartitionOp::Append { log, batch }.encode();
        let members = shard.shard.members().borrow().clone();
        let began_us = self.inner.catch_up.pace().now_us();
        let pending = shard
            .shard
            .submit(op)
            .await
            .map_err(|error| not_appended(&error))?;
        let broker = self.clone();
        Ok(PendingAppend {
            inner: Box::pin(async move {
                let finished = finish(pending).await;
                if let Err(AppendError::Broker(BrokerError::NotLeader { .. })) = &finished {
                    shard.shard.settled().await;
                }
                let Some((appended, index)) = finished? else {
                    return Err(broker.moved_away(log).await.into());
                };
                broker.inner.catch_up.pace().produced(bytes, began_us);
                let is_implied = is_implied(required, &members)
                    && (required <= 1 || *shard.shard.members().borrow() == members);
                if !is_implied {
                    broker.hold(&shard, id, index, required).await?;
                }
                Ok(appended)
            }),
        })
    }

    /// Why a log that is sealed, or no longer the partition, took nothing; said when the partition
    /// has moved or takes appends again.
    async fn moved_away(&self, log: LogId) -> BrokerError {
        let is_settled = || {
            let here = self.inner.directory.get(log.partition);
            here.is_none_or(|here| {
                here.log_id() != log || (here.stand == Stand::Serving && !self.has_moved_on(log))
            })
        };
        self.wait_until(is_settled, MOVE_WAIT_MS_MAX).await;
        match self.led(log.partition) {
            Ok(_) => BrokerError::NotLeader {
                leader: Some(self.node_id()),
            },
            Err(error) => error,
        }
    }

    /// Waits while the partition's leader is about to be another one, for a moment at most: the
    /// producer then goes straight there, or stays, instead of asking around and pausing.
    async fn leader_settled(&self, id: PartitionId) {
        let partition = self.inner.directory.get(id);
        if let Some(shard) = partition.and_then(|held| self.data_shard(held.shard)) {
            shard.shard.settled().await;
        }
    }

    /// Refuses what too few replicas would take, before it enters the log.
    fn check_in_sync(&self, id: PartitionId, required: usize) -> Result<(), BrokerError> {
        if required <= 1 {
            return Ok(());
        }
        let alive = self.in_sync(id);
        if alive < required {
            return Err(BrokerError::NotEnoughReplicas { alive, required });
        }
        Ok(())
    }

    fn in_sync(&self, id: PartitionId) -> usize {
        self.partition_status(id)
            .map_or(0, |status| status.in_sync.len())
    }

    /// Returns once so many voters have the shard's entry in their logs. It is committed already.
    async fn hold(
        &self,
        shard: &DataShard,
        id: PartitionId,
        index: LogIndex,
        required: usize,
    ) -> Result<(), BrokerError> {
        let began_ms = self.inner.clock.monotonic_ms();
        let mut wait = HOLD_POLL_MIN;
        loop {
            let members = shard.shard.members().borrow().clone();
            let replicas = shard.shard.replicas().unwrap_or_default();
            if voters_with(&members, &replicas, index) >= required {
                return Ok(());
            }
            let in_sync = self.in_sync(id);
            let waited_ms = self.inner.clock.monotonic_ms().saturating_sub(began_ms);
            // Without replicas this node does not lead any more and will not learn of it.
            if in_sync < required || replicas.is_empty() || waited_ms > HOLD_MS_MAX {
                return Err(BrokerError::NotEnoughReplicasAfterAppend { in_sync, required });
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(HOLD_POLL_MAX);
        }
    }

    /// Checks a batch: what is small when unpacked at once, the rest off the connection's thread
    /// and few at a time, so that nobody waits for someone else's unpacking.
    async fn check(&self, batch: Bytes, config: &Arc<TopicConfig>) -> Result<Bytes, AppendError> {
        let now_ms = self.inner.clock.wall_ms();
        match check_batch(&batch, config, now_ms, UNPACK_INLINE_BYTES_MAX) {
            Ok(batch) => return Ok(batch),
            Err(CheckFailure::Refused(error)) => return Err(error),
            Err(CheckFailure::LargerUnpacked { .. }) => {}
        }
        let permit = self.inner.unpacking.acquire().await;
        let _permit = permit.expect("the semaphore is never closed");
        let config = Arc::clone(config);
        let max = unpacked_bytes_max(&config);
        let checking = net::blocking(move || check_batch(&batch, &config, now_ms, max));
        match checking.await.expect("checking a batch does not panic") {
            Ok(batch) => Ok(batch),
            Err(CheckFailure::Refused(error)) => Err(error),
            Err(CheckFailure::LargerUnpacked { max }) => Err(AppendError::InvalidRecord {
                message: format!("more than {max} bytes when unpacked"),
                records: Vec::new(),
            }),
        }
    }
}

fn not_appended(error: &ProposeError) -> AppendError {
    match error {
        ProposeError::TooLarge { bytes, max } => AppendError::TooLarge {
            bytes: *bytes,
            max: *max,
        },
        error => refused(error).into(),
    }
}

/// Whether so many voters have every entry that is committed, as long as these are the members: a
/// majority has it. During a change majorities of both sets have it, which may be few of either.
fn is_implied(required: usize, members: &Members) -> bool {
    required <= 1 || (!members.is_joint && required <= members.voters.len() / 2 + 1)
}

/// Voters that have the entry.
fn voters_with(
    members: &Members,
    replicas: &BTreeMap<NodeId, ReplicaProgress>,
    index: LogIndex,
) -> usize {
    let has = |node: &&NodeId| {
        let progress = replicas.get(node);
        progress.is_some_and(|progress| progress.matched >= Some(index))
    };
    members.voters.iter().filter(has).count()
}

/// `None`: the partition was sealed or moved meanwhile, and nothing of the batch is in its log.
async fn finish(
    pending: raft::Pending<Outcome>,
) -> Result<Option<(Appended, LogIndex)>, AppendError> {
    match pending.await.map_err(|error| not_appended(&error))? {
        Outcome::Appended(appended, index) => Ok(Some((appended, index))),
        Outcome::Refused(error) => Err(error),
        Outcome::NoSuchPartition => Err(BrokerError::UnknownTopicOrPartition.into()),
        Outcome::Moving => Ok(None),
        outcome @ (Outcome::Done
        | Outcome::Start(_)
        | Outcome::Filled(_)
        | Outcome::Sealed(_)
        | Outcome::Activated { .. }
        | Outcome::Occupied
        | Outcome::Unfit
        | Outcome::Outdated
        | Outcome::EndsAt(_)) => {
            unreachable!("an append came to {outcome:?}")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn only_voters_that_have_the_entry_count() {
        let progress = |matched: Option<u64>| ReplicaProgress {
            matched: matched.map(LogIndex),
            ..ReplicaProgress::default()
        };
        let replicas = BTreeMap::from([
            (NodeId(1), progress(Some(9))),
            (NodeId(2), progress(Some(8))),
            (NodeId(3), progress(None)),
            (NodeId(4), progress(Some(9))),
        ]);
        let members = Members {
            voters: [1, 2, 3, 5].map(NodeId).into(),
            learners: [NodeId(4)].into(),
            is_joint: false,
            at: None,
        };
        let with = |index| voters_with(&members, &replicas, LogIndex(index));
        assert_eq!((with(8), with(9), with(10)), (2, 1, 0));
    }

    #[test]
    fn a_majority_implies_enough_replicas_only_while_nothing_is_changed() {
        let members = |count: u32, is_joint| Members {
            voters: (1..=count).map(NodeId).collect(),
            learners: BTreeSet::new(),
            is_joint,
            at: None,
        };
        assert!(is_implied(2, &members(3, false)));
        assert!(!is_implied(3, &members(3, false)));
        assert!(is_implied(3, &members(5, false)));
        // Of {1, 2, 3} and {1} or {1, 4, 5}: two may be a majority of both.
        assert!(!is_implied(2, &members(3, true)));
        assert!(!is_implied(3, &members(5, true)));
        assert!(is_implied(1, &members(5, true)));
    }
}

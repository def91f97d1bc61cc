//! Reading committed batches, waiting for more when there are too few.

use bytes::Bytes;
use storage::{LeaderEpoch, Offset, PartitionId};

use crate::BrokerError;

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
}

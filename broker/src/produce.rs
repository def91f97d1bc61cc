//! Appending a record batch: checked without state here, with state when it is applied.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use storage::Offset;

use crate::BrokerError;

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
    #[error("sequence {got} of producer {producer_id} was written before and is no longer remembered")]
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
    /// The producer is not known here and the batch does not start its sequence.
    #[error("producer {producer_id} is not known")]
    UnknownProducerId {
        /// The producer.
        producer_id: i64,
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

//! Finding offsets: the ends of a log, and the first record at or after a time.

use storage::{LeaderEpoch, Offset};

/// What is asked for; Kafka's timestamp sentinels in brackets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetQuery {
    /// The end of what may be read (-1): high watermark, or last stable offset.
    Latest,
    /// The log start (-2).
    Earliest,
    /// The record with the largest timestamp (-3), the first of several (KIP-734).
    MaxTimestamp,
    /// The first offset on local disk (-4); the log start here, nothing is tiered.
    EarliestLocal,
    /// The last offset in remote storage (-5); there is none.
    LatestTiered,
    /// The first record with this timestamp or a later one, in milliseconds.
    AtTimestamp(i64),
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundOffset {
    /// The offset; `None` when no record qualifies (Kafka's -1).
    pub offset: Option<Offset>,
    /// The record's timestamp, where a record was looked for and found (else Kafka's -1).
    pub timestamp_ms: Option<i64>,
    /// Leader epoch of that record, when known.
    pub leader_epoch: Option<LeaderEpoch>,
}

//! [`Stats`]: what happened in a run, in figures.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What happened.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Lines of the history.
    pub events: u64,
    /// From the first to the last, in microseconds.
    pub duration_us: u64,
    /// By the operation's name ([`Op::name`](crate::history::Op::name)).
    pub operations: BTreeMap<String, OperationStats>,
    /// By the fault's name.
    pub faults: BTreeMap<String, FaultStats>,
    /// By the partition, as `topic/partition`.
    pub keys: BTreeMap<String, KeyStats>,
    /// By the consumer group.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, GroupStats>,
    /// How far behind polls were, at least, in microseconds.
    pub lag_us: Quantiles,
    /// By the node.
    pub nodes: BTreeMap<u32, NodeStats>,
    /// When each phase began, in microseconds.
    pub phases_us: BTreeMap<String, u64>,
}

/// Operations of one name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OperationStats {
    /// Begun.
    pub invoked: u64,
    /// Happened.
    pub ok: u64,
    /// Surely did not happen.
    pub fail: u64,
    /// May have happened; those without a completion included.
    pub info: u64,
    /// Happened, per second of the run.
    pub ok_per_second: f64,
    /// From the invocation to its completion, of those that happened.
    pub latency_us: Quantiles,
    /// The reasons of those that did not, cut to a length, the most frequent ones.
    pub errors: BTreeMap<String, u64>,
}

/// A distribution.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantiles {
    /// How many there were.
    pub count: u64,
    /// Half are at most this.
    pub p50: u64,
    /// 95 of 100 are.
    pub p95: u64,
    /// 99 of 100 are.
    pub p99: u64,
    /// All are.
    pub max: u64,
}

/// Faults of one name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FaultStats {
    /// Begun.
    pub begun: u64,
    /// Whose effect was seen.
    pub took_effect: u64,
    /// How long it lasted in all, in microseconds; until the end of phase `faults` where it was not undone.
    pub lasted_us: u64,
    /// Sends completed meanwhile: happened.
    pub sends_ok: u64,
    /// Surely did not happen.
    pub sends_fail: u64,
    /// May have happened.
    pub sends_info: u64,
    /// The slowest send that was acknowledged meanwhile.
    pub send_latency_us_max: u64,
}

/// One partition.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct KeyStats {
    /// Values acknowledged.
    pub acknowledged: u64,
    /// Values whose send may have happened.
    pub unknown: u64,
    /// Of these, seen.
    pub unknown_seen: u64,
    /// Different offsets read.
    pub read: u64,
    /// The highest offset known, of a read or an acknowledgement.
    pub last_offset: Option<i64>,
}

/// A consumer group, as far as its members tell, until healing began.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupStats {
    /// Generations, or epochs, in which a member was told what it owns.
    pub generations: u64,
    /// How often it came to rest: every partition it had committed had an owner, all owners in one
    /// generation.
    pub rests: u64,
    /// How often a static member came back and was told to own what it had before, in the same
    /// generation.
    pub returns: u64,
}

/// One node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeStats {
    /// Samples of what it used.
    pub samples: u64,
    /// Resident memory.
    pub rss_kib_max: u64,
    /// Open descriptors.
    pub descriptors_max: u64,
}

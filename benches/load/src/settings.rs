//! What a run is told.

use std::time::Duration;

use broker::record::Compression;
use kafka_client::api::Acks;

use crate::stamp::STAMP_BYTES;

/// Shortest value that a record can have: its stamp.
pub const VALUE_BYTES_MIN: usize = STAMP_BYTES;
/// Longest value that a record can have.
pub const VALUE_BYTES_MAX: usize = 64 << 20;

/// Where the cluster is and how long it may take.
#[derive(Debug, Clone)]
pub struct Connect {
    /// Any nodes of the cluster, `host:port`.
    pub bootstrap: Vec<String>,
    /// An answer, and progress when reading back, must be there within this.
    pub timeout: Duration,
}

/// The topic of a run.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its name.
    pub topic: String,
    /// Partitions that it must have; `None`: as it is, or one when it is created.
    pub partitions: Option<i32>,
    /// Replicas when it is created, -1 for the cluster's default.
    pub replicas: i16,
    /// Leave it there when the run has created it.
    pub keep: bool,
}

/// When a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// After this many measured records (`raw`: requests) of all clients together.
    Records(u64),
    /// After this long, in microseconds.
    ElapsedUs(i64),
}

/// A load of single records.
#[derive(Debug, Clone)]
pub struct ProduceLoad {
    /// Records a second of all clients together; `None`: closed-loop, as fast as answers come.
    pub rate: Option<f64>,
    /// When it ends; what the warm-up takes comes on top.
    pub until: Until,
    /// For this long in the beginning nothing is measured, in microseconds.
    pub warm_up_us: i64,
    /// Bytes of a value, [`VALUE_BYTES_MIN`] to [`VALUE_BYTES_MAX`].
    pub value_bytes: usize,
    /// Different keys; 0 for records without.
    pub keys: u64,
    /// A batch is sent when its first record is this old, in microseconds,
    pub linger_us: i64,
    /// or when it has about this many bytes. A batch has one record at least.
    pub batch_bytes: usize,
    /// Requests on their way at once to each leader, of each client. At least 1.
    pub in_flight: usize,
    /// When a record is acknowledged.
    pub acks: Acks,
    /// How batches are compressed.
    pub codec: Compression,
    /// Generators, each a thread with connections of its own. At least 1.
    pub clients: u32,
    /// The process whose costs are told.
    pub broker_pid: Option<u32>,
}

/// A load of requests that are encoded beforehand.
#[derive(Debug, Clone)]
pub struct RawLoad {
    /// Bytes of the batch in a request, about.
    pub request_bytes: usize,
    /// Bytes of a value, [`VALUE_BYTES_MIN`] to [`VALUE_BYTES_MAX`].
    pub value_bytes: usize,
    /// When it ends.
    pub until: Until,
    /// For this long in the beginning nothing is measured, in microseconds.
    pub warm_up_us: i64,
    /// Requests on their way at once on each connection. At least 1.
    pub in_flight: usize,
    /// When a request is acknowledged; [`Acks::None`] cannot be checked and is as good as `Leader`.
    pub acks: Acks,
    /// Connections, each a thread; each writes to one partition. At least 1.
    pub connections: u32,
    /// The process whose costs are told.
    pub broker_pid: Option<u32>,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The load runs and is not measured yet.
    WarmUp,
    /// The load is measured.
    Measure,
    /// What was written is read back.
    Check,
}

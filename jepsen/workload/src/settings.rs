//! [`RunSettings`]: everything that a run follows from, beside the world it runs in.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::plan::Plan;
use crate::workload::WorkloadKind;

/// Which client library speaks to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientKind {
    /// Our own: raw frames, explicit retries, exact outcomes.
    #[default]
    Thin,
    /// librdkafka, as most users have it. Needs real time and the cargo feature `rdkafka`.
    Rdkafka,
    /// Half of the clients each.
    Mixed,
}

/// What a run does. The same settings in the same world give the same run, as far as the world repeats.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunSettings {
    /// Everything drawn at random follows from it.
    pub seed: u64,
    /// How long the phase `faults` takes.
    pub duration: Duration,
    /// Operations a second, of all clients together.
    pub rate_per_s: u32,
    /// How many clients work at a time.
    pub clients: u32,
    /// Topics of the workload `log`.
    pub topics: u32,
    /// Partitions of each.
    pub partitions: u32,
    /// Replicas of each partition; -1 leaves that to the cluster.
    pub replication_factor: i16,
    /// A value's padding is below so many bytes, at random.
    pub padding_bytes_max: u32,
    /// Which workloads run at the same time.
    pub workloads: Vec<WorkloadKind>,
    /// Which client library.
    pub client: ClientKind,
    /// What breaks when.
    pub plan: Plan,
    /// How long one operation of a client may take.
    pub op_timeout: Duration,
    /// How long one request may take.
    pub request_timeout: Duration,
    /// How long the cluster may take until it is ready at the beginning.
    pub ready_timeout: Duration,
    /// How long the world may take to begin or end one fault.
    pub fault_timeout: Duration,
    /// How long the world may take to heal everything.
    pub heal_timeout: Duration,
    /// After healing, how long each partition may take until a write to it succeeds.
    pub live_timeout: Duration,
    /// How long the final reads of a client, or of a node's replicas, may take.
    pub final_timeout: Duration,
}

impl Default for RunSettings {
    fn default() -> RunSettings {
        RunSettings {
            seed: 0,
            duration: Duration::from_secs(20),
            rate_per_s: 200,
            clients: 6,
            topics: 2,
            partitions: 4,
            replication_factor: -1,
            padding_bytes_max: 2_000,
            workloads: vec![WorkloadKind::Log],
            client: ClientKind::Thin,
            plan: Plan::default(),
            op_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(2),
            ready_timeout: Duration::from_secs(60),
            fault_timeout: Duration::from_secs(60),
            heal_timeout: Duration::from_secs(120),
            live_timeout: Duration::from_secs(30),
            final_timeout: Duration::from_secs(60),
        }
    }
}

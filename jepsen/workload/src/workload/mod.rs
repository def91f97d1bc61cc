//! The workloads: what clients do. Each is a closed set of operations with checkers of their own.
//!
//! Transactions and queues get a variant here, and an operation in the history, when the
//! product has them; what is listed in [`WorkloadKind::ALL`] exists.

pub(crate) mod group;
#[cfg(feature = "rdkafka")]
pub(crate) mod group_rdkafka;
pub(crate) mod log;
pub mod meta;
pub(crate) mod style;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkloadKind {
    /// They send to partitions and poll them.
    Log,
    /// They create, change, describe and delete topics, and move replicas and leaders.
    Meta,
    /// They consume in a group what others of them write.
    Group,
}

impl WorkloadKind {
    /// Every workload there is.
    pub const ALL: [WorkloadKind; 3] = [WorkloadKind::Log, WorkloadKind::Meta, WorkloadKind::Group];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            WorkloadKind::Log => "log",
            WorkloadKind::Meta => "meta",
            WorkloadKind::Group => "group",
        }
    }

    /// What it does, in a sentence.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            WorkloadKind::Log => {
                "clients send batches to partitions, with and without idempotence, and poll them"
            }
            WorkloadKind::Meta => {
                "clients create, alter, describe and delete topics, and move replicas and leaders"
            }
            WorkloadKind::Group => {
                "members of a consumer group, of both protocols, join, poll, commit, leave and die \
                 while others write"
            }
        }
    }
}

impl fmt::Display for WorkloadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No workload has that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no workload `{0}`; there are {list}", list = WorkloadKind::ALL.map(WorkloadKind::name).join(", "))]
pub struct UnknownWorkload(String);

impl FromStr for WorkloadKind {
    type Err = UnknownWorkload;

    fn from_str(name: &str) -> Result<WorkloadKind, UnknownWorkload> {
        let mut all = WorkloadKind::ALL.into_iter();
        all.find(|kind| kind.name() == name)
            .ok_or_else(|| UnknownWorkload(name.to_owned()))
    }
}

//! What a cluster is started with.

use std::path::PathBuf;

use jepsen_workload::plan::Kind;
use serde::{Deserialize, Serialize};

use crate::isolate::Isolate;

/// What a cluster is started with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSettings {
    /// The program under test.
    pub binary: PathBuf,
    /// How many nodes; their numbers are 1 and on.
    pub nodes: u32,
    /// How many clients can be told apart; their numbers are 0 and on.
    pub clients: u32,
    /// The directory of the run; nodes have `nodes/<n>` below it.
    pub out: PathBuf,
    /// How nodes are kept apart.
    pub isolate: Isolate,
    /// Draws what is left to chance.
    pub seed: u64,
    /// The faults that may be asked for.
    pub kinds: Vec<Kind>,
    /// Configuration of every node, `key=value`; `{node}` in it is the node's number.
    #[serde(default)]
    pub set: Vec<String>,
    /// Environment of every node.
    #[serde(default)]
    pub env: Vec<(String, String)>,
}

impl ClusterSettings {
    /// Whether a fault was asked for that needs the preloaded library in each node.
    pub(crate) fn needs_preload(&self) -> bool {
        let needs = [
            Kind::Clock,
            Kind::Disk,
            Kind::Power,
            Kind::Bitflip,
            Kind::Files,
        ];
        self.kinds.iter().any(|kind| needs.contains(kind))
    }
}

//! [`SimSettings`]: what a run is asked for; everything else follows from the seed.

use std::path::PathBuf;
use std::time::Duration;

/// What to run.
#[derive(Debug, Clone)]
pub struct SimSettings {
    /// Everything that is random follows from it.
    pub seed: u64,
    /// How long faults and clients go on, in virtual time.
    pub duration: Duration,
    /// Number of nodes; drawn from the seed when not given.
    pub nodes: Option<u32>,
    /// The workload's name; drawn from the seed when not given.
    pub workload: Option<String>,
    /// Names of the kinds of faults; drawn from the seed when not given.
    pub nemeses: Option<Vec<String>>,
    /// Where the whole trace is written; without, only its digest is kept and its last lines.
    pub trace: Option<PathBuf>,
}

impl SimSettings {
    /// A run of 20 s in which the seed decides everything.
    #[must_use]
    pub fn new(seed: u64) -> SimSettings {
        SimSettings {
            seed,
            duration: Duration::from_secs(20),
            nodes: None,
            workload: None,
            nemeses: None,
            trace: None,
        }
    }
}

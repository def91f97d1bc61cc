//! One seed: from its settings to its outcome.

use std::io;

use jepsen_check::history::Event;
use serde::Serialize;

use crate::invariants::Violation;
use crate::settings::SimSettings;

/// What came of a seed.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What it decided, for a reader.
    pub decided: String,
    /// The history, as it was recorded.
    pub events: Vec<Event>,
    /// The invariant that was violated; ends the run.
    pub violation: Option<Violation>,
    /// Why the run could not be carried out.
    pub harness_error: Option<String>,
    /// Identity of the run: the digest of its trace.
    pub trace_digest: String,
    /// Last lines of the trace.
    pub trace_tail: Vec<String>,
    /// Virtual time, in milliseconds.
    pub virtual_ms: u64,
    /// Time it took, in milliseconds.
    pub real_ms: u64,
}

/// Runs a seed. Once a process: it begins the simulation in it.
///
/// # Errors
/// When the trace cannot be written.
pub fn run_seed(settings: &SimSettings) -> io::Result<Outcome> {
    crate::entropy::begin(settings.seed);
    Ok(Outcome {
        seed: settings.seed,
        decided: String::new(),
        events: Vec::new(),
        violation: None,
        harness_error: Some("not there yet".to_owned()),
        trace_digest: String::new(),
        trace_tail: Vec::new(),
        virtual_ms: 0,
        real_ms: 0,
    })
}

/// Runs a seed and writes its whole trace line by line. Once a process.
///
/// # Errors
/// When the trace cannot be written.
pub fn replay(settings: &SimSettings, _out: Box<dyn io::Write + Send>) -> io::Result<Outcome> {
    run_seed(settings)
}

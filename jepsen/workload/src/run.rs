//! [`drive`]: one run from the first topic to the last read, in whatever world.

use jepsen_check::Recorder;

use crate::settings::RunSettings;
use crate::world::World;

/// What kept the harness from doing its work; it says nothing about the cluster.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The settings contradict themselves.
    #[error("these settings cannot be: {0}")]
    Settings(String),
    /// The cluster never was ready.
    #[error("the cluster was not ready within {waited_ms} ms: {why}")]
    NotReady {
        /// How long it was waited for.
        waited_ms: u64,
        /// What was missing at last.
        why: String,
    },
    /// No fault of the plan took effect, though there are some.
    #[error("none of {steps} faults took effect; the last: {why}")]
    NoFault {
        /// How many there were.
        steps: usize,
        /// Why the last did not.
        why: String,
    },
    /// The world could not undo what it broke.
    #[error("not everything could be healed: {0}")]
    Heal(String),
}

/// Runs all phases and writes everything down. The history is complete also when it errs.
///
/// # Errors
///
/// When the harness could not do its work. What the cluster does wrong is in the history.
pub async fn drive<W: World>(
    world: &W,
    settings: &RunSettings,
    history: &Recorder,
) -> Result<(), DriveError> {
    let _ = (world, history);
    Err(DriveError::Settings(format!(
        "no workload of {:?} runs yet",
        settings.workloads
    )))
}

//! How the present run is to end: noted for the next start, a failed disk at once.
//!
//! The next start must know that the disk has failed, or it takes what a relaxed run has answered
//! and not synced for what is on the disk. So that is noted before anybody acts on the failure.

use std::sync::{Mutex, PoisonError};

use storage::data_dir::DataDir;
use storage::turns;

/// What is known of the run's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Nothing has failed.
    Open,
    /// It has failed, and the directory says so.
    Failed,
    /// It has failed, and that could not be written.
    FailedUnnoted,
}

/// Notes in a data directory how the present run ended.
#[derive(Debug)]
pub(crate) struct RunEnd {
    data_dir: DataDir,
    is_relaxed: bool,
    end: Mutex<End>,
}

impl RunEnd {
    /// `is_relaxed`: the run answers before it syncs.
    pub(crate) fn new(data_dir: DataDir, is_relaxed: bool) -> RunEnd {
        RunEnd {
            data_dir,
            is_relaxed,
            end: Mutex::new(End::Open),
        }
    }

    /// Notes that the disk has failed; durable on return, or to be tried again. Blocks.
    pub(crate) fn note_failed(&self) {
        let mut end = turns::lock(&self.end).unwrap_or_else(PoisonError::into_inner);
        *end = match self.data_dir.note_run_failed() {
            Ok(()) => End::Failed,
            Err(error) => {
                tracing::error!(%error, "cannot note that the disk has failed");
                End::FailedUnnoted
            }
        };
    }

    /// Notes how the run ended, with everything closed. Blocks.
    pub(crate) fn note_end(&self) {
        if *turns::lock(&self.end).unwrap_or_else(PoisonError::into_inner) != End::Open {
            return self.note_failed();
        }
        if let Err(error) = self.data_dir.end_run_clean() {
            // The next start then takes the run for one that was cut off.
            tracing::warn!(%error, "cannot note how the run ended");
        }
    }

    /// Whether the next start would trust what this run has answered and not synced, though the
    /// disk has failed.
    pub(crate) fn is_unnoted(&self) -> bool {
        let end = turns::lock(&self.end).unwrap_or_else(PoisonError::into_inner);
        self.is_relaxed && *end == End::FailedUnnoted
    }
}

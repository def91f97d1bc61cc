//! Histories of what clients saw under faults, the checkers that judge them, and the report.
//!
//! Pure: no clock, no network. The same history always gives the same verdict.

pub mod check;
pub mod compacted;
pub mod history;
pub mod report;

pub use check::check;
pub use check::limits::Limits;
pub use check::verdict::{Anomaly, AnomalyName, Outcome, Verdict};
pub use history::Recorder;

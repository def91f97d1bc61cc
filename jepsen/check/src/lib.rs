//! Histories of what clients saw under faults, the checkers that judge them, and the report.
//!
//! Pure: no clock, no network. The same history always gives the same verdict.

pub mod history;

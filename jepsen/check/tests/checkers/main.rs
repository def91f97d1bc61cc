//! Hand-made histories in which each anomaly is once present and once, by a hair, absent; and a
//! broker in memory, right and broken in many ways.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod groups;
mod history;
mod liveness;
mod log;
mod meta;
mod model;
mod nasty;
mod replicas;
mod resources;
mod size;
mod story;
mod verdict;

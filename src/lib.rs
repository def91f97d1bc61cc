//! Braidlog: the node as a library, and its command line.
//!
//! Wiring only: what a log means lives in `broker`, how it is spoken in `protocol-adapters`.

pub mod cli;
pub mod config;
pub mod descriptors;
mod hand_over;
pub mod node;
pub mod telemetry;
pub mod units;

//! A load generator for Kafka brokers: open-loop, small, and honest about what it saw.
//!
//! It speaks to any broker through public Kafka APIs only, so the same load can be put on others.
//! Records become due by a [`schedule`] that waits for nobody, and latencies count from then. Each
//! record says where it stands ([`stamp`]), so that what is read back is known to be all that was
//! acknowledged, once, in order and undamaged ([`check`]). A [`Report`] has figures only when
//! nothing was wrong. Each generator and each reader is a thread of its own.

mod batcher;
pub mod check;
mod error;
pub mod latency;
mod metronome;
mod producer;
mod raw;
mod reader;
mod report;
mod run;
pub mod schedule;
mod settings;
pub mod stamp;
mod target;
mod usage;

pub use error::LoadError;
pub use raw::raw;
pub use report::{Cost, ProcessCost, Report};
pub use run::{consume, e2e, produce};
pub use settings::{
    Connect, Phase, ProduceLoad, RawLoad, Target, Until, VALUE_BYTES_MAX, VALUE_BYTES_MIN,
};
pub use usage::process_exists;

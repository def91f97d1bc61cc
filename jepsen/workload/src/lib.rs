//! What clients do to a cluster while it is broken, and the plan of what breaks it.
//!
//! The same code runs against real processes and in simulation: it speaks Kafka over `kafka-client`,
//! waits with tokio's time, draws everything at random from its seed, and leaves what differs to a [`World`].

pub mod batch;
mod book;
pub mod client;
pub mod fault;
mod finish;
pub mod generator;
mod nemesis;
pub mod plan;
pub mod random;
mod ready;
mod replicas;
pub mod run;
pub mod settings;
pub mod workload;
pub mod world;

pub use run::{DriveError, drive};
pub use settings::RunSettings;
pub use workload::WorkloadKind;
pub use world::World;

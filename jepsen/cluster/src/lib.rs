//! Real nodes in network namespaces or on loopback, and every way to break them.
//!
//! [`run`] starts a cluster, hands it to a closure as a [`ClusterWorld`], and takes everything away
//! again however the closure ends: processes, namespaces, devices. Every fault makes sure of its own
//! effect, so that a run in which nothing was broken does not pass for one in which nothing broke.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this crate works on real processes and files"
)]

mod admin;
pub mod disk;
mod error;
mod isolate;
mod log;
mod nemesis;
mod node;
mod process;
mod run;
mod settings;
mod world;

pub use error::ClusterError;
pub use isolate::{Isolate, UnknownIsolate};
pub use node::{Problem, ProblemKind};
pub use run::{Aftermath, run};
pub use settings::ClusterSettings;
pub use world::ClusterWorld;

//! Whole nodes in one process on virtual time, network and disk: the same seed gives the same run.
//!
//! A run takes a process of its own ([`run_seed`] begins the simulation and it never ends): time and
//! randomness of the whole process follow from the seed from then on. Whoever wants several seeds
//! starts the process once for each.

mod core;
mod entropy;
mod faults;
pub mod invariants;
mod logs;
mod machine;
mod run;
mod settings;
mod trace;
mod world;

pub use entropy::{begin, is_simulated};
pub use run::{Outcome, replay, run_seed};
pub use settings::{Decided, SimSettings};
pub use world::{SimError, SimWorld};

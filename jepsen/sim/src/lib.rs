//! Whole nodes in one process on virtual time, network and disk: the same seed gives the same run.
//!
//! A run takes a process of its own ([`run_seed`] begins the simulation and it never ends): time and
//! randomness of the whole process follow from the seed from then on. Whoever wants several seeds
//! starts the process once for each.

mod entropy;
pub mod invariants;
mod run;
mod settings;
mod trace;

pub use entropy::{begin, is_simulated};
pub use run::{Outcome, replay, run_seed};
pub use settings::SimSettings;

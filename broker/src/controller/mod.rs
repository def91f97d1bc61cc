//! What the catalogue's leader decides about nodes, shards and leaders, and how it is carried out.
//!
//! `plan.rs` decides and is pure, with `ground.rs` and `balance.rs` below it, `memory.rs` and
//! `stalls.rs` beside it; `control.rs` runs it on the catalogue's leader. `steps.rs` decides, purely, how a shard's
//! leader changes its members; `drive.rs` carries that out on every shard's leader.
//! `operations.rs` and `reassign.rs` are what operators ask for.

mod balance;
mod control;
mod drive;
mod ground;
mod memory;
mod operations;
mod plan;
mod reassign;
mod settings;
mod stalls;
mod steps;

pub(crate) use balance::Standing;
pub(crate) use ground::{AUTO_REPLICAS, Ground};
pub(crate) use operations::{
    elect_leaders, log_dirs, quorum_status, rebalance_leaders, transfer_leader,
};
pub(crate) use plan::{CATALOGUE_SHARD, drain_waits_for, wanted_list};
pub(crate) use reassign::{alter_reassignments, list_reassignments};
pub(crate) use settings::Settings;
pub(crate) use stalls::Stalls;

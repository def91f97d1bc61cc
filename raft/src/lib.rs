//! Consensus: a node's shards, each a Raft group over the node's one journal.
//!
//! A [`Host`] carries every shard of a node on one thread. A [`Shard`] takes operations, orders
//! them in its log and hands each committed entry to the [`Apply`] that its owner implements; what
//! an operation means is none of this crate's business. Outcomes come back through [`Pending`].
//!
//! openraft lives behind this face and appears in none of its types. The invariant that everything
//! above rests on: an outcome is answered only after its entry is synced in the journals of a
//! majority and applied, and an error called definite means that the entry can never commit.

mod batcher;
mod checkpointer;
mod config;
mod entry;
mod error;
mod group;
mod host;
mod machine;
mod network;
mod op;
mod queue;
mod shard;
mod snapshot;
mod status;
mod store;
mod types;

pub use config::HostConfig;
pub use error::{
    CheckpointError, HostError, HostFailure, InstallError, OpenError, ProposeError, UnknownReason,
};
pub use host::Host;
pub use op::{Apply, CheckpointJob, EntryAt, Op};
pub use shard::{Leadership, Pending, Progress, Shard};

#[cfg(test)]
extern crate self as raft;
#[cfg(test)]
#[path = "../tests/floor/mod.rs"]
mod floor;

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
mod beat;
mod checkpointer;
mod claims;
mod config;
mod election;
mod entry;
mod error;
mod follow;
mod group;
mod host;
pub mod inspect;
mod machine;
mod membership;
mod message;
mod network;
mod offer;
mod op;
mod parts;
mod peer;
mod queue;
mod receive;
mod shard;
mod snapshot;
mod stage;
mod staging;
mod status;
mod steering;
mod store;
mod tombstone;
mod types;
mod wire;

pub use config::{HostConfig, ShardOptions};
pub use error::{
    CheckpointError, DestroyError, HostError, HostFailure, InstallError, OpenError, ProposeError,
    UnknownReason,
};
pub use group::check_checkpoints;
pub use host::Host;
pub use membership::{Members, MembersError, ReplicaProgress};
pub use op::{Apply, CheckpointJob, EntryAt, Op};
pub use peer::{
    AskError, Caller, Lane, LinkError, LinkState, PeerIdentity, PeerMember, PeerService, PeerTls,
    Peers, PeersConfig, PeersError, Refusal, RefusedReason, TlsError,
};
pub use shard::{Leadership, Pending, Progress, Shard};
pub use snapshot::saved_manifest;
pub use stage::{Stage, StageError, StageProgress};
pub use tombstone::Floor;

#[cfg(test)]
extern crate self as raft;
#[cfg(test)]
#[path = "../tests/floor/mod.rs"]
mod floor;

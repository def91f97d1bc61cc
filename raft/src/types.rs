//! The choices openraft leaves to us, and the small conversions at its border.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::Arc;

use openraft::raft::responder::Responder;
use openraft::type_config::alias::{
    EntryOf, LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf, VoteOf,
};
use openraft::vote::RaftLeaderId;
use openraft::{OptionalSend, RaftTypeConfig};
use storage::{LogIndex, LogPosition, NodeId, Term};

use crate::Op;
use crate::snapshot::Manifest;

/// The type configuration of every shard. Outcomes are erased here, so that one configuration, one
/// log store and one transport serve shards of every kind.
#[derive(Debug, Clone, Copy, Default, Eq, PartialEq, Ord, PartialOrd)]
pub(crate) struct Types;

impl RaftTypeConfig for Types {
    type D = Payload;
    type R = Outcomes;
    type NodeId = u64;
    type Node = ();
    type Term = u64;
    type LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Payload, u64, ()>;
    type Entry = openraft::Entry<<Self::LeaderId as RaftLeaderId>::Committed, Self::Payload>;
    type AsyncRuntime = openraft::impls::TokioRuntime;
    type Responder<T>
        = Answer<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub(crate) type Entry = EntryOf<Types>;
pub(crate) type EntryPayload = openraft::EntryPayload<Payload, u64, ()>;
pub(crate) type LogId = LogIdOf<Types>;
pub(crate) type Vote = VoteOf<Types>;
pub(crate) type Membership = openraft::Membership<u64, ()>;
pub(crate) type StoredMembership = StoredMembershipOf<Types>;
pub(crate) type SnapshotMeta = SnapshotMetaOf<Types>;
pub(crate) type Snapshot = SnapshotOf<Types, Manifest>;

/// The operations of one entry, all stamped with one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bundle {
    pub(crate) time_ms: i64,
    pub(crate) ops: Vec<Op>,
}

/// What an entry carries for us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Payload {
    Ops(Arc<Bundle>),
    /// The entry was only located, not read: what openraft gets when it asks for entries whose
    /// position alone matters to it. The state machine reads the entry itself. Never written.
    Deferred,
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Payload::Ops(bundle) => write!(f, "{} operations", bundle.ops.len()),
            Payload::Deferred => f.write_str("not read"),
        }
    }
}

/// The outcomes of one entry: a `Vec<A::Outcome>`, known only to the shard that proposed it.
/// `None` when nobody waits for them.
#[derive(Debug)]
pub(crate) struct Outcomes(pub(crate) Option<Box<dyn Any + Send + Sync>>);

/// Runs inside apply when an entry is done: the fan-out costs no hand-over.
pub(crate) struct Answer<T>(pub(crate) Box<dyn FnOnce(T) + Send>);

impl<T: OptionalSend + 'static> Responder<Types, T> for Answer<T> {
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}

pub(crate) fn position(id: &LogId) -> LogPosition {
    LogPosition {
        term: Term(id.committed_leader_id().term),
        index: LogIndex(id.index),
    }
}

pub(crate) fn log_id(position: LogPosition) -> LogId {
    LogId::new_term_index(position.term.0, position.index.0)
}

pub(crate) fn node_id(id: u64) -> NodeId {
    NodeId(u32::try_from(id).expect("openraft's node ids are made from NodeId"))
}

/// The journal's errors as openraft takes them.
pub(crate) fn journal_io(error: storage::journal::JournalError) -> io::Error {
    io::Error::other(error)
}

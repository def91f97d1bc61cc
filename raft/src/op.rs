//! What a shard's owner supplies and sees: operations, and the state machine they act on.
//!
//! The crate never looks into an operation. It keeps `body` as the handle it was given, from the
//! connection to the journal's vectored write, so that a record batch is never copied on the way.

use std::fmt;

use bytes::Bytes;
use storage::LogPosition;

use crate::{CheckpointError, InstallError};

/// One operation on a shard's state. Its meaning belongs to the shard's owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// What to do: small, copied when the entry is written.
    pub head: Bytes,
    /// The data it carries, a record batch for instance; never copied. Empty in a control
    /// operation.
    pub body: Bytes,
}

impl Op {
    /// An operation that carries data; refused with `StorageFull` while the disk is full.
    #[must_use]
    pub fn data(head: Bytes, body: Bytes) -> Op {
        Op { head, body }
    }

    /// An operation without data; still taken when the disk is full, so that space can be freed.
    #[must_use]
    pub fn control(head: Bytes) -> Op {
        Op {
            head,
            body: Bytes::new(),
        }
    }

    /// Whether the operation carries no data.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.body.is_empty()
    }

    /// Bytes of head and body together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.head.len() + self.body.len()
    }
}

/// Where and when an entry stands in a shard's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryAt {
    /// Term and index of the entry.
    pub position: LogPosition,
    /// Wall-clock milliseconds stamped by the leader that proposed the entry; blank and membership
    /// entries carry that of the entry before. May go back when the leader changes.
    pub time_ms: i64,
}

/// The slow rest of a checkpoint, run once on a blocking thread: makes everything captured durable
/// and returns the manifest from which [`Apply::install`] restores it.
pub type CheckpointJob = Box<dyn FnOnce() -> Result<Bytes, CheckpointError> + Send>;

/// The state machine of a shard: a pure function of the shard's log.
///
/// All methods run on the host's thread, one at a time, and must not block on a disk.
pub trait Apply: Send + 'static {
    /// What one operation comes to; goes to whoever submitted it.
    type Outcome: Send + Sync + fmt::Debug + 'static;

    /// Applies one committed entry. Entries come in log order, each once since the last
    /// [`Apply::install`], on every replica; the result must depend on nothing else. `ops` is empty
    /// for blank and membership entries.
    ///
    /// Returns one outcome per operation. `leads` says that this node proposed the entry and will
    /// answer it; otherwise the outcomes go nowhere and any number of them may be returned.
    fn apply(&mut self, at: EntryAt, ops: &[Op]) -> Vec<Self::Outcome>;

    /// Whether the state lies in other places than the last checkpoint says, though nothing was
    /// applied since: then another one is made where one is asked for.
    fn lies_elsewhere(&self) -> bool {
        false
    }

    /// Captures the state as of the last applied entry, cheaply, and returns the slow rest.
    /// Entries applied later must not show in the manifest.
    fn checkpoint(&mut self) -> CheckpointJob;

    /// Replaces the state by that of a manifest. Called before any entry is applied when a shard
    /// with a checkpoint is opened.
    ///
    /// # Errors
    /// The shard is not opened; the state is no longer used.
    fn install(&mut self, manifest: Bytes) -> Result<(), InstallError>;

    /// A digest of the whole state, the same on all replicas that have applied the same entries.
    /// For the checks of the simulation; asked for only there.
    #[doc(hidden)]
    fn digest(&mut self) -> Option<u64> {
        None
    }
}

//! The crate's errors, one enum per thing asked for, grouped by what the caller can do.

use std::io;

use storage::state_file::StateFileError;
use storage::{LogPosition, NodeId, ShardId};

/// Why an operation was not answered with its outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Definite: the operation never enters the log. Ask the leader.
    #[error("this node does not lead the shard")]
    NotLeader {
        /// The leader, when this node knows of one.
        leader: Option<NodeId>,
    },
    /// Definite: the disk is full and the operation carries data. Control operations are taken.
    #[error("the journal has no room for data")]
    StorageFull,
    /// Definite: the operation is larger than an entry may ever be.
    #[error("operation of {bytes} bytes exceeds the limit of {max}")]
    TooLarge {
        /// Bytes of the operation, or of all operations submitted together.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Definite: too much is waiting. Only `try_submit` answers it.
    #[error("too many bytes wait to be proposed")]
    Busy,
    /// Definite: the shard is closing and the operation never enters the log.
    #[error("the shard is shutting down")]
    ShuttingDown,
    /// The operation may or may not be in the log, and may or may not commit.
    #[error("the outcome is unknown: {reason}")]
    Unknown {
        /// What took the answer away.
        reason: UnknownReason,
    },
}

/// What took an answer away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnknownReason {
    /// The shard closed while the entry was in flight.
    #[error("the shard shut down with the entry in flight")]
    ShuttingDown,
    /// A write or sync of the journal failed.
    #[error("the journal failed")]
    JournalFailed,
    /// The shard stopped through an error or a broken invariant.
    #[error("the shard failed")]
    ShardFailed,
    /// The leader changed while the entry was in flight.
    #[error("the leader changed with the entry in flight")]
    LeaderChanged,
    /// This node leads without having heard from a majority for one election time-out.
    #[error("the leader lost the majority with the entry in flight")]
    MajorityLost,
}

/// Why a host did not start.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A setting is out of its range.
    #[error("{setting} is out of range")]
    Config {
        /// Name of the field in `HostConfig`.
        setting: &'static str,
    },
    /// The checkpoint directory could not be made.
    #[error("cannot make the checkpoint directory")]
    CheckpointDir(#[source] io::Error),
}

/// Why a shard did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The shard is open already.
    #[error("shard {shard} is open already")]
    AlreadyOpen {
        /// The shard.
        shard: ShardId,
    },
    /// The host is shutting down.
    #[error("the host is shutting down")]
    ShuttingDown,
    /// The checkpoint file could not be read, or is damaged.
    #[error("cannot read the checkpoint of shard {shard}")]
    Checkpoint {
        /// The shard.
        shard: ShardId,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
    /// The journal begins above what the checkpoint holds: entries between them are gone.
    #[error(
        "shard {shard}: the journal begins after {floor}, but the checkpoint ends at {checkpoint:?}"
    )]
    MissingEntries {
        /// The shard.
        shard: ShardId,
        /// Last entry purged from the journal.
        floor: LogPosition,
        /// Last entry in the checkpoint; `None` when there is no checkpoint.
        checkpoint: Option<LogPosition>,
    },
    /// The state machine refused the checkpoint's manifest.
    #[error("cannot install the checkpoint of shard {shard}")]
    Install {
        /// The shard.
        shard: ShardId,
        /// Why it refused.
        #[source]
        source: InstallError,
    },
    /// The log could not be read or does not fit what is known of it.
    #[error("cannot open the log of shard {shard}")]
    Log {
        /// The shard.
        shard: ShardId,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
    /// The shard stopped while it was being opened.
    #[error("shard {shard} failed while it was opened")]
    Failed {
        /// The shard.
        shard: ShardId,
    },
}

impl OpenError {
    /// Whether a file of the disk is damaged or gone, so that what the shard had is not there any
    /// more; not when it only could not be read.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            OpenError::Checkpoint { source, .. } => {
                let inner = source.get_ref();
                let inner = inner.and_then(|inner| inner.downcast_ref::<StateFileError>());
                source.kind() == io::ErrorKind::InvalidData
                    || matches!(inner, Some(StateFileError::Corrupt { .. }))
            }
            OpenError::MissingEntries { checkpoint, .. } => checkpoint.is_none(),
            OpenError::AlreadyOpen { .. }
            | OpenError::ShuttingDown
            | OpenError::Install { .. }
            | OpenError::Log { .. }
            | OpenError::Failed { .. } => false,
        }
    }
}

/// Why a shard was not forgotten.
#[derive(Debug, thiserror::Error)]
pub enum DestroyError {
    /// The shard is being opened or closed.
    #[error("shard {shard} is being opened or closed")]
    Busy {
        /// The shard.
        shard: ShardId,
    },
    /// The journal or the disk failed.
    #[error("cannot delete what the disk holds of shard {shard}")]
    Storage {
        /// The shard.
        shard: ShardId,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
}

/// Why a checkpoint was not made. The one before it stands.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The state could not be made durable, or the checkpoint file not written.
    #[error("cannot write the checkpoint")]
    Storage(#[from] io::Error),
    /// Nothing has been applied yet.
    #[error("there is nothing to hold yet")]
    Empty,
    /// The shard is closing or has failed.
    #[error("the shard is closed")]
    Closed,
}

/// Why a state machine refused a manifest.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The manifest's bytes are not what this version writes.
    #[error("malformed manifest: {what}")]
    Malformed {
        /// The part that is wrong.
        what: &'static str,
    },
    /// The manifest was written by a newer version.
    #[error("manifest version {version} is not known")]
    UnknownVersion {
        /// The version found.
        version: u16,
    },
    /// What the manifest names could not be read.
    #[error("cannot read what the manifest names")]
    Storage(#[from] io::Error),
}

/// Why a running host stopped serving; the node starts over from disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostFailure {
    /// A write or sync of the journal failed.
    #[error("the journal failed")]
    Journal,
    /// A shard stopped through an error or a broken invariant.
    #[error("shard {shard} failed")]
    Shard {
        /// The shard.
        shard: ShardId,
    },
}

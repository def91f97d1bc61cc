//! What a replica does before it takes over a leader's checkpoint: fetch what the manifest names.
//!
//! The crate knows no bytes beside the journal's, so whoever owns the shard's state supplies a
//! [`Stage`]. Staging may take minutes and never stops the shard: heartbeats, votes and appends of
//! other shards go on, and the checkpoint is installed only once everything it names is on disk.

use std::io;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use storage::NodeId;

/// Fetches what a checkpoint's manifest names, before the checkpoint is installed.
pub trait Stage: Send + Sync + 'static {
    /// Makes everything a manifest names present and synced on this node's disk, pulling what is
    /// missing from `from`, and returns the manifest to install here. Runs on the runtime in which
    /// [`crate::Host::start`] was called and may take minutes; dropped when the leader gives up or
    /// offers something newer.
    fn stage(&self, from: NodeId, manifest: Bytes)
    -> BoxFuture<'static, Result<Bytes, StageError>>;

    /// Held from before [`Stage::stage`] is called until the manifest that it returned is installed,
    /// or until there will be none: so long what that names must stay as it is.
    fn hold(&self) -> Box<dyn Send> {
        Box::new(())
    }

    /// How far the staging that runs has come; told to the leader.
    fn progress(&self) -> StageProgress {
        StageProgress::default()
    }
}

/// How far a staging has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StageProgress {
    /// Bytes fetched so far.
    pub bytes_done: u64,
    /// Bytes still to fetch, when known.
    pub bytes_left: Option<u64>,
}

/// Why a checkpoint could not be staged. The leader offers it again, or a newer one.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The manifest's bytes are not what this version writes.
    #[error("malformed manifest: {what}")]
    Malformed {
        /// The part that is wrong.
        what: &'static str,
    },
    /// The peer did not give what is missing.
    #[error("cannot fetch from node {from}: {what}", from = from.0)]
    Fetch {
        /// The peer.
        from: NodeId,
        /// What went wrong, in words.
        what: String,
    },
    /// This node's disk failed or is full.
    #[error("cannot store what was fetched")]
    Storage(#[from] io::Error),
}

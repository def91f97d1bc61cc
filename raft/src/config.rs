//! Settings of a host. Every limit of the crate that can be set stands here.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use storage::NodeId;

use crate::{HostError, Stage};

/// Largest entry: one operation of Kafka's largest request.
pub(crate) const ENTRY_BYTES_LIMIT: usize = 104_857_600;

/// How a shard is opened.
#[derive(Clone, Default)]
pub struct ShardOptions {
    /// `Some`: a shard of which the journal knows nothing may be begun, with these voters, when this
    /// node is among them. `None`: it waits until a leader adds this node.
    pub founders: Option<BTreeSet<NodeId>>,
    /// Fetches what a leader's checkpoint names. Without one a manifest is installed as it comes.
    pub stage: Option<Arc<dyn Stage>>,
}

impl ShardOptions {
    /// Options of a shard that these voters may begin.
    #[must_use]
    pub fn founded_by(voters: impl IntoIterator<Item = NodeId>) -> ShardOptions {
        ShardOptions {
            founders: Some(voters.into_iter().collect()),
            stage: None,
        }
    }
}

impl fmt::Debug for ShardOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardOptions")
            .field("founders", &self.founders)
            .field("stage", &self.stage.is_some())
            .finish()
    }
}

/// Settings of a [`crate::Host`].
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// This node.
    pub node: NodeId,
    /// Directory of the shards' checkpoint files, `<number>.checkpoint`: the data directory's `shards`.
    pub checkpoint_dir: PathBuf,
    /// How often a leader tells its followers that it lives.
    pub heartbeat_ms: u64,
    /// Shortest silence of a leader before a follower campaigns.
    pub election_ms_min: u64,
    /// Longest such silence; the value used lies between the two at random.
    pub election_ms_max: u64,
    /// Operations are gathered into an entry up to this size; a larger operation travels alone.
    pub entry_bytes_max: usize,
    /// Entries of one shard that may be on their way at once.
    pub entries_in_flight_max: usize,
    /// Bytes of one shard that may wait to be gathered; then `submit` waits.
    pub pending_bytes_max: usize,
    /// A shard makes a checkpoint after this many bytes of journal.
    pub checkpoint_journal_bytes: u64,
    /// Recent entries kept in memory per shard, in bytes; older ones are read from the journal.
    pub entry_cache_bytes_max: usize,
}

impl HostConfig {
    /// The defaults for `node`, with checkpoints in `checkpoint_dir`.
    #[must_use]
    pub fn new(node: NodeId, checkpoint_dir: PathBuf) -> HostConfig {
        HostConfig {
            node,
            checkpoint_dir,
            heartbeat_ms: 100,
            election_ms_min: 300,
            election_ms_max: 600,
            entry_bytes_max: 2 << 20,
            entries_in_flight_max: 2,
            pending_bytes_max: 64 << 20,
            checkpoint_journal_bytes: 64 << 20,
            entry_cache_bytes_max: 16 << 20,
        }
    }

    pub(crate) fn validate(&self) -> Result<(), HostError> {
        let positive = |ok: bool, setting| {
            if ok {
                Ok(())
            } else {
                Err(HostError::Config { setting })
            }
        };
        positive(self.heartbeat_ms > 0, "heartbeat_ms")?;
        positive(self.election_ms_min > self.heartbeat_ms, "election_ms_min")?;
        positive(
            self.election_ms_max > self.election_ms_min,
            "election_ms_max",
        )?;
        positive(
            (1..=ENTRY_BYTES_LIMIT).contains(&self.entry_bytes_max),
            "entry_bytes_max",
        )?;
        positive(
            (1..=64).contains(&self.entries_in_flight_max),
            "entries_in_flight_max",
        )?;
        positive(
            (1..=u32::MAX as usize).contains(&self.pending_bytes_max),
            "pending_bytes_max",
        )?;
        positive(
            self.checkpoint_journal_bytes > 0,
            "checkpoint_journal_bytes",
        )
    }
}

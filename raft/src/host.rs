//! A node's raft thread: one current-thread runtime that carries all its shards.

use storage::ShardId;
use storage::clock::Clock;
use storage::disk::Disk;
use tokio::sync::watch;

use crate::{Apply, HostConfig, HostError, HostFailure, OpenError, Shard};

/// All shards of a node, on one thread.
#[derive(Debug)]
pub struct Host;

impl Host {
    /// Starts the thread. The journal must be open; its failure ends every shard.
    ///
    /// # Errors
    /// A setting out of range, or no thread or checkpoint directory.
    pub fn start(
        config: HostConfig,
        disk: Disk,
        clock: Clock,
    ) -> Result<Host, HostError> {
        let _ = (disk, clock);
        config.validate()?;
        todo!()
    }

    /// Opens a shard of which this node is the only voter, creating it when the journal knows
    /// nothing of it. Returns once everything committed before has been applied again and the shard
    /// takes operations.
    ///
    /// # Errors
    /// See [`OpenError`]; the shard is not open then.
    pub async fn open_shard<A: Apply>(
        &self,
        shard: ShardId,
        machine: A,
    ) -> Result<Shard<A::Outcome>, OpenError> {
        let _ = (shard, machine);
        todo!()
    }

    /// Shows why the host stopped serving, once it has: the node then starts over from disk.
    #[must_use]
    pub fn failed(&self) -> watch::Receiver<Option<HostFailure>> {
        todo!()
    }

    /// Closes every shard: refuses what is not yet proposed, waits for what is in flight, makes a
    /// last checkpoint, and ends the thread. Later calls return at once.
    pub async fn shutdown(&self) {
        todo!()
    }
}

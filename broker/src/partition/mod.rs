//! One partition as readers see it.
//!
//! A partition's log changes only when its shard applies an entry (`machine.rs`); readers share it
//! through [`Partition`], find it in the [`Directory`] of all partitions on this node and are woken
//! when it grows. Its log holds committed data only, so its end is the high watermark.

mod directory;
pub(crate) mod machine;
pub(crate) mod manifest;
mod moving;
pub(crate) mod op;
pub(crate) mod producers;
pub(crate) mod waiters;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use storage::partition_log::PartitionLog;
use storage::{LeaderEpoch, LogId, Offset, PartitionId, ShardId, Term};

pub(crate) use directory::Directory;
use manifest::Stand;
pub(crate) use moving::SealedLog;
use waiters::Waiters;

/// A partition that this node carries: one log of it, in one shard. Never changes; when what the
/// log is used for does, another one takes its place.
pub(crate) struct Partition {
    pub(crate) id: PartitionId,
    pub(crate) shard: ShardId,
    /// What is added to the shard's term to get the partition's leader epoch; fixed when the
    /// partition entered the shard, so that epochs only rise.
    pub(crate) epoch_base: i64,
    /// What the log is used for.
    pub(crate) stand: Stand,
    pub(crate) log: PartitionLog,
    /// Fetches that wait for more records; shared by all logs of the partition on this node.
    pub(crate) waiters: Arc<Waiters>,
    // Its log is dead or about to be: another one has the data. The log's, whatever its use.
    superseded: Arc<AtomicBool>,
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partition")
            .field("id", &self.id)
            .field("shard", &self.shard)
            .field("generation", &self.generation())
            .field("stand", &self.stand)
            .finish()
    }
}

impl Partition {
    pub(crate) fn new(
        shard: ShardId,
        (epoch_base, stand): (i64, Stand),
        log: PartitionLog,
        waiters: Arc<Waiters>,
    ) -> Partition {
        Partition {
            id: log.id().partition,
            shard,
            epoch_base,
            stand,
            log,
            waiters,
            superseded: Arc::default(),
        }
    }

    /// The same log, used for something else.
    pub(crate) fn turned(&self, epoch_base: i64, stand: Stand) -> Partition {
        Partition {
            id: self.id,
            shard: self.shard,
            epoch_base,
            stand,
            log: self.log.clone(),
            waiters: Arc::clone(&self.waiters),
            superseded: Arc::clone(&self.superseded),
        }
    }

    /// Which of the partition's logs this is.
    pub(crate) fn generation(&self) -> u32 {
        self.log.id().generation
    }

    pub(crate) fn log_id(&self) -> LogId {
        self.log.id()
    }

    /// Says that another log takes this one's place: what it says of its ends from now on is void.
    pub(crate) fn supersede(&self) {
        self.superseded.store(true, Ordering::SeqCst);
    }

    /// Whether another log has taken its place. Looked at after the log refused something.
    pub(crate) fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::SeqCst)
    }

    /// The partition's leader epoch in this term of its shard.
    pub(crate) fn epoch_in(&self, term: Term) -> LeaderEpoch {
        LeaderEpoch(epoch_in(self.epoch_base, term))
    }

    /// The high watermark: everything below is committed. Without transactions it is also the last
    /// stable offset.
    pub(crate) fn high_watermark(&self) -> Offset {
        self.log.end_offset()
    }
}

/// A term and a base make an epoch; both are bounded far below 2^31 by their origin (a term rises
/// once an election).
pub(crate) fn epoch_in(base: i64, term: Term) -> i32 {
    let term = i64::try_from(term.0).expect("terms stay far below 2^63");
    i32::try_from((base + term).max(0)).expect("leader epochs stay below 2^31")
}

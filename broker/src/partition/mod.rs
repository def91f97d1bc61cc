//! One partition as readers see it, and the directory of all partitions on this node.
//!
//! A partition's log changes only when its shard applies an entry (`machine.rs`); readers share it
//! through [`Partition`] and are woken when it grows. Its log holds committed data only, so its
//! end is the high watermark.

pub(crate) mod machine;
pub(crate) mod manifest;
pub(crate) mod op;
pub(crate) mod producers;
pub(crate) mod waiters;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use storage::partition_log::{LogConfig, PartitionLog};
use storage::{LeaderEpoch, Offset, PartitionId, ShardId, Term};
use tokio::sync::watch;

use crate::catalogue::Catalogue;
use waiters::Waiters;

/// A partition that this node carries.
pub(crate) struct Partition {
    pub(crate) id: PartitionId,
    pub(crate) shard: ShardId,
    /// What is added to the shard's term to get the partition's leader epoch; fixed when the
    /// partition entered the shard, so that epochs only rise.
    pub(crate) epoch_base: i64,
    pub(crate) log: PartitionLog,
    /// Fetches that wait for more records; shared with whoever takes this one's place.
    pub(crate) waiters: Arc<Waiters>,
    // Its log is dead or about to be: another one has the data.
    superseded: AtomicBool,
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partition")
            .field("id", &self.id)
            .field("shard", &self.shard)
            .finish()
    }
}

impl Partition {
    pub(crate) fn new(
        id: PartitionId,
        shard: ShardId,
        epoch_base: i64,
        log: PartitionLog,
        waiters: Arc<Waiters>,
    ) -> Partition {
        Partition {
            id,
            shard,
            epoch_base,
            log,
            waiters,
            superseded: AtomicBool::new(false),
        }
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

/// All partitions of this node, by id. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Directory {
    partitions: Arc<RwLock<HashMap<PartitionId, Arc<Partition>>>>,
    images: Option<watch::Receiver<Arc<Catalogue>>>,
}

impl Directory {
    /// An empty one that knows topics' configs from the catalogue.
    pub(crate) fn new(images: watch::Receiver<Arc<Catalogue>>) -> Directory {
        Directory {
            partitions: Arc::default(),
            images: Some(images),
        }
    }

    /// When a partition's log begins new segments: local to this replica, so apply may use it. The
    /// default while the catalogue here does not know the topic; it is set when it comes to.
    pub(crate) fn log_config(&self, id: PartitionId) -> LogConfig {
        let image = self.images.as_ref().map(watch::Receiver::borrow);
        let topic = image.as_ref().and_then(|image| image.topic_by_id(id.topic));
        topic.map_or_else(LogConfig::default, |topic| LogConfig {
            segment_bytes: u32::try_from(topic.config.segment_bytes).unwrap_or(u32::MAX),
            segment_ms: topic.config.segment_ms,
        })
    }

    pub(crate) fn get(&self, id: PartitionId) -> Option<Arc<Partition>> {
        self.partitions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&id)
            .cloned()
    }

    pub(crate) fn contains(&self, id: PartitionId) -> bool {
        self.partitions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(&id)
    }

    /// A picture of what is there now.
    pub(crate) fn all(&self) -> Vec<Arc<Partition>> {
        let partitions = self
            .partitions
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        partitions.values().cloned().collect()
    }

    pub(crate) fn insert(&self, partitions: impl IntoIterator<Item = Arc<Partition>>) {
        let mut map = self
            .partitions
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        map.extend(
            partitions
                .into_iter()
                .map(|partition| (partition.id, partition)),
        );
    }

    pub(crate) fn remove(&self, id: PartitionId) {
        self.partitions
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id);
    }
}

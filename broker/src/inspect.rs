//! What a node holds at this moment, for the checks of the simulation: nothing in the product reads
//! it. Looking waits for nothing and changes nothing.

use std::collections::HashMap;
use std::sync::Arc;

use raft::inspect::{AppliedEntry, ShardInspection};
use storage::{LeaderEpoch, LogId, LogIndex, NodeId, Offset, PartitionId, ShardId, Term};

use crate::Broker;
use crate::broker::CATALOGUE_SHARD;
use crate::catalogue::Catalogue;
use crate::partition::manifest::Stand;

/// A node as it is now.
#[derive(Debug, Clone)]
pub struct NodeInspection {
    /// The node.
    pub node: NodeId,
    /// Drawn when it joined, and again when it came back without its memory.
    pub incarnation: [u8; 16],
    /// How often since its start it has found its partitions' files to be other than it left them.
    pub damage_reports: u64,
    /// Its replica of each shard that is open, the catalogue's first.
    pub shards: Vec<ShardInspection>,
    /// Every log of a partition that it has, by name.
    pub partitions: Vec<PartitionInspection>,
    /// The catalogue as of its last applied entry here.
    pub catalogue: Arc<Catalogue>,
}

/// One log of a partition as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionInspection {
    /// The log's name: partition and generation.
    pub log: LogId,
    /// The shard that it belongs to.
    pub shard: ShardId,
    /// Whether this log is the partition, as the catalogue here has it.
    pub is_served: bool,
    /// What it is used for.
    pub stand: LogStand,
    /// First offset that may be read.
    pub start: Offset,
    /// The high watermark.
    pub end: Offset,
    /// The leader epoch of its last batch.
    pub epoch: Option<LeaderEpoch>,
}

/// What a log is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStand {
    /// It takes records.
    Serving,
    /// It is filled by a move.
    Filling,
    /// It takes nothing any more, because of a move.
    Sealed,
}

impl Broker {
    /// This node as it is now. For the checks of the simulation.
    #[doc(hidden)]
    #[must_use]
    pub fn inspect(&self) -> NodeInspection {
        let catalogue_shard = self.inner.catalogue_shard.inspect();
        let data_shards = self.shards();
        let data_shards = data_shards
            .iter()
            .filter_map(|(_, shard)| shard.shard.inspect());
        let mut partitions: Vec<_> = (self.inner.directory.all().iter())
            .map(|partition| {
                let served = self.inner.directory.get(partition.id);
                PartitionInspection {
                    log: partition.log_id(),
                    shard: partition.shard,
                    is_served: served.is_some_and(|served| served.log_id() == partition.log_id()),
                    stand: match partition.stand {
                        Stand::Serving => LogStand::Serving,
                        Stand::Filling => LogStand::Filling,
                        Stand::Sealed(_) => LogStand::Sealed,
                    },
                    start: partition.log.start_offset(),
                    end: partition.log.end_offset(),
                    epoch: partition.log.latest_epoch(),
                }
            })
            .collect();
        partitions.sort_by_key(|partition| partition.log);
        NodeInspection {
            node: self.node_id(),
            incarnation: self.inner.identity.incarnation,
            damage_reports: self.inner.logs.damage_reports(),
            shards: catalogue_shard.into_iter().chain(data_shards).collect(),
            partitions,
            catalogue: self.catalogue(),
        }
    }

    /// What each shard has applied since the last call, the oldest first; nothing unless
    /// [`raft::inspect::keep_applied`] was called before. For the checks of the simulation.
    #[doc(hidden)]
    #[must_use]
    pub fn take_applied(&self) -> Vec<(ShardId, Vec<AppliedEntry>)> {
        let mut taken = vec![(CATALOGUE_SHARD, self.inner.catalogue_shard.take_applied())];
        let data_shards = self.shards();
        taken.extend(
            data_shards
                .iter()
                .map(|(id, shard)| (*id, shard.shard.take_applied())),
        );
        taken.retain(|(_, applied)| !applied.is_empty());
        taken
    }

    /// Term of the entry at this index of a shard's log in the journal here; `None` when there is
    /// none. For the checks of the simulation.
    #[doc(hidden)]
    #[must_use]
    pub fn journal_term(&self, shard: ShardId, index: LogIndex) -> Option<Term> {
        if shard == CATALOGUE_SHARD {
            return self.inner.catalogue_shard.journal_term(index);
        }
        self.data_shard(shard)?.shard.journal_term(index)
    }
}

/// A digest of a state machine's parts, each by its own name: parts that an entry did not touch
/// are not read again.
#[derive(Debug, Default)]
pub(crate) struct Digests {
    parts: HashMap<PartitionId, u64>,
}

impl Digests {
    /// The part is not what it was, or is gone.
    pub(crate) fn forget(&mut self, part: PartitionId) {
        // Outside of a simulation nothing was ever digested: apply pays for no look-up.
        if !self.parts.is_empty() {
            self.parts.remove(&part);
        }
    }

    /// Everything may be different.
    pub(crate) fn forget_all(&mut self) {
        self.parts.clear();
    }

    /// The digest of a part, made by `encode` when it is not known.
    pub(crate) fn of(&mut self, part: PartitionId, encode: impl FnOnce() -> Vec<u8>) -> u64 {
        *self.parts.entry(part).or_insert_with(|| digest(&encode()))
    }
}

/// 64 bits (FNV-1a): enough to tell states apart that a bug made differ.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum: u64, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

//! Who serves which partition: what is the same for all partitions of a shard is found out once,
//! for a client may ask for ten thousand of them at a moment when their leader has just changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use storage::{LeaderEpoch, NodeId, PartitionId, ShardId, Term};

use crate::Broker;
use crate::catalogue::{Catalogue, PartitionStatus};
use crate::partition::epoch_in;

/// Statuses of partitions, as they are when their shard is asked for first.
#[derive(Debug)]
pub struct Statuses<'a> {
    broker: &'a Broker,
    catalogue: Arc<Catalogue>,
    shards: BTreeMap<ShardId, ShardAnswer>,
}

/// What holds for all partitions of a shard.
#[derive(Debug)]
struct ShardAnswer {
    leader: Option<NodeId>,
    term: Term,
    replicas: Vec<NodeId>,
    in_sync: Vec<NodeId>,
    offline: Vec<NodeId>,
    /// Whether this node has a replica of it.
    is_hosted: bool,
}

impl Broker {
    /// Who serves this partition, `None` when it does not exist.
    #[must_use]
    pub fn partition_status(&self, id: PartitionId) -> Option<PartitionStatus> {
        self.statuses().of(id)
    }

    /// To ask for many partitions' statuses at once.
    #[must_use]
    pub fn statuses(&self) -> Statuses<'_> {
        Statuses {
            broker: self,
            catalogue: self.catalogue(),
            shards: BTreeMap::new(),
        }
    }

    fn shard_answer(&self, catalogue: &Catalogue, id: ShardId) -> ShardAnswer {
        let replicas = catalogue.shards.get(&id);
        let replicas = replicas.map_or(Vec::new(), |shard| shard.replicas.clone());
        let seen = self.shard_seen(id);
        let that = |is_it: &dyn Fn(&NodeId) -> bool| {
            let nodes = replicas.iter().filter(|node| is_it(node));
            nodes.copied().collect()
        };
        ShardAnswer {
            leader: seen.leader,
            term: Term(seen.term),
            in_sync: that(&|node| seen.in_sync.contains(node)),
            offline: that(&|node| !self.is_alive(*node)),
            is_hosted: self.data_shard(id).is_some(),
            replicas,
        }
    }
}

impl Statuses<'_> {
    /// Who serves this partition, `None` when it does not exist.
    #[must_use]
    pub fn of(&mut self, id: PartitionId) -> Option<PartitionStatus> {
        let Statuses {
            broker,
            catalogue,
            shards,
        } = self;
        let entry = catalogue.entry(id)?;
        let shard = shards.entry(entry.shard);
        let shard = shard.or_insert_with(|| broker.shard_answer(catalogue, entry.shard));
        let hosted = broker.inner.directory.get(id);
        // Around the end of a move the log here may be another one than this picture names: the
        // base of one shard says nothing with the term of another.
        let named = hosted
            .as_ref()
            .filter(|hosted| hosted.generation() == entry.generation);
        let base = named.map_or(entry.epoch_base, |named| named.epoch_base);
        // A shard that has no such partition yet does not serve it.
        // Unless it came there by a move: then whoever leads has it.
        let has_moved = entry.generation > 0;
        let leader = shard
            .leader
            .filter(|_| hosted.is_some() || !shard.is_hosted || has_moved);
        Some(PartitionStatus {
            partition: id,
            leader,
            leader_epoch: LeaderEpoch(epoch_in(base, shard.term)),
            in_sync: shard.in_sync.clone(),
            offline: shard.offline.clone(),
            replicas: shard.replicas.clone(),
        })
    }
}

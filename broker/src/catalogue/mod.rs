//! The catalogue: which nodes, shards, topics and partitions the cluster has.
//!
//! It is the state machine of shard 0. Readers use an immutable [`Catalogue`] image that is
//! swapped when a change is applied; nothing here decides, it only remembers.

mod checkpoint;
pub(crate) mod command;
mod encoding;
pub(crate) mod machine;
pub(crate) mod membership;
pub(crate) mod moves;
pub(crate) mod quotas;
pub(crate) mod voids;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use storage::{LeaderEpoch, NodeId, PartitionId, ShardId, TopicId};

pub use self::quotas::{
    ClientQuotas, MUTATION_PARTS, QuotaChanges, QuotaEntity, QuotaKey, QuotaName,
};
pub use self::voids::{Void, Voids};
use crate::TopicConfig;

/// An immutable picture of the cluster. Cheap to share, never changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// Kafka's cluster id: 22 characters of URL-safe base64.
    pub cluster_id: String,
    /// Nodes by id.
    pub nodes: BTreeMap<NodeId, Node>,
    /// Where the search for the id of a node that wants none begins.
    pub next_node_id: u32,
    /// Ids of nodes that were removed; no node gets one of them again.
    pub removed_nodes: BTreeSet<NodeId>,
    /// Shards by id, shard 0 (the catalogue itself) included.
    pub shards: BTreeMap<ShardId, Shard>,
    /// The id of the next shard to be made.
    pub next_shard_id: u32,
    /// Topics by name.
    pub topics: BTreeMap<String, Arc<Topic>>,
    /// Names by topic id.
    pub names: BTreeMap<TopicId, String>,
    /// First producer id not handed out yet.
    pub next_producer_id: i64,
    /// What shards know of nodes that came back without their memory.
    pub voids: Voids,
    /// Nodes that came back without their memory, and what they drew when they last did.
    pub returns: BTreeMap<NodeId, [u8; 16]>,
    /// What clients may use of each node.
    pub quotas: Arc<ClientQuotas>,
    /// What was set for all brokers, by Kafka's name for it: the configs of topics that have none
    /// of their own.
    pub broker_configs: Arc<BTreeMap<String, String>>,
}

/// One node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Drawn when its data directory was founded or joined; zeros for a directory older than that.
    pub incarnation: [u8; 16],
    /// Its rack, when it has one.
    pub rack: Option<String>,
    /// Where it is reached, by listener name (`kafka`, `http`, `peers`): host and port.
    pub listeners: BTreeMap<String, (String, u16)>,
    /// What it is used for.
    pub state: NodeState,
}

/// What a node is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NodeState {
    /// It carries replicas.
    #[default]
    Active,
    /// Its replicas move away; it gets no new ones.
    Draining,
}

/// One Raft group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Its id.
    pub id: ShardId,
    /// Its confirmed voters, the preferred leader first.
    pub replicas: Vec<NodeId>,
    /// The replicas it shall have, while that is being carried out.
    pub target: Option<Vec<NodeId>>,
    /// Whether its members were ever changed: then nobody may initialise it any more.
    pub changed: bool,
    /// How many replicas it shall have, and who decides that.
    pub factor: Factor,
}

/// How many replicas a shard shall have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Factor {
    /// Three, or one on each node while there are fewer: grows with the cluster.
    Auto,
    /// So many.
    Fixed(u16),
    /// The list that somebody gave; it is not changed but on request.
    ByHand,
}

/// Where a partition lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionEntry {
    /// The shard that carries it.
    pub shard: ShardId,
    /// What is added to the shard's term to get the leader epoch; 0 in the shard it was made in.
    pub epoch_base: i64,
    /// Which of its logs is the partition: 0 until it is moved.
    pub generation: u32,
    /// The highest generation that was ever given; each move, cancelled or not, takes the next.
    pub last_generation: u32,
    /// Where it is being moved to.
    pub moving: Option<Move>,
}

/// A move of one partition to another shard, under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// The shard that shall carry it.
    pub to: ShardId,
    /// The generation of its log there.
    pub generation: u32,
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id, new at each creation.
    pub id: TopicId,
    /// Where each partition lives; the position is the partition's index.
    pub partitions: Vec<PartitionEntry>,
    /// Its configs that differ from the defaults, and the defaults.
    pub config: Arc<TopicConfig>,
    /// Kafka's `is_internal`.
    pub internal: bool,
}

impl PartitionEntry {
    /// A new partition of this shard.
    #[must_use]
    pub fn new(shard: ShardId) -> PartitionEntry {
        PartitionEntry {
            shard,
            epoch_base: 0,
            generation: 0,
            last_generation: 0,
            moving: None,
        }
    }

    /// Whether a log of this generation can never become the partition any more: the move that it
    /// was made for was cancelled, or the partition has moved on. Generations only rise, so a
    /// picture of the catalogue, however old, is right whenever it says so.
    pub(crate) fn is_past(&self, generation: u32) -> bool {
        let is_coming = self
            .moving
            .is_some_and(|moving| moving.generation == generation);
        generation != self.generation && !is_coming && generation <= self.last_generation
    }
}

impl Shard {
    /// A shard that was never changed.
    #[must_use]
    pub fn new(id: ShardId, replicas: Vec<NodeId>, factor: Factor) -> Shard {
        Shard {
            id,
            replicas,
            target: None,
            changed: false,
            factor,
        }
    }

    /// Whether this node is one of its replicas or shall become one.
    #[must_use]
    pub fn concerns(&self, node: NodeId) -> bool {
        let wanted = self.target.as_deref().unwrap_or_default();
        self.replicas.contains(&node) || wanted.contains(&node)
    }
}

/// Who serves a partition at this moment, as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionStatus {
    /// The partition.
    pub partition: PartitionId,
    /// The leader; `None` while there is none.
    pub leader: Option<NodeId>,
    /// The present leader epoch.
    pub leader_epoch: LeaderEpoch,
    /// All replicas, the preferred leader first.
    pub replicas: Vec<NodeId>,
    /// Those in sync.
    pub in_sync: Vec<NodeId>,
    /// Those whose node is down.
    pub offline: Vec<NodeId>,
}

impl Catalogue {
    /// The topic of this id.
    #[must_use]
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.names.get(&id).and_then(|name| self.topics.get(name))
    }

    /// Where a partition lives, when it exists.
    #[must_use]
    pub fn entry(&self, id: PartitionId) -> Option<PartitionEntry> {
        let topic = self.topic_by_id(id.topic)?;
        topic
            .partitions
            .get(usize::try_from(id.index).ok()?)
            .copied()
    }

    /// The moves that are under way.
    pub fn moves(&self) -> impl Iterator<Item = (PartitionId, PartitionEntry, Move)> + '_ {
        self.topics.values().flat_map(|topic| {
            let entries = (0..).zip(&topic.partitions);
            entries.filter_map(|(index, entry)| {
                let id = PartitionId {
                    topic: topic.id,
                    index,
                };
                Some((id, *entry, entry.moving?))
            })
        })
    }

    /// The partition of this topic and number, when it exists.
    #[must_use]
    pub fn partition(&self, topic: &str, index: i32) -> Option<PartitionId> {
        let topic = self.topics.get(topic)?;
        topic.partition(index)
    }
}

impl Topic {
    /// The partition of this number, when it exists.
    #[must_use]
    pub fn partition(&self, index: i32) -> Option<PartitionId> {
        let index = u32::try_from(index).ok()?;
        (usize::try_from(index).ok()? < self.partitions.len()).then_some(PartitionId {
            topic: self.id,
            index,
        })
    }
}

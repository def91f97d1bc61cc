//! The catalogue: which nodes, shards, topics and partitions the cluster has.
//!
//! It is the state machine of shard 0. Readers use an immutable [`Catalogue`] image that is
//! swapped when a change is applied; nothing here decides, it only remembers.

pub(crate) mod command;
pub(crate) mod machine;

use std::collections::BTreeMap;
use std::sync::Arc;

use storage::{LeaderEpoch, NodeId, PartitionId, ShardId, TopicId};

use crate::config::TopicConfig;

/// An immutable picture of the cluster. Cheap to share, never changes.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    /// Kafka's cluster id: 22 characters of URL-safe base64.
    pub cluster_id: String,
    /// Nodes by id.
    pub nodes: BTreeMap<NodeId, Node>,
    /// Shards by id, shard 0 (the catalogue itself) included.
    pub shards: BTreeMap<ShardId, Shard>,
    /// Topics by name.
    pub topics: BTreeMap<String, Arc<Topic>>,
    /// Names by topic id.
    pub names: BTreeMap<TopicId, String>,
    /// First producer id not handed out yet.
    pub next_producer_id: i64,
}

/// One node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Its rack, when it has one.
    pub rack: Option<String>,
    /// Where clients reach it, by listener name (`kafka`, `http`, ...): host and port.
    pub listeners: BTreeMap<String, (String, u16)>,
}

/// One Raft group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Its id.
    pub id: ShardId,
    /// Its replicas, the preferred leader first.
    pub replicas: Vec<NodeId>,
}

/// One topic.
#[derive(Debug, Clone)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id, new at each creation.
    pub id: TopicId,
    /// The shard of each partition; the position is the partition's index.
    pub partitions: Vec<ShardId>,
    /// Its configs that differ from the defaults, and the defaults.
    pub config: Arc<TopicConfig>,
    /// Kafka's `is_internal`.
    pub internal: bool,
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

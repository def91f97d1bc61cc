//! The broker's face: everything an adapter can ask for.

use std::sync::Arc;

use bytes::Bytes;
use storage::clock::Clock;
use storage::{LeaderEpoch, NodeId, Offset, PartitionId, TopicId};
use tokio::sync::watch;

use crate::catalogue::{Catalogue, Node, PartitionStatus};
use crate::*;

/// What a node gives its broker: time and randomness.
#[derive(Debug, Clone)]
pub struct Env {
    /// Time.
    pub clock: Clock,
    /// The disk.
    pub disk: storage::disk::Disk,
    /// Seeds every id this node makes.
    pub seed: [u64; 4],
}

/// Why a broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error("{0}")]
    Storage(String),
}

/// A running broker. Cheap to clone; all clones are the same broker.
#[derive(Clone)]
pub struct Broker {}

impl Broker {
    /// This node.
    pub fn node_id(&self) -> NodeId {
        todo!()
    }
    /// How this broker is configured.
    pub fn config(&self) -> &BrokerConfig {
        todo!()
    }
    /// The clock everything here goes by.
    pub fn clock(&self) -> &Clock {
        todo!()
    }
    /// The present picture of the cluster.
    pub fn catalogue(&self) -> Arc<Catalogue> {
        todo!()
    }
    /// Who serves this partition, `None` when it does not exist.
    pub fn partition_status(&self, _partition: PartitionId) -> Option<PartitionStatus> {
        todo!()
    }
    /// The node that clients are told is the controller: the catalogue's leader.
    pub fn controller(&self) -> Option<NodeId> {
        todo!()
    }
    /// Enters this node and where clients reach it into the catalogue.
    pub async fn register_node(&self, _node: Node) -> Result<(), BrokerError> {
        todo!()
    }
    /// Turns to `Some(reason)` when the storage failed and the node must start over from disk.
    pub fn failure(&self) -> watch::Receiver<Option<String>> {
        todo!()
    }
    /// Checks a batch and queues it. Returns when its place in the order is fixed (waiting for room
    /// when there is none: this is the back-pressure); the result comes through [`PendingAppend`].
    pub async fn append(
        &self,
        _partition: PartitionId,
        _batch: Bytes,
        _acks: RequiredAcks,
    ) -> Result<PendingAppend, AppendError> {
        todo!()
    }
    /// Reads, waiting as the request says. One result a partition, in the request's order.
    pub async fn fetch(
        &self,
        _request: FetchRequest,
    ) -> Vec<(PartitionId, Result<FetchedPartition, BrokerError>)> {
        todo!()
    }
    /// Finds an offset. `current_leader_epoch` is checked when given.
    pub async fn list_offset(
        &self,
        _partition: PartitionId,
        _query: OffsetQuery,
        _isolation: Isolation,
        _current_leader_epoch: Option<LeaderEpoch>,
    ) -> Result<FoundOffset, BrokerError> {
        todo!()
    }
    /// KIP-320: the largest epoch not above `epoch` and the offset where it ends; `None` when there
    /// is none.
    pub fn end_offset_for_epoch(
        &self,
        _partition: PartitionId,
        _current_leader_epoch: Option<LeaderEpoch>,
        _epoch: LeaderEpoch,
    ) -> Result<Option<(LeaderEpoch, Offset)>, BrokerError> {
        todo!()
    }
    /// Creates topics; with `validate_only` only says what would happen. Returns when every
    /// partition has a serving leader, or `timeout_ms` has passed (`TimedOut`; it goes on).
    pub async fn create_topics(
        &self,
        _topics: Vec<NewTopic>,
        _validate_only: bool,
        _timeout_ms: i64,
    ) -> Vec<Result<CreatedTopic, BrokerError>> {
        todo!()
    }
    /// Deletes topics; answers each with its name and id.
    pub async fn delete_topics(
        &self,
        _topics: Vec<TopicRef>,
        _timeout_ms: i64,
    ) -> Vec<Result<(String, TopicId), BrokerError>> {
        todo!()
    }
    /// Raises partition counts.
    pub async fn create_partitions(
        &self,
        _topics: Vec<NewPartitions>,
        _validate_only: bool,
        _timeout_ms: i64,
    ) -> Vec<Result<(), BrokerError>> {
        todo!()
    }
    /// Raises the log start to `before` (`None`: to the high watermark); answers the new log start.
    pub async fn delete_records(
        &self,
        _partition: PartitionId,
        _before: Option<Offset>,
        _timeout_ms: i64,
    ) -> Result<Offset, BrokerError> {
        todo!()
    }
    /// The configs of a topic, every known key.
    pub fn topic_configs(&self, _topic: &str) -> Result<Vec<ConfigEntry>, BrokerError> {
        todo!()
    }
    /// Changes configs of a topic, all or none.
    pub async fn alter_topic_configs(
        &self,
        _topic: &str,
        _changes: Vec<ConfigChange>,
        _validate_only: bool,
    ) -> Result<(), BrokerError> {
        todo!()
    }
    /// A producer id that nobody had before (epoch 0).
    pub async fn new_producer_id(&self) -> Result<i64, BrokerError> {
        todo!()
    }
    /// Creates a topic on first use where that is allowed; `Ok` also when it exists.
    pub async fn auto_create_topic(&self, _name: &str) -> Result<(), BrokerError> {
        todo!()
    }
}

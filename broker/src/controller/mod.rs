//! What the catalogue's leader decides, and the operations that operators ask for.

use storage::{NodeId, PartitionId, ShardId};

use crate::cluster::{Election, LogDir, QuorumStatus, Reassignment};
use crate::{Broker, BrokerError};

pub(crate) async fn transfer_leader(
    broker: &Broker,
    shard: ShardId,
    to: NodeId,
) -> Result<(), BrokerError> {
    let _ = (broker, shard, to);
    Err(BrokerError::LeaderNotAvailable)
}

pub(crate) async fn rebalance_leaders(broker: &Broker) -> Result<usize, BrokerError> {
    let _ = broker;
    Err(BrokerError::LeaderNotAvailable)
}

pub(crate) async fn elect_leaders(
    broker: &Broker,
    kind: Election,
    partitions: Option<Vec<PartitionId>>,
) -> Result<Vec<(PartitionId, Result<(), BrokerError>)>, BrokerError> {
    let _ = (broker, kind, partitions);
    Err(BrokerError::LeaderNotAvailable)
}

pub(crate) async fn alter_reassignments(
    broker: &Broker,
    changes: Vec<(PartitionId, Option<Vec<NodeId>>)>,
) -> Vec<(PartitionId, Result<(), BrokerError>)> {
    let _ = (broker, changes);
    Vec::new()
}

pub(crate) fn list_reassignments(broker: &Broker) -> Vec<Reassignment> {
    let _ = broker;
    Vec::new()
}

pub(crate) fn quorum_status(broker: &Broker) -> QuorumStatus {
    QuorumStatus {
        leader: broker.controller(),
        term: 0,
        high_watermark: 0,
        voters: Vec::new(),
        observers: Vec::new(),
    }
}

pub(crate) fn log_dirs(broker: &Broker) -> Vec<LogDir> {
    let _ = broker;
    Vec::new()
}

//! What this node knows of the whole cluster.

use storage::NodeId;

use crate::Broker;
use crate::cluster::ClusterStatus;

impl Broker {
    /// Whether a node answers, as far as this one can tell.
    pub(crate) fn is_alive(&self, node: NodeId) -> bool {
        node == self.node_id()
    }
}

pub(crate) fn cluster_status(broker: &Broker) -> ClusterStatus {
    ClusterStatus {
        cluster_id: broker.catalogue().cluster_id.clone(),
        controller: broker.controller(),
        nodes: Vec::new(),
        shards: Vec::new(),
    }
}

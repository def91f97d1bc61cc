//! A shard's way to its other replicas over the node's peers, and theirs to it.

use std::sync::Arc;

use storage::ShardId;

use crate::group::{GroupRaft, Parts, Wire};
use crate::host::Shared;
use crate::network::Network;
use crate::peer::Attachment;
use crate::receive::Receiver;
use crate::staging::Staging;
use crate::{Apply, Stage};

/// Replicas on other nodes.
pub(crate) struct PeerWire {
    shared: Arc<Shared>,
    shard: ShardId,
    stage: Option<Arc<dyn Stage>>,
}

impl PeerWire {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        shard: ShardId,
        stage: Option<Arc<dyn Stage>>,
    ) -> PeerWire {
        PeerWire {
            shared: Arc::clone(shared),
            shard,
            stage,
        }
    }
}

impl<A: Apply> Wire<A> for PeerWire {
    type Network = Network;

    fn network(&mut self, parts: &Parts) -> Network {
        Network {
            shard: self.shard,
            peers: self.shared.peers.clone(),
            clock: self.shared.clock.clone(),
            checkpoints: Arc::clone(&parts.checkpoints),
            stagings: Arc::clone(&parts.stagings),
        }
    }

    fn attach(self, parts: &Parts, raft: GroupRaft<A>) -> Option<Attachment> {
        let staging = Staging::new(
            raft.clone(),
            Arc::clone(&parts.status),
            self.stage,
            self.shared.ambient.clone(),
        );
        let receiver = Receiver {
            shard: self.shard,
            raft,
            staging: Arc::new(staging),
            recall: parts.recall.clone(),
            status: Arc::clone(&parts.status),
        };
        Some(self.shared.peers.attach(self.shard, Arc::new(receiver)))
    }
}

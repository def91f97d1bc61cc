//! A shard's way to its other replicas over the node's [`Peers`], and theirs to it.

use std::sync::Arc;

use storage::ShardId;

use crate::group::{GroupRaft, Parts, Wire};
use crate::host::Shared;
use crate::network::Nobody;
use crate::peer::{Attachment, Peers};
use crate::{Apply, Stage};

pub(crate) struct PeerWire {
    peers: Peers,
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
            peers: shared.peers.clone(),
            shard,
            stage,
        }
    }
}

impl<A: Apply> Wire<A> for PeerWire {
    type Network = Nobody;

    fn network(&mut self, _parts: &Parts) -> Nobody {
        Nobody
    }

    fn attach(self, _parts: &Parts, _raft: GroupRaft<A>) -> Option<Attachment> {
        let _ = (self.peers, self.shard, self.stage);
        None
    }
}

//! The cluster's side: takes a node back that lost its memory, and lets shards go on without it.

use std::time::Duration;

use raft::{Floor, Members, Shard};
use storage::NodeId;

use crate::broker::CATALOGUE_SHARD;
use crate::catalogue::command::Command;
use crate::catalogue::voids::Comeback;
use crate::peers::message::Returned;
use crate::peers::service::addresses;
use crate::{Broker, BrokerError};

/// Time between two lines of the log about shards that cannot go on without a node yet.
const TELL_PAUSE: Duration = Duration::from_secs(5);
/// Pause between two looks at how far a shard is.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

impl Broker {
    /// Says, as the catalogue's leader, which shards cannot go on yet without nodes that lost their
    /// memory. Runs until it is dropped.
    pub(crate) async fn tell_returns_forever(self) {
        loop {
            tokio::time::sleep(TELL_PAUSE).await;
            if !self.inner.catalogue_shard.leadership().borrow().serving {
                continue;
            }
            let catalogue = self.catalogue();
            for shard in catalogue.voids.keys() {
                let nodes = catalogue.waiting_voids(*shard);
                if nodes.is_empty() {
                    continue;
                }
                tracing::warn!(%shard, ?nodes,
                    "a shard waits until a majority of its voters has gone on without nodes that \
                     lost their memory: start the voters that are down");
            }
        }
    }

    /// Makes a node known with the incarnation it comes back with, and says how far the catalogue's
    /// shard has gone on without its former self. To be asked again until it has.
    pub(crate) async fn take_back(&self, comeback: Comeback) -> Result<Returned, BrokerError> {
        let node = comeback.node;
        let is_known = || {
            let catalogue = self.catalogue();
            catalogue.has_returned(node, comeback.incarnation)
        };
        if !is_known() {
            let command = Command::Return(comeback.clone());
            self.change_catalogue(&command).await?;
            tracing::warn!(%node, lost_all = comeback.lost_all,
                "a node that lost its memory comes back");
        }
        if !is_known() {
            // This node's catalogue lags: asked again it will have come.
            return Err(BrokerError::LeaderNotAvailable);
        }
        let catalogue = self.catalogue();
        Ok(Returned {
            cluster_id: catalogue.cluster_id.clone(),
            catalogue: catalogue.void(CATALOGUE_SHARD, node),
            members: addresses(&catalogue),
        })
    }

    /// Tells the catalogue that a shard, led here, goes on without a node that came back, if that
    /// is so and committed.
    pub(crate) async fn clear_void<O>(&self, shard: &Shard<O>, node: NodeId) -> Result<(), String>
    where
        O: Send + Sync + 'static,
    {
        let id = shard.id();
        // First the mark, then the members: they are without the node after the mark was set.
        let catalogue = self.catalogue();
        let drawn = catalogue.returns.get(&node);
        let Some(drawn) = drawn.filter(|_| catalogue.is_waiting_void(id, node)) else {
            return Ok(());
        };
        let leadership = shard.leadership();
        let now = *leadership.borrow();
        let changed = || Err("the shard's leader or its members have changed".to_owned());
        let members = shard.members();
        if !now.serving || !lacks(&members.borrow(), node) {
            return changed();
        }
        // These members stand in the log, which need not be committed; it is, up to here, when
        // this is applied and the term is the same.
        let last = shard.progress().last;
        while shard.progress().applied < last {
            if *leadership.borrow() != now {
                return changed();
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        let passed = shard.read_barrier().await;
        passed.map_err(|error| error.to_string())?;
        let applied = shard.progress().applied;
        if *leadership.borrow() != now || !lacks(&members.borrow(), node) {
            return changed();
        }
        let command = Command::Voided {
            shard: id,
            node,
            incarnation: *drawn,
            floor: Floor {
                term: now.term,
                leader: self.node_id(),
                last: applied.unwrap_or_default(),
            },
        };
        match self.change_catalogue(&command).await {
            // It has returned once more, or was removed; the next image says which.
            Ok(_) | Err(BrokerError::Conflict { .. } | BrokerError::UnknownNode { .. }) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn lacks(members: &Members, node: NodeId) -> bool {
    !members.is_joint && !members.voters.contains(&node) && !members.learners.contains(&node)
}

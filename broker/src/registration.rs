//! Keeps what the catalogue says of this node true: its rack, its addresses, its incarnation.
//!
//! Addresses may change at each start and are known only once the listeners are bound, and a
//! catalogue that can be changed may be long in coming; so this is a task that goes on trying.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use storage::NodeId;
use tokio::time::MissedTickBehavior;

use crate::catalogue::command::Command;
use crate::catalogue::machine::Outcome;
use crate::catalogue::{Catalogue, Node, NodeState};
use crate::{Broker, BrokerError};

/// How long [`Broker::register_listeners`] waits.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Pause between two looks at whether this node's catalogue is current.
const CATCH_UP_PAUSE: Duration = Duration::from_millis(20);
/// Pause after a try that came to nothing.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Time between two looks at whether the cluster knows this node.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// How long the catalogue's leader is waited for before all others are asked.
const LEADER_MAX: Duration = Duration::from_secs(2);
/// How long one node may take to take this node's addresses.
const ASK_MAX: Duration = Duration::from_secs(5);

impl Broker {
    /// Says where this node is reached, by listener name, in addition to what its configuration
    /// says. Returns when the cluster knows, and this node's catalogue has all that was committed
    /// before the call: who asks a node that has been away shall not be told what was.
    ///
    /// # Errors
    /// [`BrokerError::TimedOut`] when it did not come about within 10 s, for want of a majority,
    /// say; the node goes on trying, and may serve meanwhile.
    pub async fn register_listeners(
        &self,
        listeners: BTreeMap<String, (String, u16)>,
    ) -> Result<(), BrokerError> {
        self.inner
            .listeners
            .send_modify(|known| known.extend(listeners));
        let joined = async {
            let mut images = self.inner.images.clone();
            let registered = images.wait_for(|catalogue| self.is_registered(catalogue));
            registered.await.map_err(|_| BrokerError::ShuttingDown)?;
            while let Err(error) = self.catalogue_is_current().await {
                tracing::debug!(%error, "this node's catalogue may be behind");
                tokio::time::sleep(CATCH_UP_PAUSE).await;
            }
            Ok(())
        };
        match tokio::time::timeout(WAIT_MAX, joined).await {
            Ok(joined) => joined,
            Err(_) => Err(BrokerError::TimedOut {
                reason: match self.is_registered(&self.catalogue()) {
                    true => "this node's catalogue may be behind the cluster's",
                    false => "the cluster does not know this node's addresses yet",
                }
                .to_owned(),
            }),
        }
    }

    /// This node as the catalogue should know it.
    fn own_entry(&self) -> Node {
        Node {
            id: self.node_id(),
            incarnation: self.inner.identity.incarnation,
            rack: self.inner.config.rack.clone(),
            listeners: self.inner.listeners.borrow().clone(),
            state: NodeState::Active,
        }
    }

    fn is_registered(&self, catalogue: &Catalogue) -> bool {
        let own = self.own_entry();
        let known = catalogue.nodes.get(&own.id);
        known.is_some_and(|known| {
            let state = known.state;
            *known == Node { state, ..own }
        })
    }

    /// Runs until it is dropped.
    ///
    /// The catalogue here says nothing of this node for certain: it is old when nobody can dial
    /// the address that the cluster has. So it is looked at together with its leader, by asking,
    /// and when that does not come about, what the cluster shall know is said by asking.
    pub(crate) async fn register_forever(self) {
        let mut images = self.inner.images.clone();
        let mut listeners = self.inner.listeners.subscribe();
        let mut check = tokio::time::interval(CHECK_INTERVAL);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first look is at once.
        check.reset();
        let mut is_due = true;
        loop {
            listeners.borrow_and_update();
            let catalogue = images.borrow_and_update().clone();
            let is_wrong = !catalogue.cluster_id.is_empty() && !self.is_registered(&catalogue);
            let is_unknown = is_wrong || (is_due && !self.is_known().await);
            if is_unknown && let Err(error) = self.register().await {
                tracing::warn!(%error, "the cluster does not know this node's addresses yet");
                tokio::time::sleep(RETRY_PAUSE).await;
                is_due = true;
                continue;
            }
            is_due = tokio::select! {
                changed = images.changed() => match changed {
                    Ok(()) => false,
                    Err(_) => return,
                },
                changed = listeners.changed() => match changed {
                    Ok(()) => false,
                    Err(_) => return,
                },
                _ = check.tick() => true,
            };
        }
    }

    /// Whether the catalogue knows this node's addresses for certain.
    async fn is_known(&self) -> bool {
        // Right after the start a leader is found first.
        let mut leadership = self.inner.catalogue_shard.leadership();
        let led = leadership.wait_for(|now| now.serving || now.leader.is_some());
        if !matches!(tokio::time::timeout(LEADER_MAX, led).await, Ok(Ok(_))) {
            return false;
        }
        self.catalogue_is_current().await.is_ok() && self.is_registered(&self.catalogue())
    }

    /// Says where this node is: to the catalogue's leader where that is known, else to one node
    /// after the other, each of which may know it.
    async fn register(&self) -> Result<(), BrokerError> {
        let command = Command::PutNode(self.own_entry());
        let others = self.others();
        let leadership = *self.inner.catalogue_shard.leadership().borrow();
        if leadership.serving || others.is_empty() {
            return self.change_catalogue(&command).await.map(|_| ());
        }
        let mut asked = BTreeSet::from([self.node_id()]);
        let mut to_ask: VecDeque<NodeId> = leadership.leader.into_iter().collect();
        to_ask.extend(others);
        let mut refusal = BrokerError::LeaderNotAvailable;
        while let Some(node) = to_ask.pop_front() {
            if !asked.insert(node) {
                continue;
            }
            let asking = self.propose_there(node, &command);
            let proposed = match tokio::time::timeout(ASK_MAX, asking).await {
                Ok(proposed) => proposed,
                // It may have come about, and may be repeated.
                Err(_) => continue,
            };
            match proposed.map(|proposed| proposed.outcome) {
                Ok(Outcome::Refused(error)) => return Err(error),
                Ok(_) => return Ok(()),
                Err(BrokerError::NotLeader {
                    leader: Some(leader),
                }) => to_ask.push_front(leader),
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    /// The other nodes, as far as this one has heard of them.
    fn others(&self) -> BTreeSet<NodeId> {
        let mut nodes: BTreeSet<NodeId> = self.catalogue().nodes.keys().copied().collect();
        nodes.extend(self.inner.links.borrow().keys().copied());
        nodes.extend(&self.inner.catalogue_shard.members().borrow().voters);
        nodes.remove(&self.node_id());
        nodes
    }
}

#[cfg(test)]
#[path = "registration_test.rs"]
mod tests;

//! Keeps what the catalogue says of this node true: its rack, its addresses, its incarnation.
//!
//! Addresses may change at each start and are known only once the listeners are bound, and a
//! catalogue that can be changed may be long in coming; so this is a task that goes on trying.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::catalogue::command::Command;
use crate::catalogue::{Catalogue, Node, NodeState};
use crate::{Broker, BrokerError};

/// How long [`Broker::register_listeners`] waits.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Pause after a try that came to nothing.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

impl Broker {
    /// Says where this node is reached, by listener name, in addition to what its configuration
    /// says. Returns when the cluster knows.
    ///
    /// # Errors
    /// [`BrokerError::TimedOut`] when the cluster did not take it within 10 s; the node goes on
    /// trying, and serves meanwhile.
    pub async fn register_listeners(
        &self,
        listeners: BTreeMap<String, (String, u16)>,
    ) -> Result<(), BrokerError> {
        self.inner
            .listeners
            .send_modify(|known| known.extend(listeners));
        let mut images = self.inner.images.clone();
        let registered = images.wait_for(|catalogue| self.is_registered(catalogue));
        match tokio::time::timeout(WAIT_MAX, registered).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(BrokerError::ShuttingDown),
            Err(_) => Err(BrokerError::TimedOut {
                reason: "the cluster does not know this node's addresses yet".to_owned(),
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
    pub(crate) async fn register_forever(self) {
        let mut images = self.inner.images.clone();
        let mut listeners = self.inner.listeners.subscribe();
        loop {
            listeners.borrow_and_update();
            let catalogue = images.borrow_and_update().clone();
            if !catalogue.cluster_id.is_empty() && !self.is_registered(&catalogue) {
                let command = Command::PutNode(self.own_entry());
                if let Err(error) = self.change_catalogue(&command).await {
                    tracing::warn!(%error, "the cluster does not know this node's addresses yet");
                    tokio::time::sleep(RETRY_PAUSE).await;
                    images.mark_changed();
                }
            }
            tokio::select! {
                changed = images.changed() => if changed.is_err() { return },
                changed = listeners.changed() => if changed.is_err() { return },
            }
        }
    }
}

//! A node that lost its memory and goes on with what it has, because whoever runs it said so.
//!
//! While others may still go on without it, that is better: so it first waits. A node that was told
//! to go on before anybody had answered it does not know whether the cluster has taken it back all
//! the same, as another one than it is now; it finds out, and starts over as that one.

use std::time::Duration;

use storage::ShardId;
use storage::data_dir::Returning;

use super::node::others;
use crate::broker::fail;
use crate::catalogue::command::Command;
use crate::catalogue::voids::Comeback;
use crate::peers::message::{Discovered, Named, Request, Returned, decode_answer};
use crate::{Broker, BrokerError};

/// Pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// How long another node, or the catalogue's leader, may take to answer.
const ASK_DEADLINE: Duration = Duration::from_secs(5);

impl Broker {
    /// Whether a shard must not be opened here until it has gone on without this node.
    pub(crate) fn is_waiting_in(&self, shard: ShardId) -> bool {
        self.catalogue().is_waiting_void(shard, self.node_id())
    }

    /// Where whoever runs this node takes what is on its disk for good: says so to the catalogue,
    /// so that no shard waits until it has gone on without it.
    pub(crate) async fn accept_loss(&self) -> Result<(), BrokerError> {
        let node = self.node_id();
        let drawn = self.catalogue().returns.get(&node).copied();
        let Some(incarnation) = drawn.filter(|_| self.inner.accepts_loss) else {
            return Ok(());
        };
        let command = Command::Accept { node, incarnation };
        self.change_catalogue(&command).await.map(|_| ())
    }

    /// Accepts what is on this disk for the shards that still wait when the others have had their
    /// time.
    pub(crate) async fn accept_what_waits(self) {
        if !self.inner.accepts_loss {
            return;
        }
        let node = self.node_id();
        let mut images = self.inner.images.clone();
        let patience = Duration::from_millis(self.inner.config.accept_power_loss_after_ms);
        let is_settled = images.wait_for(|catalogue| {
            let mut shards = catalogue.voids.keys();
            !shards.any(|shard| catalogue.is_waiting_void(*shard, node))
        });
        if tokio::time::timeout(patience, is_settled).await.is_ok() {
            return;
        }
        while let Err(error) = self.accept_loss().await {
            tracing::warn!(%error, "the catalogue does not accept yet what is on this disk");
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    /// Finds out whether the cluster has carried out a return that this node did not wait for.
    pub(crate) async fn learn_answer(self) {
        let Some(returning) = self.inner.unanswered.clone() else {
            return;
        };
        let has_returned = loop {
            if let Some(has_returned) = self.look_for_answer(&returning).await {
                break has_returned;
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        };
        let noted = match has_returned {
            true => self.become_returned(returning).await,
            false => {
                let data_dir = self.inner.data_dir.clone();
                let clearing = net::blocking(move || {
                    data_dir
                        .clear_returning()
                        .map_err(|error| error.to_string())
                });
                clearing.await.map_err(|error| error.to_string()).flatten()
            }
        };
        if let Err(error) = noted {
            tracing::error!(error, "cannot note what became of this node's return");
        }
    }

    /// Whether the return was carried out; `None` while that is not known.
    async fn look_for_answer(&self, returning: &Returning) -> Option<bool> {
        let node = self.node_id();
        let is_told = || {
            let catalogue = self.catalogue();
            catalogue.has_returned(node, returning.incarnation)
        };
        let current = tokio::time::timeout(ASK_DEADLINE, self.catalogue_is_current()).await;
        if is_told() {
            return Some(true);
        }
        if matches!(current, Ok(Ok(()))) {
            return Some(is_told());
        }
        // To whoever has seen the return this node is a stranger: they do not talk to it as it is.
        let own_address = self.inner.peers.local_addr().to_string();
        let seeds = &self.inner.config.seeds;
        for address in others(&self.catalogue(), node, (seeds, &own_address)) {
            if self.is_refused_by(&address).await
                && self.is_taken_back_by(&address, returning).await
            {
                return Some(true);
            }
        }
        None
    }

    async fn is_refused_by(&self, address: &str) -> bool {
        let own = Named {
            cluster_id: self.inner.identity.cluster_id.clone(),
            node: self.node_id(),
            incarnation: self.inner.identity.incarnation,
        };
        let request = Request::Discover(Some(own)).encode();
        let peers = &self.inner.peers;
        let answer = peers.ask_stranger(address, request, ASK_DEADLINE).await;
        let found = answer.map(decode_answer::<Discovered>);
        matches!(found, Ok(Ok(Ok(found))) if found.refusal.is_some())
    }

    async fn is_taken_back_by(&self, address: &str, returning: &Returning) -> bool {
        let comeback = Comeback {
            node: self.node_id(),
            before: returning.before,
            incarnation: returning.incarnation,
            keeps_incarnation: false,
            lost_all: returning.has_lost_all,
        };
        let request = Request::Return(comeback).encode();
        let peers = &self.inner.peers;
        let answer = peers.ask_stranger(address, request, ASK_DEADLINE).await;
        let cluster_id = &self.inner.identity.cluster_id;
        let back = answer.map(decode_answer::<Returned>);
        matches!(back, Ok(Ok(Ok(back))) if back.cluster_id == *cluster_id)
    }

    /// Notes who this node is to the others, and lets it start over as that.
    async fn become_returned(&self, mut returning: Returning) -> Result<(), String> {
        let mut identity = self.inner.identity.clone();
        identity.incarnation = returning.incarnation;
        returning.is_answered = true;
        let data_dir = self.inner.data_dir.clone();
        let noting = net::blocking(move || {
            data_dir.set_returning(&returning)?;
            data_dir.set_identity(&identity)
        });
        let noted = noting.await.map_err(|error| error.to_string())?;
        noted.map_err(|error| error.to_string())?;
        let reason = "the cluster has taken this node back meanwhile";
        fail(&self.inner.failure, reason.to_owned());
        Ok(())
    }
}

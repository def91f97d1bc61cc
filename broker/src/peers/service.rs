//! Answers other nodes' requests, from before this node has a cluster until it stops.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use raft::{Caller, PeerService};
use storage::data_dir::Identity;

use super::message::{
    Address, Discovered, Joined, Named, Request, Standing, decode_answer, encode_answer,
};
use crate::bootstrap::Own;
use crate::broker::{Inner, PEERS_LISTENER};
use crate::catalogue::Catalogue;
use crate::catalogue::command::{Command, Joiner};
use crate::catalogue::machine::Outcome;
use crate::{Broker, BrokerError};

/// How long it may take to find out whether the catalogue here is current.
const CURRENT_MAX: Duration = Duration::from_millis(600);

/// How far this node has come.
#[derive(Clone)]
enum State {
    /// It is not known yet what the directory holds.
    Starting,
    /// It looks for its cluster.
    Blank(Own),
    /// It belongs to a cluster, and its broker may run.
    Member(Identity, Weak<Inner>),
}

/// The node's part that others can ask. Clones are the same desk.
#[derive(Clone)]
pub(crate) struct Desk {
    state: Arc<RwLock<State>>,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

impl Desk {
    pub(crate) fn new() -> Desk {
        Desk {
            state: Arc::new(RwLock::new(State::Starting)),
        }
    }

    fn set(&self, state: State) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// It looks for its cluster.
    pub(crate) fn set_blank(&self, own: Own) {
        self.set(State::Blank(own));
    }

    /// It belongs to a cluster; its broker is not there yet.
    pub(crate) fn set_member(&self, identity: Identity) {
        self.set(State::Member(identity, Weak::new()));
    }

    /// Its broker is there.
    pub(crate) fn set_broker(&self, identity: Identity, broker: &Broker) {
        self.set(State::Member(identity, Arc::downgrade(&broker.inner)));
    }

    fn state(&self) -> State {
        self.state
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn broker(&self) -> Result<Broker, BrokerError> {
        let State::Member(_, broker) = self.state() else {
            return Err(BrokerError::LeaderNotAvailable);
        };
        let inner = broker.upgrade().ok_or(BrokerError::LeaderNotAvailable)?;
        Ok(Broker { inner })
    }

    fn discover(&self, asker: Option<Named>) -> Result<Discovered, BrokerError> {
        match self.state() {
            State::Starting => Err(BrokerError::LeaderNotAvailable),
            State::Blank(own) => Ok(Discovered {
                incarnation: own.incarnation,
                standing: Standing::Blank {
                    wanted: own.wanted,
                    seeds: own.seeds,
                },
                refusal: None,
            }),
            State::Member(identity, _) => {
                let catalogue = self.broker().map(|broker| broker.catalogue()).ok();
                let catalogue = catalogue.unwrap_or_default();
                Ok(Discovered {
                    incarnation: identity.incarnation,
                    refusal: asker.and_then(|asker| refusal(&asker, &identity, &catalogue)),
                    standing: Standing::Member {
                        is_ready: !catalogue.cluster_id.is_empty(),
                        cluster_id: identity.cluster_id,
                        node: identity.node_id,
                    },
                })
            }
        }
    }

    /// A catalogue that lags may know a node by what it was before it last came back: only a
    /// current one refuses a member.
    async fn discover_surely(&self, asker: Option<Named>) -> Result<Discovered, BrokerError> {
        let found = self.discover(asker.clone())?;
        if found.refusal.is_none() {
            return Ok(found);
        }
        let current = async { self.broker()?.catalogue_is_current().await };
        match tokio::time::timeout(CURRENT_MAX, current).await {
            Ok(Ok(())) => self.discover(asker),
            Ok(Err(_)) | Err(_) if is_of_cluster(asker.as_ref(), &found) => Ok(Discovered {
                refusal: None,
                ..found
            }),
            Ok(Err(_)) | Err(_) => Ok(found),
        }
    }

    async fn join(&self, joiner: Joiner) -> Result<Joined, BrokerError> {
        let broker = self.broker()?;
        let command = Command::Join(joiner);
        match broker.change_catalogue(&command).await? {
            Outcome::Node(node) => {
                let catalogue = broker.catalogue();
                Ok(Joined {
                    cluster_id: catalogue.cluster_id.clone(),
                    node,
                    members: addresses(&catalogue),
                })
            }
            outcome => unreachable!("joining came to {outcome:?}"),
        }
    }

    async fn answer(self, from: Caller, request: Bytes) -> Bytes {
        let request = match Request::decode(request) {
            Ok(request) => request,
            Err(error) => {
                let reason = format!("this node cannot read the request: {error}");
                return encode_answer::<()>(&Err(BrokerError::InvalidRequest { reason }));
            }
        };
        match (request, from) {
            (Request::Discover(asker), _) => encode_answer(&self.discover_surely(asker).await),
            (Request::Join(joiner), _) => encode_answer(&self.join(joiner).await),
            (Request::Return(comeback), _) => {
                let taken = async { self.broker()?.take_back(comeback).await };
                encode_answer(&taken.await)
            }
            (Request::Propose(command), Caller::Member(_)) => {
                let command = Command::decode(command);
                let proposed = async {
                    let command = command.map_err(|error| BrokerError::InvalidRequest {
                        reason: format!("this node cannot read the command: {error}"),
                    })?;
                    self.broker()?.propose_here(&command).await
                };
                encode_answer(&proposed.await)
            }
            (Request::Report(reports), Caller::Member(node)) => {
                let taken = self
                    .broker()
                    .map(|broker| broker.take_report(node, reports));
                encode_answer(&taken)
            }
            (Request::ReadRange(body), Caller::Member(_)) => match self.broker() {
                Ok(broker) => broker.answer_range(body).await,
                Err(error) => encode_answer::<()>(&Err(error)),
            },
            (Request::TransferLeader { shard, to }, Caller::Member(_)) => {
                let moved = async { self.broker()?.transfer_here(shard, to).await };
                encode_answer(&moved.await)
            }
            (Request::Barrier, Caller::Member(_)) => {
                let applied = async { self.broker()?.barrier_here().await };
                encode_answer(&applied.await)
            }
            (Request::Seal(request), Caller::Member(_)) => {
                let sealed = async { self.broker()?.seal_here(request).await };
                encode_answer(&sealed.await)
            }
            (_, Caller::Stranger(address)) => {
                let reason = format!("{address} is no member of the cluster");
                encode_answer::<()>(&Err(BrokerError::InvalidRequest { reason }))
            }
        }
    }
}

impl PeerService for Desk {
    fn ask(&self, from: Caller, request: Bytes) -> BoxFuture<'static, Bytes> {
        Box::pin(self.clone().answer(from, request))
    }
}

/// Whether whoever asks names the cluster of who answers; else no catalogue makes it a member.
fn is_of_cluster(asker: Option<&Named>, found: &Discovered) -> bool {
    match (&found.standing, asker) {
        (Standing::Member { cluster_id, .. }, Some(asker)) => *cluster_id == asker.cluster_id,
        _ => false,
    }
}

/// Why whoever asks cannot be the member it says it is.
fn refusal(asker: &Named, identity: &Identity, catalogue: &Catalogue) -> Option<String> {
    let node = asker.node;
    if asker.cluster_id != identity.cluster_id {
        return Some(format!(
            "this data directory belongs to cluster {}, but the seeds belong to cluster {}: name \
             seeds of its own cluster, or start on an empty directory to join the other",
            asker.cluster_id, identity.cluster_id
        ));
    }
    if catalogue.removed_nodes.contains(&node) {
        return Some(format!(
            "node {node} was removed from cluster {} and its id is never used again: start on an \
             empty data directory, with another --node-id or none, to join as a new node",
            asker.cluster_id
        ));
    }
    let known = catalogue.nodes.get(&node)?.incarnation;
    let is_other = known != [0; 16] && known != asker.incarnation;
    is_other.then(|| {
        format!(
            "cluster {} knows node {node} with another data directory than this one: restore that \
             directory, or start on an empty one with another --node-id or none",
            asker.cluster_id
        )
    })
}

/// Where members are reached.
pub(crate) fn addresses(catalogue: &Catalogue) -> Vec<Address> {
    let address = |node: &crate::catalogue::Node| {
        let (host, port) = node.listeners.get(PEERS_LISTENER)?;
        Some(Address {
            node: node.id,
            incarnation: node.incarnation,
            host: host.clone(),
            port: *port,
        })
    };
    catalogue.nodes.values().filter_map(address).collect()
}

/// What a seed answered to a discovery, if that can be read.
pub(crate) fn discovered(answer: Bytes) -> Option<Discovered> {
    decode_answer(answer).ok()?.ok()
}

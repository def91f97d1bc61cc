//! Asks the seeds until [`decide`] comes to something, and makes that durable.
//!
//! ```text
//! found:  mark founding, identity, (start:) the Found command, mark cleared
//! join:   mark joining, Join answered, identity, (start:) the catalogue is there, mark cleared
//! ```
//! A crash between any two of these leads to the same cluster when the node starts again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use raft::Peers;
use storage::NodeId;
use storage::clock::Clock;
use storage::data_dir::{DataDir, Identity, LAYOUT_VERSION};

use super::marker::Marker;
use super::{Own, Step, decide};
use crate::BrokerConfig;
use crate::BrokerError;
use crate::broker::PEERS_LISTENER;
use crate::catalogue::command::Joiner;
use crate::catalogue::membership::FIRST_NODE;
use crate::ids::Ids;
use crate::peers::message::{Address, Discovered, Joined, Named, Request, Standing, decode_answer};
use crate::peers::service::{Desk, discovered};
use crate::start::StartError;

/// How long a seed may take to say who it is.
const DISCOVER_DEADLINE: Duration = Duration::from_secs(1);
/// How long joining may take.
const JOIN_DEADLINE: Duration = Duration::from_secs(12);
/// Pause between two rounds.
const ROUND_PAUSE: Duration = Duration::from_millis(200);
/// Time between two lines of the log about what is waited for.
const LOG_EVERY_MS: i64 = 5_000;

/// What a node starts with.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) identity: Identity,
    /// Set until the catalogue is there.
    pub(crate) marker: Option<Marker>,
    /// Members that were heard of on the way.
    pub(crate) members: Vec<Address>,
}

/// What it takes to find a cluster.
pub(crate) struct Bootstrap<'a> {
    pub(crate) config: &'a BrokerConfig,
    pub(crate) clock: &'a Clock,
    pub(crate) data_dir: &'a DataDir,
    pub(crate) peers: &'a Peers,
    pub(crate) desk: &'a Desk,
}

impl Bootstrap<'_> {
    /// Finds out which node of which cluster this directory is; an empty one becomes one.
    pub(crate) async fn settle(
        &self,
        known: Option<Identity>,
        ids: &mut Ids,
    ) -> Result<Settled, StartError> {
        let marker = self.data_dir.joining().map_err(data_dir_error)?;
        let marker = marker.map(Marker::from_bytes);
        match known {
            Some(identity) => self.come_back(identity, marker, ids).await,
            None => self.become_somebody(marker, ids).await,
        }
    }

    async fn come_back(
        &self,
        mut identity: Identity,
        marker: Option<Marker>,
        ids: &mut Ids,
    ) -> Result<Settled, StartError> {
        if identity.incarnation == [0; 16] {
            // From before there were incarnations.
            identity.incarnation = ids.uuid();
            identity.layout_version = LAYOUT_VERSION;
            let stored = self.data_dir.set_identity(&identity);
            stored.map_err(data_dir_error)?;
        }
        self.desk.set_member(identity.clone());
        let asker = Named {
            cluster_id: identity.cluster_id.clone(),
            node: identity.node_id,
            incarnation: identity.incarnation,
        };
        let (answers, _) = self.ask_all(&Request::Discover(Some(asker))).await;
        if let Some((seed, reason)) = answers
            .iter()
            .find_map(|(seed, answer)| Some((seed, answer.refusal.clone()?)))
        {
            return Err(StartError::Refused {
                reason: format!("{reason} (asked {seed})"),
            });
        }
        let members = answers
            .iter()
            .filter_map(|(seed, answer)| address_of(seed, answer, &identity));
        Ok(Settled {
            members: members.collect(),
            identity,
            marker,
        })
    }

    async fn become_somebody(
        &self,
        marker: Option<Marker>,
        ids: &mut Ids,
    ) -> Result<Settled, StartError> {
        let seeds: BTreeSet<String> = self
            .config
            .seeds
            .iter()
            .map(|seed| seed.trim().to_ascii_lowercase())
            .filter(|seed| !seed.is_empty())
            .collect();
        let incarnation = marker.map_or_else(|| ids.uuid(), Marker::incarnation);
        if seeds.is_empty() {
            if let Some(Marker::Joining(_)) = marker {
                return Err(StartError::JoinBegun);
            }
            let node = self.config.node_id.unwrap_or(FIRST_NODE);
            return self.found(node, incarnation, ids);
        }
        // Before anybody is asked: a request to join that comes through is then always known here.
        self.mark(Marker::Joining(incarnation))?;
        let own = Own {
            incarnation,
            wanted: self.config.node_id,
            seeds,
        };
        self.desk.set_blank(own.clone());
        let mut logged_ms = self.clock.monotonic_ms();
        loop {
            let (answers, failures) = self.ask_all(&Request::Discover(None)).await;
            let missing = match decide(&own, &answers) {
                Step::Found(node) => return self.found(node, incarnation, ids),
                Step::Join {
                    cluster_id,
                    through,
                } => match self.join(&cluster_id, &through, incarnation).await {
                    Ok(settled) => return Ok(settled),
                    Err(NotJoined::ForGood(error)) => return Err(error),
                    Err(NotJoined::Yet(reason)) => reason,
                },
                Step::Wait(reason) => reason,
            };
            let now_ms = self.clock.monotonic_ms();
            if now_ms - logged_ms >= LOG_EVERY_MS {
                logged_ms = now_ms;
                let failures = failures.join("; ");
                tracing::info!(missing, failures, "looking for the cluster");
            } else {
                tracing::debug!(missing, "looking for the cluster");
            }
            tokio::time::sleep(ROUND_PAUSE).await;
        }
    }

    /// Asks every seed. What they answered in time, and why the others did not.
    async fn ask_all(&self, request: &Request) -> (BTreeMap<String, Discovered>, Vec<String>) {
        let request = request.encode();
        let ask = |seed: &String| {
            let (seed, request) = (seed.trim().to_ascii_lowercase(), request.clone());
            async move {
                let answer = self
                    .peers
                    .ask_stranger(&seed, request, DISCOVER_DEADLINE)
                    .await;
                match answer {
                    Ok(answer) => match discovered(answer) {
                        Some(answer) => Ok((seed, answer)),
                        None => Err(format!("{seed}: it answers what is no answer")),
                    },
                    Err(error) => {
                        tracing::debug!(seed, %error, "a seed does not answer");
                        Err(format!("{seed}: {error}"))
                    }
                }
            }
        };
        let answers = join_all(self.config.seeds.iter().map(ask)).await;
        let (mut told, mut failures) = (BTreeMap::new(), Vec::new());
        for answer in answers {
            match answer {
                Ok((seed, answer)) => {
                    told.insert(seed, answer);
                }
                Err(failure) => failures.push(failure),
            }
        }
        (told, failures)
    }

    fn mark(&self, marker: Marker) -> Result<(), StartError> {
        self.data_dir
            .set_joining(marker.to_bytes())
            .map_err(data_dir_error)
    }

    fn found(
        &self,
        node: NodeId,
        incarnation: [u8; 16],
        ids: &mut Ids,
    ) -> Result<Settled, StartError> {
        let marker = Marker::Founding(incarnation);
        self.mark(marker)?;
        let identity = Identity {
            cluster_id: ids.cluster_id(),
            node_id: node,
            incarnation,
            layout_version: LAYOUT_VERSION,
        };
        let stored = self.data_dir.set_identity(&identity);
        stored.map_err(data_dir_error)?;
        tracing::info!(cluster_id = identity.cluster_id, %node, "founding a cluster");
        self.desk.set_member(identity.clone());
        Ok(Settled {
            identity,
            marker: Some(marker),
            members: Vec::new(),
        })
    }

    async fn join(
        &self,
        cluster_id: &str,
        through: &[String],
        incarnation: [u8; 16],
    ) -> Result<Settled, NotJoined> {
        let request = Request::Join(Joiner {
            incarnation,
            wanted: self.config.node_id,
            rack: self.config.rack.clone(),
            listeners: advertised(self.config, self.peers),
        });
        let mut reason = String::new();
        for address in through {
            let answer = self
                .peers
                .ask_stranger(address, request.encode(), JOIN_DEADLINE)
                .await;
            let joined = match answer.map(decode_answer::<Joined>) {
                Ok(Ok(Ok(joined))) if joined.cluster_id == cluster_id => joined,
                Ok(Ok(Err(error))) if is_for_good(&error) => {
                    return Err(NotJoined::ForGood(StartError::Refused {
                        reason: format!("{error} (asked {address})"),
                    }));
                }
                Ok(Ok(Err(error))) => {
                    reason = format!("{address} cannot let this node join yet: {error}");
                    continue;
                }
                Ok(Ok(Ok(_))) => {
                    reason = format!("{address} has changed its cluster");
                    continue;
                }
                Ok(Err(error)) => {
                    reason = format!("{address} answers what this node cannot read: {error}");
                    continue;
                }
                Err(error) => {
                    reason = format!("{address} does not answer: {error}");
                    continue;
                }
            };
            return self.joined(joined, incarnation).map_err(NotJoined::ForGood);
        }
        Err(NotJoined::Yet(reason))
    }

    fn joined(&self, joined: Joined, incarnation: [u8; 16]) -> Result<Settled, StartError> {
        let identity = Identity {
            cluster_id: joined.cluster_id,
            node_id: joined.node,
            incarnation,
            layout_version: LAYOUT_VERSION,
        };
        let stored = self.data_dir.set_identity(&identity);
        stored.map_err(data_dir_error)?;
        tracing::info!(cluster_id = identity.cluster_id, node = %identity.node_id, "joined a cluster");
        self.desk.set_member(identity.clone());
        Ok(Settled {
            identity,
            marker: Some(Marker::Joining(incarnation)),
            members: joined.members,
        })
    }
}

enum NotJoined {
    /// It may go well when tried again.
    Yet(String),
    ForGood(StartError),
}

/// Whether the cluster has said no, rather than not now.
pub(crate) fn is_for_good(error: &BrokerError) -> bool {
    matches!(
        error,
        BrokerError::Conflict { .. } | BrokerError::InvalidRequest { .. }
    )
}

fn data_dir_error(error: impl std::fmt::Display) -> StartError {
    StartError::DataDir(error.to_string())
}

/// A seed that belongs to the same cluster, as a member to talk to.
fn address_of(seed: &str, answer: &Discovered, identity: &Identity) -> Option<Address> {
    let Standing::Member {
        cluster_id, node, ..
    } = &answer.standing
    else {
        return None;
    };
    let (host, port) = seed.rsplit_once(':')?;
    let is_other = *cluster_id == identity.cluster_id && *node != identity.node_id;
    is_other.then_some(Address {
        node: *node,
        incarnation: answer.incarnation,
        host: host.trim_matches(['[', ']']).to_owned(),
        port: port.parse().ok()?,
    })
}

/// Where this node is reached, with the port that `peers` really has.
pub(crate) fn advertised(config: &BrokerConfig, peers: &Peers) -> BTreeMap<String, (String, u16)> {
    let bound = peers.local_addr();
    let mut listeners = config.advertised.clone();
    let own = listeners
        .entry(PEERS_LISTENER.to_owned())
        .or_insert_with(|| (bound.ip().to_string(), 0));
    if own.1 == 0 {
        own.1 = bound.port();
    }
    listeners
}

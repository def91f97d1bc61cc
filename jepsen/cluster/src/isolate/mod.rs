//! How nodes are kept apart, so that what is between them can be cut and slowed down.

pub(crate) mod loopback;
pub(crate) mod netns;
pub(crate) mod place;
pub(crate) mod rules;
mod switch;
mod sys;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::process::{Child, Command};
use std::str::FromStr;
use std::time::Duration;

use jepsen_workload::fault::NodeId;
use serde::{Deserialize, Serialize};

use loopback::Loopback;
use netns::Netns;
use rules::{Cut, Shape};

/// A way to keep nodes apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolate {
    /// Each node in a network namespace of its own; needs root.
    Netns,
    /// All on 127.0.0.1, with proxies between them.
    Loopback,
}

impl Isolate {
    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Isolate::Netns => "netns",
            Isolate::Loopback => "loopback",
        }
    }
}

/// Nodes are not isolated so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no isolation `{0}`; there are netns, loopback")]
pub struct UnknownIsolate(String);

impl FromStr for Isolate {
    type Err = UnknownIsolate;

    fn from_str(name: &str) -> Result<Isolate, UnknownIsolate> {
        let mut all = [Isolate::Netns, Isolate::Loopback].into_iter();
        all.find(|isolate| isolate.name() == name)
            .ok_or_else(|| UnknownIsolate(name.to_owned()))
    }
}

/// Where a node listens, and what it must be told for that.
#[derive(Debug, Clone)]
pub(crate) struct Addresses {
    /// `key=value` of its configuration.
    pub(crate) settings: Vec<String>,
    /// Where other nodes reach it.
    pub(crate) peers: String,
    /// Where the harness reaches its HTTP listener.
    pub(crate) http: String,
}

/// A link, one way.
pub(crate) type Link = (NodeId, NodeId);

/// What a probe of links showed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Probed {
    /// Links over which something came, and how long it took, where that can be told.
    pub(crate) passed: BTreeMap<Link, Option<Duration>>,
    /// How it was tried.
    pub(crate) by: &'static str,
}

/// What stands between nodes.
#[derive(Debug)]
pub(crate) enum Net {
    Netns(Netns),
    Loopback(Loopback),
}

impl Net {
    /// For so many clients.
    pub(crate) fn make(isolate: Isolate, clients: u32, seed: u64) -> io::Result<Net> {
        match isolate {
            Isolate::Netns => Netns::make(clients, seed).map(Net::Netns),
            Isolate::Loopback => Loopback::make(clients, seed).map(Net::Loopback),
        }
    }

    /// Moves the calling thread to where clients are, and every thread that it starts.
    pub(crate) fn enter(&self) -> io::Result<()> {
        match self {
            Net::Netns(net) => net.enter(),
            Net::Loopback(_) => Ok(()),
        }
    }

    /// Makes room for one more node.
    pub(crate) fn add(&self, node: NodeId) -> io::Result<Addresses> {
        match self {
            Net::Netns(net) => net.add(node),
            Net::Loopback(net) => net.add(node),
        }
    }

    /// Starts a process where the node is.
    pub(crate) fn spawn(&self, node: NodeId, command: Command) -> io::Result<Child> {
        match self {
            Net::Netns(net) => net.spawn(node, command),
            Net::Loopback(net) => net.spawn(command),
        }
    }

    /// Where a client reaches a node's Kafka listener.
    pub(crate) fn kafka(&self, client: u32, node: NodeId) -> Option<String> {
        match self {
            Net::Netns(net) => net.kafka(client, node),
            Net::Loopback(net) => net.kafka(client, node),
        }
    }

    /// Cuts links; what undoes it.
    pub(crate) fn cut(&self, cut: Cut) -> u64 {
        match self {
            Net::Netns(net) => net.change(|rules| rules.cut(cut)),
            Net::Loopback(net) => net.change(|rules| rules.cut(cut)),
        }
    }

    /// Slows nodes down; what undoes it.
    pub(crate) fn shape(&self, nodes: BTreeSet<NodeId>, shape: Shape) -> u64 {
        match self {
            Net::Netns(net) => net.change(|rules| rules.shape(nodes, shape)),
            Net::Loopback(net) => net.change(|rules| rules.shape(nodes, shape)),
        }
    }

    /// Undoes a cut or a delay.
    pub(crate) fn undo(&self, id: u64) {
        match self {
            Net::Netns(net) => net.change(|rules| rules.undo(id)),
            Net::Loopback(net) => net.change(|rules| rules.undo(id)),
        }
    }

    /// Undoes every cut and delay.
    pub(crate) fn heal(&self) {
        match self {
            Net::Netns(net) => net.change(rules::Rules::heal),
            Net::Loopback(net) => net.change(rules::Rules::heal),
        }
    }

    /// Packets that did not get over links so far; `None` where nobody counts them.
    pub(crate) fn dropped(&self, links: &[Link]) -> Option<u64> {
        match self {
            Net::Netns(net) => Some(net.dropped(links)),
            Net::Loopback(_) => None,
        }
    }

    /// Tries links, all at the same time. Blocks for as long as the slowest packet may take.
    pub(crate) fn probe(&self, links: &[Link]) -> io::Result<Probed> {
        match self {
            Net::Netns(net) => net.probe(links),
            Net::Loopback(net) => Ok(net.probe(links)),
        }
    }
}

#[cfg(test)]
mod tests;

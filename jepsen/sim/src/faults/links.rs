//! Ways between nodes: cut, slow, lossy.

use std::time::Duration;

use jepsen_workload::fault::NodeId;
use net::sim::Link;

use crate::core::{Core, client_address};
use crate::machine::address;
use crate::world::SimError;

/// A link so much worse than usual.
pub(super) fn link(delay: Duration, jitter: Duration, loss_per_mille: u32) -> Link {
    let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let usual = Link::default();
    Link {
        latency_us: usual.latency_us.saturating_add(us(delay)),
        jitter_us: usual.jitter_us.saturating_add(us(jitter)),
        loss_per_mille: loss_per_mille.into(),
    }
}

impl Core {
    /// Cuts ways between nodes; clients that stay with a node reach only those that it reaches.
    pub(super) fn cut(
        &mut self,
        links: &[(NodeId, NodeId)],
        clients: &[(u32, NodeId)],
    ) -> Result<String, SimError> {
        for (from, to) in self.ways(links, clients) {
            self.network.cut(from, to);
            if self.network.is_open(from, to) {
                return Err(SimError::NotSeen(format!("{from} still reaches {to}")));
            }
        }
        Ok(format!("{} ways are cut", links.len()))
    }

    /// Undoes a cut.
    pub(super) fn join(
        &mut self,
        links: &[(NodeId, NodeId)],
        clients: &[(u32, NodeId)],
    ) -> Result<String, SimError> {
        for (from, to) in self.ways(links, clients) {
            self.network.heal(from, to);
        }
        Ok(format!("{} ways are open", links.len()))
    }

    fn ways(
        &self,
        links: &[(NodeId, NodeId)],
        clients: &[(u32, NodeId)],
    ) -> Vec<(std::net::IpAddr, std::net::IpAddr)> {
        let mut ways: Vec<_> = links
            .iter()
            .map(|(from, to)| (address(*from), address(*to)))
            .collect();
        for (client, node) in clients {
            let client = client_address(*client);
            for (from, to) in links {
                if from == node {
                    ways.push((client, address(*to)));
                }
                if to == node {
                    ways.push((address(*from), client));
                }
            }
        }
        ways
    }

    /// Makes all ways from these nodes to other nodes worse.
    pub(super) fn set_links(&mut self, nodes: &[NodeId], link: Link) -> Result<String, SimError> {
        let all: Vec<NodeId> = self.machines.keys().copied().collect();
        for from in nodes {
            for to in all.iter().filter(|to| *to != from) {
                self.network.set_link(address(*from), address(*to), link);
            }
        }
        Ok(format!("ways from {nodes:?}: {link:?}"))
    }

    /// All ways are as usual.
    pub(super) fn reset_links(&mut self) -> Result<String, SimError> {
        self.network.reset_links();
        Ok("ways are as usual".to_owned())
    }
}

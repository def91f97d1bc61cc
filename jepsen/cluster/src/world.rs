//! [`ClusterWorld`]: real nodes as a [`World`].

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jepsen_workload::World;
use jepsen_workload::fault::{Fault, NodeId};
use jepsen_workload::random::Random;

use crate::error::ClusterError;
use crate::isolate::Net;
use crate::isolate::rules::Shape;
use crate::nemesis::{clock, damage, disk, kill, membership, network, power, transfer};
use crate::node::{Nodes, Problem, ProblemKind};
use crate::settings::ClusterSettings;

/// Until all nodes are one healthy cluster, at first, on a busy machine.
const FOUNDED_WITHIN: Duration = Duration::from_secs(120);
/// Until a node is ready after everything was healed.
const READY_AFTER_HEAL_WITHIN: Duration = Duration::from_secs(60);
/// Until a node whose files were damaged is taken for lost.
const MENDED_WITHIN: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(100);

/// The nodes of a run and what is broken about them.
#[derive(Debug)]
pub struct ClusterWorld {
    nodes: Nodes,
    broken: Mutex<Broken>,
}

#[derive(Debug)]
struct Broken {
    random: Random,
    /// Cuts and delays, and what undoes each.
    links: Vec<(Fault, u64)>,
    /// Nodes that a fault has added and that are there still.
    added: Vec<NodeId>,
}

impl ClusterWorld {
    pub(crate) fn new(settings: &ClusterSettings, net: Net) -> ClusterWorld {
        ClusterWorld {
            nodes: Nodes::new(settings, net),
            broken: Mutex::new(Broken {
                random: Random::new(settings.seed ^ 0x776f_726c_6421),
                links: Vec::new(),
                added: Vec::new(),
            }),
        }
    }

    fn broken(&self) -> MutexGuard<'_, Broken> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw(&self) -> u64 {
        self.broken().random.next_u64()
    }

    /// Starts so many nodes at the same time and waits until they are one healthy cluster.
    pub(crate) async fn found(&self, count: u32) -> Result<(), ClusterError> {
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(self.nodes.place()?);
        }
        for node in &all {
            self.nodes.seed(*node, &all);
            self.nodes.spawn(*node)?;
        }
        let begun = Instant::now();
        let mut seen = String::new();
        while begun.elapsed() < FOUNDED_WITHIN {
            tokio::time::sleep(POLL).await;
            let ended = self.nodes.problems().into_iter();
            let ended = ended.filter(|problem| problem.kind != ProblemKind::ErrorLine);
            let ended: Vec<String> = ended
                .map(|p| format!("node {}: {}", p.node, p.text))
                .collect();
            if !ended.is_empty() {
                seen = ended.join("\n");
                break;
            }
            if !all.iter().all(|node| self.nodes.is_ready(*node)) {
                "not every node says that it is ready".clone_into(&mut seen);
                continue;
            }
            for node in &all {
                self.nodes.set_member(*node, true);
            }
            match membership::status(&self.nodes, None).await {
                Ok(status) if status.is_whole(all.len()) => return Ok(()),
                Ok(status) => seen = status.verdict.sentence,
                Err(error) => seen = error.to_string(),
            }
        }
        Err(ClusterError::NotReady {
            within_s: begun.elapsed().as_secs(),
            seen,
        })
    }

    /// Watches processes and logs, for ever.
    pub(crate) async fn watch(&self) {
        loop {
            tokio::time::sleep(POLL).await;
            self.nodes.look();
        }
    }

    /// What was seen about nodes so far that nobody meant.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        self.nodes.look();
        self.nodes.problems()
    }

    fn keep(&self, fault: &Fault, undo: u64) {
        self.broken().links.push((fault.clone(), undo));
    }

    fn take(&self, fault: &Fault) -> Result<u64, ClusterError> {
        let mut broken = self.broken();
        let at = broken.links.iter().position(|(kept, _)| kept == fault);
        let at =
            at.ok_or_else(|| ClusterError::Fault(format!("there is no {} to undo", fault.name())))?;
        Ok(broken.links.swap_remove(at).1)
    }

    async fn add_node(&self) -> Result<String, ClusterError> {
        let (node, seen) = membership::add(&self.nodes).await?;
        self.broken().added.push(node);
        Ok(seen)
    }

    /// Waits until every member is ready, and notes those that are not. A node whose files were damaged
    /// may refuse to start for good: it is replaced.
    async fn wait_ready(&self) -> Result<(), ClusterError> {
        let late = || {
            let members = self.nodes.members().into_iter();
            let late = members.filter(|node| !self.nodes.is_ready(*node));
            late.collect::<Vec<_>>()
        };
        let begun = Instant::now();
        while !late().is_empty() && begun.elapsed() < MENDED_WITHIN {
            tokio::time::sleep(POLL).await;
        }
        let lost = late()
            .into_iter()
            .filter(|node| self.nodes.is_damaged(*node));
        for node in lost.collect::<Vec<_>>() {
            let replaced = membership::replace(&self.nodes, node).await?;
            let text = format!("it was damaged and did not start any more: {replaced}");
            self.nodes.report(node, ProblemKind::ErrorLine, text);
        }
        while !late().is_empty() && begun.elapsed() < READY_AFTER_HEAL_WITHIN {
            tokio::time::sleep(POLL).await;
        }
        for node in late() {
            let within_s = READY_AFTER_HEAL_WITHIN.as_secs();
            let text = format!("it is not ready {within_s} s after everything was healed");
            self.nodes.report(node, ProblemKind::NotReady, text);
        }
        Ok(())
    }
}

impl World for ClusterWorld {
    type Error = ClusterError;

    fn nodes(&self) -> Vec<NodeId> {
        self.nodes.members()
    }

    fn kafka_addresses(&self, client: u32) -> Vec<(NodeId, String)> {
        let members = self.nodes.members().into_iter();
        let net = self.nodes.net();
        members
            .filter_map(|node| Some((node, net.kafka(client, node)?)))
            .collect()
    }

    fn now_us(&self) -> u64 {
        self.nodes.now_us()
    }

    async fn begin(&self, fault: &Fault) -> Result<String, ClusterError> {
        let nodes = &self.nodes;
        match fault {
            Fault::Kill(which) => kill::kill(nodes, which).await,
            Fault::Pause(which) => kill::pause(nodes, which).await,
            Fault::Cut { links, clients, .. } => {
                self.keep(fault, network::cut(nodes, links, clients));
                network::see_cut(nodes, links).await
            }
            Fault::Packets {
                nodes: which,
                delay,
                jitter,
                loss_per_mille,
            } => {
                let shape = Shape {
                    delay: *delay,
                    jitter: *jitter,
                    loss_per_mille: *loss_per_mille,
                };
                self.keep(fault, network::slow(nodes, which, shape));
                network::see_slow(nodes, which, *delay).await
            }
            Fault::Clock {
                nodes: which,
                offset_ms,
            } => clock::set(nodes, which, *offset_ms).await,
            Fault::AddNode => self.add_node().await,
            Fault::RemoveNode(node) => membership::remove(nodes, *node).await,
            Fault::TransferLeader => {
                let mut random = Random::new(self.draw());
                transfer::transfer(nodes, &mut random).await
            }
            Fault::Disk { nodes: which, how } => disk::begin(nodes, which, *how).await,
            Fault::PowerCut(which) => power::cut(nodes, which, self.draw()).await,
            Fault::FlipBit(node) => {
                damage::begin(nodes, *node, damage::How::Flip, self.draw()).await
            }
            Fault::TruncateFile(node) => {
                damage::begin(nodes, *node, damage::How::Truncate, self.draw()).await
            }
            Fault::DeleteFile(node) => {
                damage::begin(nodes, *node, damage::How::Delete, self.draw()).await
            }
        }
    }

    async fn end(&self, fault: &Fault) -> Result<String, ClusterError> {
        let nodes = &self.nodes;
        match fault {
            Fault::Kill(which) => kill::start(nodes, which).await,
            Fault::Pause(which) => kill::resume(nodes, which).await,
            Fault::Cut { links, .. } => network::mend(nodes, self.take(fault)?, links).await,
            Fault::Packets { nodes: which, .. } => {
                network::hasten(nodes, self.take(fault)?, which).await
            }
            Fault::Clock { nodes: which, .. } => clock::set(nodes, which, 0).await,
            Fault::AddNode => {
                let members = nodes.members();
                let added = self.broken().added.pop();
                match added.filter(|node| members.contains(node)) {
                    Some(node) => membership::remove(nodes, node).await,
                    None => Ok("the node that was added has not joined".to_owned()),
                }
            }
            Fault::RemoveNode(node) if nodes.members().contains(node) => {
                membership::undrain(nodes, *node).await
            }
            Fault::RemoveNode(_) => self.add_node().await,
            Fault::TransferLeader => Ok("leadership stays where it is".to_owned()),
            Fault::Disk { nodes: which, how } => disk::end(nodes, which, *how, self.draw()).await,
            Fault::PowerCut(which) => power::restore(nodes, which).await,
            Fault::FlipBit(node) | Fault::TruncateFile(node) | Fault::DeleteFile(node) => {
                damage::end(nodes, *node).await
            }
        }
    }

    async fn heal(&self) -> Result<(), ClusterError> {
        self.nodes.net().heal();
        self.broken().links.clear();
        disk::heal(&self.nodes).await?;
        self.nodes.look();
        self.nodes.start_all().await?;
        self.wait_ready().await?;
        // Who does not answer now is seen by the reads at the end.
        for node in membership::drained(&self.nodes).await.unwrap_or_default() {
            membership::undrain(&self.nodes, node).await?;
        }
        Ok(())
    }

    fn resources(&self) -> Vec<(NodeId, u64, u64)> {
        self.nodes.resources()
    }
}

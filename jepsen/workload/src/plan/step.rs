//! [`Step`]: one fault of a plan with its time, and the nodes that it strikes when it begins.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::draw::{draw_some, draw_some_in_order, minority};
use super::spec::{FaultSpec, Shape, Target};
use crate::fault::{Fault, NodeId};
use crate::random::Random;

/// What a step must know of the cluster when it begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The nodes that are members.
    pub nodes: Vec<NodeId>,
    /// Who leads, of some partition that is written to.
    pub leader: Option<NodeId>,
    /// The clients, as in [`crate::World::kafka_addresses`].
    pub clients: Vec<u32>,
}

/// Something that breaks, once, and is mended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When it begins, since clients began, in milliseconds.
    pub at_ms: u64,
    /// How long it lasts, in milliseconds.
    pub lasts_ms: u64,
    /// What breaks.
    pub fault: FaultSpec,
    /// Draws the nodes.
    pub draw: u64,
    /// The nodes that may be damaged: no majority of any topic's replicas.
    pub unlucky: Vec<NodeId>,
    /// It may take from a node what it has answered for, so that only those are struck.
    pub is_damage: bool,
}

impl Step {
    /// How long it lasts.
    #[must_use]
    pub fn lasts(&self) -> Duration {
        Duration::from_millis(self.lasts_ms)
    }

    /// What it comes to now; `None` where it would strike nobody, or break what promises rest on.
    #[must_use]
    pub fn resolve(&self, standing: &Standing) -> Option<Fault> {
        let mut draw = Draw {
            random: Random::new(self.draw),
            standing,
        };
        let unlucky = |draw: &mut Draw<'_>| {
            let unlucky = self.unlucky.iter().copied();
            let unlucky: Vec<NodeId> = unlucky.filter(|n| standing.nodes.contains(n)).collect();
            let is_minority = unlucky.len() <= minority(standing.nodes.len());
            let node = draw.random.pick(&unlucky).copied();
            node.filter(|_| is_minority)
        };
        let some = |nodes: Vec<NodeId>| (!nodes.is_empty()).then_some(nodes);
        match &self.fault {
            FaultSpec::Kill { target } => some(draw.nodes(*target)).map(Fault::Kill),
            FaultSpec::Pause { target } => some(draw.nodes(*target)).map(Fault::Pause),
            FaultSpec::PowerCut { target } => some(draw.nodes(*target)).map(Fault::PowerCut),
            FaultSpec::Partition { shape } => draw.cut(*shape),
            FaultSpec::Packets {
                target,
                delay_ms,
                jitter_ms,
                loss_per_mille,
            } => some(draw.nodes(*target)).map(|nodes| Fault::Packets {
                nodes,
                delay: Duration::from_millis(*delay_ms),
                jitter: Duration::from_millis(*jitter_ms),
                loss_per_mille: *loss_per_mille,
            }),
            FaultSpec::Clock { target, offset_ms } => {
                some(draw.nodes(*target)).map(|nodes| Fault::Clock {
                    nodes,
                    offset_ms: *offset_ms,
                })
            }
            FaultSpec::AddNode => Some(Fault::AddNode),
            // Three must be left for a topic's three replicas.
            FaultSpec::RemoveNode if standing.nodes.len() > 3 => draw
                .nodes(Target::One)
                .first()
                .copied()
                .map(Fault::RemoveNode),
            FaultSpec::RemoveNode => Some(Fault::AddNode),
            FaultSpec::TransferLeader => Some(Fault::TransferLeader),
            FaultSpec::Disk { how, .. } if self.is_damage => {
                unlucky(&mut draw).map(|node| Fault::Disk {
                    nodes: vec![node],
                    how: *how,
                })
            }
            FaultSpec::Disk { target, how } => {
                some(draw.nodes(*target)).map(|nodes| Fault::Disk { nodes, how: *how })
            }
            FaultSpec::FlipBit => unlucky(&mut draw).map(Fault::FlipBit),
            FaultSpec::TruncateFile => unlucky(&mut draw).map(Fault::TruncateFile),
            FaultSpec::DeleteFile => unlucky(&mut draw).map(Fault::DeleteFile),
        }
    }
}

/// Draws the nodes of one step.
struct Draw<'a> {
    random: Random,
    standing: &'a Standing,
}

impl Draw<'_> {
    fn nodes(&mut self, target: Target) -> Vec<NodeId> {
        let all = &self.standing.nodes;
        let leader = self.standing.leader.filter(|leader| all.contains(leader));
        let count = match (target, leader) {
            (Target::Leader, Some(leader)) => return vec![leader],
            (Target::One | Target::Leader, _) => 1,
            (Target::Minority, _) => minority(all.len()).max(1),
            (Target::Majority, _) => all.len() / 2 + 1,
            (Target::All, _) => all.len(),
        };
        draw_some(&mut self.random, all, count)
    }

    fn cut(&mut self, shape: Shape) -> Option<Fault> {
        let all = self.standing.nodes.clone();
        if all.len() < 2 {
            return None;
        }
        let mut clients = Vec::new();
        let links = match shape {
            Shape::One => {
                let one = self.nodes(Target::One);
                between(&one, &without(&all, &one))
            }
            Shape::Halves => {
                let few = self.nodes(Target::Minority);
                between(&few, &without(&all, &few))
            }
            Shape::Leader => {
                let leader = self.nodes(Target::Leader);
                for client in &self.standing.clients {
                    if self.random.chance(1, 2) {
                        clients.push((*client, *leader.first()?));
                    }
                }
                between(&leader, &without(&all, &leader))
            }
            Shape::OneWay => {
                let one = self.nodes(Target::Leader);
                let others = without(&all, &one);
                match self.random.below(2) {
                    0 => pairs(&one, &others),
                    _ => pairs(&others, &one),
                }
            }
            Shape::Bridge => {
                let mut rest = draw_some(&mut self.random, &all, all.len());
                rest.pop();
                let other = rest.split_off(rest.len() / 2);
                between(&rest, &other)
            }
            Shape::Ring => {
                let ring = draw_some_in_order(&mut self.random, &all, all.len());
                let reach = (all.len() / 2).div_ceil(2);
                let mut links = Vec::new();
                for (from, a) in ring.iter().enumerate() {
                    for (to, b) in ring.iter().enumerate() {
                        let apart = from.abs_diff(to);
                        if apart.min(ring.len() - apart) > reach {
                            links.push((*a, *b));
                        }
                    }
                }
                links
            }
        };
        (!links.is_empty()).then(|| Fault::Cut {
            name: shape.name(),
            links,
            clients,
        })
    }
}

fn without(all: &[NodeId], some: &[NodeId]) -> Vec<NodeId> {
    all.iter().copied().filter(|n| !some.contains(n)).collect()
}

fn pairs(from: &[NodeId], to: &[NodeId]) -> Vec<(NodeId, NodeId)> {
    let each = from.iter().flat_map(|a| to.iter().map(|b| (*a, *b)));
    each.collect()
}

fn between(one: &[NodeId], other: &[NodeId]) -> Vec<(NodeId, NodeId)> {
    let mut links = pairs(one, other);
    links.extend(pairs(other, one));
    links
}

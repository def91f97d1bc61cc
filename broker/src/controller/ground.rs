//! Choosing replicas: which nodes may carry some, how they lie over racks, and how a list of
//! replicas is mended when nodes come and go. Pure.
//!
//! A list is changed as little as its purpose allows, and a node that comes in takes the place of
//! the one that goes: the first place is that of the preferred leader.

use std::collections::{BTreeMap, BTreeSet};

use storage::NodeId;

use crate::catalogue::{Catalogue, Factor, NodeState};

/// Replicas of a shard whose number is left to the cluster, once there are as many nodes.
pub(crate) const AUTO_REPLICAS: u16 = 3;

/// Where a node stands; a node without a rack counts as a rack of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Rack {
    Named(String),
    OnlyNode(NodeId),
}

/// The nodes, as whoever places replicas sees them.
#[derive(Debug, Clone)]
pub(crate) struct Ground {
    racks: BTreeMap<NodeId, Rack>,
    active: BTreeSet<NodeId>,
    alive: BTreeSet<NodeId>,
    /// Dead for so long that their replicas are made anew elsewhere.
    given_up: BTreeSet<NodeId>,
    /// Get no new replicas.
    barred: BTreeSet<NodeId>,
}

/// How many replicas of some kind each node carries.
pub(crate) type Loads = BTreeMap<NodeId, usize>;

impl Ground {
    pub(crate) fn new(
        catalogue: &Catalogue,
        alive: &BTreeSet<NodeId>,
        given_up: &BTreeSet<NodeId>,
    ) -> Ground {
        let rack = |id: &NodeId, rack: &Option<String>| match rack {
            Some(name) => Rack::Named(name.clone()),
            None => Rack::OnlyNode(*id),
        };
        let nodes = || catalogue.nodes.values();
        Ground {
            racks: nodes().map(|n| (n.id, rack(&n.id, &n.rack))).collect(),
            active: nodes()
                .filter(|node| node.state == NodeState::Active)
                .map(|node| node.id)
                .collect(),
            alive: nodes()
                .map(|n| n.id)
                .filter(|n| alive.contains(n))
                .collect(),
            given_up: given_up.difference(alive).copied().collect(),
            barred: BTreeSet::new(),
        }
    }

    /// The same, but that these nodes lose the replicas that they are about to get.
    pub(crate) fn giving_up(mut self, nodes: impl IntoIterator<Item = NodeId>) -> Ground {
        self.given_up.extend(nodes);
        self
    }

    /// The same, but that these nodes get no new replicas.
    pub(crate) fn barring(mut self, nodes: BTreeSet<NodeId>) -> Ground {
        self.barred = nodes;
        self
    }

    pub(crate) fn exists(&self, node: NodeId) -> bool {
        self.racks.contains_key(&node)
    }

    pub(crate) fn is_active(&self, node: NodeId) -> bool {
        self.active.contains(&node)
    }

    pub(crate) fn is_alive(&self, node: NodeId) -> bool {
        self.alive.contains(&node)
    }

    pub(crate) fn active(&self) -> &BTreeSet<NodeId> {
        &self.active
    }

    fn alive_of(&self, list: &[NodeId]) -> usize {
        list.iter().filter(|node| self.is_alive(**node)).count()
    }

    /// Whether these replicas can decide, all by themselves.
    pub(crate) fn has_majority(&self, list: &[NodeId]) -> bool {
        self.alive_of(list) * 2 > list.len()
    }

    /// Whether a shard may change to these replicas now: those that come are alive, a majority of
    /// all is, and no living one goes while fewer than `wanted` live without it.
    pub(crate) fn may_change(&self, from: &[NodeId], to: &[NodeId], wanted: usize) -> bool {
        let mut new = to.iter().filter(|node| !from.contains(node));
        new.all(|node| self.is_alive(*node))
            && self.has_majority(to)
            && self.alive_of(to) >= wanted.min(self.alive_of(from))
    }

    /// Whether a replica may stay where it is.
    pub(crate) fn may_stay(&self, node: NodeId) -> bool {
        self.is_active(node) && !self.given_up.contains(&node)
    }

    /// Whether a node may get new replicas.
    pub(crate) fn takes(&self, node: NodeId) -> bool {
        self.is_active(node) && self.is_alive(node) && !self.barred.contains(&node)
    }

    /// Nodes that may get new replicas.
    pub(crate) fn takers(&self) -> impl Iterator<Item = NodeId> {
        self.active.iter().copied().filter(|node| self.takes(*node))
    }

    /// How many replicas a shard of this factor shall have, now that there are these nodes.
    pub(crate) fn wanted(&self, factor: Factor, present: usize) -> usize {
        match factor {
            Factor::Auto => usize::from(AUTO_REPLICAS).min(self.active.len()),
            Factor::Fixed(replicas) => usize::from(replicas),
            Factor::ByHand => present,
        }
        .max(1)
    }

    pub(crate) fn racks_of(&self, list: &[NodeId]) -> usize {
        let racks: BTreeSet<_> = list.iter().filter_map(|n| self.racks.get(n)).collect();
        racks.len()
    }

    /// Racks that a list of this length can lie in.
    pub(crate) fn racks_possible(&self, len: usize) -> usize {
        let racks: BTreeSet<_> = self.active.iter().map(|n| &self.racks[n]).collect();
        racks.len().min(len)
    }

    /// The best node to add to a list: in a rack of its own if there is one, then the one that
    /// carries least.
    fn addition(&self, list: &[NodeId], loads: &Loads) -> Option<NodeId> {
        let taken: BTreeSet<_> = list.iter().filter_map(|n| self.racks.get(n)).collect();
        self.takers()
            .filter(|node| !list.contains(node))
            .min_by_key(|node| {
                let load = loads.get(node).copied().unwrap_or_default();
                (taken.contains(&self.racks[node]), load, *node)
            })
    }

    /// The list as it should be: without nodes that are gone, drained or given up, as long as
    /// there are others for their places, and with `wanted` replicas.
    pub(crate) fn mended(
        &self,
        list: &[NodeId],
        wanted: usize,
        keep: Option<NodeId>,
        loads: &Loads,
    ) -> Vec<NodeId> {
        let mut loads = loads.clone();
        let mut places: Vec<(Option<NodeId>, Option<NodeId>)> = list
            .iter()
            .map(|node| {
                let before = self.exists(*node).then_some(*node);
                (before.filter(|node| self.may_stay(*node)), before)
            })
            .collect();
        while places.len() > wanted {
            let last = self.least_needed(&places, keep);
            places.remove(last);
        }
        places.resize(wanted, (None, None));
        for at in 0..places.len() {
            let present: Vec<NodeId> = places.iter().filter_map(|(now, _)| *now).collect();
            if places[at].0.is_none()
                && let Some(node) = self.addition(&present, &loads)
            {
                places[at].0 = Some(node);
                *loads.entry(node).or_default() += 1;
            }
        }
        // Nobody else is there: better the node of before than one replica less.
        let mut mended: Vec<NodeId> = Vec::with_capacity(places.len());
        let chosen: BTreeSet<NodeId> = places.iter().filter_map(|(now, _)| *now).collect();
        for (now, before) in places {
            let before = before.filter(|node| !chosen.contains(node));
            mended.extend(now.or(before));
        }
        mended
    }

    /// Which place to give up when there are too many: an empty one, first that of a node that is
    /// gone, then of one that is dead; else a dead one, one that shares its rack; of equals the
    /// last.
    fn least_needed(
        &self,
        places: &[(Option<NodeId>, Option<NodeId>)],
        keep: Option<NodeId>,
    ) -> usize {
        let value = |at: usize| match places[at].0 {
            None => match places[at].1 {
                None => (0, at),
                Some(before) if !self.is_alive(before) => (1, at),
                Some(_) => (2, at),
            },
            Some(node) => {
                let rack = &self.racks[&node];
                let shared = places.iter().enumerate().any(|(other, (now, _))| {
                    other != at && now.is_some_and(|now| self.racks[&now] == *rack)
                });
                let value = match (Some(node) == keep, self.is_alive(node), shared) {
                    (true, ..) => 6,
                    (_, false, _) => 3,
                    (_, _, true) => 4,
                    (_, _, false) => 5,
                };
                (value, at)
            }
        };
        let lower = |a: &usize, b: &usize| {
            let (a, b) = (value(*a), value(*b));
            a.0.cmp(&b.0).then(b.1.cmp(&a.1))
        };
        (0..places.len())
            .min_by(lower)
            .expect("more places than wanted")
    }

    /// A swap that spreads the list over one rack more, if there is one: position and new node.
    pub(crate) fn rack_swap(&self, list: &[NodeId], loads: &Loads) -> Option<(usize, NodeId)> {
        let racks = self.racks_of(list);
        if racks >= self.racks_possible(list.len()) {
            return None;
        }
        // The last places first: they move without a change of the preferred leader.
        (0..list.len()).rev().find_map(|at| {
            let mut rest = list.to_vec();
            rest.remove(at);
            let node = self.addition(list, loads)?;
            rest.push(node);
            (self.racks_of(&rest) > racks).then_some((at, node))
        })
    }
}

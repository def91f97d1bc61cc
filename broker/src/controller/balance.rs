//! The standing shards of one replication factor, and how their replicas and preferred leaders are
//! spread evenly over the nodes. Pure.
//!
//! Every step lowers, in this order, the number of racks left out, the unevenness of replicas and
//! the unevenness of preferred leaders; so steps come to an end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use storage::{NodeId, ShardId};

use super::ground::{Ground, Loads};

/// See the module.
pub(crate) struct Standing<'a> {
    ground: &'a Ground,
    lists: BTreeMap<ShardId, Vec<NodeId>>,
    replicas: Loads,
    leaders: Loads,
}

impl<'a> Standing<'a> {
    pub(crate) fn new(ground: &'a Ground, lists: BTreeMap<ShardId, Vec<NodeId>>) -> Standing<'a> {
        let mut standing = Standing {
            ground,
            lists,
            replicas: zeros(ground),
            leaders: zeros(ground),
        };
        for list in standing.lists.values() {
            count(&mut standing.replicas, &mut standing.leaders, list);
        }
        standing
    }

    /// The list for one more shard; it counts from now on. Shorter than asked for only when there
    /// are too few nodes.
    pub(crate) fn new_list(&mut self, replicas: usize) -> Vec<NodeId> {
        // Nodes that are dead, or barred, get replicas only when there are not enough others.
        let nodes = || self.ground.active().iter().copied();
        let load = |loads: &Loads, node: &NodeId| loads.get(node).copied().unwrap_or_default();
        let key = |node: &NodeId, list: &[NodeId]| {
            let mut with = list.to_vec();
            with.push(*node);
            (
                !self.ground.takes(*node),
                self.ground.racks_of(&with) == self.ground.racks_of(list),
                if list.is_empty() {
                    load(&self.leaders, node)
                } else {
                    0
                },
                load(&self.replicas, node),
                *node,
            )
        };
        let mut list = Vec::with_capacity(replicas);
        while list.len() < replicas {
            let others = nodes().filter(|node| !list.contains(node));
            let Some(node) = others.min_by_key(|node| key(node, &list)) else {
                break;
            };
            list.push(node);
        }
        count(&mut self.replicas, &mut self.leaders, &list);
        list
    }

    /// One replica moved to a better place, of a shard that may be moved.
    pub(crate) fn better_replicas(
        &self,
        movable: &BTreeSet<ShardId>,
        led: &BTreeMap<ShardId, NodeId>,
    ) -> Option<(ShardId, Vec<NodeId>)> {
        self.better_racks(movable)
            .or_else(|| self.more_even(movable, led))
    }

    fn better_racks(&self, movable: &BTreeSet<ShardId>) -> Option<(ShardId, Vec<NodeId>)> {
        movable.iter().find_map(|id| {
            let list = &self.lists[id];
            let (at, node) = self.ground.rack_swap(list, &self.replicas)?;
            let mut list = list.clone();
            list[at] = node;
            Some((*id, list))
        })
    }

    fn more_even(
        &self,
        movable: &BTreeSet<ShardId>,
        led: &BTreeMap<ShardId, NodeId>,
    ) -> Option<(ShardId, Vec<NodeId>)> {
        let takers: BTreeSet<NodeId> = self.ground.takers().collect();
        let mut pairs: Vec<(usize, NodeId, NodeId)> = Vec::new();
        for (from, more) in &self.replicas {
            for to in &takers {
                let less = self.replicas.get(to).copied().unwrap_or_default();
                if *more >= less + 2 {
                    pairs.push((more - less, *from, *to));
                }
            }
        }
        pairs.sort_by_key(|(by, from, to)| (std::cmp::Reverse(*by), *from, *to));
        pairs.into_iter().find_map(|(_, from, to)| {
            let moved = |id: &ShardId| {
                let list = &self.lists[id];
                let at = list.iter().position(|node| *node == from)?;
                if list.contains(&to) {
                    return None;
                }
                let mut list = list.clone();
                list[at] = to;
                let same = self.ground.racks_of(&list) >= self.ground.racks_of(&self.lists[id]);
                // A replica that does not lead moves more quietly.
                same.then_some(((led.get(id) == Some(&from), at == 0, *id), list))
            };
            let best = movable.iter().filter_map(moved).min_by_key(|(key, _)| *key);
            best.map(|((_, _, id), list)| (id, list))
        })
    }

    /// Lists in another order, so that preferred leaders are spread more evenly: the places of a
    /// chain of shards from the node that leads most to one that leads at least two fewer.
    pub(crate) fn better_leaders(
        &self,
        movable: &BTreeSet<ShardId>,
    ) -> Vec<(ShardId, Vec<NodeId>)> {
        let mut from: Vec<(usize, NodeId)> = self.leaders.iter().map(|(n, l)| (*l, *n)).collect();
        from.sort_by_key(|(leads, node)| (std::cmp::Reverse(*leads), *node));
        let chain = from
            .into_iter()
            .find_map(|(leads, node)| self.chain(movable, node, leads));
        let reordered = |(id, to): (ShardId, NodeId)| {
            let mut list = self.lists[&id].clone();
            let at = list.iter().position(|node| *node == to);
            list.swap(0, at.expect("chains go through replicas"));
            (id, list)
        };
        chain
            .unwrap_or_default()
            .into_iter()
            .map(reordered)
            .collect()
    }

    /// The shortest chain: each shard is given from its first replica to the node named.
    fn chain(
        &self,
        movable: &BTreeSet<ShardId>,
        from: NodeId,
        leads: usize,
    ) -> Option<Vec<(ShardId, NodeId)>> {
        let mut reached: BTreeMap<NodeId, Vec<(ShardId, NodeId)>> = BTreeMap::new();
        reached.insert(from, Vec::new());
        let mut queue = VecDeque::from([from]);
        while let Some(node) = queue.pop_front() {
            for id in movable {
                let list = &self.lists[id];
                if list.first() != Some(&node) {
                    continue;
                }
                for to in &list[1..] {
                    if reached.contains_key(to) || !self.ground.is_active(*to) {
                        continue;
                    }
                    let mut chain = reached[&node].clone();
                    chain.push((*id, *to));
                    if self.leaders.get(to).copied().unwrap_or_default() + 2 <= leads {
                        return Some(chain);
                    }
                    reached.insert(*to, chain);
                    queue.push_back(*to);
                }
            }
        }
        None
    }
}

fn zeros(ground: &Ground) -> Loads {
    ground.active().iter().map(|node| (*node, 0)).collect()
}

fn count(replicas: &mut Loads, leaders: &mut Loads, list: &[NodeId]) {
    for node in list {
        *replicas.entry(*node).or_default() += 1;
    }
    if let Some(first) = list.first() {
        *leaders.entry(*first).or_default() += 1;
    }
}

//! What the catalogue's leader does about nodes, shards and leaders: decided from the catalogue,
//! from what is seen of the cluster and from what is remembered, and from nothing else. Pure.
//!
//! A round changes little: at most a few shards are in change at once, and each round starts from
//! what the one before has come to. Whatever the state, rounds end with nothing left to do.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use storage::{NodeId, ShardId};

use super::balance::Standing;
use super::ground::{Ground, Loads};
use super::memory::Memory;
use super::settings::Settings;
use super::stalls::Stalls;
use crate::catalogue::command::NewShard;
use crate::catalogue::{Catalogue, Factor, NodeState, Shard};
use crate::peers::message::CatchingUp;

/// The shard that carries the catalogue.
pub(crate) const CATALOGUE_SHARD: ShardId = ShardId(0);

/// What is seen of the cluster.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    pub(crate) alive: BTreeSet<NodeId>,
    pub(crate) shards: BTreeMap<ShardId, ShardView>,
}

/// What is seen of one shard.
#[derive(Debug, Clone, Default)]
pub(crate) struct ShardView {
    pub(crate) leader: Option<NodeId>,
    /// Voters that have what is committed, the leader included.
    pub(crate) in_sync: BTreeSet<NodeId>,
    pub(crate) voters: BTreeSet<NodeId>,
    pub(crate) learners: BTreeSet<NodeId>,
    /// Whether a change of voters is under way.
    pub(crate) is_joint: bool,
    pub(crate) catching_up: Vec<CatchingUp>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Make standing shards.
    CreateShards {
        next: ShardId,
        shards: Vec<NewShard>,
    },
    /// Give a shard other replicas, or another order of them.
    SetTarget { shard: ShardId, target: Vec<NodeId> },
    /// Ask a shard's leader to let another node lead.
    TransferLeader {
        shard: ShardId,
        from: NodeId,
        to: NodeId,
        /// For balance, which has time; not to empty a node.
        is_balance: bool,
    },
}

/// The replicas that a shard has, or shall have once the change under way is done.
pub(crate) fn wanted_list(shard: &Shard) -> &[NodeId] {
    shard.target.as_deref().unwrap_or(&shard.replicas)
}

/// Who of a shard's replicas should lead it: the first that is not being drained.
pub(crate) fn preferred(catalogue: &Catalogue, shard: &Shard) -> Option<NodeId> {
    let active = |node: &&NodeId| {
        catalogue
            .nodes
            .get(node)
            .is_some_and(|node| node.state == NodeState::Active)
    };
    wanted_list(shard).iter().find(active).copied()
}

/// Everything a round needs, and the lists as they will be after it.
struct Round<'a> {
    catalogue: &'a Catalogue,
    view: &'a View,
    memory: &'a Memory,
    stalls: &'a Stalls,
    settings: &'a Settings,
    now_ms: i64,
    ground: Ground,
    /// Lists by shard, the round's own changes included.
    lists: BTreeMap<ShardId, Vec<NodeId>>,
    in_change: BTreeSet<ShardId>,
    actions: Vec<Action>,
}

/// What to do now.
pub(crate) fn plan(
    catalogue: &Catalogue,
    view: &View,
    (memory, stalls): (&Memory, &Stalls),
    settings: &Settings,
    now_ms: i64,
) -> Vec<Action> {
    let mut round = Round::new(catalogue, view, (memory, stalls), settings, now_ms);
    round.mend_targets();
    round.mend_shards();
    round.add_standing_shards();
    round.balance();
    round.move_leaders();
    round.actions
}

/// What a drain of this node cannot go on without, if there is such a thing.
pub(crate) fn drain_waits_for(
    catalogue: &Catalogue,
    alive: &BTreeSet<NodeId>,
    stalls: &Stalls,
    node: NodeId,
) -> Option<String> {
    let known = catalogue.nodes.get(&node)?;
    if known.state != NodeState::Draining {
        return None;
    }
    let view = View {
        alive: alive.clone(),
        shards: BTreeMap::new(),
    };
    let (memory, settings) = (Memory::default(), Settings::default());
    let round = Round::new(catalogue, &view, (&memory, stalls), &settings, 0);
    let stuck = |shard: &&Shard| {
        let list = wanted_list(shard);
        if !list.contains(&node) {
            // Being changed: to replicas that have to be there.
            return shard.replicas.contains(&node) && !round.ground.has_majority(list);
        }
        let wanted = round.wanted(shard);
        // Which node takes its place is all the same here.
        let ground = round.ground_for(shard.id);
        let mended = ground.mended(list, wanted, None, &Loads::new());
        mended.contains(&node) || !round.ground.may_change(&shard.replicas, &mended, wanted)
    };
    let stuck: Vec<&Shard> = catalogue.shards.values().filter(stuck).collect();
    if stuck.is_empty() {
        return None;
    }
    let text = |ids: Vec<String>| ids.join(", ");
    let dead = catalogue.nodes.keys().filter(|n| !alive.contains(n));
    let dead = text(dead.map(ToString::to_string).collect());
    let shards = text(stuck.iter().map(|shard| shard.id.to_string()).collect());
    Some(if dead.is_empty() {
        format!("another node to take the replicas of shards {shards}")
    } else {
        format!("nodes that are down ({dead}), or others, to take the replicas of shards {shards}")
    })
}

impl<'a> Round<'a> {
    fn new(
        catalogue: &'a Catalogue,
        view: &'a View,
        (memory, stalls): (&'a Memory, &'a Stalls),
        settings: &'a Settings,
        now_ms: i64,
    ) -> Round<'a> {
        let given_up = memory.dead_for(settings.replace_dead_after_ms, now_ms);
        let shards = || catalogue.shards.values();
        Round {
            catalogue,
            view,
            memory,
            stalls,
            settings,
            now_ms,
            ground: Ground::new(catalogue, &view.alive, &given_up).barring(stalls.barred()),
            lists: shards()
                .map(|shard| (shard.id, wanted_list(shard).to_vec()))
                .collect(),
            in_change: shards()
                .filter(|shard| shard.target.is_some())
                .map(|shard| shard.id)
                .collect(),
            actions: Vec::new(),
        }
    }

    /// Changes of shards without a leader wait for one, and stalled ones for nobody knows what;
    /// what gets on for very long may never end. They hold nobody else up.
    fn has_room(&self) -> bool {
        let gets_on = |shard: &&ShardId| {
            self.is_led(**shard) && !self.stalls.has_had_its_time(**shard, self.settings)
        };
        self.in_change.iter().filter(gets_on).count() < self.settings.changes_max
    }

    /// The nodes, as this shard sees them: some may be barred from it.
    fn ground_for(&self, shard: ShardId) -> Cow<'_, Ground> {
        if self.stalls.bars_somebody_from(shard) {
            let barred = self.stalls.barred_for(shard);
            Cow::Owned(self.ground.clone().barring(barred))
        } else {
            Cow::Borrowed(&self.ground)
        }
    }

    /// A change can be carried out only by a leader.
    fn is_led(&self, shard: ShardId) -> bool {
        let leader = self.leader(shard);
        leader.is_some_and(|leader| self.ground.is_alive(leader))
    }

    fn leader(&self, shard: ShardId) -> Option<NodeId> {
        self.view.shards.get(&shard)?.leader
    }

    /// Whether every replica is alive and in sync: then one may be moved without need.
    fn is_healthy(&self, shard: ShardId) -> bool {
        let seen = self.view.shards.get(&shard);
        self.is_led(shard)
            && self.lists[&shard].iter().all(|node| {
                self.ground.is_alive(*node) && seen.is_some_and(|seen| seen.in_sync.contains(node))
            })
    }

    fn set_target(&mut self, shard: ShardId, target: Vec<NodeId>) {
        self.lists.insert(shard, target.clone());
        self.in_change.insert(shard);
        self.actions.push(Action::SetTarget { shard, target });
    }

    /// Replicas of each active node, over the standing shards of one factor (`None`: over all
    /// shards) weighed above all others.
    fn loads(&self, factor: Option<Factor>) -> Loads {
        let mut loads = Loads::new();
        for (id, list) in &self.lists {
            let same = factor.is_none_or(|factor| self.catalogue.shards[id].factor == factor);
            for node in list {
                *loads.entry(*node).or_default() += if same { 10_000 } else { 1 };
            }
        }
        loads
    }

    /// Targets that name nodes which went away meanwhile, or which hold the change up, are
    /// replaced, and those withdrawn that have no living majority any more.
    fn mend_targets(&mut self) {
        let abandon = self
            .memory
            .dead_for(self.settings.abandon_dead_after_ms, self.now_ms);
        let nodes = self.catalogue.nodes.keys().copied();
        let patient: BTreeSet<NodeId> = nodes.filter(|node| !abandon.contains(node)).collect();
        let patient = Ground::new(self.catalogue, &patient, &BTreeSet::new());
        for shard in self.catalogue.shards.values() {
            let Some(target) = &shard.target else {
                continue;
            };
            let fits = |node: &NodeId| {
                if shard.replicas.contains(node) {
                    self.ground.exists(*node)
                } else {
                    self.ground.may_stay(*node)
                        && !abandon.contains(node)
                        && !self.stalls.is_given_up(shard.id, *node)
                }
            };
            let is_hopeless = self.is_led(shard.id) && !patient.has_majority(target);
            if target.iter().all(fits) && !is_hopeless {
                continue;
            }
            let held_up = target.iter().filter(|node| !fits(node)).copied();
            let ground = Ground::new(self.catalogue, &self.view.alive, &abandon)
                .barring(self.stalls.barred_for(shard.id))
                .giving_up(held_up);
            let loads = self.loads(Some(shard.factor));
            let wanted = self.wanted(shard);
            let leader = self.leader(shard.id);
            let mended = ground.mended(target, wanted, leader, &loads);
            let may_be = self.ground.may_change(&shard.replicas, &mended, wanted);
            let mended = if may_be && mended.iter().all(fits) {
                mended
            } else {
                // Nobody else can take the place: back to what is there.
                let exists = |node: &&NodeId| self.ground.exists(**node);
                shard.replicas.iter().filter(exists).copied().collect()
            };
            if !mended.is_empty() && mended != *target {
                self.set_target(shard.id, mended);
            }
        }
    }

    fn wanted(&self, shard: &Shard) -> usize {
        if shard.id == CATALOGUE_SHARD {
            self.wanted_voters(shard)
        } else {
            self.ground.wanted(shard.factor, wanted_list(shard).len())
        }
    }

    /// Voters of the catalogue: 5 on five nodes, 3 on three or four, else 1. It grows only onto
    /// nodes that are alive, and shrinks only when nodes are drained or removed. Two nodes that are
    /// left of more both keep their vote: either can stop the catalogue then, as either stops the
    /// shards of two replicas that they share, but no single disk is all there is of it.
    fn wanted_voters(&self, shard: &Shard) -> usize {
        let odd = |nodes: usize| match nodes {
            0..3 => 1,
            3..5 => 3,
            _ => 5,
        };
        let present = wanted_list(shard);
        let stay = |node: &&NodeId| self.ground.may_stay(**node);
        let grown = present.iter().filter(stay).count()
            + self
                .ground_for(shard.id)
                .takers()
                .filter(|node| !present.contains(node))
                .count();
        let active = self.ground.active().len();
        if active == 2 && grown == 2 && present.len() > 1 {
            return 2;
        }
        let most = odd(active);
        most.min(odd(grown).max(present.len())).max(1)
    }

    /// Shards whose replicas are too few, too many or in the wrong places.
    fn mend_shards(&mut self) {
        for shard in self.catalogue.shards.values() {
            if !self.has_room() {
                return;
            }
            if self.in_change.contains(&shard.id) || !self.is_led(shard.id) {
                continue;
            }
            let factor = (shard.id != CATALOGUE_SHARD).then_some(shard.factor);
            let mut loads = self.loads(factor);
            if shard.id == CATALOGUE_SHARD {
                loads.clear();
            }
            let list = &self.lists[&shard.id];
            let leader = self.leader(shard.id);
            let wanted = self.wanted(shard);
            let ground = self.ground_for(shard.id);
            let mended = ground.mended(list, wanted, leader, &loads);
            // What may not be now waits for nodes that are dead, or for new ones.
            if mended != *list && self.ground.may_change(list, &mended, wanted) {
                self.set_target(shard.id, mended);
            }
        }
    }

    /// Every factor in use has its standing shards; more when nodes come.
    fn add_standing_shards(&mut self) {
        let settings = self.settings;
        let all_alive = self
            .ground
            .active()
            .iter()
            .all(|n| self.ground.is_alive(*n));
        if !all_alive {
            return;
        }
        let wanted = settings.shards_per_node * self.ground.active().len();
        let mut shards = Vec::new();
        for factor in self.standing_factors() {
            let replicas = self.ground.wanted(factor, 0);
            let present = self.of_factor(factor).len();
            if replicas > self.ground.active().len() {
                continue;
            }
            let mut standing = Standing::new(&self.ground, self.lists_of(factor));
            for _ in present..wanted {
                let list = standing.new_list(replicas);
                shards.push(NewShard {
                    replicas: list,
                    factor,
                });
            }
        }
        if !shards.is_empty() {
            let next = ShardId(self.catalogue.next_shard_id);
            self.actions.push(Action::CreateShards { next, shards });
        }
    }

    fn standing_factors(&self) -> BTreeSet<Factor> {
        let shards = self.catalogue.shards.values();
        shards
            .filter(|shard| shard.id != CATALOGUE_SHARD && shard.factor != Factor::ByHand)
            .map(|shard| shard.factor)
            .collect()
    }

    fn of_factor(&self, factor: Factor) -> Vec<ShardId> {
        let shards = self.catalogue.shards.values();
        shards
            .filter(|shard| shard.id != CATALOGUE_SHARD && shard.factor == factor)
            .map(|shard| shard.id)
            .collect()
    }

    fn lists_of(&self, factor: Factor) -> BTreeMap<ShardId, Vec<NodeId>> {
        let shards = self.of_factor(factor).into_iter();
        shards.map(|id| (id, self.lists[&id].clone())).collect()
    }

    /// Replicas and preferred leaders spread evenly, one small step at a time, only on shards
    /// that are in good health.
    fn balance(&mut self) {
        if self.has_room()
            && !self.in_change.contains(&CATALOGUE_SHARD)
            && self.catalogue.shards.contains_key(&CATALOGUE_SHARD)
            && self.is_healthy(CATALOGUE_SHARD)
        {
            let list = self.lists[&CATALOGUE_SHARD].clone();
            let ground = self.ground_for(CATALOGUE_SHARD);
            if let Some((at, node)) = ground.rack_swap(&list, &Loads::new()) {
                let mut list = list;
                list[at] = node;
                self.set_target(CATALOGUE_SHARD, list);
            }
        }
        for factor in self.standing_factors() {
            while self.has_room() {
                let movable = self.movable(factor);
                let led: BTreeMap<ShardId, NodeId> = movable
                    .iter()
                    .filter_map(|id| Some((*id, self.leader(*id)?)))
                    .collect();
                let standing = Standing::new(&self.ground, self.lists_of(factor));
                let Some((shard, list)) = standing.better_replicas(&movable, &led) else {
                    break;
                };
                self.set_target(shard, list);
            }
            if self.has_room() {
                let standing = Standing::new(&self.ground, self.lists_of(factor));
                let movable = self.movable(factor);
                for (shard, list) in standing.better_leaders(&movable) {
                    self.set_target(shard, list);
                }
            }
        }
    }

    fn movable(&self, factor: Factor) -> BTreeSet<ShardId> {
        let shards = self.of_factor(factor).into_iter();
        shards
            .filter(|id| !self.in_change.contains(id) && self.is_healthy(*id))
            .filter(|id| !self.stalls.bars_somebody_from(*id))
            .collect()
    }

    fn move_leaders(&mut self) {
        let mut from_drained = 0;
        let mut may_balance = self.memory.may_balance(self.settings, self.now_ms);
        for shard in self.catalogue.shards.values() {
            let Some((seen, from)) = self
                .view
                .shards
                .get(&shard.id)
                .and_then(|seen| Some((seen, seen.leader?)))
            else {
                continue;
            };
            if !self.memory.may_ask(shard.id, self.settings, self.now_ms) {
                continue;
            }
            let fit = |node: &&NodeId| {
                **node != from
                    && self.ground.is_active(**node)
                    && self.ground.is_alive(**node)
                    && seen.in_sync.contains(node)
                    && shard.replicas.contains(node)
            };
            let list = wanted_list(shard);
            if self.ground.exists(from) && !self.ground.is_active(from) {
                let to = list.iter().find(fit);
                if let Some(to) = to
                    && from_drained < self.settings.drain_transfers_max
                {
                    from_drained += 1;
                    self.actions.push(Action::TransferLeader {
                        shard: shard.id,
                        from,
                        to: *to,
                        is_balance: false,
                    });
                }
                continue;
            }
            let to = preferred(self.catalogue, shard).filter(|node| fit(&node));
            let settled = self.memory.is_settled(shard.id, self.settings, self.now_ms);
            if let Some(to) = to
                && may_balance
                && settled
                && !self.in_change.contains(&shard.id)
            {
                may_balance = false;
                self.actions.push(Action::TransferLeader {
                    shard: shard.id,
                    from,
                    to,
                    is_balance: true,
                });
            }
        }
    }
}

#[cfg(test)]
#[path = "plan_test.rs"]
mod tests;

use proptest::prelude::*;

use super::*;
use crate::catalogue::Node;

/// A cluster that does what it is told at once: a change that was asked for is done when the next
/// round begins.
struct Cluster {
    catalogue: Catalogue,
    view: View,
    memory: Memory,
    stalls: Stalls,
    settings: Settings,
    now_ms: i64,
    /// Targets that were there from the beginning.
    given: BTreeMap<ShardId, Vec<NodeId>>,
    /// Nodes that never catch up with any shard, or with this one.
    slow: BTreeSet<(Option<ShardId>, NodeId)>,
    given_up: Vec<(ShardId, NodeId)>,
}

fn ids(list: &[u32]) -> Vec<NodeId> {
    list.iter().copied().map(NodeId).collect()
}

fn has_majority(list: &[NodeId], alive: &BTreeSet<NodeId>) -> bool {
    list.iter().filter(|node| alive.contains(node)).count() * 2 > list.len()
}

impl Cluster {
    /// One node, the catalogue and some shards on it.
    fn founded() -> Cluster {
        let mut cluster = Cluster {
            catalogue: Catalogue::default(),
            view: View::default(),
            memory: Memory::default(),
            stalls: Stalls::default(),
            settings: Settings::default(),
            now_ms: 0,
            given: BTreeMap::new(),
            slow: BTreeSet::new(),
            given_up: Vec::new(),
        };
        cluster.add_node(1, None);
        for _ in 0..=2 {
            cluster.add_shard(&[1], Factor::Auto);
        }
        cluster
    }

    fn add_node(&mut self, id: u32, rack: Option<&str>) {
        let node = Node {
            id: NodeId(id),
            incarnation: [1; 16],
            rack: rack.map(str::to_owned),
            listeners: BTreeMap::new(),
            state: NodeState::Active,
        };
        self.catalogue.nodes.insert(node.id, node);
        self.view.alive.insert(NodeId(id));
    }

    fn add_shard(&mut self, replicas: &[u32], factor: Factor) -> ShardId {
        let id = ShardId(self.catalogue.next_shard_id);
        self.catalogue.next_shard_id += 1;
        let shard = Shard::new(id, ids(replicas), factor);
        self.catalogue.shards.insert(id, shard);
        id
    }

    fn state(&mut self, id: u32, state: NodeState) {
        let node = self.catalogue.nodes.get_mut(&NodeId(id));
        node.expect("exists").state = state;
    }

    fn list(&self, id: u32) -> &[NodeId] {
        &self.catalogue.shards[&ShardId(id)].replicas
    }

    fn carries(&self, node: u32) -> usize {
        let shards = self.catalogue.shards.values();
        shards.filter(|shard| shard.concerns(NodeId(node))).count()
    }

    /// Leaders are where they were, or else with the first replica that is alive.
    fn look(&mut self) {
        for shard in self.catalogue.shards.values() {
            let seen = self.view.shards.entry(shard.id).or_default();
            let alive = &self.view.alive;
            let up = |node: &NodeId| alive.contains(node);
            let has_majority =
                shard.replicas.iter().filter(|n| up(n)).count() * 2 > shard.replicas.len();
            seen.in_sync = if has_majority {
                shard.replicas.iter().copied().filter(up).collect()
            } else {
                BTreeSet::new()
            };
            let stays = seen.leader.filter(|leader| seen.in_sync.contains(leader));
            seen.leader = stays.or_else(|| {
                let mut list = shard.replicas.iter();
                list.find(|node| seen.in_sync.contains(node)).copied()
            });
        }
    }

    fn round(&mut self) -> Vec<Action> {
        self.look();
        self.memory
            .observe(&self.catalogue, &self.view, self.now_ms);
        let given_up =
            self.stalls
                .observe(&self.catalogue, &self.view, &self.settings, self.now_ms);
        self.given_up
            .extend(given_up.iter().map(|gone| (gone.shard, gone.node)));
        let actions = plan(
            &self.catalogue,
            &self.view,
            (&self.memory, &self.stalls),
            &self.settings,
            self.now_ms,
        );
        self.memory.note(&actions, self.now_ms);
        actions
    }

    /// Changes that have a leader, whose new members are alive, and that leave a living majority,
    /// come about.
    fn finish_changes(&mut self) {
        for shard in self.catalogue.shards.values_mut() {
            let Some(target) = &shard.target else {
                continue;
            };
            let alive = |n: &NodeId| self.view.alive.contains(n);
            let new_alive = target
                .iter()
                .all(|n| shard.replicas.contains(n) || alive(n));
            let seen = self.view.shards.get_mut(&shard.id).expect("seen");
            let led = seen.leader.is_some();
            let comes = target.iter().filter(|node| !shard.replicas.contains(node));
            let is_slow = |node: &&NodeId| {
                self.slow.contains(&(None, **node)) || self.slow.contains(&(Some(shard.id), **node))
            };
            let slow: Vec<NodeId> = comes.filter(is_slow).copied().collect();
            seen.learners = slow.iter().copied().collect();
            let behind = |node: &NodeId| CatchingUp {
                node: *node,
                bytes_left: 1_000,
                entries: 0,
            };
            seen.catching_up = slow.iter().map(behind).collect();
            if !slow.is_empty() {
                continue;
            }
            if new_alive && led && has_majority(target, &self.view.alive) {
                shard.replicas = target.clone();
                shard.target = None;
                shard.changed = true;
            }
        }
    }

    /// As [`Cluster::finish_changes`]; no shard gets fewer replicas than it shall have, unless it
    /// had fewer before.
    fn finish_changes_well(&mut self) {
        let before = self.catalogue.shards.clone();
        self.finish_changes();
        for (id, shard) in &self.catalogue.shards {
            let had = before[id].replicas.iter();
            let had = had.filter(|node| self.catalogue.nodes.contains_key(node));
            let least = self.wanted(shard).min(had.count());
            let by_hand = before[id].target.as_ref() == Some(&shard.replicas)
                && self.given.get(id) == Some(&shard.replicas);
            assert!(
                shard.replicas.len() >= least || by_hand,
                "{:?} -> {shard:?}",
                before[id]
            );
        }
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::CreateShards { next, shards } => {
                    assert_eq!(next.0, self.catalogue.next_shard_id);
                    for shard in shards {
                        let list: Vec<u32> = shard.replicas.iter().map(|node| node.0).collect();
                        self.add_shard(&list, shard.factor);
                    }
                }
                Action::SetTarget { shard, target } => {
                    let entry = self.catalogue.shards.get_mut(&shard).expect("exists");
                    assert!(!target.is_empty());
                    let distinct: BTreeSet<_> = target.iter().collect();
                    assert_eq!(distinct.len(), target.len(), "{target:?}");
                    let known = |n: &NodeId| self.catalogue.nodes.contains_key(n);
                    assert!(target.iter().all(known));
                    let alive = &self.view.alive;
                    assert!(
                        has_majority(&target, alive) || !has_majority(&entry.replicas, alive),
                        "{entry:?} shall become {target:?}"
                    );
                    entry.target = Some(target);
                }
                Action::TransferLeader {
                    shard, from, to, ..
                } => {
                    let seen = self.view.shards.get_mut(&shard).expect("seen");
                    assert_eq!(seen.leader, Some(from));
                    assert!(seen.in_sync.contains(&to));
                    seen.leader = Some(to);
                }
            }
        }
    }

    /// Rounds until there is nothing left to do; answers how many leaders moved.
    fn settle(&mut self) -> usize {
        let (mut quiet, mut transfers) = (0, 0);
        for _ in 0..3_000 {
            let actions = self.round();
            let moves = |action: &&Action| matches!(action, Action::TransferLeader { .. });
            transfers += actions.iter().filter(moves).count();
            quiet = if actions.is_empty() { quiet + 1 } else { 0 };
            self.carry_out(actions);
            let in_change = self.catalogue.shards.values();
            let in_change = in_change.filter(|shard| shard.target.is_some()).count();
            self.finish_changes_well();
            self.now_ms += 1_000;
            // Longer than any patience but that with dead nodes.
            if quiet > 15 && in_change == 0 {
                return transfers;
            }
        }
        panic!("still something to do: {:?}", self.round());
    }

    fn wanted(&self, shard: &Shard) -> usize {
        let ground = Ground::new(&self.catalogue, &self.view.alive, &BTreeSet::new());
        match shard.factor {
            _ if shard.id == CATALOGUE_SHARD => 1,
            factor => ground.wanted(factor, shard.replicas.len()),
        }
    }

    fn leads(&self, node: u32) -> usize {
        let shards = self.view.shards.values();
        shards
            .filter(|seen| seen.leader == Some(NodeId(node)))
            .count()
    }
}

fn of(nodes: u32) -> Cluster {
    let mut cluster = Cluster::founded();
    for id in 2..=nodes {
        cluster.add_node(id, None);
    }
    cluster.settle();
    cluster
}

#[test]
fn one_node_alone_leaves_everything_as_it_is() {
    let mut cluster = Cluster::founded();
    assert_eq!(cluster.round(), []);
}

#[test]
fn the_catalogue_has_one_voter_on_two_nodes_three_on_three_and_five_on_five() {
    for (nodes, voters) in [(1, 1), (2, 1), (3, 3), (4, 3), (5, 5), (7, 5)] {
        assert_eq!(of(nodes).list(0).len(), voters, "{nodes} nodes");
    }
}

#[test]
fn two_nodes_of_which_one_kept_the_catalogue_both_keep_it_when_two_go_at_once() {
    let mut cluster = of(4);
    let goes: Vec<NodeId> = cluster.list(0)[1..].to_vec();
    for node in &goes {
        cluster.state(node.0, NodeState::Draining);
    }
    cluster.settle();
    assert_eq!(cluster.list(0).len(), 2, "{:?}", cluster.list(0));
    assert!(goes.iter().all(|node| !cluster.list(0).contains(node)));
}

#[test]
fn two_nodes_that_are_left_both_keep_the_catalogue() {
    let mut cluster = of(3);
    cluster.state(3, NodeState::Draining);
    cluster.settle();
    assert_eq!(cluster.list(0), ids(&[1, 2]));
    // From there on as well as back.
    cluster.add_node(4, None);
    cluster.settle();
    assert_eq!(cluster.list(0).len(), 3);
    cluster.catalogue.nodes.remove(&NodeId(4));
    cluster.view.alive.remove(&NodeId(4));
    cluster.settle();
    assert_eq!(cluster.list(0).len(), 2);
    cluster.state(2, NodeState::Draining);
    cluster.settle();
    assert_eq!(cluster.list(0), ids(&[1]));
    assert_eq!(cluster.carries(2), 0);
}

#[test]
fn a_third_node_that_is_dead_makes_no_voter() {
    let mut cluster = of(2);
    cluster.add_node(3, None);
    cluster.view.alive.remove(&NodeId(3));
    cluster.settle();
    assert_eq!(cluster.list(0), ids(&[1]));
    cluster.view.alive.insert(NodeId(3));
    cluster.settle();
    assert_eq!(cluster.list(0).len(), 3);
}

#[test]
fn voters_are_spread_over_racks_also_when_these_come_later() {
    let mut cluster = Cluster::founded();
    for (id, rack) in [(2, "a"), (3, "a"), (4, "a")] {
        cluster.add_node(id, Some(rack));
    }
    cluster.settle();
    for (id, rack) in [(5, "b"), (6, "c")] {
        cluster.add_node(id, Some(rack));
    }
    cluster.settle();
    let ground = Ground::new(&cluster.catalogue, &cluster.view.alive, &BTreeSet::new());
    assert_eq!(ground.racks_of(cluster.list(0)), 4);
    for id in 1..cluster.catalogue.next_shard_id {
        assert_eq!(ground.racks_of(cluster.list(id)), 3, "shard {id}");
    }
}

#[test]
fn automatic_shards_grow_with_the_cluster_and_their_leaders_are_spread() {
    let cluster = of(3);
    assert_eq!(cluster.catalogue.shards.len(), 1 + 6);
    for id in 1..=6 {
        assert_eq!(cluster.list(id).len(), 3);
    }
    for node in 1..=3 {
        let first = (1..=6).filter(|id| cluster.list(*id)[0] == NodeId(node));
        assert_eq!(first.count(), 2);
        assert!(cluster.leads(node) >= 2);
    }
}

#[test]
fn shards_of_a_fixed_factor_keep_it_and_get_their_number() {
    let mut cluster = of(3);
    cluster.add_shard(&[2, 3], Factor::Fixed(2));
    cluster.settle();
    let fixed = cluster.catalogue.shards.values();
    let fixed: Vec<_> = fixed.filter(|s| s.factor == Factor::Fixed(2)).collect();
    assert_eq!(fixed.len(), 6);
    assert!(fixed.iter().all(|shard| shard.replicas.len() == 2));
}

#[test]
fn lists_given_by_hand_stay_as_they_are() {
    let mut cluster = of(4);
    let id = cluster.add_shard(&[4, 1], Factor::ByHand);
    cluster.settle();
    assert_eq!(cluster.list(id.0), ids(&[4, 1]));
}

#[test]
fn a_new_node_gets_its_share_with_few_moves() {
    let mut cluster = of(3);
    cluster.add_node(4, None);
    let before = cluster.catalogue.shards.clone();
    cluster.settle();
    let carries: Vec<usize> = (1..=4).map(|node| cluster.carries(node)).collect();
    // 8 standing shards of 3, and the catalogue on three nodes.
    assert_eq!(carries.iter().sum::<usize>(), 8 * 3 + 3);
    assert!(carries[3] >= 6, "{carries:?}");
    let moved: usize = before
        .values()
        .map(|shard| {
            let now = cluster.list(shard.id.0);
            shard.replicas.iter().filter(|n| !now.contains(n)).count()
        })
        .sum();
    assert!(moved <= 5, "{moved} replicas moved");
}

#[test]
fn at_most_two_shards_are_in_change_at_once() {
    let mut cluster = of(1);
    for id in 2..=5 {
        cluster.add_node(id, None);
    }
    let actions = cluster.round();
    let targets = |a: &&Action| matches!(a, Action::SetTarget { .. });
    assert_eq!(actions.iter().filter(targets).count(), 2);
    cluster.carry_out(actions);
    let more = cluster.round();
    assert_eq!(more.iter().filter(targets).count(), 0);
}

#[test]
fn a_draining_node_loses_its_leaders_first_and_then_everything() {
    let mut cluster = of(4);
    cluster.state(2, NodeState::Draining);
    let led = cluster.leads(2);
    assert!(led > 0);
    let actions = cluster.round();
    assert!(actions.iter().any(|a| matches!(
        a,
        Action::TransferLeader {
            from: NodeId(2),
            is_balance: false,
            ..
        }
    )));
    cluster.carry_out(actions);
    cluster.settle();
    assert_eq!((cluster.carries(2), cluster.leads(2)), (0, 0));
    for id in 0..cluster.catalogue.next_shard_id {
        assert_eq!(cluster.list(id).len(), 3, "shard {id}");
    }
}

/// Three nodes, of which node 2 is dead and node 3 is drained.
fn one_dead_and_one_drained() -> Cluster {
    let mut cluster = of(3);
    cluster.view.alive.remove(&NodeId(2));
    cluster.state(3, NodeState::Draining);
    cluster
}

#[test]
fn a_drain_that_would_leave_shards_to_dead_nodes_waits_for_them() {
    let mut cluster = one_dead_and_one_drained();
    let waits = |cluster: &Cluster| {
        drain_waits_for(
            &cluster.catalogue,
            &cluster.view.alive,
            &cluster.stalls,
            NodeId(3),
        )
    };
    assert!(waits(&cluster).is_some_and(|what| what.contains("down (2)")));
    cluster.settle();
    for id in 1..=6 {
        let alive = cluster.list(id).iter();
        let alive = alive.filter(|node| cluster.view.alive.contains(node));
        assert_eq!(alive.count(), 2, "shard {id}");
    }
    assert_eq!(cluster.leads(3), 0, "leaders go all the same");
    cluster.view.alive.insert(NodeId(2));
    assert_eq!(waits(&cluster), None);
    cluster.settle();
    assert_eq!(cluster.carries(3), 0);
    for id in 1..=4 {
        assert_eq!(cluster.list(id).len(), 2, "shard {id}");
    }
}

#[test]
fn a_drain_beside_a_dead_node_goes_on_with_one_more_node() {
    let mut cluster = one_dead_and_one_drained();
    cluster.add_node(4, None);
    cluster.settle();
    assert_eq!(cluster.carries(3), 0);
    assert!((1..=6).all(|id| cluster.list(id).contains(&NodeId(4))));
}

#[test]
fn a_target_whose_nodes_die_is_withdrawn() {
    let mut cluster = of(3);
    let before = ids(&[1, 2, 3]);
    cluster.state(3, NodeState::Draining);
    cluster.view.alive.remove(&NodeId(2));
    let shard = cluster.catalogue.shards.get_mut(&ShardId(1)).expect("is");
    shard.replicas.clone_from(&before);
    shard.target = Some(ids(&[2, 1]));
    cluster.round();
    cluster.now_ms += cluster.settings.abandon_dead_after_ms;
    let actions = cluster.round();
    let back = Action::SetTarget {
        shard: ShardId(1),
        target: before,
    };
    assert!(actions.contains(&back), "{actions:?}");
}

#[test]
fn a_drain_without_another_node_says_so() {
    let mut cluster = of(3);
    let id = cluster.add_shard(&[1, 2, 3], Factor::Fixed(3));
    cluster.settle();
    cluster.state(3, NodeState::Draining);
    cluster.settle();
    let waits = drain_waits_for(
        &cluster.catalogue,
        &cluster.view.alive,
        &cluster.stalls,
        NodeId(3),
    );
    let waits = waits.expect("waits");
    assert!(waits.starts_with("another node"), "{waits}");
    assert!(waits.contains(&id.to_string()), "{waits}");
}

#[test]
fn shards_of_a_factor_that_needs_every_node_stay_on_a_draining_one() {
    let mut cluster = of(3);
    let id = cluster.add_shard(&[1, 2, 3], Factor::Fixed(3));
    cluster.settle();
    cluster.state(3, NodeState::Draining);
    cluster.settle();
    assert_eq!(cluster.list(id.0).len(), 3);
    assert_eq!(cluster.leads(3), 0);
    cluster.add_node(4, None);
    cluster.settle();
    assert_eq!(cluster.carries(3), 0);
}

#[test]
fn a_drained_node_that_is_used_again_gets_replicas_again() {
    let mut cluster = of(4);
    cluster.state(2, NodeState::Draining);
    cluster.settle();
    cluster.state(2, NodeState::Active);
    cluster.settle();
    assert!(cluster.carries(2) >= 5);
}

#[test]
fn a_node_that_is_down_moves_no_data_until_it_has_been_dead_for_long() {
    let mut cluster = of(4);
    cluster.view.alive.remove(&NodeId(2));
    let before = cluster.carries(2);
    cluster.settle();
    assert_eq!(cluster.carries(2), before);
    assert!(cluster.now_ms < cluster.settings.replace_dead_after_ms);
    cluster.now_ms += cluster.settings.replace_dead_after_ms;
    cluster.settle();
    assert_eq!(cluster.carries(2), 0);
    for id in 0..cluster.catalogue.next_shard_id {
        assert_eq!(cluster.list(id).len(), 3, "shard {id}");
    }
}

#[test]
fn a_dead_node_without_another_to_take_its_place_keeps_its_replicas() {
    let mut cluster = of(3);
    cluster.view.alive.remove(&NodeId(2));
    cluster.settle();
    cluster.now_ms += 2 * cluster.settings.replace_dead_after_ms;
    cluster.settle();
    assert_eq!(cluster.carries(2), 7);
}

#[test]
fn replicas_on_a_removed_node_are_made_anew_or_dropped() {
    let mut cluster = of(4);
    cluster.catalogue.nodes.remove(&NodeId(2));
    cluster.view.alive.remove(&NodeId(2));
    cluster.settle();
    assert_eq!(cluster.carries(2), 0);
    assert!((1..cluster.catalogue.next_shard_id).all(|id| cluster.list(id).len() == 3));
    cluster.catalogue.nodes.remove(&NodeId(3));
    cluster.view.alive.remove(&NodeId(3));
    cluster.settle();
    assert_eq!(cluster.carries(3), 0);
    assert!((1..cluster.catalogue.next_shard_id).all(|id| cluster.list(id).len() == 2));
}

#[test]
fn a_target_on_a_node_that_dies_is_given_up_for_another() {
    let mut cluster = of(3);
    cluster.add_node(4, None);
    cluster.add_node(5, None);
    let shard = cluster.catalogue.shards.get_mut(&ShardId(1)).expect("is");
    let mut target = shard.replicas.clone();
    target[2] = NodeId(4);
    shard.target = Some(target);
    cluster.view.alive.remove(&NodeId(4));
    cluster.round();
    cluster.now_ms += cluster.settings.abandon_dead_after_ms;
    let actions = cluster.round();
    assert!(actions.iter().any(|action| matches!(
        action,
        Action::SetTarget { shard: ShardId(1), target } if !target.contains(&NodeId(4))
    )));
}

#[test]
fn a_leader_goes_back_only_after_ten_seconds_and_one_every_two() {
    let mut cluster = of(3);
    cluster.view.alive.remove(&NodeId(1));
    cluster.settle();
    cluster.view.alive.insert(NodeId(1));
    assert_eq!(cluster.leads(1), 0);
    let began = cluster.now_ms;
    let mut moved = Vec::new();
    while moved.len() < 2 {
        let actions = cluster.round();
        moved.extend(actions.iter().map(|_| cluster.now_ms - began));
        cluster.carry_out(actions);
        cluster.now_ms += 500;
        assert!(cluster.now_ms - began < 60_000);
    }
    assert_eq!(moved, [10_000, 12_000]);
}

#[test]
fn a_shard_without_a_leader_is_left_alone() {
    let mut cluster = of(4);
    cluster.view.alive.remove(&NodeId(1));
    cluster.view.alive.remove(&NodeId(2));
    cluster.now_ms += 2 * cluster.settings.replace_dead_after_ms;
    cluster.round();
    cluster.now_ms += 2 * cluster.settings.replace_dead_after_ms;
    for action in cluster.round() {
        if let Action::SetTarget { shard, .. } = action {
            assert!(cluster.view.shards[&shard].leader.is_some());
        }
    }
}

/// Rounds of a second for so long.
fn pass(cluster: &mut Cluster, ms: i64) {
    let until = cluster.now_ms + ms;
    while cluster.now_ms < until {
        let actions = cluster.round();
        cluster.carry_out(actions);
        cluster.finish_changes_well();
        cluster.now_ms += 1_000;
    }
}

fn drain(cluster: &Cluster, node: u32) -> Option<String> {
    let (catalogue, alive) = (&cluster.catalogue, &cluster.view.alive);
    drain_waits_for(catalogue, alive, &cluster.stalls, NodeId(node))
}

#[test]
fn a_drain_goes_on_with_other_nodes_when_one_never_catches_up() {
    let mut cluster = of(4);
    cluster.add_node(5, None);
    cluster.slow.insert((None, NodeId(5)));
    cluster.state(2, NodeState::Draining);
    let stall_ms = cluster.settings.stall_after_ms;
    pass(&mut cluster, stall_ms / 2);
    let held = cluster.carries(2);
    assert!(held > 0, "some shards are on their way to node 5");
    pass(&mut cluster, stall_ms);
    assert_eq!(cluster.carries(2), 0);
    assert_eq!(cluster.stalls.barred(), ids(&[5]).into_iter().collect());
    for id in 0..cluster.catalogue.next_shard_id {
        assert_eq!(cluster.list(id).len(), 3, "shard {id}");
        assert!(!cluster.list(id).contains(&NodeId(5)));
    }
    // Some time later it gets another chance.
    cluster.slow.clear();
    let bar_ms = cluster.settings.bar_ms;
    pass(&mut cluster, bar_ms + stall_ms);
    assert!(cluster.carries(5) >= 5, "{}", cluster.carries(5));
}

#[test]
fn a_replica_that_never_catches_up_where_no_other_node_is_leaves_what_was() {
    let mut cluster = of(3);
    cluster.add_node(4, None);
    cluster.slow.insert((None, NodeId(4)));
    cluster.state(2, NodeState::Draining);
    let stall_ms = cluster.settings.stall_after_ms;
    pass(&mut cluster, stall_ms - 10_000);
    assert_eq!(drain(&cluster, 2), None, "it may come about yet");
    pass(&mut cluster, 2 * stall_ms);
    let waits = drain(&cluster, 2).expect("waits");
    assert!(waits.starts_with("another node"), "{waits}");
    for shard in cluster.catalogue.shards.values() {
        assert_eq!(shard.target, None, "{shard:?}");
        assert_eq!(shard.replicas.len(), 3);
    }
}

#[test]
fn a_shard_that_no_node_catches_up_with_bars_nobody_from_others() {
    let mut cluster = of(5);
    let id = ShardId(1);
    let others: Vec<NodeId> = cluster.view.alive.iter().copied().collect();
    let others = others.into_iter().filter(|n| !cluster.list(1).contains(n));
    let others: Vec<NodeId> = others.collect();
    cluster
        .slow
        .extend(others.iter().map(|node| (Some(id), *node)));
    let goes = cluster.list(1)[2];
    cluster.state(goes.0, NodeState::Draining);
    let stall_ms = cluster.settings.stall_after_ms;
    pass(&mut cluster, 3 * stall_ms);
    let given_up: BTreeSet<NodeId> = cluster.given_up.iter().map(|(_, node)| *node).collect();
    assert_eq!(given_up, others.into_iter().collect());
    assert!(cluster.given_up.iter().all(|(shard, _)| *shard == id));
    assert_eq!(cluster.stalls.barred(), BTreeSet::new());
    assert_eq!(cluster.carries(goes.0), 1, "all but that shard have moved");
    assert!(drain(&cluster, goes.0).is_some());
}

#[test]
fn stalled_changes_hold_no_others_up() {
    let mut cluster = of(4);
    for node in [5, 6] {
        cluster.add_node(node, None);
    }
    cluster.slow.insert((None, NodeId(5)));
    let in_change = |cluster: &Cluster| {
        let shards = cluster.catalogue.shards.values();
        shards.filter(|shard| shard.target.is_some()).count()
    };
    let mut most = 0;
    let until = 3 * cluster.settings.stall_after_ms;
    while cluster.now_ms < until {
        pass(&mut cluster, 1_000);
        most = most.max(in_change(&cluster));
        if cluster.carries(6) >= 6 {
            return;
        }
    }
    panic!(
        "node 6 has {} replicas, {most} in change",
        cluster.carries(6)
    );
}

fn factors() -> impl Strategy<Value = Factor> {
    prop_oneof![
        Just(Factor::Auto),
        (1_u16..4).prop_map(Factor::Fixed),
        Just(Factor::ByHand),
    ]
}

#[derive(Debug, Clone)]
struct AnyNode {
    id: u32,
    rack: Option<u8>,
    draining: bool,
    alive: bool,
}

fn any_node() -> impl Strategy<Value = AnyNode> {
    (
        1_u32..9,
        proptest::option::of(0_u8..3),
        proptest::bool::weighted(0.2),
        proptest::bool::weighted(0.8),
    )
        .prop_map(|(id, rack, draining, alive)| AnyNode {
            id,
            rack,
            draining,
            alive,
        })
}

type AnyShard = (Vec<u32>, Option<Vec<u32>>, Factor);

fn any_shard() -> impl Strategy<Value = AnyShard> {
    let list = || {
        proptest::collection::btree_set(1_u32..9, 1..5)
            .prop_map(|set| set.into_iter().collect::<Vec<_>>())
            .prop_shuffle()
    };
    (list(), proptest::option::weighted(0.2, list()), factors())
}

fn any_cluster(nodes: Vec<AnyNode>, shards: Vec<AnyShard>) -> Cluster {
    let mut cluster = Cluster {
        catalogue: Catalogue::default(),
        view: View::default(),
        memory: Memory::default(),
        stalls: Stalls::default(),
        settings: Settings::default(),
        now_ms: 0,
        given: BTreeMap::new(),
        slow: BTreeSet::new(),
        given_up: Vec::new(),
    };
    for node in &nodes {
        let rack = node.rack.map(|rack| format!("rack-{rack}"));
        cluster.add_node(node.id, rack.as_deref());
        if node.draining {
            cluster.state(node.id, NodeState::Draining);
        }
        if !node.alive {
            cluster.view.alive.remove(&NodeId(node.id));
        }
    }
    for (replicas, target, factor) in shards {
        let id = cluster.add_shard(&replicas, factor);
        let known = |node: &NodeId| cluster.catalogue.nodes.contains_key(node);
        let target = target.map(|list| ids(&list).into_iter().filter(known).collect::<Vec<_>>());
        let shard = cluster.catalogue.shards.get_mut(&id).expect("made");
        shard.target = target.filter(|list| !list.is_empty());
        cluster
            .given
            .extend(shard.target.clone().map(|list| (id, list)));
    }
    cluster
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// `settle` also checks every target, and that no shard has fewer replicas than it should.
    #[test]
    fn from_any_state_rounds_come_to_an_end(
        nodes in proptest::collection::vec(any_node(), 1..8),
        shards in proptest::collection::vec(any_shard(), 1..10),
    ) {
        let mut cluster = any_cluster(nodes, shards);
        // Whoever is dead stays dead for long, and changes that wait for them are given up.
        cluster.look();
        cluster.memory.observe(&cluster.catalogue, &cluster.view, 0);
        cluster.now_ms = 2 * cluster.settings.replace_dead_after_ms;
        for _ in 0..300 {
            let actions = cluster.round();
            cluster.carry_out(actions);
            cluster.finish_changes_well();
            cluster.now_ms += 1_000;
        }
        // Shards without a majority wait for ever; all others have come to rest.
        let led = |cluster: &Cluster, id: ShardId| cluster.view.shards[&id].leader.is_some();
        for _ in 0..12 {
            let actions = cluster.round();
            prop_assert!(actions.is_empty(), "{actions:?}");
            cluster.now_ms += 1_000;
        }
        let ground = Ground::new(&cluster.catalogue, &cluster.view.alive, &BTreeSet::new());
        let takers = ground.takers().count();
        for shard in cluster.catalogue.shards.values() {
            if led(&cluster, shard.id) {
                prop_assert!(shard.target.is_none(), "{shard:?}");
                let wanted = cluster.wanted(shard);
                prop_assert!(
                    shard.replicas.len() >= wanted.min(takers), "{shard:?}: {wanted}"
                );
                let draining = shard.replicas.iter().filter(|n| !ground.is_active(**n)).count();
                let free = ground.takers().filter(|n| !shard.replicas.contains(n)).count();
                prop_assert!(draining == 0 || free == 0, "{shard:?}");
            }
        }
    }
}

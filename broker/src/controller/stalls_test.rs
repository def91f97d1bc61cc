use super::*;
use crate::catalogue::{Factor, Node, NodeState};
use crate::peers::message::CatchingUp;

const STALL_MS: i64 = 10 * 60 * 1_000;

/// Shards 1 and 2 on nodes 1 to 3 that shall go from node 3 to node 4, which follows both.
struct Scene {
    catalogue: Catalogue,
    view: View,
    stalls: Stalls,
    settings: Settings,
    now_ms: i64,
}

fn ids(list: &[u32]) -> Vec<NodeId> {
    list.iter().copied().map(NodeId).collect()
}

impl Scene {
    fn new() -> Scene {
        let mut catalogue = Catalogue::default();
        for id in (1..=5).map(NodeId) {
            let node = Node {
                id,
                incarnation: [1; 16],
                rack: None,
                listeners: BTreeMap::new(),
                state: NodeState::Active,
            };
            catalogue.nodes.insert(id, node);
        }
        let mut view = View {
            alive: ids(&[1, 2, 3, 4, 5]).into_iter().collect(),
            ..View::default()
        };
        for id in [1, 2].map(ShardId) {
            let shard = Shard {
                target: Some(ids(&[1, 2, 4])),
                ..Shard::new(id, ids(&[1, 2, 3]), Factor::Auto)
            };
            catalogue.shards.insert(id, shard);
            let seen = ShardView {
                leader: Some(NodeId(id.0)),
                in_sync: ids(&[1, 2, 3]).into_iter().collect(),
                voters: ids(&[1, 2, 3]).into_iter().collect(),
                learners: ids(&[4]).into_iter().collect(),
                is_joint: false,
                catching_up: vec![CatchingUp {
                    node: NodeId(4),
                    bytes_left: 0,
                    entries: 0,
                }],
            };
            view.shards.insert(id, seen);
        }
        Scene {
            catalogue,
            view,
            stalls: Stalls::default(),
            settings: Settings::default(),
            now_ms: 0,
        }
    }

    fn seen(&mut self, shard: u32) -> &mut ShardView {
        self.view.shards.get_mut(&ShardId(shard)).expect("is there")
    }

    fn comes(&mut self, shard: u32, entries: u64, bytes_left: u64) {
        let replica = &mut self.seen(shard).catching_up[0];
        (replica.entries, replica.bytes_left) = (entries, bytes_left);
    }

    fn shard(&mut self, shard: u32) -> &mut Shard {
        let shards = &mut self.catalogue.shards;
        shards.get_mut(&ShardId(shard)).expect("is there")
    }

    fn look(&mut self) -> Vec<(u32, u32)> {
        let now_ms = self.now_ms;
        let (catalogue, view) = (&self.catalogue, &self.view);
        let given_up = self.stalls.observe(catalogue, view, &self.settings, now_ms);
        let pair = |gone: &GivenUp| (gone.shard.0, gone.node.0);
        given_up.iter().map(pair).collect()
    }

    fn pass(&mut self, ms: i64) -> Vec<(u32, u32)> {
        let until = self.now_ms + ms;
        let mut given_up = self.look();
        while self.now_ms < until {
            self.now_ms += 1_000;
            given_up.extend(self.look());
        }
        given_up
    }

    fn is_stalled(&self, shard: u32) -> bool {
        self.stalls.is_stalled(ShardId(shard), &self.settings)
    }
}

#[test]
fn a_replica_that_gets_nowhere_is_given_up_after_ten_minutes_and_barred() {
    let mut scene = Scene::new();
    assert_eq!(scene.pass(STALL_MS - 1_000), []);
    assert!(!scene.is_stalled(1));
    assert_eq!(scene.pass(1_000), [(1, 4), (2, 4)]);
    assert!(scene.is_stalled(1) && scene.is_stalled(2));
    let stalled_ms = scene.stalls.stalled_ms(ShardId(1), &scene.settings);
    assert_eq!(stalled_ms, Some(STALL_MS));
    assert!(scene.stalls.is_given_up(ShardId(1), NodeId(4)));
    assert!(!scene.stalls.is_given_up(ShardId(1), NodeId(2)));
    let four: BTreeSet<NodeId> = [NodeId(4)].into();
    assert_eq!(scene.stalls.barred(), four, "two shards: it is the node");
    assert_eq!(scene.stalls.barred_from(NodeId(4)), [1, 2].map(ShardId));
    assert_eq!(scene.pass(60_000), [], "said once");
    for shard in [1, 2] {
        scene.shard(shard).target = None;
    }
    let bar_ms = scene.settings.bar_ms;
    scene.pass(bar_ms - 61_000);
    assert_eq!(scene.stalls.barred(), four);
    scene.pass(1_000);
    assert!(scene.stalls.is_empty());
}

#[test]
fn one_shard_alone_bars_a_node_only_from_itself() {
    let mut scene = Scene::new();
    scene.shard(2).target = None;
    assert_eq!(scene.pass(STALL_MS), [(1, 4)]);
    assert_eq!(scene.stalls.barred(), BTreeSet::new());
    let barred = scene.stalls.barred_for(ShardId(1));
    assert_eq!(barred, [NodeId(4)].into());
    assert_eq!(scene.stalls.barred_for(ShardId(2)), BTreeSet::new());
}

#[test]
fn one_leader_alone_bars_a_node_from_no_other_shards() {
    let mut scene = Scene::new();
    scene.seen(2).leader = Some(NodeId(1));
    assert_eq!(scene.pass(STALL_MS), [(1, 4), (2, 4)]);
    assert_eq!(scene.stalls.barred(), BTreeSet::new(), "it may be node 1");
    assert_eq!(scene.stalls.barred_for(ShardId(2)), [NodeId(4)].into());
}

#[test]
fn a_replica_that_takes_over_entries_for_ever_holds_others_up_for_an_hour() {
    let mut scene = Scene::new();
    scene.shard(2).target = None;
    let had_its_time = |scene: &Scene| {
        let stalls = &scene.stalls;
        stalls.has_had_its_time(ShardId(1), &scene.settings)
    };
    let mut entries = 0;
    let mut given_up = Vec::new();
    let mut goes_on_for = |scene: &mut Scene, ms: i64| {
        for _ in 0..ms / 60_000 {
            entries += 1;
            scene.comes(1, entries, 1_000);
            given_up.extend(scene.pass(60_000));
        }
    };
    let hour_ms = scene.settings.slot_ms_max;
    goes_on_for(&mut scene, hour_ms - 60_000);
    assert!(!had_its_time(&scene));
    scene.seen(1).leader = None;
    goes_on_for(&mut scene, hour_ms);
    assert!(!had_its_time(&scene), "nobody led it");
    scene.seen(1).leader = Some(NodeId(2));
    scene.shard(1).target = Some(ids(&[2, 1, 4]));
    goes_on_for(&mut scene, 120_000);
    assert!(had_its_time(&scene) && !scene.is_stalled(1));
    scene.seen(1).learners.insert(NodeId(5));
    scene.pass(1_000);
    assert!(!had_its_time(&scene), "a step");
    goes_on_for(&mut scene, 2 * hour_ms);
    assert!(had_its_time(&scene));
    assert_eq!(given_up, [], "it gets on");
}

#[test]
fn entries_bytes_and_members_are_progress_and_nothing_else_is() {
    let mut scene = Scene::new();
    scene.shard(2).target = None;
    let most = STALL_MS - 1_000;
    scene.comes(1, 0, 500);
    assert_eq!(scene.pass(most), []);
    scene.comes(1, 0, 499);
    assert_eq!(scene.pass(most), [], "bytes");
    scene.comes(1, 7, 0);
    assert_eq!(scene.pass(most), [], "entries");
    // After those it lacks more bytes than before, and fewer and fewer of them.
    scene.comes(1, 7, 9_000);
    scene.pass(1_000);
    for left in [8_000, 7_000] {
        scene.comes(1, 7, left);
        assert_eq!(scene.pass(most - 2_000), [], "bytes of another checkpoint");
    }
    scene.seen(1).learners.insert(NodeId(5));
    assert_eq!(scene.pass(most), [], "members");
    // A copy that begins anew again and again gets nowhere in the end.
    scene.comes(1, 8, 0);
    let mut given_up = scene.pass(1_000);
    for round in 0..40 {
        scene.comes(1, 8, 9_000 - 1_000 * (round % 2));
        given_up.extend(scene.pass(STALL_MS / 5));
    }
    assert_eq!(given_up, [(1, 4)]);
}

#[test]
fn time_without_a_leader_or_without_a_look_does_not_count() {
    let mut scene = Scene::new();
    scene.pass(STALL_MS / 2);
    scene.seen(1).leader = None;
    scene.seen(2).leader = Some(NodeId(5));
    scene.view.alive.remove(&NodeId(5));
    assert_eq!(scene.pass(STALL_MS), []);
    for shard in [1, 2] {
        scene.seen(shard).leader = Some(NodeId(2));
    }
    // The node was stopped for an hour.
    scene.now_ms += 3_600_000;
    assert_eq!(scene.pass(STALL_MS / 2 - 10_000), []);
    assert_eq!(scene.pass(10_000), [(1, 4), (2, 4)]);
}

#[test]
fn a_replica_that_votes_or_keeps_up_is_not_to_blame() {
    let mut scene = Scene::new();
    scene.seen(1).voters.insert(NodeId(4));
    scene.seen(2).catching_up.clear();
    assert_eq!(scene.pass(2 * STALL_MS), []);
    assert!(scene.is_stalled(1) && scene.is_stalled(2), "all the same");
}

#[test]
fn another_target_begins_anew_and_holds_nobody_up_until_it_gets_on() {
    let mut scene = Scene::new();
    scene.pass(STALL_MS);
    scene.shard(1).target = Some(ids(&[1, 2, 5]));
    assert_eq!(scene.pass(STALL_MS / 2), []);
    assert!(scene.is_stalled(1));
    assert!(!scene.stalls.is_given_up(ShardId(1), NodeId(4)));
    let stalled_ms = scene.stalls.stalled_ms(ShardId(1), &scene.settings);
    assert_eq!(stalled_ms, None, "not for so long");
    scene.seen(1).learners = [NodeId(5)].into();
    scene.pass(1_000);
    assert!(!scene.is_stalled(1));
    assert!(scene.is_stalled(2));
}

use super::maker::{LULL_MS, REST_AFTER_LIE_MS, STORM_MS};
use super::*;
use crate::fault::{Fault, NodeId};

fn standing(nodes: u32) -> Standing {
    Standing {
        nodes: (1..=nodes).collect(),
        leader: Some(2),
        clients: (0..6).collect(),
    }
}

fn plans(nodes: u32) -> impl Iterator<Item = Plan> {
    (0..200).map(move |seed| Plan::make(seed, Duration::from_secs(60), &Kind::ALL, nodes))
}

fn faults(plan: &Plan, nodes: u32) -> Vec<Fault> {
    let standing = standing(nodes);
    let steps = plan.steps.iter();
    steps.filter_map(|step| step.resolve(&standing)).collect()
}

#[test]
fn the_same_seed_makes_the_same_plan_and_another_seed_another() {
    let make = |seed| Plan::make(seed, Duration::from_secs(60), &Kind::ALL, 5);
    assert_eq!(make(7), make(7));
    assert_ne!(make(7), make(8));
    assert_eq!(faults(&make(7), 5), faults(&make(7), 5));
}

#[test]
fn everything_ends_before_the_plan_does() {
    for seconds in [1, 3, 10, 60] {
        for seed in 0..100 {
            let duration = Duration::from_secs(seconds);
            let of = |pace| Plan::paced(seed, duration, &Kind::ALL, 3, pace).steps;
            for step in of(Pace::Steady).iter().chain(&of(Pace::Brisk)) {
                assert!(step.at_ms + step.lasts_ms <= seconds * 1_000, "{step:?}");
                assert!(step.lasts_ms > 0, "{step:?}");
            }
        }
    }
}

#[test]
fn a_brisk_plan_breaks_more_and_never_rests_for_a_whole_round() {
    let duration = Duration::from_secs(20);
    let of = |seed, pace| Plan::paced(seed, duration, &[Kind::Power], 3, pace).steps;
    let brisk: Vec<_> = (0..100).map(|seed| of(seed, Pace::Brisk).len()).collect();
    assert!(brisk.iter().all(|steps| *steps >= 3), "{brisk:?}");
    let steady: usize = (0..100).map(|seed| of(seed, Pace::Steady).len()).sum();
    assert!(brisk.iter().sum::<usize>() * 2 > steady * 3, "{brisk:?}");
}

#[test]
fn a_plan_with_lulls_breaks_as_much_between_them_and_nothing_in_them() {
    let duration = Duration::from_secs(60);
    for seed in 0..100 {
        let plan = Plan::lulled(seed, duration, &Kind::ALL, 3, Pace::Brisk);
        let mut ends_ms = 0;
        let mut storms: Vec<(u64, u64)> = Vec::new();
        for step in &plan.steps {
            match storms.last_mut() {
                Some((_, until)) if step.at_ms < *until + LULL_MS => {
                    *until = (*until).max(step.at_ms + step.lasts_ms);
                }
                _ => storms.push((step.at_ms, step.at_ms + step.lasts_ms)),
            }
            ends_ms = ends_ms.max(step.at_ms + step.lasts_ms);
        }
        assert!(storms.len() >= 2, "{seed}: {storms:?}");
        assert!(storms[0].0 >= 4_000, "{seed}: {storms:?}");
        assert!(ends_ms <= 60_000, "{seed}");
        // A storm goes on for a round more, and a disk that lied has its rest in it.
        let longest = STORM_MS + 5_000 + REST_AFTER_LIE_MS + 1_000;
        let is_short = |(from, until): &(u64, u64)| until - from <= longest;
        assert!(storms.iter().all(is_short), "{seed}: {storms:?}");
    }
}

#[test]
fn a_short_plan_with_lulls_breaks_something_all_the_same() {
    for seed in 0..100 {
        let of = |kind| Plan::lulled(seed, Duration::from_secs(6), &[kind], 3, Pace::Brisk).steps;
        assert!(!of(Kind::Kill).is_empty(), "{seed}");
    }
}

#[test]
fn only_kinds_that_were_asked_for_come_and_each_does_in_a_minute() {
    for kind in Kind::ALL {
        for seed in 0..20 {
            let plan = Plan::make(seed, Duration::from_secs(60), &[kind], 5);
            let mut specs = plan.steps.iter().map(|step| &step.fault);
            let is_of_kind = |spec: &FaultSpec| match spec {
                FaultSpec::Kill { .. } => kind == Kind::Kill,
                FaultSpec::Pause { .. } => kind == Kind::Pause,
                FaultSpec::Partition { .. } => kind == Kind::Partition,
                FaultSpec::Packets { .. } => kind == Kind::Packet,
                FaultSpec::Clock { .. } => kind == Kind::Clock,
                FaultSpec::AddNode | FaultSpec::RemoveNode => kind == Kind::Membership,
                FaultSpec::TransferLeader => kind == Kind::Transfer,
                FaultSpec::Disk { .. } => kind == Kind::Disk,
                FaultSpec::PowerCut { .. } => kind == Kind::Power,
                FaultSpec::FlipBit => kind == Kind::Bitflip,
                FaultSpec::TruncateFile | FaultSpec::DeleteFile => kind == Kind::Files,
            };
            assert!(plan.steps.len() > 1, "{kind} {seed}");
            assert!(specs.all(is_of_kind), "{kind} {plan:?}");
        }
    }
    assert!(
        Plan::make(1, Duration::from_secs(60), &[], 5)
            .steps
            .is_empty()
    );
}

#[test]
fn damage_strikes_one_and_the_same_minority_through_a_whole_plan() {
    for (nodes, most) in [(3, 1), (5, 2)] {
        for plan in plans(nodes) {
            let mut damaged = BTreeSet::new();
            for fault in faults(&plan, nodes) {
                match fault {
                    Fault::FlipBit(node) | Fault::TruncateFile(node) | Fault::DeleteFile(node) => {
                        damaged.insert(node);
                    }
                    Fault::Disk {
                        nodes,
                        how: DiskFault::LyingSync,
                    } => {
                        assert_eq!(nodes.len(), 1);
                        damaged.extend(nodes);
                    }
                    _ => {}
                }
            }
            assert!(damaged.len() <= most, "{damaged:?} of {nodes}");
        }
    }
}

#[test]
fn a_disk_that_lies_is_alone_and_followed_by_a_rest() {
    let mut seen = 0;
    for plan in plans(3) {
        for lie in plan.steps.iter().filter(|step| step.fault.lies()) {
            seen += 1;
            let end_ms = lie.at_ms + lie.lasts_ms;
            let others = plan.steps.iter().filter(|step| *step != lie);
            for other in others {
                let is_before = other.at_ms + other.lasts_ms <= lie.at_ms;
                let is_after = other.at_ms >= end_ms + REST_AFTER_LIE_MS;
                assert!(is_before || is_after, "{lie:?} {other:?}");
            }
        }
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn a_cluster_that_shrank_is_not_damaged_beyond_a_minority() {
    let step = Step {
        at_ms: 0,
        lasts_ms: 1,
        fault: FaultSpec::FlipBit,
        draw: 1,
        unlucky: vec![1, 2],
        is_damage: false,
    };
    assert!(step.resolve(&standing(5)).is_some());
    assert_eq!(step.resolve(&standing(3)), None);
}

#[test]
fn every_class_of_nodes_is_as_large_as_it_says() {
    let count = |target, nodes: u32| {
        let step = Step {
            at_ms: 0,
            lasts_ms: 1,
            fault: FaultSpec::Kill { target },
            draw: 5,
            unlucky: Vec::new(),
            is_damage: false,
        };
        step.resolve(&standing(nodes)).map(|fault| fault.nodes())
    };
    let counts = |nodes| {
        [Target::One, Target::Minority, Target::Majority, Target::All]
            .map(|target| count(target, nodes).map_or(0, |nodes| nodes.len()))
    };
    assert_eq!(counts(3), [1, 1, 2, 3]);
    assert_eq!(counts(5), [1, 2, 3, 5]);
    assert_eq!(count(Target::Leader, 5), Some(vec![2]));
}

#[test]
fn in_a_ring_everyone_hears_a_majority_and_nobody_the_same() {
    for nodes in [4, 5, 7] {
        let step = Step {
            at_ms: 0,
            lasts_ms: 1,
            fault: FaultSpec::Partition { shape: Shape::Ring },
            draw: 3,
            unlucky: Vec::new(),
            is_damage: false,
        };
        let Some(Fault::Cut { links, .. }) = step.resolve(&standing(nodes)) else {
            panic!("a ring of {nodes} is cut");
        };
        let mut views = BTreeSet::new();
        for node in 1..=nodes {
            let hears = (1..=nodes).filter(|other| !links.contains(&(*other, node)));
            let hears: Vec<NodeId> = hears.collect();
            assert!(hears.len() > nodes as usize / 2, "{node} {links:?}");
            assert!(hears.len() < nodes as usize, "{node} {links:?}");
            views.insert(hears);
        }
        assert_eq!(views.len(), nodes as usize);
    }
}

#[test]
fn a_bridge_hears_both_halves_which_do_not_hear_each_other() {
    for draw in 0..50 {
        let step = Step {
            at_ms: 0,
            lasts_ms: 1,
            fault: FaultSpec::Partition {
                shape: Shape::Bridge,
            },
            draw,
            unlucky: Vec::new(),
            is_damage: false,
        };
        let Some(Fault::Cut { links, .. }) = step.resolve(&standing(5)) else {
            panic!("a bridge of 5 is cut");
        };
        assert_eq!(links.len(), 8);
        let is_whole = |node: &NodeId| links.iter().all(|(a, b)| a != node && b != node);
        assert_eq!((1..=5).filter(is_whole).count(), 1);
    }
}

#[test]
fn one_way_cuts_exactly_one_way_and_a_leader_keeps_some_clients() {
    for plan in plans(5) {
        for fault in faults(&plan, 5) {
            let Fault::Cut {
                name,
                links,
                clients,
            } = fault
            else {
                continue;
            };
            let is_both_ways = links.iter().all(|(a, b)| links.contains(&(*b, *a)));
            assert_eq!(is_both_ways, name != "partition-one-way", "{links:?}");
            let is_with_leader = clients.iter().all(|(_, node)| *node == 2);
            assert!(is_with_leader, "{clients:?}");
            assert!(clients.is_empty() || name == "partition-leader");
        }
    }
}

#[test]
fn actions_come_in_order_and_each_step_begins_before_it_ends() {
    for plan in plans(3).take(20) {
        let actions = plan.actions();
        assert_eq!(actions.len(), plan.steps.len() * 2);
        assert!(actions.is_sorted_by_key(|action| action.at));
        for step in 0..plan.steps.len() {
            let of_step = actions.iter().filter(|action| action.step == step);
            let begins: Vec<bool> = of_step.map(|action| action.begins).collect();
            assert_eq!(begins, [true, false]);
        }
    }
}

#[test]
fn a_plan_survives_being_written_down() {
    let plan = Plan::make(9, Duration::from_secs(120), &Kind::ALL, 5);
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
}

#[test]
fn kinds_are_read_by_name() {
    for kind in Kind::ALL {
        assert_eq!(kind.name().parse(), Ok(kind));
    }
    let error = "meteor".parse::<Kind>().unwrap_err().to_string();
    assert!(
        error.contains("`meteor`") && error.contains("bitflip"),
        "{error}"
    );
}

#[test]
fn where_nothing_is_synced_first_a_failing_disk_strikes_who_may_be_damaged() {
    let standing = standing(5);
    let mut struck = 0;
    for seed in 0..200 {
        let plan = Plan::make(seed, Duration::from_secs(60), &[Kind::Disk], 5).for_relaxed();
        for step in &plan.steps {
            match step.resolve(&standing) {
                Some(Fault::Disk {
                    how: DiskFault::SlowSync(_),
                    ..
                })
                | None => {}
                Some(Fault::Disk { nodes, .. }) => {
                    assert!(nodes.iter().all(|node| step.unlucky.contains(node)));
                    struck += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(struck > 100, "{struck}");
}

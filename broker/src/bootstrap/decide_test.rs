use super::*;

/// A node that is about to start: its address, and what it was started with.
#[derive(Debug, Clone)]
struct Starting {
    address: &'static str,
    own: Own,
}

fn starting(number: u8, address: &'static str, wanted: Option<u32>, seeds: &[&str]) -> Starting {
    Starting {
        address,
        own: Own {
            incarnation: [number; 16],
            wanted: wanted.map(NodeId),
            seeds: seeds.iter().map(|seed| (*seed).to_owned()).collect(),
        },
    }
}

fn blank(of: &Starting) -> Discovered {
    Discovered {
        incarnation: of.own.incarnation,
        standing: Standing::Blank {
            wanted: of.own.wanted,
            seeds: of.own.seeds.clone(),
        },
        refusal: None,
    }
}

fn member(cluster_id: &str, number: u8, is_ready: bool) -> Discovered {
    Discovered {
        incarnation: [number; 16],
        standing: Standing::Member {
            cluster_id: cluster_id.to_owned(),
            node: NodeId(number.into()),
            is_ready,
        },
        refusal: None,
    }
}

const SEEDS: [&str; 3] = ["a:1", "b:1", "c:1"];

fn three() -> Vec<Starting> {
    (1..=3)
        .zip(SEEDS)
        .map(|(number, address)| starting(number, address, None, &SEEDS))
        .collect()
}

fn answers(of: &[Starting]) -> BTreeMap<String, Discovered> {
    of.iter()
        .map(|node| (node.address.to_owned(), blank(node)))
        .collect()
}

fn waits_for(step: &Step, what: &str) -> bool {
    matches!(step, Step::Wait(reason) if reason.contains(what))
}

#[test]
fn of_blank_nodes_exactly_one_founds_and_only_when_all_answer() {
    let nodes = three();
    // Every subset of answers, as seen by every node.
    for seen in 0..8_u32 {
        let answering: Vec<Starting> = (0..3)
            .filter(|bit| seen & (1 << bit) != 0)
            .map(|bit| nodes[bit].clone())
            .collect();
        for node in &nodes {
            let step = decide(&node.own, &answers(&answering));
            let founds = matches!(step, Step::Found(_));
            assert_eq!(founds, seen == 7 && node.address == "a:1", "{step:?}");
            if seen != 7 {
                assert!(waits_for(&step, "no answer from"), "{step:?}");
            }
        }
    }
}

#[test]
fn whoever_has_a_cluster_is_joined_whatever_the_others_say() {
    let nodes = three();
    // Each seed: no answer, blank, or a member of the cluster.
    for case in 0..27_u32 {
        let mut seen = BTreeMap::new();
        let mut ready = Vec::new();
        for (at, node) in (0..).zip(&nodes) {
            let number = node.own.incarnation[0];
            let answer = match case / 3_u32.pow(at) % 3 {
                0 => continue,
                1 => blank(node),
                _ => {
                    ready.push(node.address.to_owned());
                    member("x", number, true)
                }
            };
            seen.insert(node.address.to_owned(), answer);
        }
        if ready.is_empty() {
            continue;
        }
        let join = Step::Join {
            cluster_id: "x".to_owned(),
            through: ready,
        };
        for node in &nodes {
            assert_eq!(decide(&node.own, &seen), join);
        }
    }
}

#[test]
fn a_cluster_that_is_being_founded_is_waited_for() {
    let nodes = three();
    let mut seen = answers(&nodes);
    seen.insert("b:1".to_owned(), member("x", 2, false));
    for node in &nodes {
        let step = decide(&node.own, &seen);
        assert!(waits_for(&step, "about to have the catalogue"), "{step:?}");
    }
    // The founder crashed after it had its identity: nobody else founds meanwhile.
    seen.remove("b:1");
    let step = decide(&nodes[0].own, &seen);
    assert!(waits_for(&step, "no answer from b:1"), "{step:?}");
}

#[test]
fn seeds_of_two_clusters_are_not_chosen_between() {
    let nodes = three();
    let mut seen = answers(&nodes);
    seen.insert("a:1".to_owned(), member("x", 1, true));
    seen.insert("b:1".to_owned(), member("y", 2, true));
    let step = decide(&nodes[2].own, &seen);
    assert!(waits_for(&step, "different clusters"), "{step:?}");
}

#[test]
fn nodes_with_different_seeds_do_not_found() {
    let mut nodes = three();
    nodes[1] = starting(2, "b:1", None, &["b:1", "c:1"]);
    let step = decide(&nodes[0].own, &answers(&nodes));
    assert!(waits_for(&step, "other seeds"), "{step:?}");
    // And the one with fewer seeds sees that the third goes by others.
    let step = decide(&nodes[1].own, &answers(&nodes[1..]));
    assert!(waits_for(&step, "other seeds"), "{step:?}");
}

#[test]
fn an_address_that_leads_elsewhere_is_noticed() {
    let nodes = three();
    let mut seen = answers(&nodes);
    seen.insert("b:1".to_owned(), blank(&nodes[0]));
    let step = decide(&nodes[0].own, &seen);
    assert!(waits_for(&step, "lead to the same node"), "{step:?}");
}

#[test]
fn a_node_that_no_seed_leads_to_never_founds() {
    let fourth = starting(4, "d:1", None, &SEEDS);
    let step = decide(&fourth.own, &answers(&three()));
    assert!(waits_for(&step, "this node is none of them"), "{step:?}");
}

#[test]
fn two_that_want_the_same_id_wait_for_the_operator() {
    let mut nodes = three();
    nodes[1].own.wanted = Some(NodeId(7));
    nodes[2].own.wanted = Some(NodeId(7));
    for node in &nodes {
        let step = decide(&node.own, &answers(&nodes));
        assert!(waits_for(&step, "both want to be node 7"), "{step:?}");
    }
}

#[test]
fn the_founder_takes_the_id_it_wants_or_the_lowest_that_nobody_wants() {
    let mut nodes = three();
    let founds = |nodes: &[Starting]| decide(&nodes[0].own, &answers(nodes));
    assert_eq!(founds(&nodes), Step::Found(NodeId(1)));
    nodes[1].own.wanted = Some(NodeId(1));
    nodes[2].own.wanted = Some(NodeId(2));
    assert_eq!(founds(&nodes), Step::Found(NodeId(3)));
    nodes[0].own.wanted = Some(NodeId(9));
    assert_eq!(founds(&nodes), Step::Found(NodeId(9)));
}

#[test]
fn a_single_seed_that_is_this_node_founds_alone() {
    let alone = starting(1, "a:1", None, &["a:1"]);
    let seen = answers(std::slice::from_ref(&alone));
    assert_eq!(decide(&alone.own, &seen), Step::Found(NodeId(1)));
}

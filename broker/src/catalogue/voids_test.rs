use proptest::prelude::*;
use storage::TopicId;

use super::super::membership;
use super::super::{Factor, Node, NodeState, PartitionEntry, Topic};
use super::*;
use crate::TopicConfig;

fn node(id: u32) -> Node {
    Node {
        id: NodeId(id),
        incarnation: [u8::try_from(id).expect("small"); 16],
        rack: None,
        listeners: BTreeMap::new(),
        state: NodeState::Active,
    }
}

/// Nodes 1 to 3, and these shards with their replicas.
fn catalogue(shards: &[&[u32]]) -> Catalogue {
    let shard = |(id, replicas): (u32, &&[u32])| {
        let replicas = replicas.iter().copied().map(NodeId).collect();
        let shard = Shard::new(ShardId(id), replicas, Factor::Auto);
        (shard.id, shard)
    };
    Catalogue {
        cluster_id: "c".to_owned(),
        nodes: [1, 2, 3].map(|id| (NodeId(id), node(id))).into(),
        shards: (0..).zip(shards).map(shard).collect(),
        ..Catalogue::default()
    }
}

fn comeback(node: u32, before: u8, incarnation: u8) -> Comeback {
    Comeback {
        node: NodeId(node),
        before: [before; 16],
        incarnation: [incarnation; 16],
        keeps_incarnation: false,
        lost_all: false,
    }
}

fn floor(term: u64) -> Floor {
    Floor {
        term: Term(term),
        leader: NodeId(1),
        last: LogPosition {
            term: Term(term),
            index: LogIndex(5),
        },
    }
}

fn waiting(state: &Catalogue, node: u32) -> Vec<u32> {
    let ids = state.shards.keys();
    let waits = ids.filter(|id| state.is_waiting_void(**id, NodeId(node)));
    waits.map(|id| id.0).collect()
}

#[test]
fn a_return_marks_every_shard_that_others_have() {
    let mut state = catalogue(&[&[1, 2, 3], &[2, 3], &[3], &[1, 2]]);
    come_back(&mut state, &comeback(3, 3, 9)).expect("is taken back");
    assert_eq!(state.nodes[&NodeId(3)].incarnation, [9; 16]);
    assert_eq!(waiting(&state, 3), [0, 1, 3], "also where it may have been");
    assert!(
        state.shards.values().all(|shard| !shard.changed),
        "who has forgotten nothing may still begin them"
    );
    assert_eq!(state.waiting_voids(ShardId(1)), [NodeId(3)].into());
    let before = state.clone();
    come_back(&mut state, &comeback(3, 3, 9)).expect("again");
    assert_eq!(state, before);
}

#[test]
fn a_mark_is_cleared_for_this_return_only() {
    let mut state = catalogue(&[&[1, 2, 3], &[1, 2, 3]]);
    let (shard, who) = (ShardId(0), NodeId(3));
    come_back(&mut state, &comeback(3, 3, 9)).expect("is taken back");
    clear(&mut state, shard, (who, [9; 16]), floor(4)).expect("is cleared");
    assert_eq!(state.void(shard, who), Some(Void::Cleared(floor(4))));
    clear(&mut state, shard, (who, [9; 16]), floor(5)).expect("again");
    assert_eq!(
        state.void(shard, who),
        Some(Void::Cleared(floor(4))),
        "the first counts"
    );
    come_back(&mut state, &comeback(3, 9, 10)).expect("a second time");
    assert_eq!(waiting(&state, 3), [0, 1]);
    let late = clear(&mut state, ShardId(1), (who, [9; 16]), floor(6));
    assert!(matches!(late, Err(BrokerError::Conflict { .. })));
    assert_eq!(waiting(&state, 3), [0, 1]);
}

#[test]
fn whoever_is_not_the_known_node_is_not_taken_back() {
    let mut state = catalogue(&[&[1, 2, 3]]);
    let mut refused = |comeback: &Comeback| {
        let before = state.clone();
        let done = come_back(&mut state, comeback);
        assert_eq!(state, before);
        done.expect_err("is refused").to_string()
    };
    assert!(refused(&comeback(3, 8, 9)).contains("another data directory"));
    refused(&comeback(7, 7, 9));
    refused(&comeback(3, 3, 3));
    refused(&comeback(3, 3, 0));
    state.removed_nodes.insert(NodeId(2));
    state.nodes.remove(&NodeId(2));
    let error = come_back(&mut state, &comeback(2, 2, 9)).expect_err("is refused");
    assert!(error.to_string().contains("was removed"), "{error}");
}

#[test]
fn who_has_nothing_left_comes_back_only_where_others_have_its_data() {
    let mut state = catalogue(&[&[1, 2, 3], &[3]]);
    let nothing = Comeback {
        lost_all: true,
        ..comeback(3, 3, 9)
    };
    let mut with_data = state.clone();
    let topic = Topic {
        name: "t".to_owned(),
        id: TopicId([1; 16]),
        partitions: vec![PartitionEntry::new(ShardId(1))],
        config: TopicConfig::default().into(),
        internal: false,
    };
    with_data.topics.insert("t".to_owned(), topic.into());
    let error = come_back(&mut with_data, &nothing).expect_err("only it has shard 1");
    assert!(error.to_string().contains("shards 1"), "{error}");
    come_back(&mut state, &nothing).expect("shard 1 is empty");
    assert_eq!(waiting(&state, 3), [0]);
    assert_eq!(state.void(ShardId(1), NodeId(3)), None);
}

#[test]
fn what_is_accepted_waits_for_nothing_and_what_was_cleared_stays() {
    let mut state = catalogue(&[&[1, 2, 3], &[2, 3]]);
    come_back(&mut state, &comeback(3, 3, 9)).expect("is taken back");
    clear(&mut state, ShardId(0), (NodeId(3), [9; 16]), floor(4)).expect("is cleared");
    accept(&mut state, NodeId(3), [8; 16]).expect_err("another time");
    accept(&mut state, NodeId(3), [9; 16]).expect("is accepted");
    let accepted = state.void(ShardId(1), NodeId(3));
    assert_eq!(accepted, Some(Void::Accepted), "it must not begin it");
    assert_eq!(waiting(&state, 3), []);
    let cleared = state.void(ShardId(0), NodeId(3));
    assert_eq!(cleared, Some(Void::Cleared(floor(4))));
}

#[test]
fn who_keeps_its_incarnation_is_marked_all_the_same() {
    let mut state = catalogue(&[&[1], &[1, 2]]);
    let keeping = Comeback {
        keeps_incarnation: true,
        ..comeback(1, 1, 9)
    };
    come_back(&mut state, &keeping).expect("is taken back");
    assert_eq!(state.nodes[&NodeId(1)].incarnation, [1; 16]);
    assert_eq!(waiting(&state, 1), [1]);
    assert!(state.has_returned(NodeId(1), [9; 16]));
    clear(&mut state, ShardId(1), (NodeId(1), [9; 16]), floor(4)).expect("is cleared");
    let again = Comeback {
        incarnation: [10; 16],
        ..keeping
    };
    come_back(&mut state, &again).expect("again, later");
    assert_eq!(waiting(&state, 1), [1]);
}

#[test]
fn who_had_others_beside_it_is_marked_until_it_is_confirmed_that_they_are_gone() {
    let mut state = catalogue(&[&[1, 2, 3], &[1], &[1]]);
    let shall_have = |state: &mut Catalogue, id, target: &[u32]| {
        let target = target.iter().copied().map(NodeId).collect();
        let shard = state.shards.get_mut(&ShardId(id)).expect("there");
        shard.target = Some(target);
    };
    // Two were to be added, then not; nobody has said that they were taken out again.
    shall_have(&mut state, 1, &[1]);
    shall_have(&mut state, 2, &[1, 2]);
    come_back(&mut state, &comeback(1, 1, 9)).expect("is taken back");
    assert_eq!(waiting(&state, 1), [0, 1, 2]);
}

#[test]
fn who_is_taken_back_by_others_does_not_have_the_catalogue_alone() {
    let mut state = catalogue(&[&[1]]);
    come_back(&mut state, &comeback(1, 1, 9)).expect("is taken back");
    assert_eq!(waiting(&state, 1), [0]);
}

#[test]
fn marks_go_with_their_node() {
    let mut state = catalogue(&[&[1, 2], &[1, 2]]);
    come_back(&mut state, &comeback(3, 3, 9)).expect("is taken back");
    membership::set_state(&mut state, NodeId(3), NodeState::Draining).expect("drains");
    assert_eq!(waiting(&state, 3), [0, 1], "a drain changes no mark");
    membership::remove(&mut state, NodeId(3), false).expect("carries nothing");
    assert_eq!(state.voids, Voids::new());
}

proptest! {
    #[test]
    fn marks_survive_their_encoding(
        marks in proptest::collection::btree_map((0u32..9, 1u32..9), any::<(u64, u8)>(), 0..9),
    ) {
        let mut state = Catalogue::default();
        for ((shard, node), (term, kind)) in marks {
            let void = match kind % 3 {
                0 => Void::Waiting,
                1 => Void::Accepted,
                _ => Void::Cleared(floor(term)),
            };
            state.voids.entry(ShardId(shard)).or_default().insert(NodeId(node), void);
            state.returns.insert(NodeId(node), [7; 16]);
        }
        let mut writer = Writer::default();
        put(&mut writer, &state);
        let mut reader = Reader::new(writer.finish());
        let mut read = Catalogue::default();
        take(&mut reader, &mut read).expect("is read");
        prop_assert_eq!(read, state);
        prop_assert!(reader.end().is_ok());
    }
}

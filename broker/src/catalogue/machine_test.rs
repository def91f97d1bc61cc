use std::collections::BTreeMap;

use storage::{LogIndex, LogPosition, Term};

use super::super::command::{Joiner, NewShard};
use super::super::{Factor, Node, NodeState, QuotaEntity, QuotaKey, QuotaName, Shard};
use super::*;
use crate::wire::Writer;

fn apply(machine: &mut CatalogueMachine, command: &Command) -> Outcome {
    let position = LogPosition {
        term: Term(1),
        index: LogIndex(1),
    };
    let op = Op {
        head: command.encode(),
        body: Bytes::new(),
    };
    let at = EntryAt {
        position,
        time_ms: 0,
    };
    machine.apply(at, &[op]).remove(0)
}

fn node(id: u32) -> Node {
    Node {
        id: NodeId(id),
        incarnation: [u8::try_from(id).expect("small"); 16],
        rack: None,
        listeners: BTreeMap::new(),
        state: NodeState::Active,
    }
}

/// A cluster of node 1, with shards 0 to 3 on it.
fn founded() -> (CatalogueMachine, watch::Receiver<Arc<Catalogue>>) {
    let (mut machine, images) = CatalogueMachine::new();
    let shard = |id| Shard::new(ShardId(id), vec![NodeId(1)], Factor::Auto);
    let found = Command::Found {
        cluster_id: "c".to_owned(),
        shards: (0..=3).map(shard).collect(),
        nodes: vec![node(1)],
    };
    assert_eq!(apply(&mut machine, &found), Outcome::Done);
    (machine, images)
}

fn joiner(incarnation: u8, wanted: Option<u32>) -> Command {
    Command::Join(Joiner {
        incarnation: [incarnation; 16],
        wanted: wanted.map(NodeId),
        rack: None,
        listeners: BTreeMap::new(),
    })
}

fn topic(name: &str, id: u8) -> Command {
    Command::CreateTopic(TopicEntry {
        name: name.to_owned(),
        id: TopicId([id; 16]),
        partitions: vec![PartitionEntry::new(ShardId(1))],
        overrides: BTreeMap::from([("retention.ms".to_owned(), "77".to_owned())]),
        internal: false,
    })
}

fn quota(value: Option<u64>) -> Command {
    Command::AlterQuotas {
        entity: QuotaEntity::Client {
            user: None,
            client_id: Some(QuotaName::Default),
        },
        changes: BTreeMap::from([(QuotaKey::ConsumerByteRate, value)]),
    }
}

fn all_brokers(before: &[(&str, &str)], configs: &[(&str, &str)]) -> Command {
    let map = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter();
        pairs
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    Command::SetBrokerConfigs {
        before: map(before),
        configs: map(configs),
    }
}

#[test]
fn topics_have_what_is_set_for_all_brokers_unless_they_say_otherwise() {
    let (mut machine, images) = founded();
    apply(&mut machine, &topic("a", 1));
    let of = |name: &str| Arc::clone(&images.borrow().topics[name]);
    let before = of("a");
    let retention = [("log.retention.ms", "5")];
    let done = apply(&mut machine, &all_brokers(&[], &retention));
    assert_eq!(done, Outcome::Done);
    assert!(Arc::ptr_eq(&of("a"), &before), "it has a value of its own");
    let segments = [("log.segment.bytes", "4096")];
    let stale = apply(&mut machine, &all_brokers(&[], &segments));
    assert!(matches!(
        stale,
        Outcome::Refused(BrokerError::Conflict { .. })
    ));
    let done = apply(&mut machine, &all_brokers(&retention, &segments));
    assert_eq!(done, Outcome::Done);
    assert_eq!(of("a").config.segment_bytes, 4096);
    assert_eq!(of("a").config.retention_ms, 77);
    // So have those that come later, and who takes back what it had.
    apply(&mut machine, &topic("b", 2));
    assert_eq!(of("b").config.segment_bytes, 4096);
    for (overrides, bytes) in [
        (
            BTreeMap::from([("segment.bytes".to_owned(), "2048".to_owned())]),
            2048,
        ),
        (BTreeMap::new(), 4096),
    ] {
        let command = Command::SetTopicConfig {
            topic: TopicId([2; 16]),
            before: None,
            overrides,
        };
        assert_eq!(apply(&mut machine, &command), Outcome::Done);
        assert_eq!(of("b").config.segment_bytes, bytes);
    }
    // What a topic could not have is refused for all.
    let greatest = BTreeMap::from([("max.compaction.lag.ms".to_owned(), "5".to_owned())]);
    let command = Command::SetTopicConfig {
        topic: TopicId([2; 16]),
        before: None,
        overrides: greatest,
    };
    assert_eq!(apply(&mut machine, &command), Outcome::Done);
    let least = [("log.cleaner.min.compaction.lag.ms", "6")];
    let refused = apply(&mut machine, &all_brokers(&segments, &least));
    let Outcome::Refused(BrokerError::InvalidConfig { reason }) = refused else {
        panic!("{refused:?}");
    };
    assert!(reason.contains("topic b"), "{reason}");
    assert_eq!(of("b").config.segment_bytes, 4096, "nothing has changed");
}

fn target(shard: u32, target: Option<&[u32]>) -> Command {
    Command::SetTarget {
        shard: ShardId(shard),
        before: None,
        target: target.map(|nodes| nodes.iter().copied().map(NodeId).collect()),
        factor: None,
    }
}

fn changed(shard: u32, replicas: &[u32]) -> Command {
    Command::ShardChanged {
        shard: ShardId(shard),
        replicas: replicas.iter().copied().map(NodeId).collect(),
    }
}

fn remove(node: u32, force: bool) -> Command {
    let node = NodeId(node);
    Command::RemoveNode { node, force }
}

fn drain(node: u32) -> Command {
    Command::SetNodeState {
        node: NodeId(node),
        state: NodeState::Draining,
    }
}

fn is_conflict(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused(BrokerError::Conflict { .. }))
}

#[test]
fn a_name_is_taken_until_its_topic_is_deleted() {
    let (mut machine, images) = founded();
    assert_eq!(apply(&mut machine, &topic("a", 1)), Outcome::Done);
    let exists = Outcome::Refused(BrokerError::TopicExists);
    assert_eq!(apply(&mut machine, &topic("a", 2)), exists);
    let delete = Command::DeleteTopic(TopicId([1; 16]));
    assert_eq!(apply(&mut machine, &delete), Outcome::Done);
    assert_eq!(apply(&mut machine, &topic("a", 2)), Outcome::Done);
    assert_eq!(images.borrow().topics["a"].id, TopicId([2; 16]));
    assert!(images.borrow().topic_by_id(TopicId([1; 16])).is_none());
}

#[test]
fn partitions_are_added_only_to_the_count_that_was_seen() {
    let (mut machine, images) = founded();
    apply(&mut machine, &topic("a", 1));
    let entries = |shards: &[u32]| -> Vec<PartitionEntry> {
        let new = |id: &u32| PartitionEntry::new(ShardId(*id));
        shards.iter().map(new).collect()
    };
    let add = Command::AddPartitions {
        topic: TopicId([1; 16]),
        from: 1,
        partitions: entries(&[2, 3]),
    };
    assert_eq!(apply(&mut machine, &add), Outcome::Done);
    assert!(matches!(apply(&mut machine, &add), Outcome::Refused(_)));
    assert_eq!(images.borrow().topics["a"].partitions, entries(&[1, 2, 3]));
}

#[test]
fn configs_are_changed_only_from_the_state_that_was_seen() {
    let (mut machine, images) = founded();
    apply(&mut machine, &topic("a", 1));
    let map = |value: &str| BTreeMap::from([("retention.ms".to_owned(), value.to_owned())]);
    let set = |before: Option<&str>, after: &str| Command::SetTopicConfig {
        topic: TopicId([1; 16]),
        before: before.map(map),
        overrides: map(after),
    };
    assert_eq!(apply(&mut machine, &set(Some("77"), "1")), Outcome::Done);
    assert!(is_conflict(&apply(&mut machine, &set(Some("77"), "2"))));
    assert_eq!(images.borrow().topics["a"].config.retention_ms, 1);
    assert_eq!(apply(&mut machine, &set(None, "3")), Outcome::Done);
}

#[test]
fn topics_are_refused_on_shards_that_do_not_carry_any() {
    let (mut machine, _) = founded();
    for shard in [0, 4] {
        let entry = TopicEntry {
            name: "a".to_owned(),
            id: TopicId([1; 16]),
            partitions: vec![PartitionEntry::new(ShardId(shard))],
            overrides: BTreeMap::new(),
            internal: false,
        };
        let refused = apply(&mut machine, &Command::CreateTopic(entry));
        assert!(is_conflict(&refused), "shard {shard}");
    }
}

#[test]
fn producer_ids_are_given_out_once() {
    let (mut machine, _) = CatalogueMachine::new();
    let take = Command::TakeProducerIds { count: 10 };
    assert_eq!(apply(&mut machine, &take), Outcome::ProducerIds(0));
    assert_eq!(apply(&mut machine, &take), Outcome::ProducerIds(10));
}

#[test]
fn a_cluster_is_founded_once() {
    let (mut machine, images) = founded();
    let again = Command::Found {
        cluster_id: "other".to_owned(),
        shards: vec![],
        nodes: vec![],
    };
    assert_eq!(apply(&mut machine, &again), Outcome::Done);
    assert_eq!(images.borrow().cluster_id, "c");
    assert_eq!(images.borrow().nodes.len(), 1);
}

#[test]
fn who_joins_again_with_the_same_directory_gets_the_same_id() {
    let (mut machine, images) = founded();
    let two = Outcome::Node(NodeId(2));
    assert_eq!(apply(&mut machine, &joiner(7, None)), two);
    assert_eq!(apply(&mut machine, &joiner(7, None)), two);
    assert_eq!(apply(&mut machine, &joiner(7, Some(9))), two, "it has one");
    let nine = Outcome::Node(NodeId(9));
    assert_eq!(apply(&mut machine, &joiner(8, Some(9))), nine);
    let three = Outcome::Node(NodeId(3));
    assert_eq!(apply(&mut machine, &joiner(9, None)), three);
    assert_eq!(images.borrow().nodes.len(), 4);
}

#[test]
fn ids_that_are_or_were_somebodys_are_refused() {
    let (mut machine, _) = founded();
    assert!(is_conflict(&apply(&mut machine, &joiner(7, Some(1)))));
    apply(&mut machine, &joiner(7, None));
    apply(&mut machine, &drain(2));
    assert_eq!(apply(&mut machine, &remove(2, false)), Outcome::Done);
    assert!(is_conflict(&apply(&mut machine, &joiner(8, Some(2)))));
    assert!(is_conflict(&apply(
        &mut machine,
        &Command::PutNode(node(2))
    )));
    let three = Outcome::Node(NodeId(3));
    assert_eq!(apply(&mut machine, &joiner(8, None)), three);
    let too_large = apply(&mut machine, &joiner(9, Some(1 << 31)));
    assert!(matches!(too_large, Outcome::Refused(_)));
}

#[test]
fn a_node_with_another_directory_does_not_take_the_place_of_the_first() {
    let (mut machine, images) = founded();
    let stranger = Node {
        incarnation: [99; 16],
        ..node(1)
    };
    let refused = apply(&mut machine, &Command::PutNode(stranger));
    assert!(is_conflict(&refused), "{refused:?}");
    assert_eq!(images.borrow().nodes[&NodeId(1)], node(1));
    let moved = Node {
        rack: Some("r".to_owned()),
        ..node(1)
    };
    apply(&mut machine, &drain(1));
    assert_eq!(apply(&mut machine, &Command::PutNode(moved)), Outcome::Done);
    assert_eq!(images.borrow().nodes[&NodeId(1)].rack.as_deref(), Some("r"));
}

#[test]
fn the_last_active_node_is_not_drained_and_the_last_node_not_removed() {
    let (mut machine, images) = founded();
    assert!(is_conflict(&apply(&mut machine, &drain(1))));
    assert!(is_conflict(&apply(&mut machine, &remove(1, true))));
    apply(&mut machine, &joiner(7, None));
    assert_eq!(apply(&mut machine, &drain(1)), Outcome::Done);
    assert!(is_conflict(&apply(&mut machine, &drain(2))));
    assert_eq!(images.borrow().nodes[&NodeId(1)].state, NodeState::Draining);
    assert!(matches!(
        apply(&mut machine, &drain(5)),
        Outcome::Refused(BrokerError::UnknownNode { .. })
    ));
}

#[test]
fn a_node_is_removed_when_it_is_drained_and_carries_nothing() {
    let (mut machine, images) = founded();
    apply(&mut machine, &joiner(7, None));
    assert!(is_conflict(&apply(&mut machine, &remove(2, false))));
    apply(&mut machine, &target(1, Some(&[1, 2])));
    apply(&mut machine, &drain(2));
    assert!(is_conflict(&apply(&mut machine, &remove(2, false))));
    apply(&mut machine, &target(1, None));
    assert_eq!(apply(&mut machine, &remove(2, false)), Outcome::Done);
    assert_eq!(apply(&mut machine, &remove(2, false)), Outcome::Done);
    assert!(!images.borrow().nodes.contains_key(&NodeId(2)));
}

#[test]
fn a_lost_node_is_removed_by_force_only_while_its_shards_keep_a_majority() {
    let (mut machine, images) = founded();
    for incarnation in [7, 8] {
        apply(&mut machine, &joiner(incarnation, None));
    }
    apply(&mut machine, &topic("a", 1));
    let change = |machine: &mut CatalogueMachine, shard, replicas: &[u32]| {
        apply(machine, &target(shard, Some(replicas)));
        assert_eq!(apply(machine, &changed(shard, replicas)), Outcome::Done);
    };
    for shard in [0, 1, 2] {
        change(&mut machine, shard, &[1, 2, 3]);
    }
    // Shard 3 holds nothing and node 1 alone carries it; shard 2 shall move.
    apply(&mut machine, &target(2, Some(&[1, 2, 3])));
    apply(&mut machine, &target(2, Some(&[3, 2])));
    assert_eq!(apply(&mut machine, &remove(1, true)), Outcome::Done);
    {
        let image = images.borrow();
        assert!(!image.shards.contains_key(&ShardId(3)));
        let left = vec![NodeId(3), NodeId(2)];
        assert_eq!(image.shards[&ShardId(2)].target, Some(left));
        assert_eq!(image.shards[&ShardId(1)].replicas.len(), 3, "until changed");
    }
    let refused = apply(&mut machine, &remove(2, true));
    assert!(is_conflict(&refused), "one of three is no majority");
    change(&mut machine, 0, &[3]);
    change(&mut machine, 1, &[3, 2]);
    assert!(is_conflict(&apply(&mut machine, &remove(2, true))));
    change(&mut machine, 1, &[3]);
    assert_eq!(apply(&mut machine, &remove(2, true)), Outcome::Done);
    assert!(!images.borrow().shards.contains_key(&ShardId(2)));
}

/// Three nodes; the catalogue, and shard 1 with a topic in it, on all of them.
fn three_nodes() -> (CatalogueMachine, watch::Receiver<Arc<Catalogue>>) {
    let (mut machine, images) = founded();
    for incarnation in [7, 8] {
        apply(&mut machine, &joiner(incarnation, None));
    }
    apply(&mut machine, &topic("a", 1));
    for shard in 0..=3 {
        apply(&mut machine, &target(shard, Some(&[1, 2, 3])));
        apply(&mut machine, &changed(shard, &[1, 2, 3]));
    }
    (machine, images)
}

#[test]
fn a_lost_node_is_not_removed_while_a_change_may_have_made_it_needed() {
    let (mut machine, _) = three_nodes();
    apply(&mut machine, &drain(3));
    apply(&mut machine, &target(1, Some(&[2, 1])));
    let Outcome::Refused(BrokerError::Conflict { reason }) = apply(&mut machine, &remove(2, true))
    else {
        panic!("node 2 is half of what the shard shall have");
    };
    assert!(reason.contains("from nodes 1, 2, 3 to 2, 1"), "{reason}");
    let active = Command::SetNodeState {
        node: NodeId(3),
        state: NodeState::Active,
    };
    apply(&mut machine, &active);
    assert_eq!(apply(&mut machine, &remove(2, true)), Outcome::Done);
}

#[test]
fn voters_that_are_reported_count_when_a_lost_node_is_removed() {
    let (_, images) = three_nodes();
    let image = images.borrow();
    let check = |shard, voters: &[u32], node| {
        let voters = voters.iter().copied().map(NodeId).collect();
        membership::check_voters_without(&image, ShardId(shard), &voters, NodeId(node))
    };
    assert_eq!(check(1, &[1, 2, 3], 2), Ok(()));
    assert!(check(1, &[1, 2], 2).is_err());
    assert_eq!(check(1, &[1, 3], 2), Ok(()), "it does not vote");
}

#[test]
fn shards_are_pinned_together_and_only_at_what_they_have() {
    let (mut machine, images) = three_nodes();
    let pin = |shards: &[u32], replicas| Command::PinShards {
        shards: shards.iter().copied().map(ShardId).collect(),
        replicas,
    };
    let factor = |shard| images.borrow().shards[&ShardId(shard)].factor;
    for (shards, replicas) in [(vec![1, 9], 3), (vec![1, 0], 3), (vec![1, 2], 2)] {
        let refused = apply(&mut machine, &pin(&shards, replicas));
        assert!(is_conflict(&refused), "{shards:?}");
    }
    apply(&mut machine, &target(2, Some(&[1, 2])));
    assert!(is_conflict(&apply(&mut machine, &pin(&[1, 2], 3))));
    assert_eq!(factor(1), Factor::Auto, "all or none");
    apply(&mut machine, &target(2, Some(&[3, 2, 1])));
    for _ in 0..2 {
        assert_eq!(apply(&mut machine, &pin(&[1, 2], 3)), Outcome::Done);
        assert_eq!((factor(1), factor(2)), (Factor::Fixed(3), Factor::Fixed(3)));
    }
    assert!(is_conflict(&apply(&mut machine, &pin(&[1], 2))));
}

#[test]
fn a_shard_that_was_pinned_loses_no_replica_to_what_was_decided_before() {
    let (mut machine, images) = three_nodes();
    let decided = |list: &[u32]| Command::SetTarget {
        shard: ShardId(1),
        before: Some([1, 2, 3].map(NodeId).to_vec()),
        target: Some(list.iter().copied().map(NodeId).collect()),
        factor: None,
    };
    let pin = Command::PinShards {
        shards: vec![ShardId(1)],
        replicas: 3,
    };
    assert_eq!(apply(&mut machine, &pin), Outcome::Done);
    assert!(is_conflict(&apply(&mut machine, &decided(&[1, 2]))));
    assert_eq!(images.borrow().shards[&ShardId(1)].target, None);
    assert_eq!(apply(&mut machine, &decided(&[3, 2, 1])), Outcome::Done);
    // Two that are left of three may give up a third that does not come.
    let of_factor = |list: &[u32], factor| Command::SetTarget {
        shard: ShardId(1),
        before: None,
        target: Some(list.iter().copied().map(NodeId).collect()),
        factor: Some(factor),
    };
    apply(&mut machine, &of_factor(&[1, 2], Factor::Fixed(3)));
    apply(&mut machine, &changed(1, &[1, 2]));
    for list in [&[1, 2, 3][..], &[1, 2]] {
        let outcome = apply(&mut machine, &target(1, Some(list)));
        assert_eq!(outcome, Outcome::Done, "{list:?}");
    }
    // By hand it may have as few as one likes.
    let by_hand = of_factor(&[1], Factor::ByHand);
    assert_eq!(apply(&mut machine, &by_hand), Outcome::Done);
}

#[test]
fn a_node_that_is_used_again_keeps_what_was_to_leave_it() {
    let (mut machine, images) = three_nodes();
    apply(&mut machine, &joiner(9, None));
    apply(&mut machine, &drain(3));
    apply(&mut machine, &target(1, Some(&[2, 1])));
    apply(&mut machine, &target(2, Some(&[1, 4, 3])));
    let by_hand = |shard, list: &[u32]| Command::SetTarget {
        shard: ShardId(shard),
        before: None,
        target: Some(list.iter().copied().map(NodeId).collect()),
        factor: Some(Factor::ByHand),
    };
    apply(&mut machine, &by_hand(3, &[4, 1]));
    let active = Command::SetNodeState {
        node: NodeId(3),
        state: NodeState::Active,
    };
    apply(&mut machine, &active);
    let is = |shard, list: &[u32]| {
        let target = images.borrow().shards[&ShardId(shard)].target.clone();
        let list: Vec<NodeId> = list.iter().copied().map(NodeId).collect();
        assert_eq!(target, Some(list), "shard {shard}");
    };
    is(1, &[1, 2, 3]);
    is(2, &[1, 4, 3]);
    is(3, &[4, 1]);
    // A drain that took the node's place in a list by hand is turned back as well.
    apply(&mut machine, &drain(3));
    apply(&mut machine, &by_hand(3, &[1, 2, 4]));
    apply(&mut machine, &active);
    is(3, &[1, 2, 3]);
}

#[test]
fn what_a_node_says_of_itself_has_bounds() {
    let (mut machine, images) = founded();
    let with = |rack: usize, listeners: usize, name: usize, host: usize| {
        let listener = |n: usize| (format!("{n:0name$}"), ("h".repeat(host), 1));
        (
            Some("r".repeat(rack)),
            (0..listeners).map(listener).collect::<BTreeMap<_, _>>(),
        )
    };
    let try_both = |machine: &mut CatalogueMachine, said: (Option<String>, BTreeMap<_, _>)| {
        let (rack, listeners) = said;
        let put = Command::PutNode(Node {
            rack: rack.clone(),
            listeners: listeners.clone(),
            ..node(1)
        });
        let join = Command::Join(Joiner {
            incarnation: [7; 16],
            wanted: None,
            rack,
            listeners,
        });
        [put, join].map(|command| apply(machine, &command))
    };
    let fits = try_both(&mut machine, with(255, 16, 64, 255));
    assert_eq!(fits, [Outcome::Done, Outcome::Node(NodeId(2))]);
    let before = images.borrow().nodes.clone();
    for said in [
        with(256, 1, 1, 1),
        with(1, 17, 2, 1),
        with(1, 1, 65, 1),
        with(1, 1, 1, 256),
    ] {
        for outcome in try_both(&mut machine, said) {
            let Outcome::Refused(BrokerError::InvalidRequest { reason }) = outcome else {
                panic!("{outcome:?}");
            };
            assert!(reason.contains("at most"), "{reason}");
        }
    }
    assert_eq!(images.borrow().nodes, before);
}

#[test]
fn a_cluster_has_a_thousand_nodes_and_no_more() {
    let (mut machine, images) = founded();
    let other = |id| Node {
        id: NodeId(id),
        ..node(9)
    };
    for id in 2..=1_000 {
        assert_eq!(
            apply(&mut machine, &Command::PutNode(other(id))),
            Outcome::Done
        );
    }
    assert!(is_conflict(&apply(&mut machine, &joiner(7, None))));
    assert!(is_conflict(&apply(
        &mut machine,
        &Command::PutNode(other(1_001))
    )));
    assert_eq!(
        apply(&mut machine, &Command::PutNode(other(5))),
        Outcome::Done
    );
    assert_eq!(images.borrow().nodes.len(), 1_000);
}

#[test]
fn shards_are_made_once_by_whoever_saw_the_next_id() {
    let (mut machine, images) = founded();
    let make = |next, replicas: &[u32]| Command::CreateShards {
        next: ShardId(next),
        shards: vec![NewShard {
            replicas: replicas.iter().copied().map(NodeId).collect(),
            factor: Factor::Fixed(1),
        }],
    };
    let four = Outcome::Shards(vec![ShardId(4)]);
    assert_eq!(apply(&mut machine, &make(4, &[1])), four);
    assert!(is_conflict(&apply(&mut machine, &make(4, &[1]))));
    for bad in [&[][..], &[1, 1], &[2]] {
        let refused = apply(&mut machine, &make(5, bad));
        assert!(matches!(refused, Outcome::Refused(_)), "{bad:?}");
    }
    assert_eq!(images.borrow().next_shard_id, 5);
}

#[test]
fn a_target_is_set_only_from_the_one_that_was_seen() {
    let (mut machine, images) = founded();
    apply(&mut machine, &joiner(7, None));
    let from = |before: &[u32], to: &[u32]| {
        let nodes = |list: &[u32]| list.iter().copied().map(NodeId).collect();
        Command::SetTarget {
            shard: ShardId(1),
            before: Some(nodes(before)),
            target: Some(nodes(to)),
            factor: None,
        }
    };
    assert_eq!(apply(&mut machine, &from(&[1], &[1, 2])), Outcome::Done);
    assert_eq!(
        apply(&mut machine, &from(&[1], &[1, 2])),
        Outcome::Done,
        "again"
    );
    assert!(is_conflict(&apply(&mut machine, &from(&[1], &[2]))));
    let target = images.borrow().shards[&ShardId(1)].target.clone();
    assert_eq!(target, Some(vec![NodeId(1), NodeId(2)]));
    assert_eq!(apply(&mut machine, &from(&[1, 2], &[2])), Outcome::Done);
}

#[test]
fn a_target_stands_until_the_shard_has_it() {
    let (mut machine, images) = founded();
    apply(&mut machine, &joiner(7, None));
    let shard = |id| images.borrow().shards[&ShardId(id)].clone();
    assert_eq!(
        apply(&mut machine, &target(1, Some(&[1, 2]))),
        Outcome::Done
    );
    assert!(is_conflict(&apply(&mut machine, &changed(1, &[2]))));
    assert!(shard(1).target.is_some() && shard(1).changed);
    apply(&mut machine, &changed(1, &[1, 2]));
    assert_eq!(shard(1).target, None);
    assert_eq!(shard(1).replicas, [NodeId(1), NodeId(2)]);
    apply(&mut machine, &target(1, Some(&[1, 2])));
    assert_eq!(shard(1).target, None, "it has these");
    apply(&mut machine, &target(1, Some(&[2])));
    apply(&mut machine, &target(1, None));
    let back = vec![NodeId(1), NodeId(2)];
    assert_eq!(shard(1).target, Some(back), "its leader has to say so");
    assert!(is_conflict(&apply(&mut machine, &changed(1, &[2]))));
    apply(&mut machine, &changed(1, &[1, 2]));
    assert_eq!(shard(1).target, None);
    for bad in [&[][..], &[5], &[1, 1]] {
        let refused = apply(&mut machine, &target(1, Some(bad)));
        assert!(matches!(refused, Outcome::Refused(_)), "{bad:?}");
    }
    assert!(is_conflict(&apply(&mut machine, &target(77, None))));
}

#[test]
fn a_checkpoint_restores_the_same_catalogue() {
    let (mut machine, images) = founded();
    apply(&mut machine, &topic("a", 1));
    apply(&mut machine, &Command::TakeProducerIds { count: 3 });
    apply(&mut machine, &joiner(7, None));
    apply(&mut machine, &joiner(8, None));
    apply(&mut machine, &drain(3));
    apply(&mut machine, &remove(3, false));
    apply(&mut machine, &target(2, Some(&[2, 1])));
    let quota = apply(&mut machine, &quota(Some(7)));
    assert_eq!(quota, Outcome::Done);
    let all_brokers = all_brokers(&[], &[("log.segment.bytes", "4096")]);
    assert_eq!(apply(&mut machine, &all_brokers), Outcome::Done);
    let manifest = machine.checkpoint()().expect("encodes");
    let (mut restored, restored_images) = CatalogueMachine::new();
    restored.install(manifest.clone()).expect("installs");
    assert_eq!(*images.borrow(), *restored_images.borrow());
    assert_eq!(machine.digest(), restored.digest());
    for len in 0..manifest.len() {
        assert!(checkpoint::decode(manifest.slice(..len)).is_err());
    }
}

#[test]
fn a_digest_tells_what_a_checkpoint_could_forget() {
    let (mut machine, images) = founded();
    apply(&mut machine, &topic("a", 1));
    let before = machine.digest();
    let state = Catalogue::clone(&images.borrow());
    let mut differs = |what: &str, change: &dyn Fn(&mut Catalogue)| {
        let mut changed = state.clone();
        change(&mut changed);
        machine.state = changed;
        assert_ne!(machine.digest(), before, "{what}");
    };
    differs("ids given out", &|state| state.next_producer_id += 1);
    differs("a name without its topic", &|state| {
        state.names.remove(&TopicId([1; 16]));
    });
    differs("a topic without configs", &|state| {
        let topic = state.topics.get_mut("a").expect("it was made");
        let config = TopicConfig::parse(BTreeMap::new(), &BTreeMap::new()).expect("defaults");
        Arc::make_mut(topic).config = Arc::new(config);
    });
    differs("a quota", &|state| {
        let (entity, quotas) = (QuotaEntity::Address(None), BTreeMap::new());
        Arc::make_mut(&mut state.quotas).insert(entity, quotas);
    });
    differs("a config of all brokers", &|state| {
        let configs = Arc::make_mut(&mut state.broker_configs);
        configs.insert("log.retention.ms".to_owned(), "5".to_owned());
    });
    differs("who returned", &|state| {
        state.returns.insert(NodeId(1), [7; 16]);
    });
}

#[test]
fn a_checkpoint_of_version_1_is_read_as_shards_of_one_replica() {
    let mut writer = Writer::default();
    writer.u16(1).text("c").i64(5);
    writer.count(1).u32(1).u8(0).text("").count(0);
    writer.count(2);
    for shard in 0..2 {
        writer.u32(shard).count(1).u32(1);
    }
    writer.count(1).text("t").raw(&[7; 16]);
    writer.count(1).u32(1).count(0).u8(0);
    let state = checkpoint::decode(writer.finish()).expect("is read");
    assert_eq!(state.next_shard_id, 2);
    assert_eq!(state.nodes[&NodeId(1)].incarnation, [0; 16]);
    assert!(
        state
            .shards
            .values()
            .all(|shard| shard.factor == Factor::Fixed(1))
    );
    let entry = PartitionEntry::new(ShardId(1));
    assert_eq!(state.topics["t"].partitions, [entry]);
}

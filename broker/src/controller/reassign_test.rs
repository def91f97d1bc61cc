use std::sync::Arc;

use storage::TopicId;

use super::*;
use crate::TopicConfig;
use crate::catalogue::{Move, Node, NodeState, PartitionEntry, Shard, Topic};

fn ids(list: &[u32]) -> Vec<NodeId> {
    list.iter().copied().map(NodeId).collect()
}

fn partition(index: u32) -> PartitionId {
    PartitionId {
        topic: TopicId([1; 16]),
        index,
    }
}

/// Four nodes; partitions 0 and 1 share shard 1, partition 2 is alone in shard 2.
fn catalogue() -> Catalogue {
    let mut catalogue = Catalogue::default();
    for id in ids(&[1, 2, 3, 4]) {
        let node = Node {
            id,
            incarnation: [1; 16],
            rack: None,
            listeners: BTreeMap::new(),
            state: NodeState::Active,
        };
        catalogue.nodes.insert(id, node);
    }
    for id in (0..3).map(ShardId) {
        let shard = Shard::new(id, ids(&[1, 2, 3]), Factor::Auto);
        catalogue.shards.insert(id, shard);
    }
    let topic = Topic {
        name: "t".to_owned(),
        id: TopicId([1; 16]),
        partitions: [1, 1, 2].map(|id| PartitionEntry::new(ShardId(id))).into(),
        config: Arc::new(TopicConfig::default()),
        internal: false,
    };
    catalogue.names.insert(topic.id, topic.name.clone());
    catalogue.topics.insert(topic.name.clone(), Arc::new(topic));
    catalogue
}

fn check(catalogue: &Catalogue, changes: &[(u32, Option<&[u32]>)]) -> Plan {
    let changes = changes
        .iter()
        .map(|(index, list)| (partition(*index), list.map(ids)))
        .collect();
    plan(catalogue, |_| true, changes)
}

fn refused(plan: &Plan) -> Vec<u32> {
    plan.refused.keys().map(|id| id.index).collect()
}

fn moves_to(list: &[u32]) -> Change {
    Change::Move {
        instead_of: None,
        list: ids(list),
    }
}

/// Has partition 0 move to shard 3, which has this list.
fn moving(list: &[u32]) -> Catalogue {
    let mut catalogue = catalogue();
    let shard = Shard::new(ShardId(3), ids(list), Factor::ByHand);
    catalogue.shards.insert(shard.id, shard);
    let topic = catalogue.topics.get_mut("t").expect("is there");
    let entry = &mut Arc::get_mut(topic).expect("alone").partitions[0];
    entry.last_generation = 7;
    entry.moving = Some(Move {
        to: ShardId(3),
        generation: 7,
    });
    catalogue
}

#[test]
fn a_partition_alone_in_its_shard_goes_with_the_shard() {
    let plan = check(&catalogue(), &[(2, Some(&[4, 2]))]);
    assert_eq!(plan.shards[&ShardId(2)], Some(ids(&[4, 2])));
    assert!(plan.refused.is_empty() && plan.partitions.is_empty());
}

#[test]
fn partitions_that_share_a_shard_go_with_it_or_each_for_itself() {
    let to: Option<&[u32]> = Some(&[2, 3, 4]);
    let plan = check(&catalogue(), &[(0, to), (1, to)]);
    assert_eq!(plan.shards[&ShardId(1)], Some(ids(&[2, 3, 4])));
    assert!(plan.refused.is_empty() && plan.partitions.is_empty());
    let plan = check(&catalogue(), &[(0, to)]);
    assert!(plan.shards.is_empty() && plan.refused.is_empty());
    assert_eq!(
        plan.partitions,
        [(partition(0), moves_to(&[2, 3, 4]))].into()
    );
    let plan = check(&catalogue(), &[(0, to), (1, Some(&[1, 2, 3])), (2, to)]);
    assert_eq!(plan.shards.len(), 1);
    let expected = [
        (partition(0), moves_to(&[2, 3, 4])),
        (partition(1), Change::Nothing),
    ];
    assert_eq!(plan.partitions, expected.into());
}

#[test]
fn a_shard_that_a_partition_is_on_its_way_to_is_shared() {
    let mut catalogue = moving(&[1, 2, 4]);
    let topic = catalogue.topics.get_mut("t").expect("is there");
    let entry = &mut Arc::get_mut(topic).expect("alone").partitions[0];
    entry.moving = Some(Move {
        to: ShardId(2),
        generation: 7,
    });
    let plan = check(&catalogue, &[(2, Some(&[4, 2, 3]))]);
    assert!(plan.shards.is_empty());
    assert_eq!(
        plan.partitions,
        [(partition(2), moves_to(&[4, 2, 3]))].into()
    );
}

#[test]
fn a_move_is_given_up_gone_on_with_or_redirected() {
    let catalogue = moving(&[1, 2, 4]);
    let change =
        |list: Option<&[u32]>| check(&catalogue, &[(0, list)]).partitions[&partition(0)].clone();
    assert_eq!(change(None), Change::Stay(7));
    assert_eq!(change(Some(&[1, 2, 3])), Change::Stay(7), "where it is");
    assert_eq!(change(Some(&[1, 2, 4])), Change::Nothing, "where it goes");
    let elsewhere = Change::Move {
        instead_of: Some(7),
        list: ids(&[4]),
    };
    assert_eq!(change(Some(&[4])), elsewhere);
    // The other one of its shard is not concerned.
    assert_eq!(refused(&check(&catalogue, &[(1, None)])), [1]);
}

#[test]
fn lists_that_are_too_short_for_the_topic_are_refused() {
    let mut catalogue = catalogue();
    let topic = catalogue.topics.get_mut("t").expect("is there");
    Arc::get_mut(topic).expect("alone").config = Arc::new(TopicConfig {
        min_insync_replicas: 2,
        ..TopicConfig::default()
    });
    for index in [0, 2] {
        assert_eq!(refused(&check(&catalogue, &[(index, Some(&[4]))])), [index]);
        let enough = check(&catalogue, &[(index, Some(&[4, 1]))]);
        assert!(enough.refused.is_empty());
    }
}

#[test]
fn what_does_not_exist_is_refused_for_itself_alone() {
    let plan = check(&catalogue(), &[(2, Some(&[1])), (7, Some(&[1]))]);
    assert_eq!((plan.shards.len(), refused(&plan)), (1, vec![7]));
    for bad in [&[][..], &[9], &[1, 1]] {
        assert_eq!(refused(&check(&catalogue(), &[(2, Some(bad))])), [2]);
    }
}

#[test]
fn a_shard_without_a_leader_gets_no_other_replicas() {
    let mut catalogue = catalogue();
    let to = |list: &[u32]| vec![(partition(2), Some(ids(list)))];
    let Plan {
        shards, refused, ..
    } = plan(&catalogue, |_| false, to(&[4, 2]));
    assert!(shards.is_empty());
    assert!(matches!(
        &refused[&partition(2)],
        BrokerError::InvalidReplicaAssignment { reason } if reason.contains("no leader")
    ));
    // What it has already, and going back to it, changes no members.
    let same = plan(&catalogue, |_| false, to(&[1, 2, 3]));
    assert_eq!(same.shards.len(), 1);
    let shard = catalogue.shards.get_mut(&ShardId(2)).expect("is there");
    shard.target = Some(ids(&[1, 2, 4]));
    let back = vec![(partition(2), None)];
    assert_eq!(plan(&catalogue, |_| false, back).shards.len(), 1);
}

#[test]
fn only_a_change_that_is_under_way_can_be_cancelled() {
    let mut catalogue = catalogue();
    assert_eq!(refused(&check(&catalogue, &[(0, None)])), [0]);
    let shard = catalogue.shards.get_mut(&ShardId(1)).expect("is there");
    shard.target = Some(ids(&[1, 2, 4]));
    let plan = check(&catalogue, &[(0, None)]);
    assert_eq!(plan.shards[&ShardId(1)], None);
    assert!(plan.refused.is_empty());
}

#[test]
fn reassignments_show_who_comes_and_who_goes() {
    let mut catalogue = catalogue();
    let shard = catalogue.shards.get_mut(&ShardId(1)).expect("is there");
    shard.target = Some(ids(&[4, 1, 2]));
    let shard = catalogue.shards.get_mut(&ShardId(2)).expect("is there");
    shard.target = Some(ids(&[3, 2, 1]));
    let found = reassignments(&catalogue);
    assert_eq!(found.len(), 2, "another order alone is none");
    assert_eq!(found[1].partition, partition(1));
    assert_eq!(found[1].replicas, ids(&[4, 1, 2, 3]));
    assert_eq!(
        (&found[1].adding, &found[1].removing),
        (&ids(&[4]), &ids(&[3]))
    );
}

#[test]
fn moves_are_told_as_they_are() {
    let found = reassignments(&moving(&[4, 1]));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].partition, partition(0));
    assert_eq!(found[0].replicas, ids(&[4, 1, 2, 3]));
    assert_eq!(
        (&found[0].adding, &found[0].removing),
        (&ids(&[4]), &ids(&[2, 3]))
    );
    // All of it is copied, though the nodes are the same.
    let same = reassignments(&moving(&[3, 2, 1]));
    assert_eq!((same.len(), same[0].adding.len()), (1, 0));
}

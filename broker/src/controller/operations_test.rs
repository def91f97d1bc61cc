use std::sync::Arc;

use storage::TopicId;

use super::*;
use crate::TopicConfig;
use crate::catalogue::{Node, NodeState, PartitionEntry, Topic};

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

fn check(
    catalogue: &Catalogue,
    changes: &[(u32, Option<&[u32]>)],
) -> (BTreeMap<ShardId, ShardChange>, Vec<u32>) {
    let changes = changes
        .iter()
        .map(|(index, list)| (partition(*index), list.map(ids)))
        .collect();
    let (shards, refused) = by_shard(catalogue, |_| true, changes);
    (shards, refused.keys().map(|id| id.index).collect())
}

#[test]
fn a_partition_alone_in_its_shard_moves() {
    let (shards, refused) = check(&catalogue(), &[(2, Some(&[4, 2]))]);
    assert_eq!(shards[&ShardId(2)], Some(ids(&[4, 2])));
    assert!(refused.is_empty());
}

#[test]
fn partitions_that_share_a_shard_move_together_or_not_at_all() {
    let to: Option<&[u32]> = Some(&[2, 3, 4]);
    let (shards, refused) = check(&catalogue(), &[(0, to), (1, to)]);
    assert_eq!(shards[&ShardId(1)], Some(ids(&[2, 3, 4])));
    assert!(refused.is_empty());
    let (shards, refused) = check(&catalogue(), &[(0, to)]);
    assert!(shards.is_empty());
    assert_eq!(refused, [0]);
    let (shards, refused) = check(&catalogue(), &[(0, to), (1, Some(&[1, 2, 4])), (2, to)]);
    assert_eq!(shards.len(), 1);
    assert_eq!(refused, [0, 1]);
}

#[test]
fn what_does_not_exist_is_refused_for_itself_alone() {
    let (shards, refused) = check(&catalogue(), &[(2, Some(&[1])), (7, Some(&[1]))]);
    assert_eq!((shards.len(), refused), (1, vec![7]));
    for bad in [&[][..], &[9], &[1, 1]] {
        assert_eq!(check(&catalogue(), &[(2, Some(bad))]).1, [2]);
    }
}

#[test]
fn a_shard_without_a_leader_gets_no_other_replicas() {
    let mut catalogue = catalogue();
    let to = |list: &[u32]| vec![(partition(2), Some(ids(list)))];
    let (shards, refused) = by_shard(&catalogue, |_| false, to(&[4, 2]));
    assert!(shards.is_empty());
    assert!(matches!(
        &refused[&partition(2)],
        BrokerError::InvalidReplicaAssignment { reason } if reason.contains("no leader")
    ));
    // What it has already, and going back to it, changes no members.
    let (shards, _) = by_shard(&catalogue, |_| false, to(&[1, 2, 3]));
    assert_eq!(shards.len(), 1);
    let shard = catalogue.shards.get_mut(&ShardId(2)).expect("is there");
    shard.target = Some(ids(&[1, 2, 4]));
    let back = vec![(partition(2), None)];
    assert_eq!(by_shard(&catalogue, |_| false, back).0.len(), 1);
}

#[test]
fn only_a_change_that_is_under_way_can_be_cancelled() {
    let mut catalogue = catalogue();
    assert_eq!(check(&catalogue, &[(0, None)]).1, [0]);
    let shard = catalogue.shards.get_mut(&ShardId(1)).expect("is there");
    shard.target = Some(ids(&[1, 2, 4]));
    let (shards, refused) = check(&catalogue, &[(0, None)]);
    assert_eq!((shards[&ShardId(1)].clone(), refused.len()), (None, 0));
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

//! Which shard a new partition goes to, and whether a topic may be named so. Pure.

use std::collections::BTreeMap;

use storage::{NodeId, ShardId};

use crate::BrokerError;
use crate::catalogue::{Catalogue, Shard};

/// Longest topic name.
const TOPIC_NAME_CHARS_MAX: usize = 249;

/// Why a topic cannot have this name, if it cannot.
pub(crate) fn topic_name_problem(name: &str, catalogue: &Catalogue) -> Option<String> {
    if name.is_empty() || name == "." || name == ".." {
        return Some(format!("{name:?} is not a name"));
    }
    if name.len() > TOPIC_NAME_CHARS_MAX {
        return Some(format!("longer than {TOPIC_NAME_CHARS_MAX} characters"));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !name.chars().all(allowed) {
        return Some(format!("{name:?} has characters outside [a-zA-Z0-9._-]"));
    }
    // Kafka's metric names fold '.' into '_', so it refuses names that differ only there.
    let fold = |name: &str| name.replace('.', "_");
    if name.contains(['.', '_']) {
        let folded = fold(name);
        let same = |other: &&String| other.as_str() != name && fold(other) == folded;
        if let Some(other) = catalogue.topics.keys().find(same) {
            return Some(format!("{name} collides with {other}"));
        }
    }
    None
}

/// How many partitions each data shard carries.
fn loads(catalogue: &Catalogue) -> BTreeMap<ShardId, usize> {
    let mut loads: BTreeMap<ShardId, usize> =
        data_shards(catalogue).map(|shard| (shard.id, 0)).collect();
    for topic in catalogue.topics.values() {
        for entry in &topic.partitions {
            *loads.entry(entry.shard).or_default() += 1;
        }
    }
    loads
}

fn data_shards(catalogue: &Catalogue) -> impl Iterator<Item = &Shard> {
    catalogue
        .shards
        .values()
        .filter(|shard| shard.id != ShardId(0))
}

/// Places `count` partitions on the standing shards of this replication factor, the one with the
/// fewest partitions first.
pub(crate) fn place(
    catalogue: &Catalogue,
    count: i32,
    factor: i16,
) -> Result<Vec<ShardId>, BrokerError> {
    let nodes = catalogue.nodes.len().max(1);
    let wanted = usize::try_from(factor).unwrap_or(0);
    if wanted < 1 || wanted > nodes {
        return Err(BrokerError::InvalidReplicationFactor {
            reason: format!("{factor} replicas on {nodes} nodes"),
        });
    }
    let mut loads = loads(catalogue);
    loads.retain(|id, _| {
        catalogue
            .shards
            .get(id)
            .is_some_and(|s| s.replicas.len() == wanted)
    });
    let mut placed = Vec::new();
    for _ in 0..count {
        let least = loads.iter_mut().min_by_key(|(id, load)| (**load, **id));
        let Some((shard, load)) = least else {
            return Err(BrokerError::InvalidReplicationFactor {
                reason: format!("no shard has {factor} replicas"),
            });
        };
        *load += 1;
        placed.push(*shard);
    }
    Ok(placed)
}

/// Checks replicas given by hand for partitions 0, 1, ...; answers the number of partitions, of
/// replicas, and the shards that have these replicas.
pub(crate) fn check_assignments(
    catalogue: &Catalogue,
    assignments: &BTreeMap<i32, Vec<NodeId>>,
) -> Result<(i32, i16, Vec<ShardId>), BrokerError> {
    let invalid = |reason: String| BrokerError::InvalidReplicaAssignment { reason };
    let factor = assignments.values().next().map_or(0, Vec::len);
    let mut loads = loads(catalogue);
    let mut shards = Vec::with_capacity(assignments.len());
    for (expected, (index, replicas)) in (0..).zip(assignments) {
        if *index != expected {
            return Err(invalid(format!("partition {expected} is missing")));
        }
        if replicas.is_empty() || replicas.len() != factor {
            return Err(invalid(format!(
                "partition {index} has {} replicas",
                replicas.len()
            )));
        }
        for (position, node) in replicas.iter().enumerate() {
            if !catalogue.nodes.contains_key(node) {
                return Err(invalid(format!("node {node} does not exist")));
            }
            if replicas[..position].contains(node) {
                return Err(invalid(format!(
                    "partition {index} names node {node} twice"
                )));
            }
        }
        let fits = |id: &ShardId| {
            catalogue
                .shards
                .get(id)
                .is_some_and(|s| s.replicas == *replicas)
        };
        let least = loads
            .iter_mut()
            .filter(|(id, _)| fits(id))
            .min_by_key(|(id, l)| (**l, **id));
        let Some((shard, load)) = least else {
            return Err(invalid(format!(
                "no shard has the replicas of partition {index}"
            )));
        };
        *load += 1;
        shards.push(*shard);
    }
    let count = i32::try_from(assignments.len()).map_err(|_| invalid("too many".to_owned()))?;
    let factor = i16::try_from(factor).map_err(|_| invalid("too many replicas".to_owned()))?;
    Ok((count, factor, shards))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{Factor, Node, NodeState};

    fn catalogue() -> Catalogue {
        let node = NodeId(1);
        let shard = |id| {
            (
                ShardId(id),
                Shard::new(ShardId(id), vec![node], Factor::Auto),
            )
        };
        Catalogue {
            nodes: [(
                node,
                Node {
                    id: node,
                    incarnation: [1; 16],
                    rack: None,
                    listeners: BTreeMap::new(),
                    state: NodeState::Active,
                },
            )]
            .into(),
            shards: (0..=3).map(shard).collect(),
            ..Catalogue::default()
        }
    }

    #[test]
    fn partitions_are_spread_and_never_on_the_catalogue() {
        let placed = place(&catalogue(), 6, 1).expect("places");
        assert_eq!(placed, [1, 2, 3, 1, 2, 3].map(ShardId));
    }

    #[test]
    fn more_replicas_than_nodes_are_refused() {
        for factor in [0, -1, 2] {
            assert!(matches!(
                place(&catalogue(), 1, factor),
                Err(BrokerError::InvalidReplicationFactor { .. })
            ));
        }
    }

    #[test]
    fn assignments_must_be_whole_and_name_nodes_that_exist() {
        let node = NodeId;
        let check = |lists: &[(i32, &[NodeId])]| {
            let map = lists
                .iter()
                .map(|(index, list)| (*index, list.to_vec()))
                .collect();
            check_assignments(&catalogue(), &map)
        };
        assert!(check(&[(0, &[node(1)]), (1, &[node(1)])]).is_ok());
        assert!(check(&[(1, &[node(1)])]).is_err());
        assert!(check(&[(0, &[node(2)])]).is_err());
        assert!(check(&[(0, &[])]).is_err());
        assert!(check(&[(0, &[node(1), node(1)])]).is_err());
    }

    #[test]
    fn names_are_kafkas() {
        let catalogue = catalogue();
        for good in ["a", "A.b_c-9", &"x".repeat(249)] {
            assert_eq!(topic_name_problem(good, &catalogue), None, "{good}");
        }
        for bad in ["", ".", "..", "a b", "ä", "a/b", &"x".repeat(250)] {
            assert!(topic_name_problem(bad, &catalogue).is_some(), "{bad}");
        }
    }
}

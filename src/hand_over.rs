//! Before a node stops it gives away what it leads, so that nobody waits for an election.

use broker::{Broker, ClusterStatus};
use storage::{NodeId, ShardId};
use tokio::task::JoinSet;
use tracing::{info, warn};

/// Gives every shard that this node leads to another replica that is alive and in sync, where there
/// is one. What fails is said and left: the others elect a leader when this node is gone.
pub(crate) async fn hand_over(broker: &Broker) {
    let moves = moves(&broker.cluster_status(), broker.node_id());
    let mut under_way = JoinSet::new();
    for (shard, to) in moves {
        let broker = broker.clone();
        under_way.spawn(async move {
            match broker.transfer_leader(shard, to).await {
                Ok(()) => info!(%shard, %to, "gave the leadership away"),
                Err(error) => warn!(%shard, %to, %error, "cannot give the leadership away"),
            }
        });
    }
    while under_way.join_next().await.is_some() {}
}

/// Each shard that `own` leads, and who takes it: the first in the order of its replicas, each
/// shard beginning with another, so that not all go to the same node.
fn moves(status: &ClusterStatus, own: NodeId) -> Vec<(ShardId, NodeId)> {
    let is_alive = |id: NodeId| {
        let mut nodes = status.nodes.iter();
        nodes.any(|node| node.node.id == id && node.alive)
    };
    let led = status
        .shards
        .iter()
        .filter(|shard| shard.leader == Some(own));
    let moves = led.enumerate().filter_map(|(at, shard)| {
        let can_lead = |node: &&NodeId| {
            **node != own
                && shard.voters.contains(node)
                && shard.in_sync.contains(node)
                && is_alive(**node)
        };
        let fit: Vec<&NodeId> = shard.replicas.iter().filter(can_lead).collect();
        let to = fit.get(at % fit.len().max(1))?;
        Some((shard.id, **to))
    });
    moves.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use broker::catalogue::{Node, NodeState};
    use broker::{NodeStatus, ShardStatus};

    use super::*;

    fn node(id: u32, alive: bool) -> NodeStatus {
        NodeStatus {
            node: Node {
                id: NodeId(id),
                incarnation: [0; 16],
                rack: None,
                listeners: BTreeMap::new(),
                state: NodeState::Active,
            },
            alive,
            leads: 0,
            replicas: 0,
            is_local: id == 1,
            waits_for: None,
            barred_from: Vec::new(),
        }
    }

    fn shard(id: u32, leader: u32, in_sync: &[u32]) -> ShardStatus {
        let all = vec![NodeId(1), NodeId(2), NodeId(3)];
        ShardStatus {
            id: ShardId(id),
            replicas: all.clone(),
            target: None,
            voters: all,
            learners: Vec::new(),
            leader: Some(NodeId(leader)),
            term: 1,
            in_sync: in_sync.iter().map(|id| NodeId(*id)).collect(),
            partitions: 1,
            catching_up: Vec::new(),
            returning: Vec::new(),
            stalled_ms: None,
        }
    }

    #[test]
    fn what_is_led_goes_to_the_living_in_turn() {
        let mut status = ClusterStatus {
            cluster_id: String::new(),
            controller: Some(NodeId(1)),
            nodes: vec![node(1, true), node(2, true), node(3, true)],
            shards: vec![
                shard(0, 1, &[1, 2, 3]),
                shard(1, 2, &[1, 2, 3]),
                shard(2, 1, &[1, 2, 3]),
                shard(3, 1, &[1, 3]),
                shard(4, 1, &[1]),
            ],
        };
        let to = |shard: u32, node: u32| (ShardId(shard), NodeId(node));
        assert_eq!(moves(&status, NodeId(1)), [to(0, 2), to(2, 3), to(3, 3)]);
        status.nodes[2].alive = false;
        assert_eq!(moves(&status, NodeId(1)), [to(0, 2), to(2, 2)]);
    }
}

//! DescribeQuorum, key 55, versions 0–2; KIP-595, KIP-836 (times, 1), KIP-853 (directories and
//! listeners, 2).
//!
//! The quorum is that of the catalogue, which goes here by Kafka's name for it: partition 0 of
//! `__cluster_metadata`; any other is unknown. Log ends are indexes of its Raft log. Only its leader
//! knows how far the replicas are, so other nodes answer `NOT_LEADER_OR_FOLLOWER`, upon which
//! clients ask another one. A replica's directory id is what its data directory was founded with.

use broker::catalogue::Catalogue;
use broker::{QuorumReplica, QuorumStatus};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_quorum_response::{
    Listener, Node, PartitionData, ReplicaState, TopicData,
};
use kafka_protocol::messages::{BrokerId, DescribeQuorumRequest, DescribeQuorumResponse};

use super::{Context, Refusal};
use crate::mapping;

/// Kafka's name for the log of the cluster's own metadata, which has one partition.
const METADATA_TOPIC: &str = "__cluster_metadata";
/// First version that tells times.
const TIMES_VERSION_MIN: i16 = 1;
/// First version that tells directories, listeners and messages.
const NODES_VERSION_MIN: i16 = 2;
/// The listener that replicas of the catalogue reach one another by.
const PEERS_LISTENER: &str = "peers";

pub(super) fn handle(
    context: &Context,
    version: i16,
    request: DescribeQuorumRequest,
) -> DescribeQuorumResponse {
    let catalogue = context.broker.catalogue();
    let asks_for_it = request.topics.iter().any(|topic| {
        topic.topic_name.as_str() == METADATA_TOPIC
            && topic.partitions.iter().any(|p| p.partition_index == 0)
    });
    let quorum = match asks_for_it {
        true => match quorum(context) {
            Ok(quorum) => Some(quorum),
            Err(refusal) => return refuse(version, refusal),
        },
        false => None,
    };
    let topics = request.topics.into_iter().map(|topic| {
        let is_it = topic.topic_name.as_str() == METADATA_TOPIC;
        let partitions = topic.partitions.iter().map(|asked| {
            let told = PartitionData::default().with_partition_index(asked.partition_index);
            match &quorum {
                Some(quorum) if is_it && asked.partition_index == 0 => {
                    partition(version, &catalogue, told, quorum)
                }
                _ => unknown(version, told),
            }
        });
        let partitions = partitions.collect();
        TopicData::default()
            .with_topic_name(topic.topic_name)
            .with_partitions(partitions)
    });
    let response = DescribeQuorumResponse::default().with_topics(topics.collect());
    match (version >= NODES_VERSION_MIN, &quorum) {
        (true, Some(quorum)) => response
            .with_error_message(None)
            .with_nodes(voters(&catalogue, quorum)),
        (true, None) => response.with_error_message(None),
        (false, _) => response,
    }
}

/// The quorum, when this node is the one to tell.
fn quorum(context: &Context) -> Result<QuorumStatus, Refusal> {
    let quorum = context.broker.quorum_status();
    let this = context.broker.node_id();
    match quorum.leader {
        Some(leader) if leader == this => Ok(quorum),
        Some(leader) => Err(Refusal::new(
            ResponseError::NotLeaderOrFollower,
            &format!("this is node {this}, the quorum is led by node {leader}"),
        )),
        None => Err(Refusal::new(
            ResponseError::NotLeaderOrFollower,
            &format!("this is node {this}, which knows of no leader of the quorum"),
        )),
    }
}

fn refuse(version: i16, refusal: Refusal) -> DescribeQuorumResponse {
    let response = DescribeQuorumResponse::default().with_error_code(refusal.code.code());
    match version >= NODES_VERSION_MIN {
        true => response.with_error_message(Some(mapping::text(refusal.message))),
        false => response,
    }
}

fn unknown(version: i16, told: PartitionData) -> PartitionData {
    let told = told
        .with_error_code(ResponseError::UnknownTopicOrPartition.code())
        .with_leader_id(BrokerId(-1))
        .with_leader_epoch(-1)
        .with_high_watermark(-1);
    match version >= NODES_VERSION_MIN {
        true => told.with_error_message(Some(mapping::text(
            "only partition 0 of __cluster_metadata has a quorum to describe",
        ))),
        false => told,
    }
}

fn partition(
    version: i16,
    catalogue: &Catalogue,
    told: PartitionData,
    quorum: &QuorumStatus,
) -> PartitionData {
    let states = |replicas: &[QuorumReplica]| {
        let states = replicas
            .iter()
            .map(|replica| state(version, catalogue, replica));
        states.collect()
    };
    let told = told
        .with_leader_id(quorum.leader.map_or(BrokerId(-1), mapping::broker_id))
        .with_leader_epoch(i32::try_from(quorum.term).unwrap_or(i32::MAX))
        .with_high_watermark(quorum.high_watermark)
        .with_current_voters(states(&quorum.voters))
        .with_observers(states(&quorum.observers));
    match version >= NODES_VERSION_MIN {
        true => told.with_error_message(None),
        false => told,
    }
}

fn state(version: i16, catalogue: &Catalogue, replica: &QuorumReplica) -> ReplicaState {
    let mut state = ReplicaState::default()
        .with_replica_id(mapping::broker_id(replica.node))
        .with_log_end_offset(replica.log_end.unwrap_or(-1));
    if version >= TIMES_VERSION_MIN {
        state = state
            .with_last_fetch_timestamp(replica.last_fetch_ms.unwrap_or(-1))
            .with_last_caught_up_timestamp(replica.last_caught_up_ms.unwrap_or(-1));
    }
    if version >= NODES_VERSION_MIN
        && let Some(node) = catalogue.nodes.get(&replica.node)
    {
        state.replica_directory_id = mapping::wire_uuid(node.incarnation);
    }
    state
}

/// Where the voters are.
fn voters(catalogue: &Catalogue, quorum: &QuorumStatus) -> Vec<Node> {
    let nodes = quorum.voters.iter().map(|voter| {
        let node = catalogue.nodes.get(&voter.node);
        let at = node.and_then(|node| node.listeners.get(PEERS_LISTENER));
        let listeners = at.map(|(host, port)| {
            Listener::default()
                .with_name(mapping::text(PEERS_LISTENER))
                .with_host(mapping::text(host.as_str()))
                .with_port(*port)
        });
        Node::default()
            .with_node_id(mapping::broker_id(voter.node))
            .with_listeners(listeners.into_iter().collect())
    });
    nodes.collect()
}

#[cfg(test)]
mod tests {
    use kafka_protocol::protocol::Encodable;
    use storage::NodeId;

    use super::*;

    #[test]
    fn replicas_that_are_not_known_are_told_as_minus_one() {
        let replica = |node, log_end| QuorumReplica {
            node: NodeId(node),
            log_end,
            last_fetch_ms: log_end,
            last_caught_up_ms: None,
        };
        let quorum = QuorumStatus {
            leader: Some(NodeId(1)),
            term: u64::MAX,
            high_watermark: 9,
            voters: vec![replica(1, Some(9)), replica(2, None)],
            observers: vec![replica(3, Some(4))],
        };
        for version in 0..=2 {
            let told = partition(
                version,
                &Catalogue::default(),
                PartitionData::default(),
                &quorum,
            );
            let ends = |states: &[ReplicaState]| -> Vec<i64> {
                states.iter().map(|state| state.log_end_offset).collect()
            };
            assert_eq!(ends(&told.current_voters), [9, -1]);
            assert_eq!(ends(&told.observers), [4]);
            assert_eq!((told.leader_id.0, told.leader_epoch), (1, i32::MAX));
            let mut buf = bytes::BytesMut::new();
            told.encode(&mut buf, version).unwrap();
        }
        let nodes = voters(&Catalogue::default(), &quorum);
        assert_eq!(nodes.len(), 2);
    }
}

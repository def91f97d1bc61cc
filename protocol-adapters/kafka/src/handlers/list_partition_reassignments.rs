//! ListPartitionReassignments, key 46, version 0; KIP-455.
//!
//! Null topics are all. A partition that is not being reassigned, or does not exist, is left out,
//! as Kafka does.

use std::collections::{BTreeMap, HashSet};

use kafka_protocol::messages::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use kafka_protocol::messages::{
    BrokerId, ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};
use storage::{NodeId, PartitionId};

use super::Context;
use crate::mapping::{self, TopicKey};

pub(super) fn handle(
    context: &Context,
    request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let catalogue = context.broker.catalogue();
    let asked: Option<HashSet<PartitionId>> = request.topics.map(|topics| {
        let found = topics.into_iter().flat_map(|topic| {
            let key = TopicKey::Name(topic.name);
            let indexes = topic.partition_indexes.into_iter();
            let found =
                indexes.filter_map(|index| mapping::find_partition(&catalogue, &key, index).ok());
            found.collect::<Vec<_>>()
        });
        found.collect()
    });
    let ids = |nodes: &[NodeId]| -> Vec<BrokerId> {
        nodes.iter().copied().map(mapping::broker_id).collect()
    };
    let mut topics: BTreeMap<&str, Vec<OngoingPartitionReassignment>> = BTreeMap::new();
    let ongoing = context.broker.list_reassignments();
    for known in &ongoing {
        let is_asked = asked
            .as_ref()
            .is_none_or(|asked| asked.contains(&known.partition));
        let Some(name) = catalogue.names.get(&known.partition.topic) else {
            continue;
        };
        if is_asked {
            topics.entry(name).or_default().push(
                OngoingPartitionReassignment::default()
                    .with_partition_index(mapping::partition_index(known.partition.index))
                    .with_replicas(ids(&known.replicas))
                    .with_adding_replicas(ids(&known.adding))
                    .with_removing_replicas(ids(&known.removing)),
            );
        }
    }
    let topics = topics.into_iter().map(|(name, mut partitions)| {
        partitions.sort_by_key(|partition| partition.partition_index);
        OngoingTopicReassignment::default()
            .with_name(mapping::topic_name(name))
            .with_partitions(partitions)
    });
    ListPartitionReassignmentsResponse::default()
        .with_error_message(None)
        .with_topics(topics.collect())
}

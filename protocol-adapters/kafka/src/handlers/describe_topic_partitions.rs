//! DescribeTopicPartitions, key 75, version 0; KIP-966.
//!
//! Topics come sorted by name, all of them when none is named, from the cursor on, until the limit
//! of partitions is reached; then the answer's cursor says where to go on. Eligible leader replicas
//! do not exist here: a leader always has everything that is committed.

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
};
use storage::PartitionId;

use super::Context;
use crate::mapping::{self, OPERATIONS_NOT_ASKED, TOPIC_OPERATIONS};

/// Most partitions in one answer (Kafka's `max.request.partition.size.limit`).
const PARTITIONS_MAX: i32 = 2_000;

pub(super) fn handle(
    context: &Context,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let catalogue = context.broker.catalogue();
    let mut left = usize::try_from(request.response_partition_limit.clamp(1, PARTITIONS_MAX))
        .expect("it is positive");
    let all = request.topics.is_empty();
    let names: BTreeSet<&str> = match all {
        true => catalogue.topics.keys().map(String::as_str).collect(),
        false => request
            .topics
            .iter()
            .map(|topic| topic.name.as_str())
            .collect(),
    };
    let (from_topic, from_partition) = match &request.cursor {
        Some(cursor) => {
            let in_list = all || names.contains(cursor.topic_name.as_str());
            match usize::try_from(cursor.partition_index) {
                Ok(partition) if in_list => (cursor.topic_name.as_str(), partition),
                _ => return refuse(&names),
            }
        }
        None => ("", 0),
    };

    let mut topics = Vec::new();
    for name in names.range(from_topic..) {
        let Some(topic) = catalogue.topics.get(*name) else {
            topics.push(failed(name, ResponseError::UnknownTopicOrPartition));
            continue;
        };
        let first = if *name == from_topic {
            from_partition
        } else {
            0
        };
        let until = topic.partitions.len().min(first.saturating_add(left));
        if first >= until && first < topic.partitions.len() {
            return respond(topics, Some((name, first)));
        }
        let mut statuses = context.broker.statuses();
        let partitions = (first..until).map(|index| {
            let index = u32::try_from(index).expect("partition numbers fit 32 bits");
            let status = statuses.of(PartitionId {
                topic: topic.id,
                index,
            });
            let told = mapping::picture(&catalogue, &context.listener_name, status.as_ref());
            DescribeTopicPartitionsResponsePartition::default()
                .with_error_code(told.error_code)
                .with_partition_index(mapping::partition_index(index))
                .with_leader_id(told.leader_id)
                .with_leader_epoch(told.leader_epoch)
                .with_replica_nodes(told.replicas)
                .with_isr_nodes(told.in_sync)
                .with_offline_replicas(told.offline)
                .with_eligible_leader_replicas(Some(Vec::<BrokerId>::new()))
                .with_last_known_elr(Some(Vec::new()))
        });
        let partitions: Vec<_> = partitions.collect();
        left -= partitions.len();
        topics.push(
            DescribeTopicPartitionsResponseTopic::default()
                .with_name(Some(mapping::topic_name(&topic.name)))
                .with_topic_id(mapping::wire_topic_id(topic.id))
                .with_is_internal(topic.internal)
                .with_partitions(partitions)
                .with_topic_authorized_operations(TOPIC_OPERATIONS),
        );
        if until < topic.partitions.len() {
            return respond(topics, Some((name, until)));
        }
    }
    respond(topics, None)
}

fn respond(
    topics: Vec<DescribeTopicPartitionsResponseTopic>,
    cursor: Option<(&str, usize)>,
) -> DescribeTopicPartitionsResponse {
    let cursor = cursor.map(|(topic, partition)| {
        let partition = u32::try_from(partition).expect("partition numbers fit 32 bits");
        Cursor::default()
            .with_topic_name(mapping::topic_name(topic))
            .with_partition_index(mapping::partition_index(partition))
    });
    DescribeTopicPartitionsResponse::default()
        .with_topics(topics)
        .with_next_cursor(cursor)
}

/// The answer to a cursor that cannot be: the error stands at every topic.
fn refuse(names: &BTreeSet<&str>) -> DescribeTopicPartitionsResponse {
    let topics = names
        .iter()
        .map(|name| failed(name, ResponseError::InvalidRequest));
    respond(topics.collect(), None)
}

fn failed(name: &str, error: ResponseError) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default()
        .with_error_code(error.code())
        .with_name(Some(mapping::topic_name(name)))
        .with_topic_authorized_operations(OPERATIONS_NOT_ASKED)
}

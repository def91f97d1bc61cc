//! CreatePartitions, key 37, versions 0–3; KIP-195.

use std::collections::HashMap;

use broker::NewPartitions;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse, TopicName};
use storage::NodeId;

use super::{Context, Refusal};
use crate::mapping;

pub(super) async fn handle(
    context: &Context,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let mut times: HashMap<TopicName, usize> = HashMap::new();
    for topic in &request.topics {
        *times.entry(topic.name.clone()).or_default() += 1;
    }
    let mut checked: Vec<(TopicName, Option<Refusal>)> = Vec::new();
    let mut wanted = Vec::new();
    for topic in request.topics {
        let Some(count) = times.remove(&topic.name) else {
            continue;
        };
        let name = topic.name.clone();
        let result = match count {
            1 => new_partitions(topic),
            _ => Err(Refusal::request(
                "the request names this topic more than once",
            )),
        };
        match result {
            Ok(topic) => {
                wanted.push(topic);
                checked.push((name, None));
            }
            Err(refusal) => checked.push((name, Some(refusal))),
        }
    }

    let timeout_ms = i64::from(request.timeout_ms.max(0));
    let done = match wanted.is_empty() {
        true => Vec::new(),
        false => {
            context
                .broker
                .create_partitions(wanted, request.validate_only, timeout_ms)
                .await
        }
    };
    let mut done = done.into_iter();
    let results = checked.into_iter().map(|(name, refusal)| {
        let refusal = match refusal {
            Some(refusal) => Some(refusal),
            None => {
                let done = done.next().expect("one result a topic");
                done.err().map(|error| Refusal::controller(&error))
            }
        };
        let result = CreatePartitionsTopicResult::default().with_name(name);
        match refusal {
            None => result.with_error_message(None),
            Some(refusal) => result
                .with_error_code(refusal.code.code())
                .with_error_message(Some(mapping::text(refusal.message))),
        }
    });
    CreatePartitionsResponse::default().with_results(results.collect())
}

fn new_partitions(topic: CreatePartitionsTopic) -> Result<NewPartitions, Refusal> {
    let assignments = topic.assignments.map(|assignments| {
        let replicas = assignments.into_iter().map(|assignment| {
            assignment
                .broker_ids
                .into_iter()
                .map(mapping::node_id)
                .collect::<Option<Vec<NodeId>>>()
        });
        replicas.collect::<Option<Vec<_>>>().ok_or_else(|| {
            Refusal::new(
                ResponseError::InvalidReplicaAssignment,
                "a broker id is negative",
            )
        })
    });
    Ok(NewPartitions {
        topic: topic.name.to_string(),
        total: topic.count,
        assignments: assignments.transpose()?,
    })
}

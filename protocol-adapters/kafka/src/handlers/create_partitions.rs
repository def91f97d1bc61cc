//! CreatePartitions, key 37, versions 0–3; KIP-195, KIP-599 (quota, refused from 3 on).

use std::collections::HashMap;

use broker::NewPartitions;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse, TopicName};
use storage::NodeId;

use super::quotas::{MutationMeter, QuotaClient};
use super::{Context, Refusal};
use crate::mapping;

/// First version whose client knows that a quota may refuse it.
const STRICT_VERSION_MIN: i16 = 3;

pub(super) async fn handle(
    context: &Context,
    client: &QuotaClient,
    version: i16,
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
    let mut meter = MutationMeter::new(context, client, version >= STRICT_VERSION_MIN);
    if meter.is_limited() && !wanted.is_empty() {
        wanted = admitted(context, &mut meter, wanted, &mut checked, timeout_ms).await;
    }
    let throttle_ms = meter.finish();
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
    CreatePartitionsResponse::default()
        .with_throttle_time_ms(throttle_ms)
        .with_results(results.collect())
}

/// Those that may be created under their client's quota; the others are answered. What cannot be
/// created anyway uses nothing, and comes to its own refusal.
async fn admitted(
    context: &Context,
    meter: &mut MutationMeter<'_>,
    wanted: Vec<NewPartitions>,
    answers: &mut [(TopicName, Option<Refusal>)],
    timeout_ms: i64,
) -> Vec<NewPartitions> {
    let planned = context
        .broker
        .create_partitions(wanted.clone(), true, timeout_ms);
    let planned = planned.await;
    let catalogue = context.broker.catalogue();
    let open = answers.iter_mut().map(|(_, refusal)| refusal);
    let open = open.filter(|refusal| refusal.is_none());
    let mut admitted = Vec::with_capacity(wanted.len());
    for ((new, planned), refusal) in wanted.into_iter().zip(planned).zip(open) {
        let present = catalogue.topics.get(&new.topic);
        let present = present.map_or(0, |topic| topic.partitions.len());
        let total = usize::try_from(new.total).unwrap_or(0);
        let more = planned.map_or(0, |_| total.saturating_sub(present));
        match if more > 0 { meter.admit(more) } else { Ok(()) } {
            Ok(()) => admitted.push(new),
            Err(refused) => *refusal = Some(refused),
        }
    }
    admitted
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

//! CreateTopics, key 19, versions 2–7; KIP-4, KIP-464 (defaults), KIP-525 (what was created, 5),
//! KIP-599 (quota, refused from 6 on), KIP-516 (topic ids, 7).
//!
//! -1 asks for the cluster's default number of partitions or replicas, in every version: Kafka
//! accepts it before version 4 as well, and kafkajs relies on that.
//! A name that the request holds twice is refused, as are assignments by hand together with a
//! number of partitions or replicas, and assignments that name a partition twice or leave one out.

use std::collections::{BTreeMap, HashMap};

use broker::{ConfigEntry, CreatedTopic, NewTopic, topic_config_definitions};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse, TopicName};
use storage::NodeId;

use super::configs::source_code;
use super::quotas::{MutationMeter, QuotaClient};
use super::{Context, Refusal};
use crate::mapping;

/// First version whose answer says what was created.
const DETAILS_VERSION_MIN: i16 = 5;
/// First version whose client knows that a quota may refuse it.
const STRICT_VERSION_MIN: i16 = 6;

pub(super) async fn handle(
    context: &Context,
    client: &QuotaClient,
    version: i16,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let mut times: HashMap<TopicName, usize> = HashMap::new();
    for topic in &request.topics {
        *times.entry(topic.name.clone()).or_default() += 1;
    }
    // A name is answered once, in the place where it first stands.
    let mut answers: Vec<(TopicName, Option<Refusal>)> = Vec::new();
    let mut wanted: Vec<NewTopic> = Vec::new();
    for topic in request.topics {
        let Some(count) = times.remove(&topic.name) else {
            continue;
        };
        let name = topic.name.clone();
        let checked = match count {
            1 => new_topic(topic),
            _ => Err(Refusal::request(
                "the request names this topic more than once",
            )),
        };
        match checked {
            Ok(topic) => {
                wanted.push(topic);
                answers.push((name, None));
            }
            Err(refusal) => answers.push((name, Some(refusal))),
        }
    }

    let timeout_ms = i64::from(request.timeout_ms.max(0));
    let mut meter = MutationMeter::new(context, client, version >= STRICT_VERSION_MIN);
    if meter.is_limited() && !wanted.is_empty() {
        wanted = admitted(context, &mut meter, wanted, &mut answers, timeout_ms).await;
    }
    let throttle_ms = meter.finish();
    let created = match wanted.is_empty() {
        true => Vec::new(),
        false => {
            context
                .broker
                .create_topics(wanted.clone(), request.validate_only, timeout_ms)
                .await
        }
    };
    let mut created = wanted.iter().zip(created);
    let topics = answers.into_iter().map(|(name, refusal)| {
        let result = CreatableTopicResult::default()
            .with_name(name)
            .with_error_message(None)
            .with_num_partitions(-1)
            .with_replication_factor(-1);
        let refusal = match refusal {
            Some(refusal) => refusal,
            None => match created.next().expect("one result a topic") {
                (wanted, Ok(created)) => return told(context, version, result, wanted, &created),
                (_, Err(error)) => Refusal::controller(&error),
            },
        };
        let result = result
            .with_error_code(refusal.code.code())
            .with_error_message(Some(mapping::text(refusal.message)));
        match version >= DETAILS_VERSION_MIN {
            true => result.with_configs(None),
            false => result.with_configs(Some(Vec::new())),
        }
    });
    CreateTopicsResponse::default()
        .with_throttle_time_ms(throttle_ms)
        .with_topics(topics.collect())
}

/// The topics that may be created under their client's quota; the others are answered. One that
/// cannot be created anyway uses nothing, and comes to its own refusal.
async fn admitted(
    context: &Context,
    meter: &mut MutationMeter<'_>,
    wanted: Vec<NewTopic>,
    answers: &mut [(TopicName, Option<Refusal>)],
    timeout_ms: i64,
) -> Vec<NewTopic> {
    let planned = context
        .broker
        .create_topics(wanted.clone(), true, timeout_ms);
    let planned = planned.await;
    let open = answers.iter_mut().map(|(_, refusal)| refusal);
    let open = open.filter(|refusal| refusal.is_none());
    let mut admitted = Vec::with_capacity(wanted.len());
    for ((topic, planned), refusal) in wanted.into_iter().zip(planned).zip(open) {
        let partitions = planned.map_or(0, |created| created.partitions);
        let partitions = usize::try_from(partitions).unwrap_or(0);
        match if partitions > 0 {
            meter.admit(partitions)
        } else {
            Ok(())
        } {
            Ok(()) => admitted.push(topic),
            Err(refused) => *refusal = Some(refused),
        }
    }
    admitted
}

fn new_topic(topic: CreatableTopic) -> Result<NewTopic, Refusal> {
    let by_hand = !topic.assignments.is_empty();
    if by_hand && (topic.num_partitions != -1 || topic.replication_factor != -1) {
        return Err(Refusal::request(
            "both assignments and a number of partitions or replicas are given",
        ));
    }
    let partitions = match topic.num_partitions {
        -1 => None,
        partitions if partitions > 0 => Some(partitions),
        _ => {
            return Err(Refusal::new(
                ResponseError::InvalidPartitions,
                "the number of partitions must be above 0",
            ));
        }
    };
    let replication_factor = match topic.replication_factor {
        -1 => None,
        factor if factor > 0 => Some(factor),
        _ => {
            return Err(Refusal::new(
                ResponseError::InvalidReplicationFactor,
                "the replication factor must be above 0",
            ));
        }
    };
    let configs = topic.configs.into_iter().map(|config| {
        (
            config.name.to_string(),
            config.value.map(|value| value.to_string()),
        )
    });
    Ok(NewTopic {
        name: topic.name.to_string(),
        partitions,
        replication_factor,
        assignments: assignments(topic.assignments)?,
        configs: configs.collect(),
    })
}

fn assignments(
    given: Vec<CreatableReplicaAssignment>,
) -> Result<BTreeMap<i32, Vec<NodeId>>, Refusal> {
    let invalid = |message: &str| Refusal::new(ResponseError::InvalidReplicaAssignment, message);
    let count = given.len();
    let mut assignments = BTreeMap::new();
    for assignment in given {
        let replicas: Option<Vec<NodeId>> = assignment
            .broker_ids
            .into_iter()
            .map(mapping::node_id)
            .collect();
        let replicas = replicas.ok_or_else(|| invalid("a broker id is negative"))?;
        assignments.insert(assignment.partition_index, replicas);
    }
    let is_whole = assignments.len() == count && assignments.keys().copied().eq((0..).take(count));
    match is_whole {
        true => Ok(assignments),
        false => Err(invalid("partitions must be numbered from 0, each one once")),
    }
}

/// A topic that was, or would be, created.
fn told(
    context: &Context,
    version: i16,
    result: CreatableTopicResult,
    wanted: &NewTopic,
    created: &CreatedTopic,
) -> CreatableTopicResult {
    let result = match version >= 7 {
        true => result.with_topic_id(mapping::wire_topic_id(created.id)),
        false => result,
    };
    if version < DETAILS_VERSION_MIN {
        return result;
    }
    let entries = context
        .broker
        .topic_configs(&created.name)
        .unwrap_or_else(|_| would_be(wanted, &context.broker.catalogue().broker_configs));
    let configs = entries.into_iter().map(|entry| {
        CreatableTopicConfigs::default()
            .with_name(mapping::text(entry.definition.key))
            .with_value(entry.value.map(mapping::text))
            .with_read_only(!entry.definition.settable)
            .with_config_source(source_code(entry.source))
    });
    result
        .with_num_partitions(created.partitions)
        .with_replication_factor(created.replication_factor)
        .with_configs(Some(configs.collect()))
}

/// The configs that a topic would have which was only validated.
fn would_be(wanted: &NewTopic, defaults: &BTreeMap<String, String>) -> Vec<ConfigEntry> {
    let entries = topic_config_definitions().iter().map(|definition| {
        let set = wanted.configs.iter().find(|(key, _)| key == definition.key);
        let own = set.and_then(|(_, value)| value.clone());
        ConfigEntry::of_topic(definition, own, defaults)
    });
    entries.collect()
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::BrokerId;
    use kafka_protocol::protocol::StrBytes;

    use super::*;

    fn topic(partitions: i32, factor: i16) -> CreatableTopic {
        CreatableTopic::default()
            .with_name(TopicName(StrBytes::from_static_str("t")))
            .with_num_partitions(partitions)
            .with_replication_factor(factor)
    }

    fn assigned(partitions: &[(i32, i32)]) -> CreatableTopic {
        let given = partitions.iter().map(|(partition, broker)| {
            CreatableReplicaAssignment::default()
                .with_partition_index(*partition)
                .with_broker_ids(vec![BrokerId(*broker)])
        });
        topic(-1, -1).with_assignments(given.collect())
    }

    fn code(topic: CreatableTopic) -> Option<ResponseError> {
        new_topic(topic).err().map(|refusal| refusal.code)
    }

    #[test]
    fn defaults_are_asked_for_with_minus_one_and_nothing_else() {
        assert_eq!(code(topic(-1, -1)), None);
        assert_eq!(code(topic(-1, 1)), None);
        assert_eq!(code(topic(1, -1)), None);
        assert_eq!(code(topic(0, 1)), Some(ResponseError::InvalidPartitions));
        assert_eq!(
            code(topic(1, 0)),
            Some(ResponseError::InvalidReplicationFactor)
        );
        assert_eq!(code(topic(-2, 1)), Some(ResponseError::InvalidPartitions));
    }

    #[test]
    fn assignments_name_each_partition_once() {
        assert_eq!(code(assigned(&[(1, 1), (0, 2)])), None);
        let invalid = Some(ResponseError::InvalidReplicaAssignment);
        for given in [
            &[(0, 1), (0, 2)][..],
            &[(1, 1)],
            &[(0, 1), (2, 1)],
            &[(-1, 1)],
            &[(0, -1)],
        ] {
            assert_eq!(code(assigned(given)), invalid, "{given:?}");
        }
        let both = assigned(&[(0, 1)]).with_num_partitions(1);
        assert_eq!(code(both), Some(ResponseError::InvalidRequest));
    }
}

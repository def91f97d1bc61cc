//! AlterPartitionReassignments, key 45, versions 0–1; KIP-455, KIP-1187 (whether the number of
//! replicas may change, 1).
//!
//! It is answered when the new replicas are decided, not when they have everything:
//! ListPartitionReassignments tells what is under way. Null replicas cancel. A partition that is
//! named twice is refused the second time.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use broker::{BrokerError, Reassignment};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_partition_reassignments_request::ReassignablePartition;
use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
};
use storage::{NodeId, PartitionId};

use super::{Context, Refusal};
use crate::mapping::{self, Surface, TopicKey};

/// First version that says whether the number of replicas may change.
const FACTOR_VERSION_MIN: i16 = 1;

pub(super) async fn handle(
    context: &Context,
    version: i16,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let factor_may_change = version < FACTOR_VERSION_MIN || request.allow_replication_factor_change;
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let ongoing = context.broker.list_reassignments();
    let ongoing: HashMap<PartitionId, &Reassignment> = ongoing
        .iter()
        .map(|known| (known.partition, known))
        .collect();

    let mut wanted: Vec<(PartitionId, Option<Vec<NodeId>>)> = Vec::new();
    let mut seen = HashSet::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let key = TopicKey::Name(topic.name.clone());
        let judged = topic.partitions.iter().map(|asked| {
            let judged = judge(context, &ongoing, &key, asked, factor_may_change);
            let judged = judged.and_then(|(partition, replicas)| {
                if !seen.insert(partition) {
                    return Err(Refusal::request("the request names this partition twice"));
                }
                wanted.push((partition, replicas));
                Ok(partition)
            });
            (asked.partition_index, judged)
        });
        let judged: Vec<_> = judged.collect();
        topics.push((topic.name, judged));
    }

    let results = alter(context, wanted, timeout).await;
    let responses = topics.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, judged)| {
            let result = judged.and_then(|partition| match results.get(&partition) {
                Some(result) => result.clone(),
                None => Err(timed_out()),
            });
            answer(index, result)
        });
        ReassignableTopicResponse::default()
            .with_name(name)
            .with_partitions(partitions.collect())
    });
    AlterPartitionReassignmentsResponse::default()
        .with_allow_replication_factor_change(factor_may_change)
        .with_error_message(None)
        .with_responses(responses.collect())
}

/// What is asked of the broker for one partition, when it can be asked.
fn judge(
    context: &Context,
    ongoing: &HashMap<PartitionId, &Reassignment>,
    topic: &TopicKey,
    asked: &ReassignablePartition,
    factor_may_change: bool,
) -> Result<(PartitionId, Option<Vec<NodeId>>), Refusal> {
    let index = asked.partition_index;
    let partition = mapping::find_partition(&context.broker.catalogue(), topic, index)
        .map_err(|code| Refusal::new(code, "no such topic or partition"))?;
    let Some(replicas) = &asked.replicas else {
        return match ongoing.contains_key(&partition) {
            true => Ok((partition, None)),
            false => Err(Refusal::new(
                ResponseError::NoReassignmentInProgress,
                "no reassignment of this partition is under way",
            )),
        };
    };
    let invalid = |message: &str| Refusal::new(ResponseError::InvalidReplicaAssignment, message);
    let wanted: Option<Vec<NodeId>> = replicas.iter().copied().map(mapping::node_id).collect();
    let wanted = wanted.ok_or_else(|| invalid("a broker id is negative"))?;
    if wanted.is_empty() {
        return Err(invalid("the list of replicas is empty"));
    }
    let distinct: HashSet<NodeId> = wanted.iter().copied().collect();
    if distinct.len() != wanted.len() {
        return Err(invalid("the list of replicas names a node twice"));
    }
    let nodes = &context.broker.catalogue().nodes;
    if let Some(unknown) = wanted.iter().find(|node| !nodes.contains_key(node)) {
        return Err(invalid(&format!("there is no node {unknown}")));
    }
    if !factor_may_change {
        let factor = match ongoing.get(&partition) {
            Some(known) => known.replicas.len() - known.adding.len(),
            None => match context.broker.partition_status(partition) {
                Some(status) => status.replicas.len(),
                None => wanted.len(),
            },
        };
        if factor != wanted.len() {
            return Err(Refusal::new(
                ResponseError::InvalidReplicationFactor,
                &format!(
                    "{} replicas instead of {factor} would change the replication factor",
                    wanted.len()
                ),
            ));
        }
    }
    Ok((partition, Some(wanted)))
}

async fn alter(
    context: &Context,
    wanted: Vec<(PartitionId, Option<Vec<NodeId>>)>,
    timeout: Duration,
) -> HashMap<PartitionId, Result<(), Refusal>> {
    if wanted.is_empty() {
        return HashMap::new();
    }
    // What was decided stays decided when this gives up: the outcome is not known.
    let altered = tokio::time::timeout(timeout, context.broker.alter_reassignments(wanted)).await;
    let refusal = |error: BrokerError| Refusal {
        code: mapping::error_code(&error, Surface::Reassignment),
        message: error.to_string(),
    };
    altered
        .unwrap_or_default()
        .into_iter()
        .map(|(partition, result)| (partition, result.map_err(refusal)))
        .collect()
}

fn timed_out() -> Refusal {
    Refusal::new(
        ResponseError::RequestTimedOut,
        "it was not decided in time and may be yet",
    )
}

fn answer(index: i32, result: Result<(), Refusal>) -> ReassignablePartitionResponse {
    let answer = ReassignablePartitionResponse::default().with_partition_index(index);
    match result {
        Ok(()) => answer.with_error_message(None),
        Err(refusal) => answer
            .with_error_code(refusal.code.code())
            .with_error_message(Some(mapping::text(refusal.message))),
    }
}

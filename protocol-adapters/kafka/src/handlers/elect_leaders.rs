//! ElectLeaders, key 43, versions 0–2; KIP-183 (preferred leaders), KIP-460 (election types, 1).
//!
//! - Null partitions are all of them; then only those where an election was needed are told.
//! - A partition whose preferred replica leads already is told `ELECTION_NOT_NEEDED`, one whose
//!   preferred replica is not in sync `PREFERRED_LEADER_NOT_AVAILABLE`.
//! - Partitions share their leader with others, so an election moves the leaders of those as well.
//! - An unclean election is never held: a partition's log holds what is committed and nothing else,
//!   so a leader without a majority could only lose records that were acknowledged.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use broker::{BrokerError, Election};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse, TopicName};
use storage::PartitionId;

use super::{Context, Refusal};
use crate::mapping::{self, Surface, TopicKey};

/// Election types on the wire.
const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

const NEVER_UNCLEAN: &str = "an unclean election is never held: a partition's log holds committed \
    records only, and a leader without a majority of the replicas could lack some of them; start \
    nodes that have replicas until a majority of them runs";

/// What an election of one partition came to.
type Elected = Result<(), Refusal>;

pub(super) async fn handle(
    context: &Context,
    version: i16,
    request: ElectLeadersRequest,
) -> ElectLeadersResponse {
    let election = match request.election_type {
        PREFERRED => Election::Preferred,
        UNCLEAN => Election::Unclean,
        _ => {
            return ElectLeadersResponse::default()
                .with_error_code(ResponseError::InvalidRequest.code());
        }
    };
    let all = request.topic_partitions.is_none();
    let asked = match request.topic_partitions {
        Some(topics) => topics
            .into_iter()
            .map(|topic| (topic.topic, topic.partitions))
            .collect(),
        None => every_partition(context),
    };
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));

    // What can be said without an election, and the partitions that are to have one.
    let mut told: Vec<(TopicName, i32, Result<PartitionId, Refusal>)> = Vec::new();
    for (topic, indexes) in asked {
        let key = TopicKey::Name(topic.clone());
        for index in indexes {
            told.push((topic.clone(), index, judge(context, &key, index, election)));
        }
    }
    let needed: Vec<PartitionId> = told
        .iter()
        .filter_map(|(_, _, to)| to.clone().ok())
        .collect();
    let elected = match needed.is_empty() {
        true => Ok(HashMap::new()),
        false => elect(context, election, needed, timeout).await,
    };
    let (elected, failure) = match elected {
        Ok(elected) => (elected, None),
        Err(refusal) => (HashMap::new(), Some(refusal)),
    };
    if let (Some(refusal), true) = (&failure, version >= 1) {
        return ElectLeadersResponse::default().with_error_code(refusal.code.code());
    }

    let mut topics: BTreeMap<TopicName, Vec<PartitionResult>> = BTreeMap::new();
    for (topic, index, judged) in told {
        let result = judged.and_then(|partition| match (elected.get(&partition), &failure) {
            (Some(result), _) => result.clone(),
            (None, Some(refusal)) => Err(refusal.clone()),
            (None, None) => Err(timed_out()),
        });
        let not_needed =
            matches!(&result, Err(refusal) if refusal.code == ResponseError::ElectionNotNeeded);
        if !(all && not_needed) {
            topics.entry(topic).or_default().push(answer(index, result));
        }
    }
    let results = topics.into_iter().map(|(topic, partitions)| {
        ReplicaElectionResult::default()
            .with_topic(topic)
            .with_partition_result(partitions)
    });
    ElectLeadersResponse::default().with_replica_election_results(results.collect())
}

fn every_partition(context: &Context) -> Vec<(TopicName, Vec<i32>)> {
    let catalogue = context.broker.catalogue();
    let topics = catalogue.topics.values().map(|topic| {
        let indexes = (0u32..).take(topic.partitions.len());
        let indexes = indexes.map(mapping::partition_index).collect();
        (mapping::topic_name(&topic.name), indexes)
    });
    topics.collect()
}

/// Whether a partition is to have an election, and what to say when it is not.
fn judge(
    context: &Context,
    topic: &TopicKey,
    index: i32,
    election: Election,
) -> Result<PartitionId, Refusal> {
    let partition = mapping::find_partition(&context.broker.catalogue(), topic, index)
        .map_err(|code| Refusal::new(code, "no such topic or partition"))?;
    let status = context.broker.partition_status(partition);
    let leader = status.as_ref().and_then(|status| status.leader);
    match election {
        Election::Unclean if leader.is_some() => Err(Refusal::new(
            ResponseError::ElectionNotNeeded,
            "the partition has a leader",
        )),
        Election::Unclean => Err(Refusal::new(
            ResponseError::EligibleLeadersNotAvailable,
            NEVER_UNCLEAN,
        )),
        Election::Preferred => {
            let Some((status, preferred)) = status
                .as_ref()
                .and_then(|status| Some((status, *status.replicas.first()?)))
            else {
                return Ok(partition);
            };
            if leader == Some(preferred) {
                let message = format!("node {preferred} leads it already");
                return Err(Refusal::new(ResponseError::ElectionNotNeeded, &message));
            }
            if status.offline.contains(&preferred) || !status.in_sync.contains(&preferred) {
                let message = format!("the preferred leader, node {preferred}, is not in sync");
                return Err(Refusal::new(
                    ResponseError::PreferredLeaderNotAvailable,
                    &message,
                ));
            }
            Ok(partition)
        }
    }
}

async fn elect(
    context: &Context,
    election: Election,
    partitions: Vec<PartitionId>,
    timeout: Duration,
) -> Result<HashMap<PartitionId, Elected>, Refusal> {
    let elections = context.broker.elect_leaders(election, Some(partitions));
    // What has begun goes on when this gives up: its outcome is not known.
    let results = match tokio::time::timeout(timeout, elections).await {
        Ok(results) => results.map_err(|error| Refusal::controller(&error))?,
        Err(_) => return Ok(HashMap::new()),
    };
    let refusal = |error: BrokerError| Refusal {
        code: mapping::error_code(&error, Surface::Election),
        message: error.to_string(),
    };
    let results = results
        .into_iter()
        .map(|(partition, result)| (partition, result.map_err(refusal)));
    Ok(results.collect())
}

fn timed_out() -> Refusal {
    Refusal::new(
        ResponseError::RequestTimedOut,
        "the election was not over in time",
    )
}

fn answer(index: i32, result: Elected) -> PartitionResult {
    let answer = PartitionResult::default().with_partition_id(index);
    match result {
        Ok(()) => answer.with_error_message(None),
        Err(refusal) => answer
            .with_error_code(refusal.code.code())
            .with_error_message(Some(mapping::text(refusal.message))),
    }
}

//! Produce, key 0, versions 3–13; KIP-98 (idempotence), KIP-467 (record errors), KIP-516 (topic
//! ids, 13), KIP-951 (the new leader in the answer, 10).
//!
//! - Batches are appended in the order of the request, one `append` awaited after another: that
//!   fixes their order and is the back-pressure. Their results are awaited together.
//! - A partition named twice is appended to twice and answered twice.
//! - `acks=0` is not answered; any error closes the connection, so that the producer notices.
//! - What has not come to an end within `timeout_ms` is answered `REQUEST_TIMED_OUT`. Kafka answers
//!   `acks=1` without waiting, so there the time is not taken below [`LEADER_ACK_WAIT_MIN`].
//! - zstd needs version 7 (KIP-110). Transactions are refused until there are any.

use std::future::Future;
use std::time::Duration;

use broker::{AppendError, Appended, BrokerError, PendingAppend, RequiredAcks};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse,
    TopicProduceResponse,
};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
use storage::{PartitionId, TopicId};
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::{Begun, Call, Context, leader_hint};
use crate::mapping::{self, TopicKey};
use crate::session::Outcome;

/// First version that may carry zstd (KIP-110).
const ZSTD_VERSION_MIN: i16 = 7;
/// First version that names topics by id.
const TOPIC_ID_VERSION_MIN: i16 = 13;
/// First version whose answer names the new leader.
const LEADER_VERSION_MIN: i16 = 10;
/// Shortest wait for a batch with `acks=1`, whatever the request says.
const LEADER_ACK_WAIT_MIN: Duration = Duration::from_secs(30);

/// Byte of a batch's attributes that holds the codec and the flags: the lower half of an i16 at 21.
const ATTRIBUTES_BYTE: usize = 22;
const CODEC_MASK: u8 = 0b111;
const CODEC_ZSTD: u8 = 4;
const TRANSACTIONAL_BIT: u8 = 1 << 4;

/// What became of one partition of the request, so far.
enum Part<F = PendingAppend> {
    Refused(Refusal),
    Pending(F),
}

/// Why one partition is answered with an error.
#[derive(Debug, Clone)]
struct Refusal {
    code: ResponseError,
    message: Option<String>,
    record_errors: Vec<broker::RecordError>,
}

type PartResult = Result<Appended, Refusal>;

/// Where an answer goes: the request's topics and partitions, in its order.
struct Place {
    topic: TopicKey,
    partitions: Vec<(i32, Option<PartitionId>)>,
}

/// Begins a produce whose client is told to wait so long afterwards.
pub(super) async fn begin(
    context: &Context,
    call: Call,
    request: ProduceRequest,
    throttle_ms: i32,
) -> Begun {
    let acks = match request.acks {
        0 => RequiredAcks::None,
        1 => RequiredAcks::Leader,
        -1 => RequiredAcks::All,
        _ => return refuse_all(call, request, ResponseError::InvalidRequiredAcks),
    };
    if request.transactional_id.is_some() {
        return refuse_all(
            call,
            request,
            ResponseError::TransactionalIdAuthorizationFailed,
        );
    }
    let mut wait = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    if acks != RequiredAcks::All {
        wait = wait.max(LEADER_ACK_WAIT_MIN);
    }
    let deadline = Instant::now() + wait;

    let mut places = Vec::with_capacity(request.topic_data.len());
    let mut parts = Vec::new();
    for topic in request.topic_data {
        let key = topic_key(call.version, &topic);
        let mut place = Place {
            topic: key,
            partitions: Vec::with_capacity(topic.partition_data.len()),
        };
        for data in topic.partition_data {
            let index = data.index;
            let found = mapping::find_partition(&context.broker.catalogue(), &place.topic, index);
            place.partitions.push((index, found.ok()));
            parts.push(match found {
                Ok(partition) => append(context, call, partition, data, acks, deadline).await,
                Err(code) => Part::Refused(Refusal::plain(code)),
            });
        }
        places.push(place);
    }

    let broker = context.broker.clone();
    let listener_name = context.listener_name.clone();
    Begun::Pending(Box::pin(async move {
        let results = finish(parts, deadline).await;
        if acks == RequiredAcks::None {
            return match results.iter().any(Result::is_err) {
                true => Outcome::Close,
                false => Outcome::Silent,
            };
        }
        let mut response =
            respond(call.version, &places, results).with_throttle_time_ms(throttle_ms);
        if call.version >= LEADER_VERSION_MIN {
            name_leaders(&broker, &listener_name, &places, &mut response);
        }
        call.answer(&response)
    }))
}

fn topic_key(version: i16, topic: &TopicProduceData) -> TopicKey {
    if version >= TOPIC_ID_VERSION_MIN {
        TopicKey::Id(TopicId(*topic.topic_id.as_bytes()))
    } else {
        TopicKey::Name(topic.name.clone())
    }
}

/// Fixes the place of one batch in the order of its partition.
async fn append(
    context: &Context,
    call: Call,
    partition: PartitionId,
    data: PartitionProduceData,
    acks: RequiredAcks,
    deadline: Instant,
) -> Part {
    let batch = match checked_batch(call.version, data.records) {
        Ok(batch) => batch,
        Err(refusal) => return Part::Refused(refusal),
    };
    // Dropping the append half-way leaves its outcome unknown, which is what a time-out says.
    match timeout_at(deadline, context.broker.append(partition, batch, acks)).await {
        Ok(Ok(pending)) => Part::Pending(pending),
        Ok(Err(refused)) => Part::Refused(Refusal::of(refused)),
        Err(_) => Part::Refused(Refusal::plain(ResponseError::RequestTimedOut)),
    }
}

/// What only this layer can say about a batch: whether this version may carry it.
fn checked_batch(version: i16, records: Option<Bytes>) -> Result<Bytes, Refusal> {
    let Some(batch) = records.filter(|records| !records.is_empty()) else {
        let message = "a produce request must have exactly one record batch per partition";
        return Err(Refusal {
            code: ResponseError::InvalidRecord,
            message: Some(message.to_owned()),
            record_errors: Vec::new(),
        });
    };
    // A batch that is too short to have attributes is found corrupt by the broker.
    let attributes = batch.get(ATTRIBUTES_BYTE).copied().unwrap_or(0);
    if attributes & CODEC_MASK == CODEC_ZSTD && version < ZSTD_VERSION_MIN {
        return Err(Refusal::of(AppendError::UnsupportedCompression));
    }
    if attributes & TRANSACTIONAL_BIT != 0 {
        return Err(Refusal::plain(
            ResponseError::TransactionalIdAuthorizationFailed,
        ));
    }
    Ok(batch)
}

/// Awaits every batch; what is not done at the deadline has timed out.
async fn finish<F>(parts: Vec<Part<F>>, deadline: Instant) -> Vec<PartResult>
where
    F: Future<Output = Result<Appended, AppendError>>,
{
    let timed_out = || Err(Refusal::plain(ResponseError::RequestTimedOut));
    let mut results: Vec<PartResult> = Vec::with_capacity(parts.len());
    let mut pending = FuturesUnordered::new();
    for (place, part) in parts.into_iter().enumerate() {
        match part {
            Part::Refused(refusal) => results.push(Err(refusal)),
            Part::Pending(append) => {
                results.push(timed_out());
                pending.push(async move { (place, append.await) });
            }
        }
    }
    let all = async {
        while let Some((place, result)) = pending.next().await {
            results[place] = result.map_err(Refusal::of);
        }
    };
    if timeout_at(deadline, all).await.is_err() {
        debug!("a produce was not done in time");
    }
    results
}

fn respond(version: i16, places: &[Place], results: Vec<PartResult>) -> ProduceResponse {
    let mut results = results.into_iter();
    let topics = places.iter().map(|place| {
        let partitions = place.partitions.iter().zip(&mut results);
        let partitions = partitions.map(|((index, _), result)| partition(version, *index, result));
        topic_response(&place.topic, partitions.collect())
    });
    ProduceResponse::default().with_responses(topics.collect())
}

fn topic_response(
    key: &TopicKey,
    partitions: Vec<PartitionProduceResponse>,
) -> TopicProduceResponse {
    let response = TopicProduceResponse::default().with_partition_responses(partitions);
    match key {
        TopicKey::Name(name) => response.with_name(name.clone()),
        TopicKey::Id(id) => response.with_topic_id(mapping::wire_topic_id(*id)),
    }
}

fn partition(version: i16, index: i32, result: PartResult) -> PartitionProduceResponse {
    let response = PartitionProduceResponse::default().with_index(index);
    match result {
        Ok(appended) => response
            .with_base_offset(appended.base_offset.0)
            .with_log_append_time_ms(appended.log_append_time_ms.unwrap_or(-1))
            .with_log_start_offset(appended.log_start_offset.0),
        Err(refusal) => {
            let response = response
                .with_error_code(refusal.code.code())
                .with_base_offset(-1)
                .with_log_append_time_ms(-1)
                .with_log_start_offset(-1);
            if version < 8 {
                return response;
            }
            let record_errors = refusal.record_errors.into_iter().map(|error| {
                BatchIndexAndErrorMessage::default()
                    .with_batch_index(error.batch_index)
                    .with_batch_index_error_message(Some(mapping::text(error.message)))
            });
            response
                .with_record_errors(record_errors.collect())
                .with_error_message(refusal.message.map(mapping::text))
        }
    }
}

/// KIP-951: says who leads the partitions that were refused over that, and where they are.
fn name_leaders(
    broker: &broker::Broker,
    listener: &str,
    places: &[Place],
    response: &mut ProduceResponse,
) {
    for (place, topic) in places.iter().zip(&mut response.responses) {
        for ((_, found), told) in place.partitions.iter().zip(&mut topic.partition_responses) {
            let Some((at, epoch)) = leader_hint(broker, listener, *found, told.error_code) else {
                continue;
            };
            told.current_leader = LeaderIdAndEpoch::default()
                .with_leader_id(at.id)
                .with_leader_epoch(epoch.0);
            if !response
                .node_endpoints
                .iter()
                .any(|known| known.node_id == at.id)
            {
                response.node_endpoints.push(
                    NodeEndpoint::default()
                        .with_node_id(at.id)
                        .with_host(at.host)
                        .with_port(at.port)
                        .with_rack(at.rack),
                );
            }
        }
    }
}

/// Refuses every partition of a request alike.
fn refuse_all(call: Call, request: ProduceRequest, code: ResponseError) -> Begun {
    if request.acks == 0 {
        return Begun::Done(Outcome::Close);
    }
    let topics = request.topic_data.iter().map(|topic| {
        let partitions = topic.partition_data.iter();
        let refused =
            partitions.map(|data| partition(call.version, data.index, Err(Refusal::plain(code))));
        topic_response(&topic_key(call.version, topic), refused.collect())
    });
    let response = ProduceResponse::default().with_responses(topics.collect());
    Begun::Done(call.answer(&response))
}

impl Refusal {
    fn plain(code: ResponseError) -> Refusal {
        Refusal {
            code,
            message: None,
            record_errors: Vec::new(),
        }
    }

    fn of(error: AppendError) -> Refusal {
        let code = mapping::append_error_code(&error);
        let message = match &error {
            // Said by the code; clients do better with their own words.
            AppendError::Broker(BrokerError::NotLeader { .. }) => None,
            _ => Some(error.to_string()),
        };
        let record_errors = match error {
            AppendError::InvalidRecord { records, .. }
            | AppendError::InvalidTimestamp { records, .. } => records,
            _ => Vec::new(),
        };
        Refusal {
            code,
            message,
            record_errors,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api_versions::ApiSpec;
    use kafka_protocol::messages::{TopicName, TransactionalId};
    use kafka_protocol::protocol::{Decodable, StrBytes};

    fn batch(attributes: u8) -> Bytes {
        let mut batch = vec![0; 61];
        batch[ATTRIBUTES_BYTE] = attributes;
        Bytes::from(batch)
    }

    fn refusal(version: i16, records: Option<Bytes>) -> Option<ResponseError> {
        checked_batch(version, records)
            .err()
            .map(|refusal| refusal.code)
    }

    #[test]
    fn zstd_is_refused_before_version_7() {
        let refused = Some(ResponseError::UnsupportedCompressionType);
        assert_eq!(refusal(6, Some(batch(CODEC_ZSTD))), refused);
        assert_eq!(refusal(7, Some(batch(CODEC_ZSTD))), None);
        assert_eq!(refusal(3, Some(batch(3))), None);
    }

    #[test]
    fn transactional_batches_are_refused() {
        let refused = Some(ResponseError::TransactionalIdAuthorizationFailed);
        assert_eq!(refusal(9, Some(batch(TRANSACTIONAL_BIT))), refused);
    }

    #[test]
    fn a_partition_without_records_is_refused() {
        let refused = Some(ResponseError::InvalidRecord);
        assert_eq!(refusal(9, None), refused);
        assert_eq!(refusal(9, Some(Bytes::new())), refused);
        assert_eq!(
            refusal(9, Some(Bytes::from_static(b"short"))),
            None,
            "left to the broker"
        );
    }

    #[tokio::test]
    async fn what_is_not_done_in_time_has_timed_out_and_the_rest_has_not() {
        let done = Appended {
            base_offset: storage::Offset(4),
            log_append_time_ms: None,
            log_start_offset: storage::Offset(0),
        };
        let appends = [futures_util::future::Either::Left(std::future::ready(Ok(
            done,
        )))];
        let never = futures_util::future::Either::Right(std::future::pending());
        let parts = vec![
            Part::Pending(never),
            Part::Refused(Refusal::plain(ResponseError::UnknownTopicId)),
        ];
        let parts = parts
            .into_iter()
            .chain(appends.map(Part::Pending))
            .collect();
        let results = finish(parts, Instant::now() + Duration::from_millis(20)).await;
        let results: Vec<_> = results
            .into_iter()
            .map(|result| {
                result
                    .map(|done| done.base_offset.0)
                    .map_err(|refusal| refusal.code)
            })
            .collect();
        let timed_out = Err(ResponseError::RequestTimedOut);
        assert_eq!(
            results,
            [timed_out, Err(ResponseError::UnknownTopicId), Ok(4)]
        );
    }

    fn request(acks: i16) -> ProduceRequest {
        let partition = |index| PartitionProduceData::default().with_index(index);
        ProduceRequest::default()
            .with_acks(acks)
            .with_topic_data(vec![
                TopicProduceData::default()
                    .with_name(TopicName(StrBytes::from_static_str("t")))
                    .with_partition_data(vec![partition(0), partition(0), partition(5)]),
            ])
    }

    fn answered(version: i16, begun: Begun) -> ProduceResponse {
        let Begun::Done(Outcome::Answer(frame)) = begun else {
            panic!("not answered")
        };
        let mut body = Bytes::from(frame.concat()).split_off(if version >= 9 { 9 } else { 8 });
        let response = ProduceResponse::decode(&mut body, version).unwrap();
        assert!(body.is_empty());
        response
    }

    #[test]
    fn a_refused_request_names_every_partition_in_every_version() {
        for version in 3..=13 {
            let call = Call {
                spec: ApiSpec::of_key(0).unwrap(),
                version,
                correlation_id: 1,
            };
            let code = ResponseError::InvalidRequiredAcks;
            let response = answered(version, refuse_all(call, request(2), code));
            let told = &response.responses[0].partition_responses;
            let told: Vec<_> = told
                .iter()
                .map(|p| (p.index, p.error_code, p.base_offset))
                .collect();
            assert_eq!(
                told,
                [(0, 21, -1), (0, 21, -1), (5, 21, -1)],
                "version {version}"
            );
        }
    }

    #[test]
    fn a_refused_request_without_acks_closes_the_connection() {
        let call = Call {
            spec: ApiSpec::of_key(0).unwrap(),
            version: 9,
            correlation_id: 1,
        };
        let request =
            request(0).with_transactional_id(Some(TransactionalId(StrBytes::from_static_str("x"))));
        let begun = refuse_all(
            call,
            request,
            ResponseError::TransactionalIdAuthorizationFailed,
        );
        assert!(matches!(begun, Begun::Done(Outcome::Close)));
    }

    #[test]
    fn record_errors_are_told_from_version_8_on() {
        let error = AppendError::InvalidRecord {
            message: "no key".to_owned(),
            records: vec![broker::RecordError {
                batch_index: 3,
                message: "no key".to_owned(),
            }],
        };
        let told = partition(8, 0, Err(Refusal::of(error.clone())));
        assert_eq!(told.error_code, 87);
        assert_eq!(told.record_errors[0].batch_index, 3);
        assert_eq!(told.error_message.unwrap().as_str(), error.to_string());
        let told = partition(7, 0, Err(Refusal::of(error)));
        assert!(told.record_errors.is_empty() && told.error_message.is_none());
    }
}

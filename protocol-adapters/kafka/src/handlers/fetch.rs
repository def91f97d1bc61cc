//! Fetch, key 1, versions 4–17; KIP-74 (sizes), KIP-227 (sessions, 7), KIP-320 (leader epochs),
//! KIP-392 (racks, 11), KIP-516 (topic ids, 13), KIP-951 (the new leader in the answer).
//!
//! - A fetch of a session reads all of the session's partitions and tells those with news.
//! - It is looked up in its session when the fetch before it on this connection is answered, so that
//!   fetches that were sent ahead find the session as they expect it.
//! - A fetch waits in the broker, not here; it ends when the connection does, and is cut short when
//!   the server stops. With an error in any partition it does not wait.
//! - From version 11 on a follower answers as well, and a leader in another rack than the client
//!   may name a replica in its rack to read from; before that leaders alone answer.
//! - Who has used more than its quota is answered with nothing and told to wait; its session goes on.
//! - Nobody replicates by fetching: a fetch that says it comes from a replica is refused.
//! - Versions before 10 cannot carry zstd (KIP-110).

use std::collections::{HashMap, HashSet};

use broker::{
    Broker, BrokerError, ByteBudget, ByteShare, FetchPartition, FetchRequest, FetchedPartition,
    Isolation,
};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchTopic, ForgottenTopic};
use kafka_protocol::messages::{FetchRequest as WireRequest, TopicName};
use listener::Stop;
use storage::{Offset, PartitionId, TopicId};

use super::fetch_response::{FetchAnswer, PartitionAnswer, PartitionRecords};
use super::quotas::FetchMeter;
use super::{Begun, Call, Context, leader_hint};
use crate::budget;
use crate::fetch_sessions::{
    Ask, Continuity, EPOCH_FIRST, EPOCH_LAST, Ends, FetchSessions, News, PartitionKey, SessionName,
    Wanted,
};
use crate::mapping::{self, Surface, TopicKey};
use crate::session::Outcome;

/// First version that names topics by id.
const TOPIC_ID_VERSION_MIN: i16 = 13;
/// First version that may carry zstd.
const ZSTD_VERSION_MIN: i16 = 10;
/// First version whose client knows of replicas to read from.
const RACK_VERSION_MIN: i16 = 11;
/// First version that says in a tagged field which replica it comes from.
const REPLICA_STATE_VERSION_MIN: i16 = 15;
/// Byte of a batch's attributes that holds the codec, and its values.
const ATTRIBUTES_BYTE: usize = 22;
const CODEC_MASK: u8 = 0b111;
const CODEC_ZSTD: u8 = 4;

/// What a fetch needs of its connection and its node.
struct Reader {
    broker: Broker,
    listener_name: String,
    bytes_max: usize,
    reads: ByteBudget,
    sessions: FetchSessions,
    stop: Stop,
    meter: FetchMeter,
}

/// What a fetch comes to.
enum Fetched {
    /// This, with the room that its records take.
    Answer(FetchAnswer, ByteShare),
    /// Nothing, since its client is over its quota: uses nothing of it.
    Throttled(FetchAnswer),
}

/// Partitions as a request names them, where they are.
type Found = Vec<Result<PartitionId, ResponseError>>;
/// What the broker says of those that were found, in their order.
type Results = Vec<(PartitionId, Result<FetchedPartition, BrokerError>)>;

pub(super) fn begin(
    context: &Context,
    call: Call,
    meter: FetchMeter,
    request: WireRequest,
) -> Begun {
    if is_from_replica(call.version, &request) {
        return Begun::Done(meter.charge(call, refuse_replica(call, request)));
    }
    let reader = Reader {
        broker: context.broker.clone(),
        listener_name: context.listener_name.clone(),
        bytes_max: context.fetch_bytes_max,
        reads: context.reads.clone(),
        sessions: context.fetch_sessions.clone(),
        stop: context.stop.clone(),
        meter: meter.clone(),
    };
    Begun::PendingFetch(Box::pin(async move {
        match reader.answer(call.version, request).await {
            Ok(Fetched::Answer(answer, share)) => (meter.charge(call, answer.encode(call)), share),
            Ok(Fetched::Throttled(answer)) => (answer.encode(call), ByteShare::default()),
            Err(error) => {
                let failed = FetchAnswer::failed(error).encode(call);
                (meter.charge(call, failed), ByteShare::default())
            }
        }
    }))
}

/// Whether a broker asks, or somebody in its name. Consumers say -1, debugging ones -2.
fn is_from_replica(version: i16, request: &WireRequest) -> bool {
    match version >= REPLICA_STATE_VERSION_MIN {
        true => request.replica_state.replica_id.0 >= 0,
        false => request.replica_id.0 >= 0,
    }
}

/// Refuses every partition, as Kafka does to a client that is no broker. It gets no session either.
fn refuse_replica(call: Call, request: WireRequest) -> Outcome {
    if ![EPOCH_FIRST, EPOCH_LAST].contains(&request.session_epoch) {
        return FetchAnswer::failed(ResponseError::FetchSessionIdNotFound).encode(call);
    }
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| PartitionAnswer {
            index: asked.partition,
            result: Err(ResponseError::TopicAuthorizationFailed),
            current_leader: None,
        });
        let partitions = partitions.collect();
        let key = topic_key(call.version, topic.topic, topic.topic_id.as_bytes());
        (key, partitions)
    });
    FetchAnswer {
        topics: topics.collect(),
        ..FetchAnswer::default()
    }
    .encode(call)
}

fn topic_key(version: i16, name: TopicName, id: &[u8; 16]) -> TopicKey {
    match version >= TOPIC_ID_VERSION_MIN {
        true => TopicKey::Id(TopicId(*id)),
        false => TopicKey::Name(name),
    }
}

/// The partitions that a request names, in its order.
fn wanted(version: i16, topics: Vec<FetchTopic>) -> Vec<Wanted> {
    let of_topic = |topic: FetchTopic| {
        let key = topic_key(version, topic.topic, topic.topic_id.as_bytes());
        topic.partitions.into_iter().map(move |asked| Wanted {
            key: PartitionKey {
                topic: key.clone(),
                index: asked.partition,
            },
            ask: Ask {
                offset: asked.fetch_offset,
                current_leader_epoch: asked.current_leader_epoch,
                last_fetched_epoch: asked.last_fetched_epoch,
                bytes_max: asked.partition_max_bytes,
            },
        })
    };
    topics.into_iter().flat_map(of_topic).collect()
}

/// The partitions that a request's session shall forget.
fn forgotten(version: i16, topics: Vec<ForgottenTopic>) -> Vec<PartitionKey> {
    let of_topic = |topic: ForgottenTopic| {
        let key = topic_key(version, topic.topic, topic.topic_id.as_bytes());
        topic.partitions.into_iter().map(move |index| PartitionKey {
            topic: key.clone(),
            index,
        })
    };
    topics.into_iter().flat_map(of_topic).collect()
}

impl Reader {
    /// Answers a fetch; an error is one of the whole fetch.
    async fn answer(
        mut self,
        version: i16,
        mut request: WireRequest,
    ) -> Result<Fetched, ResponseError> {
        let name = SessionName {
            id: request.session_id,
            epoch: request.session_epoch,
            by_id: version >= TOPIC_ID_VERSION_MIN,
        };
        let topics = std::mem::take(&mut request.topics);
        let forget = std::mem::take(&mut request.forgotten_topics_data);
        let (wanted, continuity) = self.sessions.open(
            name,
            wanted(version, topics),
            &forgotten(version, forget),
            self.broker.clock().monotonic_ms(),
        )?;
        if let Some(told_ms) = self.meter.refuse() {
            return Ok(self.throttled(continuity, told_ms));
        }
        let (found, fetch) = self.plan(version, &request, &wanted);
        let read_committed = fetch.isolation == Isolation::ReadCommitted;
        let (results, share) = self.read(fetch).await;
        // Others of the same client have read meanwhile.
        if let Some(told_ms) = self.meter.refuse() {
            return Ok(self.throttled(continuity, told_ms));
        }
        let mut partitions = respond(version, read_committed, &wanted, &found, results);
        let endpoints = self.name_leaders(&mut partitions, &found);
        let news: Vec<News> = partitions.iter().map(news).collect();
        let now_ms = self.broker.clock().monotonic_ms();
        let (session_id, told) = continuity.finish(&wanted, &news, now_ms);
        let partitions = wanted.into_iter().zip(partitions).zip(told);
        let partitions = partitions
            .filter_map(|((wanted, answer), told)| told.then_some((wanted.key.topic, answer)));
        let answer = FetchAnswer {
            session_id,
            topics: by_topic(partitions),
            endpoints,
            ..FetchAnswer::default()
        };
        Ok(Fetched::Answer(answer, share))
    }

    /// Nothing is told, and a session goes on as if nothing had been found; none begins.
    fn throttled(&self, continuity: Continuity, told_ms: i32) -> Fetched {
        let now_ms = self.broker.clock().monotonic_ms();
        Fetched::Throttled(FetchAnswer {
            throttle_ms: told_ms,
            session_id: continuity.postpone(now_ms),
            ..FetchAnswer::default()
        })
    }

    /// What to ask the broker for.
    fn plan(
        &self,
        version: i16,
        request: &WireRequest,
        wanted: &[Wanted],
    ) -> (Found, FetchRequest) {
        let catalogue = self.broker.catalogue();
        let bytes = |bytes: i32| usize::try_from(bytes).unwrap_or(0);
        let bytes_max = bytes(request.max_bytes).min(self.bytes_max);
        let bytes_max = bytes_max.min(self.meter.bytes_max());
        let mut seen = HashSet::with_capacity(wanted.len());
        let mut partitions = Vec::with_capacity(wanted.len());
        let mut found = Vec::with_capacity(wanted.len());
        for Wanted { key, ask } in wanted {
            let partition = mapping::find_partition(&catalogue, &key.topic, key.index);
            let partition = partition.and_then(|partition| match seen.insert(partition) {
                true => Ok(partition),
                false => Err(ResponseError::InvalidRequest),
            });
            found.push(partition);
            if let Ok(partition) = partition {
                partitions.push(FetchPartition {
                    partition,
                    offset: Offset(ask.offset),
                    current_leader_epoch: mapping::known_epoch(ask.current_leader_epoch),
                    last_fetched_epoch: mapping::known_epoch(ask.last_fetched_epoch),
                    bytes_max: bytes(ask.bytes_max),
                });
            }
        }
        let at_once = partitions.is_empty() || partitions.len() < found.len();
        let fetch = FetchRequest {
            partitions,
            bytes_min: bytes(request.min_bytes).min(bytes_max),
            bytes_max,
            wait_ms_max: if at_once {
                0
            } else {
                i64::from(request.max_wait_ms.max(0))
            },
            isolation: match request.isolation_level {
                1 => Isolation::ReadCommitted,
                _ => Isolation::ReadUncommitted,
            },
            client_rack: (version >= RACK_VERSION_MIN).then(|| request.rack_id.to_string()),
        };
        (found, fetch)
    }

    async fn read(&mut self, fetch: FetchRequest) -> (Results, ByteShare) {
        tokio::select! {
            fetched = self.broker.fetch_within(fetch.clone(), &self.reads) => fetched,
            // Nothing is lost by asking again without waiting: reading changes nothing. A little
            // needs no room.
            () = self.stop.requested() => {
                let bytes_max = fetch.bytes_max.min(budget::FREE_BYTES);
                let at_once = FetchRequest { wait_ms_max: 0, bytes_max, ..fetch };
                (self.broker.fetch(at_once).await, ByteShare::default())
            }
        }
    }

    /// KIP-951: says who leads the partitions that were refused over that; gives where they are.
    fn name_leaders(
        &self,
        partitions: &mut [PartitionAnswer],
        found: &Found,
    ) -> Vec<mapping::Endpoint> {
        let mut endpoints = Vec::new();
        for (told, found) in partitions.iter_mut().zip(found) {
            let error_code = told.result.as_ref().err().map_or(0, ResponseError::code);
            let hint = leader_hint(&self.broker, &self.listener_name, found.ok(), error_code);
            let Some((at, epoch)) = hint else {
                continue;
            };
            told.current_leader = Some((at.id.0, epoch));
            if !endpoints.contains(&at) {
                endpoints.push(at);
            }
        }
        endpoints
    }
}

/// What is told of each partition if it is told.
fn respond(
    version: i16,
    read_committed: bool,
    wanted: &[Wanted],
    found: &Found,
    results: Results,
) -> Vec<PartitionAnswer> {
    let mut results = results.into_iter();
    let answers = wanted.iter().zip(found).map(|(wanted, found)| {
        let result = found.and_then(|asked| {
            let (partition, result) = results.next().expect("one result a partition");
            assert_eq!(partition, asked, "results come in the order of the request");
            let by_name = matches!(wanted.key.topic, TopicKey::Name(_));
            match result {
                Ok(fetched) => records(version, read_committed, fetched),
                // Deleted while it was waited for: who asked by name knows of no id.
                Err(BrokerError::UnknownTopicId) if by_name => {
                    let error = BrokerError::UnknownTopicOrPartition;
                    Err(mapping::error_code(&error, Surface::Fetch))
                }
                Err(error) => Err(mapping::error_code(&error, Surface::Fetch)),
            }
        });
        PartitionAnswer {
            index: wanted.key.index,
            result,
            current_leader: None,
        }
    });
    answers.collect()
}

/// What of an answer makes it one that must be told.
fn news(answer: &PartitionAnswer) -> News {
    match &answer.result {
        Err(_) => News::Error,
        Ok(records) => News::Read {
            ends: Ends {
                high_watermark: records.high_watermark.0,
                last_stable_offset: records.last_stable_offset.0,
                log_start: records.log_start.0,
            },
            has_records: records.batches.iter().any(|batches| !batches.is_empty()),
            has_advice: records.diverging.is_some() || records.preferred_replica.is_some(),
        },
    }
}

/// Puts partitions of one topic together: a session reads them in any order.
fn by_topic(
    partitions: impl Iterator<Item = (TopicKey, PartitionAnswer)>,
) -> Vec<(TopicKey, Vec<PartitionAnswer>)> {
    let mut topics: Vec<(TopicKey, Vec<PartitionAnswer>)> = Vec::new();
    let mut places = HashMap::new();
    for (topic, answer) in partitions {
        let place = match topics.last() {
            Some((last, _)) if *last == topic => topics.len() - 1,
            _ => *places.entry(topic.clone()).or_insert(topics.len()),
        };
        match topics.get_mut(place) {
            Some((_, answers)) => answers.push(answer),
            None => topics.push((topic, vec![answer])),
        }
    }
    topics
}

fn records(
    version: i16,
    read_committed: bool,
    fetched: FetchedPartition,
) -> Result<PartitionRecords, ResponseError> {
    if version < ZSTD_VERSION_MIN && fetched.batches.iter().any(holds_zstd) {
        return Err(ResponseError::UnsupportedCompressionType);
    }
    Ok(PartitionRecords {
        high_watermark: fetched.high_watermark,
        last_stable_offset: fetched.last_stable_offset,
        log_start: fetched.log_start,
        diverging: fetched.diverging,
        preferred_replica: fetched.preferred_read_replica,
        batches: fetched.batches,
        read_committed,
    })
}

/// Whether one of these back-to-back batches is compressed with zstd.
fn holds_zstd(batches: &bytes::Bytes) -> bool {
    let mut rest = &batches[..];
    while let Some(attributes) = rest.get(ATTRIBUTES_BYTE) {
        if attributes & CODEC_MASK == CODEC_ZSTD {
            return true;
        }
        // The length at byte 8 counts what follows it.
        let length = [rest[8], rest[9], rest[10], rest[11]];
        let next = usize::try_from(i32::from_be_bytes(length)).unwrap_or(usize::MAX);
        rest = rest.get(next.saturating_add(12)..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn batch(codec: u8, payload: usize) -> Vec<u8> {
        let mut batch = vec![0xff; 61 + payload];
        let length = i32::try_from(batch.len() - 12).unwrap();
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[ATTRIBUTES_BYTE] = codec;
        batch
    }

    #[test]
    fn zstd_is_found_in_any_of_several_batches() {
        let plain = [batch(3, 10), batch(0, 0), batch(2, 100)].concat();
        assert!(!holds_zstd(&Bytes::from(plain.clone())));
        let with = [plain, batch(CODEC_ZSTD, 5)].concat();
        assert!(holds_zstd(&Bytes::from(with)));
        assert!(!holds_zstd(&Bytes::from_static(b"short")));
    }

    #[test]
    fn zstd_is_refused_before_version_10() {
        let id = PartitionId {
            topic: TopicId([1; 16]),
            index: 0,
        };
        let fetched = || FetchedPartition {
            partition: id,
            high_watermark: Offset(1),
            last_stable_offset: Offset(1),
            log_start: Offset(0),
            batches: vec![Bytes::from(batch(CODEC_ZSTD, 5))],
            diverging: None,
            preferred_read_replica: None,
        };
        let refused = records(9, false, fetched()).err();
        assert_eq!(refused, Some(ResponseError::UnsupportedCompressionType));
        assert!(records(10, false, fetched()).is_ok());
    }
}

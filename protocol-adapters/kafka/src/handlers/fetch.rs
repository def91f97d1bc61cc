//! Fetch, key 1, versions 4–17; KIP-74 (sizes), KIP-227 (sessions), KIP-320 (leader epochs), KIP-392
//! (racks, 11), KIP-516 (topic ids, 13), KIP-951 (the new leader in the answer).
//!
//! - Every fetch is a full one and is answered with session 0. One that continues a session is told
//!   that there is no such session, upon which clients begin anew.
//! - A fetch waits in the broker, not here; it ends when the connection does, and is cut short when
//!   the server stops. With an error in any partition it does not wait.
//! - From version 11 on a follower answers as well, and a leader in another rack than the client
//!   may name a replica in its rack to read from; before that leaders alone answer.
//! - Nobody replicates by fetching: a fetch that says it comes from a replica is refused.
//! - Versions before 10 cannot carry zstd (KIP-110).

use std::collections::HashSet;

use broker::{
    Broker, BrokerError, ByteShare, FetchPartition, FetchRequest, FetchedPartition, Isolation,
};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::FetchRequest as WireRequest;
use kafka_protocol::messages::fetch_request::FetchTopic;
use storage::{Offset, PartitionId, TopicId};

use super::fetch_response::{FetchAnswer, PartitionAnswer, PartitionRecords};
use super::{Begun, Call, Context, leader_hint};
use crate::budget;
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
/// Session epochs of a fetch that continues no session: one that would begin one, and one that
/// wants none.
const FULL_FETCH_EPOCHS: [i32; 2] = [0, -1];

/// A topic of the request, with the partitions it names.
struct Place {
    topic: TopicKey,
    partitions: Vec<(i32, Result<PartitionId, ResponseError>)>,
}

pub(super) fn begin(context: &Context, call: Call, request: WireRequest) -> Begun {
    if !FULL_FETCH_EPOCHS.contains(&request.session_epoch) {
        let error = Some(ResponseError::FetchSessionIdNotFound);
        return Begun::Done(
            FetchAnswer {
                error,
                ..FetchAnswer::default()
            }
            .encode(call),
        );
    }
    if is_from_replica(call.version, &request) {
        return Begun::Done(refuse_replica(call, request));
    }
    let (places, fetch) = plan(context, call.version, request);
    let broker = context.broker.clone();
    let listener_name = context.listener_name.clone();
    let reads = context.reads.clone();
    let mut stop = context.stop.clone();
    Begun::PendingFetch(Box::pin(async move {
        let read_committed = fetch.isolation == Isolation::ReadCommitted;
        let (results, share) = tokio::select! {
            fetched = broker.fetch_within(fetch.clone(), &reads) => fetched,
            // Nothing is lost by asking again without waiting: reading changes nothing. A little
            // needs no room.
            () = stop.requested() => {
                let bytes_max = fetch.bytes_max.min(budget::FREE_BYTES);
                let at_once = FetchRequest { wait_ms_max: 0, bytes_max, ..fetch };
                (broker.fetch(at_once).await, ByteShare::default())
            }
        };
        let mut answer = respond(call.version, read_committed, places, results);
        name_leaders(&broker, &listener_name, &mut answer);
        (answer.0.encode(call), share)
    }))
}

/// Whether a broker asks, or somebody in its name. Consumers say -1, debugging ones -2.
fn is_from_replica(version: i16, request: &WireRequest) -> bool {
    match version >= REPLICA_STATE_VERSION_MIN {
        true => request.replica_state.replica_id.0 >= 0,
        false => request.replica_id.0 >= 0,
    }
}

/// Refuses every partition, as Kafka does to a client that is no broker.
fn refuse_replica(call: Call, request: WireRequest) -> Outcome {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| PartitionAnswer {
            index: asked.partition,
            result: Err(ResponseError::TopicAuthorizationFailed),
            current_leader: None,
        });
        let partitions = partitions.collect();
        (topic_key(call.version, topic), partitions)
    });
    FetchAnswer {
        topics: topics.collect(),
        ..FetchAnswer::default()
    }
    .encode(call)
}

fn topic_key(version: i16, topic: FetchTopic) -> TopicKey {
    match version >= TOPIC_ID_VERSION_MIN {
        true => TopicKey::Id(TopicId(*topic.topic_id.as_bytes())),
        false => TopicKey::Name(topic.topic),
    }
}

/// What to ask the broker for, and where its answers go.
fn plan(context: &Context, version: i16, request: WireRequest) -> (Vec<Place>, FetchRequest) {
    let catalogue = context.broker.catalogue();
    let bytes = |bytes: i32| usize::try_from(bytes).unwrap_or(0);
    let bytes_max = bytes(request.max_bytes).min(context.fetch_bytes_max);
    let mut wanted = Vec::new();
    let mut places = Vec::with_capacity(request.topics.len());
    let mut any_error = false;
    let mut seen = HashSet::new();
    for mut topic in request.topics {
        let asked_partitions = std::mem::take(&mut topic.partitions);
        let key = topic_key(version, topic);
        let mut partitions = Vec::with_capacity(asked_partitions.len());
        for asked in asked_partitions {
            let found =
                mapping::find_partition(&catalogue, &key, asked.partition).and_then(|partition| {
                    match seen.insert(partition) {
                        true => Ok(partition),
                        false => Err(ResponseError::InvalidRequest),
                    }
                });
            any_error |= found.is_err();
            if let Ok(partition) = found {
                wanted.push(FetchPartition {
                    partition,
                    offset: Offset(asked.fetch_offset),
                    current_leader_epoch: mapping::known_epoch(asked.current_leader_epoch),
                    last_fetched_epoch: mapping::known_epoch(asked.last_fetched_epoch),
                    bytes_max: bytes(asked.partition_max_bytes),
                });
            }
            partitions.push((asked.partition, found));
        }
        places.push(Place {
            topic: key,
            partitions,
        });
    }
    let at_once = any_error || wanted.is_empty();
    let fetch = FetchRequest {
        partitions: wanted,
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
    (places, fetch)
}

/// The answer, and the partitions it is about, place by place.
type Answer = (FetchAnswer, Vec<Vec<Option<PartitionId>>>);

fn respond(
    version: i16,
    read_committed: bool,
    places: Vec<Place>,
    results: Vec<(PartitionId, Result<FetchedPartition, BrokerError>)>,
) -> Answer {
    let mut results = results.into_iter();
    let mut found = Vec::with_capacity(places.len());
    let mut topics = Vec::with_capacity(places.len());
    for place in places {
        found.push(
            place
                .partitions
                .iter()
                .map(|(_, found)| found.ok())
                .collect(),
        );
        let by_name = matches!(place.topic, TopicKey::Name(_));
        let partitions = place.partitions.into_iter().map(|(index, found)| {
            let result = found.and_then(|asked| {
                let (partition, result) = results.next().expect("one result a partition");
                assert_eq!(partition, asked, "results come in the order of the request");
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
                index,
                result,
                current_leader: None,
            }
        });
        topics.push((place.topic, partitions.collect()));
    }
    (
        FetchAnswer {
            topics,
            ..FetchAnswer::default()
        },
        found,
    )
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

/// KIP-951: says who leads the partitions that were refused over that, and where they are.
fn name_leaders(broker: &Broker, listener: &str, (answer, found): &mut Answer) {
    for ((_, partitions), found) in answer.topics.iter_mut().zip(found) {
        for (told, found) in partitions.iter_mut().zip(found) {
            let error_code = told.result.as_ref().err().map_or(0, ResponseError::code);
            let Some((at, epoch)) = leader_hint(broker, listener, *found, error_code) else {
                continue;
            };
            told.current_leader = Some((at.id.0, epoch));
            if !answer.endpoints.contains(&at) {
                answer.endpoints.push(at);
            }
        }
    }
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

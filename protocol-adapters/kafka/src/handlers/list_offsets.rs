//! ListOffsets, key 2, versions 1–10; KIP-79 (times), KIP-320 (leader epochs), KIP-734 (-3),
//! KIP-405 (-4), KIP-1005 (-5).
//!
//! A negative timestamp asks for a place in the log; each has a first version, and one that is not
//! known in the request's version is refused for its partition. A partition named twice is refused
//! as Kafka does. Tiering does not exist, so `timeout_ms` (10) has nothing to limit.

use std::collections::HashSet;

use broker::{FoundOffset, Isolation, OffsetQuery};
use futures_util::future::join_all;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse, TopicName};

use super::{Context, LOOKUPS_AT_ONCE};
use crate::mapping::{self, Surface, TopicKey};

pub(super) async fn handle(
    context: &Context,
    version: i16,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let isolation = match request.isolation_level {
        1 => Isolation::ReadCommitted,
        _ => Isolation::ReadUncommitted,
    };
    let twice = named_twice(&request);
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let key = TopicKey::Name(topic.name.clone());
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for some in topic.partitions.chunks(LOOKUPS_AT_ONCE) {
            let lookups = some.iter().map(|asked| {
                let is_twice = twice.contains(&(topic.name.clone(), asked.partition_index));
                answer(context, version, &key, asked, isolation, is_twice)
            });
            partitions.extend(join_all(lookups).await);
        }
        topics.push(
            ListOffsetsTopicResponse::default()
                .with_name(topic.name)
                .with_partitions(partitions),
        );
    }
    ListOffsetsResponse::default().with_topics(topics)
}

async fn answer(
    context: &Context,
    version: i16,
    topic: &TopicKey,
    asked: &ListOffsetsPartition,
    isolation: Isolation,
    is_twice: bool,
) -> ListOffsetsPartitionResponse {
    let result = match is_twice {
        true => Err(ResponseError::InvalidRequest),
        false => look_up(context, version, topic, asked, isolation).await,
    };
    respond(version, asked.partition_index, result)
}

async fn look_up(
    context: &Context,
    version: i16,
    topic: &TopicKey,
    asked: &ListOffsetsPartition,
    isolation: Isolation,
) -> Result<FoundOffset, ResponseError> {
    let query = query(version, asked.timestamp).ok_or(ResponseError::UnsupportedVersion)?;
    let catalogue = context.broker.catalogue();
    let partition = mapping::find_partition(&catalogue, topic, asked.partition_index)?;
    let epoch = mapping::known_epoch(asked.current_leader_epoch);
    context
        .broker
        .list_offset(partition, query, isolation, epoch)
        .await
        .map_err(|error| mapping::error_code(&error, Surface::Partition))
}

/// What a timestamp asks for; `None` when this version does not know it.
fn query(version: i16, timestamp: i64) -> Option<OffsetQuery> {
    let (first_version, query) = match timestamp {
        -1 => (1, OffsetQuery::Latest),
        -2 => (1, OffsetQuery::Earliest),
        -3 => (7, OffsetQuery::MaxTimestamp),
        -4 => (8, OffsetQuery::EarliestLocal),
        -5 => (9, OffsetQuery::LatestTiered),
        0.. => (1, OffsetQuery::AtTimestamp(timestamp)),
        _ => return None,
    };
    (version >= first_version).then_some(query)
}

fn respond(
    version: i16,
    index: i32,
    result: Result<FoundOffset, ResponseError>,
) -> ListOffsetsPartitionResponse {
    let response = ListOffsetsPartitionResponse::default().with_partition_index(index);
    match result {
        Ok(found) => {
            let epoch = found.leader_epoch.map_or(-1, |epoch| epoch.0);
            response
                .with_timestamp(found.timestamp_ms.unwrap_or(-1))
                .with_offset(found.offset.map_or(-1, |offset| offset.0))
                .with_leader_epoch(if version >= 4 { epoch } else { -1 })
        }
        Err(error) => response
            .with_error_code(error.code())
            .with_timestamp(-1)
            .with_offset(-1),
    }
}

fn named_twice(request: &ListOffsetsRequest) -> HashSet<(TopicName, i32)> {
    let mut seen = HashSet::new();
    let mut twice = HashSet::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let named = (topic.name.clone(), partition.partition_index);
            if !seen.insert(named.clone()) {
                twice.insert(named);
            }
        }
    }
    twice
}

#[cfg(test)]
mod tests {
    use kafka_protocol::protocol::StrBytes;

    use super::*;

    #[test]
    fn each_sentinel_is_known_from_its_version_on() {
        let first = |timestamp| (1..=10).find(|version| query(*version, timestamp).is_some());
        assert_eq!(first(-1), Some(1));
        assert_eq!(first(-2), Some(1));
        assert_eq!(first(-3), Some(7));
        assert_eq!(first(-4), Some(8));
        assert_eq!(first(-5), Some(9));
        assert_eq!(first(-6), None, "KIP-1023 is version 11");
        assert_eq!(first(i64::MIN), None);
        assert_eq!(query(1, 0), Some(OffsetQuery::AtTimestamp(0)));
        assert_eq!(query(9, -5), Some(OffsetQuery::LatestTiered));
    }

    #[test]
    fn nothing_found_is_told_as_minus_one() {
        let nothing = FoundOffset {
            offset: None,
            timestamp_ms: None,
            leader_epoch: None,
        };
        let told = respond(4, 2, Ok(nothing));
        assert_eq!(
            (
                told.error_code,
                told.offset,
                told.timestamp,
                told.leader_epoch
            ),
            (0, -1, -1, -1)
        );
    }

    #[test]
    fn a_partition_named_twice_is_found_across_topic_entries() {
        let partition = |index| ListOffsetsPartition::default().with_partition_index(index);
        let topic = |partitions| {
            kafka_protocol::messages::list_offsets_request::ListOffsetsTopic::default()
                .with_name(TopicName(StrBytes::from_static_str("t")))
                .with_partitions(partitions)
        };
        let request = ListOffsetsRequest::default().with_topics(vec![
            topic(vec![partition(0), partition(1)]),
            topic(vec![partition(1), partition(2)]),
        ]);
        let twice = named_twice(&request);
        assert_eq!(twice.len(), 1);
        assert!(twice.iter().all(|(_, index)| *index == 1));
    }
}

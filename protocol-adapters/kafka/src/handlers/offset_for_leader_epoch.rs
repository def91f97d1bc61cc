//! OffsetForLeaderEpoch, key 23, versions 2–4; KIP-279, KIP-320.
//!
//! Answers the largest epoch that is not above the asked one and the offset where it ends; -1 and
//! -1 when there is none.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use storage::{LeaderEpoch, Offset};

use super::Context;
use crate::mapping::{self, Surface, TopicKey};

pub(super) fn handle(
    context: &Context,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let key = TopicKey::Name(topic.topic.clone());
        let partitions = topic.partitions.iter().map(|asked| {
            let told = EpochEndOffset::default().with_partition(asked.partition);
            let (error_code, epoch, end) = match look_up(context, &key, asked) {
                Ok(Some((epoch, end))) => (0, epoch.0, end.0),
                Ok(None) => (0, -1, -1),
                Err(error) => (error.code(), -1, -1),
            };
            told.with_error_code(error_code)
                .with_leader_epoch(epoch)
                .with_end_offset(end)
        });
        let partitions = partitions.collect();
        OffsetForLeaderTopicResult::default()
            .with_topic(topic.topic)
            .with_partitions(partitions)
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}

fn look_up(
    context: &Context,
    topic: &TopicKey,
    asked: &OffsetForLeaderPartition,
) -> Result<Option<(LeaderEpoch, Offset)>, ResponseError> {
    let catalogue = context.broker.catalogue();
    let partition = mapping::find_partition(&catalogue, topic, asked.partition)?;
    let Some(epoch) = mapping::known_epoch(asked.leader_epoch) else {
        return Ok(None);
    };
    let current = mapping::known_epoch(asked.current_leader_epoch);
    context
        .broker
        .end_offset_for_epoch(partition, current, epoch)
        .map_err(|error| mapping::error_code(&error, Surface::Partition))
}

//! OffsetDelete, key 47, version 0; KIP-496.

use broker::groups::{self, Command, FetchTopic, Response, TopicOutcome};
use kafka_protocol::messages::offset_delete_request::OffsetDeleteRequestTopic;
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::super::{Begun, Call, Context};
use super::{ANSWERED_AS_ASKED, Settled, settle, submit};
use crate::mapping::{self, group_error_code};

pub(in crate::handlers) async fn begin(
    context: &Context,
    call: Call,
    request: OffsetDeleteRequest,
) -> Begun {
    let command = Command::OffsetDelete(groups::OffsetDelete {
        group_id: request.group_id.to_string(),
        topics: request.topics.into_iter().map(fetch_topic).collect(),
    });
    let asked = submit(context, &request.group_id, command).await;
    Begun::Pending(Box::pin(async move {
        call.answer(&respond(settle(asked).await))
    }))
}

fn fetch_topic(topic: OffsetDeleteRequestTopic) -> FetchTopic {
    let partitions = topic.partitions.iter().map(|asked| asked.partition_index);
    FetchTopic {
        name: topic.name.to_string(),
        partitions: partitions.collect(),
        ..FetchTopic::default()
    }
}

fn respond(settled: Settled) -> OffsetDeleteResponse {
    let response = OffsetDeleteResponse::default();
    match settled {
        Ok(Response::OffsetDelete(Ok(topics))) => {
            response.with_topics(topics.into_iter().map(topic_outcome).collect())
        }
        Ok(Response::OffsetDelete(Err(error))) => response.with_error_code(error.code()),
        Ok(_) => unreachable!("{ANSWERED_AS_ASKED}"),
        Err(error) => response.with_error_code(error.code()),
    }
}

fn topic_outcome(topic: TopicOutcome) -> OffsetDeleteResponseTopic {
    let partitions = topic.partitions.into_iter().map(|outcome| {
        OffsetDeleteResponsePartition::default()
            .with_partition_index(outcome.partition)
            .with_error_code(group_error_code(outcome.error))
    });
    OffsetDeleteResponseTopic::default()
        .with_name(mapping::topic_name(&topic.name))
        .with_partitions(partitions.collect())
}

#[cfg(test)]
mod tests {
    use broker::groups::{GroupError, PartitionOutcome};
    use kafka_protocol::ResponseError;

    use super::super::tests::through_the_wire;
    use super::*;

    #[test]
    fn a_group_or_its_partitions_are_refused() {
        let told = |settled| through_the_wire(&respond(settled), 0);
        let gone = Response::OffsetDelete(Err(GroupError::GroupIdNotFound));
        assert_eq!(told(Ok(gone)).error_code, 69);
        assert_eq!(told(Err(ResponseError::NotCoordinator)).error_code, 16);
        let topic = TopicOutcome {
            name: "t".to_owned(),
            partitions: vec![PartitionOutcome {
                partition: 4,
                error: Some(GroupError::GroupSubscribedToTopic),
            }],
            ..TopicOutcome::default()
        };
        let told = told(Ok(Response::OffsetDelete(Ok(vec![topic]))));
        let partition = &told.topics[0].partitions[0];
        assert_eq!((told.error_code, partition.error_code), (0, 86));
    }
}

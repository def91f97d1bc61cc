//! OffsetCommit, key 8, versions 2–9; KIP-211 (retention by the group, 5), KIP-320 (leader epochs,
//! 6), KIP-345 (static members, 7), KIP-848 (member epochs, 9).
//!
//! A consumer that is no member commits with generation -1 and no member id.

use broker::groups::{self, Command, CommitPartition, CommitTopic, Response, TopicOutcome};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse, TopicName};

use super::super::{Begun, Call, Context};
use super::{ANSWERED_AS_ASKED, Settled, owned, settle, submit};
use crate::mapping::{self, group_error_code};

/// Last version that says how long to keep the offsets.
const RETENTION_VERSION_MAX: i16 = 4;
/// First version whose client knows member epochs.
const MEMBER_EPOCH_VERSION_MIN: i16 = 9;

/// The partitions of a request.
type Places = Vec<(TopicName, Vec<i32>)>;

pub(in crate::handlers) async fn begin(
    context: &Context,
    call: Call,
    request: OffsetCommitRequest,
) -> Begun {
    let group_id = request.group_id.to_string();
    let places = places(&request);
    let asked = submit(context, &group_id, command(call.version, request)).await;
    Begun::Pending(Box::pin(async move {
        call.answer(&respond(places, settle(asked).await))
    }))
}

fn places(request: &OffsetCommitRequest) -> Places {
    let topics = request.topics.iter();
    let places = topics.map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| asked.partition_index);
        (topic.name.clone(), partitions.collect())
    });
    places.collect()
}

fn command(version: i16, request: OffsetCommitRequest) -> Command {
    let says_retention = version <= RETENTION_VERSION_MAX && request.retention_time_ms != -1;
    Command::OffsetCommit(groups::OffsetCommit {
        group_id: request.group_id.to_string(),
        generation_id_or_member_epoch: request.generation_id_or_member_epoch,
        member_id: request.member_id.to_string(),
        group_instance_id: owned(request.group_instance_id),
        retention_time_ms: says_retention.then_some(request.retention_time_ms),
        understands_member_epochs: version >= MEMBER_EPOCH_VERSION_MIN,
        topics: request.topics.into_iter().map(commit_topic).collect(),
    })
}

fn commit_topic(topic: OffsetCommitRequestTopic) -> CommitTopic {
    let partitions = topic.partitions.into_iter().map(|asked| CommitPartition {
        partition: asked.partition_index,
        offset: asked.committed_offset,
        leader_epoch: asked.committed_leader_epoch,
        metadata: owned(asked.committed_metadata),
    });
    CommitTopic {
        name: topic.name.to_string(),
        partitions: partitions.collect(),
        ..CommitTopic::default()
    }
}

fn respond(places: Places, settled: Settled) -> OffsetCommitResponse {
    let topics = match settled {
        Ok(Response::OffsetCommit(topics)) => topics.into_iter().map(topic_outcome).collect(),
        Ok(_) => unreachable!("{ANSWERED_AS_ASKED}"),
        Err(error) => {
            let refused = places.into_iter();
            refused
                .map(|(name, partitions)| refused_topic(name, &partitions, error))
                .collect()
        }
    };
    OffsetCommitResponse::default().with_topics(topics)
}

fn topic_outcome(topic: TopicOutcome) -> OffsetCommitResponseTopic {
    let partitions = topic.partitions.into_iter().map(|outcome| {
        OffsetCommitResponsePartition::default()
            .with_partition_index(outcome.partition)
            .with_error_code(group_error_code(outcome.error))
    });
    OffsetCommitResponseTopic::default()
        .with_name(mapping::topic_name(&topic.name))
        .with_partitions(partitions.collect())
}

fn refused_topic(
    name: TopicName,
    partitions: &[i32],
    error: ResponseError,
) -> OffsetCommitResponseTopic {
    let partitions = partitions.iter().map(|index| {
        OffsetCommitResponsePartition::default()
            .with_partition_index(*index)
            .with_error_code(error.code())
    });
    OffsetCommitResponseTopic::default()
        .with_name(name)
        .with_partitions(partitions.collect())
}

#[cfg(test)]
mod tests {
    use broker::groups::{GroupError, PartitionOutcome};
    use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;

    use super::super::tests::through_the_wire;
    use super::*;

    fn request() -> OffsetCommitRequest {
        let partition = |index| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(index)
                .with_committed_offset(5)
                .with_committed_metadata(None)
        };
        OffsetCommitRequest::default().with_topics(vec![
            OffsetCommitRequestTopic::default()
                .with_name(mapping::topic_name("t"))
                .with_partitions(vec![partition(1), partition(0)]),
        ])
    }

    fn commit(version: i16, request: OffsetCommitRequest) -> groups::OffsetCommit {
        match command(version, request) {
            Command::OffsetCommit(commit) => commit,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn offsets_are_kept_for_a_time_only_where_an_old_request_says_so() {
        let kept = |version, ms| commit(version, request().with_retention_time_ms(ms));
        assert_eq!(kept(2, 10).retention_time_ms, Some(10));
        assert_eq!(kept(4, -1).retention_time_ms, None);
        assert_eq!(kept(5, 10).retention_time_ms, None);
    }

    #[test]
    fn member_epochs_are_understood_from_version_9_on() {
        assert!(!commit(8, request()).understands_member_epochs);
        assert!(commit(9, request()).understands_member_epochs);
    }

    #[test]
    fn every_partition_is_answered_in_every_version() {
        for version in 2..=9 {
            let told = respond(places(&request()), Err(ResponseError::NotCoordinator));
            let told = through_the_wire(&told, version);
            let codes = |told: &OffsetCommitResponse| -> Vec<(i32, i16)> {
                let partitions = told.topics[0].partitions.iter();
                partitions
                    .map(|one| (one.partition_index, one.error_code))
                    .collect()
            };
            assert_eq!(&*told.topics[0].name.0, "t");
            assert_eq!(codes(&told), [(1, 16), (0, 16)]);
            let outcome = |partition, error| PartitionOutcome { partition, error };
            let outcomes = TopicOutcome {
                name: "t".to_owned(),
                partitions: vec![
                    outcome(1, None),
                    outcome(0, Some(GroupError::OffsetMetadataTooLarge)),
                ],
                ..TopicOutcome::default()
            };
            let told = respond(Vec::new(), Ok(Response::OffsetCommit(vec![outcomes])));
            let told = through_the_wire(&told, version);
            assert_eq!(codes(&told), [(1, 0), (0, 12)]);
        }
    }
}

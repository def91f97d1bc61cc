//! OffsetFetch, key 9, versions 1–9; KIP-88 (all offsets of a group, 2), KIP-320 (leader epochs, 5),
//! KIP-447 (stable offsets, 7), KIP-709 (several groups, 8), KIP-848 (member epochs, 9).
//!
//! - Null topics are all that the group has offsets of.
//! - What a request of version 1 cannot have is told for each partition that it asks for.
//! - A group named twice is answered twice; a window of the groups is asked at a time.

use broker::groups::{
    self, Command, CommittedOffset, CommittedTopic, FetchTopic, OffsetFetch, Response,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse, TopicName};

use super::super::{Begun, Call, Context};
use super::{ANSWERED_AS_ASKED, Answers, Settled, group_id, owned};
use crate::mapping::{self, group_error_code};

/// First version that asks for several groups.
const SEVERAL_VERSION_MIN: i16 = 8;
/// First version whose answer can refuse the whole request.
const TOP_ERROR_VERSION_MIN: i16 = 2;

/// What was found of one group: an error, or its offsets.
struct Found {
    group_id: String,
    error_code: i16,
    topics: Vec<CommittedTopic>,
}

pub(in crate::handlers) async fn begin(
    context: &Context,
    call: Call,
    request: OffsetFetchRequest,
) -> Begun {
    let asked = fetches(call.version, request);
    let commands = asked.iter().map(|fetch| {
        let command = Command::OffsetFetch(fetch.clone());
        (fetch.group_id.clone(), command)
    });
    let answers = Answers::ask(context, commands.collect()).await;
    Begun::Pending(Box::pin(async move {
        let settled = answers.all().await;
        let found = asked.into_iter().zip(settled);
        let found = found.map(|(fetch, settled)| found_of(fetch, settled));
        call.answer(&respond(call.version, found.collect()))
    }))
}

/// What is asked, by group.
fn fetches(version: i16, request: OffsetFetchRequest) -> Vec<OffsetFetch> {
    let require_stable = request.require_stable;
    if version < SEVERAL_VERSION_MIN {
        let topics = request.topics.map(|topics| {
            let topics = topics.into_iter();
            topics
                .map(|topic| fetch_topic(topic.name, topic.partition_indexes))
                .collect()
        });
        return vec![OffsetFetch {
            group_id: request.group_id.to_string(),
            member_id: None,
            member_epoch: -1,
            topics,
            require_stable,
        }];
    }
    let groups = request.groups.into_iter().map(|group| OffsetFetch {
        group_id: group.group_id.to_string(),
        member_id: owned(group.member_id),
        member_epoch: group.member_epoch,
        topics: group.topics.map(|topics| {
            let topics = topics.into_iter();
            topics
                .map(|topic| fetch_topic(topic.name, topic.partition_indexes))
                .collect()
        }),
        require_stable,
    });
    groups.collect()
}

fn fetch_topic(name: TopicName, partitions: Vec<i32>) -> FetchTopic {
    FetchTopic {
        name: name.to_string(),
        partitions,
        ..FetchTopic::default()
    }
}

fn found_of(fetch: OffsetFetch, settled: Settled) -> Found {
    let (error_code, topics) = match settled {
        Ok(Response::OffsetFetch(groups::OffsetFetchResponse { error, topics, .. })) => {
            (group_error_code(error), topics)
        }
        Ok(_) => unreachable!("{ANSWERED_AS_ASKED}"),
        Err(error) => (error.code(), Vec::new()),
    };
    let topics = match error_code {
        0 => topics,
        // Where the version has no place for an error of the group, the partitions tell it.
        _ => fetch.topics.into_iter().flatten().map(nothing_of).collect(),
    };
    Found {
        group_id: fetch.group_id,
        error_code,
        topics,
    }
}

fn nothing_of(topic: FetchTopic) -> CommittedTopic {
    let partitions = topic.partitions.into_iter();
    let nothing = partitions.map(|partition| CommittedOffset {
        partition,
        offset: -1,
        leader_epoch: -1,
        ..CommittedOffset::default()
    });
    CommittedTopic {
        partitions: nothing.collect(),
        name: topic.name,
        id: topic.id,
    }
}

fn respond(version: i16, mut found: Vec<Found>) -> OffsetFetchResponse {
    let response = OffsetFetchResponse::default();
    if version >= SEVERAL_VERSION_MIN {
        return response.with_groups(found.into_iter().map(group).collect());
    }
    let Some(one) = found.pop() else {
        return response;
    };
    if version >= TOP_ERROR_VERSION_MIN && one.error_code != 0 {
        return response.with_error_code(one.error_code);
    }
    let topics = one.topics.into_iter();
    let topics = topics.map(|found| topic(found, one.error_code));
    response.with_topics(topics.collect())
}

fn group(found: Found) -> OffsetFetchResponseGroup {
    let response = OffsetFetchResponseGroup::default()
        .with_group_id(group_id(found.group_id))
        .with_error_code(found.error_code);
    if found.error_code != 0 {
        return response;
    }
    let topics = found.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|committed| {
            OffsetFetchResponsePartitions::default()
                .with_partition_index(committed.partition)
                .with_committed_offset(committed.offset)
                .with_committed_leader_epoch(committed.leader_epoch)
                .with_metadata(Some(mapping::text(committed.metadata)))
                .with_error_code(group_error_code(committed.error))
        });
        OffsetFetchResponseTopics::default()
            .with_name(mapping::topic_name(&topic.name))
            .with_partitions(partitions.collect())
    });
    response.with_topics(topics.collect())
}

fn topic(found: CommittedTopic, error_code: i16) -> OffsetFetchResponseTopic {
    let partitions = found.partitions.into_iter().map(|committed| {
        let own_code = group_error_code(committed.error);
        OffsetFetchResponsePartition::default()
            .with_partition_index(committed.partition)
            .with_committed_offset(committed.offset)
            .with_committed_leader_epoch(committed.leader_epoch)
            .with_metadata(Some(mapping::text(committed.metadata)))
            .with_error_code(if error_code == 0 {
                own_code
            } else {
                error_code
            })
    });
    OffsetFetchResponseTopic::default()
        .with_name(mapping::topic_name(&found.name))
        .with_partitions(partitions.collect())
}

#[cfg(test)]
mod tests {
    use broker::groups::GroupError;
    use kafka_protocol::ResponseError;
    use kafka_protocol::messages::offset_fetch_request::{
        OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    };

    use super::super::tests::through_the_wire;
    use super::*;

    fn request(version: i16, topics: bool) -> OffsetFetchRequest {
        let name = mapping::topic_name("t");
        match version >= 8 {
            true => {
                let topic = OffsetFetchRequestTopics::default()
                    .with_name(name)
                    .with_partition_indexes(vec![2]);
                OffsetFetchRequest::default().with_groups(vec![
                    OffsetFetchRequestGroup::default()
                        .with_group_id(group_id("g"))
                        .with_topics(topics.then(|| vec![topic])),
                ])
            }
            false => {
                let topic = OffsetFetchRequestTopic::default()
                    .with_name(name)
                    .with_partition_indexes(vec![2]);
                OffsetFetchRequest::default()
                    .with_group_id(group_id("g"))
                    .with_topics(topics.then(|| vec![topic]))
            }
        }
    }

    /// The error of the group, and by partition: offset, metadata, error.
    type Told = (i16, Vec<(i64, Option<String>, i16)>);

    fn answer(version: i16, settled: Settled) -> Told {
        let fetch = fetches(version, request(version, true)).remove(0);
        let told = respond(version, vec![found_of(fetch, settled)]);
        let told = through_the_wire(&told, version);
        let text = |metadata: &Option<kafka_protocol::protocol::StrBytes>| {
            metadata.as_ref().map(ToString::to_string)
        };
        match told.groups.first() {
            Some(group) => {
                assert_eq!(&**group.group_id, "g");
                let partitions = group.topics.iter().flat_map(|topic| &topic.partitions);
                let partitions =
                    partitions.map(|p| (p.committed_offset, text(&p.metadata), p.error_code));
                (group.error_code, partitions.collect())
            }
            None => {
                let partitions = told.topics.iter().flat_map(|topic| &topic.partitions);
                let partitions =
                    partitions.map(|p| (p.committed_offset, text(&p.metadata), p.error_code));
                (told.error_code, partitions.collect())
            }
        }
    }

    #[test]
    fn null_topics_are_all() {
        for version in 1..=9 {
            let asked = |topics| fetches(version, request(version, topics)).remove(0);
            let listed = asked(true).topics.unwrap();
            assert_eq!((listed.len(), &*listed[0].name), (1, "t"));
            assert_eq!(listed[0].partitions, [2]);
            assert_eq!(asked(false).topics, None);
            assert_eq!(asked(false).member_epoch, -1);
        }
    }

    #[test]
    fn offsets_are_told_in_every_version() {
        for version in 1..=9 {
            let committed = CommittedTopic {
                name: "t".to_owned(),
                partitions: vec![CommittedOffset {
                    partition: 2,
                    offset: 7,
                    leader_epoch: 1,
                    metadata: "m".to_owned(),
                    error: None,
                }],
                ..CommittedTopic::default()
            };
            let found = groups::OffsetFetchResponse {
                group_id: "g".to_owned(),
                error: None,
                topics: vec![committed],
            };
            let told = answer(version, Ok(Response::OffsetFetch(found)));
            assert_eq!(told, (0, vec![(7, Some("m".to_owned()), 0)]));
        }
    }

    #[test]
    fn an_error_is_told_where_the_version_has_its_place() {
        for version in 1..=9 {
            let stale = groups::OffsetFetchResponse {
                error: Some(GroupError::StaleMemberEpoch),
                ..groups::OffsetFetchResponse::default()
            };
            for (settled, code) in [
                (Ok(Response::OffsetFetch(stale)), 113),
                (Err(ResponseError::CoordinatorLoadInProgress), 14),
            ] {
                let expected = match version {
                    1 => (0, vec![(-1, Some(String::new()), code)]),
                    _ => (code, Vec::new()),
                };
                assert_eq!(answer(version, settled), expected, "{version}");
            }
        }
    }
}

//! ConsumerGroupHeartbeat, key 68, versions 0–1; KIP-848, KIP-1082 (members name themselves, 1).

use broker::groups::{self, Client, Command, OwnedTopic, Response, Uuid};
use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

use super::super::{Begun, Call, Context, Refusal};
use super::{ANSWERED_AS_ASKED, Settled, client, owned, settle, submit, uuid, wire_uuid};
use crate::mapping::{self, group_error_code};

/// First version in which members name themselves.
const OWN_ID_VERSION_MIN: i16 = 1;

pub(in crate::handlers) async fn begin(
    context: &Context,
    call: Call,
    client_id: Option<&Bytes>,
    request: ConsumerGroupHeartbeatRequest,
) -> Begun {
    if let Err(refusal) = check(call.version, &request) {
        let refused = ConsumerGroupHeartbeatResponse::default()
            .with_error_code(refusal.code.code())
            .with_error_message(Some(mapping::text(refusal.message)));
        return Begun::Done(call.answer(&refused));
    }
    let group_id = request.group_id.to_string();
    let fresh_id = context.broker.fresh_group_id();
    let command = command(request, client(context, client_id), fresh_id);
    let asked = submit(context, &group_id, command).await;
    Begun::Pending(Box::pin(async move {
        call.answer(&respond(settle(asked).await))
    }))
}

fn check(version: i16, request: &ConsumerGroupHeartbeatRequest) -> Result<(), Refusal> {
    match version >= OWN_ID_VERSION_MIN && request.member_id.is_empty() {
        true => Err(Refusal::request("MemberId can't be empty.")),
        false => Ok(()),
    }
}

fn command(request: ConsumerGroupHeartbeatRequest, client: Client, fresh_id: Uuid) -> Command {
    let names = request.subscribed_topic_names.map(|names| {
        let names = names.into_iter();
        names.map(|name| name.to_string()).collect()
    });
    let partitions = request.topic_partitions.map(|topics| {
        let topics = topics.into_iter().map(|topic| OwnedTopic {
            topic_id: uuid(topic.topic_id.as_bytes()),
            partitions: topic.partitions,
        });
        topics.collect()
    });
    Command::ConsumerGroupHeartbeat(groups::ConsumerGroupHeartbeat {
        group_id: request.group_id.to_string(),
        member_id: request.member_id.to_string(),
        member_epoch: request.member_epoch,
        instance_id: owned(request.instance_id),
        rack_id: owned(request.rack_id),
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        subscribed_topic_names: names,
        subscribed_topic_regex: owned(request.subscribed_topic_regex),
        server_assignor: owned(request.server_assignor),
        topic_partitions: partitions,
        client,
        fresh_id,
    })
}

fn respond(settled: Settled) -> ConsumerGroupHeartbeatResponse {
    let beat = match settled {
        Ok(Response::ConsumerGroupHeartbeat(beat)) => beat,
        Ok(_) => unreachable!("{ANSWERED_AS_ASKED}"),
        Err(error) => return refused(error),
    };
    let assignment = beat.assignment.map(|topics| {
        let topics = topics.into_iter().map(|topic| {
            TopicPartitions::default()
                .with_topic_id(wire_uuid(topic.topic_id))
                .with_partitions(topic.partitions)
        });
        Assignment::default().with_topic_partitions(topics.collect())
    });
    ConsumerGroupHeartbeatResponse::default()
        .with_error_code(group_error_code(beat.error))
        .with_error_message(beat.error_message.map(mapping::text))
        .with_member_id(beat.member_id.map(mapping::text))
        .with_member_epoch(beat.member_epoch)
        .with_heartbeat_interval_ms(beat.heartbeat_interval_ms)
        .with_assignment(assignment)
}

fn refused(error: ResponseError) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse::default()
        .with_error_code(error.code())
        .with_error_message(Some(mapping::text(error.to_string())))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::TopicName;

    use super::super::tests::through_the_wire;
    use super::*;

    #[test]
    fn a_member_names_itself_from_version_1_on() {
        let nameless = ConsumerGroupHeartbeatRequest::default();
        assert!(check(0, &nameless).is_ok());
        let refusal = check(1, &nameless).unwrap_err();
        assert_eq!(refusal.code, ResponseError::InvalidRequest);
        let named = nameless.with_member_id(mapping::text("m"));
        assert!(check(1, &named).is_ok());
    }

    #[test]
    fn null_is_unchanged_and_empty_is_nothing() {
        let asked = |request| match command(request, Client::default(), Uuid(1)) {
            Command::ConsumerGroupHeartbeat(asked) => asked,
            other => panic!("{other:?}"),
        };
        let unchanged = ConsumerGroupHeartbeatRequest::default()
            .with_subscribed_topic_names(None)
            .with_topic_partitions(None);
        let unchanged = asked(unchanged);
        assert_eq!(unchanged.subscribed_topic_names, None);
        assert_eq!(unchanged.topic_partitions, None);
        let changed = ConsumerGroupHeartbeatRequest::default()
            .with_subscribed_topic_names(Some(vec![TopicName(mapping::text("t"))]))
            .with_topic_partitions(Some(Vec::new()));
        let changed = asked(changed);
        assert_eq!(changed.subscribed_topic_names, Some(vec!["t".to_owned()]));
        assert_eq!(changed.topic_partitions, Some(Vec::new()));
    }

    #[test]
    fn an_assignment_and_its_absence_are_told_apart() {
        for version in 0..=1 {
            let beat = groups::ConsumerGroupHeartbeatResponse {
                member_id: Some("m".to_owned()),
                member_epoch: 2,
                heartbeat_interval_ms: 5_000,
                assignment: Some(vec![OwnedTopic {
                    topic_id: Uuid(9),
                    partitions: vec![0, 1],
                }]),
                ..groups::ConsumerGroupHeartbeatResponse::default()
            };
            let told = |beat| {
                let settled = Ok(Response::ConsumerGroupHeartbeat(beat));
                through_the_wire(&respond(settled), version)
            };
            let given = told(beat.clone());
            let topics = given.assignment.unwrap().topic_partitions;
            assert_eq!(uuid(topics[0].topic_id.as_bytes()), Uuid(9));
            assert_eq!(
                (given.member_epoch, &topics[0].partitions[..]),
                (2, &[0, 1][..])
            );
            let unchanged = told(groups::ConsumerGroupHeartbeatResponse {
                assignment: None,
                ..beat
            });
            assert!(unchanged.assignment.is_none());
        }
    }
}

//! ConsumerGroupDescribe, key 69, versions 0–1; KIP-848, KIP-1099 (the kinds of members, 1).
//!
//! A group named twice is told once.

use broker::groups::{
    self, Command, ConsumerAssignment, ConsumerGroupDescription, ConsumerMember, Response,
};
use kafka_protocol::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup, Member, TopicPartitions,
};
use kafka_protocol::messages::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse};

use super::super::Context;
use super::{ANSWERED_AS_ASKED, Answers, Settled, distinct, group_id, wire_uuid};
use crate::mapping::{self, GROUP_OPERATIONS, OPERATIONS_NOT_ASKED, group_error_code};

pub(in crate::handlers) async fn handle(
    context: &Context,
    request: ConsumerGroupDescribeRequest,
) -> ConsumerGroupDescribeResponse {
    let operations = match request.include_authorized_operations {
        true => GROUP_OPERATIONS,
        false => OPERATIONS_NOT_ASKED,
    };
    let ids = distinct(request.group_ids);
    let commands = ids.iter().map(|id| {
        let command = Command::ConsumerGroupDescribe(vec![id.clone()]);
        (id.clone(), command)
    });
    let settled = Answers::ask(context, commands.collect()).await.all().await;
    let groups = ids.into_iter().zip(settled);
    let groups = groups.map(|(id, settled)| describe(id, operations, settled));
    ConsumerGroupDescribeResponse::default().with_groups(groups.collect())
}

fn describe(id: String, operations: i32, settled: Settled) -> DescribedGroup {
    let told = DescribedGroup::default().with_group_id(group_id(id));
    let described = match settled {
        Ok(Response::ConsumerGroupDescribe(described)) => described.into_iter().next(),
        Ok(_) => unreachable!("{ANSWERED_AS_ASKED}"),
        Err(error) => {
            return told
                .with_error_code(error.code())
                .with_error_message(Some(mapping::text(error.to_string())));
        }
    };
    let ConsumerGroupDescription {
        group_id: _,
        error,
        error_message,
        state,
        group_epoch,
        assignment_epoch,
        assignor_name,
        members,
    } = described.expect(ANSWERED_AS_ASKED);
    told.with_error_code(group_error_code(error))
        .with_error_message(error_message.map(mapping::text))
        .with_group_state(mapping::text(state))
        .with_group_epoch(group_epoch)
        .with_assignment_epoch(assignment_epoch)
        .with_assignor_name(mapping::text(assignor_name))
        .with_members(members.into_iter().map(member).collect())
        .with_authorized_operations(operations)
}

fn member(member: ConsumerMember) -> Member {
    let names = member.subscribed_topic_names.iter();
    let names = names.map(|name| mapping::topic_name(name));
    Member::default()
        .with_member_id(mapping::text(member.member_id))
        .with_instance_id(member.instance_id.map(mapping::text))
        .with_rack_id(member.rack_id.map(mapping::text))
        .with_member_epoch(member.member_epoch)
        .with_client_id(mapping::text(member.client_id))
        .with_client_host(mapping::text(member.client_host))
        .with_subscribed_topic_names(names.collect())
        .with_subscribed_topic_regex(member.subscribed_topic_regex.map(mapping::text))
        .with_assignment(assignment(member.assignment))
        .with_target_assignment(assignment(member.target_assignment))
        .with_member_type(member.member_type)
}

fn assignment(assignment: ConsumerAssignment) -> Assignment {
    let topics = assignment.topics.into_iter();
    let topics = topics.map(|topic: groups::TopicPartitions| {
        TopicPartitions::default()
            .with_topic_id(wire_uuid(topic.topic_id))
            .with_topic_name(mapping::topic_name(&topic.name))
            .with_partitions(topic.partitions)
    });
    Assignment::default().with_topic_partitions(topics.collect())
}

#[cfg(test)]
mod tests {
    use broker::groups::{GroupError, Uuid};
    use kafka_protocol::ResponseError;

    use super::super::tests::through_the_wire;
    use super::*;

    fn told(version: i16, settled: Settled) -> DescribedGroup {
        let told = describe("g".to_owned(), GROUP_OPERATIONS, settled);
        let told = ConsumerGroupDescribeResponse::default().with_groups(vec![told]);
        through_the_wire(&told, version).groups.remove(0)
    }

    #[test]
    fn members_and_what_they_own_are_told() {
        for version in 0..=1 {
            let described = ConsumerGroupDescription {
                group_id: "g".to_owned(),
                state: "Stable",
                group_epoch: 4,
                assignment_epoch: 3,
                members: vec![ConsumerMember {
                    member_id: "m".to_owned(),
                    assignment: ConsumerAssignment {
                        topics: vec![groups::TopicPartitions {
                            topic_id: Uuid(1),
                            name: "t".to_owned(),
                            partitions: vec![7],
                        }],
                    },
                    member_type: 1,
                    ..ConsumerMember::default()
                }],
                ..ConsumerGroupDescription::default()
            };
            let told = told(
                version,
                Ok(Response::ConsumerGroupDescribe(vec![described])),
            );
            assert_eq!((told.error_code, told.group_epoch), (0, 4));
            let member = &told.members[0];
            let topic = &member.assignment.topic_partitions[0];
            assert_eq!(
                (&**topic.topic_name, &topic.partitions[..]),
                ("t", &[7][..])
            );
            assert_eq!(member.member_type, if version >= 1 { 1 } else { -1 });
        }
    }

    #[test]
    fn a_group_that_is_none_or_elsewhere_is_refused_by_itself() {
        for version in 0..=1 {
            let missing = ConsumerGroupDescription {
                error: Some(GroupError::GroupIdNotFound),
                error_message: Some("no".to_owned()),
                ..ConsumerGroupDescription::default()
            };
            let none = told(version, Ok(Response::ConsumerGroupDescribe(vec![missing])));
            assert_eq!(none.error_code, 69);
            let elsewhere = told(version, Err(ResponseError::NotCoordinator));
            assert_eq!((elsewhere.error_code, &**elsewhere.group_id), (16, "g"));
        }
    }
}

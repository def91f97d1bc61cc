//! DescribeGroups, key 15, versions 0–6; KIP-430 (operations, 3), KIP-345 (static members, 4),
//! KIP-1043 (groups that are not there, 6).
//!
//! A group named twice is told once. Before version 6 a group that is not there is in state `Dead`
//! and no error.

use broker::groups::{self, Command, GroupError, Response};
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse};

use super::super::Context;
use super::{ANSWERED_AS_ASKED, Answers, Settled, distinct, group_id};
use crate::mapping::{self, GROUP_OPERATIONS, OPERATIONS_NOT_ASKED, group_error_code};

/// First version that has an error for a group that is not there, and room for words.
const NOT_FOUND_VERSION_MIN: i16 = 6;

pub(in crate::handlers) async fn handle(
    context: &Context,
    version: i16,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let operations = match request.include_authorized_operations {
        true => GROUP_OPERATIONS,
        false => OPERATIONS_NOT_ASKED,
    };
    let ids = distinct(request.groups);
    let commands = ids.iter().map(|id| {
        let command = Command::DescribeGroups(vec![id.clone()]);
        (id.clone(), command)
    });
    let settled = Answers::ask(context, commands.collect()).await.all().await;
    let groups = ids.into_iter().zip(settled);
    let groups = groups.map(|(id, settled)| describe(version, id, operations, settled));
    DescribeGroupsResponse::default().with_groups(groups.collect())
}

fn describe(version: i16, id: String, operations: i32, settled: Settled) -> DescribedGroup {
    let described = match settled {
        Ok(Response::DescribeGroups(described)) => described.into_iter().next(),
        Ok(_) => unreachable!("{ANSWERED_AS_ASKED}"),
        Err(error) => {
            return DescribedGroup::default()
                .with_group_id(group_id(id))
                .with_error_code(error.code())
                .with_authorized_operations(OPERATIONS_NOT_ASKED);
        }
    };
    let groups::DescribedGroup {
        group_id: _,
        error,
        state,
        protocol_type,
        protocol,
        members,
    } = described.expect(ANSWERED_AS_ASKED);
    let has_error = version >= NOT_FOUND_VERSION_MIN || error != Some(GroupError::GroupIdNotFound);
    let error = error.filter(|_| has_error);
    let message = error.filter(|_| version >= NOT_FOUND_VERSION_MIN);
    DescribedGroup::default()
        .with_error_code(group_error_code(error))
        .with_error_message(message.map(|error| mapping::text(format!("Group {id}: {error}."))))
        .with_group_id(group_id(id))
        .with_group_state(mapping::text(state))
        .with_protocol_type(mapping::text(protocol_type))
        .with_protocol_data(mapping::text(protocol))
        .with_members(members.into_iter().map(member).collect())
        .with_authorized_operations(operations)
}

fn member(member: groups::DescribedMember) -> DescribedGroupMember {
    DescribedGroupMember::default()
        .with_member_id(mapping::text(member.member_id))
        .with_group_instance_id(member.group_instance_id.map(mapping::text))
        .with_client_id(mapping::text(member.client_id))
        .with_client_host(mapping::text(member.client_host))
        .with_member_metadata(member.metadata)
        .with_member_assignment(member.assignment)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::ResponseError;

    use super::super::tests::through_the_wire;
    use super::*;

    fn told(version: i16, settled: Settled) -> DescribedGroup {
        let operations = if version >= 3 {
            GROUP_OPERATIONS
        } else {
            OPERATIONS_NOT_ASKED
        };
        let told = describe(version, "g".to_owned(), operations, settled);
        let told = DescribeGroupsResponse::default().with_groups(vec![told]);
        through_the_wire(&told, version).groups.remove(0)
    }

    #[test]
    fn a_group_and_its_members_are_told_in_every_version() {
        for version in 0..=6 {
            let described = groups::DescribedGroup {
                group_id: "g".to_owned(),
                state: "Stable",
                protocol_type: "consumer".to_owned(),
                protocol: "range".to_owned(),
                members: vec![groups::DescribedMember {
                    member_id: "m".to_owned(),
                    group_instance_id: Some("i".to_owned()),
                    client_host: "/127.0.0.1".to_owned(),
                    ..groups::DescribedMember::default()
                }],
                ..groups::DescribedGroup::default()
            };
            let told = told(version, Ok(Response::DescribeGroups(vec![described])));
            assert_eq!((told.error_code, &*told.group_state), (0, "Stable"));
            assert_eq!(&*told.protocol_data, "range");
            assert_eq!(&*told.members[0].client_host, "/127.0.0.1");
            assert_eq!(told.members[0].group_instance_id.is_some(), version >= 4);
        }
    }

    #[test]
    fn a_group_that_is_not_there_is_dead_and_an_error_from_version_6_on() {
        for version in 0..=6 {
            let missing = groups::DescribedGroup {
                group_id: "g".to_owned(),
                error: Some(GroupError::GroupIdNotFound),
                state: "Dead",
                ..groups::DescribedGroup::default()
            };
            let told = told(version, Ok(Response::DescribeGroups(vec![missing])));
            let code = if version >= 6 { 69 } else { 0 };
            assert_eq!((told.error_code, &*told.group_state), (code, "Dead"));
            assert_eq!(told.error_message.is_some(), version >= 6);
        }
    }

    #[test]
    fn a_group_of_another_coordinator_is_refused_by_itself() {
        for version in 0..=6 {
            let told = told(version, Err(ResponseError::NotCoordinator));
            assert_eq!((told.error_code, &**told.group_id), (16, "g"));
        }
    }

    #[test]
    fn operations_on_groups_are_the_bits_that_kafka_tells() {
        assert_eq!(GROUP_OPERATIONS, 3400);
    }
}

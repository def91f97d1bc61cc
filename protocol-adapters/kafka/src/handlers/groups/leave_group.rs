//! LeaveGroup, key 13, versions 0–5; KIP-345 (several members, static ones, 3), KIP-800 (reason, 5).
//!
//! Before version 3 one member leaves, and what becomes of it is what becomes of the request.

use broker::groups::{self, Command, LeavingMember, Response};
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use super::super::{Begun, Call, Context};
use super::{ANSWERED_AS_ASKED, Settled, owned, settle, submit};
use crate::mapping::{self, group_error_code};

/// First version that lists members.
const SEVERAL_VERSION_MIN: i16 = 3;

pub(in crate::handlers) async fn begin(
    context: &Context,
    call: Call,
    request: LeaveGroupRequest,
) -> Begun {
    let group_id = request.group_id.to_string();
    let asked = submit(context, &group_id, command(call.version, request)).await;
    Begun::Pending(Box::pin(async move {
        call.answer(&respond(call.version, settle(asked).await))
    }))
}

fn command(version: i16, request: LeaveGroupRequest) -> Command {
    let members = match version >= SEVERAL_VERSION_MIN {
        true => {
            let members = request.members.into_iter().map(|member| LeavingMember {
                member_id: member.member_id.to_string(),
                group_instance_id: owned(member.group_instance_id),
                reason: owned(member.reason),
            });
            members.collect()
        }
        false => vec![LeavingMember {
            member_id: request.member_id.to_string(),
            ..LeavingMember::default()
        }],
    };
    Command::LeaveGroup(groups::LeaveGroup {
        group_id: request.group_id.to_string(),
        members,
    })
}

fn respond(version: i16, settled: Settled) -> LeaveGroupResponse {
    let left = match settled {
        Ok(Response::LeaveGroup(left)) => left,
        Ok(_) => unreachable!("{ANSWERED_AS_ASKED}"),
        Err(error) => return LeaveGroupResponse::default().with_error_code(error.code()),
    };
    if version < SEVERAL_VERSION_MIN {
        let first = left.members.first().and_then(|member| member.error);
        let error_code = group_error_code(left.error.or(first));
        return LeaveGroupResponse::default().with_error_code(error_code);
    }
    let members = left.members.into_iter().map(|member| {
        MemberResponse::default()
            .with_member_id(mapping::text(member.member_id))
            .with_group_instance_id(member.group_instance_id.map(mapping::text))
            .with_error_code(group_error_code(member.error))
    });
    LeaveGroupResponse::default()
        .with_error_code(group_error_code(left.error))
        .with_members(members.collect())
}

#[cfg(test)]
mod tests {
    use broker::groups::{GroupError, LeftMember};

    use super::super::tests::through_the_wire;
    use super::*;

    #[test]
    fn the_one_member_of_an_old_request_leaves() {
        let request = LeaveGroupRequest::default().with_member_id(mapping::text("m"));
        let Command::LeaveGroup(leaving) = command(2, request) else {
            panic!("it leaves")
        };
        assert_eq!(leaving.members.len(), 1);
        assert_eq!(leaving.members[0].member_id, "m");
    }

    #[test]
    fn what_became_of_each_member_is_told_where_the_version_has_room() {
        for version in 0..=5 {
            let member = |error| LeftMember {
                member_id: "m".to_owned(),
                group_instance_id: None,
                error,
            };
            let left = groups::LeaveGroupResponse {
                error: None,
                members: vec![member(Some(GroupError::UnknownMemberId)), member(None)],
            };
            let told = respond(version, Ok(Response::LeaveGroup(left)));
            let told = through_the_wire(&told, version);
            let codes: Vec<i16> = told.members.iter().map(|m| m.error_code).collect();
            match version >= 3 {
                true => assert_eq!((told.error_code, &codes[..]), (0, &[25, 0][..])),
                false => assert_eq!((told.error_code, &codes[..]), (25, &[][..])),
            }
        }
    }
}

//! SyncGroup, key 14, versions 0–5; KIP-345 (static members, 3), KIP-559 (protocol type and name, 5).
//!
//! The answer waits for the leader's assignment, as a JoinGroup does for the members. From version 5
//! on the request must name the protocol and its type.

use broker::groups::{self, Command, Response, SyncAssignment};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use super::super::{Begun, Call, Context};
use super::{ANSWERED_AS_ASKED, Settled, kept, owned, settle_with_others, submit};
use crate::mapping::{self, group_error_code};

/// First version that names the protocol.
const PROTOCOL_VERSION_MIN: i16 = 5;

pub(in crate::handlers) async fn begin(
    context: &Context,
    call: Call,
    request: SyncGroupRequest,
) -> Begun {
    if let Err(error) = check(call.version, &request) {
        return Begun::Done(call.answer(&respond(Err(error))));
    }
    let group_id = request.group_id.to_string();
    let asked = submit(context, &group_id, command(request)).await;
    let stop = context.stop.clone();
    Begun::Pending(Box::pin(async move {
        call.answer(&respond(settle_with_others(asked, stop).await))
    }))
}

fn check(version: i16, request: &SyncGroupRequest) -> Result<(), ResponseError> {
    let names_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    match version >= PROTOCOL_VERSION_MIN && !names_protocol {
        true => Err(ResponseError::InconsistentGroupProtocol),
        false => Ok(()),
    }
}

fn command(request: SyncGroupRequest) -> Command {
    let assignments = request.assignments.iter().map(|one| SyncAssignment {
        member_id: one.member_id.to_string(),
        assignment: kept(&one.assignment),
    });
    Command::SyncGroup(groups::SyncGroup {
        group_id: request.group_id.to_string(),
        generation_id: request.generation_id,
        member_id: request.member_id.to_string(),
        assignments: assignments.collect(),
        group_instance_id: owned(request.group_instance_id),
        protocol_type: owned(request.protocol_type),
        protocol_name: owned(request.protocol_name),
    })
}

fn respond(settled: Settled) -> SyncGroupResponse {
    let synced = match settled {
        Ok(Response::SyncGroup(synced)) => synced,
        Ok(_) => unreachable!("{ANSWERED_AS_ASKED}"),
        Err(error) => return SyncGroupResponse::default().with_error_code(error.code()),
    };
    SyncGroupResponse::default()
        .with_error_code(group_error_code(synced.error))
        .with_protocol_type(synced.protocol_type.map(mapping::text))
        .with_protocol_name(synced.protocol_name.map(mapping::text))
        .with_assignment(synced.assignment)
}

#[cfg(test)]
mod tests {
    use broker::groups::GroupError;
    use bytes::Bytes;

    use super::super::tests::through_the_wire;
    use super::*;

    #[test]
    fn a_member_gets_its_assignment_in_every_version() {
        for version in 0..=5 {
            let synced = groups::SyncGroupResponse {
                error: None,
                protocol_type: Some("consumer".to_owned()),
                protocol_name: Some("range".to_owned()),
                assignment: Bytes::from_static(b"mine"),
            };
            let told = through_the_wire(&respond(Ok(Response::SyncGroup(synced))), version);
            assert_eq!((told.error_code, &told.assignment[..]), (0, &b"mine"[..]));
            assert_eq!(told.protocol_name.is_some(), version >= 5);
            let refused = groups::SyncGroupResponse::refused(GroupError::IllegalGeneration);
            let told = through_the_wire(&respond(Ok(Response::SyncGroup(refused))), version);
            assert_eq!((told.error_code, told.assignment.len()), (22, 0));
        }
    }

    #[test]
    fn the_protocol_must_be_named_from_version_5_on() {
        let name = || Some(mapping::text("range"));
        let neither = SyncGroupRequest::default();
        let half = neither.clone().with_protocol_name(name());
        let both = half.clone().with_protocol_type(name());
        let refused = Err(ResponseError::InconsistentGroupProtocol);
        assert_eq!(check(4, &neither), Ok(()));
        assert_eq!(check(5, &neither), refused);
        assert_eq!(check(5, &half), refused);
        assert_eq!(check(5, &both), Ok(()));
    }
}

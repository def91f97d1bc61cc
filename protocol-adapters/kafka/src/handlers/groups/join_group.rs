//! JoinGroup, key 11, versions 0–9; KIP-62 (rebalance timeout, 1), KIP-394 (a member id comes first,
//! 4), KIP-345 (static members, 5), KIP-559 (protocol type, 7), KIP-800 (reason, 8), KIP-814
//! (skipped assignment, 9).
//!
//! The answer waits for the other members, in the coordinator and not here; it ends when the
//! connection does, and is `NOT_COORDINATOR` when the server stops.

use broker::groups::{self, Client, Command, GroupProtocol, Joined, Response, Uuid};
use bytes::Bytes;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use kafka_protocol::protocol::StrBytes;

use super::super::{Begun, Call, Context};
use super::{ANSWERED_AS_ASKED, Settled, client, kept, owned, settle_with_others, submit};
use crate::mapping::{self, group_error_code};

/// First version whose client comes back with the id that it is told.
const KNOWN_MEMBER_VERSION_MIN: i16 = 4;
/// First version that tells the protocol's type, and no protocol by null instead of an empty name.
const PROTOCOL_TYPE_VERSION_MIN: i16 = 7;
/// First version that can skip the leader's assignment.
const SKIP_ASSIGNMENT_VERSION: i16 = 9;

pub(in crate::handlers) async fn begin(
    context: &Context,
    call: Call,
    client_id: Option<&Bytes>,
    request: JoinGroupRequest,
) -> Begun {
    let group_id = request.group_id.to_string();
    let member_id = request.member_id.to_string();
    let fresh_id = context.broker.fresh_group_id();
    let command = command(call.version, request, client(context, client_id), fresh_id);
    let asked = submit(context, &group_id, command).await;
    let stop = context.stop.clone();
    Begun::Pending(Box::pin(async move {
        let settled = settle_with_others(asked, stop).await;
        call.answer(&respond(call.version, &member_id, settled))
    }))
}

fn command(version: i16, request: JoinGroupRequest, client: Client, fresh_id: Uuid) -> Command {
    let protocols = request.protocols.iter().map(|protocol| GroupProtocol {
        name: protocol.name.to_string(),
        metadata: kept(&protocol.metadata),
    });
    Command::JoinGroup(groups::JoinGroup {
        group_id: request.group_id.to_string(),
        member_id: request.member_id.to_string(),
        client,
        protocol_type: request.protocol_type.to_string(),
        protocols: protocols.collect(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        requires_known_member_id: version >= KNOWN_MEMBER_VERSION_MIN,
        supports_skip_assignment: version >= SKIP_ASSIGNMENT_VERSION,
        group_instance_id: owned(request.group_instance_id),
        reason: owned(request.reason),
        fresh_id,
    })
}

fn respond(version: i16, member_id: &str, settled: Settled) -> JoinGroupResponse {
    let (error_code, joined) = match settled {
        Ok(Response::JoinGroup(joined)) => (group_error_code(joined.error), joined),
        Ok(_) => unreachable!("{ANSWERED_AS_ASKED}"),
        Err(error) => {
            let nothing = Joined {
                generation_id: -1,
                member_id: member_id.to_owned(),
                ..Joined::default()
            };
            (error.code(), nothing)
        }
    };
    let protocol_name = match (joined.protocol_name, version) {
        (None, ..PROTOCOL_TYPE_VERSION_MIN) => Some(StrBytes::default()),
        (name, _) => name.map(mapping::text),
    };
    let members = joined.members.into_iter().map(|member| {
        JoinGroupResponseMember::default()
            .with_member_id(mapping::text(member.member_id))
            .with_group_instance_id(member.group_instance_id.map(mapping::text))
            .with_metadata(member.metadata)
    });
    JoinGroupResponse::default()
        .with_error_code(error_code)
        .with_generation_id(joined.generation_id)
        .with_protocol_type(joined.protocol_type.map(mapping::text))
        .with_protocol_name(protocol_name)
        .with_leader(mapping::text(joined.leader))
        .with_skip_assignment(joined.skip_assignment)
        .with_member_id(mapping::text(joined.member_id))
        .with_members(members.collect())
}

#[cfg(test)]
mod tests {
    use broker::groups::{GroupError, JoinedMember};
    use kafka_protocol::ResponseError;

    use super::super::tests::through_the_wire;
    use super::*;

    #[test]
    fn a_new_member_is_sent_back_with_an_id_from_version_4_on() {
        for version in 0..=9 {
            let asked = command(
                version,
                JoinGroupRequest::default(),
                Client::default(),
                Uuid(5),
            );
            let Command::JoinGroup(asked) = asked else {
                panic!("{asked:?}")
            };
            assert_eq!(asked.requires_known_member_id, version >= 4);
            assert_eq!(asked.supports_skip_assignment, version >= 9);
            assert_eq!(asked.rebalance_timeout_ms, -1, "not told in version 0");
            assert_eq!(asked.fresh_id, Uuid(5));
        }
    }

    #[test]
    fn the_leader_learns_of_all_members_in_every_version() {
        for version in 0..=9 {
            let joined = Joined {
                error: None,
                generation_id: 3,
                protocol_type: Some("consumer".to_owned()),
                protocol_name: Some("range".to_owned()),
                leader: "a".to_owned(),
                skip_assignment: version >= 9,
                member_id: "a".to_owned(),
                members: vec![JoinedMember {
                    member_id: "a".to_owned(),
                    group_instance_id: Some("i".to_owned()),
                    metadata: Bytes::from_static(b"m"),
                }],
            };
            let told = respond(version, "a", Ok(Response::JoinGroup(joined)));
            let told = through_the_wire(&told, version);
            assert_eq!((told.error_code, told.generation_id), (0, 3));
            assert_eq!(told.protocol_type.is_some(), version >= 7);
            assert_eq!(told.protocol_name.as_deref(), Some("range"));
            assert_eq!(told.skip_assignment, version >= 9);
            assert_eq!((&*told.leader, &*told.member_id), ("a", "a"));
            let [member] = &told.members[..] else {
                panic!("{told:?}")
            };
            assert_eq!(member.metadata, "m");
            assert_eq!(member.group_instance_id.is_some(), version >= 5);
        }
    }

    #[test]
    fn a_refused_member_keeps_its_id_and_has_no_protocol() {
        for version in 0..=9 {
            let refused = Joined::refused("m", GroupError::InconsistentGroupProtocol);
            for (settled, code) in [
                (Ok(Response::JoinGroup(refused)), 23),
                (Err(ResponseError::CoordinatorLoadInProgress), 14),
            ] {
                let told = through_the_wire(&respond(version, "m", settled), version);
                assert_eq!((told.error_code, told.generation_id), (code, -1));
                assert_eq!(&*told.member_id, "m");
                let no_protocol = (version < 7).then(StrBytes::default);
                assert_eq!(told.protocol_name, no_protocol, "{version}");
            }
        }
    }
}

//! JoinGroup, key 11, version 9 (KIP-345 static members, KIP-394 member ids, KIP-800 reasons,
//! KIP-814 skipped assignments).

use bytes::Bytes;

use super::JOIN_GROUP;
use crate::wire::Writer;
use crate::{ClientError, Connection, ErrorCode};

/// A member that joins a classic group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinGroup {
    /// The group.
    pub group_id: String,
    /// The coordinator forgets a member it has not heard of for this long.
    pub session_timeout_ms: i32,
    /// How long the others are waited for.
    pub rebalance_timeout_ms: i32,
    /// The member's id, empty for one that has none yet.
    pub member_id: String,
    /// The id of a static member.
    pub instance_id: Option<String>,
    /// What kind of group it is; consumers say `consumer`.
    pub protocol_type: String,
    /// The member's protocols with its metadata for each, the most wanted first.
    pub protocols: Vec<(String, Bytes)>,
    /// Why it joins.
    pub reason: Option<String>,
}

/// What a member is told at the end of the join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedGroup {
    /// What went wrong.
    pub error: ErrorCode,
    /// The generation, -1 on an error.
    pub generation: i32,
    /// The kind of the group.
    pub protocol_type: Option<String>,
    /// The protocol that all members speak.
    pub protocol_name: Option<String>,
    /// The leader's member id.
    pub leader: String,
    /// Whether the leader must not compute an assignment.
    pub skip_assignment: bool,
    /// This member's id, also given with `MEMBER_ID_REQUIRED`.
    pub member_id: String,
    /// All members, told to the leader only.
    pub members: Vec<JoinedMember>,
}

/// A member, as the leader is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: String,
    /// The id of a static member.
    pub instance_id: Option<String>,
    /// Its metadata for the protocol chosen.
    pub metadata: Bytes,
}

impl Connection {
    /// Joins a group. The answer comes when all members have joined; other requests on this
    /// connection are answered behind it.
    pub async fn join_group(&self, join: &JoinGroup) -> Result<JoinedGroup, ClientError> {
        let mut body = Writer::new();
        body.string(&join.group_id)
            .i32(join.session_timeout_ms)
            .i32(join.rebalance_timeout_ms)
            .string(&join.member_id)
            .nullable_string(join.instance_id.as_deref())
            .string(&join.protocol_type);
        body.array(&join.protocols, |item, (name, metadata)| {
            item.string(name).compact_bytes(Some(metadata)).no_tags();
        });
        body.nullable_string(join.reason.as_deref()).no_tags();
        let mut answer = self.call(JOIN_GROUP, 9, &body.finish()).await?;
        let _throttle_ms = answer.i32()?;
        let joined = JoinedGroup {
            error: ErrorCode(answer.i16()?),
            generation: answer.i32()?,
            protocol_type: answer.nullable_string()?,
            protocol_name: answer.nullable_string()?,
            leader: answer.string()?,
            skip_assignment: answer.bool()?,
            member_id: answer.string()?,
            members: answer.array(|item| {
                let member = JoinedMember {
                    member_id: item.string()?,
                    instance_id: item.nullable_string()?,
                    metadata: item.bytes()?,
                };
                item.skip_tags()?;
                Ok(member)
            })?,
        };
        answer.skip_tags()?;
        answer.finish()?;
        Ok(joined)
    }
}

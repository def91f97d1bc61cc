//! SyncGroup, key 14, version 5 (KIP-559: the protocol's type and name).

use bytes::Bytes;

use super::SYNC_GROUP;
use crate::wire::Writer;
use crate::{ClientError, Connection, ErrorCode};

/// A member that asks for its assignment; the leader brings everybody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncGroup {
    /// The group.
    pub group_id: String,
    /// The generation that the join told.
    pub generation: i32,
    /// The member's id.
    pub member_id: String,
    /// The id of a static member.
    pub instance_id: Option<String>,
    /// The kind of the group, as the join told it.
    pub protocol_type: Option<String>,
    /// The protocol, as the join told it.
    pub protocol_name: Option<String>,
    /// Assignments by member id, from the leader only.
    pub assignments: Vec<(String, Bytes)>,
}

/// What a member is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncedGroup {
    /// What went wrong.
    pub error: ErrorCode,
    /// The kind of the group.
    pub protocol_type: Option<String>,
    /// The protocol.
    pub protocol_name: Option<String>,
    /// This member's assignment, as the leader wrote it.
    pub assignment: Bytes,
}

impl Connection {
    /// Asks for this member's assignment. The answer comes when the leader has brought it; other
    /// requests on this connection are answered behind it.
    pub async fn sync_group(&self, sync: &SyncGroup) -> Result<SyncedGroup, ClientError> {
        let mut body = Writer::new();
        body.string(&sync.group_id)
            .i32(sync.generation)
            .string(&sync.member_id)
            .nullable_string(sync.instance_id.as_deref())
            .nullable_string(sync.protocol_type.as_deref())
            .nullable_string(sync.protocol_name.as_deref());
        body.array(&sync.assignments, |item, (member_id, assignment)| {
            item.string(member_id)
                .compact_bytes(Some(assignment))
                .no_tags();
        });
        body.no_tags();
        let mut answer = self.call(SYNC_GROUP, 5, &body.finish()).await?;
        let _throttle_ms = answer.i32()?;
        let synced = SyncedGroup {
            error: ErrorCode(answer.i16()?),
            protocol_type: answer.nullable_string()?,
            protocol_name: answer.nullable_string()?,
            assignment: answer.bytes()?,
        };
        answer.skip_tags()?;
        answer.finish()?;
        Ok(synced)
    }
}

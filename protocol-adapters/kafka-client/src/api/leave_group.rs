//! LeaveGroup, key 13, version 5 (KIP-345: several members at once; KIP-800: reasons).

use super::LEAVE_GROUP;
use crate::wire::Writer;
use crate::{ClientError, Connection, ErrorCode};

/// A member that leaves, or is removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeavingMember {
    /// Its id; empty for a static member named by its instance id alone.
    pub member_id: String,
    /// The id of a static member.
    pub instance_id: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// What became of a leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftGroup {
    /// What went wrong with the whole.
    pub error: ErrorCode,
    /// What became of each member.
    pub members: Vec<LeftMember>,
}

/// What became of one member's leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftMember {
    /// Its id.
    pub member_id: String,
    /// The id of a static member.
    pub instance_id: Option<String>,
    /// What went wrong.
    pub error: ErrorCode,
}

impl Connection {
    /// Takes members out of a group.
    pub async fn leave_group(
        &self,
        group_id: &str,
        members: &[LeavingMember],
    ) -> Result<LeftGroup, ClientError> {
        let mut body = Writer::new();
        body.string(group_id).array(members, |item, member| {
            item.string(&member.member_id)
                .nullable_string(member.instance_id.as_deref())
                .nullable_string(member.reason.as_deref())
                .no_tags();
        });
        body.no_tags();
        let mut answer = self.call(LEAVE_GROUP, 5, &body.finish()).await?;
        let _throttle_ms = answer.i32()?;
        let left = LeftGroup {
            error: ErrorCode(answer.i16()?),
            members: answer.array(|item| {
                let member = LeftMember {
                    member_id: item.string()?,
                    instance_id: item.nullable_string()?,
                    error: ErrorCode(item.i16()?),
                };
                item.skip_tags()?;
                Ok(member)
            })?,
        };
        answer.skip_tags()?;
        answer.finish()?;
        Ok(left)
    }
}

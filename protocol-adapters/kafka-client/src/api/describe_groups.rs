//! DescribeGroups, key 15, version 6 (KIP-1043: `GROUP_ID_NOT_FOUND`).

use bytes::Bytes;

use super::DESCRIBE_GROUPS;
use crate::wire::{Reader, Writer};
use crate::{ClientError, Connection, ErrorCode};

/// A classic group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicGroup {
    /// What went wrong.
    pub error: ErrorCode,
    /// What the server says about it.
    pub message: Option<String>,
    /// Its id.
    pub group_id: String,
    /// Its state's name.
    pub state: String,
    /// Its protocol type.
    pub protocol_type: String,
    /// The protocol chosen.
    pub protocol_name: String,
    /// Its members.
    pub members: Vec<ClassicMember>,
}

/// A classic group's member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicMember {
    /// Its id.
    pub member_id: String,
    /// The id of a static member.
    pub instance_id: Option<String>,
    /// The name its client gave itself.
    pub client_id: String,
    /// Where its client is.
    pub client_host: String,
    /// Its metadata for the protocol chosen.
    pub metadata: Bytes,
    /// Its assignment.
    pub assignment: Bytes,
}

impl Connection {
    /// Describes classic groups; one result each.
    pub async fn describe_groups(
        &self,
        group_ids: &[&str],
    ) -> Result<Vec<ClassicGroup>, ClientError> {
        let mut body = Writer::new();
        body.array(group_ids, |item, group_id| {
            item.string(group_id);
        });
        body.bool(false).no_tags();
        let mut answer = self.call(DESCRIBE_GROUPS, 6, &body.finish()).await?;
        let _throttle_ms = answer.i32()?;
        let groups = answer.array(read_group)?;
        answer.skip_tags()?;
        answer.finish()?;
        Ok(groups)
    }
}

fn read_group(item: &mut Reader) -> Result<ClassicGroup, ClientError> {
    let group = ClassicGroup {
        error: ErrorCode(item.i16()?),
        message: item.nullable_string()?,
        group_id: item.string()?,
        state: item.string()?,
        protocol_type: item.string()?,
        protocol_name: item.string()?,
        members: item.array(read_member)?,
    };
    let _authorized_operations = item.i32()?;
    item.skip_tags()?;
    Ok(group)
}

fn read_member(item: &mut Reader) -> Result<ClassicMember, ClientError> {
    let member = ClassicMember {
        member_id: item.string()?,
        instance_id: item.nullable_string()?,
        client_id: item.string()?,
        client_host: item.string()?,
        metadata: item.bytes()?,
        assignment: item.bytes()?,
    };
    item.skip_tags()?;
    Ok(member)
}

//! Heartbeat, key 12, version 4 (KIP-345: static members).

use super::HEARTBEAT;
use crate::wire::Writer;
use crate::{ClientError, Connection, ErrorCode};

/// A sign of life of a classic group's member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// The group.
    pub group_id: String,
    /// The generation it is in.
    pub generation: i32,
    /// The member's id.
    pub member_id: String,
    /// The id of a static member.
    pub instance_id: Option<String>,
}

impl Connection {
    /// Gives a sign of life; the code says whether the member must rejoin.
    pub async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<ErrorCode, ClientError> {
        let mut body = Writer::new();
        body.string(&heartbeat.group_id)
            .i32(heartbeat.generation)
            .string(&heartbeat.member_id)
            .nullable_string(heartbeat.instance_id.as_deref())
            .no_tags();
        let mut answer = self.call(HEARTBEAT, 4, &body.finish()).await?;
        let _throttle_ms = answer.i32()?;
        let error = ErrorCode(answer.i16()?);
        answer.skip_tags()?;
        answer.finish()?;
        Ok(error)
    }
}

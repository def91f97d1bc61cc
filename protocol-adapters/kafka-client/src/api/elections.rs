//! ElectLeaders, key 43, version 2 (KIP-460).

use super::ELECT_LEADERS;
use crate::wire::Writer;
use crate::{ClientError, Connection, ErrorCode};

/// Who may become leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElectionKind {
    /// The preferred replica, when it is in sync.
    Preferred = 0,
    /// Any replica, in sync or not.
    Unclean = 1,
}

/// What an election of one partition's leader came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElectedLeader {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// What went wrong; `ELECTION_NOT_NEEDED` when the preferred replica leads already.
    pub error: ErrorCode,
    /// What the server says about it.
    pub message: Option<String>,
}

impl Connection {
    /// Elects leaders of these partitions, or of all with `None` (then only partitions where an
    /// election was needed are told).
    pub async fn elect_leaders(
        &self,
        kind: ElectionKind,
        partitions: Option<&[(String, i32)]>,
        timeout_ms: i32,
    ) -> Result<Vec<ElectedLeader>, ClientError> {
        let mut body = Writer::new();
        body.i8(kind as i8);
        match partitions {
            Some(partitions) => body.partitions_by_topic(partitions),
            None => body.null_array(),
        };
        body.i32(timeout_ms).no_tags();
        let mut answer = self.call(ELECT_LEADERS, 2, &body.finish()).await?;
        let _throttle_ms = answer.i32()?;
        let error = ErrorCode(answer.i16()?);
        let topics = answer.array(|item| {
            let topic = item.string()?;
            let partitions = item.array(|item| {
                let elected = ElectedLeader {
                    topic: topic.clone(),
                    partition: item.i32()?,
                    error: ErrorCode(item.i16()?),
                    message: item.nullable_string()?,
                };
                item.skip_tags()?;
                Ok(elected)
            })?;
            item.skip_tags()?;
            Ok(partitions)
        })?;
        answer.skip_tags()?;
        answer.finish()?;
        error.check()?;
        Ok(topics.into_iter().flatten().collect())
    }
}

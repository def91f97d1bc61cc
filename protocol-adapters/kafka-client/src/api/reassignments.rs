//! AlterPartitionReassignments, key 45, version 1, and ListPartitionReassignments, key 46,
//! version 0 (KIP-455).

use super::{ALTER_PARTITION_REASSIGNMENTS, LIST_PARTITION_REASSIGNMENTS};
use crate::wire::{Reader, Writer};
use crate::{ClientError, Connection, ErrorCode};

/// Where a partition is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reassignment {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Its replicas, the preferred leader first; `None` cancels what is under way.
    pub replicas: Option<Vec<i32>>,
}

/// What became of the request for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlteredReassignment {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// What went wrong.
    pub error: ErrorCode,
    /// What the server says about it.
    pub message: Option<String>,
}

/// A reassignment that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OngoingReassignment {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Every replica, those that come and those that go included.
    pub replicas: Vec<i32>,
    /// Those that come.
    pub adding: Vec<i32>,
    /// Those that go.
    pub removing: Vec<i32>,
}

impl Connection {
    /// Begins or cancels reassignments; one result each, as the server orders them. It returns when
    /// they have begun. Without `allow_factor_change` a list of another length is refused.
    pub async fn alter_partition_reassignments(
        &self,
        reassignments: &[Reassignment],
        allow_factor_change: bool,
        timeout_ms: i32,
    ) -> Result<Vec<AlteredReassignment>, ClientError> {
        let mut body = Writer::new();
        body.i32(timeout_ms).bool(allow_factor_change);
        body.by_topic(
            reassignments,
            |reassignment| &reassignment.topic,
            |item, reassignment| {
                item.i32(reassignment.partition);
                match &reassignment.replicas {
                    Some(replicas) => item.array(replicas, |item, replica| {
                        item.i32(*replica);
                    }),
                    None => item.null_array(),
                };
                item.no_tags();
            },
        );
        body.no_tags();
        let mut answer = self
            .call(ALTER_PARTITION_REASSIGNMENTS, 1, &body.finish())
            .await?;
        let _throttle_ms = answer.i32()?;
        let _allow_factor_change = answer.bool()?;
        let error = ErrorCode(answer.i16()?);
        let message = answer.nullable_string()?;
        let topics = answer.array(|item| {
            let topic = item.string()?;
            let partitions = item.array(|item| {
                let altered = AlteredReassignment {
                    topic: topic.clone(),
                    partition: item.i32()?,
                    error: ErrorCode(item.i16()?),
                    message: item.nullable_string()?,
                };
                item.skip_tags()?;
                Ok(altered)
            })?;
            item.skip_tags()?;
            Ok(partitions)
        })?;
        answer.skip_tags()?;
        answer.finish()?;
        error.check_with(message)?;
        Ok(topics.into_iter().flatten().collect())
    }

    /// The reassignments of these partitions that are under way, or all with `None`.
    pub async fn list_partition_reassignments(
        &self,
        partitions: Option<&[(String, i32)]>,
        timeout_ms: i32,
    ) -> Result<Vec<OngoingReassignment>, ClientError> {
        let mut body = Writer::new();
        body.i32(timeout_ms);
        match partitions {
            Some(partitions) => body.partitions_by_topic(partitions),
            None => body.null_array(),
        };
        body.no_tags();
        let mut answer = self
            .call(LIST_PARTITION_REASSIGNMENTS, 0, &body.finish())
            .await?;
        let _throttle_ms = answer.i32()?;
        let error = ErrorCode(answer.i16()?);
        let message = answer.nullable_string()?;
        let topics = answer.array(|item| {
            let topic = item.string()?;
            let partitions = item.array(|item| {
                let ongoing = OngoingReassignment {
                    topic: topic.clone(),
                    partition: item.i32()?,
                    replicas: item.array(Reader::i32)?,
                    adding: item.array(Reader::i32)?,
                    removing: item.array(Reader::i32)?,
                };
                item.skip_tags()?;
                Ok(ongoing)
            })?;
            item.skip_tags()?;
            Ok(partitions)
        })?;
        answer.skip_tags()?;
        answer.finish()?;
        error.check_with(message)?;
        Ok(topics.into_iter().flatten().collect())
    }
}

//! CreatePartitions, key 37, version 3.

use super::CREATE_PARTITIONS;
use crate::wire::Writer;
use crate::{ClientError, Connection, ErrorCode};

/// A topic that is to have more partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPartitions {
    /// The topic.
    pub topic: String,
    /// The new total.
    pub total: i32,
    /// Replicas of each new partition, by hand; `None` means automatic.
    pub assignments: Option<Vec<Vec<i32>>>,
}

impl Connection {
    /// Raises partition counts; one `(topic, result)` each.
    pub async fn create_partitions(
        &self,
        topics: &[NewPartitions],
        timeout_ms: i32,
        validate_only: bool,
    ) -> Result<Vec<(String, Result<(), ClientError>)>, ClientError> {
        let mut body = Writer::new();
        body.array(topics, |item, topic| {
            item.string(&topic.topic).i32(topic.total);
            match &topic.assignments {
                Some(assignments) => item.array(assignments, |item, replicas| {
                    item.array(replicas, |item, replica| {
                        item.i32(*replica);
                    });
                    item.no_tags();
                }),
                None => item.null_array(),
            };
            item.no_tags();
        });
        body.i32(timeout_ms).bool(validate_only).no_tags();
        let mut answer = self.call(CREATE_PARTITIONS, 3, &body.finish()).await?;
        let _throttle_ms = answer.i32()?;
        let results = answer.array(|item| {
            let name = item.string()?;
            let error = ErrorCode(item.i16()?);
            let message = item.nullable_string()?;
            item.skip_tags()?;
            Ok((name, error.check_with(message)))
        })?;
        answer.skip_tags()?;
        answer.finish()?;
        Ok(results)
    }
}

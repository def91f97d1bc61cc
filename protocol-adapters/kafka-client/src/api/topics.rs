//! CreateTopics, key 19, version 7; DeleteTopics, key 20, version 6.

use super::{CREATE_TOPICS, DELETE_TOPICS};
use crate::wire::Writer;
use crate::{ClientError, Connection, ErrorCode};

/// A topic to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateTopic {
    /// Its name.
    pub name: String,
    /// Number of partitions, -1 for the server's default.
    pub partitions: i32,
    /// Number of replicas, -1 for the server's default.
    pub replication_factor: i16,
    /// Replicas by partition, given by hand.
    pub assignments: Vec<(i32, Vec<i32>)>,
    /// Configs.
    pub configs: Vec<(String, Option<String>)>,
}

impl CreateTopic {
    /// With the server's defaults.
    #[must_use]
    pub fn new(name: impl Into<String>) -> CreateTopic {
        CreateTopic {
            name: name.into(),
            partitions: -1,
            replication_factor: -1,
            assignments: Vec::new(),
            configs: Vec::new(),
        }
    }
}

/// What became of a topic to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its name.
    pub name: String,
    /// Its id.
    pub topic_id: [u8; 16],
    /// What went wrong.
    pub error: ErrorCode,
    /// What the server says about it.
    pub message: Option<String>,
    /// Number of partitions.
    pub partitions: i32,
    /// Number of replicas.
    pub replication_factor: i16,
}

/// What became of a topic to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedTopic {
    /// Its name.
    pub name: Option<String>,
    /// Its id.
    pub topic_id: [u8; 16],
    /// What went wrong.
    pub error: ErrorCode,
    /// What the server says about it.
    pub message: Option<String>,
}

impl Connection {
    /// Creates topics; one result each.
    pub async fn create_topics(
        &self,
        topics: &[CreateTopic],
        timeout_ms: i32,
        validate_only: bool,
    ) -> Result<Vec<CreatedTopic>, ClientError> {
        let mut body = Writer::new();
        body.array(topics, |item, topic| {
            item.string(&topic.name)
                .i32(topic.partitions)
                .i16(topic.replication_factor);
            item.array(&topic.assignments, |item, (partition, replicas)| {
                item.i32(*partition);
                item.array(replicas, |item, replica| {
                    item.i32(*replica);
                });
                item.no_tags();
            });
            item.array(&topic.configs, |item, (key, value)| {
                item.string(key).nullable_string(value.as_deref()).no_tags();
            });
            item.no_tags();
        });
        body.i32(timeout_ms).bool(validate_only).no_tags();
        let mut answer = self.call(CREATE_TOPICS, 7, &body.finish()).await?;
        let _throttle_ms = answer.i32()?;
        let created = answer.array(|item| {
            let created = CreatedTopic {
                name: item.string()?,
                topic_id: item.uuid()?,
                error: ErrorCode(item.i16()?),
                message: item.nullable_string()?,
                partitions: item.i32()?,
                replication_factor: item.i16()?,
            };
            item.nullable_array(|config| {
                let _name = config.string()?;
                let _value = config.nullable_string()?;
                let _read_only = config.bool()?;
                let _source = config.i8()?;
                let _sensitive = config.bool()?;
                config.skip_tags()
            })?;
            item.skip_tags()?;
            Ok(created)
        })?;
        answer.skip_tags()?;
        answer.finish()?;
        Ok(created)
    }

    /// Deletes topics by name; one result each.
    pub async fn delete_topics(
        &self,
        names: &[&str],
        timeout_ms: i32,
    ) -> Result<Vec<DeletedTopic>, ClientError> {
        let mut body = Writer::new();
        body.array(names, |item, name| {
            item.nullable_string(Some(name)).uuid([0; 16]).no_tags();
        });
        body.i32(timeout_ms).no_tags();
        let mut answer = self.call(DELETE_TOPICS, 6, &body.finish()).await?;
        let _throttle_ms = answer.i32()?;
        let deleted = answer.array(|item| {
            let deleted = DeletedTopic {
                name: item.nullable_string()?,
                topic_id: item.uuid()?,
                error: ErrorCode(item.i16()?),
                message: item.nullable_string()?,
            };
            item.skip_tags()?;
            Ok(deleted)
        })?;
        answer.skip_tags()?;
        answer.finish()?;
        Ok(deleted)
    }
}

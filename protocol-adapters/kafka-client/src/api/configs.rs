//! DescribeConfigs, key 32, version 4; IncrementalAlterConfigs, key 44, version 1 (KIP-339).

use super::{DESCRIBE_CONFIGS, INCREMENTAL_ALTER_CONFIGS};
use crate::wire::{Reader, Writer};
use crate::{ClientError, Connection, ErrorCode};

/// Whose configs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigResource {
    /// A topic's.
    Topic(String),
    /// A node's, by id; the empty string stands for all nodes.
    Broker(String),
}

impl ConfigResource {
    fn parts(&self) -> (i8, &str) {
        match self {
            ConfigResource::Topic(name) => (2, name),
            ConfigResource::Broker(name) => (4, name),
        }
    }
}

/// One config as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Its key.
    pub name: String,
    /// Its value.
    pub value: Option<String>,
    /// Whether it cannot be set.
    pub read_only: bool,
    /// Kafka's number for where the value comes from: 1 topic, 4 static broker, 5 default, ….
    pub source: i8,
    /// Whether the value is withheld.
    pub sensitive: bool,
    /// Kafka's number for its type.
    pub kind: i8,
    /// What it means, when asked for.
    pub documentation: Option<String>,
}

impl Config {
    /// Kafka's `DYNAMIC_TOPIC_CONFIG`: set on the topic itself.
    pub const SOURCE_TOPIC: i8 = 1;
}

/// What to do with a config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlterOperation {
    /// Set it.
    Set = 0,
    /// Back to the default.
    Delete = 1,
    /// Add to a list.
    Append = 2,
    /// Take from a list.
    Subtract = 3,
}

/// A change of one config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterConfig {
    /// The key.
    pub name: String,
    /// What to do.
    pub operation: AlterOperation,
    /// The value.
    pub value: Option<String>,
}

impl Connection {
    /// The configs of one resource; those named, or all with `None`.
    pub async fn describe_configs(
        &self,
        resource: &ConfigResource,
        names: Option<&[&str]>,
        documentation: bool,
    ) -> Result<Vec<Config>, ClientError> {
        let mut body = Writer::new();
        body.array([resource.parts()], |item, (kind, name)| {
            item.i8(kind).string(name);
            match names {
                Some(names) => item.array(names, |item, name| {
                    item.string(name);
                }),
                None => item.null_array(),
            };
            item.no_tags();
        });
        body.bool(false).bool(documentation).no_tags();
        let mut answer = self.call(DESCRIBE_CONFIGS, 4, &body.finish()).await?;
        let _throttle_ms = answer.i32()?;
        let mut results = answer.array(|item| {
            let error = ErrorCode(item.i16()?);
            let message = item.nullable_string()?;
            let _kind = item.i8()?;
            let _name = item.string()?;
            let configs = item.array(read_config)?;
            item.skip_tags()?;
            Ok(error.check_with(message).map(|()| configs))
        })?;
        answer.skip_tags()?;
        answer.finish()?;
        results.pop().ok_or(ClientError::Malformed("no result"))?
    }

    /// Changes configs of one resource.
    pub async fn incremental_alter_configs(
        &self,
        resource: &ConfigResource,
        changes: &[AlterConfig],
        validate_only: bool,
    ) -> Result<(), ClientError> {
        let mut body = Writer::new();
        body.array([resource.parts()], |item, (kind, name)| {
            item.i8(kind).string(name);
            item.array(changes, |item, change| {
                item.string(&change.name)
                    .i8(change.operation as i8)
                    .nullable_string(change.value.as_deref())
                    .no_tags();
            });
            item.no_tags();
        });
        body.bool(validate_only).no_tags();
        let mut answer = self
            .call(INCREMENTAL_ALTER_CONFIGS, 1, &body.finish())
            .await?;
        let _throttle_ms = answer.i32()?;
        let mut results = answer.array(|item| {
            let error = ErrorCode(item.i16()?);
            let message = item.nullable_string()?;
            let _kind = item.i8()?;
            let _name = item.string()?;
            item.skip_tags()?;
            Ok(error.check_with(message))
        })?;
        answer.skip_tags()?;
        answer.finish()?;
        results.pop().ok_or(ClientError::Malformed("no result"))?
    }
}

fn read_config(item: &mut Reader) -> Result<Config, ClientError> {
    let name = item.string()?;
    let value = item.nullable_string()?;
    let read_only = item.bool()?;
    let source = item.i8()?;
    let sensitive = item.bool()?;
    item.array(|synonym| {
        let _name = synonym.string()?;
        let _value = synonym.nullable_string()?;
        let _source = synonym.i8()?;
        synonym.skip_tags()
    })?;
    let kind = item.i8()?;
    let documentation = item.nullable_string()?;
    item.skip_tags()?;
    Ok(Config {
        name,
        value,
        read_only,
        source,
        sensitive,
        kind,
        documentation,
    })
}

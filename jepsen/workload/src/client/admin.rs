//! Operations on topics, settings, replicas and leaders, over the thin client's connections.
//!
//! Changes go to the controller and are tried again only while it is certain that nothing happened.
//! Reads go to any node, as clients' do: what a node tells may be a little old.

use std::collections::BTreeMap;
use std::time::Duration;

use jepsen_check::history::{Admin, Key};
use kafka_client::api::{
    AlterConfig, AlterOperation, ConfigResource, CreateTopic, ElectionKind, Reassignment,
};
use kafka_client::{ClientError, Connection, ErrorCode};
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::certainty::{Certainty, is_passing, not_sent, of_change};
use super::nodes::Nodes;
use crate::fault::NodeId;

const PAUSE: Duration = Duration::from_millis(100);

/// What became of an operation.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It happened; what was seen is filled in.
    Ok(Admin),
    /// It certainly did not happen and never will.
    Fail(String),
    /// It may have happened, or may still.
    Info(String),
}

/// A change that is not of the history's operations: it steers who carries and leads what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Steering {
    /// These nodes carry the partition.
    Reassign(Key, Vec<NodeId>),
    /// Its first replica leads it.
    Elect(Key),
}

/// What new topics are made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicOptions {
    /// Replicas; -1 leaves that to the cluster.
    pub replication_factor: i16,
    /// Settings.
    pub configs: Vec<(String, String)>,
}

/// Carries one operation out.
pub async fn carry_out(
    nodes: &mut Nodes,
    admin: &Admin,
    topics: &TopicOptions,
    timeout: Duration,
) -> Answer {
    match admin {
        Admin::CreateTopic { .. } | Admin::DeleteTopic { .. } | Admin::SetConfig { .. } => {
            change(nodes, admin, topics, timeout).await
        }
        Admin::Describe { topic, .. } => match describe(nodes, topic).await {
            Ok(seen) => Answer::Ok(seen),
            Err(error) => Answer::Fail(error.to_string()),
        },
        Admin::ListTopics { .. } => match nodes.metadata(None).await {
            Ok(metadata) => {
                let named = metadata.topics.into_iter().filter(|topic| !topic.internal);
                let mut topics: Vec<String> = named.map(|topic| topic.name).collect();
                topics.sort_unstable();
                Answer::Ok(Admin::ListTopics { topics })
            }
            Err(error) => Answer::Fail(error.to_string()),
        },
    }
}

async fn change(
    nodes: &mut Nodes,
    admin: &Admin,
    topics: &TopicOptions,
    timeout: Duration,
) -> Answer {
    let deadline = Instant::now() + timeout;
    loop {
        let error = match try_change(nodes, admin, topics, timeout).await {
            Ok(()) => return Answer::Ok(admin.clone()),
            Err(error) => error,
        };
        debug!(?admin, %error, "a change failed");
        match of_change(&error) {
            Certainty::Not if is_passing(&error) && Instant::now() + PAUSE < deadline => {
                sleep(PAUSE).await;
            }
            Certainty::Not => return Answer::Fail(error.to_string()),
            Certainty::Unknown | Certainty::Done => return Answer::Info(error.to_string()),
        }
    }
}

async fn try_change(
    nodes: &mut Nodes,
    admin: &Admin,
    topics: &TopicOptions,
    timeout: Duration,
) -> Result<(), ClientError> {
    let node = controller(nodes).await?;
    let connection = nodes.connection(node).await?;
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let result = request(&connection, admin, topics, timeout_ms).await;
    if let Err(error) = &result {
        nodes.failed(node, error);
    }
    result
}

async fn request(
    connection: &Connection,
    admin: &Admin,
    topics: &TopicOptions,
    timeout_ms: i32,
) -> Result<(), ClientError> {
    const NO_RESULT: ClientError = ClientError::Malformed("no result");
    match admin {
        Admin::CreateTopic { topic, partitions } => {
            let mut wanted = CreateTopic::new(topic);
            wanted.partitions = *partitions;
            wanted.replication_factor = topics.replication_factor;
            let configs = topics.configs.iter();
            wanted.configs = configs
                .map(|(key, value)| (key.clone(), Some(value.clone())))
                .collect();
            let created = connection
                .create_topics(&[wanted], timeout_ms, false)
                .await?;
            let created = created.into_iter().next().ok_or(NO_RESULT)?;
            created.error.check_with(created.message)
        }
        Admin::DeleteTopic { topic } => {
            let deleted = connection.delete_topics(&[topic], timeout_ms).await?;
            let deleted = deleted.into_iter().next().ok_or(NO_RESULT)?;
            deleted.error.check_with(deleted.message)
        }
        Admin::SetConfig { topic, key, value } => {
            let resource = ConfigResource::Topic(topic.clone());
            let set = AlterConfig {
                name: key.clone(),
                operation: AlterOperation::Set,
                value: Some(value.clone()),
            };
            connection
                .incremental_alter_configs(&resource, &[set], false)
                .await
        }
        Admin::Describe { .. } | Admin::ListTopics { .. } => Ok(()),
    }
}

/// What one node says of a topic.
async fn describe(nodes: &mut Nodes, topic: &str) -> Result<Admin, ClientError> {
    let mut failure = ClientError::NotSent("no address is known".to_owned());
    for node in nodes.all() {
        match describe_at(nodes, node, topic).await {
            Ok(seen) => return Ok(seen),
            Err(error) => {
                nodes.failed(node, &error);
                failure = error;
            }
        }
    }
    Err(failure)
}

async fn describe_at(nodes: &mut Nodes, node: NodeId, name: &str) -> Result<Admin, ClientError> {
    let metadata = nodes.metadata_of(node, Some(&[name])).await?;
    let mut told = metadata.topics.into_iter().filter(|told| told.name == name);
    let told = told
        .next()
        .ok_or(ClientError::Malformed("the topic is not in the answer"))?;
    let missing = |configs| Admin::Describe {
        topic: name.to_owned(),
        exists: Some(false),
        partitions: None,
        configs,
    };
    match told.error {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => return Ok(missing(BTreeMap::new())),
        error => error.check()?,
    }
    let connection = nodes.connection(node).await?;
    let resource = ConfigResource::Topic(name.to_owned());
    let configs = match connection.describe_configs(&resource, None, false).await {
        // It was deleted in between.
        Err(ClientError::Refused {
            code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            ..
        }) => {
            return Ok(missing(BTreeMap::new()));
        }
        configs => configs?,
    };
    let configs = configs.into_iter();
    Ok(Admin::Describe {
        topic: name.to_owned(),
        exists: Some(true),
        partitions: i32::try_from(told.partitions.len()).ok(),
        configs: configs
            .filter_map(|config| Some((config.name, config.value?)))
            .collect(),
    })
}

/// Steers; says what came of it.
///
/// # Errors
///
/// Why it was refused, or why there was no answer.
pub async fn steer(
    nodes: &mut Nodes,
    steering: &Steering,
    timeout: Duration,
) -> Result<(), ClientError> {
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let node = controller(nodes).await?;
    let connection = nodes.connection(node).await?;
    let result = match steering {
        Steering::Reassign(key, replicas) => {
            let replicas = replicas
                .iter()
                .filter_map(|node| i32::try_from(*node).ok())
                .collect();
            let wanted = Reassignment {
                topic: key.topic.clone(),
                partition: key.partition,
                replicas: Some(replicas),
            };
            let wanted = [wanted];
            let altered = connection.alter_partition_reassignments(&wanted, true, timeout_ms);
            let first = altered.await.map(|results| results.into_iter().next());
            first.map(|result| result.map(|one| (one.error, one.message)))
        }
        Steering::Elect(key) => {
            let partitions = [(key.topic.clone(), key.partition)];
            let kind = ElectionKind::Preferred;
            let elected = connection.elect_leaders(kind, Some(&partitions), timeout_ms);
            let first = elected.await.map(|results| results.into_iter().next());
            first.map(|result| result.map(|one| (one.error, one.message)))
        }
    };
    match result {
        Ok(Some((ErrorCode::NONE | ErrorCode::ELECTION_NOT_NEEDED, _))) => Ok(()),
        Ok(Some((code, message))) => code.check_with(message),
        Ok(None) => Err(ClientError::Malformed("no result")),
        Err(error) => {
            nodes.failed(node, &error);
            Err(error)
        }
    }
}

/// The controller, as some node tells just now.
async fn controller(nodes: &mut Nodes) -> Result<NodeId, ClientError> {
    nodes.metadata(Some(&[])).await.map_err(not_sent)?;
    let none = || ClientError::NotSent("there is no controller".to_owned());
    nodes.controller().ok_or_else(none)
}

//! Broker terms as JSON, and every refusal as a problem with what to do next.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use broker::catalogue::NodeState;
use broker::{BrokerError, ClusterStatus, NodeStatus, ShardStatus};
use storage::{NodeId, ShardId};

use crate::model;
use crate::verdict::verdict;

/// A request that was refused, as it is answered.
#[derive(Debug)]
pub(crate) struct Refusal(Box<model::Problem>);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        (status, kind, Json(*self.0)).into_response()
    }
}

fn refusal(
    status: StatusCode,
    kind: &str,
    title: &str,
    detail: impl Into<String>,
    hint: Option<&str>,
) -> Refusal {
    Refusal(Box::new(model::Problem {
        kind: kind.to_owned(),
        title: title.to_owned(),
        status: status.as_u16(),
        detail: detail.into(),
        hint: hint.map(str::to_owned),
    }))
}

pub(crate) fn no_such_path() -> Refusal {
    refusal(
        StatusCode::NOT_FOUND,
        "no_such_path",
        "There is nothing here",
        "the path is not known",
        Some("begin at /v1/cluster"),
    )
}

pub(crate) fn wrong_method() -> Refusal {
    refusal(
        StatusCode::METHOD_NOT_ALLOWED,
        "wrong_method",
        "The method does not fit",
        "the path exists, but not with this method",
        Some("GET reads, POST acts, DELETE removes"),
    )
}

pub(crate) fn too_slow(limit_ms: u64) -> Refusal {
    refusal(
        StatusCode::GATEWAY_TIMEOUT,
        "timed_out",
        "It took too long",
        format!("not done within {limit_ms} ms; it may happen yet"),
        Some("look at /v1/cluster before asking again"),
    )
}

pub(crate) fn not_ready() -> Refusal {
    refusal(
        StatusCode::SERVICE_UNAVAILABLE,
        "not_ready",
        "The node is not ready",
        "the node recovers its data, or waits for the other nodes of the cluster",
        Some("its log says what it waits for; ask again in a moment, or ask another node"),
    )
}

pub(crate) fn no_controller() -> Refusal {
    refusal(
        StatusCode::SERVICE_UNAVAILABLE,
        "no_controller",
        "The catalogue has no leader",
        "this node knows of no leader of the catalogue",
        Some(
            "a majority of the catalogue's voters must be alive; `braidlog cluster status` names them",
        ),
    )
}

pub(crate) fn no_number(what: &str, text: &str) -> Refusal {
    let text: String = text.chars().take(40).collect();
    refusal(
        StatusCode::BAD_REQUEST,
        "invalid_request",
        "The path is wrong",
        format!("`{text}` is no {what}'s id: a number is needed"),
        None,
    )
}

pub(crate) fn no_such_node(id: NodeId) -> Refusal {
    refusal(
        StatusCode::NOT_FOUND,
        "unknown_node",
        "There is no such node",
        format!("the cluster has no node {id}"),
        Some("GET /v1/nodes, or `braidlog cluster nodes`, names those it has"),
    )
}

pub(crate) fn no_such_shard(id: ShardId) -> Refusal {
    refusal(
        StatusCode::NOT_FOUND,
        "unknown_shard",
        "There is no such shard",
        format!("the cluster has no shard {id}"),
        Some("GET /v1/shards, or `braidlog cluster status --shards`, names those it has"),
    )
}

pub(crate) fn unknown_query(query: &str, known: &str) -> Refusal {
    let query: String = query.chars().take(40).collect();
    refusal(
        StatusCode::BAD_REQUEST,
        "invalid_request",
        "The query is wrong",
        format!("`?{query}` is not understood, only `?{known}` is"),
        None,
    )
}

pub(crate) fn bad_body(reason: &str, example: &str) -> Refusal {
    refusal(
        StatusCode::BAD_REQUEST,
        "invalid_request",
        "The body is wrong",
        format!("the body is not what is expected: {reason}"),
        Some(&format!("send for example {example}")),
    )
}

impl From<BrokerError> for Refusal {
    fn from(error: BrokerError) -> Refusal {
        let (status, kind, title, hint) = answer(&error);
        refusal(status, kind, title, error.to_string(), hint)
    }
}

type Answer = (StatusCode, &'static str, &'static str, Option<&'static str>);

/// The one place that says what a broker's error is in HTTP.
fn answer(error: &BrokerError) -> Answer {
    match error {
        BrokerError::UnknownTopicOrPartition | BrokerError::UnknownTopicId => (
            StatusCode::NOT_FOUND,
            "not_found",
            "It does not exist",
            None,
        ),
        BrokerError::UnknownNode { .. } => (
            StatusCode::NOT_FOUND,
            "unknown_node",
            "There is no such node",
            Some("`braidlog cluster nodes` names those there are"),
        ),
        BrokerError::NotLeader { .. }
        | BrokerError::LeaderNotAvailable
        | BrokerError::OffsetNotAvailable { .. } => (
            StatusCode::SERVICE_UNAVAILABLE,
            "no_leader",
            "Nobody leads it now",
            Some("ask again in a moment; `braidlog cluster status` says who is missing"),
        ),
        BrokerError::TimedOut { .. } => (
            StatusCode::GATEWAY_TIMEOUT,
            "timed_out",
            "It took too long",
            Some("it may have happened: look at /v1/cluster before asking again"),
        ),
        BrokerError::ShuttingDown => (
            StatusCode::SERVICE_UNAVAILABLE,
            "shutting_down",
            "The node is going down",
            Some("ask another node"),
        ),
        BrokerError::Storage { .. } | BrokerError::DiskFull => (
            StatusCode::INSUFFICIENT_STORAGE,
            "storage",
            "The disk is in the way",
            Some("the node's log says more"),
        ),
        BrokerError::TopicExists
        | BrokerError::Conflict { .. }
        | BrokerError::PolicyViolation { .. }
        | BrokerError::NotEnoughReplicas { .. }
        | BrokerError::NotEnoughReplicasAfterAppend { .. } => (
            StatusCode::CONFLICT,
            "conflict",
            "Something is in the way",
            None,
        ),
        BrokerError::FencedLeaderEpoch { .. }
        | BrokerError::UnknownLeaderEpoch { .. }
        | BrokerError::OffsetOutOfRange { .. }
        | BrokerError::InvalidTopic { .. }
        | BrokerError::InvalidPartitions { .. }
        | BrokerError::InvalidReplicationFactor { .. }
        | BrokerError::InvalidReplicaAssignment { .. }
        | BrokerError::InvalidConfig { .. }
        | BrokerError::InvalidRequest { .. } => (
            StatusCode::BAD_REQUEST,
            "invalid_request",
            "It cannot be done like this",
            None,
        ),
    }
}

/// The cluster, judged.
pub(crate) fn cluster(status: &ClusterStatus) -> model::Cluster {
    let mut cluster = model::Cluster {
        cluster_id: status.cluster_id.clone(),
        controller: status.controller.map(|node| node.0),
        nodes: status.nodes.iter().map(node).collect(),
        shards: status.shards.iter().map(shard).collect(),
        ..model::Cluster::default()
    };
    cluster.verdict = verdict(&cluster);
    cluster
}

fn node(status: &NodeStatus) -> model::Node {
    let address = |(name, (host, port)): (&String, &(String, u16))| {
        let host = match host.contains(':') {
            true => format!("[{host}]"),
            false => host.clone(),
        };
        (name.clone(), format!("{host}:{port}"))
    };
    model::Node {
        id: status.node.id.0,
        rack: status.node.rack.clone(),
        state: match status.node.state {
            NodeState::Active => model::NodeState::Active,
            NodeState::Draining => model::NodeState::Draining,
        },
        alive: status.alive,
        local: status.is_local,
        leads: status.leads,
        replicas: status.replicas,
        waits_for: status.waits_for.clone(),
        barred_from: status.barred_from.iter().map(|shard| shard.0).collect(),
        listeners: status.node.listeners.iter().map(address).collect(),
    }
}

fn shard(status: &ShardStatus) -> model::Shard {
    let numbers = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect::<Vec<u32>>();
    model::Shard {
        id: status.id.0,
        replicas: numbers(&status.replicas),
        target: status.target.as_deref().map(numbers),
        voters: numbers(&status.voters),
        learners: numbers(&status.learners),
        leader: status.leader.map(|node| node.0),
        term: status.term,
        in_sync: numbers(&status.in_sync),
        partitions: status.partitions,
        catching_up: status
            .catching_up
            .iter()
            .map(|(node, bytes_left)| model::CatchingUp {
                node: node.0,
                bytes_left: Some(*bytes_left).filter(|bytes| *bytes > 0),
            })
            .collect(),
        returning: numbers(&status.returning),
        stalled_seconds: status
            .stalled_ms
            .and_then(|ms| u64::try_from(ms / 1_000).ok()),
    }
}

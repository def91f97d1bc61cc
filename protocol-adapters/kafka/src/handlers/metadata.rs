//! Metadata, key 3, versions 0–13; KIP-4 (controller, racks), KIP-320 (leader epochs, 7), KIP-430
//! (operations, 8–10), KIP-516 (topic ids, 10; asking by id, 12).
//!
//! - Null topics are all topics; an empty list is none, but all in version 0, which has no null.
//! - A topic that does not exist is created when the request (from version 4 on) and the broker's
//!   config allow it; until it has leaders, its partitions say `LEADER_NOT_AVAILABLE`.
//! - A topic named twice is told once.

use std::collections::HashSet;

use broker::BrokerError;
use broker::catalogue::{Catalogue, Topic};
use futures_util::future::join_all;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use storage::{PartitionId, TopicId};

use super::{Context, LOOKUPS_AT_ONCE};
use crate::mapping::{self, CLUSTER_OPERATIONS, OPERATIONS_NOT_ASKED, Surface, TOPIC_OPERATIONS};

/// First version that may ask by topic id.
const BY_ID_VERSION_MIN: i16 = 12;
/// First version that tells a leader which the listener's clients cannot reach from none at all.
const LISTENER_VERSION_MIN: i16 = 6;

pub(super) async fn handle(
    context: &Context,
    version: i16,
    request: MetadataRequest,
) -> MetadataResponse {
    let operations = match request.include_topic_authorized_operations {
        true => TOPIC_OPERATIONS,
        false => OPERATIONS_NOT_ASKED,
    };
    let mut topics = match request.topics {
        Some(asked) if !(asked.is_empty() && version == 0) => {
            let create = version < 4 || request.allow_auto_topic_creation;
            let create = create && context.broker.config().auto_create_topics;
            some_topics(context, version, asked, create, operations).await
        }
        _ => all_topics(context, operations),
    };

    let catalogue = context.broker.catalogue();
    let brokers = catalogue.nodes.values();
    let brokers = brokers.filter_map(|node| mapping::endpoint(node, &context.listener_name));
    let brokers = brokers.map(|at| {
        MetadataResponseBroker::default()
            .with_node_id(at.id)
            .with_host(at.host)
            .with_port(at.port)
            .with_rack(at.rack)
    });
    let controller = context
        .broker
        .controller()
        .map_or(BrokerId(-1), mapping::broker_id);
    if version < LISTENER_VERSION_MIN {
        hide_listeners(&mut topics);
    }
    let mut response = MetadataResponse::default()
        .with_brokers(brokers.collect())
        .with_cluster_id(Some(mapping::text(catalogue.cluster_id.as_str())))
        .with_controller_id(controller)
        .with_topics(topics);
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    response
}

/// Before version 6 a leader without the listener was told like none.
fn hide_listeners(topics: &mut [MetadataResponseTopic]) {
    let partitions = topics.iter_mut().flat_map(|topic| &mut topic.partitions);
    for partition in partitions {
        if partition.error_code == ResponseError::ListenerNotFound.code() {
            partition.error_code = ResponseError::LeaderNotAvailable.code();
        }
    }
}

fn all_topics(context: &Context, operations: i32) -> Vec<MetadataResponseTopic> {
    let catalogue = context.broker.catalogue();
    let topics = catalogue.topics.values();
    topics
        .map(|topic| describe(context, &catalogue, topic, operations))
        .collect()
}

async fn some_topics(
    context: &Context,
    version: i16,
    asked: Vec<MetadataRequestTopic>,
    create: bool,
    operations: i32,
) -> Vec<MetadataResponseTopic> {
    let mut seen = HashSet::new();
    let asked: Vec<_> = asked
        .into_iter()
        .filter(|topic| seen.insert((topic.name.clone(), topic.topic_id)))
        .collect();
    let mut topics = Vec::with_capacity(asked.len());
    for some in asked.chunks(LOOKUPS_AT_ONCE) {
        let told = some
            .iter()
            .map(|topic| one_topic(context, version, topic, create, operations));
        topics.extend(join_all(told).await);
    }
    topics
}

async fn one_topic(
    context: &Context,
    version: i16,
    asked: &MetadataRequestTopic,
    create: bool,
    operations: i32,
) -> MetadataResponseTopic {
    let id = TopicId(*asked.topic_id.as_bytes());
    match &asked.name {
        Some(name) if id == TopicId::NONE => {
            by_name(context, name.clone(), create, operations).await
        }
        // As Kafka: with a name and an id, the id counts.
        name if version >= BY_ID_VERSION_MIN => by_id(context, name.clone(), id, operations),
        name => {
            let name = name.clone().unwrap_or_default();
            failed(Some(name), id, ResponseError::InvalidRequest)
        }
    }
}

async fn by_name(
    context: &Context,
    name: TopicName,
    create: bool,
    operations: i32,
) -> MetadataResponseTopic {
    if let Some(topic) = context.broker.catalogue().topics.get(name.as_str()) {
        return describe(context, &context.broker.catalogue(), topic, operations);
    }
    if !create {
        let error = match is_topic_name(&name) {
            true => ResponseError::UnknownTopicOrPartition,
            false => ResponseError::InvalidTopicException,
        };
        return failed(Some(name), TopicId::NONE, error);
    }
    let created = context.broker.auto_create_topic(&name).await;
    let catalogue = context.broker.catalogue();
    match (created, catalogue.topics.get(name.as_str())) {
        (_, Some(topic)) => describe(context, &catalogue, topic, operations),
        (Ok(()), None) => failed(Some(name), TopicId::NONE, ResponseError::LeaderNotAvailable),
        (Err(error), None) => failed(Some(name), TopicId::NONE, creation_error(&error)),
    }
}

/// Clients take `LEADER_NOT_AVAILABLE` as "being created" and ask again.
fn creation_error(error: &BrokerError) -> ResponseError {
    match mapping::error_code(error, Surface::Controller) {
        ResponseError::NotController | ResponseError::RequestTimedOut => {
            ResponseError::LeaderNotAvailable
        }
        ResponseError::PolicyViolation => ResponseError::UnknownTopicOrPartition,
        code => code,
    }
}

fn by_id(
    context: &Context,
    name: Option<TopicName>,
    id: TopicId,
    operations: i32,
) -> MetadataResponseTopic {
    let catalogue = context.broker.catalogue();
    match catalogue.topic_by_id(id) {
        Some(topic) => describe(context, &catalogue, topic, operations),
        None => failed(name, id, ResponseError::UnknownTopicId),
    }
}

fn describe(
    context: &Context,
    catalogue: &Catalogue,
    topic: &Topic,
    operations: i32,
) -> MetadataResponseTopic {
    let indexes = (0u32..).take(topic.partitions.len());
    let mut statuses = context.broker.statuses();
    let partitions = indexes.map(|index| {
        let status = statuses.of(PartitionId {
            topic: topic.id,
            index,
        });
        let told = mapping::picture(catalogue, &context.listener_name, status.as_ref());
        MetadataResponsePartition::default()
            .with_error_code(told.error_code)
            .with_partition_index(mapping::partition_index(index))
            .with_leader_id(told.leader_id)
            .with_leader_epoch(told.leader_epoch)
            .with_replica_nodes(told.replicas)
            .with_isr_nodes(told.in_sync)
            .with_offline_replicas(told.offline)
    });
    MetadataResponseTopic::default()
        .with_name(Some(mapping::topic_name(&topic.name)))
        .with_topic_id(mapping::wire_topic_id(topic.id))
        .with_is_internal(topic.internal)
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(operations)
}

fn failed(name: Option<TopicName>, id: TopicId, error: ResponseError) -> MetadataResponseTopic {
    MetadataResponseTopic::default()
        .with_error_code(error.code())
        .with_name(name)
        .with_topic_id(mapping::wire_topic_id(id))
        .with_topic_authorized_operations(OPERATIONS_NOT_ASKED)
}

/// Kafka's rule for names: 1–249 of letters, digits, `.`, `_` and `-`, and neither `.` nor `..`.
fn is_topic_name(name: &str) -> bool {
    (1..=249).contains(&name.len())
        && name != "."
        && name != ".."
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

//! ListConfigResources, key 74, versions 0–1; KIP-1142, KIP-714 (version 0: only the metrics that
//! clients are asked for, of which there are none).
//!
//! Version 1 lists what can be described: topics and nodes. Loggers, clients' metrics and groups
//! are types that exist and of which nothing is listed.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_config_resources_response::ConfigResource;
use kafka_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};

use super::Context;
use super::configs::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use crate::mapping;

/// First version that lists anything but clients' metrics.
const TYPES_VERSION_MIN: i16 = 1;
/// Every type of resource, which naming none stands for.
const EVERY_TYPE: [i8; 5] = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];

pub(super) fn handle(
    context: &Context,
    version: i16,
    request: &ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    let response = ListConfigResourcesResponse::default();
    if version < TYPES_VERSION_MIN {
        return response;
    }
    let named = &request.resource_types;
    if named.iter().any(|kind| !EVERY_TYPE.contains(kind)) {
        return response.with_error_code(ResponseError::UnsupportedVersion.code());
    }
    let is_wanted = |kind: i8| named.is_empty() || named.contains(&kind);
    let catalogue = context.broker.catalogue();
    let resource = |kind: i8, name: String| {
        ConfigResource::default()
            .with_resource_type(kind)
            .with_resource_name(mapping::text(name))
    };
    let (topics_wanted, nodes_wanted) = (is_wanted(TOPIC), is_wanted(BROKER));
    let topics = catalogue.topics.keys().filter(|_| topics_wanted);
    let topics = topics.map(|name| resource(TOPIC, name.clone()));
    let nodes = catalogue.nodes.keys().filter(|_| nodes_wanted);
    let nodes = nodes.map(|node| resource(BROKER, node.to_string()));
    response.with_config_resources(topics.chain(nodes).collect())
}

//! DescribeCluster, key 60, versions 0–2; KIP-700, KIP-919 (endpoint types, 1), KIP-1073 (fenced
//! brokers, 2).
//!
//! A node that does not answer the others is what Kafka calls fenced: it is told only when asked
//! for. A node that knows of no controller is cut off itself and cannot say that of others.

use std::collections::HashSet;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};
use storage::NodeId;

use super::{Context, Refusal};
use crate::mapping::{self, CLUSTER_OPERATIONS, OPERATIONS_NOT_ASKED};

/// Endpoint type of brokers.
const BROKERS: i8 = 1;
/// Endpoint type of controllers, which have a listener of their own in Kafka and none here.
const CONTROLLERS: i8 = 2;
/// First version that tells who is fenced.
const FENCED_VERSION_MIN: i16 = 2;

pub(super) fn handle(
    context: &Context,
    version: i16,
    request: &DescribeClusterRequest,
) -> DescribeClusterResponse {
    if let Err(refusal) = check(request.endpoint_type) {
        return DescribeClusterResponse::default()
            .with_error_code(refusal.code.code())
            .with_error_message(Some(mapping::text(refusal.message)));
    }
    let catalogue = context.broker.catalogue();
    let fenced = fenced(context);
    let told = catalogue
        .nodes
        .values()
        .filter(|node| request.include_fenced_brokers || !fenced.contains(&node.id));
    let brokers = told.filter_map(|node| {
        let at = mapping::endpoint(node, &context.listener_name)?;
        let broker = DescribeClusterBroker::default()
            .with_broker_id(at.id)
            .with_host(at.host)
            .with_port(at.port)
            .with_rack(at.rack);
        match version >= FENCED_VERSION_MIN {
            true => Some(broker.with_is_fenced(fenced.contains(&node.id))),
            false => Some(broker),
        }
    });
    let response = DescribeClusterResponse::default()
        .with_error_message(None)
        .with_cluster_id(mapping::text(catalogue.cluster_id.as_str()))
        .with_controller_id(
            context
                .broker
                .controller()
                .map_or(BrokerId(-1), mapping::broker_id),
        )
        .with_brokers(brokers.collect())
        .with_cluster_authorized_operations(match request.include_cluster_authorized_operations {
            true => CLUSTER_OPERATIONS,
            false => OPERATIONS_NOT_ASKED,
        });
    match version >= 1 {
        true => response.with_endpoint_type(BROKERS),
        false => response,
    }
}

/// Nodes that do not answer.
fn fenced(context: &Context) -> HashSet<NodeId> {
    let status = context.broker.cluster_status();
    if status.controller.is_none() {
        return HashSet::new();
    }
    let silent = status.nodes.iter().filter(|node| !node.alive);
    silent.map(|node| node.node.id).collect()
}

fn check(endpoint_type: i8) -> Result<(), Refusal> {
    match endpoint_type {
        BROKERS => Ok(()),
        CONTROLLERS => Err(Refusal::new(
            ResponseError::MismatchedEndpointType,
            "this is a broker's endpoint, not a controller's",
        )),
        _ => Err(Refusal::new(
            ResponseError::UnsupportedEndpointType,
            "there are no endpoints of this type",
        )),
    }
}

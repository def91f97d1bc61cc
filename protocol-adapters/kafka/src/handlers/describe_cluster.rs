//! DescribeCluster, key 60, versions 0–2; KIP-700, KIP-919 (endpoint types, 1), KIP-1073 (fenced
//! brokers, 2; there are none).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};

use super::{Context, Refusal};
use crate::mapping::{self, CLUSTER_OPERATIONS, OPERATIONS_NOT_ASKED};

/// Endpoint type of brokers.
const BROKERS: i8 = 1;
/// Endpoint type of controllers, which have a listener of their own in Kafka and none here.
const CONTROLLERS: i8 = 2;

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
    let brokers = catalogue.nodes.values();
    let brokers = brokers.filter_map(|node| mapping::endpoint(node, &context.listener_name));
    let brokers = brokers.map(|at| {
        DescribeClusterBroker::default()
            .with_broker_id(at.id)
            .with_host(at.host)
            .with_port(at.port)
            .with_rack(at.rack)
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

//! UnregisterBroker, key 64, version 0; KIP-500.
//!
//! Removes a node from the cluster for good. Only a node that holds no replicas any more is removed:
//! it is to be drained first, or, when it is dead, its replicas must have moved elsewhere.

use broker::BrokerError;
use kafka_protocol::messages::{UnregisterBrokerRequest, UnregisterBrokerResponse};

use super::{Context, Refusal};
use crate::mapping;

pub(super) async fn handle(
    context: &Context,
    request: UnregisterBrokerRequest,
) -> UnregisterBrokerResponse {
    let response = UnregisterBrokerResponse::default().with_error_message(None);
    match remove(context, &request).await {
        Ok(()) => response,
        Err(refusal) => response
            .with_error_code(refusal.code.code())
            .with_error_message(Some(mapping::text(refusal.message))),
    }
}

async fn remove(context: &Context, request: &UnregisterBrokerRequest) -> Result<(), Refusal> {
    let Some(node) = mapping::node_id(request.broker_id) else {
        return Err(Refusal::new(
            kafka_protocol::ResponseError::BrokerIdNotRegistered,
            "a broker id is never negative",
        ));
    };
    if !context.broker.catalogue().nodes.contains_key(&node) {
        return Err(Refusal::controller(&BrokerError::UnknownNode { node }));
    }
    let removed = context.broker.remove_node(node, false).await;
    removed.map_err(|error| Refusal::controller(&error))
}

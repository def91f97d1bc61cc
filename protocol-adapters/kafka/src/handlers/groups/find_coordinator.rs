//! FindCoordinator, key 10, versions 0–6; KIP-98 (kinds of keys, 1), KIP-699 (several keys, 4),
//! KIP-932 (share groups, 6).
//!
//! Groups have coordinators. Transactions do not exist yet: their ids are refused with a code that
//! every client takes as final, as InitProducerId does. Other kinds are not known.

use futures_util::future::join_all;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::super::{Context, LOOKUPS_AT_ONCE};
use crate::mapping::{self, Endpoint};

/// First version that asks for several keys.
const SEVERAL_VERSION_MIN: i16 = 4;
/// What kinds of coordinators there are.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

type Found = Result<Endpoint, ResponseError>;

pub(in crate::handlers) async fn handle(
    context: &Context,
    version: i16,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let keys = match version >= SEVERAL_VERSION_MIN {
        true => request.coordinator_keys,
        false => vec![request.key],
    };
    let mut found = Vec::with_capacity(keys.len());
    for some in keys.chunks(LOOKUPS_AT_ONCE) {
        let lookups = some.iter().map(|key| find(context, request.key_type, key));
        found.extend(join_all(lookups).await);
    }
    respond(version, keys, found)
}

async fn find(context: &Context, key_type: i8, key: &str) -> Found {
    match key_type {
        GROUP => {}
        TRANSACTION => return Err(ResponseError::TransactionalIdAuthorizationFailed),
        _ => return Err(ResponseError::InvalidRequest),
    }
    let node = context.broker.group_coordinator(key).await;
    let node = node.map_err(|error| match mapping::coordinator_error_code(&error) {
        // Clients of this request look again for a coordinator that is not available only.
        ResponseError::NotCoordinator | ResponseError::CoordinatorLoadInProgress => {
            ResponseError::CoordinatorNotAvailable
        }
        code => code,
    })?;
    let catalogue = context.broker.catalogue();
    let node = catalogue.nodes.get(&node);
    let at = node.and_then(|node| mapping::endpoint(node, &context.listener_name));
    at.ok_or(ResponseError::CoordinatorNotAvailable)
}

fn respond(version: i16, keys: Vec<StrBytes>, found: Vec<Found>) -> FindCoordinatorResponse {
    let mut told = keys.into_iter().zip(found).map(|(key, found)| {
        let coordinator = Coordinator::default().with_key(key);
        match found {
            Ok(at) => coordinator
                .with_node_id(at.id)
                .with_host(at.host)
                .with_port(at.port),
            Err(error) => coordinator
                .with_error_code(error.code())
                .with_error_message(Some(mapping::text(error.to_string())))
                .with_node_id(BrokerId(-1))
                .with_port(-1),
        }
    });
    if version >= SEVERAL_VERSION_MIN {
        return FindCoordinatorResponse::default().with_coordinators(told.collect());
    }
    let one = told.next().unwrap_or_default();
    FindCoordinatorResponse::default()
        .with_error_code(one.error_code)
        .with_error_message(one.error_message)
        .with_node_id(one.node_id)
        .with_host(one.host)
        .with_port(one.port)
}

#[cfg(test)]
mod tests {
    use super::super::tests::through_the_wire;
    use super::*;

    fn answer(version: i16, found: Found) -> (i16, i32, String, i32) {
        let key = StrBytes::from_static_str("g");
        let told = through_the_wire(&respond(version, vec![key], vec![found]), version);
        match told.coordinators.first() {
            Some(one) => {
                assert_eq!(&*one.key, "g");
                (
                    one.error_code,
                    one.node_id.0,
                    one.host.to_string(),
                    one.port,
                )
            }
            None => (
                told.error_code,
                told.node_id.0,
                told.host.to_string(),
                told.port,
            ),
        }
    }

    #[test]
    fn every_version_says_where_the_coordinator_is_or_why_not() {
        for version in 0..=6 {
            let at = Endpoint {
                id: BrokerId(3),
                host: StrBytes::from_static_str("host"),
                port: 9092,
                rack: None,
            };
            assert_eq!(answer(version, Ok(at)), (0, 3, "host".to_owned(), 9092));
            let none = answer(version, Err(ResponseError::CoordinatorNotAvailable));
            assert_eq!(none, (15, -1, String::new(), -1));
        }
    }
}

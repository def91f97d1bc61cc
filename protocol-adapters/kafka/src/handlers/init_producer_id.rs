//! InitProducerId, key 22, versions 0–5; KIP-98, KIP-360 (an id to go on from, 3).
//!
//! A producer without a transactional id gets a new id each time, as in Kafka, also when it names
//! the one it had. Transactions do not exist yet: a transactional id is refused with a code that
//! every client takes as final.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use super::Context;
use crate::mapping::{self, Surface};

pub(super) async fn handle(
    context: &Context,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    let response = InitProducerIdResponse::default();
    let result = match check(&request) {
        Ok(()) => {
            let id = context.broker.new_producer_id().await;
            id.map_err(|error| mapping::error_code(&error, Surface::ProducerId))
        }
        Err(error) => Err(error),
    };
    match result {
        Ok(id) => response
            .with_producer_id(ProducerId(id))
            .with_producer_epoch(0),
        Err(error) => response
            .with_error_code(error.code())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1),
    }
}

fn check(request: &InitProducerIdRequest) -> Result<(), ResponseError> {
    match &request.transactional_id {
        Some(id) if id.is_empty() => return Err(ResponseError::InvalidRequest),
        Some(_) => return Err(ResponseError::TransactionalIdAuthorizationFailed),
        None => {}
    }
    let is_whole = (request.producer_id.0 == -1) == (request.producer_epoch == -1);
    is_whole.then_some(()).ok_or(ResponseError::InvalidRequest)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::TransactionalId;
    use kafka_protocol::protocol::StrBytes;

    use super::*;

    #[test]
    fn transactional_ids_and_half_given_producers_are_refused() {
        let plain = InitProducerIdRequest::default().with_transactional_id(None);
        assert_eq!(check(&plain), Ok(()));
        let with_id = |id| {
            InitProducerIdRequest::default()
                .with_transactional_id(Some(TransactionalId(StrBytes::from_static_str(id))))
        };
        assert_eq!(check(&with_id("")), Err(ResponseError::InvalidRequest));
        let refused = Err(ResponseError::TransactionalIdAuthorizationFailed);
        assert_eq!(check(&with_id("x")), refused);
        let half = plain.with_producer_id(ProducerId(4));
        assert_eq!(check(&half), Err(ResponseError::InvalidRequest));
        assert_eq!(check(&half.clone().with_producer_epoch(0)), Ok(()));
    }
}

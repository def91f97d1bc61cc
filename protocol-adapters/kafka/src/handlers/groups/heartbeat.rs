//! Heartbeat, key 12, versions 0–4; KIP-345 (static members, 3).

use broker::groups::{self, Command, Response};
use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use super::super::{Begun, Call, Context};
use super::{ANSWERED_AS_ASKED, Settled, owned, settle, submit};
use crate::mapping::group_error_code;

pub(in crate::handlers) async fn begin(
    context: &Context,
    call: Call,
    request: HeartbeatRequest,
) -> Begun {
    let command = Command::Heartbeat(groups::Heartbeat {
        group_id: request.group_id.to_string(),
        generation_id: request.generation_id,
        member_id: request.member_id.to_string(),
        group_instance_id: owned(request.group_instance_id),
    });
    let asked = submit(context, &request.group_id, command).await;
    Begun::Pending(Box::pin(async move {
        call.answer(&respond(settle(asked).await))
    }))
}

fn respond(settled: Settled) -> HeartbeatResponse {
    let error_code = match settled {
        Ok(Response::Heartbeat(outcome)) => group_error_code(outcome.err()),
        Ok(_) => unreachable!("{ANSWERED_AS_ASKED}"),
        Err(error) => error.code(),
    };
    HeartbeatResponse::default().with_error_code(error_code)
}

#[cfg(test)]
mod tests {
    use broker::groups::GroupError;
    use kafka_protocol::ResponseError;

    use super::super::tests::through_the_wire;
    use super::*;

    #[test]
    fn a_member_learns_what_it_must_do() {
        for version in 0..=4 {
            let told = |settled| through_the_wire(&respond(settled), version).error_code;
            assert_eq!(told(Ok(Response::Heartbeat(Ok(())))), 0);
            let rebalance = Err(GroupError::RebalanceInProgress);
            assert_eq!(told(Ok(Response::Heartbeat(rebalance))), 27);
            assert_eq!(told(Err(ResponseError::NotCoordinator)), 16);
        }
    }
}

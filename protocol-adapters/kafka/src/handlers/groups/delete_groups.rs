//! DeleteGroups, key 42, versions 0–2; KIP-229. A group named twice is deleted and answered once.

use broker::groups::{Command, Response};
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use super::super::Context;
use super::{ANSWERED_AS_ASKED, Answers, Settled, distinct, group_id};
use crate::mapping::group_error_code;

pub(in crate::handlers) async fn handle(
    context: &Context,
    request: DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    let ids = distinct(request.groups_names);
    let commands = ids.iter().map(|id| {
        let command = Command::DeleteGroups(vec![id.clone()]);
        (id.clone(), command)
    });
    let settled = Answers::ask(context, commands.collect()).await.all().await;
    let results = ids.into_iter().zip(settled);
    let results = results.map(|(id, settled)| result(id, settled));
    DeleteGroupsResponse::default().with_results(results.collect())
}

fn result(id: String, settled: Settled) -> DeletableGroupResult {
    let error_code = match settled {
        Ok(Response::DeleteGroups(deleted)) => {
            let deleted = deleted.first().expect(ANSWERED_AS_ASKED);
            group_error_code(deleted.error)
        }
        Ok(_) => unreachable!("{ANSWERED_AS_ASKED}"),
        Err(error) => error.code(),
    };
    DeletableGroupResult::default()
        .with_group_id(group_id(id))
        .with_error_code(error_code)
}

#[cfg(test)]
mod tests {
    use broker::groups::{DeletedGroup, GroupError};
    use kafka_protocol::ResponseError;

    use super::super::tests::through_the_wire;
    use super::*;

    #[test]
    fn each_group_is_answered_by_itself() {
        let deleted = |error| {
            let group_id = "g".to_owned();
            Ok(Response::DeleteGroups(vec![DeletedGroup {
                group_id,
                error,
            }]))
        };
        let settled = [
            deleted(None),
            deleted(Some(GroupError::NonEmptyGroup)),
            Err(ResponseError::CoordinatorNotAvailable),
        ];
        let results = settled.map(|settled| result("g".to_owned(), settled));
        let told = DeleteGroupsResponse::default().with_results(results.to_vec());
        for version in 0..=2 {
            let told = through_the_wire(&told, version);
            let codes: Vec<i16> = told.results.iter().map(|one| one.error_code).collect();
            assert_eq!(codes, [0, 68, 15]);
        }
    }
}

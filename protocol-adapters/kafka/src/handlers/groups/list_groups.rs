//! ListGroups, key 16, versions 0–5; KIP-518 (states, 4), KIP-848 (types, 5).
//!
//! The groups of the coordinators on this node: clients ask every node. While one of them loads, or
//! does not answer, the request is refused, since its groups would be missing.

use broker::CoordinatorError;
use broker::groups::{self, Command, Response};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{ListGroupsRequest, ListGroupsResponse};

use super::super::Context;
use super::{ANSWER_WAIT, ANSWERED_AS_ASKED, group_id};
use crate::mapping;

type Listed = Result<Vec<groups::ListedGroup>, ResponseError>;

pub(in crate::handlers) async fn handle(
    context: &Context,
    request: ListGroupsRequest,
) -> ListGroupsResponse {
    let states = request.states_filter.iter().map(|name| &**name);
    let types = request.types_filter.iter().map(|name| &**name);
    let command = Command::ListGroups(groups::ListGroups::new(states, types));
    let asked = context.broker.submit_to_all_groups(command);
    let listed = match tokio::time::timeout(ANSWER_WAIT, asked).await {
        Ok(answers) => merge(answers),
        Err(_) => Err(ResponseError::CoordinatorNotAvailable),
    };
    respond(listed)
}

/// The groups of all coordinators, by id.
fn merge(answers: Vec<Result<Response, CoordinatorError>>) -> Listed {
    let mut listed = Vec::new();
    for answer in answers {
        match answer {
            Ok(Response::ListGroups(groups)) => listed.extend(groups),
            Ok(_) => unreachable!("{ANSWERED_AS_ASKED}"),
            Err(error) => match mapping::coordinator_error_code(&error) {
                // Its groups are listed by the node where they are now.
                ResponseError::NotCoordinator => {}
                code => return Err(code),
            },
        }
    }
    listed.sort_by(|a, b| a.group_id.cmp(&b.group_id));
    Ok(listed)
}

fn respond(listed: Listed) -> ListGroupsResponse {
    let groups = match listed {
        Ok(groups) => groups.into_iter(),
        Err(error) => return ListGroupsResponse::default().with_error_code(error.code()),
    };
    let groups = groups.map(|group| {
        ListedGroup::default()
            .with_group_id(group_id(group.group_id))
            .with_protocol_type(mapping::text(group.protocol_type))
            .with_group_state(mapping::text(group.state))
            .with_group_type(mapping::text(group.kind))
    });
    ListGroupsResponse::default().with_groups(groups.collect())
}

#[cfg(test)]
mod tests {
    use super::super::tests::through_the_wire;
    use super::*;

    fn listed(id: &str) -> groups::ListedGroup {
        groups::ListedGroup {
            group_id: id.to_owned(),
            protocol_type: "consumer".to_owned(),
            state: "Stable",
            kind: "classic",
        }
    }

    #[test]
    fn the_groups_of_all_coordinators_are_listed_by_id() {
        let of = |ids: &[&str]| {
            Ok(Response::ListGroups(
                ids.iter().map(|id| listed(id)).collect(),
            ))
        };
        let answers = vec![
            of(&["b"]),
            Err(CoordinatorError::NotCoordinator),
            of(&["a", "c"]),
        ];
        let told = respond(merge(answers));
        for version in 0..=5 {
            let told = through_the_wire(&told, version);
            let ids: Vec<&str> = told.groups.iter().map(|group| &**group.group_id).collect();
            assert_eq!((told.error_code, &ids[..]), (0, &["a", "b", "c"][..]));
            let expected = if version >= 4 { "Stable" } else { "" };
            assert_eq!(&*told.groups[0].group_state, expected);
            let expected = if version >= 5 { "classic" } else { "" };
            assert_eq!(&*told.groups[0].group_type, expected);
        }
    }

    #[test]
    fn a_list_that_would_lack_groups_is_refused() {
        let answers = vec![
            Ok(Response::ListGroups(vec![listed("a")])),
            Err(CoordinatorError::LoadInProgress),
        ];
        let told = respond(merge(answers));
        assert_eq!((told.error_code, told.groups.len()), (14, 0));
    }
}

//! The way to a group's coordinator: found through the node at hand, and found again while it
//! moves or is not ready.

use std::sync::Arc;
use std::time::Duration;

use kafka_client::api::CoordinatorKind;
use kafka_client::{ClientError, Connection, ErrorCode};

use super::failure::{Failure, Kind};
use super::output::printable;
use super::session::Session;

/// Pause before a coordinator that was not there is asked again.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The node that coordinates a group.
pub(super) struct Coordinator {
    group: String,
    node_id: i32,
    connection: Arc<Connection>,
}

impl Coordinator {
    /// Finds it, waiting within the timeout until there is one.
    pub(super) async fn find(session: &mut Session, group: &str) -> Result<Coordinator, Failure> {
        let deadline = session.deadline_ms();
        loop {
            let failure = match Coordinator::look(session, group).await {
                Ok(coordinator) => return Ok(coordinator),
                Err(Missing::ForGood(failure)) => return Err(failure),
                Err(Missing::Perhaps(failure)) => failure,
            };
            if session.now_ms() >= deadline {
                return Err(failure);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Looks once.
    async fn look(session: &mut Session, group: &str) -> Result<Coordinator, Missing> {
        // Where the nodes are.
        session
            .metadata(Some(&[]))
            .await
            .map_err(Missing::ForGood)?;
        let found = session
            .node()
            .find_coordinator(CoordinatorKind::Group, &[group])
            .await
            .and_then(|mut found| found.pop().ok_or(ClientError::Malformed("no result")))
            .and_then(|found| {
                found
                    .error
                    .check_with(found.message)
                    .map(|()| found.node_id)
            });
        let node_id = found.map_err(|error| {
            let missing = match is_elsewhere(&error) {
                true => Missing::Perhaps,
                false => Missing::ForGood,
            };
            missing(failure(session, group, error))
        })?;
        // It may have died a moment ago, and another will take over.
        let connection = session.broker(node_id).await.map_err(Missing::Perhaps)?;
        Ok(Coordinator {
            group: group.to_owned(),
            node_id,
            connection,
        })
    }

    pub(super) fn node_id(&self) -> i32 {
        self.node_id
    }

    /// Asks it; while it is gone, not the coordinator or not ready, the one that is. Only for calls
    /// that do no harm when they are carried out twice.
    pub(super) async fn ask<T>(
        &mut self,
        session: &mut Session,
        mut call: impl AsyncFnMut(&Connection) -> Result<T, ClientError>,
    ) -> Result<T, Failure> {
        let deadline = session.deadline_ms();
        loop {
            let error = match call(&self.connection).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let is_gone = matches!(error, ClientError::NotSent(_) | ClientError::NoAnswer(_));
            let may_help = is_elsewhere(&error) || (is_gone && !session.is_alone());
            if !may_help || session.now_ms() >= deadline {
                return Err(failure(session, &self.group, error));
            }
            if is_gone {
                session.forget(self.node_id);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            *self = Coordinator::find(session, &self.group).await?;
        }
    }
}

/// Why there is no coordinator.
enum Missing {
    /// There may be one soon.
    Perhaps(Failure),
    ForGood(Failure),
}

/// Whether nothing was done, and the same may succeed at a coordinator that is ready.
fn is_elsewhere(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused { code, .. } if is_about_coordinator(*code))
}

/// Whether it says that the coordinator is another node, or not ready.
pub(super) fn is_about_coordinator(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NOT_COORDINATOR
            | ErrorCode::COORDINATOR_NOT_AVAILABLE
            | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
    )
}

/// A failed call about a group.
pub(super) fn failure(session: &Session, group: &str, error: ClientError) -> Failure {
    let name = printable(group.as_bytes());
    let code = match &error {
        ClientError::Refused { code, .. } => Some(*code),
        _ => None,
    };
    match code {
        Some(ErrorCode::GROUP_ID_NOT_FOUND) => does_not_exist(session, group),
        Some(ErrorCode::NON_EMPTY_GROUP) => has_members(session, group),
        _ => session.failure(&format!("group {name}"), error),
    }
}

/// There is no such group.
pub(super) fn does_not_exist(session: &Session, group: &str) -> Failure {
    let name = printable(group.as_bytes());
    let list = session.suggest("group list");
    Failure::new(Kind::NotFound, format!("group {name} does not exist"))
        .help(format!("see which there are with {list}"))
}

/// What was asked for needs a group without members.
pub(super) fn has_members(session: &Session, group: &str) -> Failure {
    let name = printable(group.as_bytes());
    let describe = session.suggest(&format!("group describe {name}"));
    Failure::new(Kind::Conflict, format!("group {name} has members"))
        .help(format!("stop them first; who they are: {describe}"))
}

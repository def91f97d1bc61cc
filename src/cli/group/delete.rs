//! Deleting groups, or offsets of a group.

use kafka_client::{ClientError, ErrorCode};
use serde_json::json;

use crate::cli::Context;
use crate::cli::commits::committed;
use crate::cli::coordinator::{self, Coordinator};
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::printable;
use crate::cli::session::Session;
use crate::cli::topic::counted;

/// Deletes each of them that can be, and fails with the first that cannot.
pub(super) async fn groups(
    session: &mut Session,
    groups: &[String],
    context: &mut Context,
) -> Result<(), Failure> {
    let mut failed = None;
    for group in groups {
        match delete(session, group).await {
            Ok(()) => context.output.result(
                &format!("deleted group {}", printable(group.as_bytes())),
                &json!({ "group": group }),
            )?,
            Err(failure) => {
                failed.get_or_insert(failure);
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

async fn delete(session: &mut Session, group: &str) -> Result<(), Failure> {
    let mut coordinator = Coordinator::find(session, group).await?;
    // A try that was not answered may have been the one that deleted it.
    let mut may_be_done = false;
    coordinator
        .ask(session, async |connection| {
            let deleted = connection.delete_groups(&[group]).await;
            let was_cut = matches!(deleted, Err(ClientError::NoAnswer(_)));
            may_be_done |= was_cut;
            let result = deleted?.pop();
            let (_, error) = result.ok_or(ClientError::Malformed("no result"))?;
            match error {
                ErrorCode::GROUP_ID_NOT_FOUND if may_be_done => Ok(()),
                error => error.check(),
            }
        })
        .await
}

/// Deletes a group's offsets of these topics.
pub(super) async fn offsets(
    session: &mut Session,
    group: &str,
    topics: &[String],
    context: &mut Context,
) -> Result<(), Failure> {
    let mut at = Coordinator::find(session, group).await?;
    let committed = committed(session, &mut at, group).await?;
    let mut failed = None;
    for topic in topics {
        let partitions: Vec<(String, i32)> = committed
            .keys()
            .filter(|p| p.0 == *topic)
            .cloned()
            .collect();
        match delete_offsets(session, &mut at, group, topic, &partitions).await {
            Ok(()) => {
                let count = i64::try_from(partitions.len()).unwrap_or(i64::MAX);
                let numbers: Vec<i32> = partitions.iter().map(|p| p.1).collect();
                context.output.result(
                    &format!(
                        "deleted offsets of group {} in {topic}  {}",
                        printable(group.as_bytes()),
                        counted(count, "partition")
                    ),
                    &json!({ "group": group, "topic": topic, "partitions": numbers }),
                )?;
            }
            Err(failure) => {
                failed.get_or_insert(failure);
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

async fn delete_offsets(
    session: &mut Session,
    at: &mut Coordinator,
    group: &str,
    topic: &str,
    partitions: &[(String, i32)],
) -> Result<(), Failure> {
    let name = printable(group.as_bytes());
    if partitions.is_empty() {
        let describe = session.suggest(&format!("group describe {name}"));
        return Err(Failure::new(
            Kind::NotFound,
            format!("group {name} has no offsets in topic {topic}"),
        )
        .help(format!("see which it has with {describe}")));
    }
    let deleted = at
        .ask(session, async |connection| {
            let deleted = connection.offset_delete(group, partitions).await?;
            deleted.error.check()?;
            Ok(deleted.partitions)
        })
        .await?;
    match deleted
        .iter()
        .find(|(_, _, error)| *error != ErrorCode::NONE)
    {
        None => Ok(()),
        Some((_, _, ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC)) => {
            let describe = session.suggest(&format!("group describe {name}"));
            Err(Failure::new(
                Kind::Conflict,
                format!("members of group {name} are subscribed to topic {topic}"),
            )
            .help(format!("stop them first; who they are: {describe}")))
        }
        Some((_, partition, error)) => {
            let failure = coordinator::failure(session, group, (*error).into());
            Err(failure.context(&format!("topic {topic} partition {partition}")))
        }
    }
}

/// `--offsets` was given with several groups.
pub(super) fn one_group_only() -> Failure {
    Failure::new(
        Kind::Usage,
        "--offsets deletes offsets of one group, and several are given",
    )
    .help("name one group, or leave --offsets out to delete the groups")
}

//! A group's committed offsets: reading and writing them.

use std::collections::BTreeMap;
use std::slice;

use kafka_client::api::{OffsetCommit, OffsetFetch};
use kafka_client::{ClientError, ErrorCode};

use super::coordinator::{Coordinator, is_about_coordinator};
use super::failure::Failure;
use super::session::Session;

/// A topic and the number of one of its partitions.
pub(super) type TopicPartition = (String, i32);

/// A group's committed offsets, those that there are.
pub(super) async fn committed(
    session: &mut Session,
    coordinator: &mut Coordinator,
    group: &str,
) -> Result<BTreeMap<TopicPartition, i64>, Failure> {
    let all = OffsetFetch::new(group, None);
    let fetched = coordinator
        .ask(session, async |connection| {
            let mut groups = connection
                .offset_fetch(slice::from_ref(&all), false)
                .await?;
            let group = groups.pop().ok_or(ClientError::Malformed("no result"))?;
            group.error.check()?;
            for offset in &group.offsets {
                offset.error.check()?;
            }
            Ok(group.offsets)
        })
        .await?;
    Ok(fetched
        .into_iter()
        // Kafka's word for "none".
        .filter(|committed| committed.offset >= 0)
        .map(|committed| ((committed.topic, committed.partition), committed.offset))
        .collect())
}

/// Commits, and says what was refused.
pub(super) async fn commit(
    session: &mut Session,
    coordinator: &mut Coordinator,
    commit: &OffsetCommit,
) -> Result<BTreeMap<TopicPartition, ErrorCode>, Failure> {
    let outcomes = coordinator
        .ask(session, async |connection| {
            let outcomes = connection.offset_commit(commit).await?;
            // What ails the coordinator ails every partition, and nothing was done.
            match outcomes.first().map(|outcome| outcome.error) {
                Some(code) if is_about_coordinator(code) => Err(code.into()),
                _ => Ok(outcomes),
            }
        })
        .await?;
    Ok(outcomes
        .into_iter()
        .filter(|outcome| outcome.error != ErrorCode::NONE)
        .map(|outcome| ((outcome.topic, outcome.partition), outcome.error))
        .collect())
}

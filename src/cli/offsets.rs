//! Offsets of partitions, asked of their leaders.

use kafka_client::api::{ListedOffset, MetadataTopic, OffsetQuery};

use super::failure::Failure;
use super::session::Session;

/// Offsets of every partition of these topics. Partitions without a leader are left out; the others
/// may have an error.
pub(super) async fn offsets(
    session: &mut Session,
    topics: &[MetadataTopic],
    timestamp: i64,
) -> Result<Vec<ListedOffset>, Failure> {
    let partitions = || topics.iter().flat_map(|topic| &topic.partitions);
    let mut leaders: Vec<i32> = partitions().map(|p| p.leader).collect();
    leaders.sort_unstable();
    leaders.dedup();
    let mut found = Vec::new();
    for leader in leaders.into_iter().filter(|leader| *leader >= 0) {
        let queries: Vec<OffsetQuery> = topics
            .iter()
            .flat_map(|topic| {
                let led = topic.partitions.iter().filter(|p| p.leader == leader);
                led.map(|partition| OffsetQuery {
                    topic: topic.name.clone(),
                    partition: partition.index,
                    current_leader_epoch: -1,
                    timestamp,
                })
            })
            .collect();
        let connection = session.broker(leader).await?;
        found.extend(
            connection
                .list_offsets(&queries, false)
                .await
                .map_err(|error| session.failure("listing offsets", error))?,
        );
    }
    Ok(found)
}

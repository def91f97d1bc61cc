//! How far a group can be: the offsets of partitions that its own are held against.

use std::collections::{BTreeMap, BTreeSet};

use kafka_client::ErrorCode;
use kafka_client::api::MetadataTopic;

use crate::cli::commits::TopicPartition;
use crate::cli::failure::Failure;
use crate::cli::offsets;
use crate::cli::session::Session;

/// Offsets of these partitions; of those that are gone or without a leader there are none.
pub(super) async fn offsets_of(
    session: &mut Session,
    partitions: &BTreeSet<TopicPartition>,
    timestamp: i64,
) -> Result<BTreeMap<TopicPartition, i64>, Failure> {
    let names: BTreeSet<&str> = partitions.iter().map(|(topic, _)| topic.as_str()).collect();
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let names: Vec<&str> = names.into_iter().collect();
    let mut topics: Vec<MetadataTopic> = session.metadata(Some(&names)).await?.topics;
    for topic in &mut topics {
        let name = topic.name.clone();
        let asked = |index: i32| partitions.contains(&(name.clone(), index));
        topic.partitions.retain(|partition| asked(partition.index));
    }
    let listed = offsets::offsets(session, &topics, timestamp).await?;
    Ok(listed
        .into_iter()
        .filter(|listed| listed.error == ErrorCode::NONE)
        .map(|listed| ((listed.topic, listed.partition), listed.offset))
        .collect())
}

/// A number, or `-` where there is none.
pub(super) fn or_dash(number: Option<i64>) -> String {
    number.map_or("-".to_owned(), |number| number.to_string())
}

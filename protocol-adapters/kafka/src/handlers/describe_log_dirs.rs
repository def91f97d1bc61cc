//! DescribeLogDirs, key 35, versions 1–4; KIP-113, KIP-827 (sizes of the disk, 4).
//!
//! Tells of this node alone: its data directory and the replicas in it. Null topics are all; a
//! partition that has no replica here is left out, as Kafka does. The log of a replica here holds
//! what is committed and applied, and how far the leader is is not known here: the lag is told as 0.

use std::collections::{BTreeMap, HashSet};

use broker::LogDir;
use broker::catalogue::Catalogue;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use storage::PartitionId;
use tracing::error;

use super::Context;
use crate::mapping::{self, TopicKey};

/// First version that tells an error of the whole request.
const ERROR_VERSION_MIN: i16 = 3;
/// First version that tells the sizes of the disk.
const SIZES_VERSION_MIN: i16 = 4;

pub(super) async fn handle(
    context: &Context,
    version: i16,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let catalogue = context.broker.catalogue();
    let asked: Option<HashSet<PartitionId>> = request.topics.map(|topics| {
        let found = topics.into_iter().flat_map(|topic| {
            let key = TopicKey::Name(topic.topic);
            let indexes = topic.partitions.into_iter();
            let found =
                indexes.filter_map(|index| mapping::find_partition(&catalogue, &key, index).ok());
            found.collect::<Vec<_>>()
        });
        found.collect()
    });
    let broker = context.broker.clone();
    // It asks the file system for its size.
    let dirs = match net::blocking(move || broker.log_dirs()).await {
        Ok(dirs) => dirs,
        Err(failure) => {
            error!(%failure, "cannot look at the data directory");
            let response = DescribeLogDirsResponse::default();
            return match version >= ERROR_VERSION_MIN {
                true => response.with_error_code(ResponseError::KafkaStorageError.code()),
                false => response,
            };
        }
    };
    let results = dirs
        .into_iter()
        .map(|dir| told(version, &catalogue, asked.as_ref(), dir));
    DescribeLogDirsResponse::default().with_results(results.collect())
}

fn told(
    version: i16,
    catalogue: &Catalogue,
    asked: Option<&HashSet<PartitionId>>,
    dir: LogDir,
) -> DescribeLogDirsResult {
    let mut topics: BTreeMap<&str, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for (partition, size_bytes) in &dir.partitions {
        // A partition whose topic was deleted just now is not told any more.
        let Some(name) = catalogue.names.get(&partition.topic) else {
            continue;
        };
        if asked.is_none_or(|asked| asked.contains(partition)) {
            topics.entry(name).or_default().push(
                DescribeLogDirsPartition::default()
                    .with_partition_index(mapping::partition_index(partition.index))
                    .with_partition_size(bytes(Some(*size_bytes)))
                    .with_offset_lag(0)
                    .with_is_future_key(false),
            );
        }
    }
    let topics = topics.into_iter().map(|(name, mut partitions)| {
        partitions.sort_by_key(|partition| partition.partition_index);
        DescribeLogDirsTopic::default()
            .with_name(mapping::topic_name(name))
            .with_partitions(partitions)
    });
    let error_code = match dir.error {
        Some(_) => ResponseError::KafkaStorageError.code(),
        None => 0,
    };
    let result = DescribeLogDirsResult::default()
        .with_error_code(error_code)
        .with_log_dir(mapping::text(dir.path.to_string_lossy()))
        .with_topics(topics.collect());
    match version >= SIZES_VERSION_MIN {
        true => result
            .with_total_bytes(bytes(dir.total_bytes))
            .with_usable_bytes(bytes(dir.usable_bytes)),
        false => result,
    }
}

/// A size as Kafka tells it: -1 when it is not known.
fn bytes(bytes: Option<u64>) -> i64 {
    bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX))
}

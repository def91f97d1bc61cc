//! DeleteRecords, key 21, versions 0–2; KIP-107. Offset -1 stands for the high watermark.

use broker::BrokerError;
use futures_util::future::join_all;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_records_request::DeleteRecordsPartition;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use storage::Offset;

use super::{Context, LOOKUPS_AT_ONCE};
use crate::mapping::{self, Surface, TopicKey};

pub(super) async fn handle(
    context: &Context,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let timeout_ms = i64::from(request.timeout_ms.max(0));
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let key = TopicKey::Name(topic.name.clone());
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for some in topic.partitions.chunks(LOOKUPS_AT_ONCE) {
            let deletions = some
                .iter()
                .map(|asked| answer(context, &key, asked, timeout_ms));
            partitions.extend(join_all(deletions).await);
        }
        topics.push(
            DeleteRecordsTopicResult::default()
                .with_name(topic.name)
                .with_partitions(partitions),
        );
    }
    DeleteRecordsResponse::default().with_topics(topics)
}

async fn answer(
    context: &Context,
    topic: &TopicKey,
    asked: &DeleteRecordsPartition,
    timeout_ms: i64,
) -> DeleteRecordsPartitionResult {
    let index = asked.partition_index;
    let response = DeleteRecordsPartitionResult::default().with_partition_index(index);
    match delete(context, topic, index, asked.offset, timeout_ms).await {
        Ok(log_start) => response.with_low_watermark(log_start.0),
        Err(error) => response
            .with_low_watermark(-1)
            .with_error_code(error.code()),
    }
}

async fn delete(
    context: &Context,
    topic: &TopicKey,
    index: i32,
    offset: i64,
    timeout_ms: i64,
) -> Result<Offset, ResponseError> {
    let partition = mapping::find_partition(&context.broker.catalogue(), topic, index)?;
    let before = match offset {
        -1 => None,
        0.. => Some(Offset(offset)),
        _ => return Err(ResponseError::OffsetOutOfRange),
    };
    let deleted = context
        .broker
        .delete_records(partition, before, timeout_ms)
        .await;
    deleted.map_err(|error: BrokerError| mapping::error_code(&error, Surface::Partition))
}

//! Produce, key 0, version 10 (KIP-951: the new leader in the answer).

use bytes::Bytes;

use super::PRODUCE;
use super::metadata::host_port;
use crate::wire::{Reader, Writer};
use crate::{ClientError, Connection, ErrorCode, PendingResponse};

/// Kafka's `acks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// 0: no answer at all.
    None,
    /// 1: the leader has it.
    Leader,
    /// -1: every in-sync replica has it.
    All,
}

/// A produce request.
#[derive(Debug, Clone)]
pub struct ProduceRequest {
    /// The transaction it belongs to.
    pub transactional_id: Option<String>,
    /// When to answer.
    pub acks: Acks,
    /// How long the server may take.
    pub timeout_ms: i32,
    /// What to append.
    pub partitions: Vec<ProducePartition>,
}

/// Batches for one partition.
#[derive(Debug, Clone)]
pub struct ProducePartition {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The batch, sent as it is.
    pub records: Option<Bytes>,
}

/// What became of one partition's batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducedPartition {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// What went wrong.
    pub error: ErrorCode,
    /// Offset of the first record, -1 on an error.
    pub base_offset: i64,
    /// The time the log gave it, -1 when the records keep theirs.
    pub log_append_time_ms: i64,
    /// First offset that exists.
    pub log_start: i64,
    /// Records at fault (KIP-467).
    pub record_errors: Vec<RecordError>,
    /// What the server says about the error.
    pub message: Option<String>,
    /// Who leads the partition, when the server says that it does not.
    pub leader: Option<LeaderHint>,
}

/// Who leads a partition, as told by a node that does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderHint {
    /// The leader's node id.
    pub node_id: i32,
    /// Its leader epoch.
    pub leader_epoch: i32,
    /// Where it is, as `host:port`, when that was told.
    pub address: Option<String>,
}

/// One record at fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordError {
    /// Its index in the batch.
    pub batch_index: i32,
    /// What is wrong with it.
    pub message: Option<String>,
}

/// A produce on its way.
#[derive(Debug)]
pub struct PendingProduce {
    response: Option<PendingResponse>,
}

impl PendingProduce {
    /// Waits for what became of it; nothing ever comes with [`Acks::None`].
    pub async fn answer(self) -> Result<Vec<ProducedPartition>, ClientError> {
        match self.response {
            Some(response) => read_answer(response.answer().await?),
            None => Ok(Vec::new()),
        }
    }
}

impl Connection {
    /// Sends a produce and returns once it is on its way; the order of calls is kept.
    pub async fn produce_pipelined(
        &self,
        request: &ProduceRequest,
    ) -> Result<PendingProduce, ClientError> {
        let mut body = Writer::new();
        body.nullable_string(request.transactional_id.as_deref())
            .i16(match request.acks {
                Acks::None => 0,
                Acks::Leader => 1,
                Acks::All => -1,
            })
            .i32(request.timeout_ms);
        body.by_topic(
            &request.partitions,
            |partition| &partition.topic,
            |item, partition| {
                item.i32(partition.partition)
                    .compact_bytes(partition.records.as_deref())
                    .no_tags();
            },
        );
        body.no_tags();
        let body = body.finish();
        if request.acks == Acks::None {
            self.send_unanswered(PRODUCE, 10, &body).await?;
            return Ok(PendingProduce { response: None });
        }
        Ok(PendingProduce {
            response: Some(self.send(PRODUCE, 10, &body).await?),
        })
    }

    /// Sends a produce and waits for what became of it.
    pub async fn produce(
        &self,
        request: &ProduceRequest,
    ) -> Result<Vec<ProducedPartition>, ClientError> {
        self.produce_pipelined(request).await?.answer().await
    }
}

fn read_answer(mut answer: Reader) -> Result<Vec<ProducedPartition>, ClientError> {
    let topics = answer.array(|item| {
        let topic = item.string()?;
        let partitions = item.array(|item| read_partition(item, &topic))?;
        item.skip_tags()?;
        Ok(partitions)
    })?;
    let _throttle_ms = answer.i32()?;
    let mut endpoints = Vec::new();
    answer.tags(|tag, bytes| {
        if tag == 0 {
            endpoints = Reader::new(bytes).array(read_endpoint)?;
        }
        Ok(())
    })?;
    answer.finish()?;
    let mut produced: Vec<_> = topics.into_iter().flatten().collect();
    for leader in produced.iter_mut().filter_map(|part| part.leader.as_mut()) {
        let endpoint = endpoints.iter().find(|(node, _)| *node == leader.node_id);
        leader.address = endpoint.map(|(_, address)| address.clone());
    }
    Ok(produced)
}

/// A node's id and where it is.
fn read_endpoint(item: &mut Reader) -> Result<(i32, String), ClientError> {
    let node_id = item.i32()?;
    let (host, port) = (item.string()?, item.i32()?);
    let _rack = item.nullable_string()?;
    item.skip_tags()?;
    Ok((node_id, host_port(&host, port)))
}

fn read_partition(item: &mut Reader, topic: &str) -> Result<ProducedPartition, ClientError> {
    let mut produced = ProducedPartition {
        topic: topic.to_owned(),
        partition: item.i32()?,
        error: ErrorCode(item.i16()?),
        base_offset: item.i64()?,
        log_append_time_ms: item.i64()?,
        log_start: item.i64()?,
        record_errors: item.array(|item| {
            let error = RecordError {
                batch_index: item.i32()?,
                message: item.nullable_string()?,
            };
            item.skip_tags()?;
            Ok(error)
        })?,
        message: item.nullable_string()?,
        leader: None,
    };
    item.tags(|tag, bytes| {
        if tag == 0 {
            produced.leader = read_leader(bytes)?;
        }
        Ok(())
    })?;
    Ok(produced)
}

/// The value of a tagged field that names a leader.
pub(super) fn read_leader(bytes: Bytes) -> Result<Option<LeaderHint>, ClientError> {
    let mut field = Reader::new(bytes);
    let (node_id, leader_epoch) = (field.i32()?, field.i32()?);
    Ok((node_id >= 0).then_some(LeaderHint {
        node_id,
        leader_epoch,
        address: None,
    }))
}

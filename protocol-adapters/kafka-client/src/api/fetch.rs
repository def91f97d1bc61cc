//! Fetch, key 1, version 12. No fetch sessions: each request names all its partitions.

use bytes::Bytes;

use super::FETCH;
use super::produce::{LeaderHint, read_leader};
use crate::wire::{Reader, Writer};
use crate::{ClientError, Connection, ErrorCode};

/// Limits of a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchOptions {
    /// How long the server may wait for `bytes_min`.
    pub wait_ms_max: i32,
    /// Answer as soon as there are this many bytes.
    pub bytes_min: i32,
    /// Answer with about this many at most.
    pub bytes_max: i32,
    /// Leave out what is not committed.
    pub read_committed: bool,
}

impl Default for FetchOptions {
    fn default() -> FetchOptions {
        FetchOptions {
            wait_ms_max: 500,
            bytes_min: 1,
            bytes_max: 32 << 20,
            read_committed: false,
        }
    }
}

/// One partition to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchPartition {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// First offset wanted.
    pub offset: i64,
    /// The leader epoch believed in, -1 for none.
    pub current_leader_epoch: i32,
    /// Epoch of the last record held, -1 for none.
    pub last_fetched_epoch: i32,
    /// At most about this many bytes.
    pub bytes_max: i32,
}

impl FetchPartition {
    /// From `offset` on, checking no epochs.
    #[must_use]
    pub fn new(topic: impl Into<String>, partition: i32, offset: i64) -> FetchPartition {
        FetchPartition {
            topic: topic.into(),
            partition,
            offset,
            current_leader_epoch: -1,
            last_fetched_epoch: -1,
            bytes_max: 8 << 20,
        }
    }
}

/// The answer to a fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchAnswer {
    /// What went wrong with the whole request.
    pub error: ErrorCode,
    /// The fetch session the server offers, 0 for none.
    pub session_id: i32,
    /// The partitions.
    pub partitions: Vec<FetchedPartition>,
}

/// One partition's part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedPartition {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// What went wrong.
    pub error: ErrorCode,
    /// End of the committed log, -1 on an error.
    pub high_watermark: i64,
    /// Last stable offset, -1 on an error.
    pub last_stable_offset: i64,
    /// First offset that exists, -1 on an error.
    pub log_start: i64,
    /// Aborted transactions within the answer.
    pub aborted: Vec<AbortedTransaction>,
    /// The replica to read from instead, -1 for none.
    pub preferred_read_replica: i32,
    /// Raw batches, as the server sent them.
    pub records: Bytes,
    /// Where the log held diverges from the server's: epoch and end offset.
    pub diverging: Option<(i32, i64)>,
    /// Who leads the partition, when the server says that it does not; without an address.
    pub leader: Option<LeaderHint>,
}

/// A transaction that was aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Its producer.
    pub producer_id: i64,
    /// Its first offset.
    pub first_offset: i64,
}

impl Connection {
    /// Fetches from partitions; one result each, as the server orders them.
    pub async fn fetch(
        &self,
        partitions: &[FetchPartition],
        options: FetchOptions,
    ) -> Result<FetchAnswer, ClientError> {
        self.fetch_in_rack(partitions, options, "").await
    }

    /// Like [`Connection::fetch`], from a client in this rack: a leader elsewhere may name a replica
    /// there to read from instead (KIP-392). The empty string stands for no rack.
    pub async fn fetch_in_rack(
        &self,
        partitions: &[FetchPartition],
        options: FetchOptions,
        rack: &str,
    ) -> Result<FetchAnswer, ClientError> {
        let mut body = Writer::new();
        body.i32(-1)
            .i32(options.wait_ms_max)
            .i32(options.bytes_min)
            .i32(options.bytes_max)
            .i8(i8::from(options.read_committed))
            .i32(0)
            .i32(-1);
        body.by_topic(
            partitions,
            |partition| &partition.topic,
            |item, partition| {
                item.i32(partition.partition)
                    .i32(partition.current_leader_epoch)
                    .i64(partition.offset)
                    .i32(partition.last_fetched_epoch)
                    .i64(-1)
                    .i32(partition.bytes_max)
                    .no_tags();
            },
        );
        // No forgotten topics.
        body.array([(); 0], |_, ()| ()).string(rack).no_tags();
        let mut answer = self.call(FETCH, 12, &body.finish()).await?;
        let _throttle_ms = answer.i32()?;
        let error = ErrorCode(answer.i16()?);
        let session_id = answer.i32()?;
        let topics = answer.array(|item| {
            let topic = item.string()?;
            let partitions = item.array(|item| read_partition(item, &topic))?;
            item.skip_tags()?;
            Ok(partitions)
        })?;
        answer.skip_tags()?;
        answer.finish()?;
        let partitions = topics.into_iter().flatten().collect();
        Ok(FetchAnswer {
            error,
            session_id,
            partitions,
        })
    }
}

fn read_partition(item: &mut Reader, topic: &str) -> Result<FetchedPartition, ClientError> {
    let mut fetched = FetchedPartition {
        topic: topic.to_owned(),
        partition: item.i32()?,
        error: ErrorCode(item.i16()?),
        high_watermark: item.i64()?,
        last_stable_offset: item.i64()?,
        log_start: item.i64()?,
        aborted: item
            .nullable_array(|item| {
                let aborted = AbortedTransaction {
                    producer_id: item.i64()?,
                    first_offset: item.i64()?,
                };
                item.skip_tags()?;
                Ok(aborted)
            })?
            .unwrap_or_default(),
        preferred_read_replica: item.i32()?,
        records: item.nullable_bytes()?.unwrap_or_default(),
        diverging: None,
        leader: None,
    };
    item.tags(|tag, bytes| {
        match tag {
            0 => {
                let mut field = Reader::new(bytes);
                fetched.diverging = Some((field.i32()?, field.i64()?));
            }
            1 => fetched.leader = read_leader(bytes)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(fetched)
}

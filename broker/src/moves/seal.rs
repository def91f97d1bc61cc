//! The old shard's leader seals a partition's log and tells what it has.
//!
//! ```text
//! request   shard u32, log (topic id 16 bytes, index u32, generation u32), by u32, at i64
//! answer    start i64, end i64, epoch i32, producers (length u32 + bytes),
//!           then the batches from `at` on, up to a megabyte, to the end of the answer
//! ```
//! Integers are big-endian.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use raft::Lane;
use storage::{LeaderEpoch, LogId, NodeId, Offset, ShardId};

use crate::broker::refused;
use crate::compaction::aligned::read_aligned;
use crate::partition::SealedLog;
use crate::partition::machine::Outcome;
use crate::partition::op::{PartitionOp, put_log, take_log};
use crate::peers::message::{Answer, Request};
use crate::wire::{Malformed, Reader, Writer};
use crate::{Broker, BrokerError};

/// How long it may take to be told that a log is sealed.
const SEAL_MAX: Duration = Duration::from_secs(3);
/// Bytes of batches that come with the answer.
const REST_BYTES_MAX: usize = 1 << 20;

/// Seal this log for that move; asked of the leader of its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SealRequest {
    pub(crate) shard: ShardId,
    pub(crate) log: LogId,
    /// Generation of the move.
    pub(crate) by: u32,
    /// Where the log ends that is being filled.
    pub(crate) at: Offset,
}

/// A sealed log, and what the other one may still lack of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) log: SealedLog,
    pub(crate) batches: Bytes,
}

impl SealRequest {
    pub(crate) fn put(&self, writer: &mut Writer) {
        put_log(writer.u32(self.shard.0), self.log);
        writer.u32(self.by).i64(self.at.0);
    }

    pub(crate) fn take(reader: &mut Reader) -> Result<SealRequest, Malformed> {
        Ok(SealRequest {
            shard: ShardId(reader.u32()?),
            log: take_log(reader)?,
            by: reader.u32()?,
            at: Offset(reader.i64()?),
        })
    }
}

impl Answer for Sealed {
    fn put(&self, writer: &mut Writer) {
        let log = &self.log;
        writer.i64(log.start.0).i64(log.end.0).i32(log.epoch.0);
        writer.bytes(&log.producers).raw(&self.batches);
    }

    fn take(reader: &mut Reader) -> Result<Sealed, Malformed> {
        Ok(Sealed {
            log: SealedLog {
                start: Offset(reader.i64()?),
                end: Offset(reader.i64()?),
                epoch: LeaderEpoch(reader.i32()?),
                producers: reader.bytes()?,
            },
            batches: reader.rest(),
        })
    }
}

impl Broker {
    /// Asks a shard's leader, which may be this node, to seal a log.
    pub(super) async fn ask_seal(
        &self,
        leader: NodeId,
        request: SealRequest,
    ) -> Result<Sealed, BrokerError> {
        if leader == self.node_id() {
            return self.seal_here(request).await;
        }
        let encoded = Request::Seal(request).encode();
        self.ask(leader, Lane::Bulk, encoded, SEAL_MAX).await
    }

    /// Seals a log in a shard that this node leads. The same again answers the same.
    pub(crate) async fn seal_here(&self, request: SealRequest) -> Result<Sealed, BrokerError> {
        let SealRequest { shard, log, by, at } = request;
        let id = log.partition;
        let entry = self.catalogue().entry(id);
        let entry = entry.ok_or(BrokerError::UnknownTopicOrPartition)?;
        if entry.is_past(by) || entry.is_past(log.generation) {
            let reason = "the move is over".to_owned();
            return Err(BrokerError::Conflict { reason });
        }
        if entry.moving.is_none_or(|moving| moving.generation != by) {
            // This node has not heard of the move: it would not know either when it is cancelled.
            return Err(BrokerError::LeaderNotAvailable);
        }
        let raft = self.data_shard(shard);
        let raft = raft.ok_or(BrokerError::NotLeader { leader: None })?;
        let op = PartitionOp::Seal { log, by }.encode();
        let sealed = async { raft.shard.submit(op).await?.await };
        let log = match sealed.await.map_err(|error| refused(&error))? {
            Outcome::Sealed(log) => *log,
            Outcome::Refused(error) => {
                let reason = error.to_string();
                return Err(BrokerError::Conflict { reason });
            }
            other => {
                let reason = format!("sealing came to {other:?}");
                return Err(BrokerError::Conflict { reason });
            }
        };
        let batches = self.rest_of(shard, request.log, at, log.end).await;
        Ok(Sealed { log, batches })
    }

    /// Batches of a sealed log from an offset on; none when they cannot be had now: whoever wants
    /// them asks for the range then.
    async fn rest_of(&self, shard: ShardId, log: LogId, at: Offset, end: Offset) -> Bytes {
        let partition = self.inner.directory.get_in(shard, log.partition);
        let Some(partition) = partition.filter(|one| one.log_id() == log && at < end) else {
            return Bytes::new();
        };
        let read = net::blocking(move || {
            let read = read_aligned(&partition.log, at, end, REST_BYTES_MAX);
            (read, partition.log.tombstones())
        });
        match read.await {
            // Whether it fits what is there is told with a range.
            Ok((Ok(_), gone)) if gone.gone_below > at => Bytes::new(),
            Ok((Ok(read), _)) => {
                let mut joined = BytesMut::with_capacity(read.bytes);
                let batches = read.batches.iter();
                batches.for_each(|batches| joined.extend_from_slice(batches));
                joined.freeze()
            }
            Ok((Err(error), _)) => {
                tracing::info!(%log, %error, "the rest of a sealed log is not sent along");
                Bytes::new()
            }
            Err(error) => {
                tracing::error!(%log, %error, "reading a sealed log panicked");
                Bytes::new()
            }
        }
    }
}

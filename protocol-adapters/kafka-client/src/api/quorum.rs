//! DescribeQuorum, key 55, version 2 (KIP-595, KIP-836, KIP-853): who keeps the catalogue.

use super::DESCRIBE_QUORUM;
use crate::wire::{Reader, Writer};
use crate::{ClientError, Connection, ErrorCode};

/// Kafka's name for the log of the cluster's own metadata.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// The quorum that keeps the cluster's metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quorum {
    /// Its leader's node id, -1 for none.
    pub leader: i32,
    /// The leader's epoch.
    pub leader_epoch: i32,
    /// End of what is committed.
    pub high_watermark: i64,
    /// Those that vote.
    pub voters: Vec<QuorumReplica>,
    /// Those that only follow.
    pub observers: Vec<QuorumReplica>,
}

/// One member of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuorumReplica {
    /// Its node id.
    pub node_id: i32,
    /// End of its log, -1 for unknown.
    pub log_end: i64,
    /// When the leader heard from it last, in milliseconds since the Unix epoch; -1 for unknown.
    pub last_fetch_ms: i64,
    /// When it last had everything, likewise.
    pub last_caught_up_ms: i64,
}

impl Connection {
    /// Who keeps the cluster's metadata, and how far each of them is.
    pub async fn describe_quorum(&self) -> Result<Quorum, ClientError> {
        let mut body = Writer::new();
        body.array([METADATA_TOPIC], |item, topic| {
            item.string(topic);
            item.array([0], |item, partition| {
                item.i32(partition).no_tags();
            });
            item.no_tags();
        });
        body.no_tags();
        let mut answer = self.call(DESCRIBE_QUORUM, 2, &body.finish()).await?;
        let error = ErrorCode(answer.i16()?);
        let message = answer.nullable_string()?;
        let topics = answer.array(|item| {
            let _name = item.string()?;
            let partitions = item.array(read_partition)?;
            item.skip_tags()?;
            Ok(partitions)
        })?;
        answer.array(|item| {
            let _node_id = item.i32()?;
            item.array(|item| {
                let _listener = item.string()?;
                let _host = item.string()?;
                let _port = item.i16()?;
                item.skip_tags()
            })?;
            item.skip_tags()
        })?;
        answer.skip_tags()?;
        answer.finish()?;
        error.check_with(message)?;
        let mut partitions = topics.into_iter().flatten();
        partitions
            .next()
            .ok_or(ClientError::Malformed("no partition"))?
    }
}

fn read_partition(item: &mut Reader) -> Result<Result<Quorum, ClientError>, ClientError> {
    let _index = item.i32()?;
    let error = ErrorCode(item.i16()?);
    let message = item.nullable_string()?;
    let quorum = Quorum {
        leader: item.i32()?,
        leader_epoch: item.i32()?,
        high_watermark: item.i64()?,
        voters: item.array(read_replica)?,
        observers: item.array(read_replica)?,
    };
    item.skip_tags()?;
    Ok(error.check_with(message).map(|()| quorum))
}

fn read_replica(item: &mut Reader) -> Result<QuorumReplica, ClientError> {
    let node_id = item.i32()?;
    let _directory = item.uuid()?;
    let replica = QuorumReplica {
        node_id,
        log_end: item.i64()?,
        last_fetch_ms: item.i64()?,
        last_caught_up_ms: item.i64()?,
    };
    item.skip_tags()?;
    Ok(replica)
}

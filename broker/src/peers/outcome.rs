//! How outcomes of catalogue commands and errors travel between nodes.
//!
//! ```text
//! outcome = 0 done | 1 producer id i64 | 2 node u32 | 3 shards u32* | 4 refused, error
//! error   = kind u8, node u32 (all ones: none), text
//! ```
//! Errors that no command comes to travel as text ([`BrokerError::Storage`]).

use storage::{NodeId, ShardId};

use crate::BrokerError;
use crate::catalogue::machine::Outcome;
use crate::wire::{Malformed, Reader, Writer};

const NO_NODE: u32 = u32::MAX;

pub(super) fn put_outcome(writer: &mut Writer, outcome: &Outcome) {
    match outcome {
        Outcome::Done => {
            writer.u8(0);
        }
        Outcome::ProducerIds(first) => {
            writer.u8(1).i64(*first);
        }
        Outcome::Node(node) => {
            writer.u8(2).u32(node.0);
        }
        Outcome::Shards(shards) => {
            writer.u8(3).count(shards.len());
            for shard in shards {
                writer.u32(shard.0);
            }
        }
        Outcome::Refused(error) => put_error(writer.u8(4), error),
    }
}

pub(super) fn take_outcome(reader: &mut Reader) -> Result<Outcome, Malformed> {
    Ok(match reader.u8()? {
        0 => Outcome::Done,
        1 => Outcome::ProducerIds(reader.i64()?),
        2 => Outcome::Node(NodeId(reader.u32()?)),
        3 => Outcome::Shards(
            (0..reader.count(4)?)
                .map(|_| Ok(ShardId(reader.u32()?)))
                .collect::<Result<_, Malformed>>()?,
        ),
        4 => Outcome::Refused(take_error(reader)?),
        _ => return Err(reader.malformed("a known outcome")),
    })
}

pub(super) fn put_error(writer: &mut Writer, error: &BrokerError) {
    use BrokerError as E;
    let (kind, node, text) = match error {
        E::UnknownTopicId => (1, None, ""),
        E::TopicExists => (2, None, ""),
        E::NotLeader { leader } => (3, *leader, ""),
        E::LeaderNotAvailable => (4, None, ""),
        E::TimedOut { reason } => (5, None, reason.as_str()),
        E::ShuttingDown => (6, None, ""),
        E::DiskFull => (7, None, ""),
        E::InvalidTopic { reason } => (8, None, reason.as_str()),
        E::InvalidPartitions { reason } => (9, None, reason.as_str()),
        E::InvalidReplicationFactor { reason } => (10, None, reason.as_str()),
        E::InvalidReplicaAssignment { reason } => (11, None, reason.as_str()),
        E::InvalidConfig { reason } => (12, None, reason.as_str()),
        E::InvalidRequest { reason } => (13, None, reason.as_str()),
        E::UnknownNode { node } => (14, Some(*node), ""),
        E::Conflict { reason } => (15, None, reason.as_str()),
        E::PolicyViolation { reason } => (16, None, reason.as_str()),
        E::UnknownTopicOrPartition => (17, None, ""),
        E::Storage { reason } => (18, None, reason.as_str()),
        other => {
            writer.u8(18).u32(NO_NODE).text(&other.to_string());
            return;
        }
    };
    writer
        .u8(kind)
        .u32(node.map_or(NO_NODE, |node| node.0))
        .text(text);
}

pub(super) fn take_error(reader: &mut Reader) -> Result<BrokerError, Malformed> {
    use BrokerError as E;
    let kind = reader.u8()?;
    let node = Some(NodeId(reader.u32()?)).filter(|node| node.0 != NO_NODE);
    let reason = reader.text()?;
    Ok(match kind {
        1 => E::UnknownTopicId,
        2 => E::TopicExists,
        3 => E::NotLeader { leader: node },
        4 => E::LeaderNotAvailable,
        5 => E::TimedOut { reason },
        6 => E::ShuttingDown,
        7 => E::DiskFull,
        8 => E::InvalidTopic { reason },
        9 => E::InvalidPartitions { reason },
        10 => E::InvalidReplicationFactor { reason },
        11 => E::InvalidReplicaAssignment { reason },
        12 => E::InvalidConfig { reason },
        13 => E::InvalidRequest { reason },
        14 => E::UnknownNode {
            node: node.ok_or_else(|| reader.malformed("a node"))?,
        },
        15 => E::Conflict { reason },
        16 => E::PolicyViolation { reason },
        17 => E::UnknownTopicOrPartition,
        18 => E::Storage { reason },
        _ => return Err(reader.malformed("a known kind of error")),
    })
}

//! ConsumerGroupHeartbeat, key 68, version 1 (KIP-848).

use super::CONSUMER_GROUP_HEARTBEAT;
use crate::wire::{Reader, Writer};
use crate::{ClientError, Connection, ErrorCode};

/// Partitions of one topic, named by its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionsById {
    /// The topic's id.
    pub topic_id: [u8; 16],
    /// The partitions.
    pub partitions: Vec<i32>,
}

/// What a member of a consumer group says. What is `None` has not changed since the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerGroupHeartbeat {
    /// The group.
    pub group_id: String,
    /// The member's id, which it makes itself.
    pub member_id: String,
    /// Its epoch: 0 joins, -1 leaves, -2 leaves for a while (static members).
    pub member_epoch: i32,
    /// The id of a static member.
    pub instance_id: Option<String>,
    /// Its rack.
    pub rack_id: Option<String>,
    /// How long it may take to give partitions back; -1 for unchanged.
    pub rebalance_timeout_ms: i32,
    /// The topics it wants.
    pub topics: Option<Vec<String>>,
    /// The topics it wants, by a regular expression.
    pub topics_regex: Option<String>,
    /// The assignor it wants.
    pub assignor: Option<String>,
    /// The partitions it owns.
    pub owned: Option<Vec<PartitionsById>>,
}

impl ConsumerGroupHeartbeat {
    /// Joins with these topics, owning nothing yet.
    #[must_use]
    pub fn join(
        group_id: impl Into<String>,
        member_id: impl Into<String>,
        topics: &[&str],
        rebalance_timeout_ms: i32,
    ) -> ConsumerGroupHeartbeat {
        ConsumerGroupHeartbeat {
            rebalance_timeout_ms,
            topics: Some(topics.iter().map(|topic| (*topic).to_owned()).collect()),
            owned: Some(Vec::new()),
            ..ConsumerGroupHeartbeat::unchanged(group_id, member_id, 0)
        }
    }

    /// Says nothing new.
    #[must_use]
    pub fn unchanged(
        group_id: impl Into<String>,
        member_id: impl Into<String>,
        member_epoch: i32,
    ) -> ConsumerGroupHeartbeat {
        ConsumerGroupHeartbeat {
            group_id: group_id.into(),
            member_id: member_id.into(),
            member_epoch,
            instance_id: None,
            rack_id: None,
            rebalance_timeout_ms: -1,
            topics: None,
            topics_regex: None,
            assignor: None,
            owned: None,
        }
    }
}

/// What a member is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerGroupHeartbeatAnswer {
    /// What went wrong.
    pub error: ErrorCode,
    /// What the server says about it.
    pub message: Option<String>,
    /// The member's id.
    pub member_id: Option<String>,
    /// The member's epoch.
    pub member_epoch: i32,
    /// When the next heartbeat is due.
    pub heartbeat_interval_ms: i32,
    /// What the member may own from now on; `None` for as before.
    pub assignment: Option<Vec<PartitionsById>>,
}

impl Connection {
    /// One heartbeat of a consumer group's member.
    pub async fn consumer_group_heartbeat(
        &self,
        heartbeat: &ConsumerGroupHeartbeat,
    ) -> Result<ConsumerGroupHeartbeatAnswer, ClientError> {
        let mut body = Writer::new();
        body.string(&heartbeat.group_id)
            .string(&heartbeat.member_id)
            .i32(heartbeat.member_epoch)
            .nullable_string(heartbeat.instance_id.as_deref())
            .nullable_string(heartbeat.rack_id.as_deref())
            .i32(heartbeat.rebalance_timeout_ms);
        match &heartbeat.topics {
            Some(topics) => body.array(topics, |item, topic| {
                item.string(topic);
            }),
            None => body.null_array(),
        };
        body.nullable_string(heartbeat.topics_regex.as_deref())
            .nullable_string(heartbeat.assignor.as_deref());
        match &heartbeat.owned {
            Some(owned) => body.array(owned, |item, topic| {
                item.uuid(topic.topic_id);
                item.array(&topic.partitions, |item, partition| {
                    item.i32(*partition);
                });
                item.no_tags();
            }),
            None => body.null_array(),
        };
        body.no_tags();
        let mut answer = self
            .call(CONSUMER_GROUP_HEARTBEAT, 1, &body.finish())
            .await?;
        let _throttle_ms = answer.i32()?;
        let told = ConsumerGroupHeartbeatAnswer {
            error: ErrorCode(answer.i16()?),
            message: answer.nullable_string()?,
            member_id: answer.nullable_string()?,
            member_epoch: answer.i32()?,
            heartbeat_interval_ms: answer.i32()?,
            assignment: answer.nullable_struct(read_assignment)?,
        };
        answer.skip_tags()?;
        answer.finish()?;
        Ok(told)
    }
}

fn read_assignment(item: &mut Reader) -> Result<Vec<PartitionsById>, ClientError> {
    let topics = item.array(|item| {
        let topic = PartitionsById {
            topic_id: item.uuid()?,
            partitions: item.array(Reader::i32)?,
        };
        item.skip_tags()?;
        Ok(topic)
    })?;
    item.skip_tags()?;
    Ok(topics)
}

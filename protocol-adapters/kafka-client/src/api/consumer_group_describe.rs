//! ConsumerGroupDescribe, key 69, version 1 (KIP-848; KIP-1099: the members' type).

use super::CONSUMER_GROUP_DESCRIBE;
use crate::wire::{Reader, Writer};
use crate::{ClientError, Connection, ErrorCode};

/// A consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerGroup {
    /// What went wrong.
    pub error: ErrorCode,
    /// What the server says about it.
    pub message: Option<String>,
    /// Its id.
    pub group_id: String,
    /// Its state's name.
    pub state: String,
    /// Its epoch.
    pub group_epoch: i32,
    /// The epoch its target assignment was computed for.
    pub assignment_epoch: i32,
    /// The assignor that computed it.
    pub assignor: String,
    /// Its members.
    pub members: Vec<ConsumerMember>,
}

/// A consumer group's member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerMember {
    /// Its id.
    pub member_id: String,
    /// The id of a static member.
    pub instance_id: Option<String>,
    /// Its rack.
    pub rack_id: Option<String>,
    /// Its epoch.
    pub member_epoch: i32,
    /// The name its client gave itself.
    pub client_id: String,
    /// Where its client is.
    pub client_host: String,
    /// The topics it wants.
    pub topics: Vec<String>,
    /// The topics it wants, by a regular expression.
    pub topics_regex: Option<String>,
    /// What it owns.
    pub assignment: Vec<AssignedTopic>,
    /// What it is to own.
    pub target: Vec<AssignedTopic>,
    /// 0 for a classic member, 1 for one of the new protocol, -1 for unknown.
    pub member_type: i8,
}

/// Partitions of one topic that a member owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignedTopic {
    /// The topic's id.
    pub topic_id: [u8; 16],
    /// The topic's name.
    pub name: String,
    /// The partitions.
    pub partitions: Vec<i32>,
}

impl Connection {
    /// Describes consumer groups; one result each.
    pub async fn consumer_group_describe(
        &self,
        group_ids: &[&str],
    ) -> Result<Vec<ConsumerGroup>, ClientError> {
        let mut body = Writer::new();
        body.array(group_ids, |item, group_id| {
            item.string(group_id);
        });
        body.bool(false).no_tags();
        let mut answer = self
            .call(CONSUMER_GROUP_DESCRIBE, 1, &body.finish())
            .await?;
        let _throttle_ms = answer.i32()?;
        let groups = answer.array(read_group)?;
        answer.skip_tags()?;
        answer.finish()?;
        Ok(groups)
    }
}

fn read_group(item: &mut Reader) -> Result<ConsumerGroup, ClientError> {
    let group = ConsumerGroup {
        error: ErrorCode(item.i16()?),
        message: item.nullable_string()?,
        group_id: item.string()?,
        state: item.string()?,
        group_epoch: item.i32()?,
        assignment_epoch: item.i32()?,
        assignor: item.string()?,
        members: item.array(read_member)?,
    };
    let _authorized_operations = item.i32()?;
    item.skip_tags()?;
    Ok(group)
}

fn read_member(item: &mut Reader) -> Result<ConsumerMember, ClientError> {
    let member = ConsumerMember {
        member_id: item.string()?,
        instance_id: item.nullable_string()?,
        rack_id: item.nullable_string()?,
        member_epoch: item.i32()?,
        client_id: item.string()?,
        client_host: item.string()?,
        topics: item.array(Reader::string)?,
        topics_regex: item.nullable_string()?,
        assignment: read_assignment(item)?,
        target: read_assignment(item)?,
        member_type: item.i8()?,
    };
    item.skip_tags()?;
    Ok(member)
}

fn read_assignment(item: &mut Reader) -> Result<Vec<AssignedTopic>, ClientError> {
    let topics = item.array(|item| {
        let topic = AssignedTopic {
            topic_id: item.uuid()?,
            name: item.string()?,
            partitions: item.array(Reader::i32)?,
        };
        item.skip_tags()?;
        Ok(topic)
    })?;
    item.skip_tags()?;
    Ok(topics)
}

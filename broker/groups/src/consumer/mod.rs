//! Consumer groups (KIP-848).

pub(crate) mod classic_members;

use coordinator::ReplyId;

use crate::command::ConsumerGroupHeartbeat;
use crate::error::GroupError;
use crate::groups::Groups;
use crate::record::ConsumerRecord;
use crate::response::{ConsumerGroupDescription, ConsumerGroupHeartbeatResponse, Response};
use crate::turn::Turn;

/// The hard state of a consumer group.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConsumerGroup {}

/// What the leader remembers of all consumer groups besides.
#[derive(Debug, Clone, Default)]
pub(crate) struct Soft {}

/// The timers of a consumer group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConsumerTimer {}

impl ConsumerGroup {
    pub(crate) fn replay(&mut self, _record: &ConsumerRecord) {}

    /// Whether nothing of the group is left, so that it can be dropped.
    pub(crate) fn is_gone(&self) -> bool {
        false
    }

    pub(crate) fn is_empty(&self) -> bool {
        true
    }

    pub(crate) fn state_name(&self) -> &'static str {
        "Empty"
    }

    pub(crate) fn is_subscribed_to(&self, _topic: &str) -> bool {
        false
    }

    /// The records that delete the group.
    pub(crate) fn tombstones(&self, _group_id: &str) -> Vec<ConsumerRecord> {
        Vec::new()
    }

    /// Whether the member may commit.
    pub(crate) fn check_commit(
        &self,
        _member_id: &str,
        _instance_id: Option<&str>,
        _epoch: i32,
        _understands_member_epochs: bool,
    ) -> Result<(), GroupError> {
        Ok(())
    }

    /// Whether the member may fetch offsets.
    pub(crate) fn check_fetch(
        &self,
        _member_id: Option<&str>,
        _epoch: i32,
    ) -> Result<(), GroupError> {
        Ok(())
    }
}

pub(crate) fn heartbeat(
    _groups: &mut Groups,
    _command: ConsumerGroupHeartbeat,
    reply: ReplyId,
    turn: &mut Turn<'_>,
) {
    turn.answer(
        reply,
        Response::ConsumerGroupHeartbeat(ConsumerGroupHeartbeatResponse::default()),
    );
}

pub(crate) fn describe(_groups: &Groups, group_id: &str) -> ConsumerGroupDescription {
    ConsumerGroupDescription {
        group_id: group_id.to_owned(),
        error: Some(GroupError::GroupIdNotFound),
        ..ConsumerGroupDescription::default()
    }
}

pub(crate) fn timer_fired(
    _groups: &mut Groups,
    _group_id: &str,
    _timer: ConsumerTimer,
    _turn: &mut Turn<'_>,
) {
}

/// The instance leads from now on: timers for the members of this group.
pub(crate) fn lead(_groups: &mut Groups, _group_id: &str, _turn: &mut Turn<'_>) {}

pub(crate) fn topics_changed(_groups: &mut Groups, _turn: &mut Turn<'_>) {}

//! Heartbeat, key 12, versions 0-4, and who may commit offsets.

use coordinator::ReplyId;

use super::live::{Live, State};
use crate::command::{Heartbeat, OffsetCommit};
use crate::error::GroupError;
use crate::groups::Groups;
use crate::response::Response;
use crate::turn::Turn;

/// Answers Heartbeat in a classic group.
pub(crate) fn heartbeat(groups: &Groups, command: &Heartbeat, reply: ReplyId, turn: &mut Turn<'_>) {
    let outcome = match groups.soft.classic.get(&command.group_id) {
        None => Err(GroupError::UnknownMemberId),
        Some(live) => beat(live, command, turn),
    };
    turn.answer(reply, Response::Heartbeat(outcome));
}

fn beat(live: &Live, command: &Heartbeat, turn: &mut Turn<'_>) -> Result<(), GroupError> {
    live.check_member(&command.member_id, command.group_instance_id.as_deref())?;
    if command.generation_id != live.generation {
        return Err(GroupError::IllegalGeneration);
    }
    live.set_session_timer(&command.member_id, turn);
    match live.state {
        State::Empty => Err(GroupError::UnknownMemberId),
        State::PreparingRebalance => Err(GroupError::RebalanceInProgress),
        State::CompletingRebalance | State::Stable => Ok(()),
    }
}

impl Live {
    /// Whether offsets may be committed.
    pub(crate) fn check_commit(&self, command: &OffsetCommit) -> Result<(), GroupError> {
        let generation = command.generation_id_or_member_epoch;
        let instance_id = command.group_instance_id.as_deref();
        let is_empty = self.state == State::Empty;
        // An admin, or a consumer that is not a member of the group it keeps its offsets under.
        if generation < 0 && is_empty {
            return Ok(());
        }
        if generation < 0 && command.member_id.is_empty() && instance_id.is_none() {
            return Err(GroupError::UnknownMemberId);
        }
        self.check_member(&command.member_id, instance_id)?;
        if generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        if self.state == State::CompletingRebalance {
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }
}

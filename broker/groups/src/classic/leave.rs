//! LeaveGroup, key 13, versions 0-5.

use coordinator::ReplyId;

use super::live::{Live, State};
use super::rebalance;
use crate::command::{LeaveGroup, LeavingMember};
use crate::error::GroupError;
use crate::groups::Groups;
use crate::response::{LeaveGroupResponse, LeftMember, Response};
use crate::turn::Turn;

/// Answers LeaveGroup in a classic group.
pub(crate) fn leave(groups: &mut Groups, command: LeaveGroup, reply: ReplyId, turn: &mut Turn<'_>) {
    let group_id = command.group_id;
    let mut live = groups.soft.classic.get_mut(&group_id);
    let mut members = Vec::with_capacity(command.members.len());
    for member in command.members {
        let outcome = match &mut live {
            Some(live) => take_out(live, &member, turn),
            None => Err(GroupError::UnknownMemberId),
        };
        members.push(LeftMember {
            member_id: member.member_id,
            group_instance_id: member.group_instance_id,
            error: outcome.err(),
        });
    }
    let has_left = members.iter().any(|member| member.error.is_none());
    if let Some(live) = live.filter(|_| has_left) {
        match live.state {
            State::Stable | State::CompletingRebalance => rebalance::prepare(live, turn),
            State::PreparingRebalance => rebalance::complete_if_all_joined(live, turn),
            State::Empty => {}
        }
    }
    let error = None;
    turn.answer(
        reply,
        Response::LeaveGroup(LeaveGroupResponse { error, members }),
    );
    groups.forget_if_vacant(&group_id);
}

fn take_out(
    live: &mut Live,
    member: &LeavingMember,
    turn: &mut Turn<'_>,
) -> Result<(), GroupError> {
    let instance_id = member.group_instance_id.as_deref();
    let member_id = if member.member_id.is_empty() {
        // An admin knows a static member by its instance id only.
        let owner = instance_id.and_then(|id| live.static_members.get(id));
        owner.ok_or(GroupError::UnknownMemberId)?.clone()
    } else {
        if !live.pending.contains(&member.member_id) {
            live.check_member(&member.member_id, instance_id)?;
        }
        member.member_id.clone()
    };
    live.remove(&member_id, turn);
    Ok(())
}

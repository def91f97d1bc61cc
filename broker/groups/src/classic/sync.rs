//! SyncGroup, key 14, versions 0-5.

use std::collections::BTreeMap;

use coordinator::{Record as _, ReplyId};

use super::live::{Live, State};
use super::rebalance;
use crate::command::SyncGroup;
use crate::error::GroupError;
use crate::groups::Groups;
use crate::record::Record;
use crate::response::{Response, SyncGroupResponse};
use crate::turn::Turn;

/// Answers SyncGroup, or lets it wait for the leader's, in a classic group.
pub(crate) fn sync(groups: &mut Groups, command: SyncGroup, reply: ReplyId, turn: &mut Turn<'_>) {
    let Some(live) = groups.soft.classic.get_mut(&command.group_id) else {
        refuse(GroupError::UnknownMemberId, reply, turn);
        return;
    };
    if let Err(error) = check(live, &command) {
        refuse(error, reply, turn);
        return;
    }
    let member_id = &command.member_id;
    match live.state {
        State::Empty => refuse(GroupError::UnknownMemberId, reply, turn),
        State::PreparingRebalance => refuse(GroupError::RebalanceInProgress, reply, turn),
        State::CompletingRebalance => {
            live.await_sync(member_id, reply, turn);
            rebalance::synced(live, member_id, turn);
            if live.leader.as_ref() == Some(member_id) {
                assign(live, command, turn);
            }
        }
        State::Stable => {
            rebalance::synced(live, member_id, turn);
            let answer = live.synced(member_id);
            turn.answer(reply, Response::SyncGroup(answer));
        }
    }
}

fn refuse(error: GroupError, reply: ReplyId, turn: &mut Turn<'_>) {
    let refused = SyncGroupResponse::refused(error);
    turn.answer(reply, Response::SyncGroup(refused));
}

fn check(live: &Live, command: &SyncGroup) -> Result<(), GroupError> {
    if live.state == State::Empty {
        return Err(GroupError::UnknownMemberId);
    }
    live.check_member(&command.member_id, command.group_instance_id.as_deref())?;
    if command.generation_id != live.generation {
        return Err(GroupError::IllegalGeneration);
    }
    let differs = |asked: &Option<String>, ours: &Option<String>| {
        asked.is_some() && ours.is_some() && asked != ours
    };
    if differs(&command.protocol_type, &live.protocol_type)
        || differs(&command.protocol_name, &live.protocol)
    {
        return Err(GroupError::InconsistentGroupProtocol);
    }
    Ok(())
}

/// The leader has assigned. Members that it forgot get nothing; what it gave to others is dropped.
fn assign(live: &mut Live, command: SyncGroup, turn: &mut Turn<'_>) {
    let given = command.assignments.into_iter();
    let mut given: BTreeMap<_, _> = given.map(|one| (one.member_id, one.assignment)).collect();
    for (member_id, member) in &mut live.members {
        member.assignment = given.remove(member_id).unwrap_or_default();
    }
    let record = Record::Classic(live.group_id.clone(), Some(live.value()));
    let value_bytes = record.encode().value.map_or(0, |value| value.len());
    if value_bytes > turn.config.record_bytes_max {
        // Members have been let in as far as the record has room for them: the leader gives too much.
        // Nobody shall come again with the same.
        live.refuse_assignments(GroupError::MessageTooLarge, turn);
        rebalance::prepare(live, turn);
        return;
    }
    turn.append(record);
    live.transition(State::Stable, turn.now_ms);
    let member_ids: Vec<String> = live.members.keys().cloned().collect();
    for member_id in &member_ids {
        let answer = live.synced(member_id);
        live.answer_sync(member_id, answer, turn);
    }
}

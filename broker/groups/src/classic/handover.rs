//! A classic group becomes a consumer group, or the other way round, with its members in it.

use super::live::{Live, State};
use super::member::Member;
use super::rebalance::prepare;
use crate::consumer::{HandedMember, HandedOver};
use crate::error::GroupError;
use crate::groups::Groups;
use crate::turn::Turn;

/// The members of the classic group; none when there is no such group or nobody is in it.
pub(crate) fn hand_over(groups: &Groups, group_id: &str) -> Option<HandedOver> {
    let live = groups.soft.classic.get(group_id)?;
    if live.state == State::Empty {
        return None;
    }
    let members = live.members.iter().map(|(id, member)| HandedMember {
        member_id: id.clone(),
        instance_id: member.instance_id.clone(),
        client: member.client.clone(),
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        session_timeout_ms: member.session_timeout_ms,
        protocols: member.protocols.clone(),
        assignment: member.assignment.clone(),
    });
    Some(HandedOver {
        generation: live.generation,
        protocol_type: live.protocol_type.clone().unwrap_or_default(),
        protocol: live.protocol.clone(),
        members: members.collect(),
    })
}

/// The group is a consumer group from now on: who waits is told to join again, and nothing of the
/// classic one is left in memory.
pub(crate) fn handed_over(groups: &mut Groups, group_id: &str, turn: &mut Turn<'_>) {
    let Some(mut live) = groups.soft.classic.remove(group_id) else {
        return;
    };
    let member_ids: Vec<String> = live.members.keys().cloned().collect();
    for member_id in &member_ids {
        live.answer_waiting(member_id, GroupError::RebalanceInProgress, turn);
    }
    live.cancel_timers(turn);
}

/// The group is a classic group from now on: stable in its generation. `rebalance`: a member has
/// come or gone since.
pub(crate) fn take_over(
    groups: &mut Groups,
    group_id: &str,
    group: HandedOver,
    leader: Option<String>,
    rebalance: bool,
    turn: &mut Turn<'_>,
) {
    let mut live = Live::new(group_id, turn.now_ms);
    live.generation = group.generation;
    live.protocol_type = Some(group.protocol_type);
    live.protocol = group.protocol;
    live.leader = leader;
    let members = group.members.into_iter().map(|handed| {
        let member = Member {
            instance_id: handed.instance_id,
            client: handed.client,
            session_timeout_ms: handed.session_timeout_ms,
            rebalance_timeout_ms: handed.rebalance_timeout_ms,
            protocols: handed.protocols,
            assignment: handed.assignment,
            ..Member::default()
        };
        (handed.member_id, member)
    });
    live.take_members(members);
    live.set_session_timers(turn);
    if rebalance && live.state == State::Stable {
        prepare(&mut live, turn);
    }
    groups.soft.classic.insert(group_id.to_owned(), live);
}

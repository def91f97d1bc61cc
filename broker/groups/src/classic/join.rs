//! JoinGroup, key 11, versions 0-9.

use coordinator::ReplyId;

use super::live::{Live, PENDING_BYTES, State};
use super::member::Member;
use super::rebalance::{self, prepare_or_complete};
use super::session_timer;
use crate::command::JoinGroup;
use crate::config::GroupsConfig;
use crate::error::GroupError;
use crate::groups::Groups;
use crate::record::Record;
use crate::response::{Joined, Response};
use crate::turn::Turn;

/// How long a new member's JoinGroup waits: it has no id yet and cannot heartbeat, and a client that
/// gave up and came again must not leave members behind that never answer. Kafka's value.
const NEW_MEMBER_JOIN_TIMEOUT_MS: i64 = 5 * 60 * 1_000;

/// Answers JoinGroup, or lets it wait, in a group that is not a consumer group with members.
pub(crate) fn join(groups: &mut Groups, command: JoinGroup, reply: ReplyId, turn: &mut Turn<'_>) {
    let group_id = command.group_id.clone();
    let is_known = groups.soft.classic.contains_key(&group_id);
    let is_first = command.member_id.is_empty();
    if !is_known && !is_first {
        refuse(&command, GroupError::UnknownMemberId, reply, turn);
        return;
    }
    if !is_known && !groups.has_room(turn.config) {
        refuse(&command, GroupError::GroupMaxSizeReached, reply, turn);
        return;
    }
    let more_bytes = more_bytes(groups.soft.classic.get(&group_id), &command, turn.config);
    if !more_bytes.is_some_and(|bytes| groups.soft.take_member_bytes(&groups.hard, bytes, turn)) {
        refuse(&command, GroupError::GroupMaxSizeReached, reply, turn);
        return;
    }
    let live = groups
        .soft
        .classic
        .entry(group_id.clone())
        .or_insert_with(|| Live::new(&group_id, turn.now_ms));
    if !accepts(live, &command.member_id, turn.config) {
        live.remove(&command.member_id, turn);
        rebalance::complete_if_all_joined(live, turn);
        let refused = Joined::refused("", GroupError::GroupMaxSizeReached);
        turn.answer(reply, Response::JoinGroup(refused));
    } else if !live.supports(&command.protocol_type, &command.protocols) {
        refuse(&command, GroupError::InconsistentGroupProtocol, reply, turn);
    } else if is_first {
        join_first(live, &command, reply, turn);
    } else {
        join_again(live, &command, reply, turn);
    }
    groups.forget_if_vacant(&group_id);
}

/// How many bytes more the group takes with this member than without; `None`: more than it may.
fn more_bytes(live: Option<&Live>, command: &JoinGroup, config: &GroupsConfig) -> Option<usize> {
    let mut member = Member {
        instance_id: command.group_instance_id.clone(),
        ..Member::default()
    };
    describe(&mut member, command);
    let more_bytes = match live {
        Some(live) => live.more_bytes(live.member_of(command), &member, config),
        None => Live::new("", 0).more_bytes(None, &member, config),
    };
    // Of who is sent back for an id only that is kept.
    let is_sent_back = is_sent_back(command);
    more_bytes.map(|bytes| {
        if is_sent_back {
            bytes.min(PENDING_BYTES)
        } else {
            bytes
        }
    })
}

/// Whether the member comes without an id and must come again with one, if it is not in the group.
fn is_sent_back(command: &JoinGroup) -> bool {
    let is_first = command.member_id.is_empty() && command.group_instance_id.is_none();
    is_first && command.requires_known_member_id
}

/// Whether what the command says of itself is within the limits.
pub(crate) fn check(command: &JoinGroup, config: &GroupsConfig) -> Result<(), GroupError> {
    let is_long = |id: &str| id.len() > config.id_bytes_max;
    if command.group_id.is_empty() || is_long(&command.group_id) {
        return Err(GroupError::InvalidGroupId);
    }
    let allowed_ms = config.group_min_session_timeout_ms..=config.group_max_session_timeout_ms;
    if !allowed_ms.contains(&command.session_timeout_ms) {
        return Err(GroupError::InvalidSessionTimeout);
    }
    let protocol_bytes = command
        .protocols
        .iter()
        .map(|one| one.name.len() + one.metadata.len() + size_of_val(one))
        .sum::<usize>();
    let is_over = command.group_instance_id.as_deref().is_some_and(is_long)
        || is_long(&command.client.id)
        || is_long(&command.client.host)
        || is_long(&command.protocol_type)
        || command.protocols.iter().any(|one| is_long(&one.name))
        || command.protocols.len() > config.member_protocols_max
        || protocol_bytes > config.member_metadata_bytes_max;
    if is_over {
        return Err(GroupError::InvalidRequest);
    }
    Ok(())
}

fn refuse(command: &JoinGroup, error: GroupError, reply: ReplyId, turn: &mut Turn<'_>) {
    let refused = Joined::refused(&command.member_id, error);
    turn.answer(reply, Response::JoinGroup(refused));
}

/// Whether the group has room for the member. While members join again, those that have done so
/// count: the last ones are turned away when the limit was lowered.
fn accepts(live: &Live, member_id: &str, config: &GroupsConfig) -> bool {
    let member = live.members.get(member_id);
    match live.state {
        State::Empty => true,
        State::PreparingRebalance => {
            member.is_some_and(|member| member.join.is_some())
                || live.awaiting_join() < config.group_max_size
        }
        State::CompletingRebalance | State::Stable => {
            member.is_some() || live.members.len() < config.group_max_size
        }
    }
}

/// A member that comes without an id.
fn join_first(live: &mut Live, command: &JoinGroup, reply: ReplyId, turn: &mut Turn<'_>) {
    let known_by = command.group_instance_id.as_deref();
    let known_by = known_by.unwrap_or(&command.client.id);
    let member_id = format!("{known_by}-{}", command.fresh_id);
    let instance = command.group_instance_id.as_ref();
    let replaced = instance.and_then(|id| live.static_members.get(id).cloned());
    if let Some(old_id) = replaced {
        join_in_place_of(live, &old_id, &member_id, command, reply, turn);
    } else if !is_sent_back(command) {
        add(live, &member_id, command, reply, turn);
    } else if live.pending.len() >= turn.config.pending_members_max {
        refuse(command, GroupError::GroupMaxSizeReached, reply, turn);
    } else {
        rebalance::expect_member(live, &member_id, command.session_timeout_ms, turn);
        let refused = Joined::refused(&member_id, GroupError::MemberIdRequired);
        turn.answer(reply, Response::JoinGroup(refused));
    }
}

fn add(live: &mut Live, member_id: &str, command: &JoinGroup, reply: ReplyId, turn: &mut Turn<'_>) {
    if live.members.is_empty() {
        live.protocol_type = Some(command.protocol_type.clone());
    }
    if let Some(initial) = &mut live.initial {
        initial.has_new_member = true;
    }
    let mut member = Member {
        is_new: true,
        ..Member::default()
    };
    describe(&mut member, command);
    member.instance_id = command.group_instance_id.clone();
    live.add(member_id, member, Some(reply));
    let timer = session_timer(&live.group_id, member_id);
    turn.set_timer(timer, NEW_MEMBER_JOIN_TIMEOUT_MS);
    prepare_or_complete(live, turn);
}

/// What the command says of its member.
fn describe(member: &mut Member, command: &JoinGroup) {
    member.client = command.client.clone();
    member.protocols = command.protocols.clone();
    member.session_timeout_ms = command.session_timeout_ms;
    member.rebalance_timeout_ms = match command.rebalance_timeout_ms {
        -1 => command.session_timeout_ms,
        given => given,
    };
}

/// A static member that has lost its id, which happens when it starts again.
fn join_in_place_of(
    live: &mut Live,
    old_id: &str,
    member_id: &str,
    command: &JoinGroup,
    reply: ReplyId,
    turn: &mut Turn<'_>,
) {
    let old_leader = live.leader.clone();
    live.replace_static(old_id, member_id, turn);
    live.update(member_id, |member| describe(member, command));
    live.set_session_timer(member_id, turn);
    match live.state {
        State::Stable if live.select_protocol() == live.protocol => {
            // Nobody else notices: the member goes on with what it had.
            turn.append(Record::Classic(live.group_id.clone(), Some(live.value())));
            let mut answer = live.joined(member_id, command.supports_skip_assignment);
            if !command.supports_skip_assignment {
                // It must not take itself for the leader, which would have to assign.
                answer.leader = old_leader.unwrap_or_default();
                answer.members = Vec::new();
            }
            turn.answer(reply, Response::JoinGroup(answer));
        }
        // While the leader assigns, it assigns to the old id: all must join again.
        State::Stable | State::CompletingRebalance => {
            live.await_join(member_id, reply, turn);
            rebalance::prepare(live, turn);
        }
        State::PreparingRebalance | State::Empty => {
            live.await_join(member_id, reply, turn);
            rebalance::complete_if_all_joined(live, turn);
        }
    }
}

/// A member that comes with an id.
fn join_again(live: &mut Live, command: &JoinGroup, reply: ReplyId, turn: &mut Turn<'_>) {
    let member_id = &command.member_id;
    let instance_id = command.group_instance_id.as_deref();
    // An id that was given to come back with is never a static member's.
    if live.pending.contains(member_id) && instance_id.is_none() {
        add(live, member_id, command, reply, turn);
        return;
    }
    if let Err(error) = live.check_member(member_id, instance_id) {
        refuse(command, error, reply, turn);
        return;
    }
    let member = live.members.get(member_id);
    let is_same = member.is_some_and(|member| member.protocols == command.protocols);
    let is_leader = live.leader.as_ref() == Some(member_id);
    let is_told_again = match live.state {
        // It missed the answer.
        State::CompletingRebalance => is_same,
        // A leader that joins again wants to assign again, for reasons of its own.
        State::Stable => is_same && !is_leader,
        State::Empty | State::PreparingRebalance => false,
    };
    if is_told_again {
        let answer = live.joined(member_id, false);
        turn.answer(reply, Response::JoinGroup(answer));
        return;
    }
    live.update(member_id, |member| describe(member, command));
    live.await_join(member_id, reply, turn);
    prepare_or_complete(live, turn);
}

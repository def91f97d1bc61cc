//! The way of a classic group from one generation to the next, and what time does to it.

use super::live::{Initial, Live, State};
use super::{ClassicTimer, session_timer, timer};
use crate::error::GroupError;
use crate::record::Record;
use crate::turn::Turn;

/// The group rebalances: everybody must join again.
pub(crate) fn prepare(live: &mut Live, turn: &mut Turn<'_>) {
    if live.state == State::CompletingRebalance {
        live.refuse_assignments(GroupError::RebalanceInProgress, turn);
    }
    live.pending_sync.clear();
    turn.cancel_timer(timer(&live.group_id, ClassicTimer::Sync));
    let is_initial = live.state == State::Empty;
    live.transition(State::PreparingRebalance, turn.now_ms);
    if is_initial {
        let delay_ms = turn.config.group_initial_rebalance_delay_ms;
        let remaining_ms = live.rebalance_timeout_ms().saturating_sub(delay_ms).max(0);
        live.initial = Some(Initial {
            delay_ms,
            remaining_ms,
            has_new_member: false,
        });
        let join = timer(&live.group_id, ClassicTimer::Join);
        turn.set_timer(join, delay_ms.into());
    } else if live.has_all_joined() {
        complete(live, turn);
    } else {
        wait_for_joins(live, turn);
    }
}

/// A member came, went or changed: the group rebalances, or is one step further in doing so.
pub(super) fn prepare_or_complete(live: &mut Live, turn: &mut Turn<'_>) {
    match live.state {
        State::PreparingRebalance => complete_if_all_joined(live, turn),
        State::Empty | State::CompletingRebalance | State::Stable => prepare(live, turn),
    }
}

/// Ends the joining when nobody is missing; the first one of a group lasts as long as its delay.
pub(super) fn complete_if_all_joined(live: &mut Live, turn: &mut Turn<'_>) {
    let is_initial = live.initial.is_some();
    if live.state == State::PreparingRebalance && !is_initial && live.has_all_joined() {
        complete(live, turn);
    }
}

fn wait_for_joins(live: &Live, turn: &mut Turn<'_>) {
    let join = timer(&live.group_id, ClassicTimer::Join);
    turn.set_timer(join, live.rebalance_timeout_ms().into());
}

/// Ends the joining: who did not join and is not static is out, the others are the next generation.
fn complete(live: &mut Live, turn: &mut Turn<'_>) {
    turn.cancel_timer(timer(&live.group_id, ClassicTimer::Join));
    let missing = live.members.iter().filter(|(_, one)| one.join.is_none());
    let missing: Vec<String> = missing
        .filter(|(_, one)| !one.is_static())
        .map(|(id, _)| id.clone())
        .collect();
    for member_id in &missing {
        live.remove(member_id, turn);
    }
    if !live.elect_joined_leader() && !live.members.is_empty() {
        // Only static members, none of which joined: they have until their sessions end.
        wait_for_joins(live, turn);
        return;
    }
    live.generation = live.generation.checked_add(1).unwrap_or(0);
    if live.members.is_empty() {
        live.protocol = None;
        live.find_subscribed_topics();
        live.transition(State::Empty, turn.now_ms);
        turn.append(Record::Classic(live.group_id.clone(), Some(live.value())));
    } else {
        live.protocol = live.select_protocol();
        live.find_subscribed_topics();
        live.transition(State::CompletingRebalance, turn.now_ms);
        tell_members(live, turn);
        let sync = timer(&live.group_id, ClassicTimer::Sync);
        turn.set_timer(sync, live.rebalance_timeout_ms().into());
    }
}

/// Tells all that joined of the new generation.
fn tell_members(live: &mut Live, turn: &mut Turn<'_>) {
    let member_ids: Vec<String> = live.members.keys().cloned().collect();
    for member_id in member_ids {
        let answer = live.joined(&member_id, false);
        live.answer_join(&member_id, answer, turn);
        live.set_session_timer(&member_id, turn);
        if let Some(member) = live.members.get_mut(&member_id) {
            member.is_new = false;
        }
        live.pending_sync.insert(member_id);
    }
}

/// The member has asked for its assignment, or will not.
pub(super) fn synced(live: &mut Live, member_id: &str, turn: &mut Turn<'_>) {
    live.pending_sync.remove(member_id);
    if live.pending_sync.is_empty() {
        turn.cancel_timer(timer(&live.group_id, ClassicTimer::Sync));
    }
}

/// The group does not wait longer for members to join.
pub(super) fn join_time_over(live: &mut Live, turn: &mut Turn<'_>) {
    if live.state != State::PreparingRebalance {
        return;
    }
    match &mut live.initial {
        Some(initial) if initial.has_new_member && initial.remaining_ms > 0 => {
            let waited_ms = initial.delay_ms;
            let delay_ms = turn.config.group_initial_rebalance_delay_ms;
            initial.delay_ms = delay_ms.min(initial.remaining_ms);
            initial.remaining_ms = initial.remaining_ms.saturating_sub(waited_ms).max(0);
            initial.has_new_member = false;
            let delay_ms = initial.delay_ms;
            let join = timer(&live.group_id, ClassicTimer::Join);
            turn.set_timer(join, delay_ms.into());
        }
        _ => complete(live, turn),
    }
}

/// The group does not wait longer for members to ask for their assignment.
pub(super) fn sync_time_over(live: &mut Live, turn: &mut Turn<'_>) {
    let is_waiting = matches!(live.state, State::CompletingRebalance | State::Stable);
    if !is_waiting || live.pending_sync.is_empty() {
        return;
    }
    for member_id in std::mem::take(&mut live.pending_sync) {
        live.remove(&member_id, turn);
    }
    prepare(live, turn);
}

/// A member was silent for too long, or an id was not used.
pub(super) fn session_over(live: &mut Live, member_id: &str, turn: &mut Turn<'_>) {
    if live.pending.contains(member_id) {
        live.remove(member_id, turn);
        complete_if_joined_now(live, turn);
        return;
    }
    let Some(member) = live.members.get(member_id) else {
        return;
    };
    if member.is_excused() {
        return;
    }
    live.remove(member_id, turn);
    match live.state {
        State::Stable | State::CompletingRebalance => prepare(live, turn),
        State::PreparingRebalance => complete_if_joined_now(live, turn),
        State::Empty => {}
    }
}

/// As [`complete_if_all_joined`], but the end of a session also ends the delay of a first joining
/// when nobody is missing.
fn complete_if_joined_now(live: &mut Live, turn: &mut Turn<'_>) {
    if live.state == State::PreparingRebalance && live.has_all_joined() {
        complete(live, turn);
    }
}

/// Gives an id to a member to come back with.
pub(super) fn expect_member(
    live: &mut Live,
    member_id: &str,
    session_timeout_ms: i32,
    turn: &mut Turn<'_>,
) {
    live.pending.insert(member_id.to_owned());
    let timer = session_timer(&live.group_id, member_id);
    turn.set_timer(timer, session_timeout_ms.into());
}

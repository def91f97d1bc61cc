//! The timers of consumer groups. All of them fence the member when they fire.
//!
//! | timer | runs while | cancelled by |
//! |---|---|---|
//! | session | the member is in the group | set anew by each heartbeat |
//! | rebalance | it has partitions to give back | having given them back |
//! | join | a classic member was told to join again | JoinGroup |
//! | sync | a classic member has joined | SyncGroup |

use std::sync::Arc;

use super::fence;
use super::group::{AWAY_EPOCH, Member};
use crate::groups::{Groups, Timer};
use crate::record::consumer::MemberState;
use crate::turn::Turn;

/// The timers of a consumer group, each with the member that it is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConsumerTimer {
    /// The member was silent for its session timeout.
    Session(Arc<str>),
    /// The member did not give its partitions back within its rebalance timeout.
    Rebalance(Arc<str>),
    /// A member of the classic protocol did not join again within its rebalance timeout.
    Join(Arc<str>),
    /// A member of the classic protocol joined and did not sync within its rebalance timeout.
    Sync(Arc<str>),
}

fn set(group_id: &str, timer: ConsumerTimer, after_ms: i32, turn: &mut Turn<'_>) {
    turn.set_timer(
        Timer::Consumer {
            group_id: group_id.to_owned(),
            timer,
        },
        after_ms.into(),
    );
}

fn cancel(group_id: &str, timer: ConsumerTimer, turn: &mut Turn<'_>) {
    turn.cancel_timer(Timer::Consumer {
        group_id: group_id.to_owned(),
        timer,
    });
}

/// The session of the member begins anew.
pub(super) fn session(group_id: &str, id: &Arc<str>, timeout_ms: i32, turn: &mut Turn<'_>) {
    set(
        group_id,
        ConsumerTimer::Session(id.clone()),
        timeout_ms,
        turn,
    );
}

/// After what the member has was looked at; `changed`: it was written anew.
pub(super) fn rebalance(
    group_id: &str,
    id: &Arc<str>,
    member: &Member,
    changed: bool,
    turn: &mut Turn<'_>,
) {
    if !changed || member.is_classic() {
        return;
    }
    let timer = ConsumerTimer::Rebalance(id.clone());
    if member.current.state == MemberState::UnrevokedPartitions {
        set(group_id, timer, member.value.rebalance_timeout_ms, turn);
    } else {
        cancel(group_id, timer, turn);
    }
}

/// The member speaks the classic protocol now: its join and sync timers see to it that it gives
/// partitions back.
pub(super) fn cancel_rebalance(group_id: &str, id: &Arc<str>, turn: &mut Turn<'_>) {
    cancel(group_id, ConsumerTimer::Rebalance(id.clone()), turn);
}

/// A classic member is told to join again; the timer runs on if it runs already.
pub(super) fn expect_join(
    groups: &mut Groups,
    group_id: &Arc<str>,
    id: &Arc<str>,
    timeout_ms: i32,
    turn: &mut Turn<'_>,
) {
    if groups
        .soft
        .consumer
        .of(group_id)
        .expected
        .insert(id.clone())
    {
        set(group_id, ConsumerTimer::Join(id.clone()), timeout_ms, turn);
    }
}

/// A classic member has joined: it must sync now.
pub(super) fn expect_sync(
    groups: &mut Groups,
    group_id: &Arc<str>,
    id: &Arc<str>,
    timeout_ms: i32,
    turn: &mut Turn<'_>,
) {
    groups.soft.consumer.of(group_id).expected.remove(id);
    cancel(group_id, ConsumerTimer::Join(id.clone()), turn);
    set(group_id, ConsumerTimer::Sync(id.clone()), timeout_ms, turn);
}

/// A classic member has synced.
pub(super) fn synced(group_id: &str, id: &Arc<str>, turn: &mut Turn<'_>) {
    cancel(group_id, ConsumerTimer::Sync(id.clone()), turn);
}

/// The member speaks the consumer protocol now, or is gone: no join or sync is expected of it.
pub(super) fn cancel_classic(
    groups: &mut Groups,
    group_id: &Arc<str>,
    id: &Arc<str>,
    turn: &mut Turn<'_>,
) {
    groups.soft.consumer.of(group_id).expected.remove(id);
    cancel(group_id, ConsumerTimer::Join(id.clone()), turn);
    cancel(group_id, ConsumerTimer::Sync(id.clone()), turn);
}

/// The member is gone: whatever is only remembered of it is forgotten.
pub(super) fn cancel_all(
    groups: &mut Groups,
    group_id: &Arc<str>,
    id: &Arc<str>,
    turn: &mut Turn<'_>,
) {
    cancel(group_id, ConsumerTimer::Session(id.clone()), turn);
    cancel(group_id, ConsumerTimer::Rebalance(id.clone()), turn);
    groups.soft.consumer.of(group_id).forget_named(id);
    cancel_classic(groups, group_id, id, turn);
}

/// The session timeout of a member: the group's, or its own when it speaks the classic protocol.
pub(super) fn session_timeout_ms(member: &Member, turn: &Turn<'_>) -> i32 {
    let classic = member.value.classic.as_ref();
    classic.map_or(turn.config.consumer_session_timeout_ms, |classic| {
        classic.session_timeout_ms
    })
}

/// A timer has come.
pub(crate) fn timer_fired(
    groups: &mut Groups,
    group_id: &str,
    timer: ConsumerTimer,
    turn: &mut Turn<'_>,
) {
    let Some(group) = groups.consumer(group_id) else {
        return;
    };
    let (id, is_late) = match timer {
        ConsumerTimer::Rebalance(id) => {
            // One that has gone for a while has given back all that it had.
            let is_late = |member: &Arc<Member>| {
                member.current.state == MemberState::UnrevokedPartitions
                    && member.current.epoch != AWAY_EPOCH
            };
            let late = group.member(&id).is_some_and(is_late);
            (id, late)
        }
        ConsumerTimer::Session(id) | ConsumerTimer::Join(id) | ConsumerTimer::Sync(id) => {
            let late = group.member(&id).is_some();
            (id, late)
        }
    };
    if is_late {
        fence::fence(groups, group_id, &[id], turn);
    }
}

/// This instance leads from now on: every member has its whole session, and its whole rebalance
/// timeout, before it.
pub(crate) fn lead(groups: &mut Groups, group_id: &str, turn: &mut Turn<'_>) {
    let Some(group) = groups.consumer(group_id) else {
        return;
    };
    for (id, member) in group.members() {
        session(group_id, id, session_timeout_ms(member, turn), turn);
        rebalance(group_id, id, member, true, turn);
    }
}

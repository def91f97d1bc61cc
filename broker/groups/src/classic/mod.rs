//! Classic groups: members join, the leader among them assigns.
//!
//! JoinGroup, SyncGroup, Heartbeat, LeaveGroup; KIP-62 (rebalance timeout), KIP-134 (initial delay),
//! KIP-345 (static members), KIP-394 (MEMBER_ID_REQUIRED), KIP-814 (skipped assignment).
//!
//! ```text
//!            first join                 all joined, or the time is up
//!   Empty ---------------> PreparingRebalance ---------------> CompletingRebalance
//!     ^                       |    ^     ^                        |        |
//!     |    nobody joined      |    |     '------------------------'        | the leader
//!     '-----------------------'    |       a member came, went or changed  | assigned
//!                                  |                                       v
//!                                  '------------------------------------ Stable
//! ```
//!
//! The log has the group as it was at the end of its last rebalance ([`ClassicGroup`]); a rebalance
//! under way is soft state ([`Live`]) and starts again under a new leader, when the members find that
//! their generation is not the group's.

pub(crate) mod handover;
mod heartbeat;
mod join;
mod leave;
mod live;
mod member;
mod rebalance;
mod sync;
#[cfg(test)]
mod tests;

pub(crate) use heartbeat::heartbeat;
pub(crate) use join::{check as check_join, join};
pub(crate) use leave::leave;
pub(crate) use live::{Live, State};
pub(crate) use sync::sync;

use crate::groups::{Groups, Timer};
use crate::record::ClassicValue;
use crate::turn::Turn;

/// The hard state of a classic group: what the log says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicGroup {
    pub(crate) value: ClassicValue,
}

/// The timers of a classic group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClassicTimer {
    /// A member was silent for its session timeout, or did not come back with the id it got.
    Session {
        /// The member.
        member_id: String,
    },
    /// The group does not wait longer for members to join.
    Join,
    /// The group does not wait longer for members to sync.
    Sync,
}

/// The instance leads from now on: the group is as the log has it, and all members have their whole
/// session timeout before them.
pub(crate) fn lead(groups: &mut Groups, group_id: &str, value: &ClassicValue, turn: &mut Turn<'_>) {
    let mut live = Live::of_value(group_id, value);
    live.set_session_timers(turn);
    // The limit was lowered: the last to join again are turned away.
    if live.members.len() > turn.config.group_max_size {
        rebalance::prepare(&mut live, turn);
    }
    groups.soft.classic.insert(group_id.to_owned(), live);
}

/// A timer of a classic group has come.
pub(crate) fn timer_fired(
    groups: &mut Groups,
    group_id: &str,
    timer: &ClassicTimer,
    turn: &mut Turn<'_>,
) {
    let Some(live) = groups.soft.classic.get_mut(group_id) else {
        return;
    };
    match timer {
        ClassicTimer::Session { member_id } => rebalance::session_over(live, member_id, turn),
        ClassicTimer::Join => rebalance::join_time_over(live, turn),
        ClassicTimer::Sync => rebalance::sync_time_over(live, turn),
    }
    groups.forget_if_vacant(group_id);
}

fn timer(group_id: &str, timer: ClassicTimer) -> Timer {
    Timer::Classic {
        group_id: group_id.to_owned(),
        timer,
    }
}

fn session_timer(group_id: &str, member_id: &str) -> Timer {
    let member_id = member_id.to_owned();
    timer(group_id, ClassicTimer::Session { member_id })
}

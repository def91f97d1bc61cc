//! The end of offsets and groups that nobody uses (KIP-211).
//!
//! An offset expires `offsets.retention.minutes` after the group became empty, or, if the group has
//! members that are known not to read the topic, or never was a group, after it was committed; an
//! offset that was committed with a retention time of its own, after that. One that is committed
//! while the group is empty (by an admin, say) counts from then: Kafka would let it go with those of
//! the members that were, which may be at once. A group goes when it is
//! empty and its last offset has gone.

use std::collections::BTreeSet;

use super::tombstone;
use crate::classic::State;
use crate::groups::{Found, Groups, Timer};
use crate::record::OffsetValue;
use crate::turn::Turn;

/// The group to go on with, when a round was cut short.
pub(crate) type Cursor = Option<String>;

/// One round over all groups, or as far as the limit of records goes.
pub(crate) fn expire(groups: &mut Groups, turn: &mut Turn<'_>) {
    let from = groups.soft.expiry.take().unwrap_or_default();
    let mut room = turn.config.expiry_records_max.max(1);
    for group_id in ids_from(groups, &from) {
        if room == 0 {
            groups.soft.expiry = Some(group_id);
            turn.set_timer(Timer::Expiry, 0);
            return;
        }
        match expire_group(groups, &group_id, room, turn) {
            Left::Something { records } => room = room.saturating_sub(records),
            Left::Nothing { records } => {
                room = room.saturating_sub(records);
                if !groups.expects_members(&group_id) {
                    let records = groups.delete_if_empty(&group_id, turn);
                    room = room.saturating_sub(records);
                }
            }
        }
    }
    turn.set_timer(
        Timer::Expiry,
        turn.config.offsets_retention_check_interval_ms.max(1),
    );
}

fn ids_from(groups: &Groups, from: &str) -> BTreeSet<String> {
    let of_log = groups.hard.groups.keys();
    let of_offsets = groups.hard.offsets.groups().keys();
    let ids = of_log.chain(of_offsets).chain(groups.soft.classic.keys());
    ids.filter(|id| id.as_str() >= from).cloned().collect()
}

enum Left {
    Nothing { records: usize },
    Something { records: usize },
}

fn expire_group(groups: &Groups, group_id: &str, room: usize, turn: &mut Turn<'_>) -> Left {
    let offsets = groups.hard.offsets.of_group(group_id);
    let (Some(offsets), Some(found)) = (offsets, groups.find(group_id)) else {
        return Left::Nothing { records: 0 };
    };
    let Some(rule) = Rule::of(&found) else {
        return Left::Something { records: 0 };
    };
    let mut records = 0;
    let mut is_all = true;
    for (topic, partitions) in offsets.topics() {
        let is_read = found.is_subscribed_to(topic);
        for (&partition, value) in partitions {
            if is_read || records == room || !rule.is_over(value, turn) {
                is_all = false;
            } else {
                turn.append(tombstone(group_id, topic, partition));
                records += 1;
            }
        }
    }
    if is_all {
        Left::Nothing { records }
    } else {
        Left::Something { records }
    }
}

/// From when on the time of an offset counts.
#[derive(Debug, Clone, Copy)]
enum Rule {
    /// Since it was committed.
    Committed,
    /// Since the group is empty.
    EmptySince(i64),
}

impl Rule {
    /// `None`: no offset of the group expires.
    fn of(found: &Found<'_>) -> Option<Self> {
        match found {
            Found::Consumer(_) | Found::OffsetsOnly => Some(Self::Committed),
            Found::Classic(live) if live.protocol_type.is_none() => Some(Self::Committed),
            Found::Classic(live) => match live.state {
                State::Empty => Some(
                    live.state_since_ms
                        .map_or(Self::Committed, Self::EmptySince),
                ),
                State::Stable if live.knows_subscribed_topics() => Some(Self::Committed),
                State::Stable | State::PreparingRebalance | State::CompletingRebalance => None,
            },
        }
    }

    fn is_over(self, value: &OffsetValue, turn: &Turn<'_>) -> bool {
        if let Some(expire_timestamp_ms) = value.expire_timestamp_ms {
            return turn.now_ms >= expire_timestamp_ms;
        }
        let since_ms = match self {
            Self::Committed => value.commit_timestamp_ms,
            // Who commits for a group that is empty begins anew.
            Self::EmptySince(since_ms) => since_ms.max(value.commit_timestamp_ms),
        };
        turn.now_ms.saturating_sub(since_ms) >= turn.config.offsets_retention_ms
    }
}

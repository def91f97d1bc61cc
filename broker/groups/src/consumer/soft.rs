//! What only the leader knows of consumer groups: which topics it has looked at, and which
//! members are expected to join. All of it may be lost at any time, and is made anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::groups::Groups;
use crate::turn::Turn;

/// The shortest time between two rounds over the topics for the expressions of one group.
const EXPRESSIONS_REFRESH_MIN_MS: i64 = 10_000;

/// What the leader remembers of all consumer groups besides their records.
#[derive(Debug, Clone, Default)]
pub(crate) struct Soft {
    groups: BTreeMap<Arc<str>, GroupSoft>,
}

/// What the leader remembers of one group.
#[derive(Debug, Clone, Default)]
pub(crate) struct GroupSoft {
    /// The version of the topics that the hash of the group was last compared with.
    pub(crate) hashed: Option<u64>,
    /// The version of the topics that the expressions were last matched against, and when.
    pub(crate) expressions: Option<(u64, i64)>,
    /// Members of the classic protocol whose join timer runs.
    pub(crate) expected: BTreeSet<Arc<str>>,
}

impl GroupSoft {
    /// Whether the expressions should be matched again: there are other topics than the last
    /// time, but not more often than every ten seconds, as one change of topics seldom comes
    /// alone; and now and then in any case.
    pub(crate) fn expressions_are_due(&self, version: u64, turn: &Turn<'_>) -> bool {
        self.expressions.is_none_or(|(seen, at_ms)| {
            let age_ms = turn.now_ms.saturating_sub(at_ms);
            (seen != version && age_ms >= EXPRESSIONS_REFRESH_MIN_MS)
                || age_ms >= turn.config.consumer_regex_refresh_interval_ms
        })
    }
}

impl Soft {
    /// What is remembered of the group.
    pub(crate) fn of(&mut self, group_id: &Arc<str>) -> &mut GroupSoft {
        self.groups.entry(group_id.clone()).or_default()
    }

    /// Makes the next heartbeat look at the topics again.
    pub(crate) fn forget_topics(&mut self, group_id: &str) {
        if let Some(group) = self.groups.get_mut(group_id) {
            group.hashed = None;
            group.expressions = None;
        }
    }

    /// Forgets the group.
    pub(crate) fn forget(&mut self, group_id: &str) {
        self.groups.remove(group_id);
    }
}

/// There are other topics than before. Groups notice with their next heartbeat; all that is to be
/// done here is to forget groups that are no more.
pub(crate) fn topics_changed(groups: &mut Groups, _turn: &mut Turn<'_>) {
    let mut known = std::mem::take(&mut groups.soft.consumer.groups);
    known.retain(|group_id, _| groups.consumer(group_id).is_some());
    groups.soft.consumer.groups = known;
}

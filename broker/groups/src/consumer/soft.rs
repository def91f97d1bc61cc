//! What only the leader knows of consumer groups: which topics it has looked at, which members
//! are expected to join, and what members last said that they have. All of it may be lost at any
//! time, and is made anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::reconcile::Word;
use crate::assignor::Partitions;
use crate::command::OwnedTopic;
use crate::groups::Groups;
use crate::turn::Turn;

/// The shortest time between two rounds over the topics for the expressions of one group.
const EXPRESSIONS_REFRESH_MIN_MS: i64 = 10_000;
/// For so many heartbeat intervals a member is waited for to say that it has what it was assigned.
const NAMING_HEARTBEATS_MAX: i64 = 2;

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
    /// What members of the consumer protocol last said that they have.
    named: BTreeMap<Arc<str>, Named>,
    /// Members that were asked to give partitions back before they had said anything to this
    /// leader.
    asked_first: BTreeSet<Arc<str>>,
}

/// What a member has said that it has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Named {
    /// Of what it is assigned, what it named the last time that it named anything.
    partitions: Arc<Partitions>,
    /// Since when its next step has waited for it to name the rest.
    waits_since_ms: Option<i64>,
}

impl Named {
    /// What the member has named when it says this now. `before` is what is remembered of it.
    pub(crate) fn after(before: Option<&Self>, owned: Option<&[OwnedTopic]>) -> Option<Self> {
        let before = before.cloned();
        let Some(owned) = owned else { return before };
        let mut partitions = Partitions::new();
        for topic in owned {
            let of_topic = partitions.entry(topic.topic_id).or_default();
            of_topic.extend(&topic.partitions);
        }
        Some(Self {
            partitions: Arc::new(partitions),
            waits_since_ms: before.and_then(|before| before.waits_since_ms),
        })
    }

    /// What its word is worth: see [`Word`]. A member that cannot take what it was assigned (it
    /// may not see the topic) must not keep it from others for ever.
    pub(crate) fn word(&self, turn: &Turn<'_>) -> Word<'_> {
        let wait_max_ms = i64::from(turn.config.consumer_heartbeat_interval_ms)
            .saturating_mul(NAMING_HEARTBEATS_MAX);
        let waits_too_long = |since_ms: i64| turn.now_ms.saturating_sub(since_ms) >= wait_max_ms;
        if self.waits_since_ms.is_some_and(waits_too_long) {
            Word::Unknown
        } else {
            Word::Of(&self.partitions)
        }
    }

    /// Forgets what the member is not assigned (any more): if it is again, it is for it to say
    /// so again. `waits`: its next step waits for it to name the rest.
    fn settle(&mut self, assigned: &Partitions, waits: bool, now_ms: i64) {
        let is_within = self.partitions.iter().all(|(topic, named)| {
            let assigned = assigned.get(topic);
            assigned.is_some_and(|assigned| named.is_subset(assigned))
        });
        if !is_within {
            let partitions = Arc::make_mut(&mut self.partitions);
            partitions.retain(|topic, named| {
                let assigned = assigned.get(topic);
                named.retain(|partition| assigned.is_some_and(|all| all.contains(partition)));
                !named.is_empty()
            });
        }
        self.waits_since_ms = waits.then(|| self.waits_since_ms.unwrap_or(now_ms));
    }
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

    /// What the member has said that it has; `None` when it has said nothing to this leader.
    pub(crate) fn named(&self, id: &str) -> Option<&Named> {
        self.named.get(id)
    }

    /// Remembers what the member has said that it has: see [`Named::settle`].
    pub(crate) fn put_named(
        &mut self,
        id: &Arc<str>,
        mut named: Named,
        (assigned, waits): (&Partitions, bool),
        now_ms: i64,
    ) {
        named.settle(assigned, waits, now_ms);
        self.named.insert(id.clone(), named);
    }

    /// Whether the member was asked to give partitions back before it had said anything.
    pub(crate) fn was_asked_first(&self, id: &str) -> bool {
        self.asked_first.contains(id)
    }

    /// Remembers that it was, or forgets it.
    pub(crate) fn put_asked_first(&mut self, id: &Arc<str>, was_asked_first: bool) {
        if was_asked_first {
            self.asked_first.insert(id.clone());
        } else {
            self.asked_first.remove(id);
        }
    }

    /// Forgets what the member, which is gone, has said.
    pub(crate) fn forget_named(&mut self, id: &str) {
        self.named.remove(id);
        self.asked_first.remove(id);
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

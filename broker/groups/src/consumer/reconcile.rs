//! The way of one member from what it has to what it shall have.
//!
//! A member first gives back what is not in its target, then gets the epoch of the target and
//! what is free of it, and the rest as others let go of it. That is what keeps a partition from
//! having two owners: nothing is assigned that any member still has, be it only to give it back.
//!
//! A member of the consumer protocol says what it has when it has finished taking or giving it:
//! one that repeats everything in the middle of taking partitions does not name them yet. That it
//! does not name a partition shows that it gave it up only if it has named it before: see [`Word`].

use crate::assignor::{Partitions, TopicId};
use crate::command::OwnedTopic;
use crate::consumer::group::{ConsumerGroup, Member};
use crate::record::consumer::{CurrentValue, MemberState};
use crate::topics::Topics;

/// What decides about the next step of a member.
pub(crate) struct Reconciliation<'a> {
    /// The group, with the member as it is and its subscription as it is now.
    pub(crate) group: &'a ConsumerGroup,
    /// The member's id.
    pub(crate) id: &'a str,
    /// The topics that there are.
    pub(crate) topics: &'a Topics,
    /// Whether the member changed its subscription just now: what it is not subscribed to any
    /// more is taken from it even if the target has not changed.
    pub(crate) subscription_changed: bool,
    /// What the member says of what it has.
    pub(crate) says: Says<'a>,
}

/// What a member says of what it has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Says<'a> {
    /// What it owns; `None` when it says nothing of it.
    pub(crate) owned: Option<&'a [OwnedTopic]>,
    /// What that is worth.
    pub(crate) word: Word<'a>,
    /// It repeats everything, and what it was asked to give back it had not named before.
    pub(crate) starts_anew: bool,
}

/// What it means that a member does not name a partition among those that it owns.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Word<'a> {
    /// That it has not got it, whatever it had: it starts over, or its protocol has no other way.
    Whole,
    /// That it gave it up if it is one of these, which it has named before. If not, it may be
    /// about to take it: it is not asked to give it back before it says that it has it.
    Of(&'a Partitions),
    /// Nothing: it is asked to give it back, and shows with what it says then that it did, unless
    /// it repeats everything. Then it is as if it had not been asked.
    Unknown,
}

/// A member in a state that this version does not know still owns something: it must be fenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MustRejoin;

impl Reconciliation<'_> {
    /// What the member has from now on; the same as before when it cannot go on.
    pub(crate) fn next(&self, member: &Member) -> Result<CurrentValue, MustRejoin> {
        let current = &member.current;
        let target_epoch = self.group.assignment_epoch();
        Ok(match current.state {
            MemberState::Stable if current.epoch != target_epoch => {
                self.towards_target(member, current.epoch)
            }
            MemberState::Stable if self.subscription_changed => self.without_unsubscribed(member),
            MemberState::Stable => current.clone(),
            MemberState::UnrevokedPartitions if self.owns_any_of(&current.revoking) => {
                if self.subscription_changed {
                    self.without_unsubscribed(member)
                } else {
                    current.clone()
                }
            }
            MemberState::UnrevokedPartitions if self.says.starts_anew => not_asked(current),
            MemberState::UnrevokedPartitions | MemberState::UnreleasedPartitions => {
                self.towards_target(member, current.epoch)
            }
            MemberState::Unknown if self.says.owned.is_none_or(|owned| !owned.is_empty()) => {
                return Err(MustRejoin);
            }
            MemberState::Unknown => self.towards_target(member, target_epoch),
        })
    }

    /// Whether the member says that it has any of these partitions, or says nothing.
    fn owns_any_of(&self, partitions: &Partitions) -> bool {
        let Some(owned) = self.says.owned else {
            return true;
        };
        owned.iter().any(|topic| {
            partitions.get(&topic.topic_id).is_some_and(|partitions| {
                topic
                    .partitions
                    .iter()
                    .any(|partition| partitions.contains(partition))
            })
        })
    }

    /// Whether the member may still be about to take one of these partitions, all of which it was
    /// assigned. One of a topic that is no more matters to nobody, and it may never take it.
    fn may_be_taking(&self, partitions: &Partitions) -> bool {
        let Word::Of(named) = self.says.word else {
            return false;
        };
        let mut of_topics = partitions.iter();
        of_topics.any(|(topic, partitions)| {
            let named = named.get(topic);
            self.topics.by_id(*topic).is_some()
                && !named.is_some_and(|named| partitions.is_subset(named))
        })
    }

    /// Whether the member must be asked to give these partitions back.
    fn must_be_asked_for(&self, partitions: &Partitions) -> bool {
        matches!(self.says.word, Word::Unknown) || self.owns_any_of(partitions)
    }

    /// Takes away topics that the member is not subscribed to any more.
    fn without_unsubscribed(&self, member: &Member) -> CurrentValue {
        let current = &member.current;
        let subscribed = self.group.topic_ids(member, self.topics);
        let mut assigned = current.assigned.clone();
        let mut more = assigned.clone();
        assigned.retain(|topic, _| subscribed.contains(topic));
        more.retain(|topic, _| !subscribed.contains(topic));
        if more.is_empty() || self.may_be_taking(&more) {
            return current.clone();
        }
        let mut revoking = current.revoking.clone();
        for (topic, mut partitions) in more {
            let of_topic = revoking.entry(topic).or_default();
            of_topic.append(&mut partitions);
        }
        if self.must_be_asked_for(&revoking) {
            let state = MemberState::UnrevokedPartitions;
            moved_to(current, current.epoch, state, assigned, revoking)
        } else {
            // Already given back: nothing to wait for.
            CurrentValue {
                assigned,
                ..current.clone()
            }
        }
    }

    /// One step towards the target assignment. `epoch` is the member's as long as it must give
    /// something back.
    fn towards_target(&self, member: &Member, epoch: i32) -> CurrentValue {
        let current = &member.current;
        let subscribed = self.group.topic_ids(member, self.topics);
        let target = self.group.target(self.id);
        let target = |topic: &TopicId| {
            target
                .get(topic)
                .filter(|_| subscribed.contains(topic))
                .into_iter()
                .flatten()
                .copied()
        };
        let mut assigned = Partitions::new();
        let mut revoking = Partitions::new();
        for (topic, partitions) in &current.assigned {
            let wanted: std::collections::BTreeSet<i32> = target(topic).collect();
            let (keep, give): (Vec<i32>, Vec<i32>) = partitions
                .iter()
                .partition(|partition| wanted.contains(partition));
            put(&mut assigned, *topic, keep);
            put(&mut revoking, *topic, give);
        }
        if self.may_be_taking(&revoking) && current.state != MemberState::Unknown {
            return match current.state {
                // What it was asked for it gave back; for more it is too early.
                MemberState::UnrevokedPartitions => moved_to(
                    current,
                    epoch,
                    MemberState::Stable,
                    current.assigned.clone(),
                    Partitions::new(),
                ),
                _ => current.clone(),
            };
        }
        if !revoking.is_empty() && self.must_be_asked_for(&revoking) {
            let state = MemberState::UnrevokedPartitions;
            return moved_to(current, epoch, state, assigned, revoking);
        }

        let mut others_have_some = false;
        let mut free = Partitions::new();
        for topic in &subscribed {
            let has = assigned.get(topic);
            let wanted = target(topic).filter(|p| !has.is_some_and(|has| has.contains(p)));
            let (held, ready): (Vec<i32>, Vec<i32>) = wanted
                .partition(|&partition| self.group.is_owned_by_another(self.id, *topic, partition));
            others_have_some |= !held.is_empty();
            put(&mut free, *topic, ready);
        }
        for (topic, partitions) in free {
            assigned.entry(topic).or_default().extend(partitions);
        }
        let state = if others_have_some {
            MemberState::UnreleasedPartitions
        } else {
            MemberState::Stable
        };
        moved_to(
            current,
            self.group.assignment_epoch(),
            state,
            assigned,
            Partitions::new(),
        )
    }
}

/// The member as it was before it was asked to give partitions back.
fn not_asked(current: &CurrentValue) -> CurrentValue {
    let mut assigned = current.assigned.clone();
    for (topic, partitions) in &current.revoking {
        assigned.entry(*topic).or_default().extend(partitions);
    }
    let state = MemberState::Stable;
    moved_to(current, current.epoch, state, assigned, Partitions::new())
}

/// Puts partitions of a topic in; no empty sets.
fn put(all: &mut Partitions, topic: TopicId, partitions: Vec<i32>) {
    if !partitions.is_empty() {
        all.entry(topic).or_default().extend(partitions);
    }
}

/// The member in this epoch; the epoch it was in before becomes the previous one.
fn moved_to(
    current: &CurrentValue,
    epoch: i32,
    state: MemberState,
    assigned: Partitions,
    revoking: Partitions,
) -> CurrentValue {
    CurrentValue {
        epoch,
        previous_epoch: current.epoch,
        state,
        assigned,
        revoking,
    }
}

//! `uniform` for a group whose members are all subscribed to the same topics.
//!
//! Balance before stickiness: any two members differ by one partition at most, and within that
//! each keeps as much as it can.
//! Of the members, those that have more than the lesser share now are the first to be let have
//! the greater one: so a group that is balanced already stays exactly as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{GroupSpec, Partitions, TopicId};

/// Assigns evenly.
pub(super) fn assign(spec: &GroupSpec) -> BTreeMap<Arc<str>, Partitions> {
    let Some(first) = spec.members.values().next() else {
        return BTreeMap::new();
    };
    let mut free: BTreeSet<(TopicId, i32)> = first
        .topics
        .iter()
        .flat_map(|&topic| (0..spec.count(topic)).map(move |partition| (topic, partition)))
        .collect();
    let share = free.len() / spec.members.len();
    let mut greater_shares = free.len() % spec.members.len();

    // What each has and may go on having, if there is room.
    let held: BTreeMap<&Arc<str>, Vec<(TopicId, i32)>> = spec
        .members
        .iter()
        .map(|(id, member)| {
            let held = member
                .assigned
                .iter()
                .flat_map(|(&topic, all)| all.iter().map(move |&partition| (topic, partition)))
                .filter(|&(topic, partition)| {
                    spec.may_have(member, topic, partition) && free.remove(&(topic, partition))
                })
                .collect();
            (id, held)
        })
        .collect();

    let mut order: Vec<_> = held.into_iter().collect();
    order.sort_by_key(|(_, held)| held.len() <= share); // stable: full members first
    let mut quotas = BTreeMap::new();
    let mut assignment: BTreeMap<Arc<str>, Partitions> = BTreeMap::new();
    for (id, held) in order {
        let quota = share + usize::from(greater_shares > 0);
        greater_shares = greater_shares.saturating_sub(1);
        let keeps = held.len().min(quota);
        free.extend(&held[keeps..]);
        let partitions = assignment.entry(id.clone()).or_default();
        for &(topic, partition) in &held[..keeps] {
            partitions.entry(topic).or_default().insert(partition);
        }
        quotas.insert(id.clone(), quota - keeps);
    }

    let mut free = free.into_iter();
    for (id, room) in quotas {
        let partitions = assignment.entry(id).or_default();
        for (topic, partition) in free.by_ref().take(room) {
            partitions.entry(topic).or_default().insert(partition);
        }
    }
    assignment
}

//! `uniform` for a group whose members are subscribed to different topics.
//!
//! Each member keeps what it has of the topics that it is still subscribed to; what is free goes,
//! topic by topic, to the subscriber that has least; then partitions wander from subscribers with
//! much to subscribers with little until no move helps.
//! Where subscriptions overlap without being equal, a move in one topic may make room for one in
//! another, so the rounds over all topics are repeated, [`ROUNDS_MAX`] times at most: the result
//! is then close to balance, and close is what can be had in bounded time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{GroupSpec, Partitions, TopicId};

/// Each round about halves the imbalance; 16 of them are what Kafka's assignor spends.
const ROUNDS_MAX: usize = 16;

/// A member, by its place in the order of ids.
type Index = usize;

/// The members that are subscribed to one topic, and who has its partitions.
struct Shared {
    topic: TopicId,
    subscribers: Vec<Index>,
    owners: Vec<Option<Index>>,
}

/// Assigns as evenly as the subscriptions allow.
pub(super) fn assign(spec: &GroupSpec) -> BTreeMap<Arc<str>, Partitions> {
    let mut loads = vec![0_usize; spec.members.len()];
    let mut topics = shared_topics(spec, &mut loads);
    for topic in &mut topics {
        give_free(topic, &mut loads);
    }
    for _ in 0..ROUNDS_MAX {
        let mut moved = false;
        for topic in &mut topics {
            moved |= balance(topic, &mut loads);
        }
        if !moved {
            break;
        }
    }
    let ids: Vec<_> = spec.members.keys().cloned().collect();
    let mut assignment: BTreeMap<Arc<str>, Partitions> = ids
        .iter()
        .map(|id| (id.clone(), Partitions::new()))
        .collect();
    for topic in topics {
        for (partition, owner) in (0..).zip(topic.owners) {
            let Some(partitions) = owner.and_then(|owner| assignment.get_mut(&ids[owner])) else {
                continue;
            };
            partitions.entry(topic.topic).or_default().insert(partition);
        }
    }
    assignment
}

/// All topics with their subscribers and present owners: first those with most partitions for
/// each subscriber, then those with fewest subscribers, so that what leaves least choice is
/// settled first.
fn shared_topics(spec: &GroupSpec, loads: &mut [usize]) -> Vec<Shared> {
    let mut topics: BTreeMap<TopicId, Shared> = BTreeMap::new();
    for (index, member) in spec.members.values().enumerate() {
        for &topic in member.topics.iter() {
            let count = usize::try_from(spec.count(topic)).unwrap_or(0);
            topics
                .entry(topic)
                .or_insert_with(|| Shared {
                    topic,
                    subscribers: Vec::new(),
                    owners: vec![None; count],
                })
                .subscribers
                .push(index);
        }
    }
    for (index, member) in spec.members.values().enumerate() {
        for (topic, partitions) in member
            .assigned
            .iter()
            .filter(|(id, _)| member.topics.contains(id))
        {
            let Some(shared) = topics.get_mut(topic) else {
                continue;
            };
            for &partition in partitions {
                let place = usize::try_from(partition)
                    .ok()
                    .and_then(|p| shared.owners.get_mut(p));
                if let Some(owner @ None) = place {
                    *owner = Some(index);
                    loads[index] += 1;
                }
            }
        }
    }
    let mut topics: Vec<_> = topics.into_values().collect();
    // Partitions for each subscriber, in thousandths.
    topics.sort_by_key(|topic| {
        let subscribers = topic.subscribers.len();
        (
            Reverse(topic.owners.len() * 1000 / subscribers),
            subscribers,
            topic.topic,
        )
    });
    topics
}

/// Gives each free partition of the topic to the subscriber that has least at that moment.
fn give_free(topic: &mut Shared, loads: &mut [usize]) {
    let mut by_load: BTreeSet<(usize, Index)> = topic
        .subscribers
        .iter()
        .map(|&member| (loads[member], member))
        .collect();
    for owner in topic.owners.iter_mut().filter(|owner| owner.is_none()) {
        let Some((_, least)) = by_load.pop_first() else {
            return;
        };
        *owner = Some(least);
        loads[least] += 1;
        by_load.insert((loads[least], least));
    }
}

/// Moves partitions of the topic from who has most to who has least, until they differ by one at
/// most or who has most has none of this topic. Whether anything moved.
///
/// Each move lessens the sum of the squares of the loads, so it ends.
fn balance(topic: &mut Shared, loads: &mut [usize]) -> bool {
    let mut by_load: BTreeSet<(usize, Index)> = topic
        .subscribers
        .iter()
        .map(|&member| (loads[member], member))
        .collect();
    let mut held: BTreeMap<Index, Vec<usize>> = BTreeMap::new();
    for (partition, owner) in topic.owners.iter().enumerate() {
        if let Some(owner) = owner {
            held.entry(*owner).or_default().push(partition);
        }
    }
    let mut givers: BTreeSet<(usize, Index)> =
        held.keys().map(|&member| (loads[member], member)).collect();
    let mut moved = false;
    while let (Some(&(least_load, least)), Some(&(most_load, most))) =
        (by_load.first(), givers.last())
    {
        if most_load <= least_load + 1 {
            break;
        }
        let Some(partition) = held.get_mut(&most).and_then(Vec::pop) else {
            givers.remove(&(most_load, most));
            continue;
        };
        for member in [most, least] {
            by_load.remove(&(loads[member], member));
            givers.remove(&(loads[member], member));
        }
        loads[most] -= 1;
        loads[least] += 1;
        topic.owners[partition] = Some(least);
        held.entry(least).or_default().push(partition);
        for member in [most, least] {
            by_load.insert((loads[member], member));
            givers.insert((loads[member], member));
        }
        moved = true;
    }
    moved
}

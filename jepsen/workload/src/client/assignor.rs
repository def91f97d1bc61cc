//! What the leader of a classic group does: it shares the partitions among those who joined.
//!
//! By ranges, as KIP-62's consumers do, who give everything back before they join; or so that each
//! keeps what it owns as far as that is fair, and what has to change hands goes to nobody before its
//! owner has given it back and joined again (KIP-429).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use jepsen_check::history::Key;
use kafka_client::ClientError;
use kafka_client::api::JoinedMember;
use kafka_client::consumer_protocol::{Assignment, Subscription};

/// How partitions are shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assignor {
    /// Of each topic a range to each; everything is given back first.
    Range,
    /// Each keeps what it owns; only what changes hands is given back.
    CooperativeSticky,
}

impl Assignor {
    /// Its name, on which all members of a group agree.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Assignor::Range => "range",
            Assignor::CooperativeSticky => "cooperative-sticky",
        }
    }

    /// Of these partitions some to each of those who joined, by their ids.
    ///
    /// # Errors
    ///
    /// When what a member wants cannot be read.
    pub(super) fn share(
        self,
        keys: &[Key],
        joined: &[JoinedMember],
    ) -> Result<Vec<(String, Bytes)>, ClientError> {
        let mut members: Vec<(&str, Subscription)> = Vec::new();
        for member in joined {
            let subscription = Subscription::decode(&member.metadata)?;
            members.push((&member.member_id, subscription));
        }
        members.sort_by_key(|(member_id, _)| *member_id);
        let shares = match self {
            Assignor::Range => ranges(keys, &members),
            Assignor::CooperativeSticky => sticky(keys, &members),
        };
        let encoded = members.iter().zip(shares).map(|((member, _), share)| {
            let named = share.into_iter().map(|key| (key.topic, key.partition));
            ((*member).to_owned(), Assignment(named.collect()).encode())
        });
        Ok(encoded.collect())
    }
}

fn ranges(keys: &[Key], members: &[(&str, Subscription)]) -> Vec<BTreeSet<Key>> {
    let mut shares = vec![BTreeSet::new(); members.len()];
    let topics: BTreeSet<&str> = keys.iter().map(|key| key.topic.as_str()).collect();
    for topic in topics {
        let mut partitions = keys.iter().filter(|key| key.topic == topic);
        let count = partitions.clone().count();
        let wanting: Vec<usize> = (0..members.len())
            .filter(|at| wants(&members[*at].1, topic))
            .collect();
        for (place, at) in wanting.iter().enumerate() {
            let share = count / wanting.len() + usize::from(place < count % wanting.len());
            shares[*at].extend(partitions.by_ref().take(share).cloned());
        }
    }
    shares
}

fn sticky(keys: &[Key], members: &[(&str, Subscription)]) -> Vec<BTreeSet<Key>> {
    // What two say they own belongs to neither of them.
    let mut owners: BTreeMap<Key, Option<usize>> = BTreeMap::new();
    for (at, (_, subscription)) in members.iter().enumerate() {
        for (topic, partition) in &subscription.owned {
            let (topic, partition) = (topic.clone(), *partition);
            let owner = owners.entry(Key { topic, partition }).or_insert(Some(at));
            if *owner != Some(at) {
                *owner = None;
            }
        }
    }
    let mut shares = vec![BTreeSet::new(); members.len()];
    let fair = keys.len() / members.len().max(1);
    let mut larger = keys.len() % members.len().max(1);
    let mut left = Vec::new();
    for key in keys {
        match owners.get(key).copied().flatten() {
            Some(at) if shares[at].len() < fair => _ = shares[at].insert(key.clone()),
            Some(at) if shares[at].len() == fair && larger > 0 => {
                larger -= 1;
                shares[at].insert(key.clone());
            }
            _ => left.push(key.clone()),
        }
    }
    for key in left {
        let wanting = (0..members.len()).filter(|at| wants(&members[*at].1, &key.topic));
        let Some(at) = wanting.min_by_key(|at| shares[*at].len()) else {
            continue;
        };
        // Whoever owns it gives it back first.
        let is_owned = owners.get(&key).is_some_and(|owner| *owner != Some(at));
        if !is_owned {
            shares[at].insert(key);
        }
    }
    shares
}

fn wants(subscription: &Subscription, topic: &str) -> bool {
    subscription.topics.iter().any(|wanted| wanted == topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key((topic, partition): &(&str, i32)) -> Key {
        Key {
            topic: (*topic).to_owned(),
            partition: *partition,
        }
    }

    fn keys(named: &[(&str, i32)]) -> Vec<Key> {
        named.iter().map(key).collect()
    }

    fn joining(member_id: &str, topics: &[&str], owned: &[(&str, i32)]) -> JoinedMember {
        let named = |(topic, partition): &(&str, i32)| ((*topic).to_owned(), *partition);
        JoinedMember {
            member_id: member_id.to_owned(),
            instance_id: None,
            metadata: Subscription {
                topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
                owned: owned.iter().map(named).collect(),
            }
            .encode(),
        }
    }

    fn shared(assignor: Assignor, of: &[(&str, i32)], joined: &[JoinedMember]) -> Vec<Vec<Key>> {
        let told = assignor.share(&keys(of), joined).expect("it can be read");
        let told = told.into_iter().map(|(_, bytes)| {
            let assignment = Assignment::decode(&bytes).expect("it was encoded");
            let keys = assignment.0.into_iter();
            keys.map(|(topic, partition)| Key { topic, partition })
                .collect()
        });
        told.collect()
    }

    const FOUR: [(&str, i32); 4] = [("a", 0), ("a", 1), ("a", 2), ("b", 0)];

    #[test]
    fn ranges_give_every_partition_to_one_member() {
        let joined = [joining("y", &["a", "b"], &[]), joining("x", &["a"], &[])];
        assert_eq!(
            shared(Assignor::Range, &FOUR, &joined),
            [keys(&FOUR[..2]), keys(&FOUR[2..])]
        );
    }

    #[test]
    fn what_changes_hands_goes_to_nobody_before_it_is_given_back() {
        let both = ["a", "b"];
        let first = [joining("x", &both, &FOUR), joining("y", &both, &[])];
        assert_eq!(
            shared(Assignor::CooperativeSticky, &FOUR, &first),
            [keys(&FOUR[..2]), keys(&[])]
        );
        let second = [joining("x", &both, &FOUR[..2]), joining("y", &both, &[])];
        assert_eq!(
            shared(Assignor::CooperativeSticky, &FOUR, &second),
            [keys(&FOUR[..2]), keys(&FOUR[2..])]
        );
    }

    #[test]
    fn what_is_fair_stays_where_it_is() {
        let both = ["a", "b"];
        let owned = [("a", 1), ("b", 0)];
        let joined = [joining("x", &both, &[]), joining("y", &both, &owned)];
        assert_eq!(
            shared(Assignor::CooperativeSticky, &FOUR, &joined),
            [keys(&[("a", 0), ("a", 2)]), keys(&owned)]
        );
    }

    #[test]
    fn what_two_say_they_own_goes_to_neither() {
        let joined = [
            joining("x", &["a"], &[("a", 0)]),
            joining("y", &["a"], &[("a", 0), ("a", 1)]),
        ];
        let told = shared(Assignor::CooperativeSticky, &[("a", 0), ("a", 1)], &joined);
        assert_eq!(told, [keys(&[]), keys(&[("a", 1)])]);
    }
}

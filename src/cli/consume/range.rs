//! The assignor `range`: of each topic, every subscriber gets partitions next to each other.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::cli::commits::TopicPartition;

/// A member and what it wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subscriber {
    pub(super) id: String,
    pub(super) instance_id: Option<String>,
    pub(super) topics: Vec<String>,
}

/// What each member gets, by its id; of each topic as many partitions as its count says.
pub(super) fn assign(
    mut subscribers: Vec<Subscriber>,
    counts: &BTreeMap<String, i32>,
) -> BTreeMap<String, Vec<TopicPartition>> {
    subscribers.sort_by(order);
    let mut assigned: BTreeMap<String, Vec<TopicPartition>> = subscribers
        .iter()
        .map(|subscriber| (subscriber.id.clone(), Vec::new()))
        .collect();
    for (topic, count) in counts {
        let wanting: Vec<&Subscriber> = subscribers
            .iter()
            .filter(|subscriber| subscriber.topics.contains(topic))
            .collect();
        let mut partitions = 0..*count;
        for (at, subscriber) in wanting.iter().enumerate() {
            let left = i32::try_from(wanting.len() - at).unwrap_or(i32::MAX);
            // The first ones take what does not come out even.
            let take = (partitions.end - partitions.start + left - 1) / left;
            let mine = assigned.entry(subscriber.id.clone()).or_default();
            for _ in 0..take {
                mine.extend(partitions.next().map(|index| (topic.clone(), index)));
            }
        }
    }
    assigned
}

/// Static members by their instance, before the others, as in every client.
fn order(left: &Subscriber, right: &Subscriber) -> Ordering {
    match (&left.instance_id, &right.instance_id) {
        (Some(left), Some(right)) => left.cmp(right),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => left.id.cmp(&right.id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscriber(id: &str, instance_id: Option<&str>, topics: &[&str]) -> Subscriber {
        Subscriber {
            id: id.to_owned(),
            instance_id: instance_id.map(str::to_owned),
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
        }
    }

    fn shares(subscribers: Vec<Subscriber>, counts: &[(&str, i32)]) -> Vec<(String, String)> {
        let counts = counts.iter().map(|(t, count)| ((*t).to_owned(), *count));
        let assigned = assign(subscribers, &counts.collect());
        assigned
            .into_iter()
            .map(|(id, partitions)| {
                let partitions = partitions.iter().map(|(t, index)| format!("{t}{index}"));
                (id, partitions.collect::<Vec<_>>().join(" "))
            })
            .collect()
    }

    #[test]
    fn each_topic_is_cut_into_ranges_and_the_first_take_the_rest() {
        let both = &["a", "b"][..];
        let shares = shares(
            vec![
                subscriber("y", None, both),
                subscriber("x", None, both),
                subscriber("z", Some("s"), &["a"]),
            ],
            &[("a", 5), ("b", 3)],
        );
        let expected = [("x", "a2 a3 b0 b1"), ("y", "a4 b2"), ("z", "a0 a1")];
        assert_eq!(
            shares,
            expected.map(|(id, share)| (id.to_owned(), share.to_owned()))
        );
    }

    #[test]
    fn a_member_too_many_gets_nothing_and_is_told_so() {
        let members = vec![subscriber("x", None, &["a"]), subscriber("y", None, &["a"])];
        let expected = [("x", "a0"), ("y", "")];
        assert_eq!(
            shares(members, &[("a", 1)]),
            expected.map(|(id, share)| (id.to_owned(), share.to_owned()))
        );
        let alone = vec![subscriber("x", None, &["gone"])];
        assert_eq!(shares(alone, &[]), [("x".to_owned(), String::new())]);
    }
}

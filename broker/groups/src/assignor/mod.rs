//! Server-side assignors of consumer groups (KIP-848): `uniform` and `range`.
//!
//! An assignor is a pure function from who is subscribed to what, and who has what now, to who
//! shall have what. It decides nothing else: epochs, revocation and the order in which partitions
//! change hands belong to the group (`consumer/`).
//! Each result is checked before it is used ([`verify`]): no partition that does not exist, none
//! given twice, none to a member that is not subscribed to its topic.

mod range;
mod uniform;
mod uniform_mixed;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::uuid::Uuid;

#[cfg(test)]
#[path = "assignor_test.rs"]
mod tests;

/// The id of a topic.
pub(crate) type TopicId = Uuid;

/// Partitions of several topics. No topic has an empty set.
pub(crate) type Partitions = BTreeMap<TopicId, BTreeSet<i32>>;

/// The assignors that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Assignor {
    /// Everybody gets as many partitions as everybody else, and keeps what it has if that can be.
    Uniform,
    /// Each topic's partitions in ranges, in the order of the members; not sticky. Topics with
    /// the same number of partitions and subscribers fall out alike (co-partitioning).
    Range,
}

impl Assignor {
    /// The name in requests and records.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// The assignor of that name.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        [Self::Uniform, Self::Range]
            .into_iter()
            .find(|assignor| assignor.name() == name)
    }

    /// Who shall have what. Every member of `spec` is in the answer.
    ///
    /// # Errors
    ///
    /// [`Nonsense`] when the result breaks a rule of [`verify`].
    pub(crate) fn assign(
        self,
        spec: &GroupSpec,
    ) -> Result<BTreeMap<Arc<str>, Partitions>, Nonsense> {
        let assignment = match self {
            Self::Range => range::assign(spec),
            Self::Uniform if spec.is_homogeneous() => uniform::assign(spec),
            Self::Uniform => uniform_mixed::assign(spec),
        };
        verify(spec, &assignment)?;
        Ok(assignment)
    }
}

/// What an assignor sees of one member.
#[derive(Clone, Debug)]
pub(crate) struct MemberSpec {
    /// The instance id of a static member.
    pub(crate) instance_id: Option<String>,
    /// The topics that it is subscribed to and that exist.
    pub(crate) topics: Arc<BTreeSet<TopicId>>,
    /// What it is assigned by the target assignment now in force.
    pub(crate) assigned: Arc<Partitions>,
}

/// What an assignor sees of a group.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupSpec {
    /// The members.
    pub(crate) members: BTreeMap<Arc<str>, MemberSpec>,
    /// The number of partitions of every topic that a member is subscribed to.
    pub(crate) partitions: BTreeMap<TopicId, i32>,
}

impl GroupSpec {
    /// Whether all members are subscribed to the same topics.
    fn is_homogeneous(&self) -> bool {
        let mut topics = self.members.values().map(|member| &member.topics);
        let Some(first) = topics.next() else {
            return true;
        };
        topics.all(|topics| Arc::ptr_eq(first, topics) || first == topics)
    }

    /// The number of partitions of a topic; 0 when nobody knows the topic.
    fn count(&self, topic: TopicId) -> i32 {
        self.partitions.get(&topic).copied().unwrap_or(0).max(0)
    }

    /// Whether a member may have the partition: it is subscribed to the topic, and there is such
    /// a partition.
    fn may_have(&self, member: &MemberSpec, topic: TopicId, partition: i32) -> bool {
        (0..self.count(topic)).contains(&partition) && member.topics.contains(&topic)
    }
}

/// Why the result of an assignor is of no use. The member whose request asked for it is told that the
/// assignor is not supported, which no client takes as a reason to try the same again, and the
/// assignment is left as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Nonsense {
    /// Somebody who is not in the group got something.
    #[error("assigned something to {member}, which is no member")]
    UnknownMember {
        /// Who.
        member: Arc<str>,
    },
    /// There is no such partition, or the member is not subscribed to its topic.
    #[error("assigned {topic:?}-{partition} to {member}, which may not have it")]
    MayNotHave {
        /// Who.
        member: Arc<str>,
        /// What.
        topic: TopicId,
        /// What.
        partition: i32,
    },
    /// Two members got the same partition.
    #[error("assigned {topic:?}-{partition} twice")]
    Twice {
        /// What.
        topic: TopicId,
        /// What.
        partition: i32,
    },
    /// A partition that somebody is subscribed to was given to nobody.
    #[error("left {topic:?}-{partition} to nobody")]
    LeftOver {
        /// What.
        topic: TopicId,
        /// What.
        partition: i32,
    },
}

/// Checks the result of an assignor.
///
/// # Errors
///
/// What is wrong with it first.
pub(crate) fn verify(
    spec: &GroupSpec,
    assignment: &BTreeMap<Arc<str>, Partitions>,
) -> Result<(), Nonsense> {
    let mut given: BTreeMap<TopicId, BTreeSet<i32>> = BTreeMap::new();
    for (id, partitions) in assignment {
        let Some(member) = spec.members.get(id) else {
            return Err(Nonsense::UnknownMember { member: id.clone() });
        };
        for (&topic, partitions) in partitions {
            let given = given.entry(topic).or_default();
            for &partition in partitions {
                if !spec.may_have(member, topic, partition) {
                    return Err(Nonsense::MayNotHave {
                        member: id.clone(),
                        topic,
                        partition,
                    });
                }
                if !given.insert(partition) {
                    return Err(Nonsense::Twice { topic, partition });
                }
            }
        }
    }
    let mut last: Option<&Arc<BTreeSet<TopicId>>> = None;
    for member in spec.members.values() {
        // Members share their sets: the same one need not be looked through again.
        if last.is_some_and(|last| Arc::ptr_eq(last, &member.topics)) {
            continue;
        }
        last = Some(&member.topics);
        for &topic in member.topics.iter() {
            let given = given.get(&topic);
            if given.map_or(0, BTreeSet::len) == usize::try_from(spec.count(topic)).unwrap_or(0) {
                continue;
            }
            let missing = (0..spec.count(topic))
                .find(|partition| !given.is_some_and(|given| given.contains(partition)));
            if let Some(partition) = missing {
                return Err(Nonsense::LeftOver { topic, partition });
            }
        }
    }
    Ok(())
}

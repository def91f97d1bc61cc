//! The hard state of a consumer group: what its records say.
//!
//! Only [`ConsumerGroup::replay`] changes it. Nothing in it is counted or indexed ahead but the
//! instance ids: who owns a partition, who is subscribed to what, and in which state the group is
//! are computed when asked for, so that no order in which compaction may leave the records can
//! bring an index out of step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::assignor::{Partitions, TopicId};
use crate::record::consumer::{
    ConsumerRecord, CurrentValue, ExpressionValue, GroupValue, MemberState, MemberValue,
};
use crate::topics::Topics;

/// The epoch of a member that joins.
pub(crate) const JOIN_EPOCH: i32 = 0;
/// The epoch of a member that leaves.
pub(crate) const LEAVE_EPOCH: i32 = -1;
/// The epoch of a static member that goes and will be back.
pub(crate) const AWAY_EPOCH: i32 = -2;

/// A consumer group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerGroup {
    epoch: i32,
    metadata_hash: i64,
    assignment_epoch: i32,
    members: BTreeMap<Arc<str>, Arc<Member>>,
    target: BTreeMap<Arc<str>, Arc<Partitions>>,
    expressions: BTreeMap<Arc<str>, Arc<ExpressionValue>>,
    static_members: BTreeMap<String, Arc<str>>,
}

/// A member of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// What it said of itself.
    pub(crate) value: MemberValue,
    /// What it has.
    pub(crate) current: CurrentValue,
}

/// The states that a group is said to be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupState {
    /// No members.
    Empty,
    /// The target assignment is to be computed anew.
    Assigning,
    /// Members are on their way to the target assignment.
    Reconciling,
    /// All have what they shall have.
    Stable,
}

impl GroupState {
    /// As Kafka names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Stable => "Stable",
        }
    }
}

impl Default for Member {
    fn default() -> Self {
        Self {
            value: MemberValue {
                rebalance_timeout_ms: -1,
                ..MemberValue::default()
            },
            current: CurrentValue {
                epoch: JOIN_EPOCH,
                previous_epoch: -1,
                state: MemberState::Stable,
                assigned: Partitions::new(),
                revoking: Partitions::new(),
            },
        }
    }
}

impl Member {
    /// Whether it speaks the classic protocol.
    pub(crate) fn is_classic(&self) -> bool {
        self.value.classic.is_some()
    }

    /// About what it says of itself takes in memory, and never less than in a record.
    fn bytes(&self) -> usize {
        const FIELDS: usize = 256;
        let value = &self.value;
        let texts = [
            value.instance_id.as_ref(),
            value.rack_id.as_ref(),
            Some(&value.client_id),
            Some(&value.client_host),
            value.topic_regex.as_ref(),
            value.server_assignor.as_ref(),
        ];
        let texts = texts.into_iter().flatten().map(String::len);
        let names = value.topic_names.iter().map(|name| name_bytes(name));
        let protocols = value.classic.iter().flat_map(|classic| &classic.protocols);
        let protocols = protocols.map(|(name, metadata)| name_bytes(name) + metadata.len());
        FIELDS + texts.chain(names).chain(protocols).sum::<usize>()
    }

    /// Whether it has what the target assignment of that epoch gives it.
    pub(crate) fn is_reconciled_to(&self, assignment_epoch: i32) -> bool {
        self.current.state == MemberState::Stable && self.current.epoch == assignment_epoch
    }

    /// The expression it subscribes by; an empty one is none.
    pub(crate) fn regex(&self) -> Option<&str> {
        self.value
            .topic_regex
            .as_deref()
            .filter(|regex| !regex.is_empty())
    }

    /// Whether it has the partition, be it to be given back.
    fn owns(&self, topic: TopicId, partition: i32) -> bool {
        [&self.current.assigned, &self.current.revoking]
            .iter()
            .any(|all| all.get(&topic).is_some_and(|all| all.contains(&partition)))
    }
}

/// About what a text takes in memory in a list.
fn name_bytes(name: &str) -> usize {
    name.len() + 2 * size_of::<String>()
}

/// About what an assignment takes in memory.
fn partitions_bytes(partitions: &Partitions) -> usize {
    let topics = partitions.values();
    topics.map(|partitions| 64 + 8 * partitions.len()).sum()
}

impl ConsumerGroup {
    /// About what its members say of themselves takes in memory.
    pub(crate) fn members_bytes(&self) -> usize {
        self.members.values().map(|member| member.bytes()).sum()
    }

    /// About what it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        let current = self.members.values().map(|member| &member.current);
        let current =
            current.map(|it| partitions_bytes(&it.assigned) + partitions_bytes(&it.revoking));
        let target = self.target.values().map(|target| partitions_bytes(target));
        let expressions = self.expressions.values().flat_map(|value| &value.topics);
        let expressions = expressions.map(|name| name_bytes(name));
        self.members_bytes() + current.chain(target).chain(expressions).sum::<usize>()
    }

    /// The group epoch: 0 before the first record.
    pub(crate) fn epoch(&self) -> i32 {
        self.epoch
    }

    /// The hash of the topics that the group epoch is of.
    pub(crate) fn metadata_hash(&self) -> i64 {
        self.metadata_hash
    }

    /// The epoch of the target assignment.
    pub(crate) fn assignment_epoch(&self) -> i32 {
        self.assignment_epoch
    }

    /// Its members, by id.
    pub(crate) fn members(&self) -> &BTreeMap<Arc<str>, Arc<Member>> {
        &self.members
    }

    /// The member of that id.
    pub(crate) fn member(&self, id: &str) -> Option<&Arc<Member>> {
        self.members.get(id)
    }

    /// The member that has the instance id, and its id.
    pub(crate) fn static_member(&self, instance_id: &str) -> Option<(&Arc<str>, &Arc<Member>)> {
        self.members
            .get_key_value(self.static_members.get(instance_id)?)
    }

    /// What the member shall have.
    pub(crate) fn target(&self, member: &str) -> Arc<Partitions> {
        self.target.get(member).cloned().unwrap_or_default()
    }

    /// What the member shall have, if the target assignment says anything of it.
    pub(crate) fn target_of(&self, member: &str) -> Option<&Arc<Partitions>> {
        self.target.get(member)
    }

    /// What the expressions of the group stand for.
    pub(crate) fn expressions(&self) -> &BTreeMap<Arc<str>, Arc<ExpressionValue>> {
        &self.expressions
    }

    /// Whether some member is subscribed to the topic.
    pub(crate) fn is_subscribed_to(&self, topic: &str) -> bool {
        self.members
            .values()
            .any(|member| self.topic_names(member).any(|name| name == topic))
    }

    /// Whether it has no members.
    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// How many members speak the classic protocol.
    pub(crate) fn classic_members(&self) -> usize {
        self.members
            .values()
            .filter(|member| member.is_classic())
            .count()
    }

    /// Whether any member but this one has the partition.
    pub(crate) fn is_owned_by_another(&self, me: &str, topic: TopicId, partition: i32) -> bool {
        self.members
            .iter()
            .any(|(id, member)| &**id != me && member.owns(topic, partition))
    }

    /// Whether the member waits for a partition that another has not given back yet.
    pub(crate) fn waits_for_others(&self, id: &str, member: &Member) -> bool {
        member.current.state == MemberState::UnreleasedPartitions
            && self.target(id).iter().any(|(topic, partitions)| {
                let has = member.current.assigned.get(topic);
                partitions
                    .iter()
                    .filter(|partition| !has.is_some_and(|has| has.contains(partition)))
                    .any(|&partition| self.is_owned_by_another(id, *topic, partition))
            })
    }

    /// The names of the topics that the member is subscribed to, by name and by expression. An
    /// expression that is not resolved matches nothing.
    pub(crate) fn topic_names<'a>(
        &'a self,
        member: &'a Member,
    ) -> impl Iterator<Item = &'a str> + use<'a> {
        let resolved = member.regex().and_then(|regex| self.expressions.get(regex));
        let resolved = resolved.into_iter().flat_map(|resolved| &resolved.topics);
        member
            .value
            .topic_names
            .iter()
            .chain(resolved)
            .map(String::as_str)
    }

    /// The ids of the topics that the member is subscribed to and that exist.
    pub(crate) fn topic_ids(&self, member: &Member, topics: &Topics) -> BTreeSet<TopicId> {
        self.topic_names(member)
            .filter_map(|name| topics.by_name(name))
            .map(|topic| topic.id)
            .collect()
    }

    /// The names of all topics that somebody is subscribed to.
    pub(crate) fn subscribed_topics(&self) -> BTreeSet<&str> {
        self.members
            .values()
            .flat_map(|member| self.topic_names(member))
            .collect()
    }

    /// The state that it is in.
    pub(crate) fn state(&self) -> GroupState {
        let reconciled = |member: &Arc<Member>| member.is_reconciled_to(self.assignment_epoch);
        if self.is_empty() {
            GroupState::Empty
        } else if self.epoch > self.assignment_epoch {
            GroupState::Assigning
        } else if self.members.values().all(reconciled) {
            GroupState::Stable
        } else {
            GroupState::Reconciling
        }
    }

    /// Takes in a record of this group. A tombstone of the group itself empties it: whoever holds
    /// the groups forgets it then.
    pub(crate) fn replay(&mut self, record: &ConsumerRecord) {
        match record {
            ConsumerRecord::Group { value: None, .. } => *self = Self::default(),
            ConsumerRecord::Group {
                value:
                    Some(GroupValue {
                        epoch,
                        metadata_hash,
                    }),
                ..
            } => {
                self.epoch = *epoch;
                self.metadata_hash = *metadata_hash;
            }
            ConsumerRecord::PartitionMetadata { .. } => {}
            ConsumerRecord::Member {
                member,
                value: None,
                ..
            } => {
                if let Some(old) = self.members.remove(member) {
                    self.release_instance(member, &old);
                }
            }
            ConsumerRecord::Member {
                member: id,
                value: Some(value),
                ..
            } => {
                let old = self.members.get(id).cloned().unwrap_or_default();
                if old.value.instance_id != value.instance_id {
                    self.release_instance(id, &old);
                }
                if let Some(instance_id) = &value.instance_id {
                    self.static_members.insert(instance_id.clone(), id.clone());
                }
                let member = Member {
                    value: value.clone(),
                    current: old.current.clone(),
                };
                self.members.insert(id.clone(), Arc::new(member));
            }
            ConsumerRecord::Target { value, .. } => self.assignment_epoch = value.unwrap_or(-1),
            ConsumerRecord::TargetMember { member, value, .. } => match value {
                Some(value) => {
                    self.target.insert(member.clone(), Arc::new(value.clone()));
                }
                None => {
                    self.target.remove(member);
                }
            },
            ConsumerRecord::Current {
                member: id,
                value: Some(current),
                ..
            } => {
                let value = self.members.get(id).map(|old| old.value.clone());
                let member = Member {
                    value: value.unwrap_or_else(|| Member::default().value),
                    current: current.clone(),
                };
                self.members.insert(id.clone(), Arc::new(member));
            }
            ConsumerRecord::Current {
                member: id,
                value: None,
                ..
            } => {
                if let Some(old) = self.members.get(id) {
                    let mut member = Member {
                        value: old.value.clone(),
                        ..Member::default()
                    };
                    member.current.epoch = LEAVE_EPOCH;
                    member.current.previous_epoch = LEAVE_EPOCH;
                    self.members.insert(id.clone(), Arc::new(member));
                }
            }
            ConsumerRecord::Expression {
                expression, value, ..
            } => match value {
                Some(value) => {
                    self.expressions
                        .insert(expression.clone(), Arc::new(value.clone()));
                }
                None => {
                    self.expressions.remove(expression);
                }
            },
        }
    }

    /// The instance id of a member that is gone, or has another now, is free again, unless
    /// another member has taken it already.
    fn release_instance(&mut self, id: &Arc<str>, old: &Member) {
        if let Some(instance_id) = &old.value.instance_id
            && self.static_members.get(instance_id) == Some(id)
        {
            self.static_members.remove(instance_id);
        }
    }

    /// What deletes all that there is of the group.
    pub(crate) fn tombstones(&self, group_id: &str) -> Vec<ConsumerRecord> {
        let group_id: Arc<str> = group_id.into();
        let group = || group_id.clone();
        let ids = || self.members.keys().cloned();
        let targets: BTreeSet<Arc<str>> = ids().chain(self.target.keys().cloned()).collect();
        let mut records = Vec::new();
        records.extend(ids().map(|member| ConsumerRecord::Current {
            group: group(),
            member,
            value: None,
        }));
        records.extend(
            targets
                .into_iter()
                .map(|member| ConsumerRecord::TargetMember {
                    group: group(),
                    member,
                    value: None,
                }),
        );
        records.push(ConsumerRecord::Target {
            group: group(),
            value: None,
        });
        records.extend(ids().map(|member| ConsumerRecord::Member {
            group: group(),
            member,
            value: None,
        }));
        records.extend(self.expressions.keys().cloned().map(|expression| {
            ConsumerRecord::Expression {
                group: group(),
                expression,
                value: None,
            }
        }));
        records.push(ConsumerRecord::Group {
            group: group(),
            value: None,
        });
        records
    }
}

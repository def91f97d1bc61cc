//! A group as it will be when the records of this call are replayed.
//!
//! A command often needs several steps, each of which sees what the one before did: a static
//! member is replaced, its subscription changes, the group gets a new epoch and a new target, the
//! member a new assignment. Each step puts records into the draft and replays them on it; when
//! one fails, the draft is dropped and nothing has happened. Copying the group costs little (it
//! is made of shared parts) and is put off to the first record: an ordinary heartbeat has none.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::assignor::{Assignor, GroupSpec, MemberSpec, Nonsense, TopicId};
use crate::config::GroupsConfig;
use crate::consumer::group::{ConsumerGroup, Member};
use crate::consumer::topics_hash::topics_hash;
use crate::record::Record;
use crate::record::consumer::{
    ConsumerRecord, CurrentValue, ExpressionValue, GroupValue, MemberValue,
};
use crate::topics::Topics;

/// A group with the changes of one call.
pub(crate) struct Draft<'a> {
    group_id: Arc<str>,
    group: Cow<'a, ConsumerGroup>,
    records: Vec<Record>,
}

impl<'a> Draft<'a> {
    /// Of a group that there is.
    pub(crate) fn of(group_id: &str, group: &'a ConsumerGroup) -> Self {
        Self {
            group_id: group_id.into(),
            group: Cow::Borrowed(group),
            records: Vec::new(),
        }
    }

    /// Of a group that comes into being after these records.
    pub(crate) fn new(group_id: &str, records: Vec<Record>) -> Self {
        Self {
            group_id: group_id.into(),
            group: Cow::Owned(ConsumerGroup::default()),
            records,
        }
    }

    /// The group as it is by now.
    pub(crate) fn group(&self) -> &ConsumerGroup {
        &self.group
    }

    /// Its id.
    pub(crate) fn group_id(&self) -> Arc<str> {
        self.group_id.clone()
    }

    /// What is to be appended.
    pub(crate) fn into_records(self) -> Vec<Record> {
        self.records
    }

    fn put(&mut self, record: ConsumerRecord) {
        self.group.to_mut().replay(&record);
        self.records.push(Record::Consumer(record));
    }

    /// A record that is not the group's own, such as that of the classic group that it becomes.
    pub(crate) fn put_other(&mut self, record: Record) {
        self.records.push(record);
    }

    /// What the member says of itself.
    pub(crate) fn put_member(&mut self, member: &Arc<str>, value: MemberValue) {
        let (group, member) = (self.group_id(), member.clone());
        self.put(ConsumerRecord::Member {
            group,
            member,
            value: Some(value),
        });
    }

    /// What the member has.
    pub(crate) fn put_current(&mut self, member: &Arc<str>, value: CurrentValue) {
        let (group, member) = (self.group_id(), member.clone());
        self.put(ConsumerRecord::Current {
            group,
            member,
            value: Some(value),
        });
    }

    /// What the member shall have.
    pub(crate) fn put_target(&mut self, member: &Arc<str>, value: crate::assignor::Partitions) {
        let (group, member) = (self.group_id(), member.clone());
        self.put(ConsumerRecord::TargetMember {
            group,
            member,
            value: Some(value),
        });
    }

    /// The epoch of the target assignment.
    pub(crate) fn put_assignment_epoch(&mut self, epoch: i32) {
        let group = self.group_id();
        self.put(ConsumerRecord::Target {
            group,
            value: Some(epoch),
        });
    }

    /// What an expression stands for; `None`: nobody uses it any more.
    pub(crate) fn put_expression(&mut self, expression: &str, value: Option<ExpressionValue>) {
        let (group, expression) = (self.group_id(), expression.into());
        self.put(ConsumerRecord::Expression {
            group,
            expression,
            value,
        });
    }

    /// The member is gone. In this order, as Kafka's loader wants it.
    pub(crate) fn remove_member(&mut self, member: &Arc<str>) {
        let (group, id) = (self.group_id(), member.clone());
        self.put(ConsumerRecord::Current {
            group,
            member: id,
            value: None,
        });
        let (group, id) = (self.group_id(), member.clone());
        self.put(ConsumerRecord::TargetMember {
            group,
            member: id,
            value: None,
        });
        let (group, id) = (self.group_id(), member.clone());
        self.put(ConsumerRecord::Member {
            group,
            member: id,
            value: None,
        });
    }

    /// The group is gone.
    pub(crate) fn remove_group(&mut self) {
        for record in self.group.tombstones(&self.group_id) {
            self.put(record);
        }
    }

    /// Takes out of the records the expressions that nobody subscribes by any more.
    pub(crate) fn drop_unused_expressions(&mut self) {
        if self.group.expressions().is_empty() {
            return;
        }
        let used: BTreeSet<&str> = self
            .group
            .members()
            .values()
            .filter_map(|member| member.regex())
            .collect();
        let unused: Vec<Arc<str>> = self
            .group
            .expressions()
            .keys()
            .filter(|expression| !used.contains(&***expression))
            .cloned()
            .collect();
        for expression in unused {
            self.put_expression(&expression, None);
        }
    }

    /// Whether what the members say of themselves is within the limit of a group.
    pub(crate) fn fits(&self, config: &GroupsConfig) -> bool {
        self.group.members_bytes() <= config.members_bytes_per_group_max
    }

    /// Begins a new group epoch if `needed`, or if the topics that the group is subscribed to are
    /// not those of the present one any more. Whether it did.
    pub(crate) fn advance_epoch(&mut self, needed: bool, topics: &Topics) -> bool {
        let metadata_hash = topics_hash(topics, &self.group.subscribed_topics());
        if !needed && metadata_hash == self.group.metadata_hash() {
            return false;
        }
        let epoch = self.group.epoch().saturating_add(1);
        self.put_epoch(epoch, metadata_hash);
        true
    }

    /// The group epoch.
    pub(crate) fn put_epoch(&mut self, epoch: i32, metadata_hash: i64) {
        let value = Some(GroupValue {
            epoch,
            metadata_hash,
        });
        self.put(ConsumerRecord::Group {
            group: self.group_id(),
            value,
        });
    }

    /// Computes the target assignment of the group epoch, if it is not that of it already.
    ///
    /// # Errors
    ///
    /// When the assignor's result is of no use: the draft is to be dropped.
    pub(crate) fn update_target(
        &mut self,
        topics: &Topics,
        config: &GroupsConfig,
    ) -> Result<(), Nonsense> {
        let epoch = self.group.epoch();
        if epoch <= self.group.assignment_epoch() {
            return Ok(());
        }
        let assignor = preferred_assignor(&self.group, config);
        for (member, partitions) in assignor.assign(&spec(&self.group, topics))? {
            if self.group.target_of(&member).map(|old| &**old) != Some(&partitions) {
                self.put_target(&member, partitions);
            }
        }
        self.put_assignment_epoch(epoch);
        Ok(())
    }
}

/// The assignor that most members wish for; of two with as many, and when nobody has a wish, the
/// one that the configuration names first.
pub(crate) fn preferred_assignor(group: &ConsumerGroup, config: &GroupsConfig) -> Assignor {
    let mut best = (0, Assignor::Uniform);
    for name in config.consumer_assignors.iter().rev() {
        let Some(assignor) = Assignor::of_name(name) else {
            continue;
        };
        let wishes = |member: &&Arc<Member>| {
            member.value.server_assignor.as_deref() == Some(assignor.name())
        };
        let votes = group.members().values().filter(wishes).count();
        if votes >= best.0 {
            best = (votes, assignor);
        }
    }
    best.1
}

/// The group as assignors see it. Members with equal subscriptions share their set of topics.
fn spec(group: &ConsumerGroup, topics: &Topics) -> GroupSpec {
    type Subscription<'a> = (&'a BTreeSet<String>, Option<&'a str>);
    let mut sets: BTreeMap<Subscription<'_>, Arc<BTreeSet<TopicId>>> = BTreeMap::new();
    let mut spec = GroupSpec::default();
    for (id, member) in group.members() {
        let set = sets
            .entry((&member.value.topic_names, member.regex()))
            .or_insert_with(|| Arc::new(group.topic_ids(member, topics)));
        let member = MemberSpec {
            instance_id: member.value.instance_id.clone(),
            topics: set.clone(),
            assigned: group.target(id),
        };
        spec.members.insert(id.clone(), member);
    }
    for &topic in sets.values().flat_map(|set| set.iter()) {
        let partitions = topics.by_id(topic).map_or(0, |topic| topic.partitions);
        spec.partitions.insert(topic, partitions);
    }
    spec
}

//! From a classic group to a consumer group and back, while members are in it.
//!
//! Up: the first member that sends ConsumerGroupHeartbeat turns a classic group of consumers into
//! a consumer group. Its members stay, with what they were assigned, and go on with JoinGroup and
//! the others (`classic_members`); they are told to rejoin at their next heartbeat.
//! Down: when the last member that speaks the consumer protocol goes, or a static one comes back
//! with the classic protocol, the classic members among themselves are a classic group again.
//! `group.consumer.migration.policy` says which of the two may happen.

use std::sync::Arc;

use bytes::Bytes;

use super::draft::Draft;
use super::group::{ConsumerGroup, Member};
use super::heartbeat::{Refusal, refuse};
use super::timers;
use crate::assignor::Partitions;
use crate::classic::handover;
use crate::command::{Client, GroupProtocol};
use crate::config::{GroupsConfig, MigrationPolicy};
use crate::error::GroupError;
use crate::groups::{Group, Groups};
use crate::record::consumer::{
    ClassicValue as ClassicMetadata, CurrentValue, MemberState, MemberValue,
};
use crate::record::embedded::{self, NamedPartitions, Subscription};
use crate::record::{ClassicMemberValue, ClassicValue, Record};
use crate::topics::Topics;
use crate::turn::Turn;

/// The protocol type of consumers.
pub(super) const CONSUMER: &str = "consumer";

/// A classic group, as it is handed from one protocol to the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HandedOver {
    /// Its generation, which is the epoch of the consumer group.
    pub(crate) generation: i32,
    /// Its protocol type.
    pub(crate) protocol_type: String,
    /// The protocol that its members agreed on.
    pub(crate) protocol: Option<String>,
    /// Its members.
    pub(crate) members: Vec<HandedMember>,
}

/// A member of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HandedMember {
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) client: Client,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) session_timeout_ms: i32,
    /// In the order of its wishes.
    pub(crate) protocols: Vec<GroupProtocol>,
    pub(crate) assignment: Bytes,
}

impl HandedMember {
    /// Its subscription for the protocol; for its first one if it does not have that.
    fn metadata(&self, protocol: Option<&str>) -> Option<&Bytes> {
        let has = |wanted: &str| self.protocols.iter().find(|p| p.name == wanted);
        let protocol = protocol.and_then(has).or_else(|| self.protocols.first());
        protocol.map(|protocol| &protocol.metadata)
    }
}

/// The consumer group that a member that speaks the consumer protocol joins where there is none
/// yet: a new one, or what becomes of a classic group. Nothing is changed before the records of
/// the draft are appended; then [`upgraded`] is to be called.
pub(super) fn to_consumer(
    groups: &Groups,
    group_id: &str,
    turn: &Turn<'_>,
) -> Result<Draft<'static>, Refusal> {
    let logged = matches!(groups.hard.groups.get(group_id), Some(Group::Classic(_)));
    let tombstone = logged.then(|| Record::Classic(group_id.to_owned(), None));
    let draft = Draft::new(group_id, tombstone.into_iter().collect());
    match handover::hand_over(groups, group_id) {
        Some(classic) => upgrade(draft, classic, turn),
        None if logged || groups.hard.groups.len() < turn.config.groups_max => Ok(draft),
        None => refuse(
            GroupError::GroupMaxSizeReached,
            "There are as many groups as there may be.",
        ),
    }
}

/// Puts the members of a classic group into the draft of a new consumer group.
fn upgrade(
    mut draft: Draft<'static>,
    classic: HandedOver,
    turn: &Turn<'_>,
) -> Result<Draft<'static>, Refusal> {
    let group_id = draft.group_id();
    let allowed = match turn.config.consumer_migration_policy {
        MigrationPolicy::Bidirectional | MigrationPolicy::Upgrade => true,
        MigrationPolicy::Downgrade | MigrationPolicy::Disabled => false,
    };
    if !allowed
        || classic.protocol_type != CONSUMER
        || classic.members.len() > turn.config.consumer_max_size
    {
        let message = format!("Group {group_id} is not a consumer group.");
        return refuse(GroupError::GroupIdNotFound, message);
    }
    let mut members = Vec::with_capacity(classic.members.len());
    for member in &classic.members {
        let Some(member) = upgraded_member(&classic, member, turn.topics) else {
            return refuse(
                GroupError::GroupIdNotFound,
                format!(
                    "Cannot upgrade classic group {group_id} to consumer group because the \
                     embedded consumer protocol is malformed or of a custom assignor."
                ),
            );
        };
        members.push(member);
    }
    // In this order, as Kafka writes them. A partition that the leader gave to two members stays
    // with the first of them.
    let mut given = Partitions::new();
    for (_, member) in &mut members {
        for (topic, partitions) in &mut member.current.assigned {
            let given = given.entry(*topic).or_default();
            partitions.retain(|partition| given.insert(*partition));
        }
        member
            .current
            .assigned
            .retain(|_, partitions| !partitions.is_empty());
    }
    for (id, member) in &members {
        draft.put_member(id, member.value.clone());
    }
    draft.put_epoch(classic.generation, 0);
    for (id, member) in &members {
        draft.put_target(id, member.current.assigned.clone());
    }
    draft.put_assignment_epoch(classic.generation);
    for (id, member) in members {
        draft.put_current(&id, member.current);
    }
    Ok(draft)
}

/// A classic member as a member of a consumer group: stable, with what it was assigned last.
/// `None` when its subscription or assignment cannot be read, or when an assignor of the clients' own
/// put something into the assignment that would be lost.
fn upgraded_member(
    classic: &HandedOver,
    member: &HandedMember,
    topics: &Topics,
) -> Option<(Arc<str>, Member)> {
    let metadata = member.metadata(classic.protocol.as_deref())?;
    let subscription = Subscription::decode(metadata).ok()?;
    let assigned = embedded::decode_assignment(&member.assignment).ok()?;
    if assigned.has_user_data {
        return None;
    }
    let value = MemberValue {
        instance_id: member.instance_id.clone(),
        rack_id: subscription.rack_id,
        client_id: member.client.id.clone(),
        client_host: member.client.host.clone(),
        topic_names: subscription.topics,
        topic_regex: None,
        rebalance_timeout_ms: match member.rebalance_timeout_ms {
            given @ 0.. => given,
            _ => member.session_timeout_ms,
        },
        server_assignor: None,
        classic: Some(ClassicMetadata {
            session_timeout_ms: member.session_timeout_ms,
            protocols: pairs(&member.protocols),
        }),
    };
    let current = CurrentValue {
        epoch: classic.generation,
        previous_epoch: classic.generation,
        state: MemberState::Stable,
        assigned: with_ids(&assigned.partitions, topics),
        revoking: Partitions::new(),
    };
    Some((member.member_id.as_str().into(), Member { value, current }))
}

/// After the records of an upgrade are appended (and of any other first ConsumerGroupHeartbeat):
/// whoever waits in the classic group is sent away to join again, and the members have sessions.
pub(super) fn upgraded(
    groups: &mut Groups,
    group_id: &str,
    members: &[(Arc<str>, i32)],
    turn: &mut Turn<'_>,
) {
    handover::handed_over(groups, group_id, turn);
    for (id, session_timeout_ms) in members {
        timers::session(group_id, id, *session_timeout_ms, turn);
    }
}

/// Whether the group is to become a classic one when these members go.
pub(super) fn may_downgrade_without(
    group: &ConsumerGroup,
    ids: &[Arc<str>],
    config: &GroupsConfig,
) -> bool {
    let stay = || {
        let members = group.members().iter();
        members.filter(|(id, _)| !ids.contains(id))
    };
    stay().next().is_some()
        && stay().all(|(_, member)| member.is_classic())
        && downgrade_allowed(group, stay(), 0, config)
}

/// Whether the group is to become a classic one when the member, which is static, is replaced by
/// one that speaks the classic protocol.
pub(super) fn may_downgrade_replacing(
    group: &ConsumerGroup,
    member: &Member,
    config: &GroupsConfig,
) -> bool {
    !member.is_classic()
        && group.classic_members() + 1 == group.members().len()
        && downgrade_allowed(
            group,
            group.members().iter(),
            config.member_metadata_bytes_max,
            config,
        )
}

/// Whether a classic group of these members may be, and fits into one record: with
/// `more_bytes` for what is not known of them yet.
fn downgrade_allowed<'a>(
    group: &ConsumerGroup,
    members: impl Iterator<Item = (&'a Arc<str>, &'a Arc<Member>)>,
    more_bytes: usize,
    config: &GroupsConfig,
) -> bool {
    let allowed = match config.consumer_migration_policy {
        MigrationPolicy::Bidirectional | MigrationPolicy::Downgrade => true,
        MigrationPolicy::Upgrade | MigrationPolicy::Disabled => false,
    };
    let (mut count, mut bytes) = (0, more_bytes);
    for (id, member) in members {
        count += 1;
        bytes += classic_bytes_max(id, member, &group.target(id));
    }
    allowed && count <= config.group_max_size && bytes <= config.record_bytes_max
}

/// At most what a member takes in the record of a classic group.
fn classic_bytes_max(id: &str, member: &Member, target: &Partitions) -> usize {
    /// Lengths, numbers, and the name of a topic (249 bytes at most).
    const FIELDS: usize = 64;
    const TOPIC: usize = 264;
    let value = &member.value;
    let instance = value.instance_id.as_ref().map_or(0, String::len);
    let protocols = value.classic.iter().flat_map(|classic| &classic.protocols);
    let metadata = protocols.map(|(_, metadata)| metadata.len()).max();
    let partitions = target
        .values()
        .map(|partitions| TOPIC + 4 * partitions.len());
    FIELDS
        + id.len()
        + instance
        + value.client_id.len()
        + value.client_host.len()
        + metadata.unwrap_or(0)
        + partitions.sum::<usize>()
}

/// Takes these members out; the others are a classic group, which rebalances.
pub(super) fn to_classic_without(
    groups: &mut Groups,
    group_id: &str,
    ids: &[Arc<str>],
    turn: &mut Turn<'_>,
) {
    let Some(group) = groups.consumer(group_id) else {
        return;
    };
    let gone: Vec<Arc<str>> = group.members().keys().cloned().collect();
    let mut draft = Draft::of(group_id, group);
    for id in ids {
        draft.remove_member(id);
    }
    let (classic, leader) = downgrade(&mut draft, turn);
    let records = draft.into_records();
    downgraded(
        groups,
        group_id,
        &gone,
        records,
        (classic, leader, true),
        turn,
    );
}

/// Turns what is in the draft, all of whose members speak the classic protocol, into a classic
/// group: its tombstones, the classic group's record, and what is to be handed over.
pub(super) fn downgrade(draft: &mut Draft<'_>, turn: &Turn<'_>) -> (HandedOver, Option<String>) {
    let group = draft.group();
    let generation = group.epoch();
    let mut members: Vec<HandedMember> = Vec::new();
    for (id, member) in group.members() {
        let Some(classic) = &member.value.classic else {
            continue;
        };
        members.push(HandedMember {
            member_id: id.to_string(),
            instance_id: member.value.instance_id.clone(),
            client: Client {
                id: member.value.client_id.clone(),
                host: member.value.client_host.clone(),
            },
            rebalance_timeout_ms: member.value.rebalance_timeout_ms,
            session_timeout_ms: classic.session_timeout_ms,
            protocols: protocols(&classic.protocols),
            assignment: Bytes::new(),
        });
    }
    let protocol = chosen_protocol(&members);
    for member in &mut members {
        let version = member
            .metadata(protocol.as_deref())
            .and_then(|metadata| Subscription::decode(metadata).ok())
            .map_or(0, |subscription| subscription.version);
        let target = with_names(&group.target(&member.member_id), turn.topics);
        member.assignment = embedded::encode_assignment(version, &target);
    }
    let leader = members.first().map(|member| member.member_id.clone());
    let value = ClassicValue {
        protocol_type: CONSUMER.to_owned(),
        generation,
        protocol: protocol.clone(),
        leader: leader.clone(),
        current_state_timestamp_ms: turn.now_ms,
        members: members
            .iter()
            .map(|member| ClassicMemberValue {
                member_id: member.member_id.clone(),
                group_instance_id: member.instance_id.clone(),
                client_id: member.client.id.clone(),
                client_host: member.client.host.clone(),
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                session_timeout_ms: member.session_timeout_ms,
                subscription: member
                    .metadata(protocol.as_deref())
                    .cloned()
                    .unwrap_or_default(),
                assignment: member.assignment.clone(),
            })
            .collect(),
    };
    let group_id = draft.group_id().to_string();
    draft.remove_group();
    draft.put_other(Record::Classic(group_id, Some(value)));
    let protocol_type = CONSUMER.to_owned();
    (
        HandedOver {
            generation,
            protocol_type,
            protocol,
            members,
        },
        leader,
    )
}

/// Appends the records of a downgrade and hands the members over.
pub(super) fn downgraded(
    groups: &mut Groups,
    group_id: &str,
    gone: &[Arc<str>],
    records: Vec<Record>,
    (classic, leader, rebalance): (HandedOver, Option<String>, bool),
    turn: &mut Turn<'_>,
) {
    records.into_iter().for_each(|record| turn.append(record));
    let key: Arc<str> = group_id.into();
    for id in gone {
        timers::cancel_all(groups, &key, id, turn);
    }
    groups.soft.consumer.forget(group_id);
    handover::take_over(groups, group_id, classic, leader, rebalance, turn);
}

/// Of the protocols that all members have the one that most members prefer to the others; the
/// first by name of several.
fn chosen_protocol(members: &[HandedMember]) -> Option<String> {
    let has = |member: &HandedMember, name: &str| member.protocols.iter().any(|p| p.name == name);
    let common = |name: &str| members.iter().all(|member| has(member, name));
    let vote = |member: &HandedMember| {
        member
            .protocols
            .iter()
            .map(|p| p.name.clone())
            .find(|name| common(name))
    };
    let votes: Vec<String> = members.iter().filter_map(vote).collect();
    let count = |name: &String| votes.iter().filter(|vote| *vote == name).count();
    let mut candidates = votes.clone();
    candidates.sort();
    candidates.dedup();
    let most = candidates.iter().map(count).max()?;
    candidates.into_iter().find(|name| count(name) == most)
}

/// Names to ids; topics that are no more are left out.
pub(super) fn with_ids(partitions: &NamedPartitions, topics: &Topics) -> Partitions {
    let ids = partitions.iter().filter_map(|(name, partitions)| {
        let topic = topics.by_name(name)?;
        let there = partitions
            .iter()
            .copied()
            .filter(|p| (0..topic.partitions).contains(p));
        Some((topic.id, there.collect()))
    });
    ids.filter(|(_, partitions): &(_, std::collections::BTreeSet<i32>)| !partitions.is_empty())
        .collect()
}

/// Ids to names; topics that are no more are left out.
pub(super) fn with_names(partitions: &Partitions, topics: &Topics) -> NamedPartitions {
    let names = partitions
        .iter()
        .filter_map(|(&id, partitions)| Some((topics.by_id(id)?.name.clone(), partitions.clone())));
    names.collect()
}

/// Protocols as records have them.
pub(super) fn pairs(protocols: &[GroupProtocol]) -> Vec<(String, Bytes)> {
    protocols
        .iter()
        .map(|protocol| (protocol.name.clone(), protocol.metadata.clone()))
        .collect()
}

/// Protocols as commands have them.
fn protocols(pairs: &[(String, Bytes)]) -> Vec<GroupProtocol> {
    let protocol = |(name, metadata): &(String, Bytes)| GroupProtocol {
        name: name.clone(),
        metadata: metadata.clone(),
    };
    pairs.iter().map(protocol).collect()
}

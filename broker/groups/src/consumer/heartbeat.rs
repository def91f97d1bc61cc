//! ConsumerGroupHeartbeat, key 68, versions 0-1; KIP-848.
//!
//! One request for everything: epoch 0 joins, -1 leaves, -2 leaves for a while (static members),
//! any other is the member's present epoch and keeps its session alive. The answer tells the
//! member its epoch and, when it changed or the member asked for everything, what to own.

use std::sync::Arc;

use coordinator::ReplyId;

use super::change::{self, Change};
use super::convert;
use super::draft::Draft;
use super::fence;
use super::group::{AWAY_EPOCH, ConsumerGroup, JOIN_EPOCH, LEAVE_EPOCH, Member};
use super::reconcile::{Says, Word};
use super::soft::Named;
use super::timers;
use crate::assignor::{Assignor, Partitions};
use crate::command::{ConsumerGroupHeartbeat, OwnedTopic};
use crate::config::GroupsConfig;
use crate::error::GroupError;
use crate::groups::{Group, Groups};
use crate::record::consumer::{MemberState, MemberValue};
use crate::response::{ConsumerGroupHeartbeatResponse, Response};
use crate::turn::Turn;

/// Why a request is refused: the error and its explanation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) error: GroupError,
    pub(crate) message: String,
}

/// A refusal with this explanation.
pub(crate) fn refuse<T>(error: GroupError, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal {
        error,
        message: message.into(),
    })
}

impl From<GroupError> for Refusal {
    fn from(error: GroupError) -> Self {
        Self {
            error,
            message: error.to_string(),
        }
    }
}

/// Handles the request.
pub(crate) fn heartbeat(
    groups: &mut Groups,
    request: ConsumerGroupHeartbeat,
    reply: ReplyId,
    turn: &mut Turn<'_>,
) {
    let answer = check(&request, turn.config).and_then(|()| match request.member_epoch {
        LEAVE_EPOCH | AWAY_EPOCH => leave(groups, &request, turn),
        _ => beat(groups, &request, turn),
    });
    let response = answer.unwrap_or_else(|refusal| ConsumerGroupHeartbeatResponse {
        error: Some(refusal.error),
        error_message: Some(refusal.message),
        ..ConsumerGroupHeartbeatResponse::default()
    });
    turn.answer(reply, Response::ConsumerGroupHeartbeat(response));
}

/// What can be said of a request without knowing the group.
fn check(request: &ConsumerGroupHeartbeat, config: &GroupsConfig) -> Result<(), Refusal> {
    use GroupError::{InvalidRequest, UnsupportedAssignor};
    let blank = |text: &str| text.trim().is_empty();
    let blank_or_long = |text: &Option<String>| {
        text.as_deref()
            .is_some_and(|t| blank(t) || t.len() > config.id_bytes_max)
    };
    if blank(&request.group_id) || request.group_id.len() > config.id_bytes_max {
        return refuse(
            InvalidRequest,
            "GroupId can't be empty or longer than the limit.",
        );
    }
    if request.member_id.len() > config.id_bytes_max {
        return refuse(InvalidRequest, "MemberId is longer than the limit.");
    }
    if blank_or_long(&request.instance_id) {
        return refuse(
            InvalidRequest,
            "InstanceId can't be empty or longer than the limit.",
        );
    }
    if blank_or_long(&request.rack_id) {
        return refuse(
            InvalidRequest,
            "RackId can't be empty or longer than the limit.",
        );
    }
    if request.client.id.len() > config.id_bytes_max {
        return refuse(InvalidRequest, "ClientId is longer than the limit.");
    }
    let names = request.subscribed_topic_names.iter().flatten();
    if names
        .map(|name| name.len() + size_of::<String>())
        .sum::<usize>()
        > config.member_metadata_bytes_max
    {
        return refuse(InvalidRequest, "The subscription is larger than the limit.");
    }
    match request.member_epoch {
        JOIN_EPOCH => {
            // Kafka's version 0 lets the coordinator name the member; version 1 does not, and the
            // adapter of that version refuses an empty id.
            if request.rebalance_timeout_ms < 0 {
                return refuse(
                    InvalidRequest,
                    "RebalanceTimeoutMs must be provided when (re-)joining.",
                );
            }
            if request
                .topic_partitions
                .as_ref()
                .is_none_or(|owned| !owned.is_empty())
            {
                return refuse(
                    InvalidRequest,
                    "TopicPartitions must be empty when (re-)joining.",
                );
            }
            if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none()
            {
                return refuse(
                    InvalidRequest,
                    "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when \
                     (re-)joining.",
                );
            }
        }
        AWAY_EPOCH if request.instance_id.is_none() => {
            return refuse(InvalidRequest, "InstanceId can't be null.");
        }
        AWAY_EPOCH.. if blank(&request.member_id) => {
            return refuse(InvalidRequest, "MemberId can't be empty.");
        }
        AWAY_EPOCH.. => {}
        _ => return refuse(InvalidRequest, "MemberEpoch is invalid."),
    }
    if let Some(name) = &request.server_assignor {
        let known = Assignor::of_name(name).is_some() && config.consumer_assignors.contains(name);
        if !known {
            return refuse(
                UnsupportedAssignor,
                format!(
                    "ServerAssignor {name} is not supported. Supported assignors: {}.",
                    config.consumer_assignors.join(", ")
                ),
            );
        }
    }
    Ok(())
}

/// Joins, or keeps the session alive.
fn beat(
    groups: &mut Groups,
    request: &ConsumerGroupHeartbeat,
    turn: &mut Turn<'_>,
) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
    let joins = request.member_epoch == JOIN_EPOCH;
    let group_id = request.group_id.as_str();
    let mut becomes_one = false;
    let mut draft = match groups.hard.groups.get(group_id) {
        Some(Group::Consumer(group)) => Draft::of(group_id, group),
        _ if !joins => {
            return refuse(
                GroupError::GroupIdNotFound,
                format!("Group {group_id} not found."),
            );
        }
        _ => {
            becomes_one = true;
            let draft = convert::to_consumer(groups, group_id, turn)?;
            // Whatever is remembered is of another group of that id.
            groups.soft.consumer.forget(group_id);
            draft
        }
    };
    let full = draft.group().members().len() >= turn.config.consumer_max_size;
    if full && draft.group().member(&request.member_id).is_none() {
        return refuse(
            GroupError::GroupMaxSizeReached,
            format!(
                "The consumer group has reached its maximum capacity of {} members.",
                turn.config.consumer_max_size
            ),
        );
    }
    let id: Arc<str> = match request.member_id.as_str() {
        "" => request.fresh_id.to_string().into(),
        id => id.into(),
    };
    let (replaced, member) = match &request.instance_id {
        None => (None, dynamic_member(draft.group(), &id, request)?),
        Some(instance_id) => static_member(&mut draft, &id, instance_id, request)?,
    };
    let before = member.current.clone();
    let key = draft.group_id();
    let owned = request.topic_partitions.as_deref();
    let of_group = groups.soft.consumer.of(&key);
    let named = Named::after(of_group.named(&id), owned);
    let was_asked_first = of_group.was_asked_first(&id);
    let asks_for_all = request.rebalance_timeout_ms != -1
        && (request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some())
        && owned.is_some();
    let word = match &named {
        _ if joins => Word::Whole,
        Some(named) => named.word(turn),
        None => Word::Unknown,
    };
    let value = updated(&member.value, request);
    let may_grow = request.subscribed_topic_names.is_some() || value != member.value;
    let before_bytes = if may_grow { draft.group().bytes() } else { 0 };
    let changed = change::apply(
        &mut draft,
        &mut groups.soft.consumer,
        turn,
        Change {
            id: &id,
            old: &member.value,
            value,
            says: Says {
                owned,
                word,
                starts_anew: asks_for_all && was_asked_first && !joins,
            },
        },
    )?;

    if may_grow {
        let more_bytes = draft.group().bytes().saturating_sub(before_bytes);
        if !draft.fits(turn.config)
            || !groups
                .soft
                .take_member_bytes(&groups.hard, more_bytes, turn)
        {
            groups.soft.consumer.forget_topics(group_id);
            return refuse(
                GroupError::GroupMaxSizeReached,
                "The members of the group have said as much of themselves as there is room for.",
            );
        }
    }

    let now = draft.group().member(&id).cloned().unwrap_or_default();
    // One that comes with the epoch before has not heard the answer that told it the new one.
    let has_missed_some = request.member_epoch != before.epoch;
    let tell = joins || asks_for_all || has_missed_some || now.current.assigned != before.assigned;
    let response = ConsumerGroupHeartbeatResponse {
        error: None,
        error_message: None,
        member_id: Some(id.to_string()),
        member_epoch: now.current.epoch,
        heartbeat_interval_ms: turn.config.consumer_heartbeat_interval_ms,
        assignment: tell.then(|| owned_topics(&now.current.assigned)),
    };
    let is_asked = now.current.state == MemberState::UnrevokedPartitions;
    let waits = !is_asked && now.current.epoch != draft.group().assignment_epoch();
    let is_asked_first = is_asked
        && owned.is_none()
        && (was_asked_first || (named.is_none() && before.state != now.current.state));
    let classic = |member: &Arc<Member>| timers::session_timeout_ms(member, turn);
    let sessions: Vec<(Arc<str>, i32)> = if becomes_one {
        draft
            .group()
            .members()
            .iter()
            .map(|(id, member)| (id.clone(), classic(member)))
            .collect()
    } else {
        Vec::new()
    };
    draft
        .into_records()
        .into_iter()
        .for_each(|record| turn.append(record));
    if becomes_one {
        convert::upgraded(groups, group_id, &sessions, turn);
    }
    if let Some(old) = replaced {
        timers::cancel_all(groups, &key, &old, turn);
    }
    let of_group = groups.soft.consumer.of(&key);
    of_group.put_asked_first(&id, is_asked_first);
    if let Some(named) = named {
        of_group.put_named(&id, named, (&now.current.assigned, waits), turn.now_ms);
    }
    timers::session(group_id, &id, turn.config.consumer_session_timeout_ms, turn);
    if member.is_classic() {
        timers::cancel_classic(groups, &key, &id, turn);
    }
    timers::rebalance(group_id, &id, &now, changed, turn);
    Ok(response)
}

/// What the member says of itself from now on.
fn updated(old: &MemberValue, request: &ConsumerGroupHeartbeat) -> MemberValue {
    let mut value = old.clone();
    if request.instance_id.is_some() {
        value.instance_id.clone_from(&request.instance_id);
    }
    if request.rack_id.is_some() {
        value.rack_id.clone_from(&request.rack_id);
    }
    if request.rebalance_timeout_ms != -1 {
        value.rebalance_timeout_ms = request.rebalance_timeout_ms;
    }
    if request.server_assignor.is_some() {
        value.server_assignor.clone_from(&request.server_assignor);
    }
    if let Some(names) = &request.subscribed_topic_names {
        value.topic_names = names.iter().cloned().collect();
    }
    if request.subscribed_topic_regex.is_some() {
        value
            .topic_regex
            .clone_from(&request.subscribed_topic_regex);
    }
    value.client_id.clone_from(&request.client.id);
    value.client_host.clone_from(&request.client.host);
    value.classic = None;
    value
}

/// The member without an instance id that the request is of; a new one when it joins.
fn dynamic_member(
    group: &ConsumerGroup,
    id: &str,
    request: &ConsumerGroupHeartbeat,
) -> Result<Arc<Member>, Refusal> {
    match group.member(id) {
        Some(member) => {
            check_epoch(member, request)?;
            Ok(member.clone())
        }
        None if request.member_epoch == JOIN_EPOCH => Ok(Arc::default()),
        None => refuse(
            GroupError::UnknownMemberId,
            format!("Member {id} is not a member of group {}.", request.group_id),
        ),
    }
}

/// The member that has the instance id; when it joins, in the place of the one before, whose id
/// comes first then.
fn static_member(
    draft: &mut Draft<'_>,
    id: &Arc<str>,
    instance_id: &str,
    request: &ConsumerGroupHeartbeat,
) -> Result<(Option<Arc<str>>, Arc<Member>), Refusal> {
    let joins = request.member_epoch == JOIN_EPOCH;
    let existing = draft
        .group()
        .static_member(instance_id)
        .map(|(id, member)| (id.clone(), member.clone()));
    match existing {
        None if joins => Ok((None, draft.group().member(id).cloned().unwrap_or_default())),
        None => refuse(
            GroupError::UnknownMemberId,
            format!("Instance id {instance_id} is unknown."),
        ),
        Some((owner, member)) if joins => {
            if !member.is_classic() && member.current.epoch != AWAY_EPOCH {
                return refuse(
                    GroupError::UnreleasedInstanceId,
                    format!(
                        "Static member {id} with instance id {instance_id} cannot join the group \
                         because the instance id is owned by {owner} member."
                    ),
                );
            }
            let member = replace_member(draft, &owner, &member, id);
            Ok(((owner != *id).then_some(owner), member))
        }
        Some((owner, _)) if owner != *id => refuse(
            GroupError::FencedInstanceId,
            format!(
                "Static member {id} with instance id {instance_id} was fenced by member {owner}."
            ),
        ),
        Some((_, member)) => {
            check_epoch(&member, request)?;
            Ok((None, member))
        }
    }
}

/// Puts a static member that came back in the place of the one that it was: it keeps the target
/// and what it had, and starts with epoch 0.
pub(super) fn replace_member(
    draft: &mut Draft<'_>,
    old_id: &Arc<str>,
    old: &Member,
    id: &Arc<str>,
) -> Arc<Member> {
    let target = draft.group().target(old_id);
    let mut member = old.clone();
    member.current.epoch = JOIN_EPOCH;
    member.current.previous_epoch = JOIN_EPOCH;
    draft.remove_member(old_id);
    draft.put_member(id, member.value.clone());
    draft.put_target(id, (*target).clone());
    draft.put_current(id, member.current.clone());
    Arc::new(member)
}

/// The member must come with its epoch, with 0 to join again, or with the epoch before when the
/// answer that told it the new one may have been lost.
fn check_epoch(member: &Member, request: &ConsumerGroupHeartbeat) -> Result<(), Refusal> {
    let (came, current) = (request.member_epoch, &member.current);
    let lost_answer = || {
        came == current.previous_epoch
            && is_within(request.topic_partitions.as_deref(), &current.assigned)
    };
    if came == JOIN_EPOCH || came == current.epoch || (came < current.epoch && lost_answer()) {
        return Ok(());
    }
    let relation = if came > current.epoch {
        "greater"
    } else {
        "smaller"
    };
    refuse(
        GroupError::FencedMemberEpoch,
        format!(
            "The consumer group member has a {relation} member epoch ({came}) than the one known \
             by the group coordinator ({}). The member must abandon all its partitions and rejoin.",
            current.epoch
        ),
    )
}

/// Whether the member says what it owns, and all of it is assigned to it.
fn is_within(owned: Option<&[OwnedTopic]>, assigned: &Partitions) -> bool {
    owned.is_some_and(|owned| {
        owned.iter().all(|topic| {
            assigned.get(&topic.topic_id).is_some_and(|assigned| {
                topic
                    .partitions
                    .iter()
                    .all(|partition| assigned.contains(partition))
            })
        })
    })
}

/// An assignment as answers have it.
fn owned_topics(partitions: &Partitions) -> Vec<OwnedTopic> {
    partitions
        .iter()
        .map(|(&topic_id, partitions)| OwnedTopic {
            topic_id,
            partitions: partitions.iter().copied().collect(),
        })
        .collect()
}

/// Leaves, or goes for a while.
fn leave(
    groups: &mut Groups,
    request: &ConsumerGroupHeartbeat,
    turn: &mut Turn<'_>,
) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
    let group_id = request.group_id.as_str();
    let Some(group) = groups.consumer(group_id) else {
        return refuse(
            GroupError::GroupIdNotFound,
            format!("Group {group_id} not found."),
        );
    };
    let id: Arc<str> = request.member_id.as_str().into();
    let found = match &request.instance_id {
        None => group.member(&id).map(|member| (&id, member)),
        Some(instance_id) => group.static_member(instance_id),
    };
    let Some((owner, member)) = found else {
        return refuse(
            GroupError::UnknownMemberId,
            format!("Member {id} is not a member of group {group_id}."),
        );
    };
    if *owner != id {
        return refuse(
            GroupError::FencedInstanceId,
            format!("Static member {id} was fenced by member {owner}."),
        );
    }
    if request.member_epoch == AWAY_EPOCH {
        let mut current = member.current.clone();
        current.epoch = AWAY_EPOCH;
        current.revoking = Partitions::new();
        let mut draft = Draft::of(group_id, group);
        draft.put_current(&id, current);
        draft
            .into_records()
            .into_iter()
            .for_each(|record| turn.append(record));
    } else {
        fence::fence(groups, group_id, std::slice::from_ref(&id), turn);
    }
    Ok(ConsumerGroupHeartbeatResponse {
        member_id: Some(request.member_id.clone()),
        member_epoch: request.member_epoch,
        ..ConsumerGroupHeartbeatResponse::default()
    })
}

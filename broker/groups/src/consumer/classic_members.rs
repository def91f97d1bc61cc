//! Members of a consumer group that speak the classic protocol (KIP-848, "online upgrade"):
//! JoinGroup, SyncGroup, Heartbeat and LeaveGroup, keys 11, 14, 12 and 13.
//!
//! The coordinator assigns for them as for all others; the generation that they see is their
//! member epoch, each is told that it is alone (nobody is the leader), and SyncGroup brings what
//! the coordinator assigned. They learn that they must give partitions back, or may have more, by
//! REBALANCE_IN_PROGRESS to a heartbeat: they join again, and say in their subscription what they
//! still own.

use std::sync::Arc;

use coordinator::ReplyId;

use super::change::{self, Change};
use super::convert::{self, CONSUMER, HandedOver};
use super::draft::Draft;
use super::fence;
use super::group::{ConsumerGroup, Member};
use super::heartbeat::replace_member;
use super::reconcile::{Says, Word};
use super::timers;
use crate::command::{Heartbeat, JoinGroup, LeaveGroup, LeavingMember, OwnedTopic, SyncGroup};
use crate::error::GroupError;
use crate::groups::Groups;
use crate::record::Record;
use crate::record::consumer::{ClassicValue, MemberState, MemberValue};
use crate::record::embedded::{self, Subscription};
use crate::response::{Joined, LeaveGroupResponse, LeftMember, Response, SyncGroupResponse};
use crate::turn::Turn;

/// What a JoinGroup does.
struct Join {
    joined: Joined,
    id: Arc<str>,
    /// The static member whose place it took.
    replaced: Option<Arc<str>>,
    records: Vec<Record>,
    downgraded: Option<Downgraded>,
}

/// What the group became.
struct Downgraded {
    /// The members of the consumer group that is no more.
    gone: Vec<Arc<str>>,
    classic: HandedOver,
    leader: Option<String>,
    rebalance: bool,
}

/// JoinGroup to a consumer group that has members.
pub(crate) fn join(groups: &mut Groups, request: JoinGroup, reply: ReplyId, turn: &mut Turn<'_>) {
    let group_id: Arc<str> = request.group_id.as_str().into();
    let join = match decide_join(groups, &request, turn) {
        Ok(join) => join,
        Err((error, member_id)) => {
            let refused = Joined::refused(&member_id, error);
            return turn.answer(reply, Response::JoinGroup(refused));
        }
    };
    if let Some(Downgraded {
        gone,
        classic,
        leader,
        rebalance,
    }) = join.downgraded
    {
        let to_classic = (classic, leader, rebalance);
        convert::downgraded(groups, &group_id, &gone, join.records, to_classic, turn);
    } else {
        join.records
            .into_iter()
            .for_each(|record| turn.append(record));
        if let Some(old) = join.replaced {
            timers::cancel_all(groups, &group_id, &old, turn);
        }
        let timeout_ms = rebalance_timeout_ms(&request);
        timers::session(&group_id, &join.id, request.session_timeout_ms, turn);
        timers::cancel_rebalance(&group_id, &join.id, turn);
        timers::expect_sync(groups, &group_id, &join.id, timeout_ms, turn);
    }
    turn.answer(reply, Response::JoinGroup(join.joined));
}

/// Before version 1 there is no rebalance timeout: it is the session timeout.
fn rebalance_timeout_ms(request: &JoinGroup) -> i32 {
    match request.rebalance_timeout_ms {
        timeout_ms @ 0.. => timeout_ms,
        _ => request.session_timeout_ms,
    }
}

/// Everything of a JoinGroup but its effects; or why it is refused, and the member id to say so to.
fn decide_join(
    groups: &mut Groups,
    request: &JoinGroup,
    turn: &Turn<'_>,
) -> Result<Join, (GroupError, Arc<str>)> {
    let refused = |error| (error, Arc::from(request.member_id.as_str()));
    let group_id = request.group_id.as_str();
    let Some(crate::groups::Group::Consumer(group)) = groups.hard.groups.get(group_id) else {
        return Err(refused(GroupError::UnknownMemberId));
    };
    let is_unknown = request.member_id.is_empty();
    let id: Arc<str> = match request.member_id.as_str() {
        "" => request.fresh_id.to_string().into(),
        id => id.into(),
    };
    let full = group.members().len() >= turn.config.consumer_max_size;
    if full && group.member(&id).is_none() {
        return Err((GroupError::GroupMaxSizeReached, "".into()));
    }
    if !supports(group, request) {
        return Err(refused(GroupError::InconsistentGroupProtocol));
    }
    if is_unknown && request.group_instance_id.is_none() && request.requires_known_member_id {
        return Err((GroupError::MemberIdRequired, id));
    }
    // What cannot be read is of another protocol, whatever it calls itself.
    let subscription = request
        .protocols
        .first()
        .and_then(|protocol| Subscription::decode(&protocol.metadata).ok())
        .ok_or_else(|| refused(GroupError::InconsistentGroupProtocol))?;

    let mut draft = Draft::of(group_id, group);
    let (replaced, member, downgrades) = match &request.group_instance_id {
        None => (None, group.member(&id).cloned().unwrap_or_default(), false),
        Some(instance_id) => {
            let existing = group.static_member(instance_id);
            let downgrades = existing.is_some_and(|(_, existing)| {
                convert::may_downgrade_replacing(group, existing, turn.config)
            });
            let existing = existing.map(|(id, member)| (id.clone(), member.clone()));
            match existing {
                None if is_unknown => (None, Arc::default(), false),
                None => return Err(refused(GroupError::UnknownMemberId)),
                Some((old, existing)) if is_unknown => {
                    let member = replace_member(&mut draft, &old, &existing, &id);
                    (Some(old), member, downgrades)
                }
                Some((owner, _)) if owner != id => {
                    return Err(refused(GroupError::FencedInstanceId));
                }
                Some((_, existing)) => (None, existing, downgrades),
            }
        }
    };
    let owned: Vec<OwnedTopic> = convert::with_ids(&subscription.owned, turn.topics)
        .into_iter()
        .map(|(topic_id, partitions)| OwnedTopic {
            topic_id,
            partitions: partitions.into_iter().collect(),
        })
        .collect();
    // It joins when it is done with what it was assigned, and with what it had to give up.
    let says = Says {
        owned: Some(&owned),
        word: Word::Whole,
        starts_anew: false,
    };
    let value = updated(&member.value, request, subscription);
    let before_bytes = draft.group().bytes();
    let all: Vec<Arc<str>> = group.members().keys().cloned().collect();
    let soft = &mut groups.soft.consumer;
    let mut downgraded = None;
    let (joined_epoch, has_room);
    if downgrades {
        let changed = change::subscribe(&mut draft, soft, turn, &id, &member.value, value)
            .map_err(|refusal| refused(refusal.error))?;
        if !changed {
            change::reconcile(&mut draft, turn, &id, false, says).map_err(|refusal| {
                soft.forget_topics(group_id);
                refused(refusal.error)
            })?;
        }
        has_room = draft.fits(turn.config);
        joined_epoch = epoch_of(&draft, &id);
        let (classic, leader) = convert::downgrade(&mut draft, turn);
        downgraded = Some(Downgraded {
            gone: all,
            classic,
            leader,
            rebalance: changed,
        });
    } else {
        let change = Change {
            id: &id,
            old: &member.value,
            value,
            says,
        };
        change::apply(&mut draft, soft, turn, change).map_err(|refusal| refused(refusal.error))?;
        let more_bytes = draft.group().bytes().saturating_sub(before_bytes);
        has_room = draft.fits(turn.config)
            && groups
                .soft
                .take_member_bytes(&groups.hard, more_bytes, turn);
        joined_epoch = epoch_of(&draft, &id);
    }
    if !has_room {
        groups.soft.consumer.forget_topics(group_id);
        return Err(refused(GroupError::GroupMaxSizeReached));
    }
    let joined = Joined {
        generation_id: joined_epoch,
        protocol_type: Some(CONSUMER.to_owned()),
        protocol_name: request
            .protocols
            .first()
            .map(|protocol| protocol.name.clone()),
        member_id: id.to_string(),
        ..Joined::default()
    };
    Ok(Join {
        joined,
        id,
        replaced,
        records: draft.into_records(),
        downgraded,
    })
}

fn epoch_of(draft: &Draft<'_>, id: &str) -> i32 {
    draft
        .group()
        .member(id)
        .map_or(0, |member| member.current.epoch)
}

/// Whether the member's protocols fit: it is a consumer, and one of its protocols is known to all
/// members that speak the classic protocol.
fn supports(group: &ConsumerGroup, request: &JoinGroup) -> bool {
    let classic = || {
        group
            .members()
            .values()
            .filter_map(|member| member.value.classic.as_ref())
    };
    let all_have = |name: &str| {
        classic().all(|classic| classic.protocols.iter().any(|(known, _)| known == name))
    };
    request.protocol_type == CONSUMER && request.protocols.iter().any(|p| all_have(&p.name))
}

/// What the member says of itself from now on.
fn updated(old: &MemberValue, request: &JoinGroup, subscription: Subscription) -> MemberValue {
    let mut value = old.clone();
    if request.group_instance_id.is_some() {
        value.instance_id.clone_from(&request.group_instance_id);
    }
    if subscription.rack_id.is_some() {
        value.rack_id = subscription.rack_id;
    }
    value.rebalance_timeout_ms = rebalance_timeout_ms(request);
    value.topic_names = subscription.topics;
    // The classic protocol has no expressions.
    value.topic_regex = value.topic_regex.map(|_| String::new());
    value.client_id.clone_from(&request.client.id);
    value.client_host.clone_from(&request.client.host);
    value.classic = Some(ClassicValue {
        session_timeout_ms: request.session_timeout_ms,
        protocols: convert::pairs(&request.protocols),
    });
    value
}

/// The member of that id, or that has the instance id, if it speaks the classic protocol.
fn member_of(
    group: &ConsumerGroup,
    member_id: &str,
    instance_id: Option<&str>,
) -> Result<(Arc<str>, Arc<Member>), GroupError> {
    let (id, member) = match instance_id {
        None => group
            .members()
            .get_key_value(member_id)
            .ok_or(GroupError::UnknownMemberId)?,
        Some(instance_id) => {
            let found = group
                .static_member(instance_id)
                .ok_or(GroupError::UnknownMemberId)?;
            if **found.0 != *member_id {
                return Err(GroupError::FencedInstanceId);
            }
            found
        }
    };
    if member.is_classic() {
        Ok((id.clone(), member.clone()))
    } else {
        Err(GroupError::UnknownMemberId)
    }
}

/// The group, and the member of that id and instance id, if this is its generation.
fn current_member<'a>(
    groups: &'a Groups,
    group_id: &str,
    (member_id, instance_id): (&str, Option<&str>),
    generation_id: i32,
) -> Result<(&'a ConsumerGroup, Arc<str>, Arc<Member>), GroupError> {
    let group = groups
        .consumer(group_id)
        .ok_or(GroupError::UnknownMemberId)?;
    let (id, member) = member_of(group, member_id, instance_id)?;
    if generation_id != member.current.epoch {
        return Err(GroupError::IllegalGeneration);
    }
    Ok((group, id, member))
}

/// SyncGroup to a consumer group that has members.
pub(crate) fn sync(groups: &mut Groups, request: SyncGroup, reply: ReplyId, turn: &mut Turn<'_>) {
    let response = match decide_sync(groups, &request, turn) {
        Ok(response) => response,
        Err(error) => SyncGroupResponse::refused(error),
    };
    turn.answer(reply, Response::SyncGroup(response));
}

fn decide_sync(
    groups: &mut Groups,
    request: &SyncGroup,
    turn: &mut Turn<'_>,
) -> Result<SyncGroupResponse, GroupError> {
    let group_id: Arc<str> = request.group_id.as_str().into();
    let instance_id = request.group_instance_id.as_deref();
    let who = (request.member_id.as_str(), instance_id);
    let (group, id, member) = current_member(groups, &group_id, who, request.generation_id)?;
    let first = member
        .value
        .classic
        .as_ref()
        .and_then(|classic| classic.protocols.first());
    let fits = |asked: &Option<String>, known: &str| asked.as_deref().is_none_or(|a| a == known);
    if !fits(&request.protocol_type, CONSUMER)
        || !first.is_some_and(|(name, _)| fits(&request.protocol_name, name))
    {
        return Err(GroupError::InconsistentGroupProtocol);
    }
    // A member that gives partitions back has joined already; it joins once more afterwards.
    if group.epoch() > member.current.epoch
        && member.current.state != MemberState::UnrevokedPartitions
    {
        let timeout_ms = member.value.rebalance_timeout_ms;
        timers::expect_join(groups, &group_id, &id, timeout_ms, turn);
        return Err(GroupError::RebalanceInProgress);
    }
    let version = first
        .and_then(|(_, metadata)| Subscription::decode(metadata).ok())
        .map_or(0, |subscription| subscription.version);
    let assigned = convert::with_names(&member.current.assigned, turn.topics);
    timers::synced(&group_id, &id, turn);
    timers::session(
        &group_id,
        &id,
        timers::session_timeout_ms(&member, turn),
        turn,
    );
    Ok(SyncGroupResponse {
        error: None,
        protocol_type: request.protocol_type.clone(),
        protocol_name: request.protocol_name.clone(),
        assignment: embedded::encode_assignment(version, &assigned),
    })
}

/// Heartbeat to a consumer group that has members.
pub(crate) fn heartbeat(
    groups: &mut Groups,
    request: Heartbeat,
    reply: ReplyId,
    turn: &mut Turn<'_>,
) {
    let answer = decide_heartbeat(groups, &request, turn);
    turn.answer(reply, Response::Heartbeat(answer));
}

fn decide_heartbeat(
    groups: &mut Groups,
    request: &Heartbeat,
    turn: &mut Turn<'_>,
) -> Result<(), GroupError> {
    let group_id: Arc<str> = request.group_id.as_str().into();
    let instance_id = request.group_instance_id.as_deref();
    let who = (request.member_id.as_str(), instance_id);
    let (group, id, member) = current_member(groups, &group_id, who, request.generation_id)?;
    timers::session(
        &group_id,
        &id,
        timers::session_timeout_ms(&member, turn),
        turn,
    );
    // It joins again when the group has a new epoch, when it has given back what it must, and
    // when what it waits for is free.
    let must_join = member.current.epoch < group.epoch()
        || match member.current.state {
            MemberState::UnrevokedPartitions => true,
            MemberState::UnreleasedPartitions => !group.waits_for_others(&id, &member),
            MemberState::Stable | MemberState::Unknown => false,
        };
    if must_join {
        let timeout_ms = member.value.rebalance_timeout_ms;
        timers::expect_join(groups, &group_id, &id, timeout_ms, turn);
        return Err(GroupError::RebalanceInProgress);
    }
    Ok(())
}

/// LeaveGroup to a consumer group that has members.
pub(crate) fn leave(groups: &mut Groups, request: LeaveGroup, reply: ReplyId, turn: &mut Turn<'_>) {
    let mut gone: Vec<Arc<str>> = Vec::new();
    let mut members = Vec::new();
    for leaving in &request.members {
        let found = match groups.consumer(&request.group_id) {
            Some(group) => leaving_member(group, leaving),
            None => Err(GroupError::UnknownMemberId),
        };
        let error = match found {
            Ok(id) => {
                if !gone.contains(&id) {
                    gone.push(id);
                }
                None
            }
            Err(error) => Some(error),
        };
        members.push(LeftMember {
            member_id: leaving.member_id.clone(),
            group_instance_id: leaving.group_instance_id.clone(),
            error,
        });
    }
    fence::fence(groups, &request.group_id, &gone, turn);
    turn.answer(
        reply,
        Response::LeaveGroup(LeaveGroupResponse {
            error: None,
            members,
        }),
    );
}

/// Who leaves. An admin knows static members by their instance ids only, and may take out members
/// of either protocol.
fn leaving_member(group: &ConsumerGroup, leaving: &LeavingMember) -> Result<Arc<str>, GroupError> {
    let found = match &leaving.group_instance_id {
        None => group.members().get_key_value(leaving.member_id.as_str()),
        Some(instance_id) => group.static_member(instance_id),
    };
    let (id, _) = found.ok_or(GroupError::UnknownMemberId)?;
    let by_instance = leaving.member_id.is_empty() && leaving.group_instance_id.is_some();
    if by_instance || **id == *leaving.member_id {
        Ok(id.clone())
    } else {
        Err(GroupError::FencedInstanceId)
    }
}

//! What the leader of the coordinator knows of a classic group.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use coordinator::ReplyId;

use super::member::Member;
use super::{ClassicTimer, session_timer, timer};
use crate::command::{Client, GroupProtocol, JoinGroup};
use crate::config::GroupsConfig;
use crate::error::GroupError;
use crate::record::embedded::Subscription;
use crate::record::{ClassicMemberValue, ClassicValue};
use crate::response::{Joined, JoinedMember, Response, SyncGroupResponse};
use crate::turn::Turn;

/// The protocol type whose metadata has a form that the coordinator can read.
const CONSUMER: &str = "consumer";

/// Where a classic group is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// No members.
    Empty,
    /// Waits for members to join.
    PreparingRebalance,
    /// Waits for the leader to assign.
    CompletingRebalance,
    /// Everybody has an assignment.
    Stable,
}

impl State {
    /// Kafka's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// The first rebalance of a group that was empty, which waits for others to come as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Initial {
    /// The wait that runs.
    pub(super) delay_ms: i32,
    /// What may be waited besides.
    pub(super) remaining_ms: i32,
    /// Somebody came during the wait that runs.
    pub(super) has_new_member: bool,
}

/// A classic group under the leader.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) group_id: String,
    pub(crate) state: State,
    /// When it got into the state; `None`: an old record did not say.
    pub(crate) state_since_ms: Option<i64>,
    /// `Some` only in `PreparingRebalance`.
    pub(super) initial: Option<Initial>,
    /// `None` until it has had a member.
    pub(crate) protocol_type: Option<String>,
    /// Chosen at the end of each joining; `None` when empty.
    pub(crate) protocol: Option<String>,
    pub(crate) generation: i32,
    /// A member, whenever there are any.
    pub(crate) leader: Option<String>,
    pub(crate) members: BTreeMap<String, Member>,
    /// The members with an instance id, by it.
    pub(super) static_members: BTreeMap<String, String>,
    /// Ids given with MEMBER_ID_REQUIRED that did not join yet. None is a member.
    pub(crate) pending: BTreeSet<String>,
    /// Members that were told of the generation and have not asked for their assignment.
    pub(super) pending_sync: BTreeSet<String>,
    /// How many members wait for the answer to their JoinGroup.
    awaiting_join: usize,
    /// How many members support each protocol; no zeros.
    supported: BTreeMap<String, usize>,
    /// What all members say of themselves, in memory and at most in the group's record.
    bytes: Size,
    /// The topics of all members, when it is known how to read that.
    subscribed_topics: Option<BTreeSet<String>>,
}

/// How large members are.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    memory: usize,
    record: usize,
}

/// About what an id takes that was given to come back with.
pub(super) const PENDING_BYTES: usize = 1_536;

impl Live {
    /// A group that nobody has joined.
    pub(crate) fn new(group_id: &str, now_ms: i64) -> Self {
        Self {
            group_id: group_id.to_owned(),
            state: State::Empty,
            state_since_ms: Some(now_ms),
            initial: None,
            protocol_type: None,
            protocol: None,
            generation: 0,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending: BTreeSet::new(),
            pending_sync: BTreeSet::new(),
            awaiting_join: 0,
            supported: BTreeMap::new(),
            bytes: Size::default(),
            subscribed_topics: None,
        }
    }

    /// The group as the log has it.
    pub(super) fn of_value(group_id: &str, value: &ClassicValue) -> Self {
        let protocol = value.protocol.clone().unwrap_or_default();
        let members = value.members.iter().map(|member| {
            let rebalance_timeout_ms = match member.rebalance_timeout_ms {
                -1 => member.session_timeout_ms,
                given => given,
            };
            let loaded = Member {
                instance_id: member.group_instance_id.clone(),
                client: Client {
                    id: member.client_id.clone(),
                    host: member.client_host.clone(),
                },
                session_timeout_ms: member.session_timeout_ms,
                rebalance_timeout_ms,
                protocols: vec![GroupProtocol {
                    name: protocol.clone(),
                    metadata: member.subscription.clone(),
                }],
                assignment: member.assignment.clone(),
                ..Member::default()
            };
            (member.member_id.clone(), loaded)
        });
        let mut live = Self::new(group_id, value.current_state_timestamp_ms);
        if value.current_state_timestamp_ms == -1 {
            live.state_since_ms = None;
        }
        live.generation = value.generation;
        live.protocol_type = Some(value.protocol_type.clone()).filter(|name| !name.is_empty());
        live.protocol = value.protocol.clone();
        live.leader = value.leader.clone();
        live.take_members(members);
        live
    }

    /// Makes these the members of a group that has none, which makes it stable if there are any.
    pub(super) fn take_members(&mut self, members: impl IntoIterator<Item = (String, Member)>) {
        for (member_id, member) in members {
            self.add(&member_id, member, None);
        }
        if !self.members.is_empty() {
            self.state = State::Stable;
        }
        let leads = |id: &String| self.members.contains_key(id);
        if !self.leader.as_ref().is_some_and(leads) {
            self.leader = self.members.keys().next().cloned();
        }
        self.find_subscribed_topics();
    }

    /// The group as the log shall have it.
    pub(crate) fn value(&self) -> ClassicValue {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.iter().map(|(id, member)| ClassicMemberValue {
            member_id: id.clone(),
            group_instance_id: member.instance_id.clone(),
            client_id: member.client.id.clone(),
            client_host: member.client.host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: member.metadata(protocol),
            assignment: member.assignment.clone(),
        });
        ClassicValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            current_state_timestamp_ms: self.state_since_ms.unwrap_or(-1),
            members: members.collect(),
        }
    }

    pub(super) fn transition(&mut self, state: State, now_ms: i64) {
        self.state = state;
        self.state_since_ms = Some(now_ms);
        self.initial = None;
    }

    /// Whether nothing is lost when it is forgotten.
    pub(crate) fn is_vacant(&self) -> bool {
        self.state == State::Empty && self.pending.is_empty()
    }

    pub(crate) fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    /// Whether a member reads the topic. When that cannot be known: yes, if it could be.
    pub(crate) fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed_topics {
            Some(topics) => topics.contains(topic),
            None => self.uses_consumer_protocol(),
        }
    }

    /// Whether it is known what the members read.
    pub(crate) fn knows_subscribed_topics(&self) -> bool {
        self.subscribed_topics.is_some()
    }

    pub(super) fn find_subscribed_topics(&mut self) {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let read = |member: &Member| Subscription::decode(&member.metadata(protocol));
        self.subscribed_topics = if self.uses_consumer_protocol() {
            let found: Result<Vec<_>, _> = self.members.values().map(read).collect();
            let topics = |all: Vec<Subscription>| all.into_iter().flat_map(|one| one.topics);
            found.ok().map(|all| topics(all).collect())
        } else {
            None
        };
    }

    /// The member that the command is of, or whose place it takes.
    pub(super) fn member_of(&self, command: &JoinGroup) -> Option<&Member> {
        let instance = command.group_instance_id.as_ref();
        let of_instance = instance.and_then(|id| self.static_members.get(id));
        self.members.get(of_instance.unwrap_or(&command.member_id))
    }

    /// Adds a member that is not there yet, whose JoinGroup waits or not.
    pub(super) fn add(&mut self, member_id: &str, mut member: Member, join: Option<ReplyId>) {
        self.pending.remove(member_id);
        if let Some(instance_id) = &member.instance_id {
            let (instance_id, member_id) = (instance_id.clone(), member_id.to_owned());
            self.static_members.insert(instance_id, member_id);
        }
        if self.leader.is_none() {
            self.leader = Some(member_id.to_owned());
        }
        self.count(&member);
        member.join = join;
        self.awaiting_join += usize::from(join.is_some());
        self.members.insert(member_id.to_owned(), member);
    }

    /// Removes a member, or an id that waits for its member. What the member waits for is answered
    /// with UNKNOWN_MEMBER_ID.
    pub(super) fn remove(&mut self, member_id: &str, turn: &mut Turn<'_>) {
        self.answer_waiting(member_id, GroupError::UnknownMemberId, turn);
        turn.cancel_timer(session_timer(&self.group_id, member_id));
        self.pending.remove(member_id);
        self.pending_sync.remove(member_id);
        let Some(member) = self.members.remove(member_id) else {
            return;
        };
        self.uncount(&member);
        if let Some(instance_id) = &member.instance_id {
            self.static_members.remove(instance_id);
        }
        if self.leader.as_deref() == Some(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// Gives a static member's place to a new id; the old one is fenced.
    pub(super) fn replace_static(&mut self, old_id: &str, new_id: &str, turn: &mut Turn<'_>) {
        self.answer_waiting(old_id, GroupError::FencedInstanceId, turn);
        turn.cancel_timer(session_timer(&self.group_id, old_id));
        let Some(mut member) = self.members.remove(old_id) else {
            return;
        };
        member.is_new = false;
        if let Some(instance_id) = &member.instance_id {
            let (instance_id, new_id) = (instance_id.clone(), new_id.to_owned());
            self.static_members.insert(instance_id, new_id);
        }
        if self.leader.as_deref() == Some(old_id) {
            self.leader = Some(new_id.to_owned());
        }
        if self.pending_sync.remove(old_id) {
            self.pending_sync.insert(new_id.to_owned());
        }
        self.members.insert(new_id.to_owned(), member);
    }

    /// Changes what a member said of itself.
    pub(super) fn update(&mut self, member_id: &str, change: impl FnOnce(&mut Member)) {
        let Some(mut member) = self.members.remove(member_id) else {
            return;
        };
        self.uncount(&member);
        change(&mut member);
        self.count(&member);
        self.members.insert(member_id.to_owned(), member);
    }

    fn count(&mut self, member: &Member) {
        self.bytes.memory += member.bytes();
        self.bytes.record += member.record_bytes();
        for name in member.protocol_names() {
            *self.supported.entry(name.to_owned()).or_default() += 1;
        }
    }

    fn uncount(&mut self, member: &Member) {
        self.bytes.memory -= member.bytes();
        self.bytes.record -= member.record_bytes();
        for name in member.protocol_names() {
            if let Some(members) = self.supported.get_mut(name) {
                *members -= 1;
                if *members == 0 {
                    self.supported.remove(name);
                }
            }
        }
    }

    /// About what it takes in memory, without what members are assigned.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.memory + self.pending.len() * PENDING_BYTES
    }

    /// How many bytes more this member takes than the one in whose place it comes; `None`: more than
    /// the group may.
    pub(super) fn more_bytes(
        &self,
        before: Option<&Member>,
        member: &Member,
        config: &GroupsConfig,
    ) -> Option<usize> {
        let more = |before: Option<usize>, now: usize| now.saturating_sub(before.unwrap_or(0));
        let memory = more(before.map(Member::bytes), member.bytes());
        let record = more(before.map(Member::record_bytes), member.record_bytes());
        let fits = |more, sum, max| more == 0 || sum + more <= max;
        let is_fit = fits(
            memory,
            self.bytes.memory,
            config.members_bytes_per_group_max,
        ) && fits(record, self.bytes.record, config.record_bytes_max);
        is_fit.then_some(memory)
    }

    /// Whether a member of this protocol type, with these protocols, fits in.
    pub(super) fn supports(&self, protocol_type: &str, protocols: &[GroupProtocol]) -> bool {
        if self.state == State::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols
                .iter()
                .any(|one| self.is_supported_by_all(&one.name))
    }

    fn is_supported_by_all(&self, protocol: &str) -> bool {
        self.supported.get(protocol).copied().unwrap_or(0) == self.members.len()
    }

    /// The protocol that most members like best of those that all support; of two with as many
    /// votes the first by name.
    pub(super) fn select_protocol(&self) -> Option<String> {
        let by_all = |name: &str| self.is_supported_by_all(name);
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let vote = member.protocols.iter().find(|one| by_all(&one.name));
            if let Some(vote) = vote {
                *votes.entry(&vote.name).or_default() += 1;
            }
        }
        let most = votes.values().max()?;
        let chosen = votes.iter().find(|(_, votes)| *votes == most);
        chosen.map(|(name, _)| (*name).to_owned())
    }

    /// The longest rebalance timeout of a member.
    pub(super) fn rebalance_timeout_ms(&self) -> i32 {
        let timeouts = self.members.values().map(|one| one.rebalance_timeout_ms);
        timeouts.max().unwrap_or(0).max(0)
    }

    pub(super) fn awaiting_join(&self) -> usize {
        self.awaiting_join
    }

    pub(super) fn has_all_joined(&self) -> bool {
        self.awaiting_join == self.members.len() && self.pending.is_empty()
    }

    /// Whether the leader waits for the answer to its JoinGroup; makes a member that does the leader
    /// if not.
    pub(super) fn elect_joined_leader(&mut self) -> bool {
        let is_joined = |id: &String| self.members.get(id).is_some_and(|one| one.join.is_some());
        if self.leader.as_ref().is_some_and(is_joined) {
            return true;
        }
        let joined = self.members.iter().find(|(_, one)| one.join.is_some());
        let Some(leader) = joined.map(|(id, _)| id.clone()) else {
            return false;
        };
        self.leader = Some(leader);
        true
    }

    /// The member's JoinGroup waits. One that already waited is answered: the client has given it
    /// up, or would not have sent another.
    pub(super) fn await_join(&mut self, member_id: &str, reply: ReplyId, turn: &mut Turn<'_>) {
        let given_up = Joined::refused(member_id, GroupError::RebalanceInProgress);
        self.answer_join(member_id, given_up, turn);
        if let Some(member) = self.members.get_mut(member_id) {
            member.join = Some(reply);
            self.awaiting_join += 1;
        }
    }

    /// The member's SyncGroup waits. As for JoinGroup.
    pub(super) fn await_sync(&mut self, member_id: &str, reply: ReplyId, turn: &mut Turn<'_>) {
        let given_up = SyncGroupResponse::refused(GroupError::RebalanceInProgress);
        self.answer_sync(member_id, given_up, turn);
        if let Some(member) = self.members.get_mut(member_id) {
            member.sync = Some(reply);
        }
    }

    /// Answers the member's JoinGroup, if one waits.
    pub(super) fn answer_join(&mut self, member_id: &str, answer: Joined, turn: &mut Turn<'_>) {
        let waiting = self
            .members
            .get_mut(member_id)
            .and_then(|one| one.join.take());
        if let Some(reply) = waiting {
            self.awaiting_join -= 1;
            turn.answer(reply, Response::JoinGroup(answer));
        }
    }

    /// Answers the member's SyncGroup, if one waits, and then counts its silence from now.
    pub(super) fn answer_sync(
        &mut self,
        member_id: &str,
        answer: SyncGroupResponse,
        turn: &mut Turn<'_>,
    ) {
        let waiting = self
            .members
            .get_mut(member_id)
            .and_then(|one| one.sync.take());
        if let Some(reply) = waiting {
            turn.answer(reply, Response::SyncGroup(answer));
            self.set_session_timer(member_id, turn);
        }
    }

    /// Answers all that a member waits for with an error.
    pub(super) fn answer_waiting(
        &mut self,
        member_id: &str,
        error: GroupError,
        turn: &mut Turn<'_>,
    ) {
        // Who is not a member any more must come without an id.
        let answer_id = match error {
            GroupError::UnknownMemberId => "",
            _ => member_id,
        };
        self.answer_join(member_id, Joined::refused(answer_id, error), turn);
        self.answer_sync(member_id, SyncGroupResponse::refused(error), turn);
    }

    /// What a member learns of the generation.
    pub(super) fn joined(&self, member_id: &str, skip_assignment: bool) -> Joined {
        let is_leader = self.leader.as_deref() == Some(member_id);
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let describe = |(id, member): (&String, &Member)| JoinedMember {
            member_id: id.clone(),
            group_instance_id: member.instance_id.clone(),
            metadata: member.metadata(protocol),
        };
        Joined {
            error: None,
            generation_id: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: skip_assignment && is_leader,
            member_id: member_id.to_owned(),
            members: if is_leader {
                self.members.iter().map(describe).collect()
            } else {
                Vec::new()
            },
        }
    }

    /// What a member gets.
    pub(super) fn synced(&self, member_id: &str) -> SyncGroupResponse {
        let member = self.members.get(member_id);
        SyncGroupResponse {
            error: None,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            assignment: member
                .map(|member| member.assignment.clone())
                .unwrap_or_default(),
        }
    }

    /// Nobody has an assignment, and who waits for one is told why.
    pub(super) fn refuse_assignments(&mut self, error: GroupError, turn: &mut Turn<'_>) {
        let member_ids: Vec<String> = self.members.keys().cloned().collect();
        for member_id in &member_ids {
            self.answer_sync(member_id, SyncGroupResponse::refused(error), turn);
        }
        for member in self.members.values_mut() {
            member.assignment = Bytes::new();
        }
    }

    /// Whether the ids are of a member.
    pub(super) fn check_member(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), GroupError> {
        if let Some(instance_id) = instance_id {
            let owner = self.static_members.get(instance_id);
            let owner = owner.ok_or(GroupError::UnknownMemberId)?;
            if owner != member_id {
                return Err(GroupError::FencedInstanceId);
            }
        }
        if !self.members.contains_key(member_id) {
            return Err(GroupError::UnknownMemberId);
        }
        Ok(())
    }

    /// Counts the member's silence from now.
    pub(crate) fn set_session_timer(&self, member_id: &str, turn: &mut Turn<'_>) {
        if let Some(member) = self.members.get(member_id) {
            let timer = session_timer(&self.group_id, member_id);
            turn.set_timer(timer, member.session_timeout_ms.into());
        }
    }

    pub(super) fn set_session_timers(&self, turn: &mut Turn<'_>) {
        for member_id in self.members.keys() {
            self.set_session_timer(member_id, turn);
        }
    }

    /// Cancels all timers of the group.
    pub(crate) fn cancel_timers(&self, turn: &mut Turn<'_>) {
        for member_id in self.members.keys().chain(&self.pending) {
            turn.cancel_timer(session_timer(&self.group_id, member_id));
        }
        turn.cancel_timer(timer(&self.group_id, ClassicTimer::Join));
        turn.cancel_timer(timer(&self.group_id, ClassicTimer::Sync));
    }
}

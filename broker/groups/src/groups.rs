//! All groups of one partition of `__consumer_offsets`: the map, and who answers what.

use std::collections::BTreeMap;
use std::sync::Arc;

use coordinator::{Coordinator, Effects, ReplyId};

use crate::classic::{self, ClassicGroup, ClassicTimer};
use crate::command::{Command, Heartbeat, JoinGroup, LeaveGroup, SyncGroup};
use crate::config::GroupsConfig;
use crate::consumer::{self, ConsumerGroup, ConsumerTimer, classic_members};
use crate::error::GroupError;
use crate::offsets::{self, Offsets};
use crate::record::{ClassicValue, ConsumerRecord, Record};
use crate::response::{Joined, LeaveGroupResponse, Response, SyncGroupResponse};
use crate::topics::Topics;
use crate::turn::Turn;

/// The groups of one partition of `__consumer_offsets`.
#[derive(Debug, Clone)]
pub struct Groups {
    pub(crate) config: Arc<GroupsConfig>,
    pub(crate) hard: Hard,
    pub(crate) soft: Soft,
}

/// The hard state: changed by records only.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hard {
    pub(crate) groups: BTreeMap<String, Group>,
    pub(crate) offsets: Offsets,
}

/// A group that the log knows. A group of offsets only is not among them.
#[derive(Debug, Clone, PartialEq)]
pub enum Group {
    /// Members join, the leader among them assigns.
    Classic(ClassicGroup),
    /// Members heartbeat, the coordinator assigns (KIP-848).
    Consumer(ConsumerGroup),
}

impl Group {
    fn classic_value(&self) -> Option<ClassicValue> {
        match self {
            Self::Classic(group) => Some(group.value.clone()),
            Self::Consumer(_) => None,
        }
    }
}

/// What only the leader has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Soft {
    /// All classic groups, those that the log does not know yet among them.
    pub(crate) classic: BTreeMap<String, classic::Live>,
    pub(crate) consumer: consumer::Soft,
    pub(crate) expiry: offsets::Cursor,
    pub(crate) deleted_topics: offsets::DeletedTopics,
    /// At least what the members of all groups take in memory. Counted anew when that is too much,
    /// but not before this time.
    members_bytes: usize,
    recount_at_ms: i64,
}

/// How long it is taken for granted that members take too much memory, once it was counted.
const RECOUNT_MS: i64 = 1_000;

impl Soft {
    fn bytes_left(&self, hard: &Hard, config: &GroupsConfig) -> usize {
        let taken = self.members_bytes + hard.offsets.bytes();
        config.coordinator_bytes_max.saturating_sub(taken)
    }

    /// Whether there is room for so much more of members; takes it then.
    pub(crate) fn take_member_bytes(&mut self, hard: &Hard, bytes: usize, turn: &Turn<'_>) -> bool {
        if bytes > self.bytes_left(hard, turn.config) && turn.now_ms >= self.recount_at_ms {
            self.members_bytes = self.count_member_bytes(hard);
            self.recount_at_ms = turn.now_ms.saturating_add(RECOUNT_MS);
        }
        let has_room = bytes == 0 || bytes <= self.bytes_left(hard, turn.config);
        if has_room {
            self.members_bytes += bytes;
        }
        has_room
    }

    fn count_member_bytes(&self, hard: &Hard) -> usize {
        let classic = self.classic.values().map(classic::Live::bytes);
        let groups = hard.groups.values();
        let consumer = groups.filter_map(|group| match group {
            Group::Consumer(group) => Some(group.bytes()),
            Group::Classic(_) => None,
        });
        classic.chain(consumer).sum()
    }
}

/// What there is under the id of a group.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Found<'a> {
    Classic(&'a classic::Live),
    Consumer(&'a ConsumerGroup),
    /// A consumer that assigns partitions to itself keeps its offsets here.
    OffsetsOnly,
}

impl Found<'_> {
    /// Whether it has no members. Ids that were given to come back with do not count.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Classic(live) => live.state == classic::State::Empty,
            Self::Consumer(group) => group.is_empty(),
            Self::OffsetsOnly => true,
        }
    }

    /// Whether a member reads the topic, or may.
    pub(crate) fn is_subscribed_to(&self, topic: &str) -> bool {
        match self {
            Self::Classic(live) => live.is_subscribed_to(topic),
            Self::Consumer(group) => group.is_subscribed_to(topic),
            Self::OffsetsOnly => false,
        }
    }
}

/// What the timers of groups are named by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Look for offsets and groups that expire.
    Expiry,
    /// Go on forgetting the offsets of deleted topics.
    DeletedTopics,
    /// Of a classic group.
    Classic {
        /// The group.
        group_id: String,
        /// Which.
        timer: ClassicTimer,
    },
    /// Of a consumer group.
    Consumer {
        /// The group.
        group_id: String,
        /// Which.
        timer: ConsumerTimer,
    },
}

impl Groups {
    /// No groups yet.
    #[must_use]
    pub fn new(config: GroupsConfig) -> Self {
        Self {
            config: Arc::new(config.within_formats()),
            hard: Hard::default(),
            soft: Soft::default(),
        }
    }

    /// The consumer group of this id.
    pub(crate) fn consumer(&self, group_id: &str) -> Option<&ConsumerGroup> {
        match self.hard.groups.get(group_id) {
            Some(Group::Consumer(group)) => Some(group),
            _ => None,
        }
    }

    /// What there is under this id. For leaders: the others do not know of classic groups.
    pub(crate) fn find(&self, group_id: &str) -> Option<Found<'_>> {
        if let Some(live) = self.soft.classic.get(group_id) {
            return Some(Found::Classic(live));
        }
        if let Some(group) = self.consumer(group_id) {
            return Some(Found::Consumer(group));
        }
        let offsets = self.hard.offsets.of_group(group_id);
        offsets.map(|_| Found::OffsetsOnly)
    }

    /// Whether there may be another group.
    pub(crate) fn has_room(&self, config: &GroupsConfig) -> bool {
        let groups = self.hard.groups.len().max(self.soft.classic.len());
        groups.max(self.hard.offsets.groups().len()) < config.groups_max
    }

    /// How much more memory members and offsets may take.
    pub(crate) fn bytes_left(&self) -> usize {
        self.soft.bytes_left(&self.hard, &self.config)
    }

    /// Whether somebody has been told to come back with an id.
    pub(crate) fn expects_members(&self, group_id: &str) -> bool {
        let live = self.soft.classic.get(group_id);
        live.is_some_and(|live| !live.pending.is_empty())
    }

    /// Forgets a classic group that nobody is in and that the log does not know.
    pub(crate) fn forget_if_vacant(&mut self, group_id: &str) {
        // From the first generation on the log knows it, or will when this call is over.
        let is_vacant = |live: &classic::Live| live.is_vacant() && live.generation == 0;
        let live = self.soft.classic.get(group_id);
        if live.is_some_and(is_vacant) && !self.hard.groups.contains_key(group_id) {
            self.soft.classic.remove(group_id);
        }
    }

    fn join(&mut self, command: JoinGroup, reply: ReplyId, turn: &mut Turn<'_>) {
        if let Err(error) = classic::check_join(&command, turn.config) {
            let refused = Joined::refused(&command.member_id, error);
            turn.answer(reply, Response::JoinGroup(refused));
            return;
        }
        match self.consumer(&command.group_id) {
            Some(group) if !group.is_empty() => {
                classic_members::join(self, command, reply, turn);
            }
            // An empty consumer group makes way for a classic one. Its offsets stay.
            Some(_) if command.member_id.is_empty() => {
                self.delete_if_empty(&command.group_id, turn);
                classic::join(self, command, reply, turn);
            }
            Some(_) | None => classic::join(self, command, reply, turn),
        }
    }

    fn sync(&mut self, command: SyncGroup, reply: ReplyId, turn: &mut Turn<'_>) {
        if command.group_id.is_empty() {
            let refused = SyncGroupResponse::refused(GroupError::InvalidGroupId);
            turn.answer(reply, Response::SyncGroup(refused));
        } else if self.consumer(&command.group_id).is_some() {
            classic_members::sync(self, command, reply, turn);
        } else {
            classic::sync(self, command, reply, turn);
        }
    }

    fn heartbeat(&mut self, command: Heartbeat, reply: ReplyId, turn: &mut Turn<'_>) {
        if command.group_id.is_empty() {
            let refused = Err(GroupError::InvalidGroupId);
            turn.answer(reply, Response::Heartbeat(refused));
        } else if self.consumer(&command.group_id).is_some() {
            classic_members::heartbeat(self, command, reply, turn);
        } else {
            classic::heartbeat(self, &command, reply, turn);
        }
    }

    fn leave(&mut self, command: LeaveGroup, reply: ReplyId, turn: &mut Turn<'_>) {
        if command.group_id.is_empty() {
            let refused = LeaveGroupResponse {
                error: Some(GroupError::InvalidGroupId),
                members: Vec::new(),
            };
            turn.answer(reply, Response::LeaveGroup(refused));
        } else if self.consumer(&command.group_id).is_some() {
            classic_members::leave(self, command, reply, turn);
        } else {
            classic::leave(self, command, reply, turn);
        }
    }
}

impl Hard {
    fn replay_consumer(&mut self, record: &ConsumerRecord) {
        let group_id: &str = record.group();
        if !record.is_tombstone() && !matches!(self.groups.get(group_id), Some(Group::Consumer(_)))
        {
            let group = Group::Consumer(ConsumerGroup::default());
            self.groups.insert(group_id.to_owned(), group);
        }
        if let Some(Group::Consumer(group)) = self.groups.get_mut(group_id) {
            group.replay(record);
            if matches!(record, ConsumerRecord::Group { value: None, .. }) {
                self.groups.remove(group_id);
            }
        }
    }
}

impl Coordinator for Groups {
    type Command = Command;
    type Response = Response;
    type Record = Record;
    type Timer = Timer;
    type Context = Topics;
    type Hard = Hard;

    fn handle(
        &mut self,
        context: &Topics,
        command: Command,
        reply: ReplyId,
        now_ms: i64,
        effects: &mut Effects<Self>,
    ) {
        let config = Arc::clone(&self.config);
        let mut turn = Turn::new((context, &config), now_ms, effects);
        let turn = &mut turn;
        match command {
            Command::JoinGroup(command) => self.join(command, reply, turn),
            Command::SyncGroup(command) => self.sync(command, reply, turn),
            Command::Heartbeat(command) => self.heartbeat(command, reply, turn),
            Command::LeaveGroup(command) => self.leave(command, reply, turn),
            Command::OffsetCommit(command) => offsets::commit(self, command, reply, turn),
            Command::OffsetFetch(command) => {
                let fetched = offsets::fetch(self, &command);
                turn.answer(reply, Response::OffsetFetch(fetched));
            }
            Command::OffsetDelete(command) => offsets::delete(self, &command, reply, turn),
            Command::ListGroups(command) => {
                let listed = self.list(&command);
                turn.answer(reply, Response::ListGroups(listed));
            }
            Command::DescribeGroups(ids) => {
                let described = ids.iter().map(|id| self.describe(id)).collect();
                turn.answer(reply, Response::DescribeGroups(described));
            }
            Command::DeleteGroups(ids) => {
                let deleted = self.delete(&ids, turn);
                turn.answer(reply, Response::DeleteGroups(deleted));
            }
            Command::ConsumerGroupHeartbeat(command) => {
                consumer::heartbeat(self, command, reply, turn);
            }
            Command::ConsumerGroupDescribe(ids) => {
                let describe = |id: &String| consumer::describe(self, id, turn.topics);
                let described = ids.iter().map(describe).collect();
                turn.answer(reply, Response::ConsumerGroupDescribe(described));
            }
            Command::TopicsChanged => {
                consumer::topics_changed(self, turn);
                turn.answer(reply, Response::Done);
            }
            Command::TopicsDeleted(topics) => {
                offsets::topics_deleted(self, topics, reply, turn);
            }
        }
    }

    fn timer_fired(
        &mut self,
        context: &Topics,
        timer: Timer,
        now_ms: i64,
        effects: &mut Effects<Self>,
    ) {
        let config = Arc::clone(&self.config);
        let mut turn = Turn::new((context, &config), now_ms, effects);
        match timer {
            Timer::Expiry => offsets::expire(self, &mut turn),
            Timer::DeletedTopics => offsets::go_on_forgetting(self, &mut turn),
            Timer::Classic { group_id, timer } => {
                classic::timer_fired(self, &group_id, &timer, &mut turn);
            }
            Timer::Consumer { group_id, timer } => {
                consumer::timer_fired(self, &group_id, timer, &mut turn);
            }
        }
    }

    fn replay(&mut self, record: &Record) {
        match record {
            Record::Offset(key, value) => self.hard.offsets.replay(key, value.as_ref()),
            Record::Classic(group_id, Some(value)) => {
                let value = value.clone();
                let group = Group::Classic(ClassicGroup { value });
                self.hard.groups.insert(group_id.clone(), group);
            }
            Record::Classic(group_id, None) => {
                if let Some(Group::Classic(_)) = self.hard.groups.get(group_id) {
                    self.hard.groups.remove(group_id);
                }
            }
            Record::Consumer(record) => self.hard.replay_consumer(record),
        }
    }

    fn became_leader(&mut self, context: &Topics, now_ms: i64, effects: &mut Effects<Self>) {
        let config = Arc::clone(&self.config);
        let mut turn = Turn::new((context, &config), now_ms, effects);
        let groups: Vec<(String, Option<ClassicValue>)> = {
            let groups = self.hard.groups.iter();
            groups
                .map(|(id, group)| (id.clone(), group.classic_value()))
                .collect()
        };
        for (group_id, classic_value) in groups {
            match classic_value {
                Some(value) => classic::lead(self, &group_id, &value, &mut turn),
                None => consumer::lead(self, &group_id, &mut turn),
            }
        }
        let check_ms = turn.config.offsets_retention_check_interval_ms.max(1);
        turn.set_timer(Timer::Expiry, check_ms);
        self.soft.members_bytes = self.soft.count_member_bytes(&self.hard);
    }

    fn hard(&self) -> &Hard {
        &self.hard
    }
}

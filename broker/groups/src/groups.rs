//! All groups of one partition of `__consumer_offsets`: the map, and who answers what.

use std::collections::BTreeMap;
use std::sync::Arc;

use coordinator::{Coordinator, Effects, ReplyId};

use crate::classic::{self, ClassicGroup, ClassicTimer};
use crate::command::Command;
use crate::config::GroupsConfig;
use crate::consumer::{self, ConsumerGroup, ConsumerTimer};
use crate::offsets::Offsets;
use crate::record::{ConsumerRecord, Record};
use crate::response::Response;
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

/// What only the leader has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Soft {
    /// All classic groups, those that the log does not know yet among them.
    pub(crate) classic: BTreeMap<String, classic::Live>,
    pub(crate) consumer: consumer::Soft,
}

/// What the timers of groups are named by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Look for offsets and groups that expire.
    Expiry,
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
            config: Arc::new(config),
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
            if group.is_gone() {
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
        let mut turn = Turn {
            now_ms,
            topics: context,
            config: &config,
            effects,
        };
        let turn = &mut turn;
        match command {
            Command::ConsumerGroupHeartbeat(command) => {
                consumer::heartbeat(self, command, reply, turn);
            }
            Command::ConsumerGroupDescribe(ids) => {
                let described = ids.iter().map(|id| consumer::describe(self, id)).collect();
                turn.answer(reply, Response::ConsumerGroupDescribe(described));
            }
            Command::TopicsChanged => {
                consumer::topics_changed(self, turn);
                turn.answer(reply, Response::Done);
            }
            _ => turn.answer(reply, Response::Done),
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
        let mut turn = Turn {
            now_ms,
            topics: context,
            config: &config,
            effects,
        };
        match timer {
            Timer::Expiry | Timer::Classic { .. } => {}
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
        let mut turn = Turn {
            now_ms,
            topics: context,
            config: &config,
            effects,
        };
        let group_ids: Vec<String> = self.hard.groups.keys().cloned().collect();
        for group_id in group_ids {
            if self.consumer(&group_id).is_some() {
                consumer::lead(self, &group_id, &mut turn);
            }
        }
    }

    fn hard(&self) -> &Hard {
        &self.hard
    }
}

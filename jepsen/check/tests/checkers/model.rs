//! A broker in memory with random clients that are told the truth: whatever happens, nothing is
//! wrong. And the same broker, broken in one place: that is always found.

use std::cell::Cell;
use std::collections::BTreeMap;

use jepsen_check::history::{Admin, Event, Key, Op, Process, Read};
use jepsen_check::{Limits, Outcome, Recorder, check};
use proptest::prelude::*;
use proptest::test_runner::{TestRng, TestRunner};

use crate::story::lenient;

const NODES: u32 = 3;
const KEYS: usize = 3;

/// How the broker is broken, once.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Broken {
    DropAcknowledged,
    CutTail,
    SwapRecords,
    AppendTwice,
    AcknowledgeOffsetTwice,
    AcknowledgeAndForget,
    AcknowledgeWrongOffset,
    FailAndAppend,
    ReverseBatch,
    HalfBatch,
    WrongPartition,
    FlipValue,
    SkipInPoll,
    SkipBetweenPolls,
    RepeatPoll,
    ShuffledPoll,
    ServeBeforeCommit,
    ServeAboveHighWatermark,
    TwoViews,
    ReplicaLoses,
    ReplicaOtherBytes,
    ReplicaOtherValue,
    ReplicaShort,
    NeverLive,
    TopicLost,
    TopicResurrected,
    TopicFromFailedCreate,
    TopicFewerPartitions,
    SettingForgotten,
    SettingStale,
    SettingFromFailed,
}

const ALL: [Broken; 31] = [
    Broken::DropAcknowledged,
    Broken::CutTail,
    Broken::SwapRecords,
    Broken::AppendTwice,
    Broken::AcknowledgeOffsetTwice,
    Broken::AcknowledgeAndForget,
    Broken::AcknowledgeWrongOffset,
    Broken::FailAndAppend,
    Broken::ReverseBatch,
    Broken::HalfBatch,
    Broken::WrongPartition,
    Broken::FlipValue,
    Broken::SkipInPoll,
    Broken::SkipBetweenPolls,
    Broken::RepeatPoll,
    Broken::ShuffledPoll,
    Broken::ServeBeforeCommit,
    Broken::ServeAboveHighWatermark,
    Broken::TwoViews,
    Broken::ReplicaLoses,
    Broken::ReplicaOtherBytes,
    Broken::ReplicaOtherValue,
    Broken::ReplicaShort,
    Broken::NeverLive,
    Broken::TopicLost,
    Broken::TopicResurrected,
    Broken::TopicFromFailedCreate,
    Broken::TopicFewerPartitions,
    Broken::SettingForgotten,
    Broken::SettingStale,
    Broken::SettingFromFailed,
];

#[derive(Default)]
struct Log {
    records: Vec<(i64, u64)>,
    end: i64,
}

impl Log {
    fn append(&mut self, values: &[u64], hole: bool) -> i64 {
        self.end += i64::from(hole);
        let base = self.end;
        for value in values {
            self.records.push((self.end, *value));
            self.end += 1;
        }
        base
    }
}

#[derive(Default)]
struct Topic {
    exists: bool,
    partitions: i32,
    setting: Option<String>,
    // The setting before the last acknowledged change.
    before: Option<String>,
    delete_asked: bool,
}

/// What a client is about.
enum Doing {
    Nothing,
    Sending {
        key: usize,
        values: Vec<u64>,
        idempotent: bool,
        offset: Option<i64>,
    },
    Polling {
        reads: Option<Vec<Read>>,
    },
    Asking {
        admin: Admin,
        answer: Option<Result<Admin, ()>>,
    },
}

struct Client {
    process: Process,
    doing: Doing,
    places: BTreeMap<usize, i64>,
}

struct Model {
    recorder: Recorder,
    time_us: u64,
    broken: Option<Broken>,
    // Opportunities that pass before it strikes.
    waits: u32,
    struck: bool,
    logs: Vec<Log>,
    clients: Vec<Client>,
    processes: u32,
    values: u64,
    topics: BTreeMap<String, Topic>,
    // Requests whose clients have given up.
    late: Vec<(usize, Vec<u64>)>,
    acknowledged: Vec<Vec<(i64, u64)>>,
    // A topic to look at before anybody changes it.
    pending_look: Option<String>,
}

fn key(at: usize) -> Key {
    Key {
        topic: "log".to_owned(),
        partition: i32::try_from(at).unwrap(),
    }
}

/// A step: who, and three things drawn at random.
type Step = (u8, u8, u8, u8);

impl Model {
    fn new(broken: Option<Broken>, waits: u32) -> Model {
        let mut model = Model {
            recorder: Recorder::new(),
            time_us: 0,
            broken,
            waits,
            struck: false,
            logs: (0..KEYS).map(|_| Log::default()).collect(),
            clients: Vec::new(),
            processes: 0,
            values: 0,
            topics: BTreeMap::new(),
            late: Vec::new(),
            acknowledged: vec![Vec::new(); KEYS],
            pending_look: None,
        };
        for _ in 0..5 {
            let process = model.process();
            model.clients.push(Client {
                process,
                doing: Doing::Nothing,
                places: BTreeMap::new(),
            });
        }
        model
    }

    fn run(mut self, steps: &[Step]) -> (Vec<Event>, bool) {
        self.phase("faults");
        for step in steps {
            self.step(*step);
        }
        self.finish();
        (self.recorder.finish().unwrap(), self.struck)
    }

    /// Whether it is time to be broken in this way.
    fn strikes(&mut self, broken: Broken) -> bool {
        if self.broken != Some(broken) || self.struck {
            return false;
        }
        self.struck = self.waits == 0;
        self.waits = self.waits.saturating_sub(1);
        self.struck
    }

    fn process(&mut self) -> Process {
        self.processes += 1;
        Process::Client(self.processes)
    }

    fn phase(&mut self, name: &str) {
        self.recorder.note(
            self.time_us,
            Op::Phase {
                name: name.to_owned(),
            },
        );
    }

    fn value(&mut self) -> u64 {
        self.values += 1;
        self.values
    }

    fn step(&mut self, (who, what, how, which): Step) {
        self.time_us += 1000;
        self.break_logs(usize::from(which) % KEYS);
        if what < 10 && !self.late.is_empty() {
            let (key, values) = self.late.remove(usize::from(how) % self.late.len());
            self.logs[key].append(&values, false);
        }
        let who = usize::from(who) % self.clients.len();
        match std::mem::replace(&mut self.clients[who].doing, Doing::Nothing) {
            Doing::Nothing => self.begin(who, what, usize::from(how), usize::from(which)),
            Doing::Sending {
                key,
                values,
                idempotent,
                offset,
            } => {
                self.send(who, key, values, idempotent, offset, what, how);
            }
            Doing::Polling { reads } => self.poll(who, reads, what, how),
            Doing::Asking { admin, answer } => self.ask(who, admin, answer, what, how),
        }
    }

    fn invoke(&mut self, who: usize, op: Op, doing: Doing) {
        self.recorder
            .invoke(self.time_us, self.clients[who].process, op);
        self.clients[who].doing = doing;
    }

    /// Its outcome is unknown; somebody new goes on.
    fn give_up(&mut self, who: usize, op: Op) {
        self.recorder
            .info(self.time_us, self.clients[who].process, op, "timed out");
        let process = self.process();
        self.clients[who] = Client {
            process,
            doing: Doing::Nothing,
            places: BTreeMap::new(),
        };
    }

    fn begin(&mut self, who: usize, what: u8, how: usize, which: usize) {
        match what {
            0..75 => {
                let key = which % KEYS;
                let values: Vec<u64> = (0..=how % 3).map(|_| self.value()).collect();
                let idempotent = !how.is_multiple_of(5);
                let op = sent(key, &values, idempotent, None);
                self.invoke(
                    who,
                    op,
                    Doing::Sending {
                        key,
                        values,
                        idempotent,
                        offset: None,
                    },
                );
            }
            75..155 if !self.clients[who].places.is_empty() => {
                let op = Op::Poll { reads: Vec::new() };
                self.invoke(who, op, Doing::Polling { reads: None });
            }
            75..168 => {
                let places: BTreeMap<usize, i64> = (0..KEYS)
                    .filter(|at| !(how >> at).is_multiple_of(3))
                    .map(|at| (at, 0))
                    .collect();
                let positions: Vec<_> = places.iter().map(|(at, next)| (key(*at), *next)).collect();
                let op = Op::Assign { positions };
                self.invoke(who, op.clone(), Doing::Nothing);
                self.recorder
                    .ok(self.time_us, self.clients[who].process, op);
                self.clients[who].places = places;
            }
            168..172 => {
                self.invoke(who, Op::Crash, Doing::Nothing);
                self.recorder
                    .ok(self.time_us, self.clients[who].process, Op::Crash);
                self.clients[who].places.clear();
            }
            _ => {
                let admin = self.admin(how, which);
                let op = Op::Admin(admin.clone());
                self.invoke(
                    who,
                    op,
                    Doing::Asking {
                        admin,
                        answer: None,
                    },
                );
            }
        }
    }

    fn admin(&mut self, how: usize, which: usize) -> Admin {
        // Deleted ones stay interesting: do they come back?
        let known = self
            .topics
            .keys()
            .nth(which % self.topics.len().max(1))
            .cloned();
        let topic = known.unwrap_or("nowhere".to_owned());
        match how % 8 {
            0 => {
                let topic = format!("t{}", self.topics.len());
                self.topics.insert(
                    topic.clone(),
                    Topic {
                        partitions: 3,
                        ..Topic::default()
                    },
                );
                Admin::CreateTopic {
                    topic,
                    partitions: 3,
                }
            }
            1 => {
                if let Some(topic) = self.topics.get_mut(&topic) {
                    topic.delete_asked = true;
                }
                Admin::DeleteTopic { topic }
            }
            2 | 3 => {
                let value = self.value().to_string();
                Admin::SetConfig {
                    topic,
                    key: "retention".to_owned(),
                    value,
                }
            }
            4..7 => Admin::Describe {
                topic,
                exists: None,
                partitions: None,
                configs: BTreeMap::new(),
            },
            _ => Admin::ListTopics { topics: Vec::new() },
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the fields of what the client is about"
    )]
    fn send(
        &mut self,
        who: usize,
        key: usize,
        values: Vec<u64>,
        idempotent: bool,
        offset: Option<i64>,
        what: u8,
        how: u8,
    ) {
        let process = self.clients[who].process;
        let op = |offset| sent(key, &values, idempotent, offset);
        match (offset, what) {
            (None, _) if self.strikes(Broken::AcknowledgeAndForget) => {
                let offset = self.logs[key].end;
                self.recorder.ok(self.time_us, process, op(Some(offset)));
            }
            (None, 0..200) => {
                let offset = self.append(key, &values, idempotent, how);
                self.clients[who].doing = Doing::Sending {
                    key,
                    values,
                    idempotent,
                    offset: Some(offset),
                };
            }
            (None, 200..220) => {
                if self.strikes(Broken::FailAndAppend) {
                    self.logs[key].append(&values, false);
                }
                _ = self
                    .recorder
                    .fail(self.time_us, process, op(None), "refused");
            }
            (None, _) => {
                self.give_up(who, op(None));
                if how.is_multiple_of(2) {
                    self.late.push((key, values));
                }
            }
            (Some(_), 0..20) if !idempotent => {
                // The answer was lost, and the client sends it once more.
                let offset = self.logs[key].append(&values, false);
                self.clients[who].doing = Doing::Sending {
                    key,
                    values,
                    idempotent,
                    offset: Some(offset),
                };
            }
            (Some(_), 0..20) => self.give_up(who, op(None)),
            (Some(offset), _) => {
                let told = match self.acknowledged[key].last().copied() {
                    Some((last, _)) if self.strikes(Broken::AcknowledgeOffsetTwice) => last,
                    _ if self.strikes(Broken::AcknowledgeWrongOffset) => offset + 1,
                    _ => offset,
                };
                _ = self.recorder.ok(self.time_us, process, op(Some(told)));
                for (place, value) in values.iter().enumerate() {
                    let offset = offset + i64::try_from(place).unwrap();
                    self.acknowledged[key].push((offset, *value));
                }
            }
        }
    }

    fn append(&mut self, key: usize, values: &[u64], idempotent: bool, how: u8) -> i64 {
        let mut values = values.to_vec();
        if values.len() > 1 && self.strikes(Broken::ReverseBatch) {
            values.reverse();
        }
        if values.len() > 1 && self.strikes(Broken::HalfBatch) {
            values.pop();
        }
        if self.strikes(Broken::FlipValue) {
            values[0] ^= 1 << 40;
        }
        if self.strikes(Broken::WrongPartition) {
            return self.logs[(key + 1) % KEYS].append(&values, false);
        }
        let offset = self.logs[key].append(&values, how.is_multiple_of(16));
        if idempotent && self.strikes(Broken::AppendTwice) {
            self.logs[key].append(&values, false);
        }
        offset
    }

    fn poll(&mut self, who: usize, reads: Option<Vec<Read>>, what: u8, how: u8) {
        let process = self.clients[who].process;
        let reads = reads.unwrap_or_else(|| self.reads(who, what, how));
        match how {
            // The answer is on its way.
            0..60 => self.clients[who].doing = Doing::Polling { reads: Some(reads) },
            60..70 => {
                _ = self
                    .recorder
                    .fail(self.time_us, process, Op::Poll { reads }, "fenced")
            }
            70..80 => self.give_up(who, Op::Poll { reads }),
            _ => {
                for read in &reads {
                    if let Some((last, _)) = read.records.last() {
                        let at = usize::try_from(read.key.partition).unwrap();
                        self.clients[who].places.insert(at, last + 1);
                    }
                }
                self.recorder.ok(self.time_us, process, Op::Poll { reads });
            }
        }
    }

    /// What a node shows, which may have heard less of commits than there are.
    fn reads(&mut self, who: usize, what: u8, how: u8) -> Vec<Read> {
        let mut reads = Vec::new();
        for (at, next) in self.clients[who].places.clone() {
            let log = &self.logs[at];
            let end = log.end
                - if what.is_multiple_of(4) {
                    i64::from(how % 3)
                } else {
                    0
                };
            let most = 1 + usize::from(what) % 7;
            let known = log
                .records
                .iter()
                .filter(|(offset, _)| (next..end).contains(offset));
            let mut records: Vec<(i64, u64)> = known.copied().take(most).collect();
            let mut high_watermark = end.max(0);
            self.break_poll(at, next, &mut records, &mut high_watermark);
            reads.push(Read {
                key: key(at),
                records,
                high_watermark,
            });
        }
        reads
    }

    fn break_poll(&mut self, at: usize, next: i64, records: &mut Vec<(i64, u64)>, end: &mut i64) {
        if records.len() > 2 && self.strikes(Broken::SkipInPoll) {
            records.remove(1);
        }
        if records.len() > 1 && self.strikes(Broken::SkipBetweenPolls) {
            records.remove(0);
        }
        if records.len() > 1 && self.strikes(Broken::ShuffledPoll) {
            records.swap(0, 1);
        }
        let before = self.logs[at]
            .records
            .iter()
            .copied()
            .rfind(|(offset, _)| *offset < next);
        if let Some(before) = before.filter(|_| self.broken == Some(Broken::RepeatPoll))
            && self.strikes(Broken::RepeatPoll)
        {
            records.insert(0, before);
        }
        if let Some((last, _)) = records.last()
            && self.strikes(Broken::ServeAboveHighWatermark)
        {
            *end = *last;
        }
        if let Some((_, value)) = records.first_mut().filter(|_| self.values > 3)
            && self.strikes(Broken::TwoViews)
        {
            *value = if *value == 1 { 2 } else { *value - 1 };
        }
        // Somebody's record that is not replicated yet and will be overwritten by another.
        let pending = self.clients.iter().find_map(|client| match &client.doing {
            Doing::Sending {
                key,
                values,
                offset: None,
                ..
            } if *key == at => Some(values[0]),
            _ => None,
        });
        let log_end = self.logs[at].end;
        let all = *end == log_end && records.last().map_or(next, |(last, _)| last + 1) == log_end;
        if let Some(value) =
            pending.filter(|_| all && self.broken == Some(Broken::ServeBeforeCommit))
            && self.strikes(Broken::ServeBeforeCommit)
        {
            records.push((log_end, value));
            *end += 1;
            let value = self.value();
            let process = self.process();
            let op = |offset| sent(at, &[value], true, offset);
            self.recorder.invoke(self.time_us, process, op(None));
            let offset = self.logs[at].append(&[value], false);
            self.recorder.ok(self.time_us, process, op(Some(offset)));
        }
    }

    /// What is acknowledged is no longer sure.
    fn break_logs(&mut self, at: usize) {
        let log = &self.logs[at];
        let Some((offset, _)) = self.acknowledged[at].last().copied() else {
            return;
        };
        let Some(place) = log.records.iter().position(|(at, _)| *at == offset) else {
            return;
        };
        if self.strikes(Broken::DropAcknowledged) {
            self.logs[at].records.remove(place);
            return;
        }
        if self.strikes(Broken::CutTail) {
            self.logs[at].records.truncate(place);
            self.logs[at].end = offset;
            return;
        }
        let other = place
            .checked_sub(1)
            .map(|before| self.logs[at].records[before].1);
        let differs = other.is_some_and(|other| other != self.logs[at].records[place].1);
        if differs && self.strikes(Broken::SwapRecords) {
            let records = &mut self.logs[at].records;
            (records[place].1, records[place - 1].1) = (records[place - 1].1, records[place].1);
        }
    }

    fn ask(
        &mut self,
        who: usize,
        admin: Admin,
        answer: Option<Result<Admin, ()>>,
        what: u8,
        how: u8,
    ) {
        let process = self.clients[who].process;
        let Some(answer) = answer else {
            // Refused, given up, or done.
            let refused = match self.broken {
                Some(Broken::TopicFromFailedCreate | Broken::SettingFromFailed) => 120,
                _ => 30,
            };
            match what {
                _ if what < refused => {
                    self.break_refused(&admin);
                    self.recorder
                        .fail(self.time_us, process, Op::Admin(admin), "refused");
                    if let Some(topic) = self.pending_look.take() {
                        self.look(&topic);
                    }
                }
                ..150 if what.is_multiple_of(8) => self.give_up(who, Op::Admin(admin)),
                _ => {
                    let answer = Some(self.answer(&admin));
                    self.clients[who].doing = Doing::Asking { admin, answer };
                }
            }
            return;
        };
        match (answer, how) {
            (Err(()), _) => {
                _ = self
                    .recorder
                    .fail(self.time_us, process, Op::Admin(admin), "refused")
            }
            (Ok(_), 0..25) => self.give_up(who, Op::Admin(admin)),
            (Ok(answer), _) => {
                let was = self.struck;
                self.break_done(&answer);
                self.recorder
                    .ok(self.time_us, process, Op::Admin(answer.clone()));
                // Before anything else can explain it.
                if let Admin::CreateTopic { topic, .. } | Admin::DeleteTopic { topic } = &answer
                    && self.struck != was
                {
                    self.look(topic);
                }
            }
        }
    }

    /// What it says was refused happened.
    fn break_refused(&mut self, admin: &Admin) {
        match admin {
            Admin::CreateTopic { topic, .. } if self.strikes(Broken::TopicFromFailedCreate) => {
                self.topics.get_mut(topic).unwrap().exists = true;
                self.look(topic);
            }
            Admin::SetConfig { topic, value, .. } => {
                let exists = self.topics.get(topic).is_some_and(|topic| topic.exists);
                if exists && self.broken == Some(Broken::SettingFromFailed) {
                    self.look(topic);
                    if self.strikes(Broken::SettingFromFailed) {
                        self.topics.get_mut(topic).unwrap().setting = Some(value.clone());
                        self.pending_look = Some(topic.clone());
                    }
                }
            }
            _ => {}
        }
    }

    fn break_done(&mut self, answer: &Admin) {
        match answer {
            Admin::CreateTopic { topic, .. } => {
                if !self.topics[topic].delete_asked && self.strikes(Broken::TopicLost) {
                    self.topics.get_mut(topic).unwrap().exists = false;
                }
                if self.strikes(Broken::TopicFewerPartitions) {
                    self.topics.get_mut(topic).unwrap().partitions = 2;
                    self.topics.get_mut(topic).unwrap().exists = true;
                }
            }
            Admin::DeleteTopic { topic } if self.strikes(Broken::TopicResurrected) => {
                self.topics.get_mut(topic).unwrap().exists = true;
            }
            _ => {}
        }
    }

    /// Does what is asked, at one moment.
    fn answer(&mut self, admin: &Admin) -> Result<Admin, ()> {
        match admin {
            Admin::CreateTopic { topic, .. } => {
                self.topics.get_mut(topic).unwrap().exists = true;
                Ok(admin.clone())
            }
            Admin::DeleteTopic { topic } => {
                let topic = self
                    .topics
                    .get_mut(topic)
                    .filter(|topic| topic.exists)
                    .ok_or(())?;
                topic.exists = false;
                Ok(admin.clone())
            }
            Admin::SetConfig { topic, value, .. } => {
                let topic_now = self
                    .topics
                    .get_mut(topic)
                    .filter(|topic| topic.exists)
                    .ok_or(())?;
                topic_now.before = topic_now.setting.clone();
                topic_now.setting = Some(value.clone());
                for broken in [Broken::SettingForgotten, Broken::SettingStale] {
                    self.set_and_look(topic, broken);
                }
                Ok(admin.clone())
            }
            Admin::Describe { topic, .. } => Ok(self.describe(topic)),
            Admin::ListTopics { .. } => {
                let there = self.topics.iter().filter(|(_, topic)| topic.exists);
                Ok(Admin::ListTopics {
                    topics: there.map(|(name, _)| name.clone()).collect(),
                })
            }
        }
    }

    fn describe(&self, name: &str) -> Admin {
        let topic = self.topics.get(name).filter(|topic| topic.exists);
        let setting = |topic: &Topic| topic.setting.clone().unwrap_or("default".to_owned());
        Admin::Describe {
            topic: name.to_owned(),
            exists: Some(topic.is_some()),
            partitions: topic.map(|topic| topic.partitions),
            configs: topic
                .map(|topic| ("retention".to_owned(), setting(topic)))
                .into_iter()
                .collect(),
        }
    }

    /// Somebody else describes a topic.
    fn look(&mut self, topic: &str) {
        let process = self.process();
        let answer = self.describe(topic);
        let Admin::Describe { topic, .. } = &answer else {
            unreachable!()
        };
        let asked = Admin::Describe {
            topic: topic.clone(),
            exists: None,
            partitions: None,
            configs: BTreeMap::new(),
        };
        self.recorder
            .invoke(self.time_us, process, Op::Admin(asked));
        self.recorder.ok(self.time_us, process, Op::Admin(answer));
    }

    /// A setting is set, acknowledged, forgotten or replaced by the one before, and looked at.
    fn set_and_look(&mut self, topic: &str, broken: Broken) {
        if !self.strikes(broken) {
            return;
        }
        for _ in 0..2 {
            let (process, value) = (self.process(), self.value().to_string());
            let op = Op::Admin(Admin::SetConfig {
                topic: topic.to_owned(),
                key: "retention".to_owned(),
                value: value.clone(),
            });
            self.look(topic);
            self.recorder.invoke(self.time_us, process, op.clone());
            self.recorder.ok(self.time_us, process, op);
            let topic = self.topics.get_mut(topic).unwrap();
            topic.before = topic.setting.replace(value);
        }
        let now = self.topics.get_mut(topic).unwrap();
        now.setting = if broken == Broken::SettingForgotten {
            None
        } else {
            now.before.clone()
        };
        self.look(topic);
    }

    fn finish(&mut self) {
        for (key, values) in std::mem::take(&mut self.late) {
            if values[0] % 2 == 0 {
                self.logs[key].append(&values, false);
            }
        }
        for who in 0..self.clients.len() {
            let doing = std::mem::replace(&mut self.clients[who].doing, Doing::Nothing);
            if let Doing::Polling { reads: Some(reads) } = doing {
                self.give_up(who, Op::Poll { reads });
            }
        }
        self.phase("heal");
        for topic in self.topics.keys().cloned().collect::<Vec<_>>() {
            self.look(&topic);
        }
        let dead = self.strikes(Broken::NeverLive);
        for at in 0..KEYS {
            let (process, value) = (self.process(), self.value());
            self.recorder
                .invoke(self.time_us, process, sent(at, &[value], true, None));
            if dead {
                let op = sent(at, &[value], true, None);
                self.recorder.fail(self.time_us, process, op, "no leader");
            } else {
                let offset = self.logs[at].append(&[value], false);
                let op = sent(at, &[value], true, Some(offset));
                self.recorder.ok(self.time_us, process, op);
            }
        }
        self.time_us += 40_000_000;
        self.phase("final");
        let process = self.process();
        let positions = Op::Assign {
            positions: (0..KEYS).map(|at| (key(at), 0)).collect(),
        };
        self.recorder
            .invoke(self.time_us, process, positions.clone());
        self.recorder.ok(self.time_us, process, positions);
        self.recorder
            .invoke(self.time_us, process, Op::Poll { reads: Vec::new() });
        let reads = (0..KEYS).map(|at| Read {
            key: key(at),
            records: self.logs[at].records.clone(),
            high_watermark: self.logs[at].end,
        });
        let reads = Op::Poll {
            reads: reads.collect(),
        };
        self.recorder.ok(self.time_us, process, reads);
        for at in 0..KEYS {
            for node in 1..=NODES {
                self.replica(at, node);
            }
        }
        self.phase("end");
    }

    fn replica(&mut self, at: usize, node: u32) {
        let process = self.process();
        let mut records = self.logs[at].records.clone();
        let mut end = self.logs[at].end;
        let mut digest = 7;
        if node > 1 && !records.is_empty() {
            if self.strikes(Broken::ReplicaLoses) {
                records.remove(records.len() / 2);
            }
            if self.strikes(Broken::ReplicaOtherBytes) {
                digest = 8;
            }
            if self.strikes(Broken::ReplicaOtherValue) {
                records[0].1 += 1;
            }
            if self.strikes(Broken::ReplicaShort) {
                end = records.pop().unwrap().0;
            }
        }
        let read = |end, records, digest| Op::ReplicaRead {
            node,
            key: key(at),
            log_start: 0,
            end,
            records,
            digest,
        };
        self.recorder
            .invoke(self.time_us, process, read(0, Vec::new(), 0));
        self.recorder
            .ok(self.time_us, process, read(end, records, digest));
    }
}

fn sent(at: usize, values: &[u64], idempotent: bool, offset: Option<i64>) -> Op {
    Op::Send {
        key: key(at),
        values: values.to_vec(),
        idempotent,
        offset,
    }
}

fn limits() -> Limits {
    Limits {
        whole_run: true,
        replicas_min: NODES,
        ..lenient()
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(any::<Step>(), 1..300)
}

/// The same cases each time, unless they are to be others.
fn runner(cases: u32, random: bool) -> TestRunner {
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    match random {
        true => TestRunner::new(config),
        false => {
            let numbers = TestRng::deterministic_rng(config.rng_algorithm);
            TestRunner::new_with_rng(config, numbers)
        }
    }
}

fn text(events: &[Event]) -> String {
    let mut bytes = Vec::new();
    jepsen_check::history::write(&mut bytes, events).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn right(mut runner: TestRunner) {
    let done = runner.run(&steps(), |steps| {
        let (events, _) = Model::new(None, 0).run(&steps);
        let verdict = check(&events, &limits());
        prop_assert_eq!(
            verdict.outcome,
            Outcome::Valid,
            "{:?} {:?}\n{}",
            verdict.anomalies,
            verdict.unknown_because,
            text(&events)
        );
        Ok(())
    });
    done.unwrap();
}

fn found(broken: Broken, mut runner: TestRunner) {
    let struck = Cell::new(0);
    let done = runner.run(&(steps(), 0_u32..3), |(steps, waits)| {
        let (events, strikes) = Model::new(Some(broken), waits).run(&steps);
        let verdict = check(&events, &limits());
        if strikes {
            struck.set(struck.get() + 1);
            prop_assert_eq!(
                verdict.outcome,
                Outcome::Anomaly,
                "{:?}\n{}",
                broken,
                text(&events)
            );
        }
        Ok(())
    });
    done.unwrap_or_else(|error| panic!("{broken:?} was not found: {error}"));
    assert!(
        struck.get() >= 4,
        "{broken:?} struck only {} times",
        struck.get()
    );
}

#[test]
fn a_right_broker_is_never_wrong() {
    right(runner(150, false));
}

#[test]
fn a_broken_broker_is_always_found() {
    for broken in ALL {
        found(broken, runner(40, false));
    }
}

#[test]
#[ignore = "other cases each time, and many"]
fn brokers_at_random() {
    right(runner(5000, true));
    for broken in ALL {
        found(broken, runner(500, true));
    }
}

//! A history: what every client asked, what it was told, and what was broken meanwhile.
//!
//! One JSON object a line, in the order things happened. An operation is two lines, its invocation
//! and its completion, of one process; a process does one thing at a time. What was asked stands in
//! the invocation; a completion repeats it and adds what came of it. After [`Kind::Info`] a client
//! goes on under a new process number, because its operation may still happen. [`Op::Phase`] and
//! [`Op::Resources`] are single lines, of nobody's turn (see [`Op::is_note`]).

mod group;
mod io;
mod recorder;
mod sequence;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::compacted::Record;
pub use group::{Group, Membership, Protocol};
pub use io::{LINE_BYTES_MAX, read_history, write};

pub use recorder::{EVENTS_MAX, Recorder};
pub use sequence::{HistoryError, Sequence};

/// A partition of a topic: what is checked by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// The topic's name.
    pub topic: String,
    /// The partition's index.
    pub partition: i32,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// How the error of a [`Op::Poll`] or [`Op::ReplicaRead`] begins when what came back was not what was
/// sent: a checksum is wrong, or bytes are that no client wrote.
pub const DAMAGED: &str = "damaged: ";

/// A record's value: unique in the whole history.
pub type Value = u64;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Place in the history, from 0 on, without gaps.
    pub index: u64,
    /// Since the run began, in microseconds; never goes back.
    pub time_us: u64,
    /// Who: a client's process, or the one that breaks things.
    pub process: Process,
    /// Which kind of line.
    pub kind: Kind,
    /// What.
    pub op: Op,
    /// Why it failed, or why its outcome is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Who does something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Process {
    /// A client: one thing at a time, in order.
    Client(u32),
    /// What breaks and heals.
    Nemesis,
}

/// What a line says of its operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It was begun.
    Invoke,
    /// It happened.
    Ok,
    /// It certainly did not happen and never will.
    Fail,
    /// It may have happened, or may still.
    Info,
}

/// An operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "f", rename_all = "snake_case")]
pub enum Op {
    /// One record batch to one partition, `acks=all`.
    Send {
        /// Where to.
        key: Key,
        /// The records' values, in order.
        values: Vec<Value>,
        /// Whether nothing may be there twice: the producer is idempotent, or never sends again.
        idempotent: bool,
        /// Offset of the first record, once acknowledged; the others follow it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        offset: Option<i64>,
    },
    /// What one poll returned, by partition, in the order it came.
    Poll {
        /// The records, each with its offset.
        #[serde(default)]
        reads: Vec<Read>,
    },
    /// The process reads these partitions from here on, each from the offset given.
    Assign {
        /// Where it continues; 0 is the beginning.
        positions: Vec<(Key, i64)>,
    },
    /// The process throws its client away and takes a new one.
    Crash,
    /// Something of topics, settings or members.
    Admin(Admin),
    /// Something of a consumer group.
    Group(Group),
    /// At the end: everything one node has of a partition below its high watermark, whether it leads it or not.
    ReplicaRead {
        /// The node.
        node: u32,
        /// The partition.
        key: Key,
        /// Where the log begins.
        #[serde(default)]
        log_start: i64,
        /// The end of what was read: the high watermark.
        #[serde(default)]
        end: i64,
        /// Offset and value of each record, in order.
        #[serde(default)]
        records: Vec<(i64, Value)>,
        /// CRC-32 of the batches' bytes, in order.
        #[serde(default)]
        digest: u32,
    },
    /// At the end: everything one node has of a compacted partition that is not the run's own, such as
    /// one of `__consumer_offsets`.
    CompactedRead {
        /// The node.
        node: u32,
        /// The partition.
        key: Key,
        /// The end of what was read: the high watermark.
        #[serde(default)]
        end: i64,
        /// Its records, in order.
        #[serde(default)]
        records: Vec<Record>,
    },
    /// A fault begins or ends; `Ok` when its effect was seen.
    Fault {
        /// Its name, as in the plan: `partition-halves`.
        name: String,
        /// Whether it begins; otherwise it is undone.
        begins: bool,
        /// The nodes it strikes, from 1 on.
        nodes: Vec<u32>,
        /// How its effect was seen, or the details a reader wants.
        #[serde(default)]
        detail: String,
    },
    /// What a node's process uses.
    Resources {
        /// The node.
        node: u32,
        /// Resident memory, in KiB.
        rss_kib: u64,
        /// Open descriptors.
        descriptors: u64,
    },
    /// A phase of the run begins: `faults`, `heal`, `healed` (nothing is broken any more), `final`, `end`.
    Phase {
        /// Its name.
        name: String,
    },
}

impl Op {
    /// Whether it is one line by itself, which begins and ends nothing: a phase or a sample.
    #[must_use]
    pub fn is_note(&self) -> bool {
        matches!(self, Op::Phase { .. } | Op::Resources { .. })
    }

    /// What it is called in statistics and pictures: `send`, `create-topic`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Op::Send { .. } => "send",
            Op::Poll { .. } => "poll",
            Op::Assign { .. } => "assign",
            Op::Crash => "crash",
            Op::Admin(Admin::CreateTopic { .. }) => "create-topic",
            Op::Admin(Admin::DeleteTopic { .. }) => "delete-topic",
            Op::Admin(Admin::SetConfig { .. }) => "set-config",
            Op::Admin(Admin::Describe { .. }) => "describe",
            Op::Admin(Admin::ListTopics { .. }) => "list-topics",
            Op::Group(group) => group.name(),
            Op::ReplicaRead { .. } => "replica-read",
            Op::CompactedRead { .. } => "compacted-read",
            Op::Fault { .. } => "fault",
            Op::Resources { .. } => "resources",
            Op::Phase { .. } => "phase",
        }
    }
}

/// Records of one partition, as polled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// The partition.
    pub key: Key,
    /// Offset and value of each record.
    pub records: Vec<(i64, Value)>,
    /// The high watermark that came with them; negative where the client was not told.
    pub high_watermark: i64,
}

/// An operation on topics, settings or members.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "admin", rename_all = "snake_case")]
pub enum Admin {
    /// A topic is created.
    CreateTopic {
        /// Its name: never used before.
        topic: String,
        /// How many partitions.
        partitions: i32,
    },
    /// A topic is deleted.
    DeleteTopic {
        /// Its name.
        topic: String,
    },
    /// A setting of a topic is set.
    SetConfig {
        /// The topic.
        topic: String,
        /// The setting.
        key: String,
        /// Its value.
        value: String,
    },
    /// A topic is described: whether it exists and what settings were seen.
    Describe {
        /// Its name.
        topic: String,
        /// Whether it was there; `None` in an invocation.
        #[serde(default)]
        exists: Option<bool>,
        /// Number of partitions seen.
        #[serde(default)]
        partitions: Option<i32>,
        /// Settings seen: all of them, with their defaults. Empty where settings were not asked for.
        #[serde(default)]
        configs: BTreeMap<String, String>,
    },
    /// All topics are listed.
    ListTopics {
        /// Their names, sorted.
        #[serde(default)]
        topics: Vec<String>,
    },
}

impl Admin {
    /// Whether it changes something; otherwise it looks.
    #[must_use]
    pub fn changes(&self) -> bool {
        match self {
            Admin::CreateTopic { .. } | Admin::DeleteTopic { .. } | Admin::SetConfig { .. } => true,
            Admin::Describe { .. } | Admin::ListTopics { .. } => false,
        }
    }
}

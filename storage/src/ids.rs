//! The integers of the log, each its own type so that none can stand in for another.
//!
//! An [`Offset`] belongs to a partition and counts records; a [`LogIndex`] belongs to a shard and
//! counts Raft entries. They are never converted into one another.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// Position of a record in its partition; 0 is the first ever written. Never negative.
    Offset(i64)
}
number! {
    /// Leader epoch of a partition, as Kafka's clients see it (KIP-320). Only rises. Never negative.
    LeaderEpoch(i32)
}
number! {
    /// A Raft group that carries many partitions. 0 is the catalogue.
    ShardId(u32)
}
number! {
    /// Index of an entry in a shard's Raft log. openraft's first entry has index 0.
    LogIndex(u64)
}
number! {
    /// Raft term of a shard.
    Term(u64)
}
number! {
    /// A node of the cluster; Kafka's broker id. Never reused. Fits an `i32`.
    NodeId(u32)
}
number! {
    /// Producer id of an idempotent or transactional producer (KIP-98). Never negative.
    ProducerId(i64)
}

impl Offset {
    /// The offset `records` further on.
    #[must_use]
    pub fn plus(self, records: i64) -> Offset {
        Offset(self.0 + records)
    }
}

/// Position of one entry in a shard's Raft log. Ordered by term, then index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPosition {
    /// Term of the leader that wrote the entry.
    pub term: Term,
    /// Index of the entry.
    pub index: LogIndex,
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}

/// A topic's identity: 128 random bits, new at each creation (KIP-516). All zeros means "none".
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    /// The reserved value that names no topic.
    pub const NONE: TopicId = TopicId([0; 16]);
}

impl fmt::Display for TopicId {
    /// 32 lower-case hexadecimal digits, as directory names use them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicId({self})")
    }
}

/// One partition of one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId {
    /// The topic.
    pub topic: TopicId,
    /// Number of the partition within the topic, from 0.
    pub index: u32,
}

impl fmt::Display for PartitionId {
    /// `<topic id>-<index>`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.index)
    }
}

/// One log of a partition on this disk. A partition that moves from one shard to another has a log
/// of the next generation there, and for a while a node may hold both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// The partition.
    pub partition: PartitionId,
    /// 0 for the log that the partition was made with; each move has one above all before.
    pub generation: u32,
}

impl From<PartitionId> for LogId {
    /// The log that the partition was made with.
    fn from(partition: PartitionId) -> LogId {
        LogId {
            partition,
            generation: 0,
        }
    }
}

impl fmt::Display for LogId {
    /// `<topic id>-<index>`, and `.<generation>` unless that is 0: the name of the log's directory.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.partition.fmt(f)?;
        match self.generation {
            0 => Ok(()),
            generation => write!(f, ".{generation}"),
        }
    }
}

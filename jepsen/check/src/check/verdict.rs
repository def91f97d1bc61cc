//! [`Verdict`]: what came of a run, as `verdict.json` has it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::stats::Stats;
use crate::history::{Key, Value};

/// Of each anomaly that is added from outside, so many are told in full.
const ADDED_TOLD_MAX: usize = 20;

/// What a history shows. The same history and limits always give the same verdict, byte by byte.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// In one word.
    pub outcome: Outcome,
    /// What was missing for a judgement, in words; told whatever the outcome.
    pub unknown_because: Vec<String>,
    /// Promises seen broken, sorted; the first of each name.
    pub anomalies: Vec<Anomaly>,
    /// How often each anomaly was seen, those not told included.
    pub anomaly_counts: BTreeMap<AnomalyName, u64>,
    /// What happened, in figures.
    pub stats: Stats,
}

/// A verdict in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Enough happened, and no promise was broken.
    Valid,
    /// A promise was broken.
    Anomaly,
    /// Too little happened to tell.
    Unknown,
}

/// A promise seen broken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Anomaly {
    /// Which.
    pub name: AnomalyName,
    /// The partition, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    /// The topic, where it is about one as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The node, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<u32>,
    /// What was seen, for a reader.
    pub explanation: String,
    /// Indexes of the events that prove it, in the order of the history.
    pub events: Vec<u64>,
    /// The values it is about.
    pub values: Vec<Value>,
    /// The offsets it is about.
    pub offsets: Vec<i64>,
}

macro_rules! anomaly_names {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// The anomalies; `ANOMALIES.md` says of each what it means.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum AnomalyName {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $variant,)+
        }

        impl AnomalyName {
            /// All of them.
            pub const ALL: &'static [AnomalyName] = &[$(AnomalyName::$variant,)+];

            /// As in `verdict.json`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(AnomalyName::$variant => $name,)+
                }
            }

            /// What it means, in a sentence.
            #[must_use]
            pub fn about(self) -> &'static str {
                match self {
                    $(AnomalyName::$variant => concat!($($doc),+).trim_ascii(),)+
                }
            }
        }
    };
}

anomaly_names! {
    /// One offset of a partition shows two values.
    InconsistentOffsets = "inconsistent-offsets",
    /// One value stands at two offsets.
    Duplicate = "duplicate",
    /// An acknowledged value is missing below the highest offset that was read.
    LostWrite = "lost-write",
    /// An acknowledged value was never read by anybody.
    Unseen = "unseen",
    /// A value was read whose send surely failed.
    AbortedRead = "g1a",
    /// A value was read that nobody sent.
    UnknownValue = "unknown-value",
    /// One poll jumps over records.
    InternalPollSkip = "int-poll-skip",
    /// One poll goes back, or repeats.
    InternalNonmonotonicPoll = "int-nonmonotonic-poll",
    /// A poll jumps over records which the process did not see before.
    PollSkip = "poll-skip",
    /// A poll goes back behind what the process had seen.
    NonmonotonicPoll = "nonmonotonic-poll",
    /// The values of one send do not stand one after the other.
    InternalNonmonotonicSend = "int-nonmonotonic-send",
    /// A later send of a process stands before an earlier one.
    NonmonotonicSend = "nonmonotonic-send",
    /// A send that began after a record was acknowledged or read stands before that record.
    RealtimeOrder = "realtime-order",
    /// A client was given bytes that are not what was sent.
    DamagedData = "damaged-data",
    /// An idempotent producer whose sequence numbers were right was told that they are not.
    SequenceRefused = "sequence-refused",
    /// A value is read at another offset than was acknowledged.
    OffsetMismatch = "offset-mismatch",
    /// A record is shown at or above the high watermark that came with it.
    AboveHighWatermark = "above-high-watermark",
    /// At the end, the high watermark is lower than it was seen, or than what was acknowledged or read.
    HighWatermarkRegressed = "high-watermark-regressed",
    /// Replicas show different records.
    ReplicaDivergence = "replica-divergence",
    /// Replicas show the same records in different bytes.
    ReplicaDigest = "replica-digest",
    /// Replicas end at different offsets, or begin after records that another has.
    ReplicaEnd = "replica-end",
    /// A replica lacks a record that was acknowledged or read.
    ReplicaLostWrite = "replica-lost-write",
    /// After healing a partition takes no writes.
    NotLive = "not-live",
    /// A topic whose creation was acknowledged, or that was seen, is not there.
    TopicLost = "topic-lost",
    /// A topic is there after its deletion was acknowledged, or was seen.
    TopicResurrected = "topic-resurrected",
    /// A topic is there before anybody created it, or although its creation surely failed.
    TopicPhantom = "topic-phantom",
    /// A topic has another number of partitions than it was created with.
    TopicPartitions = "topic-partitions",
    /// A setting reads as no order of its changes explains.
    ConfigNonlinearizable = "config-nonlinearizable",
    /// A committed offset is lower than one that was acknowledged or seen before, or is gone.
    CommittedOffsetLost = "committed-offset-lost",
    /// A committed offset is seen that nobody committed, or whose commit surely failed.
    CommittedOffsetPhantom = "committed-offset-phantom",
    /// Two members of a group own one partition at the same time, or in the same generation.
    TwoOwners = "two-owners",
    /// A member's commit is acknowledged after another member was told that it owns the partition.
    ZombieCommit = "zombie-commit",
    /// A static member that comes back in its generation is told to own other partitions.
    StaticReassigned = "static-reassigned",
    /// A group commits past a record that none of its members had read.
    GroupSkip = "group-skip",
    /// A member reads a record again that was committed before it was told to own the partition.
    GroupReread = "group-reread",
    /// After healing a group does not commit past every record in time.
    GroupNotLive = "group-not-live",
    /// A node uses more memory than it may.
    MemoryUnbounded = "memory-unbounded",
    /// A node has more descriptors open than it may.
    DescriptorsUnbounded = "descriptors-unbounded",
    /// Seen from inside, not in the history: a rule of the nodes' state does not hold.
    Invariant = "invariant",
    /// Seen from outside, not in the history: a node ended by itself.
    Panicked = "panicked",
}

impl fmt::Display for AnomalyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Anomaly {
    /// With nothing but a name and what was seen.
    #[must_use]
    pub fn new(name: AnomalyName, explanation: impl Into<String>) -> Anomaly {
        Anomaly {
            name,
            key: None,
            topic: None,
            node: None,
            explanation: explanation.into(),
            events: Vec::new(),
            values: Vec::new(),
            offsets: Vec::new(),
        }
    }

    pub(crate) fn of_key(mut self, key: &Key) -> Anomaly {
        self.key = Some(key.clone());
        self
    }

    pub(crate) fn of_topic(mut self, topic: &str) -> Anomaly {
        self.topic = Some(topic.to_owned());
        self
    }

    pub(crate) fn of_node(mut self, node: u32) -> Anomaly {
        self.node = Some(node);
        self
    }

    /// The events that prove it.
    pub(crate) fn shown_by(mut self, events: impl IntoIterator<Item = u64>) -> Anomaly {
        self.events.extend(events);
        self.events.sort_unstable();
        self.events.dedup();
        self
    }

    pub(crate) fn about(
        mut self,
        values: impl IntoIterator<Item = Value>,
        offsets: impl IntoIterator<Item = i64>,
    ) -> Anomaly {
        self.values.extend(values);
        self.offsets.extend(offsets);
        self
    }
}

impl Verdict {
    /// Adds what was seen outside the history: it is counted, and told in its place.
    pub fn add(&mut self, anomaly: Anomaly) {
        *self.anomaly_counts.entry(anomaly.name).or_default() += 1;
        self.outcome = Outcome::Anomaly;
        let told = self
            .anomalies
            .iter()
            .filter(|told| told.name == anomaly.name)
            .count();
        if told < ADDED_TOLD_MAX {
            let at = self.anomalies.partition_point(|told| *told <= anomaly);
            self.anomalies.insert(at, anomaly);
        }
    }

    /// As text, with a line break at its end.
    ///
    /// # Errors
    ///
    /// Never in practice: nothing in a verdict cannot be written as JSON.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        Ok(text)
    }
}

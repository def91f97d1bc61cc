//! What travels as JSON: the cluster, its nodes and shards, results and problems.
//!
//! Plain data, read by the command line as it is written here. A field may be added; a reader
//! passes over what it does not know.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::verdict::Verdict;

/// The cluster, as one node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Cluster {
    /// How it fares.
    pub verdict: Verdict,
    /// Its id.
    pub cluster_id: String,
    /// The node that leads the catalogue; `None` while nobody does.
    pub controller: Option<u32>,
    /// Every node, by id.
    pub nodes: Vec<Node>,
    /// Every shard, by id; shard 0 is the catalogue.
    pub shards: Vec<Shard>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Its id.
    pub id: u32,
    /// Its rack, when it has one.
    pub rack: Option<String>,
    /// Whether it is being emptied.
    pub state: NodeState,
    /// Whether it has been heard of within the last seconds.
    pub alive: bool,
    /// Whether it is the node that answers.
    pub local: bool,
    /// Shards it leads.
    pub leads: usize,
    /// Shards it has a replica of.
    pub replicas: usize,
    /// What its drain waits for, if it is being drained and cannot be emptied now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// Shards whose change it held up: it gets no replica of them for a while, and if they are
    /// several none at all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub barred_from: Vec<u32>,
    /// Where it is reached, `host:port` by the name of the listener: `kafka`, `http`, `peers`.
    pub listeners: BTreeMap<String, String>,
}

/// Whether a node takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It does.
    #[default]
    Active,
    /// It is being emptied, or is empty and waits to be removed.
    Draining,
}

/// One shard.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Shard {
    /// Its id.
    pub id: u32,
    /// Its replicas, the preferred leader first.
    pub replicas: Vec<u32>,
    /// The replicas it is on its way to have.
    pub target: Option<Vec<u32>>,
    /// Who votes in it.
    pub voters: Vec<u32>,
    /// Who follows it without a vote.
    pub learners: Vec<u32>,
    /// Who leads it.
    pub leader: Option<u32>,
    /// Its term.
    pub term: u64,
    /// Replicas that have, or nearly have, all that is committed.
    pub in_sync: Vec<u32>,
    /// Partitions it carries.
    pub partitions: usize,
    /// Replicas that copy what they lack.
    pub catching_up: Vec<CatchingUp>,
    /// Nodes that lost their memory, and that the shard has to go on without before they come back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub returning: Vec<u32>,
    /// For how long the change under way has made no progress, once that is long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stalled_seconds: Option<u64>,
}

/// A replica that copies what it lacks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CatchingUp {
    /// The node.
    pub node: u32,
    /// What it lacks still, when that is known.
    pub bytes_left: Option<u64>,
}

/// Every node, under a name, so that more can be said later.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Nodes {
    /// By id.
    pub nodes: Vec<Node>,
}

/// Every shard.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Shards {
    /// By id.
    pub shards: Vec<Shard>,
}

/// Whom to give the leadership to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewLeader {
    /// The node.
    pub to: u32,
}

/// What a rebalance did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Rebalanced {
    /// Leaderships that moved.
    pub moved: usize,
}

/// Whether the node lives, or serves.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ready {
    /// `ok`, or what is missing.
    pub status: String,
}

/// RFC 9457 problem details, with what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// Which kind of problem: a word that programs can go by.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened, and why.
    pub detail: String,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

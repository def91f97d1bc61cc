//! Faults, as a plan names them; whoever owns the nodes knows how to make each.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A node, from 1 on.
pub type NodeId = u32;

/// Something that is broken on purpose, once, until it is undone.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// The processes end at once (SIGKILL); undone by starting them.
    Kill(Vec<NodeId>),
    /// The processes stand still (SIGSTOP).
    Pause(Vec<NodeId>),
    /// These pairs hear nothing of each other: from the first to the second, one way.
    Cut {
        /// `partition-one`, `partition-halves`, `partition-ring`, `partition-bridge`, `partition-one-way`, `partition-leader`.
        name: &'static str,
        /// From, to.
        links: Vec<(NodeId, NodeId)>,
        /// Clients that stay with a node: `(client, node)`; they reach only the nodes which that one reaches.
        clients: Vec<(u32, NodeId)>,
    },
    /// What nodes say to each other is late, lost or out of order.
    Packets {
        /// The nodes.
        nodes: Vec<NodeId>,
        /// Added to each packet's way.
        delay: Duration,
        /// Up to so much more, at random, so that packets overtake each other.
        jitter: Duration,
        /// Packets lost, in a thousand.
        loss_per_mille: u32,
    },
    /// Wall clocks are wrong by so many milliseconds.
    Clock {
        /// The nodes.
        nodes: Vec<NodeId>,
        /// Ahead, or behind when negative.
        offset_ms: i64,
    },
    /// A new node joins; undone by draining and removing it.
    AddNode,
    /// A node is drained and removed; undone by adding a new one.
    RemoveNode(NodeId),
    /// Somebody else leads, without need.
    TransferLeader,
    /// The disk misbehaves.
    Disk {
        /// The nodes.
        nodes: Vec<NodeId>,
        /// How.
        how: DiskFault,
    },
    /// Power goes: the processes end and what was not synced is lost, whole or in part; undone by starting them.
    PowerCut(Vec<NodeId>),
    /// A bit of a file of a stopped or running node flips.
    FlipBit(NodeId),
    /// A node is stopped, one of its files is cut short, and it is started again.
    TruncateFile(NodeId),
    /// A node is stopped, one of its files is deleted, and it is started again.
    DeleteFile(NodeId),
}

/// How a disk misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskFault {
    /// Syncs fail with EIO.
    SyncError,
    /// Writes fail with EIO.
    WriteError,
    /// Writes fail with ENOSPC.
    Full,
    /// Writes write less than they were given.
    ShortWrites,
    /// Syncs take so many milliseconds.
    SlowSync(u32),
    /// Syncs say that they are done and are not, until power is cut.
    LyingSync,
}

impl Fault {
    /// Its name in histories and reports, in kebab case: `partition-halves`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Fault::Kill(_) => "kill",
            Fault::Pause(_) => "pause",
            Fault::Cut { name, .. } => name,
            Fault::Packets { .. } => "packet",
            Fault::Clock { .. } => "clock",
            Fault::AddNode => "member-add",
            Fault::RemoveNode(_) => "member-remove",
            Fault::TransferLeader => "transfer",
            Fault::Disk { how, .. } => how.name(),
            Fault::PowerCut(_) => "power",
            Fault::FlipBit(_) => "bitflip",
            Fault::TruncateFile(_) => "file-truncate",
            Fault::DeleteFile(_) => "file-delete",
        }
    }

    /// The nodes it strikes, ascending; none where that shows only when it begins.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        let mut nodes = match self {
            Fault::Kill(nodes) | Fault::Pause(nodes) | Fault::PowerCut(nodes) => nodes.clone(),
            Fault::Packets { nodes, .. }
            | Fault::Clock { nodes, .. }
            | Fault::Disk { nodes, .. } => nodes.clone(),
            Fault::Cut { links, .. } => links.iter().flat_map(|(a, b)| [*a, *b]).collect(),
            Fault::AddNode | Fault::TransferLeader => Vec::new(),
            Fault::RemoveNode(node)
            | Fault::FlipBit(node)
            | Fault::TruncateFile(node)
            | Fault::DeleteFile(node) => vec![*node],
        };
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }
}

impl DiskFault {
    /// Its name in histories and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DiskFault::SyncError => "disk-sync-error",
            DiskFault::WriteError => "disk-write-error",
            DiskFault::Full => "disk-full",
            DiskFault::ShortWrites => "disk-short-writes",
            DiskFault::SlowSync(_) => "disk-slow-sync",
            DiskFault::LyingSync => "disk-lying-sync",
        }
    }
}

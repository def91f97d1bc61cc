//! [`FaultSpec`]: a fault as a plan has it, before it is known which nodes there are.

use serde::{Deserialize, Serialize};

use crate::fault::DiskFault;

/// Which nodes are struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Any one.
    One,
    /// As many as may fail.
    Minority,
    /// One more than that, or more.
    Majority,
    /// Every one.
    All,
    /// Who leads when it begins; any one if nobody does.
    Leader,
}

/// How nodes are cut off from each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// One node from all others.
    One,
    /// A minority from a majority.
    Halves,
    /// Everyone hears a majority, and nobody the same one. Of four nodes or more.
    Ring,
    /// Two halves that have one node in common.
    Bridge,
    /// One node is not heard, or does not hear.
    OneWay,
    /// The leader from all others; some clients stay with it.
    Leader,
}

impl Shape {
    pub(super) const ALL: [Shape; 6] = [
        Shape::One,
        Shape::Halves,
        Shape::Ring,
        Shape::Bridge,
        Shape::OneWay,
        Shape::Leader,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Shape::One => "partition-one",
            Shape::Halves => "partition-halves",
            Shape::Ring => "partition-ring",
            Shape::Bridge => "partition-bridge",
            Shape::OneWay => "partition-one-way",
            Shape::Leader => "partition-leader",
        }
    }
}

/// A fault, before it is known which nodes it strikes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum FaultSpec {
    /// See [`Kill`](crate::fault::Fault::Kill).
    Kill {
        /// Whom.
        target: Target,
    },
    /// See [`Pause`](crate::fault::Fault::Pause).
    Pause {
        /// Whom.
        target: Target,
    },
    /// See [`Cut`](crate::fault::Fault::Cut).
    Partition {
        /// How.
        shape: Shape,
    },
    /// See [`Packets`](crate::fault::Fault::Packets).
    Packets {
        /// Whom.
        target: Target,
        /// Added to each packet's way.
        delay_ms: u64,
        /// Up to so much more.
        jitter_ms: u64,
        /// Lost, in a thousand.
        loss_per_mille: u32,
    },
    /// See [`Clock`](crate::fault::Fault::Clock).
    Clock {
        /// Whom.
        target: Target,
        /// Ahead, or behind when negative.
        offset_ms: i64,
    },
    /// See [`AddNode`](crate::fault::Fault::AddNode).
    AddNode,
    /// See [`RemoveNode`](crate::fault::Fault::RemoveNode).
    RemoveNode,
    /// See [`TransferLeader`](crate::fault::Fault::TransferLeader).
    TransferLeader,
    /// See [`Disk`](crate::fault::Fault::Disk).
    Disk {
        /// Whom.
        target: Target,
        /// How.
        how: DiskFault,
    },
    /// See [`PowerCut`](crate::fault::Fault::PowerCut).
    PowerCut {
        /// Whom.
        target: Target,
    },
    /// See [`FlipBit`](crate::fault::Fault::FlipBit).
    FlipBit,
    /// See [`TruncateFile`](crate::fault::Fault::TruncateFile).
    TruncateFile,
    /// See [`DeleteFile`](crate::fault::Fault::DeleteFile).
    DeleteFile,
}

impl FaultSpec {
    /// Whether it is a disk that says it has synced, and has not.
    pub(super) fn lies(&self) -> bool {
        let how = match self {
            FaultSpec::Disk { how, .. } => Some(*how),
            _ => None,
        };
        how == Some(DiskFault::LyingSync)
    }
}

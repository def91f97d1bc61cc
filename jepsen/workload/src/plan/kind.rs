//! [`Kind`]: the kinds of faults that may be asked for, by the names of the command line.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A kind of fault that may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Processes end.
    Kill,
    /// Processes stand still.
    Pause,
    /// Nodes do not hear each other.
    Partition,
    /// Packets are late, lost or overtake each other.
    Packet,
    /// Wall clocks are wrong.
    Clock,
    /// Nodes join and leave.
    Membership,
    /// Somebody else leads.
    Transfer,
    /// Disks fail, are full, slow or lie.
    Disk,
    /// Power goes, and with it what was not synced.
    Power,
    /// Bits flip in files.
    Bitflip,
    /// Files are cut short or deleted.
    Files,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 11] = [
        Kind::Kill,
        Kind::Pause,
        Kind::Partition,
        Kind::Packet,
        Kind::Clock,
        Kind::Membership,
        Kind::Transfer,
        Kind::Disk,
        Kind::Power,
        Kind::Bitflip,
        Kind::Files,
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Kill => "kill",
            Kind::Pause => "pause",
            Kind::Partition => "partition",
            Kind::Packet => "packet",
            Kind::Clock => "clock",
            Kind::Membership => "membership",
            Kind::Transfer => "transfer",
            Kind::Disk => "disk",
            Kind::Power => "power",
            Kind::Bitflip => "bitflip",
            Kind::Files => "files",
        }
    }

    /// What it does, in a sentence.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Kind::Kill => "processes end at once (SIGKILL) and are started again",
            Kind::Pause => "processes stand still (SIGSTOP) and go on",
            Kind::Partition => {
                "links between nodes are cut: one node, halves, ring, bridge, one way, a leader with its clients"
            }
            Kind::Packet => "packets between nodes are late, lost and overtake each other",
            Kind::Clock => "wall clocks jump forwards or backwards, each node by itself",
            Kind::Membership => "nodes join, are drained and removed",
            Kind::Transfer => "leadership is given to another replica without need",
            Kind::Disk => {
                "writes and syncs fail, are short or slow, the disk is full, a sync lies until power is cut"
            }
            Kind::Power => "processes end and what was not synced is lost",
            Kind::Bitflip => "a bit flips in a file of a minority of the nodes",
            Kind::Files => "a file of a minority of the nodes is cut short or deleted",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No kind of fault has that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no nemesis `{0}`; there are {list}", list = Kind::ALL.map(Kind::name).join(", "))]
pub struct UnknownKind(String);

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Kind, UnknownKind> {
        let mut all = Kind::ALL.into_iter();
        all.find(|kind| kind.name() == name)
            .ok_or_else(|| UnknownKind(name.to_owned()))
    }
}

//! The plan of faults: what breaks when, for how long, drawn from a seed.
//!
//! Time goes in rounds of a few seconds. Each takes a random part of the kinds asked for, mostly one,
//! sometimes two or three, sometimes none, and between rounds the cluster may rest. Which nodes are
//! struck is a class of nodes until the step begins, when [`Step::resolve`] is told who there is and
//! who leads.
//!
//! Limits keep the promises in force: what damages what is on disk (bit flips, cut or deleted files,
//! syncs that lie) strikes a minority of the nodes, the same one through the whole plan; a disk that
//! lies is alone with its fault, on one node, and is undone by a power cut of that node.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fault::{DiskFault, Fault, NodeId};
use crate::random::Random;

/// Nothing breaks before clients have begun.
const BEGIN_MS: u64 = 1_500;
/// Replicas of a topic: files of a minority of them may be damaged, however many nodes there are.
const REPLICAS: usize = 3;
/// The steps of a round begin within so long.
const STAGGER_MS: u64 = 1_500;
/// A step lasts at least so long.
const STEP_MS_MIN: u64 = 300;
/// After a disk that lied, until its node has surely caught up.
const REST_AFTER_LIE_MS: u64 = 8_000;

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
    const ALL: [Shape; 6] = [
        Shape::One,
        Shape::Halves,
        Shape::Ring,
        Shape::Bridge,
        Shape::OneWay,
        Shape::Leader,
    ];

    fn name(self) -> &'static str {
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
    /// See [`Fault::Kill`].
    Kill {
        /// Whom.
        target: Target,
    },
    /// See [`Fault::Pause`].
    Pause {
        /// Whom.
        target: Target,
    },
    /// See [`Fault::Cut`].
    Partition {
        /// How.
        shape: Shape,
    },
    /// See [`Fault::Packets`].
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
    /// See [`Fault::Clock`].
    Clock {
        /// Whom.
        target: Target,
        /// Ahead, or behind when negative.
        offset_ms: i64,
    },
    /// See [`Fault::AddNode`].
    AddNode,
    /// See [`Fault::RemoveNode`].
    RemoveNode,
    /// See [`Fault::TransferLeader`].
    TransferLeader,
    /// See [`Fault::Disk`].
    Disk {
        /// Whom.
        target: Target,
        /// How.
        how: DiskFault,
    },
    /// See [`Fault::PowerCut`].
    PowerCut {
        /// Whom.
        target: Target,
    },
    /// See [`Fault::FlipBit`].
    FlipBit,
    /// See [`Fault::TruncateFile`].
    TruncateFile,
    /// See [`Fault::DeleteFile`].
    DeleteFile,
}

/// What a step must know of the cluster when it begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The nodes that are members.
    pub nodes: Vec<NodeId>,
    /// Who leads, of some partition that is written to.
    pub leader: Option<NodeId>,
    /// The clients, as in [`crate::World::kafka_addresses`].
    pub clients: Vec<u32>,
}

/// Something that breaks, once, and is mended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When it begins, since clients began, in milliseconds.
    pub at_ms: u64,
    /// How long it lasts, in milliseconds.
    pub lasts_ms: u64,
    /// What breaks.
    pub fault: FaultSpec,
    /// Draws the nodes.
    pub draw: u64,
    /// The nodes that may be damaged: no majority of any topic's replicas.
    pub unlucky: Vec<NodeId>,
    /// It may take from a node what it has answered for, so that only those are struck.
    pub is_damage: bool,
}

/// What is to be done at a moment of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action {
    /// When, since clients began.
    pub at: Duration,
    /// The step, as an index into [`Plan::steps`].
    pub step: usize,
    /// Whether it begins; otherwise it ends.
    pub begins: bool,
}

/// How soon one round follows another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Rounds of three to ten seconds, and rests between: what takes a while has the time.
    Steady,
    /// Rounds of one and a half to five seconds, and hardly a rest: much breaks in a short run.
    Brisk,
}

impl Pace {
    fn round_ms(self, random: &mut Random) -> u64 {
        match self {
            Pace::Steady => 3_000 + random.below(7_000),
            Pace::Brisk => 1_500 + random.below(3_500),
        }
    }

    fn rest_ms_max(self) -> u64 {
        match self {
            Pace::Steady => 3_000,
            Pace::Brisk => 1_000,
        }
    }

    /// Steps of a round.
    fn count(self, random: &mut Random) -> u64 {
        match (self, random.below(10)) {
            (Pace::Steady, 0) => 0,
            (Pace::Steady, 1..=5) | (Pace::Brisk, 0..=3) => 1,
            (Pace::Steady, 6..=8) | (Pace::Brisk, 4..=7) => 2,
            _ => 3,
        }
    }
}

/// What breaks when.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// In the order in which they begin.
    pub steps: Vec<Step>,
}

impl Plan {
    /// A plan for so many nodes, whose numbers are 1 and on, that is over after `duration`.
    #[must_use]
    pub fn make(seed: u64, duration: Duration, kinds: &[Kind], nodes: u32) -> Plan {
        Plan::paced(seed, duration, kinds, nodes, Pace::Steady)
    }

    /// The same plan for nodes that answer before they sync. A disk that fails costs those their
    /// memory, as damage does; so it strikes the same nodes only.
    #[must_use]
    pub fn for_relaxed(mut self) -> Plan {
        for step in &mut self.steps {
            step.is_damage |= match &step.fault {
                FaultSpec::Disk { how, .. } => !matches!(how, DiskFault::SlowSync(_)),
                _ => false,
            };
        }
        self
    }

    /// Such a plan, at a pace.
    #[must_use]
    pub fn paced(seed: u64, duration: Duration, kinds: &[Kind], nodes: u32, pace: Pace) -> Plan {
        let kinds: Vec<Kind> = kinds
            .iter()
            .copied()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        let mut maker = Maker {
            random: Random::new(seed ^ 0x6e65_6d65_7369_7321),
            unlucky: Vec::new(),
            nodes,
            pace,
            bag: Vec::new(),
            shapes: Vec::new(),
            disks: Vec::new(),
        };
        let all: Vec<NodeId> = (1..=nodes).collect();
        let count = minority(all.len().min(REPLICAS));
        maker.unlucky = draw_some(&mut maker.random, &all, count);
        let end_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let mut steps = Vec::new();
        let mut now_ms = BEGIN_MS.min(end_ms / 8);
        while !kinds.is_empty() && now_ms + STEP_MS_MIN < end_ms {
            now_ms = maker.round(&kinds, now_ms, end_ms, &mut steps);
        }
        steps.sort_by_key(|step: &Step| step.at_ms);
        Plan { steps }
    }

    /// Every begin and end, in order of time; at one time, ends come first.
    #[must_use]
    pub fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        for (
            step,
            Step {
                at_ms, lasts_ms, ..
            },
        ) in self.steps.iter().enumerate()
        {
            for (at_ms, begins) in [(*at_ms, true), (at_ms + lasts_ms, false)] {
                let at = Duration::from_millis(at_ms);
                actions.push(Action { at, step, begins });
            }
        }
        actions.sort_by_key(|action| (action.at, action.begins, action.step));
        actions
    }
}

/// Draws a plan.
struct Maker {
    random: Random,
    unlucky: Vec<NodeId>,
    nodes: u32,
    pace: Pace,
    /// Kinds, shapes and disk faults that had no turn yet: each comes before any comes again.
    bag: Vec<Kind>,
    shapes: Vec<Shape>,
    disks: Vec<DiskFault>,
}

impl Maker {
    /// Adds a round's steps; when the next round begins.
    fn round(&mut self, kinds: &[Kind], from_ms: u64, end_ms: u64, steps: &mut Vec<Step>) -> u64 {
        let length_ms = self.pace.round_ms(&mut self.random);
        let until_ms = (from_ms + length_ms).min(end_ms);
        let count = self.pace.count(&mut self.random);
        let mut specs = Vec::new();
        for _ in 0..count {
            let kind = draw_from(&mut self.random, &mut self.bag, kinds);
            let is_there = |(there, _): &(Kind, FaultSpec)| *there == kind;
            if !specs.iter().any(is_there) {
                let spec = self.spec(kind);
                specs.push((kind, spec));
            }
        }
        let lies = specs.iter().position(|(_, spec)| spec.lies());
        if let Some(at) = lies {
            specs = vec![specs.swap_remove(at)];
        }
        for (_, fault) in specs {
            let room_ms = until_ms
                .saturating_sub(from_ms + STEP_MS_MIN)
                .min(STAGGER_MS);
            let at_ms = from_ms + self.random.below(room_ms + 1);
            let longest_ms = until_ms.saturating_sub(at_ms).max(1);
            let lasts_ms = (STEP_MS_MIN + self.random.below(longest_ms)).min(longest_ms);
            let is_damage = match &fault {
                FaultSpec::FlipBit | FaultSpec::TruncateFile | FaultSpec::DeleteFile => true,
                FaultSpec::Disk { how, .. } => *how == DiskFault::LyingSync,
                _ => false,
            };
            steps.push(Step {
                at_ms,
                lasts_ms,
                fault,
                draw: self.random.next_u64(),
                unlucky: self.unlucky.clone(),
                is_damage,
            });
        }
        let rest_ms = match (lies, self.random.below(3)) {
            (Some(_), _) => REST_AFTER_LIE_MS,
            (None, 0) => 0,
            (None, _) => self.random.below(self.pace.rest_ms_max()),
        };
        until_ms + rest_ms
    }

    fn spec(&mut self, kind: Kind) -> FaultSpec {
        match kind {
            Kind::Kill => FaultSpec::Kill {
                target: self.target(),
            },
            Kind::Pause => FaultSpec::Pause {
                target: self.target(),
            },
            Kind::Power => FaultSpec::PowerCut {
                target: self.target(),
            },
            Kind::Partition => {
                let shapes = Shape::ALL.into_iter();
                let shapes = shapes.filter(|shape| *shape != Shape::Ring || self.nodes >= 4);
                let shapes: Vec<Shape> = shapes.collect();
                FaultSpec::Partition {
                    shape: draw_from(&mut self.random, &mut self.shapes, &shapes),
                }
            }
            Kind::Packet => self.packets(),
            Kind::Clock => FaultSpec::Clock {
                target: self.target(),
                offset_ms: self.clock_offset_ms(),
            },
            Kind::Membership => match self.random.below(2) {
                0 => FaultSpec::AddNode,
                _ => FaultSpec::RemoveNode,
            },
            Kind::Transfer => FaultSpec::TransferLeader,
            Kind::Disk => self.disk(),
            Kind::Bitflip => FaultSpec::FlipBit,
            Kind::Files => match self.random.below(2) {
                0 => FaultSpec::TruncateFile,
                _ => FaultSpec::DeleteFile,
            },
        }
    }

    fn target(&mut self) -> Target {
        match self.random.below(10) {
            0..=2 => Target::One,
            3..=4 => Target::Minority,
            5 => Target::Majority,
            6 => Target::All,
            _ => Target::Leader,
        }
    }

    fn packets(&mut self) -> FaultSpec {
        let target = match self.random.below(2) {
            0 => Target::All,
            _ => self.target(),
        };
        let delay_ms = self
            .random
            .pick(&[0, 5, 20, 60, 150])
            .copied()
            .unwrap_or(20);
        let jitter_ms = self.random.pick(&[0, 5, 30, 100]).copied().unwrap_or(5);
        let loss_per_mille = self.random.pick(&[0, 5, 30, 150]).copied().unwrap_or(5);
        let nothing = delay_ms + jitter_ms == 0 && loss_per_mille == 0;
        FaultSpec::Packets {
            target,
            delay_ms: if nothing { 20 } else { delay_ms },
            jitter_ms,
            loss_per_mille,
        }
    }

    fn clock_offset_ms(&mut self) -> i64 {
        // From a tenth of a second to about a month, any size as likely as another.
        let size_ms = 100_u64 << self.random.below(25);
        let offset_ms = i64::try_from(size_ms + self.random.below(size_ms)).unwrap_or(100);
        match self.random.below(2) {
            0 => offset_ms,
            _ => -offset_ms,
        }
    }

    fn disk(&mut self) -> FaultSpec {
        let slow_ms = 20_u32 << self.random.below(7);
        let all = [
            DiskFault::SyncError,
            DiskFault::WriteError,
            DiskFault::Full,
            DiskFault::ShortWrites,
            DiskFault::SlowSync(slow_ms),
            DiskFault::LyingSync,
        ];
        let how = draw_from(&mut self.random, &mut self.disks, &all);
        let target = match how {
            DiskFault::LyingSync => Target::One,
            _ => self.target(),
        };
        FaultSpec::Disk { target, how }
    }
}

impl FaultSpec {
    fn lies(&self) -> bool {
        let how = match self {
            FaultSpec::Disk { how, .. } => Some(*how),
            _ => None,
        };
        how == Some(DiskFault::LyingSync)
    }
}

impl Step {
    /// How long it lasts.
    #[must_use]
    pub fn lasts(&self) -> Duration {
        Duration::from_millis(self.lasts_ms)
    }

    /// What it comes to now; `None` where it would strike nobody, or break what promises rest on.
    #[must_use]
    pub fn resolve(&self, standing: &Standing) -> Option<Fault> {
        let mut draw = Draw {
            random: Random::new(self.draw),
            standing,
        };
        let unlucky = |draw: &mut Draw<'_>| {
            let unlucky = self.unlucky.iter().copied();
            let unlucky: Vec<NodeId> = unlucky.filter(|n| standing.nodes.contains(n)).collect();
            let is_minority = unlucky.len() <= minority(standing.nodes.len());
            let node = draw.random.pick(&unlucky).copied();
            node.filter(|_| is_minority)
        };
        let some = |nodes: Vec<NodeId>| (!nodes.is_empty()).then_some(nodes);
        match &self.fault {
            FaultSpec::Kill { target } => some(draw.nodes(*target)).map(Fault::Kill),
            FaultSpec::Pause { target } => some(draw.nodes(*target)).map(Fault::Pause),
            FaultSpec::PowerCut { target } => some(draw.nodes(*target)).map(Fault::PowerCut),
            FaultSpec::Partition { shape } => draw.cut(*shape),
            FaultSpec::Packets {
                target,
                delay_ms,
                jitter_ms,
                loss_per_mille,
            } => some(draw.nodes(*target)).map(|nodes| Fault::Packets {
                nodes,
                delay: Duration::from_millis(*delay_ms),
                jitter: Duration::from_millis(*jitter_ms),
                loss_per_mille: *loss_per_mille,
            }),
            FaultSpec::Clock { target, offset_ms } => {
                some(draw.nodes(*target)).map(|nodes| Fault::Clock {
                    nodes,
                    offset_ms: *offset_ms,
                })
            }
            FaultSpec::AddNode => Some(Fault::AddNode),
            // Three must be left for a topic's three replicas.
            FaultSpec::RemoveNode if standing.nodes.len() > 3 => draw
                .nodes(Target::One)
                .first()
                .copied()
                .map(Fault::RemoveNode),
            FaultSpec::RemoveNode => Some(Fault::AddNode),
            FaultSpec::TransferLeader => Some(Fault::TransferLeader),
            FaultSpec::Disk { how, .. } if self.is_damage => {
                unlucky(&mut draw).map(|node| Fault::Disk {
                    nodes: vec![node],
                    how: *how,
                })
            }
            FaultSpec::Disk { target, how } => {
                some(draw.nodes(*target)).map(|nodes| Fault::Disk { nodes, how: *how })
            }
            FaultSpec::FlipBit => unlucky(&mut draw).map(Fault::FlipBit),
            FaultSpec::TruncateFile => unlucky(&mut draw).map(Fault::TruncateFile),
            FaultSpec::DeleteFile => unlucky(&mut draw).map(Fault::DeleteFile),
        }
    }
}

/// Draws the nodes of one step.
struct Draw<'a> {
    random: Random,
    standing: &'a Standing,
}

impl Draw<'_> {
    fn nodes(&mut self, target: Target) -> Vec<NodeId> {
        let all = &self.standing.nodes;
        let leader = self.standing.leader.filter(|leader| all.contains(leader));
        let count = match (target, leader) {
            (Target::Leader, Some(leader)) => return vec![leader],
            (Target::One | Target::Leader, _) => 1,
            (Target::Minority, _) => minority(all.len()).max(1),
            (Target::Majority, _) => all.len() / 2 + 1,
            (Target::All, _) => all.len(),
        };
        draw_some(&mut self.random, all, count)
    }

    fn cut(&mut self, shape: Shape) -> Option<Fault> {
        let all = self.standing.nodes.clone();
        if all.len() < 2 {
            return None;
        }
        let mut clients = Vec::new();
        let links = match shape {
            Shape::One => {
                let one = self.nodes(Target::One);
                between(&one, &without(&all, &one))
            }
            Shape::Halves => {
                let few = self.nodes(Target::Minority);
                between(&few, &without(&all, &few))
            }
            Shape::Leader => {
                let leader = self.nodes(Target::Leader);
                for client in &self.standing.clients {
                    if self.random.chance(1, 2) {
                        clients.push((*client, *leader.first()?));
                    }
                }
                between(&leader, &without(&all, &leader))
            }
            Shape::OneWay => {
                let one = self.nodes(Target::Leader);
                let others = without(&all, &one);
                match self.random.below(2) {
                    0 => pairs(&one, &others),
                    _ => pairs(&others, &one),
                }
            }
            Shape::Bridge => {
                let mut rest = draw_some(&mut self.random, &all, all.len());
                rest.pop();
                let other = rest.split_off(rest.len() / 2);
                between(&rest, &other)
            }
            Shape::Ring => {
                let ring = draw_some_in_order(&mut self.random, &all, all.len());
                let reach = (all.len() / 2).div_ceil(2);
                let mut links = Vec::new();
                for (from, a) in ring.iter().enumerate() {
                    for (to, b) in ring.iter().enumerate() {
                        let apart = from.abs_diff(to);
                        if apart.min(ring.len() - apart) > reach {
                            links.push((*a, *b));
                        }
                    }
                }
                links
            }
        };
        (!links.is_empty()).then(|| Fault::Cut {
            name: shape.name(),
            links,
            clients,
        })
    }
}

/// How many of so many may fail.
fn minority(of: usize) -> usize {
    of.saturating_sub(1) / 2
}

fn without(all: &[NodeId], some: &[NodeId]) -> Vec<NodeId> {
    all.iter().copied().filter(|n| !some.contains(n)).collect()
}

fn pairs(from: &[NodeId], to: &[NodeId]) -> Vec<(NodeId, NodeId)> {
    let each = from.iter().flat_map(|a| to.iter().map(|b| (*a, *b)));
    each.collect()
}

fn between(one: &[NodeId], other: &[NodeId]) -> Vec<(NodeId, NodeId)> {
    let mut links = pairs(one, other);
    links.extend(pairs(other, one));
    links
}

/// So many of them, in ascending order.
fn draw_some(random: &mut Random, of: &[NodeId], count: usize) -> Vec<NodeId> {
    let mut some = draw_some_in_order(random, of, count);
    some.sort_unstable();
    some
}

/// So many of them, in the order drawn.
fn draw_some_in_order(random: &mut Random, of: &[NodeId], count: usize) -> Vec<NodeId> {
    let mut left = of.to_vec();
    let mut some = Vec::new();
    while some.len() < count && !left.is_empty() {
        some.push(draw_out(random, &mut left));
    }
    some
}

/// One out of what is left; when nothing is, everything is again.
fn draw_from<T: Copy>(random: &mut Random, left: &mut Vec<T>, all: &[T]) -> T {
    if left.is_empty() {
        left.extend_from_slice(all);
    }
    draw_out(random, left)
}

/// One of these, which is some, taken out.
fn draw_out<T>(random: &mut Random, of: &mut Vec<T>) -> T {
    let len = u64::try_from(of.len()).unwrap_or(u64::MAX);
    let at = usize::try_from(random.below(len)).unwrap_or(0);
    of.swap_remove(at)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;

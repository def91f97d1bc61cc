//! [`Maker`]: draws a plan's rounds, one after the other, at a [`Pace`].

use super::draw::{draw_from, draw_some, minority};
use super::kind::Kind;
use super::spec::{FaultSpec, Shape, Target};
use super::step::Step;
use crate::fault::{DiskFault, NodeId};
use crate::random::Random;

/// Nothing breaks before clients have begun.
const BEGIN_MS: u64 = 1_500;
/// Replicas of a topic: files of a minority of them may be damaged, however many nodes there are.
const REPLICAS: usize = 3;
/// The steps of a round begin within so long.
const STAGGER_MS: u64 = 1_500;
/// A step lasts at least so long.
pub(super) const STEP_MS_MIN: u64 = 300;
/// After a disk that lied, until its node has surely caught up.
pub(super) const REST_AFTER_LIE_MS: u64 = 8_000;
/// Where there are lulls, nothing breaks before so long: a group forms meanwhile.
const BEGIN_BEFORE_LULLS_MS: u64 = 4_000;
/// What breaks goes on for so long, at least and by some of a round more, and then comes a lull.
pub(super) const STORM_MS: u64 = 8_000;
/// A lull: a session of six seconds ends in it, and those who are left share anew what its owner had.
pub(super) const LULL_MS: u64 = 11_000;

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

/// Draws a plan.
pub(super) struct Maker {
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
    /// For so many nodes, whose numbers are 1 and on.
    pub(super) fn new(seed: u64, nodes: u32, pace: Pace) -> Maker {
        let mut random = Random::new(seed ^ 0x6e65_6d65_7369_7321);
        let all: Vec<NodeId> = (1..=nodes).collect();
        let count = minority(all.len().min(REPLICAS));
        let unlucky = draw_some(&mut random, &all, count);
        Maker {
            random,
            unlucky,
            nodes,
            pace,
            bag: Vec::new(),
            shapes: Vec::new(),
            disks: Vec::new(),
        }
    }

    /// The steps of a plan that is over at `end_ms`, in the order in which they begin.
    pub(super) fn steps(mut self, kinds: &[Kind], end_ms: u64, has_lulls: bool) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut now_ms = match has_lulls {
            true => BEGIN_BEFORE_LULLS_MS.min(end_ms / 3),
            false => BEGIN_MS.min(end_ms / 8),
        };
        let mut storm_began_ms = now_ms;
        while !kinds.is_empty() && now_ms + STEP_MS_MIN < end_ms {
            now_ms = self.round(kinds, now_ms, end_ms, &mut steps);
            if has_lulls && now_ms >= storm_began_ms + STORM_MS {
                now_ms += LULL_MS;
                storm_began_ms = now_ms;
            }
        }
        steps.sort_by_key(|step| step.at_ms);
        steps
    }

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

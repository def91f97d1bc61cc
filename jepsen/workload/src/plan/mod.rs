//! The plan of faults: what breaks when, for how long, drawn from a seed.
//!
//! Time goes in rounds of a few seconds. Each takes a random part of the kinds asked for, mostly one,
//! sometimes two or three, sometimes none, and between rounds the cluster may rest. Which nodes are
//! struck is a class of nodes until the step begins, when [`Step::resolve`] is told who there is and
//! who leads.
//!
//! Where a group is to come to rest now and then, a plan has lulls ([`Plan::lulled`]).
//!
//! Limits keep the promises in force: what damages what is on disk (bit flips, cut or deleted files,
//! syncs that lie) strikes a minority of the nodes, the same one through the whole plan; a disk that
//! lies is alone with its fault, on one node, and is undone by a power cut of that node.

mod draw;
mod kind;
mod maker;
mod spec;
mod step;

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use kind::{Kind, UnknownKind};
use maker::Maker;
pub use maker::Pace;
pub use spec::{FaultSpec, Shape, Target};
pub use step::{Standing, Step};

use crate::fault::DiskFault;

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
        Plan::drawn(seed, duration, kinds, nodes, pace, false)
    }

    /// A plan at a pace that has lulls of some ten seconds: a consumer group's rebalance takes as
    /// long, and where faults never end for that long little of what groups promise is seen.
    #[must_use]
    pub fn lulled(seed: u64, duration: Duration, kinds: &[Kind], nodes: u32, pace: Pace) -> Plan {
        Plan::drawn(seed, duration, kinds, nodes, pace, true)
    }

    fn drawn(
        seed: u64,
        duration: Duration,
        kinds: &[Kind],
        nodes: u32,
        pace: Pace,
        has_lulls: bool,
    ) -> Plan {
        let kinds: BTreeSet<Kind> = kinds.iter().copied().collect();
        let kinds: Vec<Kind> = kinds.into_iter().collect();
        let end_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let maker = Maker::new(seed, nodes, pace);
        Plan {
            steps: maker.steps(&kinds, end_ms, has_lulls),
        }
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

#[cfg(test)]
mod tests;

//! Consumer groups: who owns a partition, what is committed, and what was read in between.
//!
//! Offsets committed for a partition only rise in these histories, since nobody resets them. A commit
//! of unknown outcome may count at any time, or never. What a member owns is certain from the answer
//! that told it to the last request that was acknowledged to it as a member while it still held the
//! partition: a member that is cut off may think what it likes.

mod lag;
mod offsets;
mod owners;
mod reads;
mod rests;

use std::collections::BTreeMap;

pub(super) use rests::stats;

use super::findings::Findings;
use super::limits::Limits;
use super::log::Partition;
use super::run::{KeyId, Run};
use crate::history::{Group, Kind, Op};

/// A group and a partition.
type Place<'a> = (&'a str, KeyId);

/// Judges all groups.
pub(crate) fn check(
    run: &Run<'_>,
    partitions: &[Partition],
    limits: &Limits,
    findings: &mut Findings,
) {
    let commits = Commits::new(run);
    offsets::check(run, &commits, findings);
    owners::check(run, findings);
    reads::check(run, partitions, &commits, findings);
    lag::check(run, &commits, limits, findings);
    rests::check(run, limits, findings);
}

/// What was committed and what was seen of it, by place, each in the order of invocations.
#[derive(Debug, Default)]
struct Commits<'a> {
    commits: BTreeMap<Place<'a>, Vec<Commit>>,
    looks: BTreeMap<Place<'a>, Vec<Look>>,
}

/// A commit of one partition's offset.
#[derive(Debug, Clone, Copy)]
struct Commit {
    offset: i64,
    invoked: usize,
    completed: Option<usize>,
    outcome: Kind,
}

/// What somebody saw of one partition's committed offset.
#[derive(Debug, Clone, Copy)]
struct Look {
    offset: i64,
    invoked: usize,
    completed: usize,
}

impl<'a> Commits<'a> {
    fn new(run: &Run<'a>) -> Commits<'a> {
        let mut all = Commits::default();
        for (invoked, event) in run.events.iter().enumerate() {
            let (Kind::Invoke, Op::Group(group)) = (event.kind, &event.op) else {
                continue;
            };
            let (completed, outcome) = (run.partner[invoked], run.outcome(invoked));
            match group {
                Group::Commit { group, offsets, .. } => {
                    for (key, offset) in offsets {
                        let place = (group.as_str(), run.key_id(key));
                        all.commits.entry(place).or_default().push(Commit {
                            offset: *offset,
                            invoked,
                            completed,
                            outcome,
                        });
                    }
                }
                Group::Committed { group, .. } => {
                    let (Kind::Ok, Some(completed)) = (outcome, completed) else {
                        continue;
                    };
                    let Op::Group(Group::Committed { offsets, .. }) = &run.events[completed].op
                    else {
                        continue;
                    };
                    for (key, offset) in offsets {
                        let place = (group.as_str(), run.key_id(key));
                        all.looks.entry(place).or_default().push(Look {
                            offset: *offset,
                            invoked,
                            completed,
                        });
                    }
                }
                Group::Join(_) | Group::Heartbeat(_) | Group::Leave { .. } => {}
            }
        }
        all
    }

    /// The highest offset acknowledged before a position, and where.
    fn acknowledged_before(&self, place: Place<'a>, position: usize) -> Option<(i64, usize)> {
        let commits = self.commits.get(&place)?.iter();
        let acknowledged = commits.filter(|commit| commit.outcome == Kind::Ok);
        let done = acknowledged.filter_map(|commit| Some((commit.offset, commit.completed?)));
        done.filter(|(_, completed)| *completed < position).max()
    }
}

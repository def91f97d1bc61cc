//! What each process saw, one poll after the other: no record left out, none twice, none before its
//! time. And, of all processes together, which part of each log somebody went over.
//!
//! A process has a place in each partition: the offset it was assigned at, then the one after the
//! last record it got. An assignment replaces all places; a crash forgets them; a poll that was not
//! acknowledged is looked at and moves none. A process without a place takes one from what it gets.

use std::collections::{BTreeMap, HashMap};

use super::super::findings::Findings;
use super::super::limits::Limits;
use super::super::run::{KeyId, Run};
use super::super::verdict::{Anomaly, AnomalyName};
use super::partition::Partition;
use crate::history::{Event, Kind, Op, Process, Read};

/// What the polls of all processes went over, by key.
pub(crate) struct Walked {
    // By key: from an offset, below another; sorted, apart from each other.
    covered: Vec<Vec<(i64, i64)>>,
    /// By key, what phase `final` saw.
    pub(crate) finals: Vec<FinalReads>,
}

/// What polls that began in phase `final` showed of a key.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FinalReads {
    /// The highest high watermark, and where.
    pub(crate) high_watermark: Option<(i64, usize)>,
    /// The furthest place at which a process stood at or above the high watermark it was told.
    pub(crate) caught_up: Option<(i64, usize)>,
    /// The furthest place of a process.
    pub(crate) reached: Option<i64>,
}

impl Walked {
    /// Whether somebody went past an offset.
    pub(crate) fn is_covered(&self, key: KeyId, offset: i64) -> bool {
        let covered = &self.covered[key];
        let after = covered.partition_point(|(from, _)| *from <= offset);
        after > 0 && offset < covered[after - 1].1
    }
}

/// Where a process is in a partition: the offset it reads next, and what brought it there.
#[derive(Debug, Clone, Copy)]
struct Place {
    next: i64,
    by: usize,
}

pub(super) fn check(
    run: &Run<'_>,
    partitions: &[Partition],
    limits: &Limits,
    findings: &mut Findings,
) -> Walked {
    let mut walk = Walk {
        run,
        partitions,
        findings,
        log_start_moves: limits.log_start_moves,
        covered: vec![Vec::new(); run.keys.len()],
        finals: vec![FinalReads::default(); run.keys.len()],
    };
    let final_from = run.phase("final").unwrap_or(usize::MAX);
    let mut processes: HashMap<Process, BTreeMap<KeyId, Place>> = HashMap::new();
    for (position, event) in run.events.iter().enumerate() {
        let places = processes.entry(event.process).or_default();
        match (&event.op, event.kind) {
            (Op::Assign { positions }, Kind::Ok) => {
                let place = |offset: &i64| Place {
                    next: *offset,
                    by: position,
                };
                *places = positions
                    .iter()
                    .map(|(key, offset)| (run.key_id(key), place(offset)))
                    .collect();
            }
            (Op::Crash, Kind::Ok | Kind::Info) => places.clear(),
            (Op::Poll { reads }, Kind::Ok | Kind::Fail | Kind::Info) => {
                let is_final = run.partner[position].is_some_and(|invoked| invoked > final_from);
                walk.poll(position, event, reads, places);
                if is_final && event.kind == Kind::Ok {
                    walk.final_poll(position, reads, places);
                }
            }
            _ => {}
        }
    }
    for covered in &mut walk.covered {
        merge(covered);
    }
    Walked {
        covered: walk.covered,
        finals: walk.finals,
    }
}

struct Walk<'w, 'a> {
    run: &'w Run<'a>,
    partitions: &'w [Partition],
    findings: &'w mut Findings,
    log_start_moves: bool,
    covered: Vec<Vec<(i64, i64)>>,
    finals: Vec<FinalReads>,
}

impl Walk<'_, '_> {
    fn poll(
        &mut self,
        position: usize,
        event: &Event,
        reads: &[Read],
        places: &mut BTreeMap<KeyId, Place>,
    ) {
        // Several reads of a key in one poll follow each other.
        let mut inside: BTreeMap<KeyId, i64> = BTreeMap::new();
        for read in reads {
            let key = self.run.key_id(&read.key);
            let place = places.get(&key).copied();
            for (offset, _) in &read.records {
                let next = offset.saturating_add(1);
                match (inside.insert(key, next), place) {
                    (Some(expected), _) => {
                        if *offset != expected {
                            self.jump(key, expected, *offset, position, None);
                        }
                        self.cover(key, expected, next);
                    }
                    (None, Some(place)) => {
                        if *offset != place.next {
                            self.jump(key, place.next, *offset, position, Some(place.by));
                        }
                        let from = if self.log_start_moves {
                            *offset
                        } else {
                            place.next
                        };
                        self.cover(key, from, next);
                    }
                    (None, None) => self.cover(key, *offset, next),
                }
                self.above_high_watermark(key, read, *offset, position);
            }
        }
        if event.kind == Kind::Ok {
            let by = position;
            places.extend(
                inside
                    .into_iter()
                    .map(|(key, next)| (key, Place { next, by })),
            );
        }
    }

    /// A record at another offset than the next one; before it, in the same poll when there is no
    /// `by`, otherwise in that one.
    fn jump(&mut self, key: KeyId, next: i64, offset: i64, position: usize, by: Option<usize>) {
        let name = match (offset < next, by.is_some()) {
            (true, false) => AnomalyName::InternalNonmonotonicPoll,
            (true, true) => AnomalyName::NonmonotonicPoll,
            (false, false) => AnomalyName::InternalPollSkip,
            (false, true) => AnomalyName::PollSkip,
        };
        let partition = &self.partitions[key];
        let skipped = partition.known_between(next, offset);
        // Where nobody knows a record there may be none. What retention took is not skipped.
        if offset >= next && (skipped == 0 || (self.log_start_moves && by.is_some())) {
            return;
        }
        let named = self.run.keys[key];
        self.findings.add(name, || {
            let (values, offsets, what) = if offset < next {
                let value = partition.at(offset).map(|slot| slot.value);
                let what = format!("{named}: offset {offset} came where {next} was next");
                (value.into_iter().collect(), vec![offset], what)
            } else {
                let first = partition.first_known(next, offset);
                let (offsets, values): (Vec<_>, Vec<_>) = first.into_iter().unzip();
                let what = format!(
                    "{named}: {offset} came where {next} was next; {skipped} known records left \
                     out, the first at {offsets:?}"
                );
                (values, offsets, what)
            };
            Anomaly::new(name, what)
                .of_key(named)
                .shown_by(by.into_iter().chain([position]).map(|at| at as u64))
                .about(values, offsets)
        });
    }

    fn above_high_watermark(&mut self, key: KeyId, read: &Read, offset: i64, position: usize) {
        let end = read.high_watermark;
        if end < 0 || offset < end {
            return;
        }
        let named = self.run.keys[key];
        self.findings.add(AnomalyName::AboveHighWatermark, || {
            let what = format!("{named}: offset {offset} was shown with high watermark {end}");
            Anomaly::new(AnomalyName::AboveHighWatermark, what)
                .of_key(named)
                .shown_by([position as u64])
                .about([], [offset])
        });
    }

    fn cover(&mut self, key: KeyId, from: i64, below: i64) {
        if from >= below {
            return;
        }
        let covered = &mut self.covered[key];
        match covered.last_mut() {
            Some((_, end)) if *end == from => *end = below,
            _ => covered.push((from, below)),
        }
    }

    fn final_poll(&mut self, position: usize, reads: &[Read], places: &BTreeMap<KeyId, Place>) {
        for read in reads {
            let key = self.run.key_id(&read.key);
            let end = read.high_watermark;
            let finals = &mut self.finals[key];
            let place = places.get(&key).map(|place| place.next);
            finals.reached = finals.reached.max(place);
            if end < 0 {
                continue;
            }
            if finals
                .high_watermark
                .is_none_or(|(highest, _)| highest < end)
            {
                finals.high_watermark = Some((end, position));
            }
            if let Some(next) = place.filter(|next| *next >= end)
                && finals.caught_up.is_none_or(|(furthest, _)| furthest < next)
            {
                finals.caught_up = Some((next, position));
            }
        }
    }
}

/// Sorts ranges and joins those that touch.
fn merge(ranges: &mut Vec<(i64, i64)>) {
    ranges.sort_unstable();
    let mut merged: Vec<(i64, i64)> = Vec::new();
    for (from, below) in ranges.drain(..) {
        match merged.last_mut() {
            Some((_, end)) if from <= *end => *end = below.max(*end),
            _ => merged.push((from, below)),
        }
    }
    *ranges = merged;
}

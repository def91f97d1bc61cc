//! How far behind polls are, at least.
//!
//! A process that has seen everything up to offset `o` is behind from the moment on at which
//! somebody knew of `o + 1`: a lower bound, because the record may have been there before anybody
//! knew. Lag is no anomaly. Polls from phase `final` on, which begin at the beginning, do not count.

use std::collections::{BTreeMap, HashMap};

use super::super::run::{KeyId, Run, offset_at};
use crate::history::{Event, Key, Kind, Op, Process};

/// How far behind a process was in a partition when it began a poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LagPoint {
    /// When the poll began.
    pub time_us: u64,
    /// Who polled.
    pub process: Process,
    /// The partition.
    pub key: Key,
    /// At least so long.
    pub lag_us: u64,
}

/// The lag of each poll in each partition assigned to it; none where that is no history.
#[must_use]
pub fn lag_points(events: &[Event]) -> Vec<LagPoint> {
    let Ok(run) = Run::new(events) else {
        return Vec::new();
    };
    let mut points = Vec::new();
    lags(&run, |time_us, process, key, lag_us| {
        points.push(LagPoint {
            time_us,
            process,
            key: run.keys[key].clone(),
            lag_us,
        });
    });
    points
}

/// When an offset was first known to exist: rising offsets, rising times.
type Known = Vec<(i64, u64)>;

pub(crate) fn lags(run: &Run<'_>, mut tell: impl FnMut(u64, Process, KeyId, u64)) {
    let known = known(run);
    let end = run.phase("final").unwrap_or(usize::MAX);
    let mut processes: HashMap<Process, BTreeMap<KeyId, i64>> = HashMap::new();
    for (at, event) in run
        .events
        .iter()
        .enumerate()
        .take_while(|(at, _)| *at < end)
    {
        if event.kind != Kind::Ok {
            continue;
        }
        let places = processes.entry(event.process).or_default();
        match &event.op {
            Op::Assign { positions } => {
                let next = positions
                    .iter()
                    .map(|(key, offset)| (run.key_id(key), *offset));
                *places = next.collect();
            }
            Op::Crash => places.clear(),
            Op::Poll { reads } => {
                for read in reads {
                    if let Some(last) = read.records.iter().map(|(offset, _)| *offset).max() {
                        let next = places.entry(run.key_id(&read.key)).or_default();
                        *next = last.saturating_add(1).max(*next);
                    }
                }
                let Some(invoked) = run.partner[at] else {
                    continue;
                };
                let time_us = run.time_us(invoked);
                for (key, next) in places.iter() {
                    let first = known[*key].partition_point(|(offset, _)| offset < next);
                    let since = known[*key].get(first).map_or(time_us, |(_, since)| *since);
                    tell(time_us, event.process, *key, time_us.saturating_sub(since));
                }
            }
            _ => {}
        }
    }
}

fn known(run: &Run<'_>) -> Vec<Known> {
    let mut known: Vec<Known> = vec![Vec::new(); run.keys.len()];
    let mut learn = |key: KeyId, offset: i64, time_us: u64| {
        if known[key]
            .last()
            .is_none_or(|(highest, _)| *highest < offset)
        {
            known[key].push((offset, time_us));
        }
    };
    for event in run.events.iter().filter(|event| event.kind == Kind::Ok) {
        match &event.op {
            Op::Send {
                key,
                values,
                offset: Some(offset),
                ..
            } => {
                let last = offset_at(*offset, values.len().saturating_sub(1));
                learn(run.key_id(key), last, event.time_us);
            }
            Op::Poll { reads } => {
                for read in reads {
                    if let Some(last) = read.records.iter().map(|(offset, _)| *offset).max() {
                        learn(run.key_id(&read.key), last, event.time_us);
                    }
                }
            }
            _ => {}
        }
    }
    known
}

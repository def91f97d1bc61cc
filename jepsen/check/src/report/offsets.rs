//! What a history says of one partition: which value stands where, according to whom.

use std::collections::{BTreeMap, BTreeSet};

use super::operations::{Outcome, Run};
use crate::check::verdict::{Anomaly, AnomalyName};
use crate::history::{Key, Op, Value};

/// Offsets drawn out beside each that an anomaly names.
const NEIGHBOURS: i64 = 2;
/// Offsets drawn out of one partition.
const OFFSETS_MAX: usize = 64;
/// Values drawn out that have no offset.
const HOMELESS_MAX: usize = 16;

/// A value's send.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) process: u32,
    pub(super) outcome: Outcome,
    /// When it was acknowledged, refused or given up.
    pub(super) done_us: u64,
    /// Where it was acknowledged.
    pub(super) offset: Option<i64>,
}

/// Polls that showed one value at one offset.
#[derive(Debug, Clone, Copy)]
pub(super) struct Polled {
    pub(super) times: u64,
    pub(super) first_process: u32,
    pub(super) first_us: u64,
}

/// What a node has, in the end.
#[derive(Debug, Clone, Default)]
pub(super) struct Held {
    pub(super) at_us: u64,
    pub(super) log_start: i64,
    pub(super) end: i64,
    pub(super) records: BTreeMap<i64, Value>,
}

/// One partition.
#[derive(Debug)]
pub(super) struct Offsets {
    pub(super) sent: BTreeMap<Value, Sent>,
    pub(super) acknowledged: BTreeMap<i64, Vec<Value>>,
    pub(super) polled: BTreeMap<i64, BTreeMap<Value, Polled>>,
    pub(super) held: BTreeMap<u32, Held>,
    /// Everywhere a value stands, according to anybody.
    pub(super) homes: BTreeMap<Value, BTreeSet<i64>>,
    /// The values that anomalies name.
    pub(super) bad_values: BTreeSet<Value>,
    /// The offsets that anomalies name, or where a value stands that they name.
    pub(super) bad_offsets: BTreeSet<i64>,
}

impl Offsets {
    pub(super) fn of(run: &Run<'_>, key: &Key, anomalies: &[(usize, &Anomaly)]) -> Offsets {
        let mut offsets = Offsets {
            sent: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            polled: BTreeMap::new(),
            held: BTreeMap::new(),
            homes: BTreeMap::new(),
            bad_values: anomalies
                .iter()
                .flat_map(|(_, anomaly)| anomaly.values.iter().copied())
                .collect(),
            bad_offsets: anomalies
                .iter()
                .flat_map(|(_, anomaly)| anomaly.offsets.iter().copied())
                .collect(),
        };
        for operation in &run.operations {
            match operation.op {
                Op::Send {
                    key: of,
                    values,
                    offset,
                    ..
                } if of == key => {
                    for (at, value) in (0_i64..).zip(values) {
                        let offset = offset.map(|first| first.saturating_add(at));
                        offsets.sent.insert(
                            *value,
                            Sent {
                                process: operation.process,
                                outcome: operation.outcome,
                                done_us: operation.end_us,
                                offset,
                            },
                        );
                        if let Some(offset) = offset {
                            offsets.acknowledged.entry(offset).or_default().push(*value);
                        }
                    }
                }
                Op::Poll { reads } => {
                    for (offset, value) in reads
                        .iter()
                        .filter(|read| read.key == *key)
                        .flat_map(|read| &read.records)
                    {
                        let seen = offsets.polled.entry(*offset).or_default().entry(*value);
                        seen.or_insert(Polled {
                            times: 0,
                            first_process: operation.process,
                            first_us: operation.end_us,
                        })
                        .times += 1;
                    }
                }
                Op::ReplicaRead {
                    node,
                    key: of,
                    log_start,
                    end,
                    records,
                    ..
                } if of == key && operation.outcome == Outcome::Ok => {
                    // The last read counts where a node was read twice.
                    offsets.held.insert(
                        *node,
                        Held {
                            at_us: operation.end_us,
                            log_start: *log_start,
                            end: *end,
                            records: records.iter().copied().collect(),
                        },
                    );
                }
                _ => {}
            }
        }
        offsets.homes = offsets.find_homes();
        for value in &offsets.bad_values {
            offsets
                .bad_offsets
                .extend(offsets.homes.get(value).into_iter().flatten());
        }
        offsets
    }

    fn find_homes(&self) -> BTreeMap<Value, BTreeSet<i64>> {
        let mut homes: BTreeMap<Value, BTreeSet<i64>> = BTreeMap::new();
        let acknowledged = self
            .acknowledged
            .iter()
            .flat_map(|(at, values)| values.iter().map(move |one| (*one, *at)));
        let polled = self
            .polled
            .iter()
            .flat_map(|(at, values)| values.keys().map(move |one| (*one, *at)));
        let held = self
            .held
            .values()
            .flat_map(|held| held.records.iter().map(|(at, one)| (*one, *at)));
        for (value, offset) in acknowledged.chain(polled).chain(held) {
            homes.entry(value).or_default().insert(offset);
        }
        homes
    }

    /// How many offsets a value has, according to anybody.
    pub(super) fn homes_count(&self, value: Value) -> usize {
        self.homes.get(&value).map_or(0, BTreeSet::len)
    }

    /// Whether any poll showed it.
    pub(super) fn is_polled(&self, value: Value) -> bool {
        let mut homes = self.homes.get(&value).into_iter().flatten();
        homes.any(|offset| {
            self.polled
                .get(offset)
                .is_some_and(|values| values.contains_key(&value))
        })
    }

    /// Every value that anybody saw at an offset, an acknowledgement included.
    pub(super) fn values_at(&self, offset: i64) -> BTreeSet<Value> {
        let acknowledged = self
            .acknowledged
            .get(&offset)
            .into_iter()
            .flatten()
            .copied();
        let polled = self
            .polled
            .get(&offset)
            .into_iter()
            .flat_map(|values| values.keys().copied());
        let held = self
            .held
            .values()
            .filter_map(|held| held.records.get(&offset).copied());
        acknowledged.chain(polled).chain(held).collect()
    }

    /// The last offset that anybody knows; `None` when there is none.
    pub(super) fn last(&self) -> Option<i64> {
        let held = self
            .held
            .values()
            .filter_map(|held| held.records.last_key_value());
        let acknowledged = self
            .acknowledged
            .last_key_value()
            .map(|(offset, _)| *offset);
        let polled = self.polled.last_key_value().map(|(offset, _)| *offset);
        held.map(|(offset, _)| *offset)
            .chain(acknowledged)
            .chain(polled)
            .max()
    }

    /// Offsets to draw out, and how many named ones are left out.
    pub(super) fn window(&self) -> (BTreeSet<i64>, usize) {
        let mut window = BTreeSet::new();
        let mut left_out = 0;
        for offset in &self.bad_offsets {
            if window.len() >= OFFSETS_MAX {
                left_out += usize::from(!window.contains(offset));
                continue;
            }
            let from = offset.saturating_sub(NEIGHBOURS).max(0);
            window.extend(from..=offset.saturating_add(NEIGHBOURS));
        }
        let last = self.last().unwrap_or(-1);
        window.retain(|offset| *offset <= last || self.bad_offsets.contains(offset));
        (window, left_out)
    }

    /// Named values that stand nowhere.
    pub(super) fn homeless(&self) -> Vec<Value> {
        let nowhere = self
            .bad_values
            .iter()
            .filter(|value| self.homes_count(**value) == 0);
        nowhere.copied().take(HOMELESS_MAX).collect()
    }
}

/// Whether an anomaly is about the order in which a process read, which its way through the
/// offsets shows.
pub(super) fn is_about_reading(name: AnomalyName) -> bool {
    matches!(
        name,
        AnomalyName::InternalPollSkip
            | AnomalyName::InternalNonmonotonicPoll
            | AnomalyName::PollSkip
            | AnomalyName::NonmonotonicPoll
    )
}

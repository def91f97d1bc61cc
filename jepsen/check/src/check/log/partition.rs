//! [`Partition`]: which values are known at which offsets of one key, and who says so; and what
//! follows from that alone: inconsistent offsets, duplicates, aborted and unknown values.

use std::collections::{BTreeMap, HashMap};

use super::super::findings::Findings;
use super::super::run::{KeyId, Run, Sent, offset_at};
use super::super::verdict::{Anomaly, AnomalyName};
use crate::history::{Kind, Op, Value};

/// What is known of one key.
#[derive(Debug, Default)]
pub(crate) struct Partition {
    slots: BTreeMap<i64, Slot>,
    // The other values of an offset, in the order they were seen.
    conflicts: BTreeMap<i64, Vec<Slot>>,
    // Offsets at which a record is known, sorted.
    known: Vec<i64>,
    /// By value, the offsets it was polled at, sorted.
    polled_at: HashMap<Value, Vec<i64>>,
    /// The highest offset polled, and where.
    pub(crate) polled_last: Option<(i64, usize)>,
    /// The highest offset acknowledged, and where.
    pub(crate) acknowledged_last: Option<(i64, usize)>,
    /// The highest high watermark that came with a poll, and where.
    pub(crate) high_watermark: Option<(i64, usize)>,
}

/// A value at an offset: the positions of those who first said so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    pub(crate) value: Value,
    pub(crate) acknowledged: Option<usize>,
    pub(crate) polled: Option<usize>,
    pub(crate) replica: Option<usize>,
}

impl Slot {
    /// Who first showed it.
    fn first_read(&self) -> Option<usize> {
        match (self.polled, self.replica) {
            (Some(polled), Some(replica)) => Some(polled.min(replica)),
            (polled, replica) => polled.or(replica),
        }
    }

    fn witness(&self) -> Option<usize> {
        self.acknowledged.or_else(|| self.first_read())
    }
}

#[derive(Clone, Copy)]
enum Source {
    Acknowledged,
    Polled,
    Replica,
}

impl Partition {
    fn observe(&mut self, offset: i64, value: Value, source: Source, position: usize) {
        let empty = Slot {
            value,
            acknowledged: None,
            polled: None,
            replica: None,
        };
        let mut slot = self.slots.entry(offset).or_insert(empty);
        if slot.value != value {
            let others = self.conflicts.entry(offset).or_default();
            let at = others
                .iter()
                .position(|other| other.value == value)
                .unwrap_or(others.len());
            if at == others.len() {
                others.push(empty);
            }
            slot = &mut others[at];
        }
        let (told, last) = match source {
            Source::Acknowledged => (&mut slot.acknowledged, Some(&mut self.acknowledged_last)),
            Source::Polled => (&mut slot.polled, Some(&mut self.polled_last)),
            Source::Replica => (&mut slot.replica, None),
        };
        told.get_or_insert(position);
        if let Some(last) = last.filter(|last| last.is_none_or(|(highest, _)| highest < offset)) {
            *last = Some((offset, position));
        }
    }

    fn finish(&mut self) {
        self.known = self.slots.keys().copied().collect();
        let mut polled_at: HashMap<Value, Vec<i64>> = HashMap::with_capacity(self.slots.len());
        for (offset, slot) in self.all() {
            if slot.polled.is_some() {
                polled_at.entry(slot.value).or_default().push(offset);
            }
        }
        for offsets in polled_at.values_mut() {
            offsets.sort_unstable();
        }
        self.polled_at = polled_at;
    }

    /// Every value at every offset: the first ones seen, then the others.
    pub(crate) fn all(&self) -> impl Iterator<Item = (i64, &Slot)> {
        let conflicts = self.conflicts.iter();
        let others =
            conflicts.flat_map(|(offset, slots)| slots.iter().map(move |slot| (*offset, slot)));
        self.slots
            .iter()
            .map(|(offset, slot)| (*offset, slot))
            .chain(others)
    }

    /// The first value seen at each offset, in the order of offsets.
    pub(crate) fn slots(&self) -> impl Iterator<Item = (i64, &Slot)> {
        self.slots.iter().map(|(offset, slot)| (*offset, slot))
    }

    /// How many records are known from an offset on, below another.
    pub(crate) fn known_between(&self, from: i64, below: i64) -> usize {
        let until = self.known.partition_point(|offset| *offset < below);
        until.saturating_sub(self.known.partition_point(|offset| *offset < from))
    }

    /// The first few records known from an offset on, below another.
    pub(crate) fn first_known(&self, from: i64, below: i64) -> Vec<(i64, Value)> {
        let range = if from < below {
            self.slots.range(from..below)
        } else {
            self.slots.range(0..0)
        };
        range
            .take(SHOWN_MAX)
            .map(|(offset, slot)| (*offset, slot.value))
            .collect()
    }

    /// The value first seen there.
    pub(crate) fn at(&self, offset: i64) -> Option<&Slot> {
        self.slots.get(&offset)
    }

    /// Every value seen there.
    pub(crate) fn all_at(&self, offset: i64) -> Vec<&Slot> {
        let others = self.conflicts.get(&offset).into_iter().flatten();
        self.at(offset).into_iter().chain(others).collect()
    }

    /// Where a value was polled.
    pub(crate) fn polled_at(&self, value: Value) -> &[i64] {
        self.polled_at.get(&value).map_or(&[], Vec::as_slice)
    }

    /// Different offsets polled.
    pub(crate) fn polled_count(&self) -> u64 {
        self.slots
            .values()
            .filter(|slot| slot.polled.is_some())
            .count() as u64
    }

    /// The highest offset that is sure to hold a record, and who says so.
    pub(crate) fn last(&self) -> Option<(i64, usize)> {
        self.polled_last.max(self.acknowledged_last)
    }
}

/// Records named one by one in an explanation.
const SHOWN_MAX: usize = 8;

/// What is known of each key, by its number.
pub(crate) fn partitions(run: &Run<'_>) -> Vec<Partition> {
    let mut partitions: Vec<Partition> = Vec::new();
    partitions.resize_with(run.keys.len(), Partition::default);
    for (position, event) in run.events.iter().enumerate() {
        match &event.op {
            Op::Poll { reads } if event.kind != Kind::Invoke => {
                for read in reads {
                    let partition = &mut partitions[run.key_id(&read.key)];
                    for (offset, value) in &read.records {
                        partition.observe(*offset, *value, Source::Polled, position);
                    }
                    let highest = &mut partition.high_watermark;
                    if highest.is_none_or(|(highest, _)| highest < read.high_watermark) {
                        *highest = Some((read.high_watermark, position));
                    }
                }
            }
            Op::ReplicaRead { key, records, .. } if event.kind == Kind::Ok => {
                let partition = &mut partitions[run.key_id(key)];
                for (offset, value) in records {
                    partition.observe(*offset, *value, Source::Replica, position);
                }
            }
            Op::Send {
                key,
                values,
                offset: Some(offset),
                ..
            } if event.kind == Kind::Ok => {
                let partition = &mut partitions[run.key_id(key)];
                for (place, value) in values.iter().enumerate() {
                    let offset = offset_at(*offset, place);
                    partition.observe(offset, *value, Source::Acknowledged, position);
                }
            }
            _ => {}
        }
    }
    for partition in &mut partitions {
        partition.finish();
    }
    partitions
}

/// What the offsets and values say without any order of time.
pub(crate) fn check_offsets(run: &Run<'_>, partitions: &[Partition], findings: &mut Findings) {
    for (key, partition) in partitions.iter().enumerate() {
        inconsistent_offsets(run, key, partition, findings);
        duplicates(run, key, partition, findings);
        for (offset, slot) in partition.all() {
            if let Some(read) = slot.first_read() {
                value_read(run, key, offset, slot.value, read, findings);
            }
        }
    }
}

fn inconsistent_offsets(run: &Run<'_>, key: KeyId, partition: &Partition, findings: &mut Findings) {
    for (offset, others) in &partition.conflicts {
        findings.add(AnomalyName::InconsistentOffsets, || {
            let slots = || {
                partition
                    .at(*offset)
                    .into_iter()
                    .chain(others)
                    .take(SHOWN_MAX)
            };
            let values: Vec<Value> = slots().map(|slot| slot.value).collect();
            let what = format!(
                "offset {offset} of {} shows values {values:?}",
                run.keys[key]
            );
            Anomaly::new(AnomalyName::InconsistentOffsets, what)
                .of_key(run.keys[key])
                .shown_by(slots().filter_map(Slot::witness).map(|at| at as u64))
                .about(values, [*offset])
        });
    }
}

fn duplicates(run: &Run<'_>, key: KeyId, partition: &Partition, findings: &mut Findings) {
    let mut read: Vec<(Value, i64, usize)> = partition
        .all()
        .filter_map(|(offset, slot)| Some((slot.value, offset, slot.first_read()?)))
        .collect();
    read.sort_unstable();
    for same in read
        .chunk_by(|one, next| one.0 == next.0)
        .filter(|same| same.len() > 1)
    {
        let value = same[0].0;
        // Whoever sends the same batch again without a producer id asks for it.
        let Some((send, _)) = run.writer(value).filter(|(send, _)| send.idempotent) else {
            continue;
        };
        findings.add(AnomalyName::Duplicate, || {
            let shown = &same[..same.len().min(SHOWN_MAX)];
            let offsets: Vec<i64> = shown.iter().map(|(_, offset, _)| *offset).collect();
            let what = format!(
                "value {value}, sent once, stands in {} at {offsets:?}",
                run.keys[key]
            );
            Anomaly::new(AnomalyName::Duplicate, what)
                .of_key(run.keys[key])
                .shown_by(
                    run.events_of(send)
                        .chain(shown.iter().map(|(_, _, at)| *at as u64)),
                )
                .about([value], offsets)
        });
    }
}

/// A value that was read has to have been sent, there, before, and not in vain.
fn value_read(
    run: &Run<'_>,
    key: KeyId,
    offset: i64,
    value: Value,
    read: usize,
    findings: &mut Findings,
) {
    let seen = || {
        format!(
            "value {value} was read at offset {offset} of {}",
            run.keys[key]
        )
    };
    let writer = run.writer(value);
    let (name, what) = match writer {
        None => (
            AnomalyName::UnknownValue,
            format!("{}, and nobody sent it", seen()),
        ),
        Some((send, _)) if send.key != key => (
            AnomalyName::UnknownValue,
            format!("{}, and was sent to {}", seen(), run.keys[send.key]),
        ),
        Some((send, _)) if send.invoked > read => (
            AnomalyName::UnknownValue,
            format!("{} before anybody sent it", seen()),
        ),
        Some((send, _)) if send.outcome == Sent::Fail => (
            AnomalyName::AbortedRead,
            format!("{}, and its send surely failed", seen()),
        ),
        Some(_) => return,
    };
    findings.add(name, || {
        let sent = writer.into_iter().flat_map(|(send, _)| run.events_of(send));
        Anomaly::new(name, what)
            .of_key(run.keys[key])
            .shown_by(sent.chain([read as u64]))
            .about([value], [offset])
    });
}

//! The order of sends: the values of one stand one after the other, those of a process in the order
//! of its acknowledgements, and none before a record that was there when it began.

use std::collections::HashMap;

use super::super::findings::Findings;
use super::super::run::{KeyId, Run, Send, Sent, offset_at};
use super::super::verdict::{Anomaly, AnomalyName};
use super::partition::Partition;
use crate::history::{Kind, Op, Process};

pub(super) fn check(run: &Run<'_>, partitions: &[Partition], findings: &mut Findings) {
    for send in &run.sends {
        inside(run, send, &partitions[send.key], findings);
    }
    order(run, partitions, findings);
}

/// The values of one send stand at consecutive offsets, in each place where the batch is.
fn inside(run: &Run<'_>, send: &Send<'_>, partition: &Partition, findings: &mut Findings) {
    for (place, pair) in send.values.windows(2).enumerate() {
        let (one, next) = (partition.polled_at(pair[0]), partition.polled_at(pair[1]));
        let misplaced = |at: &i64, step: i64, other: &[i64]| {
            let due = at.saturating_add(step);
            let taken = partition.at(due).is_some_and(|slot| slot.polled.is_some());
            // A copy that nobody read on from proves nothing, as long as such a batch may be there twice.
            let elsewhere = !other.is_empty() && (send.idempotent || taken);
            other.binary_search(&due).is_err() && (taken || elsewhere)
        };
        if !one.iter().any(|at| misplaced(at, 1, next))
            && !next.iter().any(|at| misplaced(at, -1, one))
        {
            continue;
        }
        findings.add(AnomalyName::InternalNonmonotonicSend, || {
            let key = run.keys[send.key];
            let what = format!(
                "{key}: values {} and {} of one send, places {place} and {}, stand at {one:?} and {next:?}",
                pair[0],
                pair[1],
                place + 1,
            );
            let readers = one.iter().chain(next).filter_map(|at| partition.at(*at)?.polled);
            Anomaly::new(AnomalyName::InternalNonmonotonicSend, what)
                .of_key(key)
                .shown_by(run.events_of(send).chain(readers.map(|at| at as u64)))
                .about(pair.iter().copied(), one.iter().chain(next).copied())
        });
    }
}

/// A record that is sure to exist, and who says so.
#[derive(Debug, Clone, Copy)]
struct Floor {
    offset: i64,
    at: usize,
}

/// Walks through time: what is known to exist when a send begins stands before what it sends.
fn order(run: &Run<'_>, partitions: &[Partition], findings: &mut Findings) {
    let mut floors: Vec<Option<Floor>> = vec![None; run.keys.len()];
    // The last acknowledged send of each process.
    let mut own: HashMap<(Process, KeyId), Floor> = HashMap::new();
    let mut sends = run.sends.iter().peekable();
    let raise = |floors: &mut Vec<Option<Floor>>, key: KeyId, offset: i64, at: usize| {
        if floors[key].is_none_or(|floor| floor.offset < offset) {
            floors[key] = Some(Floor { offset, at });
        }
    };
    for (at, event) in run.events.iter().enumerate() {
        match (&event.op, event.kind) {
            (Op::Send { .. }, Kind::Invoke) => {
                let Some(send) = sends.next_if(|send| send.invoked == at) else {
                    continue;
                };
                let own = own.get(&(send.process, send.key)).copied();
                judge(
                    run,
                    send,
                    &partitions[send.key],
                    own,
                    floors[send.key],
                    findings,
                );
            }
            (
                Op::Send {
                    key,
                    values,
                    offset: Some(offset),
                    ..
                },
                Kind::Ok,
            ) => {
                let key = run.key_id(key);
                let offset = offset_at(*offset, values.len().saturating_sub(1));
                own.insert((event.process, key), Floor { offset, at });
                raise(&mut floors, key, offset, at);
            }
            (Op::Poll { reads }, Kind::Ok | Kind::Fail | Kind::Info) => {
                for read in reads {
                    if let Some(highest) = read.records.iter().map(|(offset, _)| *offset).max() {
                        raise(&mut floors, run.key_id(&read.key), highest, at);
                    }
                }
            }
            _ => {}
        }
    }
}

fn judge(
    run: &Run<'_>,
    send: &Send<'_>,
    partition: &Partition,
    own: Option<Floor>,
    floor: Option<Floor>,
    findings: &mut Findings,
) {
    let read_at = send
        .values
        .iter()
        .filter_map(|value| partition.polled_at(*value).first())
        .min();
    let acknowledged = send.acknowledged(0);
    let placed = match send.outcome {
        Sent::Fail => None,
        Sent::Ok(_) | Sent::Info => read_at.copied().into_iter().chain(acknowledged).min(),
    };
    let Some(placed) = placed else { return };
    let below = |floor: Option<Floor>| floor.filter(|floor| placed <= floor.offset);
    let (name, before) = match (below(own), below(floor)) {
        (Some(own), _) => (AnomalyName::NonmonotonicSend, own),
        (None, Some(floor)) => (AnomalyName::RealtimeOrder, floor),
        (None, None) => return,
    };
    findings.add(name, || {
        let key = run.keys[send.key];
        let what = format!(
            "{key}: the send of {:?} stands at offset {placed}, and began after offset {} was known",
            send.values, before.offset
        );
        Anomaly::new(name, what)
            .of_key(key)
            .shown_by(run.events_of(send).chain([before.at as u64]))
            .about(send.values.iter().copied(), [placed, before.offset])
    });
}

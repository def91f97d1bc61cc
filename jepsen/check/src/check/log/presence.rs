//! Every acknowledged value is read, at its offset; and no log ends before what it once had.
//!
//! A value is due once it is acknowledged, or once another of the same send was read: a batch is
//! there whole or not at all. It is a `lost-write` where a process went past its offset, or higher
//! offsets were read up to the end of the final phase, and nobody saw it; `unseen` where the log
//! ended before it.

use super::super::findings::Findings;
use super::super::limits::Limits;
use super::super::run::{KeyId, Run, Send, Sent, offset_at};
use super::super::verdict::{Anomaly, AnomalyName};
use super::partition::Partition;
use super::polls::Walked;
use crate::history::Op;

pub(super) fn check(
    run: &Run<'_>,
    partitions: &[Partition],
    walked: &Walked,
    limits: &Limits,
    findings: &mut Findings,
) {
    let mut presence = Presence {
        run,
        partitions,
        walked,
        limits,
        ended: final_phase_us(run),
        unread: vec![0; run.keys.len()],
    };
    for send in &run.sends {
        presence.send(send, findings);
    }
    let unread = presence
        .unread
        .iter()
        .enumerate()
        .filter(|(_, unread)| **unread > 0);
    for (key, unread) in unread.filter(|_| limits.whole_run) {
        let key = run.keys[key];
        findings.unknown(format!(
            "{unread} values due in {key} were not read before the end"
        ));
    }
    for key in 0..run.keys.len() {
        presence.high_watermark(key, findings);
    }
}

/// How long the final phase took; `None` where it did not end.
fn final_phase_us(run: &Run<'_>) -> Option<u64> {
    let (from, end) = (run.phase("final")?, run.phase("end")?);
    run.time_us(end).checked_sub(run.time_us(from))
}

struct Presence<'w, 'a> {
    run: &'w Run<'a>,
    partitions: &'w [Partition],
    walked: &'w Walked,
    limits: &'w Limits,
    ended: Option<u64>,
    // By key, values that are due and that nobody had the chance to see.
    unread: Vec<u64>,
}

impl Presence<'_, '_> {
    fn send(&mut self, send: &Send<'_>, findings: &mut Findings) {
        let partition = &self.partitions[send.key];
        let base = match send.outcome {
            Sent::Ok(offset) => Some(offset),
            // Where it was read, at the first place.
            Sent::Info => send.values.iter().enumerate().find_map(|(place, value)| {
                let offset = partition.polled_at(*value).first()?;
                Some(offset.saturating_sub(offset_at(0, place)))
            }),
            Sent::Fail => None,
        };
        let Some(base) = base else { return };
        if base < 0 && send.outcome != Sent::Info {
            self.mismatch(send, 0, base, &[], findings);
            return;
        }
        for place in 0..send.values.len() {
            self.value(send, place, offset_at(base, place), findings);
        }
    }

    fn value(&mut self, send: &Send<'_>, place: usize, due: i64, findings: &mut Findings) {
        let partition = &self.partitions[send.key];
        let polled_at = partition.polled_at(send.values[place]);
        if polled_at.binary_search(&due).is_ok() {
            return;
        }
        let acknowledged = matches!(send.outcome, Sent::Ok(_));
        if !polled_at.is_empty() && (send.idempotent || !acknowledged) {
            // Of an unknown outcome and elsewhere than its neighbours: told as such by them.
            if acknowledged {
                self.mismatch(send, place, due, polled_at, findings);
            }
            return;
        }
        if !self.run.stays(send.key) {
            return;
        }
        let read_to = partition.polled_last.map_or(-1, |(offset, _)| offset);
        let finals = self.walked.finals[send.key];
        let passed = self.walked.is_covered(send.key, due)
            || (self.ended.is_some() && !self.limits.log_start_moves && due <= read_to);
        // The log ended before it, or it was not to be had although there was time.
        let absent = finals.caught_up.is_some_and(|(next, _)| next <= due);
        let missed = self
            .ended
            .is_some_and(|lasted_us| absent || lasted_us >= self.limits.heal_us_max);
        let name = if passed {
            AnomalyName::LostWrite
        } else if self.limits.log_start_moves && due <= read_to {
            return;
        } else if missed {
            AnomalyName::Unseen
        } else {
            self.unread[send.key] += 1;
            return;
        };
        findings.add(name, || {
            let key = self.run.keys[send.key];
            let value = send.values[place];
            let (why, witness) = match (name, finals.caught_up) {
                (AnomalyName::LostWrite, _) => {
                    let why = format!("nobody read it, though {read_to} was read");
                    (why, partition.polled_last)
                }
                (_, Some((next, at))) if next <= due => (
                    "in the end the log stops before it".to_owned(),
                    Some((next, at)),
                ),
                _ => (
                    "the final phase did not come to it in time".to_owned(),
                    None,
                ),
            };
            let known = if acknowledged {
                "was acknowledged at"
            } else {
                "belongs to a read batch, at"
            };
            Anomaly::new(
                name,
                format!("{key}: value {value} {known} offset {due}: {why}"),
            )
            .of_key(key)
            .shown_by(
                self.run
                    .events_of(send)
                    .chain(witness.map(|(_, at)| at as u64)),
            )
            .about([value], [due])
        });
    }

    fn mismatch(
        &self,
        send: &Send<'_>,
        place: usize,
        due: i64,
        read_at: &[i64],
        findings: &mut Findings,
    ) {
        findings.add(AnomalyName::OffsetMismatch, || {
            let (key, value) = (self.run.keys[send.key], send.values[place]);
            let what = match read_at {
                [] => format!("{key}: value {value} was acknowledged at {due}, which is no offset"),
                _ => format!(
                    "{key}: value {value} was acknowledged at {due} and read at {read_at:?}"
                ),
            };
            let partition = &self.partitions[send.key];
            let readers = read_at.iter().filter_map(|offset| {
                let slots = partition.all_at(*offset);
                slots.into_iter().find(|slot| slot.value == value)?.polled
            });
            Anomaly::new(AnomalyName::OffsetMismatch, what)
                .of_key(key)
                .shown_by(self.run.events_of(send).chain(readers.map(|at| at as u64)))
                .about([value], [due].into_iter().chain(read_at.iter().copied()))
        });
    }

    /// In the end the log is as long as anybody ever was told. Between two polls a high watermark
    /// may go back: another node answers, and a node knows of commits what its leader told it last.
    fn high_watermark(&self, key: KeyId, findings: &mut Findings) {
        if self.ended.is_none() || !self.run.stays(key) {
            return;
        }
        let partition = &self.partitions[key];
        let ends = [
            self.walked.finals[key].high_watermark,
            replica_end(self.run, key),
        ];
        let Some((end, at)) = ends.into_iter().flatten().max() else {
            return;
        };
        let records = partition
            .last()
            .map(|(last, at)| (last.saturating_add(1), at));
        let Some((before, by)) = records.max(partition.high_watermark) else {
            return;
        };
        if end >= before {
            return;
        }
        findings.add(AnomalyName::HighWatermarkRegressed, || {
            let key = self.run.keys[key];
            let what = format!("{key}: in the end the high watermark is {end}, and was {before}");
            Anomaly::new(AnomalyName::HighWatermarkRegressed, what)
                .of_key(key)
                .shown_by([by as u64, at as u64])
                .about([], [end, before])
        });
    }
}

/// The furthest end that a replica showed of a key, and where.
fn replica_end(run: &Run<'_>, key: KeyId) -> Option<(i64, usize)> {
    run.replica_reads(key)
        .filter_map(|at| match &run.events[at].op {
            Op::ReplicaRead { end, .. } => Some((*end, at)),
            _ => None,
        })
        .max()
}

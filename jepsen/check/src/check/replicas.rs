//! In the end every replica of a partition has the same records, in the same bytes, up to the same
//! end, and none lacks what was acknowledged or read.
//!
//! Of each node the last read of the final phase counts: a replica may lag until it does not.

use super::findings::Findings;
use super::limits::Limits;
use super::log::Partition;
use super::run::{KeyId, Run};
use super::verdict::{Anomaly, AnomalyName};
use crate::history::{Op, Value};

/// What one node has.
#[derive(Clone, Copy)]
struct Replica<'a> {
    at: usize,
    node: u32,
    log_start: i64,
    end: i64,
    records: &'a [(i64, Value)],
    digest: u32,
}

pub(crate) fn check(
    run: &Run<'_>,
    partitions: &[Partition],
    limits: &Limits,
    findings: &mut Findings,
) {
    for (key, partition) in partitions
        .iter()
        .enumerate()
        .filter(|(key, _)| run.stays(*key))
    {
        let replicas: Vec<Replica<'_>> = run
            .replica_reads(key)
            .filter_map(|at| match &run.events[at].op {
                Op::ReplicaRead {
                    node,
                    log_start,
                    end,
                    records,
                    digest,
                    ..
                } => Some(Replica {
                    at,
                    node: *node,
                    log_start: *log_start,
                    end: *end,
                    records,
                    digest: *digest,
                }),
                _ => None,
            })
            .collect();
        for replica in &replicas {
            alone(run, key, replica, findings);
            complete(run, key, partition, replica, limits, findings);
        }
        for (place, one) in replicas.iter().enumerate() {
            for other in &replicas[place + 1..] {
                agree(run, key, one, other, findings);
            }
        }
    }
}

/// Records rise, and stand between the beginning and the end.
fn alone(run: &Run<'_>, key: KeyId, replica: &Replica<'_>, findings: &mut Findings) {
    let mut tell = |name, offset: i64, what: &str| {
        findings.add(name, || {
            let key = run.keys[key];
            Anomaly::new(
                name,
                format!("{key} on node {}: offset {offset} {what}", replica.node),
            )
            .of_key(key)
            .of_node(replica.node)
            .shown_by([replica.at as u64])
            .about([], [offset])
        });
    };
    for pair in replica
        .records
        .windows(2)
        .filter(|pair| pair[0].0 >= pair[1].0)
    {
        tell(
            AnomalyName::InternalNonmonotonicPoll,
            pair[1].0,
            "does not rise",
        );
    }
    for (offset, _) in replica.records {
        if *offset >= replica.end {
            let what = format!("is not below the high watermark {}", replica.end);
            tell(AnomalyName::AboveHighWatermark, *offset, &what);
        }
    }
}

/// Nothing that a client was told of is missing.
fn complete(
    run: &Run<'_>,
    key: KeyId,
    partition: &Partition,
    replica: &Replica<'_>,
    limits: &Limits,
    findings: &mut Findings,
) {
    let from = if limits.log_start_moves {
        replica.log_start
    } else {
        i64::MIN
    };
    let mut records = replica.records.iter().peekable();
    for (offset, slot) in partition.slots().filter(|(offset, _)| *offset >= from) {
        let Some(told) = slot.acknowledged.or(slot.polled) else {
            continue;
        };
        while records.next_if(|(at, _)| *at < offset).is_some() {}
        // Another value there is another anomaly: inconsistent offsets.
        if records.peek().is_some_and(|(at, _)| *at == offset) {
            continue;
        }
        findings.add(AnomalyName::ReplicaLostWrite, || {
            let (key, value) = (run.keys[key], slot.value);
            let how = if slot.acknowledged.is_some() {
                "acknowledged"
            } else {
                "read"
            };
            let what = format!(
                "{key} on node {}: value {value}, {how} at offset {offset}, is missing from {}..{}",
                replica.node, replica.log_start, replica.end
            );
            Anomaly::new(AnomalyName::ReplicaLostWrite, what)
                .of_key(key)
                .of_node(replica.node)
                .shown_by([told as u64, replica.at as u64])
                .about([value], [offset])
        });
    }
}

fn agree(
    run: &Run<'_>,
    key: KeyId,
    one: &Replica<'_>,
    other: &Replica<'_>,
    findings: &mut Findings,
) {
    let key = run.keys[key];
    let anomaly = |name, what: String, values: Vec<Value>, offsets: Vec<i64>| {
        Anomaly::new(
            name,
            format!("{key} on nodes {} and {}: {what}", one.node, other.node),
        )
        .of_key(key)
        .of_node(other.node)
        .shown_by([one.at as u64, other.at as u64])
        .about(values, offsets)
    };
    let (from, below) = (one.log_start.max(other.log_start), one.end.min(other.end));
    let common = |replica: &Replica<'_>| -> Vec<(i64, Value)> {
        let records = replica.records.iter().copied();
        records
            .filter(|(offset, _)| (from..below).contains(offset))
            .collect()
    };
    let (records, others) = (common(one), common(other));
    let equal = records == others;
    if !equal {
        let at = records
            .iter()
            .zip(&others)
            .take_while(|(one, other)| one == other)
            .count();
        let (first, second) = (records.get(at), others.get(at));
        findings.add(AnomalyName::ReplicaDivergence, || {
            let shown = |record: Option<&(i64, Value)>| match record {
                Some((offset, value)) => format!("value {value} at offset {offset}"),
                None => "nothing more".to_owned(),
            };
            let what = format!(
                "in {from}..{below} {} against {}",
                shown(first),
                shown(second)
            );
            let (offsets, values) = first.into_iter().chain(second).copied().unzip();
            anomaly(AnomalyName::ReplicaDivergence, what, values, offsets)
        });
    }
    if (one.log_start, one.end) != (other.log_start, other.end) {
        findings.add(AnomalyName::ReplicaEnd, || {
            let what = format!(
                "{}..{} against {}..{}",
                one.log_start, one.end, other.log_start, other.end
            );
            anomaly(
                AnomalyName::ReplicaEnd,
                what,
                Vec::new(),
                vec![one.end, other.end],
            )
        });
    } else if equal && one.digest != other.digest {
        findings.add(AnomalyName::ReplicaDigest, || {
            let what = format!(
                "the same records, in other bytes: {:08x}, {:08x}",
                one.digest, other.digest
            );
            anomaly(AnomalyName::ReplicaDigest, what, Vec::new(), Vec::new())
        });
    }
}

//! In the end the replicas of a compacted partition agree, as far as each may have cleaned.

use std::collections::BTreeMap;

use super::findings::Findings;
use super::run::Run;
use super::verdict::{Anomaly, AnomalyName};
use crate::compacted::{Record, compare};
use crate::history::{Key, Kind, Op};

/// What one node showed last.
#[derive(Clone, Copy)]
struct Shown<'a> {
    at: usize,
    end: i64,
    records: &'a [Record],
}

pub(crate) fn check(run: &Run<'_>, findings: &mut Findings) {
    // No run is as long as a tombstone stays, unless a node's clock is wrong.
    let is_clock_wrong = run
        .events
        .iter()
        .any(|event| matches!(&event.op, Op::Fault { name, begins: true, .. } if name == "clock"));
    let expired_ms = if is_clock_wrong { i64::MAX } else { i64::MIN };
    let mut shown: BTreeMap<&Key, BTreeMap<u32, Option<Shown<'_>>>> = BTreeMap::new();
    for (at, event) in run.events.iter().enumerate() {
        let Op::CompactedRead {
            node,
            key,
            end,
            records,
        } = &event.op
        else {
            continue;
        };
        let of_key = shown.entry(key).or_default();
        match event.kind {
            Kind::Invoke => _ = of_key.entry(*node).or_default(),
            Kind::Ok => {
                let (end, records) = (*end, records.as_slice());
                of_key.insert(*node, Some(Shown { at, end, records }));
            }
            // The partition went away from it.
            Kind::Fail => _ = of_key.remove(node),
            Kind::Info => {}
        }
    }
    for (key, nodes) in shown {
        let mut replicas = Vec::new();
        for (node, shown) in nodes {
            match shown {
                Some(shown) => replicas.push((node, shown)),
                None => {
                    findings.unknown(format!("node {node} did not show its replica of {key}"));
                }
            }
        }
        for (place, (node, one)) in replicas.iter().enumerate() {
            for (other_node, other) in &replicas[place + 1..] {
                let anomaly = |name, what: String| {
                    Anomaly::new(
                        name,
                        format!("{key} on nodes {node} and {other_node}: {what}"),
                    )
                    .of_key(key)
                    .of_node(*other_node)
                    .shown_by([one.at as u64, other.at as u64])
                };
                if one.end != other.end {
                    findings.add(AnomalyName::ReplicaEnd, || {
                        let what = format!("it ends at {} against {}", one.end, other.end);
                        anomaly(AnomalyName::ReplicaEnd, what).about([], [one.end, other.end])
                    });
                } else if let Some(found) = compare(one.records, other.records, expired_ms) {
                    findings.add(AnomalyName::ReplicaDivergence, || {
                        anomaly(AnomalyName::ReplicaDivergence, found.to_string())
                            .about([], [found.offset()])
                    });
                }
            }
        }
    }
}

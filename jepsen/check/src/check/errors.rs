//! What clients were told that nobody may be told: that is in the errors, not in what came of it.

use super::findings::Findings;
use super::run::Run;
use super::verdict::{Anomaly, AnomalyName};
use crate::history::{DAMAGED, Kind, Op};

/// Answers to a producer that only wrong sequence numbers, or state that was lost, explain. A client
/// whose batch has an unknown outcome takes a new producer id, so that its own are right.
const SEQUENCE_REFUSALS: [&str; 2] = ["OUT_OF_ORDER_SEQUENCE_NUMBER", "UNKNOWN_PRODUCER_ID"];

pub(crate) fn check(run: &Run<'_>, findings: &mut Findings) {
    for (at, event) in run.events.iter().enumerate() {
        let (Some(error), Some(invoked)) = (&event.error, run.partner[at]) else {
            continue;
        };
        let name = match &event.op {
            Op::Poll { .. } | Op::ReplicaRead { .. } | Op::CompactedRead { .. }
                if error.starts_with(DAMAGED) =>
            {
                AnomalyName::DamagedData
            }
            Op::Send {
                idempotent: true, ..
            } if event.kind == Kind::Fail
                && SEQUENCE_REFUSALS
                    .iter()
                    .any(|refusal| error.starts_with(refusal)) =>
            {
                AnomalyName::SequenceRefused
            }
            _ => continue,
        };
        findings.add(name, || {
            let told = Anomaly::new(name, format!("{:?} was told: {error}", event.process))
                .shown_by([invoked as u64, at as u64]);
            match &event.op {
                Op::Send { key, values, .. } => told.of_key(key).about(values.iter().copied(), []),
                Op::ReplicaRead { key, node, .. } | Op::CompactedRead { key, node, .. } => {
                    told.of_key(key).of_node(*node)
                }
                _ => told,
            }
        });
    }
}

//! The checkers: each reads a history and says which promises it shows broken.
//!
//! What each anomaly means stands in `ANOMALIES.md`. A checker never guesses: what a history does
//! not prove is no anomaly, and a history in which too little happened is [`Outcome::Unknown`].
//! Each checker is one function of a `Run` that adds to `Findings`; a further kind of workload
//! brings its own beside `log` and `meta`.

mod compacted;
mod enough;
mod errors;
mod figures;
mod findings;
mod groups;
pub mod limits;
mod liveness;
mod log;
mod meta;
mod replicas;
mod resources;
mod run;
pub mod stats;
pub mod verdict;

pub use log::{LagPoint, lag_points};

use crate::history::Event;
use findings::Findings;
use limits::Limits;
use run::Run;
use stats::Stats;
use verdict::{Outcome, Verdict};

/// Judges a history. What is no history, or one of several sends of the same value, is unknown.
#[must_use]
pub fn check(events: &[Event], limits: &Limits) -> Verdict {
    let mut findings = Findings::new(limits.anomalies_told_max);
    let stats = match Run::new(events) {
        Ok(run) => judge(&run, limits, &mut findings),
        Err(error) => {
            findings.unknown(format!("this is no history: {error}"));
            Stats::default()
        }
    };
    let (anomalies, anomaly_counts, unknown_because) = findings.finish();
    let outcome = match (anomaly_counts.is_empty(), unknown_because.is_empty()) {
        (false, _) => Outcome::Anomaly,
        (true, false) => Outcome::Unknown,
        (true, true) => Outcome::Valid,
    };
    Verdict {
        outcome,
        unknown_because,
        anomalies,
        anomaly_counts,
        stats,
    }
}

fn judge(run: &Run<'_>, limits: &Limits, findings: &mut Findings) -> Stats {
    let partitions = log::partitions(run);
    log::check(run, &partitions, limits, findings);
    errors::check(run, findings);
    replicas::check(run, &partitions, limits, findings);
    compacted::check(run, findings);
    liveness::check(run, limits, findings);
    meta::check(run, limits, findings);
    groups::check(run, &partitions, limits, findings);
    resources::check(run, limits, findings);
    enough::check(run, limits, findings);
    figures::stats(run, &partitions)
}

//! Verdicts as text for a terminal.

use std::io::{self, Write};

use jepsen_check::Verdict;

use crate::exit::{Exit, Failure};

/// Anomalies written out; the counts are of all.
const ANOMALIES_PRINTED_MAX: usize = 20;
const EXPLANATION_CHARS_MAX: usize = 500;
const REASONS_PRINTED_MAX: usize = 10;

/// Writes lines to standard output; a reader who went away is no error.
pub(crate) fn lines(lines: &[String]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = lines
        .iter()
        .try_for_each(|line| writeln!(out, "{line}"))
        .and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(
            format!("standard output: {error}"),
            "send the output somewhere else",
        )),
        _ => Ok(()),
    }
}

/// A verdict in words.
pub(crate) fn verdict(verdict: &Verdict) -> Vec<String> {
    let exit = Exit::from(verdict.outcome);
    let stats = &verdict.stats;
    let ok = |name: &str| {
        let operation = stats.operations.get(name);
        operation.map_or(0, |operation| operation.ok)
    };
    let faults: u64 = stats.faults.values().map(|fault| fault.took_effect).sum();
    let mut lines = vec![format!(
        "{}: {} acknowledged sends, {} polls, {faults} faults that took effect in {:.1} s",
        exit.word(),
        ok("send"),
        ok("poll"),
        stats.duration_us as f64 / 1e6
    )];
    for (name, group) in &stats.groups {
        lines.push(format!(
            "  group {name}: {} acknowledged commits, {} generations, {} times at rest while things \
             were broken, {} returns of static members",
            ok("commit"),
            group.generations,
            group.rests,
            group.returns
        ));
    }
    if !verdict.anomaly_counts.is_empty() {
        lines.push(format!("  broken: {}", counts(verdict)));
    }
    for anomaly in verdict.anomalies.iter().take(ANOMALIES_PRINTED_MAX) {
        let text = anomaly.explanation.replace('\n', " ");
        let text: String = text.chars().take(EXPLANATION_CHARS_MAX).collect();
        lines.push(format!("  {}: {text}", anomaly.name));
    }
    let more = verdict
        .anomalies
        .len()
        .saturating_sub(ANOMALIES_PRINTED_MAX);
    if more > 0 {
        lines.push(format!("  and {more} more in the report"));
    }
    for reason in verdict.unknown_because.iter().take(REASONS_PRINTED_MAX) {
        lines.push(format!("  not judged: {reason}"));
    }
    lines
}

/// `2 × lost-write, 1 × duplicate`.
pub(crate) fn counts(verdict: &Verdict) -> String {
    let counts = verdict.anomaly_counts.iter();
    let counts: Vec<_> = counts
        .map(|(name, many)| format!("{many} × {name}"))
        .collect();
    counts.join(", ")
}

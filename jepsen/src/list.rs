//! `jepsen list`: what there is, each with a sentence.

use jepsen_check::AnomalyName;
use jepsen_workload::WorkloadKind;
use jepsen_workload::plan::Kind;
use storage::bugs::Bug;

/// The lines.
pub(crate) fn lines() -> Vec<String> {
    let mut lines = Vec::new();
    let workloads = WorkloadKind::ALL.map(|kind| (kind.name(), kind.about().to_owned()));
    section(&mut lines, "workloads (--workload)", &workloads);
    let nemeses = Kind::ALL.map(|kind| (kind.name(), kind.about().to_owned()));
    section(&mut lines, "nemeses (--nemesis)", &nemeses);
    let anomalies = AnomalyName::ALL.iter();
    let anomalies: Vec<_> = anomalies
        .map(|name| (name.as_str(), name.about().to_owned()))
        .collect();
    section(
        &mut lines,
        "anomalies, what the checkers look for",
        &anomalies,
    );
    let bugs = Bug::ALL.iter().map(|bug| {
        let about = format!(
            "{} ({}); breaks: {}",
            bug.about(),
            bug.layer(),
            bug.breaks()
        );
        (bug.name(), about)
    });
    section(
        &mut lines,
        "seeded bugs (`cargo xtask jepsen --bugs`)",
        &bugs.collect::<Vec<_>>(),
    );
    lines
}

fn section(lines: &mut Vec<String>, title: &str, rows: &[(&str, String)]) {
    if !lines.is_empty() {
        lines.push(String::new());
    }
    lines.push(title.to_owned());
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    lines.extend(
        rows.iter()
            .map(|(name, about)| format!("  {name:<width$}  {about}")),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_there_is_has_a_line_with_a_sentence() {
        let lines = lines();
        let names = WorkloadKind::ALL.map(WorkloadKind::name).into_iter();
        let names = names
            .chain(Kind::ALL.map(Kind::name))
            .chain(AnomalyName::ALL.iter().map(|name| name.as_str()))
            .chain(Bug::ALL.iter().map(|bug| bug.name()));
        for name in names {
            let line = lines
                .iter()
                .find(|line| line.split_whitespace().next() == Some(name));
            assert!(
                line.is_some_and(|line| line.split_whitespace().count() > 3),
                "{name}"
            );
        }
    }
}

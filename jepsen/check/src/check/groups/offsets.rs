//! What is committed stays: later looks show it, or what was committed after it.

use super::super::findings::Findings;
use super::super::run::Run;
use super::super::verdict::{Anomaly, AnomalyName};
use super::{Commit, Commits, Look};
use crate::history::Kind;

pub(super) fn check(run: &Run<'_>, all: &Commits<'_>, findings: &mut Findings) {
    for ((group, key), looks) in &all.looks {
        let commits = all
            .commits
            .get(&(*group, *key))
            .map_or(&[][..], Vec::as_slice);
        let known = known(commits, looks);
        let key = run.keys[*key];
        for look in looks {
            let before = known.partition_point(|(completed, ..)| *completed < look.invoked);
            let highest = before.checked_sub(1).map(|at| known[at]);
            if let Some((_, offset, position)) = highest.filter(|known| known.1 > look.offset) {
                let name = AnomalyName::CommittedOffsetLost;
                findings.add(name, || {
                    let what = format!(
                        "{key}: group {group} had committed {offset}, and later {} is seen",
                        named(look.offset)
                    );
                    Anomaly::new(name, what)
                        .of_key(key)
                        .shown_by([position, look.invoked, look.completed].map(|at| at as u64))
                        .about([], [offset, look.offset])
                });
            } else if look.offset >= 0 && !commits.iter().any(|commit| explains(commit, look)) {
                let name = AnomalyName::CommittedOffsetPhantom;
                findings.add(name, || {
                    let failed = commits.iter().filter(|commit| {
                        commit.offset == look.offset && commit.outcome == Kind::Fail
                    });
                    let what = format!(
                        "{key}: {} is seen as committed by group {group}, which nobody did",
                        look.offset
                    );
                    let failed = failed.map(|commit| commit.invoked as u64);
                    Anomaly::new(name, what)
                        .of_key(key)
                        .shown_by(failed.chain([look.invoked as u64, look.completed as u64]))
                        .about([], [look.offset])
                });
            }
        }
    }
}

fn named(offset: i64) -> String {
    match offset {
        0.. => offset.to_string(),
        _ => "nothing".to_owned(),
    }
}

/// Whether a look may show this commit.
fn explains(commit: &Commit, look: &Look) -> bool {
    commit.offset == look.offset && commit.outcome != Kind::Fail && commit.invoked < look.completed
}

/// The highest offset that is certain to be committed, as it rises: from which position on, which, and
/// the position that proves it.
fn known(commits: &[Commit], looks: &[Look]) -> Vec<(usize, i64, usize)> {
    let acknowledged = commits
        .iter()
        .filter(|commit| commit.outcome == Kind::Ok)
        .filter_map(|commit| Some((commit.completed?, commit.offset)));
    let seen = looks.iter().map(|look| (look.completed, look.offset));
    let mut all: Vec<(usize, i64)> = acknowledged.chain(seen).collect();
    all.sort_unstable();
    let mut known: Vec<(usize, i64, usize)> = Vec::new();
    for (completed, offset) in all {
        if known.last().is_none_or(|(_, highest, _)| *highest < offset) {
            known.push((completed, offset, completed));
        }
    }
    known
}

//! Once everything is healed, each group comes to the end of what it reads: every partition has an
//! owner, and what was written is consumed and committed.

use std::collections::BTreeMap;

use super::super::findings::Findings;
use super::super::limits::Limits;
use super::super::run::{KeyId, Run, Sent, offset_at};
use super::super::verdict::{Anomaly, AnomalyName};
use super::Commits;
use crate::history::Kind;

pub(super) fn check(run: &Run<'_>, all: &Commits<'_>, limits: &Limits, findings: &mut Findings) {
    let Some(healed) = run.phase("healed").or_else(|| run.phase("heal")) else {
        return;
    };
    let (ends, sent_last) = ends(run);
    let from_us = run.time_us(healed.max(sent_last));
    let until_us = from_us.saturating_add(limits.group_heal_us_max);
    let end_us = run.events.last().map_or(0, |event| event.time_us);
    for ((group, key), commits) in &all.commits {
        let Some(end) = ends.get(key).copied().filter(|_| run.stays(*key)) else {
            continue;
        };
        let acknowledged = commits
            .iter()
            .filter(|commit| commit.outcome == Kind::Ok)
            .filter_map(|commit| Some((commit.completed?, commit.offset)));
        let looks = all.looks.get(&(*group, *key)).into_iter().flatten();
        let seen = acknowledged.chain(looks.map(|look| (look.completed, look.offset)));
        let mut seen: Vec<(usize, i64)> = seen.collect();
        seen.sort_unstable();
        let reached = seen.iter().find(|(_, offset)| *offset >= end).copied();
        let key = run.keys[*key];
        match reached {
            Some((at, _)) if run.time_us(at) <= until_us => {}
            None if end_us < until_us => {
                if limits.whole_run {
                    findings.unknown(format!(
                        "the run ended before group {group} had its time to reach the end of {key}"
                    ));
                }
            }
            late => {
                let name = AnomalyName::GroupNotLive;
                findings.add(name, || {
                    let furthest = seen.last().map(|(at, _)| *at as u64);
                    let what = match late {
                        Some((at, _)) => format!(
                            "{key}: group {group} took {} ms after healing to commit {end}",
                            run.time_us(at).saturating_sub(from_us) / 1000
                        ),
                        None => format!(
                            "{key}: group {group} never committed {end}; at last {}",
                            seen.last().map_or(-1, |(_, offset)| *offset)
                        ),
                    };
                    Anomaly::new(name, what)
                        .of_key(key)
                        .shown_by(furthest.into_iter().chain([healed as u64]))
                        .about([], [end])
                });
            }
        }
    }
}

/// Of each partition the offset behind its last acknowledged record; and where the last send of all
/// was acknowledged.
fn ends(run: &Run<'_>) -> (BTreeMap<KeyId, i64>, usize) {
    let mut ends: BTreeMap<KeyId, i64> = BTreeMap::new();
    let mut last = 0;
    for send in &run.sends {
        if let Sent::Ok(offset) = send.outcome {
            let end = ends.entry(send.key).or_default();
            *end = (*end).max(offset_at(offset, send.values.len()));
            last = last.max(send.completed.unwrap_or(0));
        }
    }
    (ends, last)
}

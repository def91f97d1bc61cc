//! Whether enough happened to prove anything: a run in which nothing worked, nothing was read or
//! nothing was broken must not pass.

use std::collections::{BTreeMap, BTreeSet};

use super::findings::Findings;
use super::limits::Limits;
use super::run::{Run, Sent};
use crate::history::{Group, Kind, Op};

pub(crate) fn check(run: &Run<'_>, limits: &Limits, findings: &mut Findings) {
    acknowledged(run, limits, findings);
    faults(run, limits, findings);
    if limits.whole_run {
        phases(run, findings);
        replicas(run, limits, findings);
    }
}

fn acknowledged(run: &Run<'_>, limits: &Limits, findings: &mut Findings) {
    let (mut sends, mut polls, mut changes, mut commits) = (0, 0, 0, 0);
    for event in run.events.iter().filter(|event| event.kind == Kind::Ok) {
        match &event.op {
            Op::Send { .. } => sends += 1,
            Op::Poll { reads } if reads.iter().any(|read| !read.records.is_empty()) => polls += 1,
            Op::Admin(admin) if admin.changes() => changes += 1,
            Op::Group(Group::Commit { member, .. }) if !member.is_empty() => commits += 1,
            _ => {}
        }
    }
    for (what, count, min) in [
        ("sends were acknowledged", sends, limits.sends_ok_min),
        ("polls returned records", polls, limits.polls_ok_min),
        (
            "changes of topics were acknowledged",
            changes,
            limits.admin_ok_min,
        ),
        (
            "commits of members were acknowledged",
            commits,
            limits.commits_ok_min,
        ),
    ] {
        if count < min {
            findings.unknown(format!("only {count} {what}, of {min} that are needed"));
        }
    }
    let mut keys: Vec<Option<u64>> = vec![None; run.keys.len()];
    for send in &run.sends {
        *keys[send.key].get_or_insert(0) += u64::from(matches!(send.outcome, Sent::Ok(_)));
    }
    for (key, count) in keys.iter().enumerate().filter(|(key, _)| run.stays(*key)) {
        if let Some(count) = count.filter(|count| *count < limits.key_sends_ok_min) {
            let (key, min) = (run.keys[key], limits.key_sends_ok_min);
            findings.unknown(format!(
                "only {count} sends to {key} were acknowledged, of {min}"
            ));
        }
    }
}

/// Each fault that was asked for took effect once, and of those that were tried at least one.
fn faults(run: &Run<'_>, limits: &Limits, findings: &mut Findings) {
    let mut tried: BTreeMap<&str, bool> = BTreeMap::new();
    for name in &limits.faults_expected {
        tried.insert(name, false);
    }
    for event in run.events {
        if let Op::Fault {
            name, begins: true, ..
        } = &event.op
        {
            *tried.entry(name).or_default() |= event.kind == Kind::Ok;
        }
    }
    let is_any_seen = tried.values().any(|seen| *seen);
    let is_expected = |name: &str| limits.faults_expected.iter().any(|one| one == name);
    for name in tried
        .into_iter()
        .filter_map(|(name, seen)| (!seen).then_some(name))
        .filter(|name| !is_any_seen || is_expected(name))
    {
        findings.unknown(format!("fault `{name}` never took effect"));
    }
}

fn phases(run: &Run<'_>, findings: &mut Findings) {
    for name in ["final", "end"] {
        if run.phase(name).is_none() {
            findings.unknown(format!("the run did not come to phase `{name}`"));
        }
    }
}

/// Each partition that was sent to shows its replicas, and each replica that was asked for: but for
/// those of which it turned out that the partition is not there any more.
fn replicas(run: &Run<'_>, limits: &Limits, findings: &mut Findings) {
    let sent_to: BTreeSet<_> = run.sends.iter().map(|send| send.key).collect();
    let mut asked = BTreeSet::new();
    let from = run.phase("final").unwrap_or(run.events.len());
    for (position, event) in run.events.iter().enumerate().skip(from) {
        if let (Kind::Invoke, Op::ReplicaRead { node, key, .. }) = (event.kind, &event.op)
            && run.outcome(position) != Kind::Fail
        {
            asked.insert((run.key_id(key), *node));
        }
    }
    for key in sent_to.into_iter().filter(|key| run.stays(*key)) {
        let shown: BTreeSet<u32> = run
            .replica_reads(key)
            .filter_map(|at| match &run.events[at].op {
                Op::ReplicaRead { node, .. } => Some(*node),
                _ => None,
            })
            .collect();
        let (count, min) = (shown.len() as u64, u64::from(limits.replicas_min));
        if count < min {
            let key = run.keys[key];
            findings.unknown(format!(
                "only {count} replicas of {key} were read in the end, of {min}"
            ));
        }
        let nodes = asked
            .range((key, 0)..=(key, u32::MAX))
            .map(|(_, node)| node);
        for node in nodes.filter(|node| !shown.contains(node)) {
            let key = run.keys[key];
            findings.unknown(format!("node {node} did not show its replica of {key}"));
        }
    }
}

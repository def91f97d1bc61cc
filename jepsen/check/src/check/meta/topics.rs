//! Whether a topic is there: from a moment of its creation to a moment of its deletion, both to be
//! chosen so that every look is right.
//!
//! The best choice is the latest creation and the earliest deletion that the positive looks and the
//! acknowledgements leave: if a negative look falls between these, no choice explains it.

use std::collections::{BTreeMap, BTreeSet};

use super::super::findings::Findings;
use super::super::verdict::{Anomaly, AnomalyName};
use super::{Looks, event_of, moment};
use crate::history::{Admin, Kind, Op};

/// An operation: from its invocation to its completion, which for an unknown outcome is never.
#[derive(Debug, Clone, Copy)]
struct Span {
    from: i64,
    to: i64,
}

#[derive(Debug, Default)]
struct Topic {
    creates: Vec<Span>,
    creates_failed: bool,
    partitions: Option<i32>,
    deletes: Vec<Span>,
    seen: Vec<Span>,
    missed: Vec<Span>,
    counted: Vec<(i32, i64)>,
}

/// A list of topics.
struct List<'a> {
    span: Span,
    topics: BTreeSet<&'a str>,
}

pub(super) fn check(looks: &Looks<'_, '_>, findings: &mut Findings) {
    let mut topics: BTreeMap<&str, Topic> = BTreeMap::new();
    let mut lists: Vec<List<'_>> = Vec::new();
    for (at, event) in looks.run.events.iter().enumerate() {
        let Op::Admin(admin) = &event.op else {
            continue;
        };
        if event.kind == Kind::Invoke {
            let kind = looks.run.outcome(at);
            let to = match (kind, looks.run.partner[at]) {
                (Kind::Ok, Some(completed)) => moment(completed),
                _ => i64::MAX,
            };
            let span = Span {
                from: moment(at),
                to,
            };
            match admin {
                Admin::CreateTopic { topic, partitions } => {
                    let topic = topics.entry(topic).or_default();
                    topic.partitions = Some(*partitions);
                    match kind {
                        Kind::Fail => topic.creates_failed = true,
                        _ => topic.creates.push(span),
                    }
                }
                Admin::DeleteTopic { topic } if kind != Kind::Fail => {
                    topics.entry(topic).or_default().deletes.push(span);
                }
                _ => {}
            }
            continue;
        }
        let (Kind::Ok, Some(invoked)) = (event.kind, looks.run.partner[at]) else {
            continue;
        };
        let span = Span {
            from: looks.earliest(invoked),
            to: moment(at),
        };
        match admin {
            Admin::Describe {
                topic,
                exists: Some(exists),
                partitions,
                ..
            } => {
                let topic = topics.entry(topic).or_default();
                match exists {
                    true => topic.seen.push(span),
                    false => topic.missed.push(span),
                }
                topic
                    .counted
                    .extend(partitions.map(|count| (count, span.to)));
            }
            Admin::ListTopics { topics } => {
                let topics = topics.iter().map(String::as_str).collect();
                lists.push(List { span, topics });
            }
            _ => {}
        }
    }
    // Topics that nobody here made or looked at are none of ours.
    for list in &lists {
        for name in &list.topics {
            if let Some(topic) = topics.get_mut(name) {
                topic.seen.push(list.span);
            }
        }
    }
    lists.sort_by_key(|list| list.span.from);
    for (name, topic) in &topics {
        judge(name, topic, &lists, findings);
    }
}

fn judge(name: &str, topic: &Topic, lists: &[List<'_>], findings: &mut Findings) {
    let add = |findings: &mut Findings, anomaly, what: String, shown_by: &[i64]| {
        findings.add(anomaly, || {
            Anomaly::new(anomaly, format!("topic {name}: {what}"))
                .of_topic(name)
                .shown_by(shown_by.iter().filter_map(|at| event_of(*at)))
        });
    };
    for (count, at) in &topic.counted {
        if let Some(made) = topic.partitions.filter(|made| made != count) {
            let what = format!("{count} partitions were seen, and {made} made");
            add(findings, AnomalyName::TopicPartitions, what, &[*at]);
        }
    }
    let begun = topic.creates.iter().map(|create| create.from).min();
    if begun.is_some() || topic.creates_failed {
        for seen in &topic.seen {
            if begun.is_none_or(|begun| seen.to < begun) {
                let what = match begun {
                    Some(_) => "was seen before anybody created it",
                    None => "was seen, and its creation surely failed",
                };
                add(
                    findings,
                    AnomalyName::TopicPhantom,
                    what.to_owned(),
                    &[seen.to],
                );
            }
        }
    }
    // Who creates it again after a deletion may find it: then only what nobody deleted is judged.
    if topic.creates.len() > 1 && !topic.deletes.is_empty() {
        return;
    }
    let deleted = topic
        .deletes
        .iter()
        .map(|delete| delete.to)
        .min()
        .unwrap_or(i64::MAX);
    for seen in topic.seen.iter().filter(|seen| deleted < seen.from) {
        let what = "was seen after its deletion was acknowledged".to_owned();
        add(
            findings,
            AnomalyName::TopicResurrected,
            what,
            &[deleted, seen.to],
        );
    }
    // It is there at the latest when its creation is acknowledged, a look saw it, or its deletion worked.
    let there = topic
        .creates
        .iter()
        .chain(&topic.seen)
        .chain(&topic.deletes);
    let Some(there) = there.map(|span| span.to).filter(|to| *to != i64::MAX).min() else {
        return;
    };
    // It is gone at the earliest when its deletion begins and nobody sees it any more.
    let seen_last = topic
        .seen
        .iter()
        .filter(|seen| seen.from <= deleted)
        .map(|seen| seen.from)
        .max();
    let deletes = topic
        .deletes
        .iter()
        .filter(|delete| seen_last.is_none_or(|seen| seen <= delete.to));
    let gone = deletes
        .map(|delete| delete.from.max(seen_last.unwrap_or(i64::MIN)))
        .min();
    let gone = gone.unwrap_or(i64::MAX);
    let first = lists.partition_point(|list| list.span.from <= there);
    let unlisted = lists[first..]
        .iter()
        .take_while(|list| list.span.from < gone);
    let unlisted = unlisted
        .filter(|list| !list.topics.contains(name))
        .map(|list| list.span);
    for missed in topic.missed.iter().copied().chain(unlisted) {
        if missed.from <= there || missed.to >= gone {
            continue;
        }
        let asked = topic.deletes.iter().any(|delete| delete.from < missed.to);
        match seen_last.filter(|seen| asked && missed.to < *seen) {
            Some(seen) => {
                let what = "was seen again after it was seen to be deleted".to_owned();
                add(
                    findings,
                    AnomalyName::TopicResurrected,
                    what,
                    &[there, missed.to, seen],
                );
            }
            None => {
                let what = "is missing, though it was there and nobody deleted it".to_owned();
                add(findings, AnomalyName::TopicLost, what, &[there, missed.to]);
            }
        }
    }
}

//! How often a group came to rest: each of its partitions had an owner, all of one generation. Where
//! that never was, little of what groups promise was tried.

use std::collections::{BTreeMap, BTreeSet};

use super::super::findings::Findings;
use super::super::limits::Limits;
use super::super::run::{KeyId, Run};
use super::super::stats::GroupStats;
use crate::history::{Group, Kind, Membership, Op, Process, Protocol};

/// A group as its members tell.
#[derive(Debug, Default)]
struct Told<'a> {
    /// What it ever committed.
    keys: BTreeSet<KeyId>,
    /// What each process owns, and in which generation.
    owned: BTreeMap<Process, (i32, BTreeSet<KeyId>)>,
    generations: BTreeSet<i32>,
    /// What each instance was told when it joined, in which generation, and as which member.
    instances: BTreeMap<&'a str, &'a Membership>,
    is_at_rest: bool,
    stats: GroupStats,
}

impl<'a> Told<'a> {
    fn look(&mut self) {
        let latest = self.owned.values().map(|(generation, _)| *generation).max();
        // A client that tells no generation knows of its own end only.
        let current = self
            .owned
            .values()
            .filter(|(generation, _)| *generation < 0 || Some(*generation) == latest);
        let owned: BTreeSet<KeyId> = current.flat_map(|(_, owned)| owned).copied().collect();
        let is_at_rest = !self.keys.is_empty() && self.keys.is_subset(&owned);
        self.stats.rests += u64::from(is_at_rest && !self.is_at_rest);
        self.is_at_rest = is_at_rest;
    }

    fn joined(&mut self, told: &'a Membership) {
        let Some(instance) = told.instance.as_deref() else {
            return;
        };
        if let Some(before) = self.instances.insert(instance, told) {
            let is_same = before.generation == told.generation && before.owned == told.owned;
            let is_other = before.member != told.member && told.protocol == Protocol::Classic;
            self.stats.returns += u64::from(is_same && is_other && told.generation >= 0);
        }
    }
}

fn walk<'a>(run: &Run<'a>) -> BTreeMap<&'a str, Told<'a>> {
    let mut groups: BTreeMap<&'a str, Told<'a>> = BTreeMap::new();
    let until = run.phase("heal").unwrap_or(run.events.len());
    for event in &run.events[..until] {
        match (&event.op, event.kind) {
            (Op::Group(Group::Commit { group, offsets, .. }), Kind::Invoke) => {
                let group = groups.entry(group).or_default();
                group
                    .keys
                    .extend(offsets.iter().map(|(key, _)| run.key_id(key)));
            }
            (Op::Group(Group::Join(asked) | Group::Heartbeat(asked)), Kind::Invoke) => {
                let group = groups.entry(&asked.group).or_default();
                let held: BTreeSet<KeyId> = asked.held.iter().map(|key| run.key_id(key)).collect();
                if let Some((_, owned)) = group.owned.get_mut(&event.process) {
                    owned.retain(|key| held.contains(key));
                }
                group.look();
            }
            (Op::Group(op @ (Group::Join(told) | Group::Heartbeat(told))), Kind::Ok) => {
                let group = groups.entry(&told.group).or_default();
                let owned = told.owned.iter().map(|key| run.key_id(key)).collect();
                group.owned.insert(event.process, (told.generation, owned));
                if told.generation >= 0 {
                    group.generations.insert(told.generation);
                }
                if matches!(op, Group::Join(_)) {
                    group.joined(told);
                }
                group.look();
            }
            (Op::Group(Group::Leave { .. }), Kind::Invoke)
            | (Op::Crash, Kind::Ok | Kind::Info)
            | (Op::Group(Group::Commit { .. }), Kind::Info) => {
                for group in groups.values_mut() {
                    if group.owned.remove(&event.process).is_some() {
                        group.look();
                    }
                }
            }
            _ => {}
        }
    }
    groups
}

/// What each group came to.
pub(in super::super) fn stats(run: &Run<'_>) -> BTreeMap<String, GroupStats> {
    let told = walk(run).into_iter();
    let told = told.map(|(name, told)| {
        let generations = told.generations.len() as u64;
        let stats = GroupStats {
            generations,
            ..told.stats
        };
        (name.to_owned(), stats)
    });
    told.collect()
}

pub(super) fn check(run: &Run<'_>, limits: &Limits, findings: &mut Findings) {
    if limits.group_rests_min == 0 {
        return;
    }
    for (group, stats) in stats(run) {
        if stats.rests < limits.group_rests_min {
            findings.unknown(format!(
                "group {group} came to rest {} times while things were broken, of {} that are \
                 needed, in {} generations",
                stats.rests, limits.group_rests_min, stats.generations
            ));
        }
    }
}

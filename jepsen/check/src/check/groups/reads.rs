//! What a group reads: everything below what it commits, and nothing again that was committed before
//! the reader was told to own the partition.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::super::findings::Findings;
use super::super::log::Partition;
use super::super::run::{KeyId, Run};
use super::super::verdict::{Anomaly, AnomalyName};
use super::{Commits, Place};
use crate::history::{Group, Key, Kind, Op, Process};

/// A process as a reader for its group.
#[derive(Debug, Default)]
struct Reader<'a> {
    group: &'a str,
    /// Of each partition it owns what was committed before it was told so, and where.
    floors: BTreeMap<KeyId, Option<(i64, usize)>>,
}

/// What a group has read of a partition.
#[derive(Debug, Default)]
struct Seen {
    /// Everything known below was read.
    below: i64,
    offsets: BTreeSet<i64>,
}

impl Seen {
    /// The first record known below an offset that was not read.
    fn unread(&mut self, partition: &Partition, below: i64) -> Option<i64> {
        loop {
            let next = partition.first_known(self.below, below).first()?.0;
            if !self.offsets.remove(&next) {
                return Some(next);
            }
            self.below = next.saturating_add(1);
        }
    }
}

pub(super) fn check<'a>(
    run: &Run<'a>,
    partitions: &[Partition],
    commits: &Commits<'a>,
    findings: &mut Findings,
) {
    let mut readers: HashMap<Process, Reader<'a>> = HashMap::new();
    let mut seen: BTreeMap<Place<'a>, Seen> = BTreeMap::new();
    for (position, event) in run.events.iter().enumerate() {
        match (&event.op, event.kind) {
            (Op::Group(Group::Join(asked) | Group::Heartbeat(asked)), Kind::Invoke) => {
                if let Some(reader) = readers.get_mut(&event.process) {
                    let held: BTreeSet<KeyId> =
                        asked.held.iter().map(|key| run.key_id(key)).collect();
                    reader.floors.retain(|key, _| held.contains(key));
                }
            }
            (Op::Group(Group::Join(told) | Group::Heartbeat(told)), Kind::Ok) => {
                let reader = readers.entry(event.process).or_default();
                reader.group = &told.group;
                let asked = run.partner[position].unwrap_or(position);
                for key in told.owned.iter().map(|key| run.key_id(key)) {
                    let place = (told.group.as_str(), key);
                    let floor = reader.floors.entry(key);
                    floor.or_insert_with(|| commits.acknowledged_before(place, asked));
                }
            }
            (Op::Crash, Kind::Ok | Kind::Info) => drop(readers.remove(&event.process)),
            (Op::Poll { reads }, Kind::Ok | Kind::Info) => {
                let Some(reader) = readers.get(&event.process) else {
                    continue;
                };
                for read in reads {
                    let key = run.key_id(&read.key);
                    let offsets = read.records.iter().map(|(offset, _)| *offset);
                    if let Some(Some((floor, by))) = reader.floors.get(&key) {
                        let again: Vec<i64> =
                            offsets.clone().filter(|offset| offset < floor).collect();
                        if !again.is_empty() {
                            reread(
                                reader.group,
                                &read.key,
                                *floor,
                                *by,
                                position,
                                again,
                                findings,
                            );
                        }
                    }
                    let seen = seen.entry((reader.group, key)).or_default();
                    let below = seen.below;
                    seen.offsets
                        .extend(offsets.filter(|offset| *offset >= below));
                }
            }
            (Op::Group(Group::Commit { group, offsets, .. }), Kind::Invoke) => {
                for (named, offset) in offsets {
                    let key = run.key_id(named);
                    let seen = seen.entry((group, key)).or_default();
                    if let Some(unread) = seen.unread(&partitions[key], *offset) {
                        skipped(group, named, *offset, unread, position, findings);
                    }
                }
            }
            _ => {}
        }
    }
}

fn reread(
    group: &str,
    key: &Key,
    floor: i64,
    committed: usize,
    position: usize,
    again: Vec<i64>,
    findings: &mut Findings,
) {
    findings.add(AnomalyName::GroupReread, || {
        let what = format!(
            "{key}: a new owner in group {group} reads from offset {} on, though {floor} was \
             committed before",
            again[0]
        );
        Anomaly::new(AnomalyName::GroupReread, what)
            .of_key(key)
            .shown_by([committed as u64, position as u64])
            .about([], again.into_iter().take(1).chain([floor]))
    });
}

fn skipped(
    group: &str,
    key: &Key,
    offset: i64,
    unread: i64,
    position: usize,
    findings: &mut Findings,
) {
    findings.add(AnomalyName::GroupSkip, || {
        let what =
            format!("{key}: group {group} commits {offset}, and nobody in it has read {unread}");
        Anomaly::new(AnomalyName::GroupSkip, what)
            .of_key(key)
            .shown_by([position as u64])
            .about([], [unread, offset])
    });
}

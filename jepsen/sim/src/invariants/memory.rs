//! What a node has said to be durable, and what its disk says when it starts again.
//!
//! A journal never gets shorter from one run to the next, but by what was done to the disk behind
//! the node's back ([`Excuse`]), or under another incarnation: a node that has lost something says
//! so, and the others take it back. And on a disk to which nothing was done nothing is ever lost.

use std::collections::BTreeMap;
use std::path::Path;

use broker::inspect::NodeInspection;
use jepsen_workload::fault::NodeId;
use raft::inspect::ShardInspection;
use storage::journal::ShardLog;
use storage::{LogIndex, LogPosition, ShardId, Term};

use super::{Broken, Seen};
use crate::machine::{Excuse, Found, Machine};

/// What is known of all nodes.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    nodes: BTreeMap<NodeId, Held>,
    /// Terms of entries that were applied anywhere: nobody ever cuts these off.
    applied: BTreeMap<ShardId, BTreeMap<LogIndex, Term>>,
}

/// What a node has shown to be durable.
#[derive(Debug, Default)]
struct Held {
    incarnation: [u8; 16],
    newest: BTreeMap<ShardId, Marks>,
    /// The same before the last round that changed any of it.
    proved: BTreeMap<ShardId, Marks>,
    /// A sync of its journal has failed in that life, when this was durable.
    failed: Option<(u64, BTreeMap<ShardId, Marks>)>,
}

/// What is durable of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Marks {
    /// The last entry.
    last: LogPosition,
    /// The last one that the replica knew to be committed.
    committed: Option<LogPosition>,
}

impl Memory {
    /// Compares what nodes show, and what they find when they start, with what they have shown.
    pub(crate) fn look(
        &mut self,
        machines: &mut BTreeMap<NodeId, Machine>,
        all: &[Seen],
    ) -> Result<(), Broken> {
        for (shard, entries) in all.iter().flat_map(|seen| &seen.applied) {
            let known = self.applied.entry(*shard).or_default();
            known.extend(
                entries
                    .iter()
                    .map(|entry| (entry.position.index, entry.position.term)),
            );
        }
        for machine in machines.values_mut() {
            let held = self.nodes.entry(machine.id).or_default();
            if let Some(found) = machine.take_found() {
                held.compare(&found, &self.applied)
                    .map_err(|detail| Broken::new("durable-stays", machine.id, detail))?;
            }
            let seen = all.iter().find(|seen| seen.id == machine.id);
            if machine.keeps_all() && !machine.is_damaged {
                believes(machine, seen)
                    .map_err(|detail| Broken::new("sound-disk-is-believed", machine.id, detail))?;
            }
            if machine.is_running() && machine.is_returning() {
                held.forget();
            } else if let Some(seen) = seen {
                held.update(seen.node.incarnation, marks(&seen.node));
            }
            let failed = machine.disk.take_failed_syncs();
            let has_failed = failed.iter().any(|path| is_journal(path));
            if let Some(seen) = seen {
                held.stops_after_failed_sync(seen.run, has_failed && machine.keeps_all())
                    .map_err(|detail| Broken::new("failed-sync-is-the-end", machine.id, detail))?;
            }
        }
        Ok(())
    }

    /// The node is gone.
    pub(crate) fn forget_node(&mut self, id: NodeId) {
        self.nodes.remove(&id);
    }
}

/// A node finds nothing wrong where nothing was done.
fn believes(machine: &Machine, seen: Option<&Seen>) -> Result<(), String> {
    if machine.is_running() && machine.is_returning() {
        return Err("it has lost its memory, though nothing was done to its disk".to_owned());
    }
    match seen.map(|seen| seen.node.damage_reports) {
        Some(notes @ 1..) => Err(format!(
            "its logs are damaged, {notes} times, though nothing was done to its disk"
        )),
        _ => Ok(()),
    }
}

impl Held {
    fn forget(&mut self) {
        self.newest.clear();
        self.proved.clear();
    }

    fn update(&mut self, incarnation: [u8; 16], now: BTreeMap<ShardId, Marks>) {
        if self.incarnation != incarnation {
            self.incarnation = incarnation;
            self.forget();
        }
        let lasts = |of: &BTreeMap<ShardId, Marks>| -> Vec<LogPosition> {
            of.values().map(|marks| marks.last).collect()
        };
        if lasts(&now) != lasts(&self.newest) {
            self.proved = std::mem::replace(&mut self.newest, now);
        } else {
            self.newest = now;
        }
    }

    /// A sync that failed proves nothing, and neither does any after it: nothing becomes durable any
    /// more before the journal is opened anew.
    fn stops_after_failed_sync(&mut self, life: u64, has_failed: bool) -> Result<(), String> {
        if let Some((failed, then)) = &self.failed
            && *failed == life
        {
            let risen = self
                .newest
                .iter()
                .find(|(shard, now)| then.get(*shard).is_some_and(|then| then.last < now.last));
            return risen.map_or(Ok(()), |(shard, now)| {
                Err(format!(
                    "shard {shard}: {} is taken for durable after a sync of the journal failed",
                    now.last
                ))
            });
        }
        self.failed = has_failed.then(|| (life, self.newest.clone()));
        Ok(())
    }

    /// What is on the disk must be all that was durable.
    fn compare(
        &mut self,
        found: &Found,
        applied: &BTreeMap<ShardId, BTreeMap<LogIndex, Term>>,
    ) -> Result<(), String> {
        let is_same = found
            .identity
            .windows(16)
            .any(|bytes| bytes == self.incarnation);
        let is_told = found.is_returning || found.journal.error.is_some();
        let held = match found.excuse {
            Excuse::None => &self.newest,
            Excuse::LastRound => &self.proved,
            Excuse::All => &BTreeMap::new(),
        };
        for (shard, log) in found.journal.shards.iter().filter(|_| is_same && !is_told) {
            let Some(marks) = held.get(shard) else {
                continue;
            };
            // Who follows may cut off what was never committed.
            let is_applied = |at: &LogPosition| {
                applied.get(shard).and_then(|of| of.get(&at.index)) == Some(&at.term)
            };
            let must = marks
                .committed
                .into_iter()
                .chain(Some(marks.last).filter(is_applied));
            if let Some(missing) = must.filter(|at| !holds(log, *at)).max() {
                return Err(format!(
                    "shard {shard}: {missing} was durable and is not in the journal ({:?}..{:?}) when the \
                     node starts again",
                    log.floor, log.last
                ));
            }
        }
        if found.excuse != Excuse::None || !is_same || is_told {
            self.forget();
        }
        Ok(())
    }
}

fn marks(node: &NodeInspection) -> BTreeMap<ShardId, Marks> {
    let of_shard = |shard: &ShardInspection| {
        // Where the log is empty its floor is told, which a checkpoint holds: the journal may not
        // have got as far.
        let last = shard.journal_durable;
        let last = last.filter(|last| Some(*last) > shard.journal_floor)?;
        let committed = shard.committed;
        let committed = committed.filter(|committed| committed.index <= last.index);
        Some((shard.shard, Marks { last, committed }))
    };
    node.shards.iter().filter_map(of_shard).collect()
}

fn is_journal(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "journal")
}

/// Whether an entry that is committed is in a log, or was dropped from its beginning.
fn holds(log: &ShardLog, at: LogPosition) -> bool {
    log.floor.is_some_and(|floor| floor.index >= at.index)
        || log
            .last
            .is_some_and(|last| last.index >= at.index && last.term >= at.term)
}

#[cfg(test)]
mod tests {
    use storage::journal::{JournalError, JournalReport};

    use super::*;

    const SHARD: ShardId = ShardId(3);
    const NODE: [u8; 16] = [7; 16];

    fn at(term: u64, index: u64) -> LogPosition {
        LogPosition {
            term: Term(term),
            index: LogIndex(index),
        }
    }

    fn durable(last: LogPosition, committed: Option<LogPosition>) -> BTreeMap<ShardId, Marks> {
        [(SHARD, Marks { last, committed })].into()
    }

    fn found(excuse: Excuse, last: LogPosition) -> Found {
        let log = ShardLog {
            last: Some(last),
            ..ShardLog::default()
        };
        Found {
            excuse,
            journal: JournalReport {
                shards: vec![(SHARD, log)],
                ..JournalReport::default()
            },
            identity: [&[1, 2][..], &NODE[..], &[3][..]].concat(),
            is_returning: false,
        }
    }

    /// Durable up to 10, of which 10 came with the last round and was applied somewhere.
    fn held() -> (Held, BTreeMap<ShardId, BTreeMap<LogIndex, Term>>) {
        let mut held = Held::default();
        held.update(NODE, durable(at(2, 9), Some(at(2, 8))));
        held.update(NODE, durable(at(2, 10), Some(at(2, 8))));
        let applied = [(LogIndex(9), Term(2)), (LogIndex(10), Term(2))];
        (held, [(SHARD, applied.into())].into())
    }

    #[test]
    fn a_journal_that_is_shorter_than_it_was_is_seen() {
        let (mut held, applied) = held();
        held.compare(&found(Excuse::None, at(2, 10)), &applied)
            .unwrap();
        held.compare(&found(Excuse::None, at(3, 12)), &applied)
            .unwrap();
        held.compare(&found(Excuse::None, at(2, 9)), &applied)
            .unwrap_err();
    }

    #[test]
    fn a_bit_that_flips_excuses_the_last_round_and_no_more() {
        let last_round = found(Excuse::LastRound, at(2, 9));
        let (mut one, applied) = held();
        one.compare(&last_round, &applied).unwrap();
        // What it has now is what counts from here on.
        one.compare(&found(Excuse::None, at(2, 9)), &applied)
            .unwrap();
        let (mut other, applied) = held();
        let more = found(Excuse::LastRound, at(2, 8));
        other.compare(&more, &applied).unwrap_err();
        let (mut third, applied) = held();
        third
            .compare(&found(Excuse::All, at(1, 1)), &applied)
            .unwrap();
    }

    #[test]
    fn what_was_never_committed_may_be_cut_off() {
        let (mut held, _) = held();
        let none = BTreeMap::new();
        held.compare(&found(Excuse::None, at(2, 8)), &none).unwrap();
        held.compare(&found(Excuse::None, at(2, 7)), &none)
            .unwrap_err();
    }

    #[test]
    fn who_says_that_something_is_gone_is_another_from_then_on() {
        let (mut other, applied) = held();
        let mut stranger = found(Excuse::None, at(1, 1));
        stranger.identity = vec![9; 30];
        other.compare(&stranger, &applied).unwrap();
        let (mut returning, applied) = held();
        let mut asks = found(Excuse::None, at(1, 1));
        asks.is_returning = true;
        returning.compare(&asks, &applied).unwrap();
        let (mut refusing, applied) = held();
        let mut damaged = found(Excuse::None, at(1, 1));
        damaged.journal.error = Some(JournalError::Closed);
        refusing.compare(&damaged, &applied).unwrap();
    }

    #[test]
    fn nothing_is_durable_after_a_failed_sync_but_in_another_life() {
        let (mut held, _) = held();
        held.stops_after_failed_sync(1, true).unwrap();
        held.stops_after_failed_sync(1, false).unwrap();
        held.update(NODE, durable(at(2, 11), None));
        held.stops_after_failed_sync(1, false).unwrap_err();
        held.stops_after_failed_sync(2, false).unwrap();
        held.update(NODE, durable(at(2, 12), None));
        held.stops_after_failed_sync(2, false).unwrap();
    }
}

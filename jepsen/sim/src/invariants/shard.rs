//! All replicas of a shard together: one leader a term, one log, and what is committed stays.

use std::collections::{BTreeMap, BTreeSet};

use jepsen_workload::fault::NodeId;
use raft::inspect::{AppliedEntry, Role, ShardInspection};
use storage::{ShardId, Term};

use super::commits::{Commits, Witnesses};
use super::replica::Replicas;
use super::{Broken, Seen};

/// Of what is committed, so many of the last entries are looked for in a new leader's log.
const LOOKED_FOR: usize = 64;
/// The catalogue's shard.
const CATALOGUE: ShardId = ShardId(0);

/// What is known of every shard.
#[derive(Debug, Default)]
pub(crate) struct Shards {
    all: BTreeMap<ShardId, Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// By index, whatever was applied anywhere.
    applied: BTreeMap<u64, Applied>,
    /// Who leads each term.
    leaders: BTreeMap<Term, NodeId>,
    /// Leaders whose logs were looked at.
    looked_at: Option<(Term, NodeId)>,
    /// What is committed.
    commits: Commits,
    /// Who took over a checkpoint copied its logs as they were by then, which may be newer: up to
    /// which index its state says nothing.
    copied_up_to: BTreeMap<NodeId, u64>,
}

/// An entry that was applied somewhere; so it is committed.
#[derive(Debug)]
struct Applied {
    term: Term,
    crc: Option<u32>,
    state: Option<u64>,
}

impl Shards {
    /// State machine safety, log matching, and that what is committed never changes: whatever is
    /// applied at an index anywhere is the same, and leads to the same state.
    pub(crate) fn applied(&mut self, seen: &Seen) -> Result<(), Broken> {
        for (shard, entries) in &seen.applied {
            let known = self.all.entry(*shard).or_default();
            for entry in entries {
                known.apply(*shard, seen.id, entry)?;
            }
        }
        Ok(())
    }

    /// Who leads, and whether leaders and majorities hold what is committed.
    pub(crate) fn look(
        &mut self,
        all: &[Seen],
        replicas: &Replicas,
        unseen: &BTreeSet<NodeId>,
    ) -> Result<(), Broken> {
        for seen in all {
            for shard in &seen.node.shards {
                let known = self.all.entry(shard.shard).or_default();
                known.lead(seen, shard)?;
                known.commits.note_members(shard);
            }
        }
        for seen in all {
            for shard in &seen.node.shards {
                let witnesses = Witnesses {
                    shard: shard.shard,
                    all,
                    unseen,
                    replicas,
                };
                if let Some(known) = self.all.get_mut(&shard.shard) {
                    let holds = |voter, at| witnesses.hold(voter, at);
                    known.commits.look(seen.id, shard, holds)?;
                }
            }
        }
        Ok(())
    }
}

impl Known {
    fn apply(&mut self, shard: ShardId, node: NodeId, entry: &AppliedEntry) -> Result<(), Broken> {
        let index = entry.position.index.0;
        // The catalogue's checkpoint is all of its state, and has no logs beside it.
        if entry.entry_crc.is_none() && shard != CATALOGUE {
            let newest = self.applied.keys().next_back().copied();
            self.copied_up_to
                .insert(node, newest.unwrap_or(index).max(index));
        }
        let is_told = self
            .copied_up_to
            .get(&node)
            .is_none_or(|up_to| index > *up_to);
        let now = Applied {
            term: entry.position.term,
            crc: entry.entry_crc,
            state: entry.state.filter(|_| is_told),
        };
        let Some(before) = self.applied.get_mut(&index) else {
            self.applied.insert(index, now);
            return Ok(());
        };
        let differ =
            |old: Option<u64>, new: Option<u64>| old.zip(new).is_some_and(|(old, new)| old != new);
        let invariant = if before.term != now.term {
            "log-matching"
        } else if differ(before.crc.map(u64::from), now.crc.map(u64::from)) {
            "committed-is-immutable"
        } else if differ(before.state, now.state) {
            "state-machine-safety"
        } else {
            before.crc = before.crc.or(now.crc);
            before.state = before.state.or(now.state);
            return Ok(());
        };
        let detail = format!("shard {shard}, index {index}: {before:?}, then {now:?}");
        Err(Broken::new(invariant, node, detail))
    }

    /// Election safety and leader completeness.
    fn lead(&mut self, seen: &Seen, shard: &ShardInspection) -> Result<(), Broken> {
        let elected = (shard.is_vote_committed || shard.role == Role::Leader)
            .then_some((shard.term, shard.voted_for.0));
        let Some((term, leader)) = elected else {
            return Ok(());
        };
        let first = *self.leaders.entry(term).or_insert(leader);
        if first != leader {
            let id = shard.shard;
            let detail = format!("shard {id}, {term:?}: node {first} and node {leader} lead");
            return Err(Broken::new("election-safety", seen.id, detail));
        }
        if shard.role != Role::Leader
            || leader != seen.id
            || self.looked_at.is_some_and(|last| last >= (term, leader))
        {
            return Ok(());
        }
        self.looked_at = Some((term, leader));
        self.leader_holds(seen, shard)
    }

    /// The log of who leads anew has everything that was committed before.
    fn leader_holds(&self, seen: &Seen, shard: &ShardInspection) -> Result<(), Broken> {
        let floor = shard.journal_floor.map_or(0, |floor| floor.index.0);
        let older = self.applied.iter().rev();
        let older = older.filter(|(_, entry)| entry.term < shard.term);
        for (index, entry) in older.take(LOOKED_FOR) {
            if *index <= floor {
                break;
            }
            let held = seen
                .broker
                .journal_term(shard.shard, storage::LogIndex(*index));
            if held != Some(entry.term) {
                let detail = format!(
                    "shard {}: leader of {:?} holds {held:?} at index {index}, where {entry:?} was applied; {shard:?}",
                    shard.shard, shard.term
                );
                return Err(Broken::new("leader-completeness", seen.id, detail));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use storage::{LogIndex, LogPosition};

    use super::*;

    fn entry(entry_crc: Option<u32>, state: u64) -> AppliedEntry {
        let position = LogPosition {
            term: Term(1),
            index: LogIndex(5),
        };
        AppliedEntry {
            position,
            entry_crc,
            state: Some(state),
        }
    }

    /// What a checkpoint comes to after another node has applied all entries up to there.
    fn restored(shard: ShardId, state: u64) -> Result<(), Broken> {
        let mut known = Known::default();
        known.apply(shard, 1, &entry(Some(9), 77))?;
        known.apply(shard, 2, &entry(None, state))
    }

    #[test]
    fn a_catalogue_is_the_same_by_its_entries_and_by_its_checkpoint() {
        assert!(restored(CATALOGUE, 77).is_ok());
        let broken = restored(CATALOGUE, 78).expect_err("it forgot something");
        assert_eq!(broken.invariant, "state-machine-safety");
    }

    #[test]
    fn logs_that_were_copied_with_a_checkpoint_may_be_newer() {
        assert!(restored(ShardId(1), 78).is_ok());
    }
}

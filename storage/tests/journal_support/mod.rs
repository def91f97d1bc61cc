//! A model of the journal that is a few vectors, and the operations that both run.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use storage::disk::{Disk, SimDisk};
use storage::journal::{Journal, JournalConfig, JournalEntry, JournalError, ShardLog, Synced};
use storage::{LogIndex, LogPosition, ShardId, Term};

pub const DEADLINE: Duration = Duration::from_secs(30);
pub const FILE_BYTES: u64 = 16 << 10;

pub fn config(dir: impl Into<PathBuf>) -> JournalConfig {
    JournalConfig {
        dir: dir.into(),
        file_bytes: FILE_BYTES,
        round_bytes_max: 4 << 10,
        spare_files: 1,
        durability: storage::Durability::Fsync,
        always_synced: None,
        keeps_written: false,
    }
}

pub fn at(term: u64, index: u64) -> LogPosition {
    LogPosition {
        term: Term(term),
        index: LogIndex(index),
    }
}

/// A payload that differs for each seed and length.
pub fn payload(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(len)
    .collect()
}

/// One change, the same for the journal and the model.
#[derive(Debug, Clone)]
pub enum Op {
    /// Entries behind the last, of these payload sizes.
    Append {
        shard: u32,
        term: u64,
        sizes: Vec<usize>,
    },
    /// Drops this many entries from the end.
    Truncate {
        shard: u32,
        count: u64,
    },
    /// Purges up to this many above the floor, which may be beyond the end.
    Purge {
        shard: u32,
        count: u64,
        wrong_term: bool,
    },
    Vote {
        shard: u32,
        vote: u64,
    },
    Committed {
        shard: u32,
    },
    Remove {
        shard: u32,
    },
}

/// Any change.
pub fn op() -> impl Strategy<Value = Op> {
    let shard = || 0_u32..3;
    let size = prop_oneof![8 => 0_usize..200, 4 => 200_usize..3000, 1 => 20_000_usize..40_000];
    let sizes = proptest::collection::vec(size, 0..6);
    prop_oneof![
        12 => (shard(), 0_u64..9, sizes)
            .prop_map(|(shard, term, sizes)| Op::Append { shard, term, sizes }),
        3 => (shard(), 0_u64..8).prop_map(|(shard, count)| Op::Truncate { shard, count }),
        4 => (shard(), 0_u64..12, proptest::bool::weighted(0.2))
            .prop_map(|(shard, count, wrong_term)| Op::Purge { shard, count, wrong_term }),
        3 => (shard(), 0_u64..100).prop_map(|(shard, vote)| Op::Vote { shard, vote }),
        3 => shard().prop_map(|shard| Op::Committed { shard }),
        1 => shard().prop_map(|shard| Op::Remove { shard }),
    ]
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelShard {
    pub floor: Option<LogPosition>,
    pub entries: Vec<(LogPosition, Vec<u8>)>,
    pub vote: Option<Bytes>,
    pub committed: Option<Bytes>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
    pub shards: BTreeMap<ShardId, ModelShard>,
    seed: u64,
}

impl ModelShard {
    pub fn last(&self) -> Option<LogPosition> {
        self.entries
            .last()
            .map(|(position, _)| *position)
            .or(self.floor)
    }

    pub fn next_index(&self) -> u64 {
        self.last().map_or(0, |last| last.index.0 + 1)
    }

    pub fn log(&self) -> ShardLog {
        ShardLog {
            floor: self.floor,
            last: self.last(),
            vote: self.vote.clone(),
            committed: self.committed.clone(),
        }
    }
}

impl Model {
    /// Runs one change on both; `synced` is called when it is durable. A lazy change has no such
    /// moment and drops it.
    pub fn run(&mut self, journal: &Journal, op: &Op, synced: Synced) -> Result<(), JournalError> {
        self.seed += 1;
        let seed = self.seed;
        match op {
            Op::Append { shard, term, sizes } => {
                let id = ShardId(*shard);
                let shard = self.shards.get(&id).cloned().unwrap_or_default();
                let term = shard.last().map_or(0, |last| last.term.0).max(*term);
                let entries: Vec<(LogPosition, Vec<u8>)> = (shard.next_index()..)
                    .zip(sizes)
                    .map(|(index, size)| (at(term, index), payload(seed ^ (index << 20), *size)))
                    .collect();
                let journal_entries = entries
                    .iter()
                    .map(|(position, payload)| {
                        // In pieces of odd sizes, small and large.
                        let middle = payload.len() / 3;
                        let pieces = [&payload[..middle], &payload[middle..]];
                        JournalEntry {
                            position: *position,
                            pieces: pieces.map(Bytes::copy_from_slice).into(),
                        }
                    })
                    .collect();
                journal.append(id, journal_entries, synced)?;
                self.shards.entry(id).or_default().entries.extend(entries);
            }
            Op::Truncate { shard, count } => {
                let id = ShardId(*shard);
                let shard = self.shards.entry(id).or_default();
                let kept = shard.entries.len().saturating_sub(*count as usize);
                let last_kept = kept.checked_sub(1).map(|at| shard.entries[at].0);
                journal.truncate_after(id, last_kept, synced)?;
                shard.entries.truncate(kept);
            }
            Op::Purge {
                shard,
                count,
                wrong_term,
            } => {
                let id = ShardId(*shard);
                let shard = self.shards.entry(id).or_default();
                let first = shard.entries.first().map(|(position, _)| position.index.0);
                let first = first.unwrap_or_else(|| shard.next_index());
                let index = first + count;
                let entry = shard
                    .entries
                    .iter()
                    .find(|(position, _)| position.index.0 == index);
                let term = entry.map_or_else(
                    || shard.last().map_or(1, |last| last.term.0),
                    |(position, _)| position.term.0,
                );
                let upto = at(term + u64::from(*wrong_term), index);
                let all = entry.is_none_or(|(position, _)| *position != upto);
                journal.purge(id, upto, synced)?;
                shard.floor = Some(upto);
                shard
                    .entries
                    .retain(|(position, _)| !all && position.index > upto.index);
            }
            Op::Vote { shard, vote } => {
                let vote = Bytes::from(format!("vote {vote}"));
                journal.save_vote(ShardId(*shard), vote.clone(), synced)?;
                self.shards.entry(ShardId(*shard)).or_default().vote = Some(vote);
            }
            Op::Committed { shard } => {
                let id = ShardId(*shard);
                let shard = self.shards.entry(id).or_default();
                let index = shard.last().map_or(0, |last| last.index.0);
                let committed = Bytes::copy_from_slice(&index.to_le_bytes());
                journal.save_committed(id, committed.clone())?;
                shard.committed = Some(committed);
            }
            Op::Remove { shard } => {
                journal.remove_shard(ShardId(*shard), synced)?;
                self.shards.remove(&ShardId(*shard));
            }
        }
        Ok(())
    }

    /// The same without committed positions, which may be older after a crash.
    pub fn without_committed(&self) -> Model {
        let mut model = self.clone();
        model.seed = 0;
        model
            .shards
            .values_mut()
            .for_each(|shard| shard.committed = None);
        model
            .shards
            .retain(|_, shard| *shard != ModelShard::default());
        model
    }

    /// Everything a journal holds.
    pub fn of(journal: &Journal) -> Result<Model, JournalError> {
        let mut model = Model::default();
        for id in journal.shards() {
            let log = journal.shard_log(id);
            let first = first_index(journal, id, &log);
            let end = log.last.map_or(0, |last| last.index.0 + 1);
            let read = journal.read(id, LogIndex(first), LogIndex(end), usize::MAX)?;
            let entries: Vec<_> = read
                .into_iter()
                .map(|entry| (entry.position, entry.payload.to_vec()))
                .collect();
            assert_eq!(entries.len() as u64, end - first, "{id}: {log:?}");
            for (position, _) in &entries {
                assert_eq!(journal.term_of(id, position.index), Some(position.term));
            }
            let shard = ModelShard {
                floor: log.floor,
                entries,
                vote: log.vote.clone(),
                committed: log.committed.clone(),
            };
            assert_eq!(shard.log(), log);
            model.shards.insert(id, shard);
        }
        Ok(model)
    }

    /// Checks that a journal holds exactly this.
    pub fn check(&self, journal: &Journal) {
        let mut held = Model::of(journal).unwrap();
        held.shards
            .retain(|_, shard| *shard != ModelShard::default());
        let mut expected = self.shards.clone();
        expected.retain(|_, shard| *shard != ModelShard::default());
        assert_eq!(held.shards, expected);
    }

    /// Checks what a journal says of its shards, without reading entries.
    pub fn check_logs(&self, journal: &Journal) {
        for (id, shard) in &self.shards {
            assert_eq!(journal.shard_log(*id), shard.log(), "{id}");
        }
    }

    /// Keeps of a recovered journal what may lawfully be older, and goes on from there.
    pub fn take_committed_of(&mut self, journal: &Journal) {
        self.shards
            .values_mut()
            .for_each(|shard| shard.committed = None);
        for id in journal.shards() {
            self.shards.entry(id).or_default().committed = journal.shard_log(id).committed;
        }
    }
}

/// The index of the first entry: behind the floor, or searched when there is none.
fn first_index(journal: &Journal, id: ShardId, log: &ShardLog) -> u64 {
    match (log.floor, log.last) {
        (Some(floor), _) => floor.index.0 + 1,
        (None, None) => 0,
        (None, Some(last)) => (0..=last.index.0)
            .find(|index| journal.term_of(id, LogIndex(*index)).is_some())
            .unwrap(),
    }
}

/// Counts answers, in order.
pub struct Answers {
    sender: mpsc::Sender<(usize, Result<(), JournalError>)>,
    receiver: mpsc::Receiver<(usize, Result<(), JournalError>)>,
}

impl Answers {
    pub fn new() -> Answers {
        let (sender, receiver) = mpsc::channel();
        Answers { sender, receiver }
    }

    pub fn synced(&self, number: usize) -> Synced {
        let sender = self.sender.clone();
        Box::new(move |result| drop(sender.send((number, result))))
    }

    pub fn next(&self) -> (usize, Result<(), JournalError>) {
        self.receiver
            .recv_timeout(DEADLINE)
            .expect("an answer in time")
    }

    /// What has been answered so far.
    pub fn drain(&self) -> Vec<(usize, Result<(), JournalError>)> {
        self.receiver.try_iter().collect()
    }
}

/// A simulated disk with an empty journal directory whose name is durable.
pub fn sim_disk(seed: u64) -> (SimDisk, Disk, JournalConfig) {
    let sim = SimDisk::new(seed);
    let disk = Disk::Sim(sim.clone());
    let dir = Path::new("/journal");
    disk.create_dir_all(dir).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    (sim, disk, config(dir))
}

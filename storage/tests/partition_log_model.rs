//! A partition log against a plain `Vec`: whatever is done to it, whenever power goes.
#![expect(clippy::unwrap_used, reason = "a test may end where it fails")]

#[path = "support/mod.rs"]
mod support;

use std::io;

use bytes::Bytes;
use proptest::prelude::*;
use storage::disk::{Disk, OpKind, SimDisk};
use storage::partition_log::{LogConfig, LogState, PartitionLog, ReadError, StorageError};
use storage::store::LogStore;
use storage::{LeaderEpoch, Offset};
use support::{Model, PARTITION, append, log_config, open, produced, read_all, sim, store_config};

/// What the journal has: it is applied again after a crash.
#[derive(Debug, Clone)]
enum Applied {
    Append {
        batch: Bytes,
        epoch: i32,
        now_ms: i64,
    },
    RaiseStart(Offset),
}

struct Rig {
    sim: SimDisk,
    disk: Disk,
    store: LogStore,
    log: PartitionLog,
    model: Model,
    epoch: i32,
    now_ms: i64,
    timestamp: i64,
    batches: u64,
    saved: LogState,
    saved_model: Model,
    /// Whether all since `saved` was applied with the same configuration.
    is_same_config: bool,
    /// Since `saved`.
    journal: Vec<Applied>,
}

impl Rig {
    fn new(seed: u64) -> Rig {
        let (sim, disk) = sim(seed);
        let store = open(&disk, store_config());
        let log = store.create(PARTITION, log_config(), Offset(0));
        Rig {
            sim,
            disk,
            store,
            log,
            model: Model::default(),
            epoch: 0,
            now_ms: 0,
            timestamp: 100,
            batches: 0,
            saved: LogState::empty(Offset(0)),
            saved_model: Model::default(),
            is_same_config: true,
            journal: Vec::new(),
        }
    }

    fn append(&mut self, records: i32, payload: usize, timestamp_step: i64) {
        self.timestamp += timestamp_step;
        self.batches += 1;
        let batch = produced(records, payload, self.timestamp, self.batches);
        append(&self.log, &mut self.model, &batch, self.epoch, self.now_ms);
        self.journal.push(Applied::Append {
            batch,
            epoch: self.epoch,
            now_ms: self.now_ms,
        });
    }

    fn raise_start(&mut self, to: Offset) {
        self.log.raise_start(to);
        self.model.start = self.model.start.max(to);
        self.journal.push(Applied::RaiseStart(to));
    }

    /// What a node does now and then; the state is believed only when the sync succeeded.
    fn checkpoint(&mut self) -> bool {
        let mut state = self.log.state();
        let is_outdated = |error| matches!(error, StorageError::StateOutdated { .. });
        if self
            .store
            .sync(&[(self.log.clone(), state.end)])
            .is_err_and(is_outdated)
        {
            state = self.log.state();
        }
        if self.store.sync(&[(self.log.clone(), state.end)]).is_err() {
            return false;
        }
        self.saved = state;
        self.saved_model = self.model.clone();
        self.journal.clear();
        self.is_same_config = true;
        true
    }

    /// Power goes.
    fn crash(&mut self, seed: u64) {
        self.sim.fail_after(1);
        self.store.close();
        self.sim.crash(seed);
    }

    /// The process dies in its next write, the machine stays up.
    fn kill(&mut self) {
        self.sim.inject(OpKind::Write, 1, io::ErrorKind::Other);
        self.store.close();
        self.sim.kill_processes();
    }

    /// Starts over from the disk and the last checkpoint, and applies the journal again.
    fn restart(&mut self) {
        self.restart_with(log_config());
    }

    /// The same with another configuration while the journal is applied: segments may end
    /// elsewhere then.
    fn restart_with(&mut self, config: LogConfig) {
        let before = self.log.state();
        (self.store, self.log) = support::restarted(&self.disk, config, &self.saved);
        self.check_cut_at_checkpoint();
        let mut replayed = self.saved_model.clone();
        for applied in &self.journal {
            match applied {
                Applied::Append {
                    batch,
                    epoch,
                    now_ms,
                } => {
                    append(&self.log, &mut replayed, batch, *epoch, *now_ms);
                }
                Applied::RaiseStart(to) => self.log.raise_start(*to),
            }
        }
        let after = self.log.state();
        self.is_same_config &= config == log_config();
        if self.is_same_config {
            assert_eq!(after, before, "the journal gives the same log");
        } else {
            assert_eq!((after.start, after.end), (before.start, before.end));
        }
        self.log.set_config(log_config());
        self.check_all();
    }

    /// Before the journal is applied the log is what the checkpoint says, except for segments
    /// that a raised start in the journal has deleted.
    fn check_cut_at_checkpoint(&self) {
        assert_eq!(self.log.state(), self.saved);
        let raised = self.journal.iter().filter_map(|applied| match applied {
            Applied::RaiseStart(to) => Some(*to),
            Applied::Append { .. } => None,
        });
        let from = raised.max().unwrap_or(Offset(0)).max(self.saved.start);
        if from <= self.saved.end {
            let expected = self.saved_model.bytes_from(from);
            assert_eq!(read_all(&self.log, from, 700).unwrap(), expected);
        }
    }

    fn check_all(&self) {
        let expected = self.model.bytes_from(self.model.start);
        assert_eq!(
            read_all(&self.log, self.model.start, 1_500).unwrap(),
            expected
        );
        assert!(self.log.failed().is_none(), "{:?}", self.log.failed());
    }

    fn check_read(&self, from: Offset, limit: Offset, bytes_max: usize) {
        let (start, end) = (self.model.start, self.model.end());
        let read = match self.log.read(from, limit, bytes_max) {
            Err(ReadError::OutOfRange {
                requested,
                start: low,
                end: high,
            }) => {
                assert!(from < start || from > end);
                assert_eq!((requested, low, high), (from, start, end));
                return;
            }
            read => read.unwrap(),
        };
        assert!(start <= from && from <= end);
        let bytes = read.batches.concat();
        assert_eq!(bytes.len(), read.bytes);
        let expected: Vec<_> = self.model.range(from, limit).collect();
        let mut given = 0;
        let mut next = from;
        for batch in &expected {
            if given == bytes.len() {
                break;
            }
            assert_eq!(bytes[given..given + batch.bytes.len()], batch.bytes);
            given += batch.bytes.len();
            next = batch.end;
        }
        assert_eq!((given, next), (bytes.len(), read.next));
        assert_eq!(given == 0, expected.is_empty() || from >= limit);
        let is_single = expected
            .first()
            .is_some_and(|first| first.bytes.len() == given);
        assert!(
            given <= bytes_max || is_single,
            "{given} bytes of at most {bytes_max}"
        );
        if let Some(tail) = self.log.read_tail(from, limit, bytes_max) {
            let tail = tail.batches.concat();
            let common = tail.len().min(bytes.len());
            assert_eq!(tail[..common], bytes[..common]);
        }
    }

    fn check_timestamp(&self, timestamp: i64, limit: Offset) {
        let middle = Offset((self.model.start.0 + self.model.end().0) / 2);
        for from in [Offset(0), middle] {
            let visible = || self.model.range(self.model.start.max(from), limit);
            let expected = visible().find(|batch| batch.max_timestamp >= timestamp);
            let found = self.log.find_timestamp(timestamp, from, limit).unwrap();
            assert_eq!(found, expected.map(|batch| batch.bytes.clone()));
            let greatest = visible().map(|batch| batch.max_timestamp).max();
            let expected = visible().find(|batch| Some(batch.max_timestamp) == greatest);
            let found = self.log.max_timestamp_batch(from, limit).unwrap();
            assert_eq!(found, expected.map(|batch| batch.bytes.clone()));
        }
    }

    fn check_epochs(&self, epoch: i32) {
        let Some(first) = self.log.segments().first().map(|segment| segment.base) else {
            return;
        };
        let held = || self.model.range(first, self.model.end());
        let known = held()
            .map(|batch| batch.epoch)
            .filter(|known| known.0 <= epoch)
            .max();
        let expected = known.map(|known| {
            let end = held()
                .filter(|batch| batch.epoch == known)
                .map(|batch| batch.end)
                .max();
            (known, end.unwrap())
        });
        assert_eq!(self.log.end_offset_for_epoch(LeaderEpoch(epoch)), expected);
        for batch in self.model.range(self.model.start, self.model.end()) {
            let offset = batch.base.max(self.model.start);
            assert_eq!(self.log.epoch_at(offset), Some(batch.epoch));
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Append {
        records: i32,
        payload: usize,
        timestamp_step: i64,
    },
    NewEpoch,
    Roll,
    Read {
        from: f64,
        limit: f64,
        bytes_max: usize,
    },
    Timestamp {
        back: i64,
        limit: f64,
    },
    RaiseStart {
        to: f64,
    },
    Retention {
        segments: usize,
    },
    Checkpoint,
    Crash {
        seed: u64,
        segment_bytes: u32,
    },
    Kill,
    PowerCutIn {
        ops: u64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        20 => (1..4_i32, 0..400_usize, -20..40_i64).prop_map(|(records, payload, timestamp_step)| {
            Op::Append { records, payload, timestamp_step }
        }),
        1 => Just(Op::Append { records: 9, payload: 70_000, timestamp_step: 1 }),
        1 => Just(Op::NewEpoch),
        1 => Just(Op::Roll),
        8 => (-0.1..1.1, -0.1..1.1, 0..5_000_usize).prop_map(|(from, limit, bytes_max)| {
            Op::Read { from, limit, bytes_max }
        }),
        4 => (-50..600_i64, 0.0..1.2).prop_map(|(back, limit)| Op::Timestamp { back, limit }),
        1 => (0.0..0.7).prop_map(|to| Op::RaiseStart { to }),
        1 => (0..4_usize).prop_map(|segments| Op::Retention { segments }),
        2 => Just(Op::Checkpoint),
        2 => (any::<u64>(), prop_oneof![Just(3_000), 1..9_000_u32])
            .prop_map(|(seed, segment_bytes)| Op::Crash { seed, segment_bytes }),
        1 => Just(Op::Kill),
        1 => (1..12_u64).prop_map(|ops| Op::PowerCutIn { ops }),
    ]
}

fn apply(rig: &mut Rig, op: &Op) {
    let end = rig.model.end().0;
    #[expect(clippy::cast_possible_truncation, reason = "small numbers in a test")]
    let at = |fraction: f64| Offset((end as f64 * fraction) as i64);
    match op {
        Op::Append {
            records,
            payload,
            timestamp_step,
        } => {
            rig.append(*records, *payload, *timestamp_step);
        }
        Op::NewEpoch => rig.epoch += 1,
        Op::Roll => rig.now_ms += 10_001,
        Op::Read {
            from,
            limit,
            bytes_max,
        } => rig.check_read(at(*from), at(*limit), *bytes_max),
        Op::Timestamp { back, limit } => {
            rig.check_timestamp(rig.timestamp - back, at(*limit));
            rig.check_epochs(rig.epoch);
            rig.check_epochs(rig.epoch / 2);
        }
        Op::RaiseStart { to } => rig.raise_start(at(*to)),
        Op::Retention { segments } => {
            let ends: Vec<Offset> = rig
                .log
                .segments()
                .iter()
                .map(|segment| segment.end)
                .collect();
            if let Some(end) = segments.checked_sub(1).and_then(|n| ends.get(n)) {
                rig.raise_start(*end);
            }
        }
        Op::Checkpoint => {
            if !rig.checkpoint() {
                rig.crash(rig.batches);
                rig.restart();
            }
        }
        Op::Crash {
            seed,
            segment_bytes,
        } => {
            rig.crash(*seed);
            rig.restart_with(LogConfig {
                segment_bytes: *segment_bytes,
                ..log_config()
            });
        }
        Op::Kill => {
            rig.kill();
            rig.restart();
        }
        Op::PowerCutIn { ops } => {
            rig.sim.fail_after(*ops);
            while rig.sim.is_powered() {
                rig.append(2, 100, 1);
                let to = Offset(rig.model.end().0 / 2);
                rig.raise_start(to);
                rig.checkpoint();
            }
            rig.crash(*ops);
            rig.restart();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150,
        failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_log_is_what_was_appended(seed: u64, ops in prop::collection::vec(op(), 1..120)) {
        let mut rig = Rig::new(seed);
        for op in &ops {
            apply(&mut rig, op);
        }
        rig.check_all();
        prop_assert!(rig.checkpoint());
        rig.log.verify().unwrap();
        rig.crash(seed);
        rig.restart();
        rig.log.verify().unwrap();
    }
}

/// Every way of changing files, in an order that makes each depend on those before.
fn scenario(rig: &mut Rig) -> bool {
    let step = |rig: &mut Rig, appends: usize| {
        (0..appends).for_each(|n| rig.append(2, 40 + n * 60 % 400, 5));
        rig.sim.is_powered()
    };
    if !step(rig, 5) || !rig.checkpoint() || !step(rig, 12) {
        return false;
    }
    rig.epoch += 1;
    if !rig.checkpoint() || !step(rig, 12) {
        return false;
    }
    let sealed_end = rig.log.segments()[0].end;
    rig.raise_start(sealed_end);
    if !step(rig, 8) || !rig.checkpoint() {
        return false;
    }
    rig.now_ms += 20_000;
    let end = rig.model.end();
    rig.raise_start(end);
    if !step(rig, 3) || !rig.checkpoint() {
        return false;
    }
    rig.raise_start(rig.model.end());
    rig.checkpoint() && step(rig, 2) && rig.checkpoint()
}

#[test]
fn power_may_go_at_every_write() {
    for seed in 0..3 {
        let mut cut_at = 1;
        loop {
            let mut rig = Rig::new(seed);
            rig.sim.fail_after(cut_at);
            let is_done = scenario(&mut rig);
            rig.crash(seed * 1_000 + cut_at);
            rig.restart();
            assert!(rig.checkpoint());
            rig.log.verify().unwrap();
            // Once more, from a checkpoint that nothing was written after.
            rig.crash(cut_at);
            rig.restart();
            rig.log.verify().unwrap();
            assert!(rig.log.failed().is_none());
            if is_done {
                break;
            }
            cut_at += 1;
        }
        assert!(cut_at > 30, "the scenario changes the disk {cut_at} times");
    }
}

#[test]
fn a_second_crash_during_recovery_changes_nothing() {
    for cut_at in 1..25 {
        let mut rig = Rig::new(cut_at);
        assert!(scenario(&mut rig));
        (0..6).for_each(|n| rig.append(1, 100 + n, 1));
        rig.crash(cut_at);
        let (store, log) = support::restarted(&rig.disk, log_config(), &rig.saved);
        rig.sim.fail_after(cut_at);
        let _ = read_all(&log, rig.saved.start, 1_000);
        let _ = store.sync(&[(log.clone(), log.end_offset())]);
        store.close();
        rig.crash(cut_at + 1);
        rig.restart();
        assert!(rig.checkpoint());
        rig.log.verify().unwrap();
    }
}

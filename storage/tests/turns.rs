//! The disk's threads in a simulation: they take turns, live in its time, and do the same again
//! with the same seed.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use storage::clock::Clock;
use storage::disk::{Disk, OpKind, SimDisk};
use storage::journal::{Journal, JournalConfig, JournalEntry};
use storage::partition_log::LogConfig;
use storage::store::{LogStore, LogStoreConfig};
use storage::turns::Turns;
use storage::{Durability, LogIndex, LogPosition, Offset, PartitionId, ShardId, Term, TopicId};

const SYNC_US: u64 = 3_000;

/// What was answered: at what time, which entry, after how many operations of the disk.
type Answers = Arc<Mutex<Vec<(u64, u64, u64)>>>;

fn entry(index: u64) -> JournalEntry {
    JournalEntry {
        position: LogPosition {
            term: Term(1),
            index: LogIndex(index),
        },
        pieces: vec![Bytes::from(vec![7; 3_000])],
    }
}

fn config(durability: Durability) -> JournalConfig {
    JournalConfig {
        file_bytes: 1 << 20,
        durability,
        ..JournalConfig::new(PathBuf::from("/journal"))
    }
}

/// Appends for a while, rolling files, and says what was answered when.
fn journal_run(seed: u64, durability: Durability) -> Vec<(u64, u64, u64)> {
    let turns = Turns::new(seed);
    let _entered = turns.enter();
    let disk = SimDisk::new(1);
    disk.set_latency(0, SYNC_US);
    let journal = Journal::open(&Disk::Sim(disk.process()), config(durability)).expect("opens");
    let answers: Answers = Arc::default();
    for tick in 1..=400 {
        for part in 0..2 {
            let index = tick * 2 + part - 1;
            let (answers, disk, turns) = (answers.clone(), disk.clone(), turns.clone());
            let synced = move |result: Result<(), _>| {
                result.expect("synced");
                let what = (turns.now_us(), index, disk.op_count());
                answers.lock().expect("no panic").push(what);
            };
            journal
                .append(ShardId(0), vec![entry(index)], Box::new(synced))
                .expect("taken");
        }
        turns.set_now_us(tick * 1_000);
        turns.run_ready();
    }
    journal.close();
    assert!(turns.threads().is_empty(), "{:?}", turns.threads());
    std::mem::take(&mut answers.lock().expect("no panic"))
}

#[test]
fn a_journal_answers_when_the_simulated_sync_is_done() {
    let answers = journal_run(1, Durability::Fsync);
    assert_eq!(answers.len(), 800);
    assert!(answers.is_sorted_by_key(|(_, index, _)| *index));
    for (at_us, index, _) in &answers[..700] {
        let appended_us = index.div_ceil(2).saturating_sub(1) * 1_000;
        let took_us = at_us - appended_us;
        assert!((SYNC_US..20 * SYNC_US).contains(&took_us), "{took_us}");
    }
}

#[test]
fn a_journal_does_the_same_again_with_the_same_seed() {
    let relaxed = Durability::Interval {
        ms: 5,
        bytes: 20_000,
    };
    for durability in [Durability::Fsync, relaxed] {
        let first = journal_run(1, durability);
        assert_eq!(first, journal_run(1, durability));
        assert!((2..20).any(|seed| journal_run(seed, durability) != first));
    }
}

#[test]
fn a_store_is_synced_and_closed_by_the_main_thread_while_its_writer_sleeps() {
    let turns = Turns::new(3);
    let _entered = turns.enter();
    let disk = SimDisk::new(1);
    disk.set_latency(2_000, SYNC_US);
    let config = LogStoreConfig::new(PathBuf::from("/partitions"));
    let store = LogStore::open(&Disk::Sim(disk.process()), &Clock::manual(0), config).unwrap();
    let id = PartitionId {
        topic: TopicId([1; 16]),
        index: 0,
    };
    let log = store.create(id, LogConfig::default(), Offset(0));
    turns.run_ready();
    store.sync(&[(log, Offset(0))]).unwrap();
    assert_eq!(turns.threads().len(), 1);
    store.close();
    assert!(turns.threads().is_empty());
}

#[test]
fn what_is_left_of_a_killed_journal_changes_nothing() {
    let turns = Turns::new(4);
    let _entered = turns.enter();
    let disk = SimDisk::new(1);
    disk.set_latency(1_000, SYNC_US);
    let killed = Journal::open(&Disk::Sim(disk.process()), config(Durability::Fsync)).unwrap();
    for index in 1..100 {
        let synced = |_: Result<(), _>| ();
        killed
            .append(ShardId(0), vec![entry(index)], Box::new(synced))
            .unwrap();
        turns.set_now_us(index * 1_000);
        turns.run_ready();
    }
    disk.kill_processes();
    let (files, ops) = (disk.files(), disk.op_count());
    drop(killed);
    assert_eq!((disk.files(), disk.op_count()), (files, ops));
    assert!(turns.threads().is_empty(), "{:?}", turns.threads());
    let again = Journal::open(&Disk::Sim(disk.process()), config(Durability::Fsync)).unwrap();
    let last = again.shard_log(ShardId(0)).last.unwrap();
    assert!(last.index > LogIndex(20), "{last:?}");
    again.close();
}

#[test]
fn a_journal_whose_disk_fails_ends_with_its_threads() {
    let turns = Turns::new(5);
    let _entered = turns.enter();
    let disk = SimDisk::new(1);
    let journal = Journal::open(&Disk::Sim(disk.process()), config(Durability::Fsync)).unwrap();
    disk.set_failing(OpKind::Sync, Some(std::io::ErrorKind::Other));
    let failed = Arc::new(Mutex::new(false));
    let noting = failed.clone();
    let synced = move |result: Result<(), _>| *noting.lock().unwrap() = result.is_err();
    journal
        .append(ShardId(0), vec![entry(1)], Box::new(synced))
        .unwrap();
    turns.run_ready();
    assert!(*failed.lock().unwrap() && journal.failed().is_some());
    drop(journal);
    assert!(turns.threads().is_empty(), "{:?}", turns.threads());
}

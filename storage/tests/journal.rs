//! The journal as its callers see it: order, group commit, closing, failing, reading meanwhile.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "test code, whose helpers the lint does not see as such"
)]

mod journal_support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Instant;

use bytes::Bytes;
use storage::clock::Clock;
use storage::disk::{Disk, OpKind, OpenMode};
use storage::journal::{Journal, JournalConfig, JournalEntry, JournalError};
use storage::{LogIndex, ShardId};

use journal_support::{Answers, DEADLINE, Model, Op, at, payload, sim_disk};

fn entry(index: u64, len: usize) -> JournalEntry {
    JournalEntry {
        position: at(1, index),
        pieces: vec![payload(index, len).into()],
    }
}

/// Waits until the journal has made its reserve, which it does by the side: nothing else on the disk
/// is then done by itself.
fn wait_for_reserve(disk: &Disk) {
    let clock = Clock::system();
    let path = Path::new("/journal/reserve.spare");
    let is_there = || {
        let file = disk.open(path, OpenMode::Read);
        file.is_ok_and(|file| file.len().is_ok_and(|len| len > 0))
    };
    while !is_there() {
        let waited_ms = u128::try_from(clock.monotonic_ms()).unwrap();
        assert!(waited_ms < DEADLINE.as_millis(), "there is no reserve");
        std::thread::yield_now();
    }
}

/// Stops the flusher in a callback until the returned sender is dropped.
fn hold_flusher(journal: &Journal) -> mpsc::Sender<()> {
    let (release, released) = mpsc::channel::<()>();
    let (reached, has_reached) = mpsc::channel();
    let callback = move |result: Result<(), JournalError>| {
        result.unwrap();
        reached.send(()).unwrap();
        assert!(
            released.recv_timeout(DEADLINE).is_err(),
            "nothing is ever sent"
        );
    };
    journal
        .save_vote(ShardId(99), Bytes::new(), Box::new(callback))
        .unwrap();
    has_reached.recv_timeout(DEADLINE).unwrap();
    release
}

#[test]
fn changes_that_wait_share_one_write_and_one_sync_and_are_answered_in_order() {
    let (sim, disk, mut config) = sim_disk(1);
    config.file_bytes = 1 << 20;
    config.round_bytes_max = 64 << 10;
    config.spare_files = 0;
    let journal = Journal::open(&disk, config).unwrap();
    wait_for_reserve(&disk);
    let answers = Answers::new();
    let release = hold_flusher(&journal);
    let before = sim.op_count();
    for index in 0..50 {
        journal
            .append(
                ShardId(0),
                vec![entry(index, 100)],
                answers.synced(index as usize),
            )
            .unwrap();
    }
    drop(release);
    for index in 0..50 {
        let (number, result) = answers.next();
        result.unwrap();
        assert_eq!(number, index);
    }
    assert_eq!(sim.op_count() - before, 2, "one write and one sync");
}

#[test]
fn a_round_is_bounded_and_one_larger_change_goes_alone() {
    let (sim, disk, mut config) = sim_disk(1);
    config.file_bytes = 1 << 20;
    config.spare_files = 0;
    let journal = Journal::open(&disk, config).unwrap();
    wait_for_reserve(&disk);
    let answers = Answers::new();
    let release = hold_flusher(&journal);
    let before = sim.op_count();
    for (index, len) in [(0, 1900), (1, 1900), (2, 1900), (3, 100_000), (4, 10)] {
        journal
            .append(ShardId(0), vec![entry(index, len)], answers.synced(0))
            .unwrap();
    }
    drop(release);
    for _ in 0..5 {
        answers.next().1.unwrap();
    }
    assert_eq!(
        sim.op_count() - before,
        2 * 4,
        "two; one; the large one; the last"
    );
}

#[test]
fn entries_are_readable_before_they_are_durable() {
    let (_, disk, config) = sim_disk(1);
    let journal = Journal::open(&disk, config).unwrap();
    let answers = Answers::new();
    let release = hold_flusher(&journal);
    let mut model = Model::default();
    let append = Op::Append {
        shard: 3,
        term: 1,
        sizes: vec![10, 5000, 0],
    };
    model.run(&journal, &append, answers.synced(0)).unwrap();
    model
        .run(
            &journal,
            &Op::Truncate { shard: 3, count: 1 },
            answers.synced(0),
        )
        .unwrap();
    model.run(&journal, &append, answers.synced(0)).unwrap();
    let id = ShardId(3);
    assert_eq!(journal.shard_log(id).last, Some(at(1, 4)));
    let read = journal
        .read(id, LogIndex(1), LogIndex(5), usize::MAX)
        .unwrap();
    assert_eq!(read.len(), 4);
    assert!(answers.drain().is_empty());
    drop(release);
    for _ in 0..3 {
        answers.next().1.unwrap();
    }
    let again = journal
        .read(id, LogIndex(1), LogIndex(5), usize::MAX)
        .unwrap();
    assert_eq!(again, read);
}

#[test]
fn a_hole_is_a_bug_and_changes_nothing() {
    let (_, disk, config) = sim_disk(1);
    let journal = Journal::open(&disk, config).unwrap();
    let answers = Answers::new();
    journal
        .append(
            ShardId(0),
            vec![entry(5, 1), entry(6, 1)],
            answers.synced(0),
        )
        .unwrap();
    for bad in [
        vec![entry(8, 1)],
        vec![entry(7, 1), entry(9, 1)],
        vec![entry(6, 1)],
    ] {
        let append = || journal.append(ShardId(0), bad.clone(), answers.synced(0));
        assert!(catch_unwind(AssertUnwindSafe(append)).is_err());
        assert_eq!(journal.shard_log(ShardId(0)).last, Some(at(1, 6)));
    }
    journal
        .append(ShardId(0), vec![entry(7, 1)], answers.synced(0))
        .unwrap();
    journal.close();
    assert_eq!(answers.drain().len(), 2);
}

#[test]
fn closing_answers_what_is_queued_and_refuses_what_comes_later() {
    let (_, disk, config) = sim_disk(1);
    let journal = Journal::open(&disk, config.clone()).unwrap();
    let (answers, mut model) = (Answers::new(), Model::default());
    for _ in 0..20 {
        let append = Op::Append {
            shard: 0,
            term: 1,
            sizes: vec![500],
        };
        model.run(&journal, &append, answers.synced(0)).unwrap();
    }
    model
        .run(&journal, &Op::Committed { shard: 0 }, answers.synced(0))
        .unwrap();
    journal.close();
    journal.close();
    let results = answers.drain();
    assert_eq!(results.len(), 20);
    assert!(results.iter().all(|(_, result)| result.is_ok()));
    let refused = journal.save_vote(ShardId(0), Bytes::new(), answers.synced(0));
    assert!(matches!(refused, Err(JournalError::Closed)));
    let journal = Journal::open(&disk, config).unwrap();
    model.check(&journal);
}

#[test]
fn the_last_clone_may_be_dropped_in_a_callback() {
    let (_, disk, config) = sim_disk(1);
    let journal = Journal::open(&disk, config.clone()).unwrap();
    let (sender, receiver) = mpsc::channel();
    let release = hold_flusher(&journal);
    let clone = journal.clone();
    let callback = move |result| {
        drop(clone);
        sender.send(result).unwrap();
    };
    journal
        .save_vote(ShardId(0), "last".into(), Box::new(callback))
        .unwrap();
    drop(journal);
    drop(release);
    receiver.recv_timeout(DEADLINE).unwrap().unwrap();
    // The directory is free once the seal is there.
    let clock = storage::clock::Clock::system();
    while !storage::journal::verify(&disk, &config.dir).is_sealed {
        assert!(u128::try_from(clock.monotonic_ms()).unwrap() < DEADLINE.as_millis());
        std::thread::yield_now();
    }
}

#[test]
fn a_callback_that_panics_fails_the_journal_instead_of_stopping_it_silently() {
    let (_, disk, config) = sim_disk(1);
    let journal = Journal::open(&disk, config).unwrap();
    let (sender, receiver) = mpsc::channel();
    journal.on_failure(Box::new(move |error| sender.send(error).unwrap()));
    let callback = |_| panic!("a panic on purpose");
    journal
        .save_vote(ShardId(0), Bytes::new(), Box::new(callback))
        .unwrap();
    let error = receiver.recv_timeout(DEADLINE).unwrap();
    assert!(matches!(error, JournalError::FlusherDied));
    let answers = Answers::new();
    assert!(
        journal
            .save_vote(ShardId(0), Bytes::new(), answers.synced(0))
            .is_err()
    );
    journal.close();
}

#[test]
fn a_failure_answers_everything_queued_and_is_told_once() {
    let (sim, disk, mut config) = sim_disk(1);
    // No spares, so that the flusher makes the only writes.
    config.file_bytes = 1 << 20;
    config.spare_files = 0;
    let journal = Journal::open(&disk, config).unwrap();
    let told = Arc::new(AtomicU64::new(0));
    let count = told.clone();
    journal.on_failure(Box::new(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    }));
    let answers = Answers::new();
    let release = hold_flusher(&journal);
    sim.inject(OpKind::Write, 1, std::io::ErrorKind::Other);
    for index in 0..20 {
        journal
            .append(ShardId(0), vec![entry(index, 900)], answers.synced(0))
            .unwrap();
    }
    drop(release);
    for _ in 0..20 {
        assert!(matches!(answers.next().1, Err(JournalError::Io { .. })));
    }
    journal.close();
    assert_eq!(told.load(Ordering::SeqCst), 1);
}

#[test]
fn bytes_are_counted_and_files_given_back_when_entries_go() {
    let (_, disk, config) = sim_disk(1);
    let journal = Journal::open(&disk, config.clone()).unwrap();
    let answers = Answers::new();
    let (id, count) = (ShardId(0), 60);
    for index in 0..count {
        journal
            .append(id, vec![entry(index, 1000)], answers.synced(0))
            .unwrap();
        answers.next().1.unwrap();
    }
    let frame_bytes = 56 + 1000;
    assert_eq!(journal.bytes_since(id, LogIndex(count - 1)), 0);
    assert_eq!(
        journal.bytes_since(id, LogIndex(count - 11)),
        10 * frame_bytes
    );
    assert_eq!(journal.bytes_since(ShardId(1), LogIndex(0)), 0);
    let held = journal.held_bytes();
    assert!(held > count * frame_bytes);
    journal
        .purge(id, at(1, count - 11), answers.synced(0))
        .unwrap();
    answers.next().1.unwrap();
    assert_eq!(journal.bytes_since(id, LogIndex(0)), 10 * frame_bytes);
    assert!(journal.held_bytes() < held / 2);
    journal.close();
    let journal = Journal::open(&disk, config).unwrap();
    assert_eq!(journal.bytes_since(id, LogIndex(0)), 10 * frame_bytes);
    journal.remove_shard(id, answers.synced(0)).unwrap();
    answers.next().1.unwrap();
    assert_eq!(journal.shards(), []);
    assert!(journal.held_bytes() < journal_support::FILE_BYTES);
}

#[test]
fn readers_never_see_a_recycled_file() {
    let dir = std::env::temp_dir().join(format!("journal-readers-{}", std::process::id()));
    let journal = Journal::open(&Disk::Real, journal_support::config(&dir)).unwrap();
    let id = ShardId(0);
    let (first, last) = (AtomicU64::new(0), AtomicU64::new(0));
    let is_over = AtomicBool::new(false);
    let answers = Answers::new();
    std::thread::scope(|scope| {
        for reader in 0..2 {
            let (journal, first, last, is_over) = (&journal, &first, &last, &is_over);
            scope.spawn(move || {
                let mut reads = 0_u64;
                while !is_over.load(Ordering::SeqCst) || reads == 0 {
                    let (from, to) = (first.load(Ordering::SeqCst), last.load(Ordering::SeqCst));
                    let from = from + (reads * 7 + reader) % (to - from + 1);
                    let entries = journal.read(id, LogIndex(from), LogIndex(from + 5), 2500);
                    for entry in entries.unwrap() {
                        let index = entry.position.index.0;
                        assert_eq!(entry.payload, payload(index, (index % 1200) as usize));
                    }
                    reads += 1;
                }
            });
        }
        for index in 0..2000 {
            let len = (index % 1200) as usize;
            journal
                .append(id, vec![entry(index, len)], answers.synced(0))
                .unwrap();
            last.store(index, Ordering::SeqCst);
            if index % 10 == 9 {
                // Some are purged while a reader may be on its way to them.
                journal
                    .purge(id, at(1, index - 5), answers.synced(0))
                    .unwrap();
                first.store(index - 4, Ordering::SeqCst);
                for _ in 0..11 {
                    answers.next().1.unwrap();
                }
            }
        }
        is_over.store(true, Ordering::SeqCst);
    });
    journal.close();
    Disk::Real.remove_dir_all(&dir).unwrap();
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a measurement for people")]
fn an_empty_directory_is_ready_at_once_with_files_of_full_size() {
    let dir = std::env::temp_dir().join(format!("journal-empty-{}", std::process::id()));
    let start = Instant::now();
    let journal = Journal::open(&Disk::Real, JournalConfig::new(dir.clone())).unwrap();
    let opened = start.elapsed();
    let answers = Answers::new();
    journal
        .append(ShardId(0), vec![entry(0, 100)], answers.synced(0))
        .unwrap();
    answers.next().1.unwrap();
    println!(
        "opened in {opened:?}, first append durable after {:?}",
        start.elapsed()
    );
    journal.close();
    Disk::Real.remove_dir_all(&dir).unwrap();
}

#[test]
fn names_of_spare_files_never_collide_over_many_restarts() {
    let (sim, disk, mut config) = sim_disk(9);
    config.spare_files = 3;
    let (answers, mut model) = (Answers::new(), Model::default());
    for turn in 0..60 {
        let journal = Journal::open(&disk, config.clone()).unwrap();
        model.take_committed_of(&journal);
        model.check(&journal);
        for _ in 0..turn % 7 {
            let append = Op::Append {
                shard: 0,
                term: 1,
                sizes: vec![3000; 3],
            };
            model.run(&journal, &append, answers.synced(0)).unwrap();
            answers.next().1.unwrap();
        }
        if turn % 5 == 4 {
            let purge = Op::Purge {
                shard: 0,
                count: 30,
                wrong_term: false,
            };
            model.run(&journal, &purge, answers.synced(0)).unwrap();
            answers.next().1.unwrap();
        }
        if turn % 2 == 0 {
            sim.cut_power();
            journal.close();
            sim.crash(turn);
        } else {
            journal.close();
        }
    }
}

#[test]
fn a_change_without_frames_never_lets_older_files_go() {
    let (sim, disk, config) = sim_disk(9);
    let answers = Answers::new();
    for turn in 0..20 {
        let journal = Journal::open(&disk, config.clone()).unwrap();
        if turn == 0 {
            journal
                .save_vote(ShardId(1), "vote".into(), answers.synced(0))
                .unwrap();
            answers.next().1.unwrap();
        }
        journal
            .append(ShardId(1), Vec::new(), answers.synced(0))
            .unwrap();
        answers.next().1.unwrap();
        assert_eq!(journal.shard_log(ShardId(1)).vote, Some("vote".into()));
        sim.cut_power();
        journal.close();
        sim.crash(turn);
    }
}

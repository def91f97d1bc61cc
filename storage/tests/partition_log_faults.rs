//! Full disks, failing disks, many partitions, many readers.
#![expect(clippy::unwrap_used, reason = "a test may end where it fails")]

#[path = "support/mod.rs"]
mod support;

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use storage::batch::BatchHeader;
use storage::clock::Clock;
use storage::disk::{Disk, OpKind};
use storage::partition_log::{LogConfig, PartitionLog, ReadError, StorageError};
use storage::store::{LogStore, LogStoreConfig};
use storage::{LeaderEpoch, LogId, Offset, PartitionId, TopicId};
use support::{
    Model, PARTITION, append, filled, log_config, open, produced, read_all, restarted, sim,
    store_config,
};

/// Waits until `condition` holds; fails after a generous time.
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let clock = Clock::system();
    let deadline = clock.monotonic_ms() + 20_000;
    while !condition() {
        assert!(clock.monotonic_ms() < deadline, "in vain: {what}");
        std::thread::yield_now();
    }
}

fn partition(index: u32) -> PartitionId {
    PartitionId {
        topic: TopicId([7; 16]),
        index,
    }
}

fn header(batch: &[u8]) -> BatchHeader {
    BatchHeader::parse(batch).unwrap()
}

#[test]
fn a_full_disk_stalls_the_writer_and_loses_nothing() {
    let (sim, disk) = sim(1);
    let store = open(&disk, store_config());
    let (log, mut model) = filled(&store, log_config(), 10);
    sim.set_capacity(sim.used_bytes());
    (0..20).for_each(|n| append(&log, &mut model, &produced(1, 200, 9_000, n), 1, 0));
    wait_until("the writer stalls", || store.writer_stalled());
    assert!(store.queued_bytes() > 0 && store.failed().is_none());
    assert_eq!(
        read_all(&log, Offset(0), 900).unwrap(),
        model.bytes_from(Offset(0))
    );
    assert!(store.sync(&[(log.clone(), log.end_offset())]).is_err());
    assert!(store.failed().is_none(), "a full disk is no failure");
    sim.set_capacity(u64::MAX);
    wait_until("all is synced", || {
        store.sync(&[(log.clone(), log.end_offset())]).is_ok()
    });
    assert!(!store.writer_stalled());
    assert_eq!(store.queued_bytes(), 0);
    let state = log.state();
    store.close();
    sim.crash(1);
    let (_store, log) = restarted(&disk, log_config(), &state);
    assert_eq!(
        read_all(&log, Offset(0), 900).unwrap(),
        model.bytes_from(Offset(0))
    );
    log.verify().unwrap();
}

#[test]
fn deleting_frees_a_full_disk() {
    let (sim, disk) = sim(1);
    let store = open(&disk, store_config());
    let (log, mut model) = filled(&store, log_config(), 60);
    let other = store.create(partition(1), log_config(), Offset(0));
    let batch = produced(1, 2_000, 0, 0);
    other.append(batch.clone(), &header(&batch), LeaderEpoch(0), 0);
    store.sync(&[(other.clone(), Offset(1))]).unwrap();
    for by_removal in [true, false] {
        sim.set_capacity(sim.used_bytes());
        append(&log, &mut model, &produced(1, 1_000, 0, 1), 1, 0);
        wait_until("the writer stalls", || store.writer_stalled());
        if by_removal {
            store.remove(partition(1));
        } else {
            let kept = log.segments()[1].end;
            log.raise_start(kept);
            model.start = kept;
        }
        wait_until("all is synced", || {
            store.sync(&[(log.clone(), log.end_offset())]).is_ok()
        });
    }
    let left = read_all(&log, model.start, 900).unwrap();
    assert_eq!(left, model.bytes_from(model.start));
    assert!(other.read(Offset(0), Offset(1), 9).is_err());
}

#[test]
fn a_failed_write_fails_the_store() {
    let (sim, disk) = sim(1);
    let store = open(&disk, store_config());
    let (log, mut model) = filled(&store, log_config(), 10);
    let state = log.state();
    let synced_model = model.clone();
    let (sender, receiver) = mpsc::channel();
    store.on_failure(Box::new(move |error| sender.send(error).unwrap()));
    sim.inject(OpKind::Write, 1, io::ErrorKind::Other);
    append(&log, &mut model, &produced(1, 10, 0, 0), 1, 0);
    assert!(matches!(receiver.recv().unwrap(), StorageError::Io { .. }));
    assert!(store.failed().is_some() && log.failed().is_some());
    assert!(store.sync(&[(log.clone(), log.end_offset())]).is_err());
    let (sender, receiver) = mpsc::channel();
    store.on_failure(Box::new(move |error| sender.send(error).unwrap()));
    assert!(receiver.try_recv().is_ok(), "a late callback runs at once");
    // Far more than the writer's queue may hold: nobody waits for a writer that is gone.
    (0..30).for_each(|n| append(&log, &mut model, &produced(1, 60_000, 0, n), 1, 0));
    store.close();
    sim.crash(3);
    let (_store, log) = restarted(&disk, log_config(), &state);
    assert_eq!(
        read_all(&log, Offset(0), 900).unwrap(),
        synced_model.bytes_from(Offset(0))
    );
}

#[test]
fn a_failed_sync_fails_the_store_for_good() {
    for kind in [OpKind::Sync, OpKind::SyncDir] {
        let (sim, disk) = sim(1);
        let store = open(&disk, store_config());
        let (log, mut model) = filled(&store, log_config(), 10);
        (0..30).for_each(|n| append(&log, &mut model, &produced(1, 200, 0, n), 1, 0));
        sim.inject(kind, 1, io::ErrorKind::Other);
        let ends = [(log.clone(), log.end_offset())];
        assert!(
            matches!(store.sync(&ends), Err(StorageError::Io { .. })),
            "{kind:?}"
        );
        assert!(store.failed().is_some());
        assert!(store.sync(&ends).is_err(), "a second sync proves nothing");
    }
}

#[test]
fn a_stalled_writer_holds_up_no_append() {
    // Behind it may be the deletion that makes space; new data is refused by whoever asks
    // `writer_stalled` first.
    let (sim, disk) = sim(1);
    let store = open(
        &disk,
        LogStoreConfig {
            writer_queue_bytes_max: 10_000,
            ..store_config()
        },
    );
    let log = store.create(PARTITION, log_config(), Offset(0));
    let mut model = Model::default();
    sim.set_capacity(0);
    append(&log, &mut model, &produced(1, 1_000, 0, 0), 1, 0);
    wait_until("the writer stalls", || store.writer_stalled());
    (1..100).for_each(|n| append(&log, &mut model, &produced(1, 1_000, 0, n), 1, 0));
    assert!(store.queued_bytes() > 100_000);
    assert!(store.sync(&[(log.clone(), log.end_offset())]).is_err());
    assert!(store.failed().is_none(), "a full disk is no failure");
    sim.set_capacity(u64::MAX);
    wait_until("all is synced", || {
        store.sync(&[(log.clone(), log.end_offset())]).is_ok()
    });
    assert_eq!(
        read_all(&log, Offset(0), 9_000).unwrap(),
        model.bytes_from(Offset(0))
    );
}

#[test]
fn closing_writes_what_is_queued() {
    let (sim, disk) = sim(1);
    let store = open(&disk, store_config());
    let (log, mut model) = filled(&store, log_config(), 10);
    (0..30).for_each(|n| append(&log, &mut model, &produced(1, 200, 0, n), 1, 0));
    let state = log.state();
    drop(log);
    drop(store);
    sim.kill_processes();
    let (_store, log) = restarted(&disk, log_config(), &state);
    assert_eq!(
        read_all(&log, Offset(0), 900).unwrap(),
        model.bytes_from(Offset(0))
    );
}

#[test]
fn only_unknown_directories_are_set_aside_and_none_is_deleted() {
    let (sim, disk) = sim(1);
    let dir = store_config().dir;
    for round in 0..2 {
        let store = open(&disk, store_config());
        let logs: Vec<PartitionLog> = (0..4)
            .map(|n| store.create(partition(n), log_config(), Offset(0)))
            .collect();
        let batch = produced(1, 10, 0, 0);
        for log in &logs {
            log.append(batch.clone(), &header(&batch), LeaderEpoch(0), 0);
        }
        let ends: Vec<_> = logs.iter().map(|log| (log.clone(), Offset(1))).collect();
        store.sync(&ends).unwrap();
        store.close();
        sim.crash(round);
        let store = open(&disk, store_config());
        let known = HashSet::from([partition(0), partition(2)].map(LogId::from));
        assert_eq!(store.set_aside_unknown(&known).unwrap(), 2);
        assert_eq!(store.set_aside_unknown(&known).unwrap(), 0);
        assert!(disk.exists(&dir.join(partition(2).to_string())).unwrap());
        assert!(!disk.exists(&dir.join(partition(3).to_string())).unwrap());
        let aside = dir.join(format!("{}.unknown", partition(3)));
        assert!(
            disk.exists(&aside.join("00000000000000000000.log"))
                .unwrap()
        );
    }
    let second = dir.join(format!("{}-2.unknown", partition(3)));
    assert!(
        disk.exists(&second.join("00000000000000000000.log"))
            .unwrap()
    );
}

#[test]
fn a_removed_partition_leaves_nothing_even_when_power_goes() {
    for cut_at in 1..6 {
        let (sim, disk) = sim(1);
        let store = open(&disk, store_config());
        let (log, _) = filled(&store, log_config(), 30);
        let state = log.state();
        sim.fail_after(cut_at);
        store.remove(PARTITION);
        assert_eq!(
            log.read(Offset(0), Offset(9), 9).unwrap_err().to_string(),
            {
                let end = log.end_offset();
                format!("offset 0 is outside of {end}..={end}")
            }
        );
        store.close();
        sim.crash(cut_at);
        // The deletion is in the journal, so it is done again.
        let (store, _log) = restarted(&disk, log_config(), &state);
        store.remove(PARTITION);
        let dir = store_config().dir;
        wait_until("the directory is gone", || {
            disk.read_dir(&dir).unwrap().is_empty()
        });
    }
}

#[test]
fn ten_thousand_idle_partitions_cost_little_and_touch_no_file() {
    let (sim, disk) = sim(1);
    let store = open(&disk, store_config());
    let (log, _) = filled(&store, log_config(), 10);
    let state = log.state();
    store.close();
    let store = open(&disk, store_config());
    let ops = sim.op_count();
    let clock = Clock::system();
    let (bytes_before, began) = (resident_bytes(), clock.monotonic_ms());
    let logs: Vec<PartitionLog> = (0..10_000)
        .map(|n| store.recover(partition(n), log_config(), state.clone()))
        .chain((0..10_000).map(|n| store.create(partition(10_000 + n), log_config(), Offset(0))))
        .collect();
    let took_ms = clock.monotonic_ms() - began;
    let each = resident_bytes().saturating_sub(bytes_before) / logs.len();
    assert_eq!(sim.op_count(), ops, "no file was touched");
    assert!(took_ms < 2_000, "{took_ms} ms");
    assert!(each < 5 << 10, "{each} bytes each");
    println!("20,000 partitions: {took_ms} ms, {each} bytes each");
}

#[expect(clippy::disallowed_methods, reason = "asks the system, not a disk")]
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<usize>()
        .unwrap()
        * 4_096
}

/// A directory on the real disk, removed at the end.
struct RealDir(PathBuf);

impl RealDir {
    fn new(name: &str) -> RealDir {
        let dir = std::env::temp_dir().join(format!("storage-{name}-{}", std::process::id()));
        Disk::Real.create_dir_all(&dir).unwrap();
        RealDir(dir)
    }
}

impl Drop for RealDir {
    fn drop(&mut self) {
        let _ = Disk::Real.remove_dir_all(&self.0);
    }
}

fn open_files_in(dir: &Path) -> usize {
    let entries = Disk::Real.read_dir(Path::new("/proc/self/fd")).unwrap();
    let links = entries
        .iter()
        .map(|entry| Path::new("/proc/self/fd").join(&entry.name));
    links
        .filter(|link| link.canonicalize().is_ok_and(|file| file.starts_with(dir)))
        .count()
}

#[test]
fn open_files_are_bounded_on_a_real_disk() {
    let dir = RealDir::new("fds");
    let config = LogStoreConfig {
        dir: dir.0.clone(),
        open_files_max: 8,
        ..store_config()
    };
    let store = open(&Disk::Real, config);
    let logs: Vec<PartitionLog> = (0..50)
        .map(|n| store.create(partition(n), log_config(), Offset(0)))
        .collect();
    for n in 0..20 {
        let batch = produced(1, 300, 0, n);
        for log in &logs {
            log.append(batch.clone(), &header(&batch), LeaderEpoch(0), 0);
        }
    }
    let ends: Vec<_> = logs
        .iter()
        .map(|log| (log.clone(), log.end_offset()))
        .collect();
    store.sync(&ends).unwrap();
    for log in &logs {
        assert_eq!(
            log.read(Offset(0), Offset(20), usize::MAX).unwrap().next,
            Offset(20)
        );
    }
    let open = open_files_in(&dir.0);
    assert!((1..=8).contains(&open), "{open} files are open");
}

#[test]
fn mapped_and_read_indexes_give_the_same_answers() {
    let dir = RealDir::new("mmap");
    let config = |use_mmap| LogStoreConfig {
        dir: dir.0.clone(),
        use_mmap,
        open_files_max: 100,
        index_interval_bytes: 200,
        tail_bytes_max: 0,
        ..store_config()
    };
    let store = open(&Disk::Real, config(true));
    let (log, model) = filled(&store, log_config(), 120);
    let state = log.state();
    assert!(state.segments.len() > 4);
    drop(log);
    drop(store);
    for use_mmap in [true, false] {
        let store = open(&Disk::Real, config(use_mmap));
        let log = store.recover(PARTITION, log_config(), state.clone());
        for round in 0..2 {
            for batch in &model.batches {
                let read = log.read(batch.base, batch.end, 0).unwrap();
                assert_eq!(
                    read.batches,
                    std::slice::from_ref(&batch.bytes),
                    "round {round}"
                );
                let found = log
                    .find_timestamp(batch.max_timestamp, Offset(0), model.end())
                    .unwrap();
                assert_eq!(found.as_ref(), Some(&batch.bytes));
            }
        }
        assert_eq!(mapped_indexes(&dir.0) > 0, use_mmap);
        log.verify().unwrap();
        assert!(log.failed().is_none());
    }
}

#[expect(clippy::disallowed_methods, reason = "asks the system, not a disk")]
fn mapped_indexes(dir: &Path) -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let dir = dir.to_str().unwrap();
    maps.lines()
        .filter(|line| line.contains(dir) && line.ends_with(".index"))
        .count()
}

#[test]
fn readers_see_the_same_log_while_it_is_written_evicted_and_dropped() {
    let (_sim, disk) = sim(1);
    let store = open(
        &disk,
        LogStoreConfig {
            open_files_max: 2,
            ..store_config()
        },
    );
    let log = store.create(PARTITION, log_config(), Offset(0));
    let mut model = Model::default();
    let batches: Vec<_> = (0..1_500)
        .map(|n| produced(1, usize::try_from(n % 200).unwrap(), n * 3, n as u64))
        .collect();
    for batch in &batches {
        model.append(batch, LeaderEpoch(0));
    }
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in 0..3_i64 {
            let (log, model, is_done) = (&log, &model, &is_done);
            scope.spawn(move || read_at_random(log, model, is_done, reader));
        }
        for (n, batch) in batches.iter().enumerate() {
            log.append(batch.clone(), &header(batch), LeaderEpoch(0), 0);
            if n % 50 == 49 {
                store.sync(&[(log.clone(), log.end_offset())]).unwrap();
                log.raise_start(Offset(log.end_offset().0 - 300.min(log.end_offset().0)));
            }
        }
        is_done.store(true, Ordering::SeqCst);
    });
    assert!(log.failed().is_none(), "{:?}", log.failed());
    log.verify().unwrap();
}

fn read_at_random(log: &PartitionLog, model: &Model, is_done: &AtomicBool, seed: i64) {
    let mut random = seed;
    let mut reads = 0;
    while !is_done.load(Ordering::SeqCst) || reads < 100 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963);
        let (start, end) = (log.start_offset(), log.end_offset());
        let from = Offset(start.0 + (random >> 33).rem_euclid((end.0 - start.0).max(1)));
        reads += 1;
        match log.read(from, end, 1_000) {
            Ok(read) => {
                let expected: Vec<u8> = model
                    .range(from, end)
                    .take_while(|batch| batch.end <= read.next)
                    .flat_map(|batch| batch.bytes.to_vec())
                    .collect();
                assert_eq!(read.batches.concat(), expected);
            }
            Err(ReadError::OutOfRange { start, .. }) => assert!(from < start),
            Err(error) => panic!("{error}"),
        }
        let timestamp = from.0 * 3;
        if let Some(found) = log.find_timestamp(timestamp, Offset(0), end).unwrap() {
            let found = header(&found);
            assert!(found.max_timestamp >= timestamp);
            // The start may have moved on while it looked, but nothing in between is skipped.
            assert!(found.base_offset == from.0 || found.base_offset > start.0);
        }
    }
}

#[test]
fn a_log_may_begin_anywhere() {
    let (_sim, disk) = sim(1);
    let store = open(&disk, store_config());
    let log = store.create(PARTITION, log_config(), Offset(500));
    assert_eq!(
        (log.start_offset(), log.end_offset()),
        (Offset(500), Offset(500))
    );
    assert_eq!(
        log.read(Offset(500), Offset(900), 9).unwrap().next,
        Offset(500)
    );
    assert!(matches!(
        log.read(Offset(0), Offset(900), 9),
        Err(ReadError::OutOfRange { .. })
    ));
    let batch = produced(3, 9, 5, 0);
    assert_eq!(
        log.append(batch.clone(), &header(&batch), LeaderEpoch(2), 0),
        Offset(500)
    );
    assert_eq!(log.epoch_at(Offset(502)), Some(LeaderEpoch(2)));
    assert_eq!(
        log.end_offset_for_epoch(LeaderEpoch(2)),
        Some((LeaderEpoch(2), Offset(503)))
    );
    assert_eq!(
        (log.latest_epoch(), log.id()),
        (Some(LeaderEpoch(2)), PARTITION.into())
    );
    assert_eq!(log.size_bytes(), batch.len() as u64);
    log.set_config(LogConfig {
        segment_bytes: 1,
        segment_ms: i64::MAX,
    });
    log.append(batch.clone(), &header(&batch), LeaderEpoch(2), 0);
    assert_eq!(
        log.segments()
            .iter()
            .map(|one| one.sealed)
            .collect::<Vec<_>>(),
        [true, false]
    );
}

#[test]
fn large_batches_are_served_in_one_piece() {
    let (_sim, disk) = sim(1);
    let store = open(
        &disk,
        LogStoreConfig {
            tail_bytes_max: 1 << 20,
            ..store_config()
        },
    );
    let log = store.create(PARTITION, log_config(), Offset(0));
    let mut model = Model::default();
    (0..6).for_each(|n| append(&log, &mut model, &produced(1, 200_000, 0, n), 3, 0));
    for _ in 0..2 {
        for batch in &model.batches {
            let read = log.read(batch.base, batch.end, 1).unwrap();
            assert_eq!(read.batches, std::slice::from_ref(&batch.bytes));
        }
        store.sync(&[(log.clone(), log.end_offset())]).unwrap();
    }
    assert!(log.read_tail(Offset(5), Offset(6), 1).is_some());
    assert!(
        log.read_tail(Offset(0), Offset(6), 1).is_none(),
        "it was evicted"
    );
}

#[expect(dead_code, reason = "a store is shared by threads")]
fn handles_are_shared_by_threads(store: LogStore, log: PartitionLog) -> impl Send + Sync {
    (store, log)
}

#[test]
fn a_state_that_names_deleted_segments_is_not_to_be_saved() {
    let (sim, disk) = sim(1);
    let store = open(&disk, store_config());
    let (log, mut model) = filled(&store, log_config(), 30);
    let old = log.state();
    append(&log, &mut model, &produced(2, 10, 0, 0), 1, 20_000);
    let kept = log.segments().last().unwrap().base;
    log.raise_start(kept);
    model.start = kept;
    let newer = log.state();
    store.sync(&[(log.clone(), log.end_offset())]).unwrap();
    store.close();
    sim.crash(1);
    // Power went before the newer checkpoint was saved; the journal repeats the append, and not
    // yet the raised start.
    let (store, log) = restarted(&disk, log_config(), &old);
    let batch = produced(2, 10, 0, 0);
    let base = log.append(batch.clone(), &header(&batch), LeaderEpoch(1), 0);
    assert_eq!(base, kept);
    let captured = log.state();
    assert_eq!(captured.start, Offset(0));
    let synced = store.sync(&[(log.clone(), captured.end)]);
    assert!(matches!(synced, Err(StorageError::StateOutdated { .. })));
    assert!(store.failed().is_none() && log.failed().is_none());
    let captured = log.state();
    assert_eq!((captured.start, captured.end), (kept, newer.end));
    store.sync(&[(log.clone(), captured.end)]).unwrap();
    store.close();
    sim.crash(2);
    let (_store, log) = restarted(&disk, log_config(), &captured);
    assert_eq!(read_all(&log, kept, 900).unwrap(), model.bytes_from(kept));
    log.verify().unwrap();
}

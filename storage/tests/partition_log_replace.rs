//! Segments replaced by others with the same offsets, with power cuts and kills at every disk
//! operation: afterwards the log is what the checkpoint that was saved last says, nothing that was
//! to stay is missing, and no file is left over.
#![expect(clippy::unwrap_used, reason = "a test may end where it fails")]

#[path = "support/mod.rs"]
mod support;

use std::path::Path;

use bytes::Bytes;
use storage::batch::{BatchHeader, is_filler};
use storage::disk::{Disk, SimDisk};
use storage::partition_log::{
    CopyError, LogState, PartitionLog, ReadError, SegmentReplacement, StorageError,
};
use storage::store::LogStore;
use storage::{LeaderEpoch, Offset};
use support::{Model, PARTITION, log_config, open, produced, sim, store_config};

const TOTAL: usize = 60;
const BEFORE: usize = 40;

/// The batches that are there from the start and those that come later.
fn source(seed: u64) -> (Model, Vec<(Bytes, i32)>) {
    let (mut model, mut batches) = (Model::default(), Vec::new());
    for n in 0..TOTAL {
        let payload = (n * 211 + usize::try_from(seed).unwrap() * 31) % 700;
        let (records, epoch) = (
            i32::try_from(n % 4).unwrap() + 1,
            i32::try_from(n / 7).unwrap(),
        );
        let timestamp = 1_000 + i64::try_from(n).unwrap() * 10;
        let batch = produced(records, payload, timestamp, n as u64);
        model.append(&batch, LeaderEpoch(epoch));
        batches.push((batch, epoch));
    }
    (model, batches)
}

/// Whether compaction takes the records of a batch.
fn goes(n: usize) -> bool {
    !n.is_multiple_of(3)
}

fn append_range(log: &PartitionLog, batches: &[(Bytes, i32)], from: usize, to: usize) {
    for (batch, epoch) in &batches[from..to] {
        let header = BatchHeader::parse(batch).unwrap();
        log.append(batch.clone(), &header, LeaderEpoch(*epoch), 0);
    }
}

fn say(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Replaces the sealed segments up to `to` by what stays.
fn replace(log: &PartitionLog, model: &Model, to: Offset) -> Result<bool, String> {
    let from = log.segments()[0].base;
    let mut replacement = log.begin_replacement(from, to).map_err(say)?;
    for (n, batch) in model.batches.iter().enumerate() {
        if batch.base < replacement.end() || batch.end > to {
            continue;
        }
        if goes(n) {
            replacement.fill_to(batch.end).map_err(say)?;
        } else {
            replacement.append(&batch.bytes).map_err(say)?;
        }
    }
    let replaced = replacement.finish().map_err(say)?;
    assert!(log.mark_cleaned(to, log.copies_taken()));
    Ok(replaced)
}

fn sealed_end(log: &PartitionLog, share: usize) -> Offset {
    let segments = log.segments();
    let sealed = segments.iter().filter(|one| one.sealed).count();
    segments[(sealed * share / 10).max(1) - 1].end
}

/// Captures a state and saves it, as a checkpoint does; then what was replaced before goes.
fn checkpoint(store: &LogStore, log: &PartitionLog, saved: &mut LogState) -> Result<(), String> {
    let replaced = log.replaced_files();
    let state = log.state();
    store.sync(&[(log.clone(), state.end)]).map_err(say)?;
    *saved = state;
    log.delete_replaced(&replaced).map_err(say)
}

fn run(
    store: &LogStore,
    log: &PartitionLog,
    (model, batches): &(Model, Vec<(Bytes, i32)>),
    applied: &mut usize,
    saved: &mut LogState,
) -> Result<(), String> {
    assert!(replace(log, model, sealed_end(log, 5))?);
    append_range(log, batches, BEFORE, BEFORE + 10);
    *applied = BEFORE + 10;
    checkpoint(store, log, saved)?;
    append_range(log, batches, BEFORE + 10, TOTAL);
    *applied = TOTAL;
    // What was replaced once is replaced again, and so are segments that no checkpoint knows.
    store
        .sync(&[(log.clone(), log.end_offset())])
        .map_err(say)?;
    assert!(replace(log, model, sealed_end(log, 10))?);
    checkpoint(store, log, saved)?;
    assert!(log.replaced_files().is_empty());
    Ok(())
}

/// What readers get, batch by batch.
fn records(log: &PartitionLog) -> Result<Vec<Bytes>, ReadError> {
    let (mut batches, mut next, end) = (Vec::new(), log.start_offset(), log.end_offset());
    while next < end {
        let read = log.read_records(next, end, 2_000)?;
        if read.next == next {
            break;
        }
        next = read.next;
        for mut piece in read.batches {
            while !piece.is_empty() {
                let header = BatchHeader::parse(&piece).unwrap();
                assert!(!is_filler(&header));
                batches.push(piece.split_to(header.total_bytes()));
            }
        }
    }
    Ok(batches)
}

fn check(log: &PartitionLog, model: &Model) {
    log.verify().unwrap();
    let found = records(log).unwrap();
    let mut found = found.iter().peekable();
    for (n, batch) in model.batches.iter().enumerate() {
        let is_there = found.next_if(|found| **found == batch.bytes).is_some();
        assert!(is_there || goes(n), "batch {n} is missing");
    }
    assert_eq!(found.next(), None, "nothing but what was written");
    assert_eq!(log.end_offset(), model.end());
    assert!(log.failed().is_none());
    // Where nothing is left the next batch answers; by time, the first that is left.
    for (n, batch) in model.batches.iter().enumerate() {
        let found = log.find_timestamp(batch.max_timestamp, Offset(0), log.end_offset());
        let found = found.unwrap().map(|one| BatchHeader::parse(&one).unwrap());
        let at = found.map(|header| Offset(header.base_offset));
        assert!(at >= Some(batch.base) || (goes(n) && at.is_none()), "{n}");
        assert!(goes(n) || at == Some(batch.base), "{n}");
    }
}

fn check_files(disk: &Disk, log: &PartitionLog) {
    let dir = Path::new("/data/partitions").join(PARTITION.to_string());
    let names = disk.read_dir(&dir).unwrap();
    let logs = names.iter().filter(|one| one.name.ends_with(".log"));
    assert_eq!(logs.count(), log.segments().len(), "{names:?}");
    let others = |name: &str| name.ends_with(".new") || name == "staged";
    assert!(!names.iter().any(|one| others(&one.name)), "{names:?}");
}

/// Cuts the disk off after so many operations; whether the scenario came to its end before.
fn crash_after(n_ops: u64, seed: u64, loses_power: bool) -> bool {
    let source = source(seed);
    let (sim, disk): (SimDisk, Disk) = sim(seed);
    let store = open(&disk, store_config());
    let log = store.create(PARTITION, log_config(), Offset(0));
    append_range(&log, &source.1, 0, BEFORE);
    let mut saved = log.state();
    store.sync(&[(log.clone(), saved.end)]).unwrap();
    let mut applied = BEFORE;
    sim.fail_after(n_ops);
    let result = run(&store, &log, &source, &mut applied, &mut saved);
    sim.cut_power();
    store.close();
    drop((store, log));
    if loses_power {
        sim.crash(seed * 1_000 + n_ops);
    } else {
        sim.kill_processes();
    }
    if n_ops.is_multiple_of(3) {
        // And again, while the files are looked at for the first time.
        let (store, log) = support::restarted(&disk, log_config(), &saved);
        sim.fail_after(1 + n_ops % 7);
        drop(records(&log));
        sim.cut_power();
        store.close();
        sim.crash(seed * 1_000 + n_ops + 7);
    }
    let (store, log) = support::restarted(&disk, log_config(), &saved);
    // The journal repeats what came after.
    let ends = |batch: &support::ModelBatch| batch.end <= saved.end;
    let known = source.0.batches.iter().filter(|one| ends(one)).count();
    append_range(&log, &source.1, known, TOTAL);
    store.sync(&[(log.clone(), log.end_offset())]).unwrap();
    check(&log, &source.0);
    check_files(&disk, &log);
    // It can go on: what a crash interrupted is done again.
    replace(&log, &source.0, sealed_end(&log, 10)).unwrap();
    checkpoint(&store, &log, &mut saved).unwrap();
    check(&log, &source.0);
    check_files(&disk, &log);
    store.close();
    result.is_ok()
}

#[test]
fn a_replacement_survives_a_crash_at_every_operation() {
    for (seed, loses_power) in [(0, true), (1, true), (2, false)] {
        let mut n_ops = 1;
        while !crash_after(n_ops, seed, loses_power) {
            n_ops += 1;
            assert!(n_ops < 2_000, "it never ends");
        }
        assert!(n_ops > 30, "it does something");
    }
}

/// A log with all batches, and the model.
fn filled() -> (Disk, LogStore, PartitionLog, Model) {
    let (model, batches) = source(5);
    let (_, disk) = sim(5);
    let store = open(&disk, store_config());
    let log = store.create(PARTITION, log_config(), Offset(0));
    append_range(&log, &batches, 0, TOTAL);
    store.sync(&[(log.clone(), log.end_offset())]).unwrap();
    (disk, store, log, model)
}

#[test]
fn a_reader_in_the_middle_of_a_replaced_segment_goes_on() {
    let (_disk, _store, log, model) = filled();
    let reader = std::thread::spawn({
        let (log, model) = (log.clone(), model.clone());
        move || (0..60).for_each(|_| check_read(&log, &model))
    });
    for share in [3, 6, 10, 10] {
        assert!(replace(&log, &model, sealed_end(&log, share)).unwrap());
        let files = log.replaced_files();
        // Not before a checkpoint may know of it.
        log.delete_replaced(&files).unwrap();
        assert!(!log.replaced_files().is_empty());
        assert_eq!(log.state().end, log.end_offset());
        log.delete_replaced(&files).unwrap();
        assert!(log.replaced_files().is_empty());
        check_read(&log, &model);
    }
    reader.join().unwrap();
    check(&log, &model);
}

/// As [`check`], while segments are replaced: every batch that stays is read once.
fn check_read(log: &PartitionLog, model: &Model) {
    let found = records(log).unwrap();
    let stay = model.batches.iter().enumerate().filter(|(n, _)| !goes(*n));
    let mut found = found.iter();
    for (n, batch) in stay {
        assert!(found.any(|found| *found == batch.bytes), "batch {n}");
        let at = log.find_timestamp(batch.max_timestamp, Offset(0), log.end_offset());
        assert_eq!(at.unwrap().as_ref(), Some(&batch.bytes));
    }
    assert!(log.failed().is_none());
}

#[test]
fn a_replacement_that_is_short_wrong_or_late_changes_nothing() {
    let (disk, _store, log, model) = filled();
    let to = sealed_end(&log, 5);
    let before = log.state();
    let refused = |result: Result<bool, CopyError>| {
        assert!(
            matches!(result, Err(CopyError::Refused { .. })),
            "{result:?}"
        );
    };
    // Too little; too much; what does not follow; what is not sealed or no segment's.
    let begin = || log.begin_replacement(Offset(0), to).unwrap();
    refused(begin().finish());
    let mut short = begin();
    short.append(&model.batches[0].bytes).unwrap();
    refused(short.finish());
    let beyond = Bytes::from(model.bytes_from(Offset(0)));
    refused(begin().append(&beyond).map(|()| true));
    refused(begin().append(&model.batches[1].bytes).map(|()| true));
    for (from, to) in [
        (Offset(0), log.end_offset()),
        (Offset(1), to),
        (Offset(0), Offset(1)),
    ] {
        let begun = log.begin_replacement(from, to);
        assert!(matches!(begun, Err(StorageError::NoSuchSegment { .. })));
    }
    assert_eq!(log.state(), before);
    check_files(&disk, &log);
    // One of the segments is dropped meanwhile.
    let mut late = begin();
    late.fill_to(to).unwrap();
    log.raise_start(log.segments()[1].base);
    assert!(!late.finish().unwrap());
    assert!(log.replaced_files().is_empty());
    // Another replacement was first.
    let from = log.segments()[0].base;
    let both = [(); 2].map(|()| log.begin_replacement(from, to).unwrap());
    let mut done = both.into_iter().map(|mut one| {
        one.fill_to(to).unwrap();
        one.finish().unwrap()
    });
    assert_eq!((done.next(), done.next()), (Some(true), Some(false)));
}

#[test]
fn a_log_start_inside_of_a_replaced_segment_stays_where_it_is() {
    let (disk, store, log, model) = filled();
    let start = model.batches[9].base;
    log.raise_start(start);
    assert!(replace(&log, &model, sealed_end(&log, 10)).unwrap());
    assert_eq!(log.start_offset(), start);
    let read = log.read_records(start, log.end_offset(), 1).unwrap();
    assert_eq!(read.batches, [model.batches[9].bytes.clone()]);
    assert!(log.segments()[0].compacted && log.segments()[0].cleaned);
    let mut saved = LogState::default();
    checkpoint(&store, &log, &mut saved).unwrap();
    store.close();
    let (_store, log) = support::restarted(&disk, log_config(), &saved);
    assert_eq!(log.start_offset(), start);
    assert!(log.segments()[0].cleaned);
    log.verify().unwrap();
}

#[test]
fn what_a_peer_had_is_not_clean_and_no_tombstone_goes_beside_it() {
    let (_disk, store, log, model) = filled();
    let to = sealed_end(&log, 10);
    let half = sealed_end(&log, 5);
    assert!(half < to);
    let all_of = |mut replacement: SegmentReplacement| {
        for batch in &model.batches {
            if replacement.end() <= batch.base && batch.end <= replacement.target_end() {
                replacement.append(&batch.bytes).unwrap();
            }
        }
        replacement
    };
    let first = log.segments()[0].base;
    assert!(log.mark_cleaned(to, 0));
    let before = log.tombstones();
    // Begun before the peer's come, done after: what they have it does not know of.
    let mut late = all_of(log.begin_replacement(half, to).unwrap());
    late.drop_tombstones_below(half.plus(1));
    let mut copy = all_of(log.begin_replacement(first, half).unwrap());
    copy.is_copied(Offset(3));
    assert!(copy.finish().unwrap());
    assert!(!late.finish().unwrap());
    let cleaned = |log: &PartitionLog| {
        let segments = log.segments();
        let cleaned = segments.iter().filter(|one| one.cleaned);
        cleaned.map(|one| one.base).collect::<Vec<_>>()
    };
    assert_eq!(cleaned(&log).first(), Some(&half));
    assert_eq!(log.tombstones().gone_below, Offset(3));
    assert_ne!(log.tombstones().number, before.number);
    assert!(!log.mark_cleaned(to, 0), "that was before the copy");
    assert!(log.mark_cleaned(to, log.copies_taken()));
    assert_eq!(cleaned(&log).first(), Some(&first));
    // A tombstone went from above: what a peer has below may be what it deleted.
    let mut copy = all_of(log.begin_replacement(first, half).unwrap());
    let mut dropping = all_of(log.begin_replacement(half, to).unwrap());
    dropping.drop_tombstones_below(half.plus(1));
    assert!(dropping.finish().unwrap());
    copy.is_copied(Offset(0));
    assert!(!copy.finish().unwrap());
    let state = log.state();
    assert_eq!(state.tombstones_gone_below, half.plus(1));
    store.sync(&[(log.clone(), log.end_offset())]).unwrap();
    log.verify().unwrap();
}

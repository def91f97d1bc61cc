//! Ranges copied from one log into another, with power cuts and kills at every disk operation:
//! afterwards the log is what the checkpoint that was saved last says, and byte-equal.
#![expect(clippy::unwrap_used, reason = "a test may end where it fails")]

#[path = "support/mod.rs"]
mod support;

use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;
use storage::batch::BatchHeader;
use storage::disk::{Disk, SimDisk};
use storage::partition_log::{
    CopyError, LogConfig, LogState, PartitionLog, SegmentState, StorageError,
};
use storage::store::LogStore;
use storage::{LeaderEpoch, Offset};
use support::{Model, PARTITION, log_config, open, produced, read_all, sim, store_config};

/// What happens, in batches of the source's log.
#[derive(Debug, Clone, Copy)]
struct Scenario {
    /// Batches of the source.
    total: usize,
    /// Batches the target's saved checkpoint has.
    saved: usize,
    /// Batches the target has when the copy begins.
    local: usize,
    /// Batches that come to the target's log while the copy is made.
    grown: usize,
    /// Batches below the source's start.
    dropped: usize,
    /// Whether what is local is kept.
    keeps_local: bool,
    /// Whether the checkpoint that names the copy is saved before the log is recovered from it.
    saves_first: bool,
    /// Whether the machine loses power, or only the process dies.
    loses_power: bool,
    segment_bytes: u32,
    read_bytes: usize,
    seed: u64,
}

/// The source: all batches, two epochs and more.
struct Source {
    _store: LogStore,
    log: PartitionLog,
    model: Model,
    batches: Vec<(Bytes, i32)>,
}

fn source(scenario: &Scenario) -> Source {
    let (_, disk) = sim(scenario.seed);
    let store = open(&disk, store_config());
    let log = store.create(PARTITION, log_config(), Offset(0));
    let (mut model, mut batches) = (Model::default(), Vec::new());
    for n in 0..scenario.total {
        let payload = (n * 211 + usize::try_from(scenario.seed).unwrap() * 31) % 700;
        let (records, epoch) = (
            i32::try_from(n % 4).unwrap() + 1,
            i32::try_from(n / 7).unwrap(),
        );
        let timestamp = 1_000 + i64::try_from(n).unwrap() * 10;
        let batch = produced(records, payload, timestamp, n as u64);
        support::append(&log, &mut model, &batch, epoch, 0);
        batches.push((batch, epoch));
    }
    model.start = offset_of(&model, scenario.dropped);
    log.raise_start(model.start);
    store.sync(&[(log.clone(), log.end_offset())]).unwrap();
    Source {
        _store: store,
        log,
        model,
        batches,
    }
}

fn offset_of(model: &Model, batch: usize) -> Offset {
    model.batches.get(batch).map_or(model.end(), |one| one.base)
}

fn append_range(log: &PartitionLog, source: &Source, from: usize, to: usize) {
    for (n, (batch, epoch)) in source.batches.iter().enumerate().take(to).skip(from) {
        let header = BatchHeader::parse(batch).unwrap();
        let base = log.append(batch.clone(), &header, LeaderEpoch(*epoch), 0);
        assert_eq!(base, source.model.batches[n].base);
    }
}

/// What outlives a crash beside the disk: the checkpoint saved, and how far the journal reaches.
struct Kept {
    saved: LogState,
    applied: usize,
    /// Whether the checkpoint names the copy.
    has_copy: bool,
}

/// Runs the scenario until it ends or the disk fails.
fn run(
    scenario: &Scenario,
    source: &Source,
    store: &LogStore,
    log: PartitionLog,
    kept: &mut Kept,
) -> Result<(), String> {
    let say = |error: &dyn std::fmt::Display| error.to_string();
    let mut local = log.state_for_copy();
    store
        .sync(&[(log.clone(), local.end)])
        .map_err(|error| say(&error))?;
    let target = source.log.state();
    let from = if scenario.keeps_local {
        local.end
    } else {
        target
            .segments
            .first()
            .map_or(target.end, |first| first.base)
    };
    let config = LogConfig {
        segment_bytes: scenario.segment_bytes,
        segment_ms: 10_000,
    };
    let mut copy = store
        .begin_copy(PARTITION, from, config)
        .map_err(|error| say(&error))?;
    let mut grown = scenario.local;
    while copy.end() < target.end {
        let read = source.log.read(
            copy.end().max(target.start),
            target.end,
            scenario.read_bytes,
        );
        // The source's first segment may begin below its start: what is there is copied whole.
        let batches = match read {
            Ok(read) if copy.end() >= target.start => Bytes::from(read.batches.concat()),
            _ => Bytes::from(
                source
                    .model
                    .range(copy.end(), target.start)
                    .flat_map(|one| one.bytes.to_vec())
                    .collect::<Vec<u8>>(),
            ),
        };
        copy.append(&batches).map_err(|error| say(&error))?;
        if grown < scenario.local + scenario.grown {
            append_range(&log, source, grown, grown + 1);
            grown += 1;
            kept.applied = kept.applied.max(grown);
        }
        if grown % 3 == 1 {
            // Written, so that the files reach beyond where the copy begins.
            store
                .sync(&[(log.clone(), log.end_offset())])
                .map_err(|error| say(&error))?;
        }
    }
    let copied = copy.finish().map_err(|error| say(&error))?;
    local.start = local.start.min(local.end);
    let local = scenario.keeps_local.then_some(&local);
    let state = LogState::with_copied(local, copied, &target, (target.start, Offset(0))).unwrap();
    assert_eq!(LogState::decode(&state.encode()), Ok(state.clone()));
    if scenario.saves_first {
        kept.saved = state.clone();
        kept.applied = scenario.total;
        kept.has_copy = true;
    }
    let log = store.recover(PARTITION, config, state.clone());
    let read = read_all(&log, target.start, 900).map_err(|error| say(&error))?;
    assert_eq!(read, source.model.bytes_from(target.start));
    if !scenario.saves_first {
        kept.saved = state;
        kept.applied = scenario.total;
        kept.has_copy = true;
    }
    log.verify().map_err(|error| say(&error))?;
    // The next checkpoint knows nothing of a copy any more.
    let state = log.state();
    assert!(
        state
            .segments
            .iter()
            .all(|segment| segment.staged.is_none())
    );
    store
        .sync(&[(log.clone(), state.end)])
        .map_err(|error| say(&error))?;
    kept.saved = state;
    Ok(())
}

/// Starts over from what is kept and applies the journal.
fn check_restart(scenario: &Scenario, source: &Source, disk: &Disk, kept: &Kept) {
    let (store, log) = support::restarted(disk, log_config(), &kept.saved);
    let model = &source.model;
    let from = model
        .batches
        .partition_point(|batch| batch.base < kept.saved.end);
    assert_eq!(offset_of(model, from), kept.saved.end);
    append_range(&log, source, from, kept.applied);
    assert_eq!(log.end_offset(), offset_of(model, kept.applied));
    // The first read may find that segments below a raised start have been deleted.
    let mut read = read_all(&log, log.start_offset(), 1_200);
    if read.is_err() {
        read = read_all(&log, log.start_offset(), 1_200);
    }
    let start = log.start_offset();
    let expected: Vec<u8> = model
        .range(start, log.end_offset())
        .flat_map(|one| one.bytes.to_vec())
        .collect();
    let read = read.unwrap_or_else(|error| panic!("{scenario:?}: {error}"));
    assert!(read == expected, "{scenario:?}");
    let may_begin_later = !scenario.saves_first && !kept.has_copy;
    assert!(start <= kept.saved.start || may_begin_later, "{scenario:?}");
    // The copy's state only has what it must; another restart finds the same.
    let end = log.end_offset();
    let mut state = log.state();
    let synced = store.sync(&[(log.clone(), end)]);
    if matches!(synced, Err(StorageError::StateOutdated { .. })) {
        state = log.state();
        store.sync(&[(log.clone(), end)]).unwrap();
    }
    log.verify().unwrap();
    assert!(log.failed().is_none());
    let dir = Path::new("/data/partitions").join(PARTITION.to_string());
    if !state.segments.is_empty() {
        let names = disk.read_dir(&dir).unwrap();
        let logs = names.iter().filter(|entry| entry.name.ends_with(".log"));
        assert_eq!(logs.count(), state.segments.len(), "{scenario:?}");
        assert!(!names.iter().any(|entry| entry.is_dir), "{scenario:?}");
    }
    drop((store, log));
    let (_store, log) = support::restarted(disk, log_config(), &state);
    assert_eq!(read_all(&log, start, 2_000).unwrap(), expected);
}

/// The scenario with the power cut (or the process killed) at its `n_ops`-th operation; whether it
/// came to its end before.
fn check(scenario: &Scenario, source: &Source, n_ops: u64) -> bool {
    let (sim, disk) = sim(scenario.seed + 1);
    let store = open(&disk, store_config());
    let log = store.create(PARTITION, log_config(), Offset(0));
    append_range(&log, source, 0, scenario.saved);
    let saved = log.state();
    store.sync(&[(log.clone(), saved.end)]).unwrap();
    append_range(&log, source, scenario.saved, scenario.local);
    let mut kept = Kept {
        saved,
        applied: scenario.local,
        has_copy: false,
    };
    sim.fail_after(n_ops);
    let result = run(scenario, source, &store, log, &mut kept);
    sim.cut_power();
    store.close();
    drop(store);
    if scenario.loses_power {
        sim.crash(scenario.seed * 1_000 + n_ops);
    } else {
        sim.kill_processes();
    }
    if n_ops.is_multiple_of(3) {
        // And again, while the files are looked at for the first time.
        let (store, log) = support::restarted(&disk, log_config(), &kept.saved);
        sim.fail_after(1 + n_ops % 7);
        drop(read_all(&log, log.start_offset(), 500));
        sim.cut_power();
        store.close();
        sim.crash(scenario.seed * 1_000 + n_ops + 7);
    }
    check_restart(scenario, source, &disk, &kept);
    result.is_ok()
}

fn check_all(scenario: &Scenario) {
    let source = source(scenario);
    let mut n_ops = 1;
    while !check(scenario, &source, n_ops) {
        n_ops += 1;
        assert!(n_ops < 2_000, "it never ends");
    }
}

#[test]
fn a_copy_survives_a_crash_at_every_operation_or_leaves_the_old_checkpoint_usable() {
    for seed in 0..6 {
        for keeps_local in [true, false] {
            check_all(&Scenario {
                total: 28,
                saved: 6 + usize::try_from(seed).unwrap() % 3,
                local: 10,
                grown: if seed % 3 == 0 { 0 } else { 6 },
                dropped: if keeps_local {
                    usize::from(seed > 2) * 4
                } else {
                    13
                },
                keeps_local,
                saves_first: seed % 2 == 0,
                loses_power: seed != 4,
                segment_bytes: [2_000, 3_000, 5_000][usize::try_from(seed).unwrap() % 3],
                read_bytes: [400, 2_500, 9_000][usize::try_from(seed / 2).unwrap()],
                seed,
            });
        }
    }
}

#[test]
fn a_copy_into_an_empty_node_survives_a_crash_at_every_operation() {
    for seed in 0..4 {
        check_all(&Scenario {
            total: 20,
            saved: 0,
            local: 0,
            grown: 0,
            dropped: usize::try_from(seed).unwrap() * 3,
            keeps_local: seed % 2 == 0 && seed == 0,
            saves_first: true,
            loses_power: true,
            segment_bytes: 2_500,
            read_bytes: 1_000,
            seed: seed + 50,
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_range_is_copied_whatever_the_crash(
        (total, local, saved) in (2_usize..40)
            .prop_flat_map(|total| (Just(total), 0..total))
            .prop_flat_map(|(total, local)| (Just(total), Just(local), 0..=local)),
        grown in 0_usize..8,
        dropped in 0_usize..40,
        keeps_local: bool,
        saves_first: bool,
        loses_power: bool,
        segment_bytes in 600_u32..6_000,
        read_bytes in 1_usize..8_000,
        n_ops in 1_u64..120,
        seed in 0_u64..1_000,
    ) {
        // What is not kept lies below the copy, unless its checkpoint is not needed any more.
        let dropped = match (keeps_local, saves_first) {
            (true, _) => dropped % (local + 1),
            (false, true) => dropped % total,
            (false, false) => total - 1,
        };
        let scenario = Scenario {
            total,
            saved,
            local,
            grown: grown.min(total - local),
            dropped,
            keeps_local,
            saves_first,
            loses_power,
            segment_bytes,
            read_bytes,
            seed,
        };
        check(&scenario, &source(&scenario), n_ops);
    }
}

/// A store whose log has `count` batches, and the same as bytes.
fn filled(count: usize) -> (Source, Vec<Bytes>) {
    let scenario = Scenario {
        total: count,
        saved: 0,
        local: 0,
        grown: 0,
        dropped: 0,
        keeps_local: true,
        saves_first: true,
        loses_power: true,
        segment_bytes: 3_000,
        read_bytes: 1,
        seed: 9,
    };
    let source = source(&scenario);
    let batches = source.model.batches.iter().map(|one| one.bytes.clone());
    let batches = batches.collect();
    (source, batches)
}

fn refused(result: Result<(), CopyError>) -> Offset {
    match result {
        Err(CopyError::Refused { offset, .. }) => offset,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_copy_takes_nothing_that_is_damaged_torn_out_of_place_or_from_an_older_epoch() {
    let (source, batches) = filled(12);
    let (_, disk) = sim(1);
    let store = open(&disk, store_config());
    let mut copy = store
        .begin_copy(PARTITION, Offset(0), log_config())
        .unwrap();
    copy.append(&batches[0]).unwrap();
    let next = source.model.batches[1].base;
    for bit in 0..batches[1].len() * 8 {
        let mut damaged = [&batches[1][..], &batches[2]].concat();
        damaged[bit / 8] ^= 1 << (bit % 8);
        // A higher epoch is another leader's; what the state says of it is checked by reads.
        if bit / 8 >= 12 && bit / 8 < 16 {
            continue;
        }
        assert_eq!(refused(copy.append(&damaged.into())), next, "bit {bit}");
    }
    for len in 1..batches[1].len() {
        refused(copy.append(&batches[1].slice(..len)));
    }
    refused(copy.append(&batches[0]));
    refused(copy.append(&batches[2]));
    assert_eq!(
        (copy.end(), copy.size_bytes()),
        (next, batches[0].len() as u64)
    );
    copy.append(&Bytes::from(batches[1..11].concat())).unwrap();
    // The epoch before that of the batch before.
    let mut older = batches[11].to_vec();
    older[12..16].copy_from_slice(&0_i32.to_be_bytes());
    refused(copy.append(&older.into()));
    copy.append(&batches[11]).unwrap();
    let copied = copy.finish().unwrap();
    assert_eq!(copied.last().unwrap().end, source.model.end());
}

#[test]
fn an_abandoned_copy_leaves_nothing_and_another_replaces_it() {
    let (_source, batches) = filled(6);
    let (_, disk) = sim(1);
    let store = open(&disk, store_config());
    let staged = Path::new("/data/partitions")
        .join(PARTITION.to_string())
        .join("staged");
    let mut copy = store
        .begin_copy(PARTITION, Offset(0), log_config())
        .unwrap();
    copy.append(&batches[0]).unwrap();
    let mut other = store
        .begin_copy(PARTITION, Offset(0), log_config())
        .unwrap();
    other.append(&batches[0]).unwrap();
    drop(copy);
    assert_eq!(disk.read_dir(&staged).unwrap().len(), 2);
    other.abandon();
    assert!(!disk.exists(&staged).unwrap());
    // What a crash left of a copy that never became a log is no partition to be set aside.
    let copy = store
        .begin_copy(PARTITION, Offset(0), log_config())
        .unwrap();
    assert_eq!(store.set_aside_unknown(&[].into()).unwrap(), 0);
    assert!(disk.exists(&staged).unwrap());
    std::mem::forget(copy);
    let store = open(&disk, store_config());
    assert_eq!(store.set_aside_unknown(&[].into()).unwrap(), 0);
    assert!(
        disk.read_dir(Path::new("/data/partitions"))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_copy_on_a_full_disk_goes_on_once_there_is_room() {
    let (source, batches) = filled(12);
    let (sim, disk): (SimDisk, Disk) = sim(1);
    let store = open(&disk, store_config());
    let mut copy = store
        .begin_copy(PARTITION, Offset(0), log_config())
        .unwrap();
    sim.set_capacity(2_500);
    let all = Bytes::from(batches.concat());
    let error = copy.append(&all).unwrap_err();
    assert!(matches!(error, CopyError::Storage(StorageError::Io { .. })));
    sim.set_capacity(u64::MAX);
    while copy.end() < source.model.end() {
        let rest = Bytes::from(source.model.bytes_from(copy.end()));
        copy.append(&rest).unwrap();
    }
    let copied: Vec<SegmentState> = copy.finish().unwrap();
    let state =
        LogState::with_copied(None, copied, &source.log.state(), (Offset(0), Offset(0))).unwrap();
    let log = store.recover(PARTITION, log_config(), state);
    assert_eq!(read_all(&log, Offset(0), 800).unwrap(), all);
    log.verify().unwrap();
    assert_eq!(store.usage(), [(PARTITION.into(), all.len() as u64)]);
    assert_eq!(disk.space(Path::new("/")).unwrap().0, u64::MAX);
}

#[test]
fn parts_that_do_not_fit_together_are_refused() {
    let (source, batches) = filled(12);
    let (_, disk) = sim(1);
    let store = open(&disk, store_config());
    let target = source.log.state();
    let from = source.model.batches[4].base;
    let mut copy = store.begin_copy(PARTITION, from, log_config()).unwrap();
    copy.append(&Bytes::from(batches[4..10].concat())).unwrap();
    let mut whole = store.begin_copy(PARTITION, from, log_config()).unwrap();
    let short = copy.finish().unwrap();
    assert!(LogState::with_copied(None, short, &target, (Offset(0), Offset(0))).is_err());
    whole.append(&Bytes::from(batches[4..].concat())).unwrap();
    let whole = whole.finish().unwrap();
    // Nothing local, though the start lies below the copy.
    assert!(LogState::with_copied(None, whole.clone(), &target, (Offset(0), Offset(0))).is_err());
    assert!(LogState::with_copied(None, whole.clone(), &target, (from, Offset(0))).is_ok());
    // A local log that ends too early.
    let log = store.create(PARTITION, log_config(), Offset(0));
    append_range(&log, &source, 0, 3);
    assert!(
        LogState::with_copied(
            Some(&log.state()),
            whole.clone(),
            &target,
            (Offset(0), Offset(0))
        )
        .is_err()
    );
    append_range(&log, &source, 3, 4);
    let fits =
        LogState::with_copied(Some(&log.state()), whole, &target, (Offset(0), Offset(0))).unwrap();
    assert_eq!(
        (fits.start, fits.end, fits.epochs),
        (target.start, target.end, target.epochs)
    );
}

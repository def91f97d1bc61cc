//! Damaged segments are found, written anew from a peer's bytes, and good again; and what a log
//! store that leaves syncing to the system keeps.
#![expect(clippy::unwrap_used, reason = "a test may end where it fails")]

#[path = "support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use storage::disk::{Disk, OpKind, OpenMode, SimDisk};
use storage::partition_log::{CopyError, PartitionLog, ReadError, SegmentInfo, StorageError};
use storage::store::{LogStore, LogStoreConfig};
use storage::{Durability, LeaderEpoch, Offset};
use support::{Model, PARTITION, filled, log_config, open, produced, read_all, sim, store_config};

struct Rig {
    sim: SimDisk,
    disk: Disk,
    store: LogStore,
    log: PartitionLog,
    model: Model,
}

/// A log of four segments or more, on disk and out of memory.
fn rig() -> Rig {
    let (sim, disk) = sim(1);
    let store = open(&disk, store_config());
    let (log, model) = filled(&store, log_config(), 120);
    let state = log.state();
    store.close();
    let (store, log) = support::restarted(&disk, log_config(), &state);
    assert!(log.segments().len() > 3);
    Rig {
        sim,
        disk,
        store,
        log,
        model,
    }
}

impl Rig {
    fn path(&self, segment: SegmentInfo) -> PathBuf {
        let dir = Path::new("/data/partitions").join(PARTITION.to_string());
        dir.join(format!("{:020}.log", segment.base.0))
    }

    fn damage(&self, segment: SegmentInfo, at: u64) {
        self.sim.flip_bit(&self.path(segment), at * 8 + 3).unwrap();
    }

    /// What a peer has of a segment.
    fn peer_bytes(&self, segment: SegmentInfo) -> Bytes {
        let batches = self.model.range(segment.base, segment.end);
        Bytes::from(
            batches
                .flat_map(|one| one.bytes.to_vec())
                .collect::<Vec<_>>(),
        )
    }

    fn check_whole(&self) {
        self.log.verify().unwrap();
        let read = read_all(&self.log, Offset(0), 1_000).unwrap();
        assert_eq!(read, self.model.bytes_from(Offset(0)));
        assert!(self.log.failed().is_none());
        assert!(self.log.damaged_segments().is_empty());
        let expected = self.model.batches[50].bytes.clone();
        let found = self
            .log
            .find_timestamp(1_500, Offset(0), self.log.end_offset());
        assert_eq!(found.unwrap(), Some(expected));
    }
}

#[test]
fn damage_found_by_reads_and_by_a_scrub_is_repaired_segment_by_segment() {
    let rig = rig();
    let segments = rig.log.segments();
    let damaged = [segments[0], segments[2], segments[segments.len() - 1]];
    for segment in damaged {
        rig.damage(segment, segment.bytes / 2);
    }
    assert!(rig.log.damaged_segments().is_empty());
    // Reads meet one after the other, the scrub all that is left.
    for segment in damaged {
        assert!(matches!(
            read_all(&rig.log, segment.base, 1_000),
            Err(ReadError::Corrupt { .. })
        ));
    }
    assert!(rig.log.verify().is_err());
    let bases = |segments: &[SegmentInfo]| segments.iter().map(|one| one.base).collect::<Vec<_>>();
    assert_eq!(bases(&rig.log.damaged_segments()), bases(&damaged));
    assert!(matches!(rig.log.failed(), Some(StorageError::Corrupt(_))));
    for segment in rig.log.damaged_segments() {
        let mut repair = rig.log.begin_repair(segment.base).unwrap();
        // In pieces, the last of which goes beyond the segment.
        let from_peer = rig.model.bytes_from(segment.base);
        let middle = rig.model.range(segment.base, segment.end).next().unwrap();
        let (first, rest) = from_peer.split_at(middle.bytes.len());
        repair.append(&Bytes::copy_from_slice(first)).unwrap();
        assert_eq!(repair.end(), middle.end);
        repair.append(&Bytes::copy_from_slice(rest)).unwrap();
        assert_eq!(
            (repair.end(), repair.target_end()),
            (segment.end, segment.end)
        );
        repair.finish().unwrap();
    }
    rig.check_whole();
    // It lasts.
    let state = rig.log.state();
    rig.store.close();
    rig.sim.crash(3);
    let (store, log) = support::restarted(&rig.disk, log_config(), &state);
    let rig = Rig { store, log, ..rig };
    rig.check_whole();
}

#[test]
fn a_repair_that_is_short_wrong_or_given_up_changes_nothing() {
    let rig = rig();
    let segment = rig.log.segments()[1];
    rig.damage(segment, 30);
    assert!(rig.log.verify().is_err());
    let whole = rig.peer_bytes(segment);
    let refused = |result: Result<(), CopyError>| {
        assert!(
            matches!(result, Err(CopyError::Refused { .. })),
            "{result:?}"
        );
    };
    let before = rig.disk.read_file(&rig.path(segment)).unwrap();
    // Nothing; too little.
    refused(rig.log.begin_repair(segment.base).unwrap().finish());
    let mut repair = rig.log.begin_repair(segment.base).unwrap();
    let first = rig.model.range(segment.base, segment.end).next().unwrap();
    repair.append(&first.bytes).unwrap();
    refused(repair.finish());
    // Intact batches that are not those: another payload, another epoch.
    let mut repair = rig.log.begin_repair(segment.base).unwrap();
    let mut other = Model::default();
    while other.end() < segment.end {
        let n = other.batches.len();
        let mut batch = rig.model.batches[n].bytes.to_vec();
        if other.end() == segment.base {
            let records = i32::try_from(rig.model.batches[n].end.0 - other.end().0).unwrap();
            batch = produced(records, batch.len() - 61, 5, 999).to_vec();
        }
        other.append(&Bytes::from(batch), LeaderEpoch(1));
    }
    let forged: Vec<u8> = other
        .range(segment.base, segment.end)
        .flat_map(|one| one.bytes.to_vec())
        .collect();
    repair.append(&Bytes::from(forged)).unwrap();
    refused(repair.finish());
    let mut repair = rig.log.begin_repair(segment.base).unwrap();
    let mut epoch = whole.to_vec();
    epoch[15] = 9;
    refused(repair.append(&epoch.into()));
    repair.append(&whole).unwrap();
    drop(repair);
    assert_eq!(rig.disk.read_file(&rig.path(segment)).unwrap(), before);
    assert_eq!(rig.log.damaged_segments().len(), 1);
    let dir = rig.path(segment).parent().unwrap().to_owned();
    let names = rig.disk.read_dir(&dir).unwrap();
    assert!(!names.iter().any(|entry| entry.name.ends_with(".new")));
    assert!(matches!(
        rig.log.begin_repair(Offset(1)),
        Err(StorageError::NoSuchSegment { .. })
    ));
}

#[test]
fn the_newest_segment_is_repaired_while_appends_go_on() {
    let mut rig = rig();
    let segment = *rig.log.segments().last().unwrap();
    rig.damage(segment, 70);
    assert!(read_all(&rig.log, segment.base, 1_000).is_err());
    let mut repair = rig.log.begin_repair(segment.base).unwrap();
    for n in 0..20 {
        let batch = produced(1, 40, 5_000, 1_000 + n);
        support::append(&rig.log, &mut rig.model, &batch, 1, 0);
    }
    repair.append(&rig.peer_bytes(segment)).unwrap();
    repair.finish().unwrap();
    let after = rig.log.segments();
    assert!(after.iter().any(|one| one.base == segment.end));
    let end = rig.log.end_offset();
    rig.store.sync(&[(rig.log.clone(), end)]).unwrap();
    rig.check_whole();
}

#[test]
fn a_missing_or_short_file_is_repaired_and_a_crash_leaves_the_damage_or_the_repair() {
    for n_ops in 1..12 {
        let rig = rig();
        let state = rig.log.state();
        let segment = rig.log.segments()[1];
        rig.store.close();
        if n_ops % 2 == 0 {
            rig.disk.remove_file(&rig.path(segment)).unwrap();
            rig.disk
                .sync_dir(rig.path(segment).parent().unwrap())
                .unwrap();
        } else {
            let file = rig
                .disk
                .open(&rig.path(segment), OpenMode::ReadWrite)
                .unwrap();
            file.set_len(100).unwrap();
            file.sync_data().unwrap();
        }
        let (store, log) = support::restarted(&rig.disk, log_config(), &state);
        assert!(read_all(&log, Offset(0), 1_000).is_err());
        assert_eq!(log.damaged_segments()[0].base, segment.base);
        let repair = |log: &PartitionLog| -> Result<(), CopyError> {
            let mut repair = log.begin_repair(segment.base)?;
            repair.append(&rig.peer_bytes(segment))?;
            repair.finish()
        };
        rig.sim.fail_after(n_ops);
        let repaired = repair(&log).is_ok();
        rig.sim.cut_power();
        store.close();
        rig.sim.crash(n_ops);
        let (store, log) = support::restarted(&rig.disk, log_config(), &state);
        let is_whole = read_all(&log, Offset(0), 1_000).is_ok();
        assert!(is_whole || !repaired);
        if !is_whole {
            repair(&log).unwrap();
        }
        let rig = Rig { store, log, ..rig };
        rig.check_whole();
    }
}

#[test]
fn damage_goes_with_the_segments_that_are_dropped() {
    let rig = rig();
    let segments = rig.log.segments();
    rig.damage(segments[0], 40);
    assert!(rig.log.verify().is_err());
    let repair = rig.log.begin_repair(segments[0].base).unwrap();
    rig.log.raise_start(segments[1].base);
    assert!(rig.log.damaged_segments().is_empty());
    assert!(rig.log.failed().is_none());
    drop(repair);
    rig.log.verify().unwrap();
}

#[test]
fn a_store_that_leaves_syncing_to_the_system_syncs_at_its_close_alone() {
    let (sim, disk) = sim(7);
    let config = || LogStoreConfig {
        durability: Durability::Os,
        ..store_config()
    };
    let store = open(&disk, config());
    // Any sync would fail, and fail the store.
    sim.inject(OpKind::Sync, 1, std::io::ErrorKind::Other);
    let (log, model) = filled(&store, log_config(), 60);
    assert!(store.failed().is_none());
    let state = log.state();
    store.close();
    assert!(store.failed().is_some());
    sim.kill_processes();
    let (store, log) = support::restarted_with(&disk, config(), log_config(), &state);
    let read = read_all(&log, Offset(0), 900).unwrap();
    assert_eq!(read, model.bytes_from(Offset(0)));
    store.close();
}

#[test]
fn a_clean_end_of_such_a_store_outlasts_the_machine() {
    for seed in 0..20 {
        let (sim, disk) = sim(seed);
        let config = || LogStoreConfig {
            durability: Durability::Os,
            ..store_config()
        };
        let store = open(&disk, config());
        let (log, model) = filled(&store, log_config(), 60);
        let state = log.state();
        store.close();
        assert!(store.failed().is_none());
        sim.crash(seed);
        let (_store, log) = support::restarted_with(&disk, config(), log_config(), &state);
        let read = read_all(&log, Offset(0), 900).unwrap();
        assert_eq!(read, model.bytes_from(Offset(0)));
    }
}

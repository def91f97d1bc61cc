//! Every single-bit error, every cut and every missing file: nothing damaged is ever served, the
//! log never gets shorter, and a damaged index costs no more than its rebuilding.
#![expect(clippy::unwrap_used, reason = "a test may end where it fails")]

#[path = "support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};

use storage::Offset;
use storage::disk::{Disk, OpenMode, SimDisk};
use storage::partition_log::{LogConfig, LogState, PartitionLog, ReadError, StorageError};
use storage::store::{LogStore, LogStoreConfig};
use storage::verify::{IndexReport, dump_segment, segment_files, verify_segment};
use support::{Model, PARTITION, filled, open, read_all, sim, store_config};

/// A log of a few small segments on disk, and the files as they must be.
struct Fixture {
    sim: SimDisk,
    disk: Disk,
    store: LogStore,
    state: LogState,
    model: Model,
    files: Vec<(PathBuf, Vec<u8>)>,
}

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 700,
        segment_ms: i64::MAX,
    }
}

impl Fixture {
    fn new() -> Fixture {
        let (sim, disk) = sim(1);
        let store_config = LogStoreConfig {
            index_interval_bytes: 150,
            ..store_config()
        };
        let store = open(&disk, store_config);
        let (log, model) = filled(&store, config(), 14);
        let state = log.state();
        assert_eq!(
            state.segments.len(),
            3,
            "two sealed segments and an active one"
        );
        let dir = PathBuf::from("/data/partitions").join(PARTITION.to_string());
        let names = disk
            .read_dir(&dir)
            .unwrap()
            .into_iter()
            .map(|entry| dir.join(entry.name));
        let files: Vec<(PathBuf, Vec<u8>)> = names
            .map(|path| (path.clone(), disk.read_file(&path).unwrap()))
            .collect();
        assert!(files.iter().filter(|(path, _)| is_index(path)).count() == 3);
        Fixture {
            sim,
            disk,
            store,
            state,
            model,
            files,
        }
    }

    fn files(&self, wants_index: bool) -> impl Iterator<Item = &(PathBuf, Vec<u8>)> {
        self.files
            .iter()
            .filter(move |(path, bytes)| is_index(path) == wants_index && !bytes.is_empty())
    }

    fn restarted(&self) -> PartitionLog {
        self.store.recover(PARTITION, config(), self.state.clone())
    }

    /// Puts a file back as it was.
    fn restore(&self, path: &Path, bytes: &[u8]) {
        let file = self.disk.open(path, OpenMode::Create).unwrap();
        file.set_len(bytes.len() as u64).unwrap();
        file.write_all_at(bytes, 0).unwrap();
    }

    /// Reads every batch for itself: each gives its bytes or is refused. Returns the bases of
    /// those refused.
    fn refused(&self, log: &PartitionLog) -> Vec<Offset> {
        let mut refused = Vec::new();
        for batch in &self.model.batches {
            match log.read(batch.base, batch.end, 0) {
                Ok(read) => {
                    assert_eq!(read.batches, std::slice::from_ref(&batch.bytes));
                    assert_eq!(read.next, batch.end);
                }
                Err(ReadError::Corrupt { .. }) => refused.push(batch.base),
                Err(error) => panic!("{error}"),
            }
            let found = log.find_timestamp(batch.max_timestamp, Offset(0), self.model.end());
            assert!(
                matches!(found, Err(ReadError::Corrupt { .. }))
                    || found.unwrap() == Some(batch.bytes.clone())
            );
        }
        assert_eq!(log.end_offset(), self.model.end());
        refused
    }

    /// All reads give what was appended, and the partition has not failed.
    fn check_intact(&self, log: &PartitionLog) {
        assert_eq!(self.refused(log), []);
        assert_eq!(
            read_all(log, Offset(0), 400).unwrap(),
            self.model.bytes_from(Offset(0))
        );
        assert!(log.failed().is_none());
        log.verify().unwrap();
    }

    fn check_refused(&self, log: &PartitionLog) {
        assert!(!self.refused(log).is_empty());
        assert!(matches!(
            read_all(log, Offset(0), 10_000),
            Err(ReadError::Corrupt { .. })
        ));
        assert!(matches!(log.failed(), Some(StorageError::Corrupt(_))));
        assert!(matches!(log.verify(), Err(ReadError::Corrupt { .. })));
        assert_eq!(log.state(), self.state);
    }
}

fn is_index(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "index")
}

#[test]
fn no_flipped_bit_of_a_segment_is_served() {
    let fixture = Fixture::new();
    for (path, bytes) in fixture.files(false) {
        for bit in 0..bytes.len() as u64 * 8 {
            fixture.sim.flip_bit(path, bit).unwrap();
            fixture.check_refused(&fixture.restarted());
            assert!(
                verify_segment(&fixture.disk, path).unwrap().damage.is_some()
                // Alone an epoch may look like a later one: only the log knows which it is.
                || is_epoch_bit(&fixture, path, bit)
            );
            fixture.sim.flip_bit(path, bit).unwrap();
        }
    }
    fixture.check_intact(&fixture.restarted());
}

fn is_epoch_bit(fixture: &Fixture, path: &Path, bit: u64) -> bool {
    let mut is_epoch = false;
    dump_segment(&fixture.disk, path, &mut |batch| {
        is_epoch |= (batch.position + 12..batch.position + 16).contains(&(bit / 8));
    })
    .unwrap();
    is_epoch
}

#[test]
fn a_flipped_bit_of_an_index_only_costs_a_rebuild() {
    let fixture = Fixture::new();
    for (path, bytes) in fixture.files(true) {
        for bit in 0..bytes.len() as u64 * 8 {
            fixture.sim.flip_bit(path, bit).unwrap();
            let report = verify_segment(&fixture.disk, &path.with_extension("log")).unwrap();
            assert!(matches!(report.index, IndexReport::Damaged { .. }));
            fixture.check_intact(&fixture.restarted());
            fixture.restore(path, bytes);
        }
    }
}

#[test]
fn an_index_that_points_astray_is_rebuilt() {
    // Every entry is intact, but it is the index of another segment of the same base.
    let fixture = Fixture::new();
    let other = Fixture::new_with_longer_batches();
    for (path, bytes) in fixture.files(true) {
        if let Some((_, other)) = other.iter().find(|(name, _)| name == path) {
            fixture.restore(path, other);
            fixture.check_intact(&fixture.restarted());
            fixture.restore(path, bytes);
        }
    }
}

impl Fixture {
    /// Index files of a log with the same names and other batches.
    fn new_with_longer_batches() -> Vec<(PathBuf, Vec<u8>)> {
        let (_, disk) = sim(2);
        let store_config = LogStoreConfig {
            index_interval_bytes: 150,
            ..store_config()
        };
        let store = open(&disk, store_config);
        let log = store.create(
            PARTITION,
            LogConfig {
                segment_bytes: 900,
                ..config()
            },
            Offset(0),
        );
        let mut model = Model::default();
        for n in 0..14 {
            let batch = support::produced(1, 61 + n, 5_000, n as u64);
            support::append(&log, &mut model, &batch, 1, 0);
        }
        store.sync(&[(log.clone(), log.end_offset())]).unwrap();
        let dir = PathBuf::from("/data/partitions").join(PARTITION.to_string());
        let entries = disk.read_dir(&dir).unwrap();
        let indexes = entries.into_iter().map(|entry| dir.join(entry.name));
        let indexes = indexes.filter(|path| is_index(path));
        indexes
            .map(|path| (path.clone(), disk.read_file(&path).unwrap()))
            .collect()
    }
}

#[test]
fn a_segment_cut_short_is_refused_and_not_taken_for_a_shorter_log() {
    let fixture = Fixture::new();
    for (path, bytes) in fixture.files(false) {
        for len in 0..bytes.len() as u64 {
            fixture
                .disk
                .open(path, OpenMode::ReadWrite)
                .unwrap()
                .set_len(len)
                .unwrap();
            fixture.check_refused(&fixture.restarted());
            fixture.restore(path, bytes);
        }
    }
    fixture.check_intact(&fixture.restarted());
}

#[test]
fn a_missing_segment_is_refused() {
    let fixture = Fixture::new();
    for (path, bytes) in fixture.files(false) {
        fixture.disk.remove_file(path).unwrap();
        fixture.check_refused(&fixture.restarted());
        fixture.restore(path, bytes);
    }
    fixture.check_intact(&fixture.restarted());
}

#[test]
fn a_missing_or_short_index_is_rebuilt() {
    let fixture = Fixture::new();
    for (path, bytes) in fixture.files(true) {
        for len in 0..bytes.len() as u64 {
            fixture
                .disk
                .open(path, OpenMode::ReadWrite)
                .unwrap()
                .set_len(len)
                .unwrap();
            fixture.check_intact(&fixture.restarted());
            fixture.restore(path, bytes);
        }
        fixture.disk.remove_file(path).unwrap();
        fixture.check_intact(&fixture.restarted());
        let rebuilt = fixture.disk.read_file(path).unwrap();
        assert_eq!(
            &rebuilt,
            bytes,
            "the rebuilt index of {} is the same",
            path.display()
        );
    }
}

#[test]
fn what_lies_beyond_the_checkpoint_is_cut() {
    let fixture = Fixture::new();
    let dir = fixture.files[0].0.parent().unwrap().to_owned();
    let (active, bytes) = fixture.files(false).last().unwrap();
    fixture.restore(active, &[bytes.clone(), vec![7; 99]].concat());
    fixture.restore(&dir.join("00000000000000000999.log"), b"junk");
    fixture.restore(&dir.join("00000000000000000999.index"), b"junk");
    fixture.restore(&dir.join("00000000000000000000.index.new"), b"junk");
    fixture.check_intact(&fixture.restarted());
    assert_eq!(&fixture.disk.read_file(active).unwrap(), bytes);
    let names: Vec<PathBuf> = fixture
        .disk
        .read_dir(&dir)
        .unwrap()
        .into_iter()
        .map(|entry| dir.join(entry.name))
        .collect();
    assert_eq!(
        names,
        fixture
            .files
            .iter()
            .map(|(path, _)| path.clone())
            .collect::<Vec<_>>()
    );
}

#[test]
fn appends_after_damage_are_kept_and_readable() {
    let fixture = Fixture::new();
    let (active, bytes) = fixture.files(false).last().unwrap();
    fixture
        .disk
        .open(active, OpenMode::ReadWrite)
        .unwrap()
        .set_len(bytes.len() as u64 - 1)
        .unwrap();
    let log = fixture.restarted();
    let mut model = fixture.model.clone();
    let base = model.end();
    support::append(&log, &mut model, &support::produced(2, 50, 9_000, 99), 1, 0);
    fixture
        .store
        .sync(&[(log.clone(), log.end_offset())])
        .unwrap();
    assert!(matches!(log.failed(), Some(StorageError::Corrupt(_))));
    let again = fixture.store.recover(PARTITION, config(), log.state());
    let last = model.batches.last().unwrap().bytes.clone();
    assert_eq!(log.state().end, model.end());
    // The batch before is still refused; it is not stepped over without a word.
    assert!(again.read(Offset(base.0 - 1), base, 0).is_err());
    match again.read(base, model.end(), 0) {
        Ok(read) => assert_eq!(read.batches, [last]),
        Err(ReadError::Corrupt { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_reports_agree_with_the_log() {
    let fixture = Fixture::new();
    let dir = Path::new("/data/partitions");
    let files = segment_files(&fixture.disk, dir).unwrap();
    assert_eq!(files.len(), fixture.state.segments.len());
    assert_eq!(
        segment_files(&fixture.disk, files[0].parent().unwrap()).unwrap(),
        files
    );
    assert_eq!(
        segment_files(&fixture.disk, &files[1]).unwrap(),
        files[1..2]
    );
    assert!(segment_files(&fixture.disk, Path::new("/nowhere")).is_err());
    let mut dumped = Vec::new();
    for (file, segment) in files.iter().zip(&fixture.state.segments) {
        let report = verify_segment(&fixture.disk, file).unwrap();
        assert_eq!((report.base, report.end), (segment.base, segment.end));
        assert_eq!(
            (report.bytes, report.file_bytes),
            (segment.bytes, segment.bytes)
        );
        assert_eq!(Some(report.digest), segment.digest);
        assert_eq!(report.max_timestamp, segment.max_timestamp);
        assert_eq!(report.damage, None);
        let is_sealed = segment.end < fixture.state.end;
        assert!(
            matches!(report.index, IndexReport::Intact { complete, .. } if complete == is_sealed)
        );
        dump_segment(&fixture.disk, file, &mut |batch| dumped.push(batch)).unwrap();
    }
    assert!(dumped.iter().all(|batch| batch.crc_matches));
    let bases: Vec<i64> = dumped
        .iter()
        .map(|batch| batch.header.base_offset)
        .collect();
    let expected: Vec<i64> = fixture
        .model
        .batches
        .iter()
        .map(|batch| batch.base.0)
        .collect();
    assert_eq!(bases, expected);
}

//! Batches, a model of a log, and a store on a simulated disk, for the partition log's tests.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::path::{Path, PathBuf};

use bytes::Bytes;
use storage::batch::{BATCH_HEADER_BYTES, BatchHeader, crc32c};
use storage::clock::Clock;
use storage::disk::{Disk, SimDisk};
use storage::partition_log::{LogConfig, LogState, PartitionLog, ReadError};
use storage::store::{LogStore, LogStoreConfig};
use storage::{LeaderEpoch, Offset, PartitionId, TopicId};

pub(crate) const PARTITION: PartitionId = PartitionId {
    topic: TopicId([0xab; 16]),
    index: 3,
};

/// A batch as a producer sends it, with `payload` bytes that follow from `seed`.
pub(crate) fn produced(records: i32, payload: usize, max_timestamp: i64, seed: u64) -> Bytes {
    let mut bytes = BatchHeader {
        base_offset: 0,
        batch_length: i32::try_from(payload + BATCH_HEADER_BYTES - 12).unwrap(),
        partition_leader_epoch: -1,
        magic: 2,
        crc: 0,
        attributes: 0,
        last_offset_delta: records - 1,
        base_timestamp: max_timestamp,
        max_timestamp,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        record_count: records,
    }
    .encode()
    .to_vec();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for _ in 0..payload {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.push(state.to_le_bytes()[3]);
    }
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    Bytes::from(bytes)
}

/// One batch that a log must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelBatch {
    pub(crate) base: Offset,
    pub(crate) end: Offset,
    pub(crate) epoch: LeaderEpoch,
    pub(crate) max_timestamp: i64,
    pub(crate) bytes: Bytes,
}

/// What a log must be: a start and all batches ever appended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    pub(crate) start: Offset,
    pub(crate) batches: Vec<ModelBatch>,
}

impl Model {
    pub(crate) fn end(&self) -> Offset {
        self.batches.last().map_or(Offset(0), |batch| batch.end)
    }

    pub(crate) fn append(&mut self, batch: &Bytes, epoch: LeaderEpoch) {
        let header = BatchHeader::parse(batch).unwrap();
        let base = self.end();
        let mut bytes = batch.to_vec();
        bytes[..8].copy_from_slice(&base.0.to_be_bytes());
        bytes[12..16].copy_from_slice(&epoch.0.to_be_bytes());
        self.batches.push(ModelBatch {
            base,
            end: base.plus(header.offset_count()),
            epoch,
            max_timestamp: header.max_timestamp,
            bytes: Bytes::from(bytes),
        });
    }

    /// The batches from the one that holds `from` up to `limit`.
    pub(crate) fn range(&self, from: Offset, limit: Offset) -> impl Iterator<Item = &ModelBatch> {
        self.batches
            .iter()
            .filter(move |batch| batch.end > from && batch.base < limit)
    }

    pub(crate) fn bytes_from(&self, from: Offset) -> Vec<u8> {
        self.range(from, self.end())
            .flat_map(|batch| batch.bytes.to_vec())
            .collect()
    }
}

/// Everything from `from` on, by as many reads as it takes, of at most `bytes_max` each.
pub(crate) fn read_all(
    log: &PartitionLog,
    from: Offset,
    bytes_max: usize,
) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    let mut next = from;
    let end = log.end_offset();
    while next < end {
        let read = log.read(next, end, bytes_max)?;
        assert!(
            read.next > next,
            "a read at {next} below {end} gives something"
        );
        read.batches
            .iter()
            .for_each(|piece| bytes.extend_from_slice(piece));
        next = read.next;
    }
    Ok(bytes)
}

pub(crate) fn store_config() -> LogStoreConfig {
    LogStoreConfig {
        dir: PathBuf::from("/data/partitions"),
        tail_bytes_max: 4_000,
        writer_queue_bytes_max: 1 << 20,
        open_files_max: 3,
        index_interval_bytes: 500,
        use_mmap: true,
        durability: storage::Durability::Fsync,
    }
}

pub(crate) fn log_config() -> LogConfig {
    LogConfig {
        segment_bytes: 3_000,
        segment_ms: 10_000,
    }
}

pub(crate) fn sim(seed: u64) -> (SimDisk, Disk) {
    let sim = SimDisk::new(seed);
    let disk = Disk::Sim(sim.clone());
    // The data directory itself is there and durable before a store is opened in it.
    disk.create_dir_all(Path::new("/data")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    (sim, disk)
}

pub(crate) fn open(disk: &Disk, config: LogStoreConfig) -> LogStore {
    LogStore::open(disk, &Clock::manual(0), config).unwrap()
}

/// Appends `batch` to both.
pub(crate) fn append(
    log: &PartitionLog,
    model: &mut Model,
    batch: &Bytes,
    epoch: i32,
    now_ms: i64,
) {
    let header = BatchHeader::parse(batch).unwrap();
    let base = log.append(batch.clone(), &header, LeaderEpoch(epoch), now_ms);
    assert_eq!(base, model.end());
    model.append(batch, LeaderEpoch(epoch));
}

/// A log of `count` batches on `store`, written and synced.
pub(crate) fn filled(store: &LogStore, config: LogConfig, count: u64) -> (PartitionLog, Model) {
    let log = store.create(PARTITION, config, Offset(0));
    let mut model = Model::default();
    for n in 0..count {
        let payload = usize::try_from(n * 37 % 150).unwrap();
        let records = i32::try_from(n % 3).unwrap() + 1;
        let timestamp = 1_000 + i64::try_from(n).unwrap() * 10;
        append(
            &log,
            &mut model,
            &produced(records, payload, timestamp, n),
            1,
            0,
        );
    }
    store.sync(&[(log.clone(), log.end_offset())]).unwrap();
    (log, model)
}

/// The store as a node finds it after a restart.
pub(crate) fn restarted(
    disk: &Disk,
    config: LogConfig,
    state: &LogState,
) -> (LogStore, PartitionLog) {
    restarted_with(disk, store_config(), config, state)
}

pub(crate) fn restarted_with(
    disk: &Disk,
    store_config: LogStoreConfig,
    config: LogConfig,
    state: &LogState,
) -> (LogStore, PartitionLog) {
    let store = open(disk, store_config);
    let state = LogState::decode(&state.encode()).unwrap();
    let log = store.recover(PARTITION, config, state);
    (store, log)
}

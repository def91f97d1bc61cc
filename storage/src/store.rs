//! [`LogStore`]: all partition logs of one disk, and the segment writer that serves them.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::clock::Clock;
use crate::disk::Disk;
use crate::partition_log::staged::STAGED_DIR;
use crate::partition_log::{LogConfig, LogCopy, LogState, PartitionLog, StorageError};
use crate::store_core::Core;
use crate::turns::{self, JoinHandle};
use crate::writer::{Command, REMOVED_EXTENSION, Writer, with_suffix};
use crate::{Durability, LogId, Offset};

/// Ends the name of a directory that belongs to no known log.
const UNKNOWN_EXTENSION: &str = "unknown";

/// Limits and places of a [`LogStore`].
#[derive(Debug, Clone)]
pub struct LogStoreConfig {
    /// Directory that holds one directory per partition.
    pub dir: PathBuf,
    /// Bytes of batches kept in memory for reading, whole node. Default 256 MiB.
    pub tail_bytes_max: usize,
    /// Bytes that may wait for the segment writer before appends wait. Default 64 MiB.
    pub writer_queue_bytes_max: usize,
    /// Open files and mappings. Default 1,000.
    pub open_files_max: usize,
    /// Bytes of segment between two entries of its sparse index. Default 4,096.
    pub index_interval_bytes: usize,
    /// Whether indexes of sealed segments are mapped rather than read.
    pub use_mmap: bool,
    /// With [`Durability::Os`], [`LogStore::sync`] waits for the writes and syncs nothing.
    pub durability: Durability,
}

impl LogStoreConfig {
    /// The defaults, with partitions under `dir`.
    #[must_use]
    pub fn new(dir: PathBuf) -> LogStoreConfig {
        LogStoreConfig {
            dir,
            tail_bytes_max: 256 << 20,
            writer_queue_bytes_max: 64 << 20,
            open_files_max: 1_000,
            index_interval_bytes: 4_096,
            use_mmap: true,
            durability: Durability::default(),
        }
    }
}

/// All partition logs of one disk. Clones share it; the last one to go closes it.
#[derive(Clone)]
pub struct LogStore {
    inner: Arc<Inner>,
}

struct Inner {
    core: Arc<Core>,
    logs: Mutex<HashMap<LogId, PartitionLog>>,
    writer: Mutex<Option<JoinHandle>>,
    /// Held by the one `sync` at a time.
    syncing: Mutex<()>,
    /// Logs removed while the journal was replayed: the writer may still be deleting their files.
    removed: Mutex<HashSet<LogId>>,
    clock: Clock,
}

impl LogStore {
    /// Makes the directory and starts the segment writer's thread. Looks at no partition.
    ///
    /// # Errors
    /// When the directory or the thread cannot be made.
    pub fn open(
        disk: &Disk,
        clock: &Clock,
        config: LogStoreConfig,
    ) -> Result<LogStore, StorageError> {
        let io = |action, source| StorageError::io(&config.dir, action, source);
        disk.create_dir_all(&config.dir)
            .map_err(|error| io("make", error))?;
        let parent = config
            .dir
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        disk.sync_dir(parent.unwrap_or(Path::new(".")))
            .map_err(|error| io("sync the directory above", error))?;
        let core = Arc::new(Core::new(disk, &config));
        core.command(Command::FinishRemovals);
        let writer = Writer::new(Arc::clone(&core));
        let thread = turns::spawn("segment-writer", move || writer.run())
            .map_err(|error| io("start a writer thread for", error))?;
        let inner = Inner {
            core,
            logs: Mutex::default(),
            writer: Mutex::new(Some(thread)),
            syncing: Mutex::new(()),
            removed: Mutex::default(),
            clock: clock.clone(),
        };
        Ok(LogStore {
            inner: Arc::new(inner),
        })
    }

    /// A new, empty log that begins at `start`. Touches no file: the writer makes the directory
    /// and the segment at the first write. Replaces a log of the same id that was known.
    pub fn create(&self, id: impl Into<LogId>, config: LogConfig, start: Offset) -> PartitionLog {
        self.recover(id, config, LogState::empty(start))
    }

    /// A log as a checkpoint remembers it. Touches no file: the first access cuts what lies beyond
    /// `state` and checks that what must be there is there. A handle to the same partition that
    /// was known before is dead from then on; what it had not written is not written by it.
    pub fn recover(
        &self,
        id: impl Into<LogId>,
        config: LogConfig,
        state: LogState,
    ) -> PartitionLog {
        let id = id.into();
        self.inner.core.forget_finished_copy(id);
        let log = PartitionLog::new(&self.inner.core, id, config, state);
        let before = self.inner.logs().insert(id, log.clone());
        if let Some(before) = before {
            before.supersede();
        }
        log
    }

    /// Begins a copy of a partition that continues at `from`, the base of a batch: the local log's
    /// end, or where the source begins when nothing local is kept. Its files gather in the
    /// partition's `staged` directory, from which any earlier copy goes; the live log, if there is
    /// one, goes on beside it. Blocks.
    ///
    /// # Errors
    /// When the disk fails or is full.
    pub fn begin_copy(
        &self,
        id: impl Into<LogId>,
        from: Offset,
        config: LogConfig,
    ) -> Result<LogCopy, StorageError> {
        let id = id.into();
        let core = &self.inner.core;
        let log = self.inner.logs().get(&id).cloned();
        // What is still staged for the live log comes in first; nobody looks at it meanwhile.
        let mut files = log.as_ref().map(PartitionLog::files);
        if let (Some(log), Some(files)) = (&log, &mut files) {
            log.ensure_open(files)?;
        }
        let number = RandomState::new().hash_one((id, from));
        core.note_copy(id, number);
        let copy = LogCopy::begin(core, id, number, from, config);
        drop(files);
        copy
    }

    /// The known logs and the bytes of their segments.
    #[must_use]
    pub fn usage(&self) -> Vec<(LogId, u64)> {
        let logs: Vec<PartitionLog> = self.inner.logs().values().cloned().collect();
        logs.iter()
            .map(|log| (log.id(), log.size_bytes()))
            .collect()
    }

    /// Forgets a log and deletes its files, on the writer thread, also on a full disk.
    pub fn remove(&self, id: impl Into<LogId>) {
        let id = id.into();
        let removed = self.inner.logs().remove(&id);
        if let Some(log) = removed {
            if !self.inner.core.is_recovered() {
                self.inner.removed().insert(id);
            }
            log.remove();
        }
    }

    /// Says that the journal has been replayed: logs that are known now exist. Damage that was found
    /// in them meanwhile is reported, later damage at once.
    pub fn note_recovered(&self) {
        self.inner.core.note_recovered();
        self.inner.removed().clear();
        for log in self.inner.logs().values() {
            log.report_damage(&log.memory());
        }
    }

    /// Renames directories of logs that are not `known` to `*.unknown`; deletes none of
    /// them. Returns how many. To be called when the journal has been replayed, before
    /// [`LogStore::note_recovered`]; those that the replay removed are left to the writer.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn set_aside_unknown(&self, known: &HashSet<LogId>) -> io::Result<usize> {
        let Core { disk, config, .. } = &*self.inner.core;
        let removed = self.inner.removed().clone();
        let names: HashSet<String> = known.union(&removed).map(ToString::to_string).collect();
        let copies: HashSet<String> = self.inner.core.copied_names();
        let mut count = 0;
        for entry in disk
            .read_dir(&config.dir)?
            .into_iter()
            .filter(|entry| entry.is_dir)
        {
            let path = config.dir.join(&entry.name);
            let is_settled = path.extension().is_some_and(|extension| {
                extension == UNKNOWN_EXTENSION || extension == REMOVED_EXTENSION
            });
            if is_settled || names.contains(&entry.name) || copies.contains(&entry.name) {
                continue;
            }
            let inside = disk.read_dir(&path)?;
            if inside
                .iter()
                .all(|one| one.is_dir && one.name == STAGED_DIR)
            {
                // A copy that never became a log.
                disk.remove_dir_all(&path)?;
                continue;
            }
            let mut aside = with_suffix(&path, UNKNOWN_EXTENSION);
            let mut n = 2;
            while disk.exists(&aside)? {
                aside = config
                    .dir
                    .join(format!("{}-{n}.{UNKNOWN_EXTENSION}", entry.name));
                n += 1;
            }
            tracing::warn!(directory = %path.display(), "directory of no known log set aside");
            disk.rename(&path, &aside)?;
            count += 1;
        }
        if count > 0 {
            disk.sync_dir(&config.dir)?;
        }
        Ok(count)
    }

    /// Blocks until everything appended below each given end is written and synced, directories
    /// too. Not to be called on the thread that appends. Logs that were removed count as synced.
    ///
    /// # Errors
    /// When the disk is full or a state is outdated (capture states again and call again), or the
    /// store has failed or is closed. A failed sync fails the store.
    pub fn sync(&self, ends: &[(PartitionLog, Offset)]) -> Result<(), StorageError> {
        let core = &self.inner.core;
        let _syncing = turns::lock(&self.inner.syncing).expect("a panic in a sync ends the node");
        core.wait_written(ends)?;
        if core.config.durability != Durability::Os {
            core.sync_or_fail(ends.iter().map(|(log, _)| log))?;
        }
        let outdated = ends.iter().find(|(log, _)| log.memory().is_state_outdated);
        outdated.map_or(Ok(()), |(log, _)| {
            Err(StorageError::StateOutdated {
                partition: log.id(),
            })
        })
    }

    /// Rises whenever damage is found in a log: as long as it stands there is nothing new to repair.
    #[must_use]
    pub fn damage_notes(&self) -> u64 {
        self.inner.core.damage_notes()
    }

    /// How often a log that exists turned out to be damaged. For the checks of the simulation.
    #[doc(hidden)]
    #[must_use]
    pub fn damage_reports(&self) -> u64 {
        self.inner.core.damage_reports()
    }

    /// Whether the writer waits for disk space. It tries again every 200 ms and loses nothing.
    #[must_use]
    pub fn writer_stalled(&self) -> bool {
        self.inner.core.queue().is_stalled
    }

    /// Of use to a seeded bug alone: what is applied goes by no clock.
    #[doc(hidden)]
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// Bytes that wait for the writer.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.inner.core.queued_cost()
    }

    /// Why the store has failed, if it has: it writes no more and the node must start over.
    #[must_use]
    pub fn failed(&self) -> Option<StorageError> {
        self.inner.core.failed()
    }

    /// Calls `callback` once when the store fails, at once when it has already.
    pub fn on_failure(&self, callback: Box<dyn FnOnce(StorageError) + Send>) {
        self.inner.core.on_failure(callback);
    }

    /// Writes what is queued (unless the disk is full), stops the thread. Syncs nothing, except with
    /// [`Durability::Os`]: then everything, and [`LogStore::failed`] tells whether that went well.
    /// Appends after it stay in memory.
    pub fn close(&self) {
        self.inner.close();
    }
}

impl Inner {
    fn removed(&self) -> MutexGuard<'_, HashSet<LogId>> {
        self.removed
            .lock()
            .expect("nothing panics while it holds the set")
    }

    fn logs(&self) -> MutexGuard<'_, HashMap<LogId, PartitionLog>> {
        self.logs
            .lock()
            .expect("nothing panics while it holds the map")
    }

    fn close(&self) {
        self.core.begin_closing();
        let thread = self.writer.lock().expect("joining does not panic").take();
        // A failure's callback may let go of the last handle on the writer's own thread.
        if let Some(thread) = thread
            && !thread.is_current()
            && thread.join().is_err()
        {
            tracing::error!("the segment writer panicked");
        }
        // A read that is still on its way, or waits for a thread, cuts nothing any more.
        self.core.let_go();
        let logs = std::mem::take(&mut *self.logs());
        logs.values().for_each(PartitionLog::wait_for_files);
        if self.core.config.durability == Durability::Os && self.core.failed().is_none() {
            // What a clean end leaves behind is to outlast the machine. A failure is noted there.
            let _ = self.core.sync_or_fail(logs.values());
        }
        self.core.finish_closing();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BATCH_HEADER_BYTES, BatchHeader};
    use crate::disk::SimDisk;
    use crate::partition_log::tail::BATCH_OVERHEAD_BYTES;
    use crate::{LeaderEpoch, PartitionId, TopicId};
    use bytes::Bytes;

    fn batch(bytes: usize) -> (Bytes, BatchHeader) {
        let header = BatchHeader {
            base_offset: 0,
            batch_length: i32::try_from(bytes - 12).unwrap(),
            partition_leader_epoch: 0,
            magic: 2,
            crc: 0,
            attributes: 0,
            last_offset_delta: 0,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: 1,
        };
        let mut batch = header.encode().to_vec();
        batch.resize(bytes, 0);
        (Bytes::from(batch), header)
    }

    fn store(config: impl FnOnce(&mut LogStoreConfig)) -> (LogStore, PartitionLog) {
        let disk = Disk::Sim(SimDisk::new(1));
        let mut store_config = LogStoreConfig::new(PathBuf::from("/partitions"));
        config(&mut store_config);
        let store = LogStore::open(&disk, &Clock::manual(0), store_config).unwrap();
        let id = PartitionId {
            topic: TopicId([1; 16]),
            index: 0,
        };
        let log = store.create(id, LogConfig::default(), Offset(0));
        (store, log)
    }

    #[test]
    fn appends_wait_while_the_queue_is_full() {
        let limit = 10_000;
        let (store, log) = store(|config| config.writer_queue_bytes_max = limit);
        let (batch, header) = batch(1_000);
        let cost = 1_000 + BATCH_OVERHEAD_BYTES;
        // The writer waits for this.
        let files = log.files();
        std::thread::scope(|scope| {
            let appending = scope.spawn(|| {
                for _ in 0..50 {
                    log.append(batch.clone(), &header, LeaderEpoch(0), 0);
                }
            });
            while store.queued_bytes() <= limit {
                std::thread::yield_now();
            }
            (0..1_000).for_each(|_| std::thread::yield_now());
            assert!(store.queued_bytes() <= limit + cost);
            assert!(!appending.is_finished());
            drop(files);
        });
        assert_eq!(log.end_offset(), Offset(50));
        store.sync(&[(log, Offset(50))]).unwrap();
        assert_eq!(store.queued_bytes(), 0);
    }

    #[test]
    fn the_memory_of_all_tails_is_bounded() {
        let limit = 20_000;
        let (store, log) = store(|config| config.tail_bytes_max = limit);
        let other = PartitionId {
            index: 1,
            ..log.id().partition
        };
        let other = store.create(
            other,
            LogConfig {
                segment_bytes: 5_000,
                segment_ms: 9,
            },
            Offset(0),
        );
        let (batch, header) = batch(BATCH_HEADER_BYTES + 100);
        for n in 0..2_000 {
            for log in [&log, &other] {
                log.append(batch.clone(), &header, LeaderEpoch(0), 0);
            }
            // References to batches that went with their segments are bounded as well.
            other.raise_start(Offset(n));
        }
        store
            .sync(&[(log.clone(), Offset(2_000)), (other, Offset(2_000))])
            .unwrap();
        let core = &store.inner.core;
        core.evict();
        let queue = core.queue();
        assert!(queue.tail_cost <= limit, "{}", queue.tail_cost);
        assert!(queue.tail.len() * BATCH_OVERHEAD_BYTES <= limit);
        drop(queue);
        assert!(log.read_tail(Offset(1_999), Offset(2_000), 1).is_some());
        assert!(log.read_tail(Offset(0), Offset(2_000), 1).is_none());
    }
}

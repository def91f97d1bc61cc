//! [`Core`]: what a log store, its logs and the segment writer share: the queue between them, the
//! budgets, the first failure.
//!
//! Lock order: a log's `files`, a log's `memory`, the queue, the failure.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crate::disk::{Disk, OpenMode};
use crate::fd_cache::FdCache;
use crate::partition_log::segment_format::SegmentId;
use crate::partition_log::tail::Dropped;
use crate::partition_log::{PartitionLog, StorageError};
use crate::store::LogStoreConfig;
use crate::turns::Condvar;
use crate::writer::{Command, Queue};
use crate::{LogId, Offset};

pub(crate) type OnFailure = Box<dyn FnOnce(StorageError) + Send>;

/// What the store, its logs and the writer share.
pub(crate) struct Core {
    pub(crate) disk: Disk,
    pub(crate) config: LogStoreConfig,
    pub(crate) fd_cache: FdCache,
    queue: Mutex<Queue>,
    /// The queue's cost, to be looked at without its lock.
    queued_cost: AtomicUsize,
    /// Wakes the writer.
    work: Condvar,
    /// Wakes appends that wait for room and syncs that wait for the writer.
    progress: Condvar,
    /// Whether directories of partitions were made since theirs was last synced.
    is_dir_unsynced: AtomicBool,
    failure: Mutex<Failure>,
    has_failed: AtomicBool,
    /// Whether the journal has been replayed: only then is it known which logs still exist.
    is_recovered: AtomicBool,
    has_let_go: AtomicBool,
    /// How often damage was noted.
    damage_notes: AtomicU64,
    /// How often it was told, which is not where the log turned out to be deleted.
    damage_reports: AtomicU64,
    /// The copy of each log that is staged or on its way.
    copies: Mutex<HashMap<LogId, StagedCopy>>,
}

/// A copy whose files are staged.
#[derive(Debug, Clone, Copy)]
struct StagedCopy {
    number: u64,
    is_finished: bool,
}

/// Logs up to this many are synced file by file: it costs less, and does not make everything else
/// on the file system wait.
const SYNCED_ONE_BY_ONE_MAX: usize = 64;

#[derive(Default)]
struct Failure {
    error: Option<StorageError>,
    callbacks: Vec<OnFailure>,
}

impl Core {
    pub(crate) fn new(disk: &Disk, config: &LogStoreConfig) -> Core {
        Core {
            disk: disk.clone(),
            fd_cache: FdCache::new(config.open_files_max),
            config: config.clone(),
            queue: Mutex::default(),
            queued_cost: AtomicUsize::new(0),
            work: Condvar::new(),
            progress: Condvar::new(),
            is_dir_unsynced: AtomicBool::new(false),
            failure: Mutex::default(),
            has_failed: AtomicBool::new(false),
            is_recovered: AtomicBool::new(false),
            has_let_go: AtomicBool::new(false),
            damage_notes: AtomicU64::new(0),
            damage_reports: AtomicU64::new(0),
            copies: Mutex::default(),
        }
    }

    /// Notes that a copy of a partition begins, instead of any before.
    pub(crate) fn note_copy(&self, id: LogId, number: u64) {
        let copy = StagedCopy {
            number,
            is_finished: false,
        };
        self.copies().insert(id, copy);
    }

    /// Notes that a copy is whole, and waits for a log to take it over.
    pub(crate) fn finish_copy(&self, id: LogId, number: u64) {
        if let Some(copy) = self
            .copies()
            .get_mut(&id)
            .filter(|one| one.number == number)
        {
            copy.is_finished = true;
        }
    }

    /// Forgets a copy that is not finished; whether it was there.
    pub(crate) fn forget_copy(&self, id: LogId, number: u64) -> bool {
        let mut copies = self.copies();
        let is_there = copies
            .get(&id)
            .is_some_and(|copy| copy.number == number && !copy.is_finished);
        if is_there {
            copies.remove(&id);
        }
        is_there
    }

    /// Forgets a finished copy: whatever of it is wanted, a state names.
    pub(crate) fn forget_finished_copy(&self, id: LogId) {
        let mut copies = self.copies();
        if copies.get(&id).is_some_and(|copy| copy.is_finished) {
            copies.remove(&id);
        }
    }

    /// Number of the copy of a partition whose staged files are to be left alone.
    pub(crate) fn copy_of(&self, id: LogId) -> Option<u64> {
        self.copies().get(&id).map(|copy| copy.number)
    }

    /// Names of the directories that have a copy.
    pub(crate) fn copied_names(&self) -> HashSet<String> {
        self.copies().keys().map(ToString::to_string).collect()
    }

    fn copies(&self) -> MutexGuard<'_, HashMap<LogId, StagedCopy>> {
        self.copies
            .lock()
            .expect("nothing panics while it holds the copies")
    }

    /// Tells the writer to write what is queued and stop.
    pub(crate) fn begin_closing(&self) {
        self.queue().is_closed = true;
        self.work.notify_all();
        self.progress.notify_all();
    }

    /// Lets go of everything that the queue and the cache hold, once the writer has stopped.
    /// From now on no log's files are looked at for the first time: they may belong to the next
    /// store by then.
    pub(crate) fn let_go(&self) {
        self.has_let_go.store(true, Ordering::Release);
    }

    pub(crate) fn count_damage(&self) {
        self.damage_notes.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn count_damage_report(&self) {
        self.damage_reports.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn damage_reports(&self) -> u64 {
        self.damage_reports.load(Ordering::Acquire)
    }

    pub(crate) fn damage_notes(&self) -> u64 {
        self.damage_notes.load(Ordering::Acquire)
    }

    pub(crate) fn has_let_go(&self) -> bool {
        self.has_let_go.load(Ordering::Acquire)
    }

    pub(crate) fn finish_closing(&self) {
        let mut queue = self.queue();
        let tail = std::mem::take(&mut queue.tail);
        let dirty = std::mem::take(&mut queue.dirty);
        let commands = std::mem::take(&mut queue.commands);
        drop(queue);
        drop((tail, dirty, commands));
        self.fd_cache.clear();
    }

    /// What the batches that wait for the writer cost.
    pub(crate) fn queued_cost(&self) -> usize {
        self.queued_cost.load(Ordering::Relaxed)
    }

    pub(crate) fn on_failure(&self, callback: OnFailure) {
        let error = {
            let mut failure = self.failure();
            match &failure.error {
                Some(error) => error.clone(),
                None => return failure.callbacks.push(callback),
            }
        };
        callback(error);
    }

    /// From now on damage is reported as soon as it is found.
    pub(crate) fn note_recovered(&self) {
        self.is_recovered.store(true, Ordering::Release);
    }

    /// Whether damage found now is worth a person's attention.
    pub(crate) fn is_recovered(&self) -> bool {
        self.is_recovered.load(Ordering::Acquire)
    }

    pub(crate) fn log_dir(&self, id: LogId) -> PathBuf {
        self.config.dir.join(id.to_string())
    }

    pub(crate) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue
            .lock()
            .expect("nothing panics while it holds the queue")
    }

    /// Waits until the writer's queue is within its limit.
    pub(crate) fn wait_for_room(&self) {
        let limit = self.config.writer_queue_bytes_max;
        if self.queued_cost.load(Ordering::Relaxed) <= limit {
            return;
        }
        let mut queue = self.queue();
        // A writer without disk space must not hold up the deletions that would make some: callers
        // admit no more data then, so what comes is bounded.
        while queue.queued_cost > limit
            && !queue.is_stalled
            && !queue.is_closed
            && self.failed().is_none()
        {
            queue = self
                .progress
                .wait(&self.queue, queue)
                .expect("nothing panics while it holds the queue");
        }
    }

    /// Notes a batch appended to `log`.
    pub(crate) fn enqueue(
        &self,
        log: &PartitionLog,
        ordinal: u64,
        cost: usize,
        newly_queued: bool,
    ) {
        let mut queue = self.queue();
        if queue.is_closed {
            return;
        }
        let was_urgent = queue.is_urgent(self.config.writer_queue_bytes_max);
        if newly_queued {
            queue.dirty.push_back(log.clone());
        }
        queue.tail.push_back((log.clone(), ordinal));
        queue.tail_cost += cost;
        queue.queued_cost += cost;
        self.queued_cost.store(queue.queued_cost, Ordering::Relaxed);
        let is_urgent = queue.is_urgent(self.config.writer_queue_bytes_max);
        if queue.is_idle || (is_urgent && !was_urgent) {
            queue.is_idle = false;
            self.work.notify_one();
        }
    }

    /// Notes batches that left a log's memory because their segments were dropped.
    pub(crate) fn release(&self, dropped: Dropped) {
        let mut queue = self.queue();
        queue.tail_cost = queue.tail_cost.saturating_sub(dropped.bytes);
        self.subtract_queued(&mut queue, dropped.unwritten_cost);
    }

    /// Notes batches that were written; queues `again` when that log has more.
    pub(crate) fn note_written(&self, cost: usize, again: Option<&PartitionLog>) {
        let mut queue = self.queue();
        queue.dirty.extend(again.cloned());
        self.subtract_queued(&mut queue, cost);
    }

    fn subtract_queued(&self, queue: &mut Queue, cost: usize) {
        queue.queued_cost = queue.queued_cost.saturating_sub(cost);
        self.queued_cost.store(queue.queued_cost, Ordering::Relaxed);
        queue.progress += 1;
        self.progress.notify_all();
    }

    pub(crate) fn command(&self, command: Command) {
        let mut queue = self.queue();
        if !queue.is_closed {
            queue.commands.push_back(command);
            self.work.notify_one();
        }
    }

    /// Wakes whoever waits for the writer's queue, to look at it again.
    pub(crate) fn note_progress(&self) {
        self.progress.notify_all();
    }

    pub(crate) fn note_dir_made(&self) {
        self.is_dir_unsynced.store(true, Ordering::Release);
    }

    /// Waits until somebody wakes the writer, at most `timeout`.
    pub(crate) fn wait_for_work<'a>(
        &'a self,
        queue: MutexGuard<'a, Queue>,
        timeout: Option<Duration>,
    ) -> MutexGuard<'a, Queue> {
        const REASON: &str = "nothing panics while it holds the queue";
        match timeout {
            Some(timeout) => {
                let waited = self.work.wait_timeout(&self.queue, queue, timeout);
                waited.expect(REASON).0
            }
            None => self.work.wait(&self.queue, queue).expect(REASON),
        }
    }

    pub(crate) fn wait_written(&self, ends: &[(PartitionLog, Offset)]) -> Result<(), StorageError> {
        let is_written = |(log, end): &(PartitionLog, Offset)| {
            let memory = log.memory();
            memory.is_removed || memory.written_end() >= *end
        };
        let mut done = 0;
        self.queue().waiting_syncs += 1;
        self.work.notify_one();
        let result = loop {
            let progress = self.queue().progress;
            done += ends[done..]
                .iter()
                .take_while(|end| is_written(end))
                .count();
            if let Some(error) = self.failed() {
                break Err(error);
            }
            if done == ends.len() {
                break Ok(());
            }
            let mut queue = self.queue();
            if queue.is_stalled {
                let full = io::ErrorKind::StorageFull.into();
                break Err(StorageError::io(
                    &self.config.dir,
                    "write segments below",
                    full,
                ));
            }
            while queue.progress == progress
                && self.failed().is_none()
                && !queue.is_closed
                && !queue.is_stalled
            {
                queue = self
                    .progress
                    .wait(&self.queue, queue)
                    .expect("nothing panics with the queue");
            }
            if queue.is_closed && queue.progress == progress {
                break Err(StorageError::Closed);
            }
        };
        self.queue().waiting_syncs -= 1;
        result
    }

    /// Syncs what was written of these logs. An error fails the store.
    pub(crate) fn sync_or_fail<'a>(
        &self,
        logs: impl Iterator<Item = &'a PartitionLog> + Clone,
    ) -> Result<(), StorageError> {
        let synced = self.sync_logs(logs);
        if let Err(error) = &synced {
            self.fail(error.clone());
        }
        synced
    }

    /// Syncs what was written of these logs: file by file, or all at once when they are many.
    pub(crate) fn sync_logs<'a>(
        &self,
        logs: impl Iterator<Item = &'a PartitionLog> + Clone,
    ) -> Result<(), StorageError> {
        let dirty = logs
            .clone()
            .filter(|log| log.memory().is_unsynced())
            .count();
        let dir = &self.config.dir;
        if dirty > SYNCED_ONE_BY_ONE_MAX && self.disk.can_sync_file_system() {
            // Marks first: what is written after they are taken gets its own.
            self.is_dir_unsynced.store(false, Ordering::Release);
            for log in logs {
                log.memory().take_unsynced();
            }
            let synced = self.disk.sync_file_system(dir);
            return synced.map_err(|error| StorageError::io(dir, "sync all files of", error));
        }
        for log in logs {
            self.sync_log(log)?;
        }
        self.sync_dir()
    }

    /// Syncs what was written of a log.
    fn sync_log(&self, log: &PartitionLog) -> Result<(), StorageError> {
        let (ids, is_dir_unsynced) = {
            let mut memory = log.memory();
            let newest = memory.segments.last().map(|segment| segment.id());
            let (ids, is_dir_unsynced) = memory.take_unsynced();
            let is_sealed = |id| (id, Some(id) != newest);
            let ids: Vec<(SegmentId, bool)> = ids.into_iter().map(is_sealed).collect();
            (ids, is_dir_unsynced)
        };
        for (id, is_sealed) in ids {
            let paths = [
                Some(log.log_path(id)),
                is_sealed.then(|| log.index_path(id)),
            ];
            for (path, is_log) in paths.into_iter().zip([true, false]) {
                let Some(path) = path else { continue };
                let file = if is_log {
                    log.open_log(id)
                        .map_err(|error| (error.action, error.source))
                } else {
                    self.disk
                        .open(&path, OpenMode::ReadWrite)
                        .map_err(|error| ("open", error))
                };
                let synced = match file {
                    Ok(file) => file.sync_data().map_err(|error| ("sync", error)),
                    // An index is a cache: it may be missing.
                    Err((_, error)) if !is_log && error.kind() == io::ErrorKind::NotFound => Ok(()),
                    Err(error) => Err(error),
                };
                if let Err((action, error)) = synced {
                    // Unless the segment was dropped meanwhile. What was replaced may be named by
                    // the checkpoint that this is for.
                    let memory = log.memory();
                    if memory.has(id) || memory.replaced.contains(&id) {
                        return Err(StorageError::io(&path, action, error));
                    }
                }
            }
        }
        if is_dir_unsynced {
            let dir = log.dir();
            match self.disk.sync_dir(&dir) {
                Err(error) if !log.memory().is_removed => {
                    return Err(StorageError::io(&dir, "sync", error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Syncs the names of partitions' directories.
    fn sync_dir(&self) -> Result<(), StorageError> {
        if !self.is_dir_unsynced.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let dir = &self.config.dir;
        self.disk
            .sync_dir(dir)
            .map_err(|error| StorageError::io(dir, "sync", error))
    }

    pub(crate) fn failed(&self) -> Option<StorageError> {
        if !self.has_failed.load(Ordering::Acquire) {
            return None;
        }
        self.failure().error.clone()
    }

    /// Ends all writing, for good.
    pub(crate) fn fail(&self, error: StorageError) {
        let callbacks = {
            let mut failure = self.failure();
            if failure.error.is_some() {
                return;
            }
            tracing::error!(%error, "the log store has failed");
            failure.error = Some(error.clone());
            self.has_failed.store(true, Ordering::Release);
            std::mem::take(&mut failure.callbacks)
        };
        // Under the queue's lock, or one about to wait would miss it.
        drop(self.queue());
        self.work.notify_all();
        self.progress.notify_all();
        callbacks
            .into_iter()
            .for_each(|callback| callback(error.clone()));
    }

    fn failure(&self) -> MutexGuard<'_, Failure> {
        self.failure
            .lock()
            .expect("nothing panics while it holds the failure")
    }
}

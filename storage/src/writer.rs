//! The segment writer: one thread that brings appended batches to the segment files.
//!
//! Takes the logs that have something to write in turn, each with as much as one write carries.
//! Syncs nothing on its way: [`LogStore::sync`](crate::store::LogStore::sync) does. On a full
//! disk it waits and tries again; any other failure fails the store, never to be retried.
//!
//! Nobody waits for these writes but checkpoints, so a writer that has caught up lingers a little
//! and lets batches gather.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::Offset;
use crate::disk::OpenMode;
use crate::fd_cache::{FileKey, FileKind, Opened};
use crate::partition_log::index::{
    INDEX_ENTRY_BYTES, INDEX_HEADER_BYTES, IndexEntry, encode_header,
};
use crate::partition_log::open::{FileContext, FileError};
use crate::partition_log::segment_format::SegmentId;
use crate::partition_log::tail::{BATCH_OVERHEAD_BYTES as OVERHEAD, Eviction};
use crate::partition_log::{Damage, PartitionLog, StorageError};
use crate::store_core::Core;

/// Bytes and pieces of one write.
const GROUP_BYTES_MAX: usize = 4 << 20;
const GROUP_PIECES_MAX: usize = 1_000;
/// How long a writer that has caught up lets batches gather.
const LINGER: Duration = Duration::from_millis(10);
/// How long it waits before it tries a full disk again.
const FULL_DISK_RETRY: Duration = Duration::from_millis(200);

/// Something to do beside writing.
pub(crate) enum Command {
    /// Delete the files of segments that were dropped; `first` is the first that stays.
    DropSegments {
        log: PartitionLog,
        dropped: Vec<SegmentId>,
        first: Offset,
    },
    /// Delete a log's directory.
    Remove { log: PartitionLog },
    /// Delete directories whose deletion was cut short.
    FinishRemovals,
}

/// What waits for the writer, and the order in which batches leave the memory.
#[derive(Default)]
pub(crate) struct Queue {
    /// Logs with unwritten batches, each once.
    pub(crate) dirty: VecDeque<PartitionLog>,
    pub(crate) commands: VecDeque<Command>,
    /// What the unwritten batches cost.
    pub(crate) queued_cost: usize,
    /// All batches in memory, oldest first: log and ordinal. May name batches that are gone.
    pub(crate) tail: VecDeque<(PartitionLog, u64)>,
    /// What the batches in memory cost.
    pub(crate) tail_cost: usize,
    /// Calls of `sync` that wait: no time to linger.
    pub(crate) waiting_syncs: usize,
    /// Rises whenever something was written.
    pub(crate) progress: u64,
    pub(crate) is_stalled: bool,
    /// Whether the writer sleeps until somebody wakes it.
    pub(crate) is_idle: bool,
    pub(crate) is_closed: bool,
}

/// What the writer takes from the queue.
enum Work {
    Command(Command),
    Write(PartitionLog),
    Stop,
}

/// The writer, on its thread.
pub(crate) struct Writer {
    core: Arc<Core>,
    /// Commands that a full disk refused.
    deferred: Vec<Command>,
    /// Logs still to be taken before it lingers again.
    round: usize,
    /// Whether a full disk may be tried again at once.
    may_retry: bool,
}

impl Writer {
    pub(crate) fn new(core: Arc<Core>) -> Writer {
        Writer {
            core,
            deferred: Vec::new(),
            round: 0,
            may_retry: false,
        }
    }

    /// Works until the store is closed or fails.
    pub(crate) fn run(mut self) {
        loop {
            let result = match self.next_work() {
                Work::Stop => return,
                Work::Command(command) => self.execute(command),
                Work::Write(log) => self.write(log),
            };
            if let Err(FileError {
                file,
                action,
                source,
            }) = result
            {
                self.core.fail(StorageError::io(&file, action, source));
                return;
            }
        }
    }

    fn next_work(&mut self) -> Work {
        let core = &self.core;
        let mut queue = core.queue();
        loop {
            if core.failed().is_some() {
                return Work::Stop;
            }
            if let Some(command) = queue.commands.pop_front() {
                self.may_retry = true;
                return Work::Command(command);
            }
            if queue.is_closed && (queue.is_stalled || queue.dirty.is_empty()) {
                return Work::Stop;
            }
            if queue.is_stalled && !self.may_retry {
                queue = core.wait_for_work(queue, Some(FULL_DISK_RETRY));
                self.may_retry = true;
            } else if queue.dirty.is_empty() {
                self.round = 0;
                queue.is_idle = true;
                queue = core.wait_for_work(queue, None);
                queue.is_idle = false;
            } else if self.round == 0 {
                if !queue.is_urgent(core.config.writer_queue_bytes_max) {
                    queue = core.wait_for_work(queue, Some(LINGER));
                }
                self.round = queue.dirty.len();
            } else if let Some(log) = queue.dirty.pop_front() {
                self.round -= 1;
                self.may_retry = false;
                return Work::Write(log);
            }
        }
    }

    fn write(&mut self, log: PartitionLog) -> Result<(), FileError> {
        let result = write_group(&log);
        let mut queue = self.core.queue();
        queue.commands.extend(self.deferred.drain(..));
        match result {
            Ok(()) => {
                if std::mem::replace(&mut queue.is_stalled, false) {
                    tracing::info!("segments are written again");
                }
                drop(queue);
                self.core.evict();
                Ok(())
            }
            Err(error) if is_disk_full(&error.source) => {
                if !std::mem::replace(&mut queue.is_stalled, true) {
                    tracing::warn!(
                        file = %error.file.display(),
                        "the disk is full: segments wait in memory until there is space"
                    );
                    self.core.note_progress();
                }
                queue.dirty.push_front(log);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn execute(&mut self, command: Command) -> Result<(), FileError> {
        let done = match &command {
            Command::DropSegments {
                log,
                dropped,
                first,
            } => log.delete_segments(dropped, *first),
            Command::Remove { log } => remove_partition(log),
            Command::FinishRemovals => finish_removals(&self.core),
        };
        match done {
            Err(error) if is_disk_full(&error.source) => {
                self.deferred.push(command);
                Ok(())
            }
            other => other,
        }
    }
}

impl Queue {
    /// Whether the writer should not linger.
    pub(crate) fn is_urgent(&self, queue_bytes_max: usize) -> bool {
        self.is_closed
            || self.waiting_syncs > 0
            || !self.commands.is_empty()
            || self.queued_cost > queue_bytes_max / 8
    }
}

/// Batches that one write carries: all of one segment, one behind the other.
struct Group {
    segment: SegmentId,
    /// Where the first begins in the segment.
    position: u64,
    pieces: Vec<Bytes>,
    index_entries: Vec<IndexEntry>,
    /// Entries that the index file has.
    indexed: u32,
    /// Ordinal after the last.
    upto: u64,
    /// The segment before, when its index lacks the last entry.
    sealed: Option<Sealed>,
}

struct Sealed {
    id: SegmentId,
    indexed: u32,
    last: IndexEntry,
}

/// Writes the log's oldest unwritten batches, as many as one write carries, and queues the log
/// again when there are more.
fn write_group(log: &PartitionLog) -> Result<(), FileError> {
    let mut files = log.files();
    if log.memory().is_removed {
        return Ok(());
    }
    log.ensure_open(&mut files)?;
    let Some(group) = take_group(log) else {
        return Ok(());
    };
    let mut has_made_names = log.ensure_dir(&mut files)?;
    if let Some(sealed) = &group.sealed {
        let entries = std::slice::from_ref(&sealed.last);
        has_made_names |= append_index(log, sealed.id, sealed.indexed, entries)?;
    }
    let (file, is_new) = open_for_writing(log, &group)?;
    has_made_names |= is_new;
    let path = log.log_path(group.segment);
    file.write_vectored_all_at(&group.pieces, group.position)
        .on("write", &path)?;
    if !group.index_entries.is_empty() {
        has_made_names |= append_index(log, group.segment, group.indexed, &group.index_entries)?;
    }
    mark_written(log, &group, has_made_names);
    Ok(())
}

fn take_group(log: &PartitionLog) -> Option<Group> {
    let mut memory = log.memory();
    let memory = &mut *memory;
    let Some(first) = memory.tail.first_unwritten() else {
        memory.is_queued = false;
        return None;
    };
    let base = first.segment;
    let at = memory
        .segments
        .partition_point(|segment| segment.base < base);
    let segment = memory
        .segments
        .get(at)
        .expect("batches in the tail have a segment");
    let before = at
        .checked_sub(1)
        .and_then(|before| memory.segments.get(before));
    let sealed = before
        .filter(|before| !before.is_index_complete)
        .and_then(|before| {
            let last = IndexEntry {
                offset: before.end,
                position: before.bytes,
                max_timestamp_before: before.max_timestamp,
            };
            Some(Sealed {
                id: before.id(),
                indexed: before.index_entries?,
                last,
            })
        });
    let mut group = Group {
        segment: segment.id(),
        position: first.position,
        pieces: Vec::new(),
        index_entries: Vec::new(),
        indexed: segment.index_entries.unwrap_or(0),
        upto: 0,
        sealed,
    };
    let mut bytes = 0;
    for (ordinal, batch) in memory.tail.unwritten() {
        let is_full = bytes + batch.bytes.len() > GROUP_BYTES_MAX
            || group.pieces.len() + 2 > GROUP_PIECES_MAX;
        if batch.segment != base || (is_full && bytes > 0) {
            break;
        }
        bytes += batch.bytes.len();
        batch.bytes.push_pieces(&mut group.pieces);
        group.upto = ordinal + 1;
        group
            .index_entries
            .extend(batch.index_entry.map(|max_timestamp_before| IndexEntry {
                offset: batch.base,
                position: batch.position,
                max_timestamp_before,
            }));
    }
    Some(group)
}

/// The group's segment file, and whether it was made now.
fn open_for_writing(
    log: &PartitionLog,
    group: &Group,
) -> Result<(crate::disk::DiskFile, bool), FileError> {
    let core = &log.shared.core;
    let key = FileKey {
        log: log.id(),
        segment: group.segment,
        kind: FileKind::Log,
    };
    if let Some(Opened::File(file)) = core.fd_cache.get(key) {
        return Ok((file, false));
    }
    let path = log.log_path(group.segment);
    let stamp = core.fd_cache.stamp();
    let file = core.disk.open(&path, OpenMode::Create).on("open", &path)?;
    let len = file.len().on("measure", &path)?;
    // Bytes that should be here and are not stay missing: reading them is refused. What is new
    // still gets its place.
    if len < group.position {
        log.note_damage(Damage {
            file: path,
            position: len,
            expected: format!("{} bytes", group.position),
            found: format!("{len} bytes"),
        });
    }
    core.fd_cache.insert(key, Opened::File(file.clone()), stamp);
    Ok((file, len == 0))
}

/// Adds entries to a segment's index file, which has `indexed` of them. Returns whether the file
/// was made now.
fn append_index(
    log: &PartitionLog,
    id: SegmentId,
    indexed: u32,
    entries: &[IndexEntry],
) -> Result<bool, FileError> {
    let core = &log.shared.core;
    let key = FileKey {
        log: log.id(),
        segment: id,
        kind: FileKind::Index,
    };
    let path = log.index_path(id);
    let file = match core.fd_cache.get(key) {
        Some(Opened::File(file)) => file,
        _ => {
            let stamp = core.fd_cache.stamp();
            let file = core.disk.open(&path, OpenMode::Create).on("open", &path)?;
            core.fd_cache.insert(key, Opened::File(file.clone()), stamp);
            file
        }
    };
    let mut bytes = Vec::with_capacity(INDEX_HEADER_BYTES + entries.len() * INDEX_ENTRY_BYTES);
    let mut position = 0;
    if indexed == 0 {
        bytes.extend_from_slice(&encode_header(id.base));
    } else {
        position = INDEX_HEADER_BYTES as u64 + u64::from(indexed) * INDEX_ENTRY_BYTES as u64;
    }
    entries
        .iter()
        .for_each(|entry| bytes.extend_from_slice(&entry.encode(id.base)));
    file.write_all_at(&bytes, position).on("write", &path)?;
    Ok(indexed == 0)
}

fn mark_written(log: &PartitionLog, group: &Group, has_made_names: bool) {
    let mut memory = log.memory();
    let memory = &mut *memory;
    let cost = memory.tail.mark_written(group.upto);
    memory.is_dir_unsynced |= has_made_names;
    let mut wrote = |id: SegmentId, entries: usize, completes: bool| {
        let Some(segment) = memory.segment_in(id) else {
            return;
        };
        let entries = u32::try_from(entries).expect("a group has few entries");
        segment.index_entries = Some(segment.index_entries.unwrap_or(0) + entries);
        segment.is_index_complete |= completes;
        if !memory.unsynced.contains(&id) {
            memory.unsynced.push(id);
        }
    };
    wrote(group.segment, group.index_entries.len(), false);
    if let Some(sealed) = &group.sealed {
        wrote(sealed.id, 1, true);
    }
    memory.is_queued = memory.tail.first_unwritten().is_some();
    log.shared
        .core
        .note_written(cost, memory.is_queued.then_some(log));
}

fn remove_partition(log: &PartitionLog) -> Result<(), FileError> {
    let core = &log.shared.core;
    let _files = log.files();
    core.fd_cache.forget_log(log.id());
    let dir = log.dir();
    let condemned = with_suffix(&dir, REMOVED_EXTENSION);
    if core.disk.exists(&condemned).on("look for", &condemned)? {
        core.disk
            .remove_dir_all(&condemned)
            .on("remove", &condemned)?;
    }
    match core.disk.rename(&dir, &condemned) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).on("rename", &dir),
    }
    core.disk
        .sync_dir(&core.config.dir)
        .on("sync", &core.config.dir)?;
    core.disk
        .remove_dir_all(&condemned)
        .on("remove", &condemned)
}

fn finish_removals(core: &Core) -> Result<(), FileError> {
    let dir = &core.config.dir;
    for entry in core.disk.read_dir(dir).on("list", dir)? {
        let path = dir.join(&entry.name);
        if path
            .extension()
            .is_some_and(|extension| extension == REMOVED_EXTENSION)
        {
            core.disk.remove_dir_all(&path).on("remove", &path)?;
        }
    }
    Ok(())
}

/// The name of a log's directory with something behind it. What stands behind a dot in it already
/// is its generation and stays.
pub(crate) fn with_suffix(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

/// Ends the name of a directory that is being deleted.
pub(crate) const REMOVED_EXTENSION: &str = "deleted";

pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

impl Core {
    /// Lets the oldest written batches go until the memory is within its budget.
    pub(crate) fn evict(&self) {
        loop {
            let oldest = {
                let mut queue = self.queue();
                if queue.tail_cost <= self.config.tail_bytes_max {
                    return;
                }
                queue.tail.pop_front()
            };
            let Some((log, ordinal)) = oldest else { return };
            let evicted = log.memory().tail.evict(ordinal);
            let mut queue = self.queue();
            match evicted {
                Eviction::Evicted(cost) => queue.tail_cost = queue.tail_cost.saturating_sub(cost),
                Eviction::Gone => queue.tail_cost = queue.tail_cost.saturating_sub(OVERHEAD),
                Eviction::NotWritten => {
                    queue.tail.push_front((log, ordinal));
                    return;
                }
            }
        }
    }
}

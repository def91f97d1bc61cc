//! The first look at a log's files after a restart, and the files' upkeep.
//!
//! What lies beyond the log's state is cut: the journal writes it again. What the state says is
//! there must be there, or the partition has failed; nothing is ever shortened to fit. Only
//! segments below the offset that names the `.start` file may be missing.

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;

use super::epochs::Epochs;
use super::index::{
    INDEX_ENTRY_BYTES, INDEX_HEADER_BYTES, IndexEntry, IndexPacer, encode_header, good_entries,
};
use super::repair::NEW_LOG_SUFFIX;
use super::segment::Segment;
use super::segment_format::{FileName, SegmentId, index_name, log_name, parse_name, start_name};
use super::staged::{
    STAGED_DIR, StagedName, parse_staged_name, staged_index_name, staged_log_name,
};
use super::walk::{Walk, WalkSpan};
use super::{Damage, PartitionLog, ReadError};
use crate::Offset;
use crate::disk::{DiskFile, OpenMode};
use crate::fd_cache::{FileKey, FileKind, Opened};
use crate::writer::is_disk_full;

/// Ends the name of an index that is being rebuilt.
const NEW_INDEX_SUFFIX: &str = ".index.new";
const SCAN_CHUNK_BYTES: usize = 256 << 10;

/// What is known about a log's directory. Whoever holds it may write and open files.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// Whether the directory is there.
    pub(crate) is_dir_made: bool,
    /// Offset that the `.start` file's name says.
    pub(crate) marker: Option<Offset>,
}

/// A failed file operation: what was tried, with what.
#[derive(Debug)]
pub(crate) struct FileError {
    pub(crate) file: std::path::PathBuf,
    pub(crate) action: &'static str,
    pub(crate) source: io::Error,
}

pub(crate) trait FileContext<T> {
    fn on(self, action: &'static str, file: &Path) -> Result<T, FileError>;
}

impl<T> FileContext<T> for io::Result<T> {
    fn on(self, action: &'static str, file: &Path) -> Result<T, FileError> {
        self.map_err(|source| FileError {
            file: file.to_owned(),
            action,
            source,
        })
    }
}

impl From<FileError> for ReadError {
    fn from(
        FileError {
            file,
            action,
            source,
        }: FileError,
    ) -> ReadError {
        ReadError::io(&file, action, source)
    }
}

/// What must be on disk of one segment.
struct Extent {
    id: SegmentId,
    end: Offset,
    bytes: u64,
}

/// What a walk to the end of a segment found.
struct Rest {
    /// Offset after the last batch.
    end: Offset,
    /// Of the whole segment, when it walked all of it.
    digest: Option<u32>,
}

impl PartitionLog {
    /// Looks at the files unless that has happened. Damage is noted, not returned: it concerns
    /// those who read it.
    pub(crate) fn ensure_open(&self, files: &mut Files) -> Result<(), FileError> {
        if self.is_opened() || self.memory().is_removed {
            return Ok(());
        }
        let dir = self.dir();
        if self.shared.core.has_let_go() {
            let closed = io::Error::other("the log store is closed");
            return Err(closed).on("open", &dir);
        }
        let disk = &self.shared.core.disk;
        let mut logs = Vec::new();
        let mut others = Vec::new();
        let mut has_staged_dir = false;
        match disk.read_dir(&dir) {
            Ok(entries) => {
                files.is_dir_made = true;
                // Whoever made these names may have died before it synced them.
                self.memory().is_dir_unsynced = true;
                self.shared.core.note_dir_made();
                has_staged_dir = entries
                    .iter()
                    .any(|entry| entry.is_dir && entry.name == STAGED_DIR);
                for entry in entries.into_iter().filter(|entry| !entry.is_dir) {
                    match parse_name(&entry.name) {
                        Some(FileName::Log(id)) => logs.push(id),
                        Some(FileName::Index(id)) => others.push((id, entry.name)),
                        Some(FileName::Start(start)) => {
                            files.marker = files.marker.max(Some(start));
                        }
                        None if entry.name.ends_with(NEW_INDEX_SUFFIX)
                            || entry.name.ends_with(NEW_LOG_SUFFIX) =>
                        {
                            let path = dir.join(&entry.name);
                            disk.remove_file(&path).on("remove", &path)?;
                        }
                        None => tracing::warn!(
                            partition = %self.shared.id, name = entry.name, "unknown file"
                        ),
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).on("list", &dir),
        }
        let staged = if has_staged_dir {
            self.bring_in_staged(&mut logs)?
        } else {
            Vec::new()
        };
        let is_copied = self
            .memory()
            .segments
            .iter()
            .any(|one| one.staged.is_some());
        let (mut extents, epochs) = self.extents();
        let marker = files.marker.unwrap_or(Offset(0));
        let is_deleted = |extent: &Extent| extent.end <= marker && !logs.contains(&extent.id);
        if let Some(deleted) = extents.iter().rposition(is_deleted) {
            // The decision that dropped them is in the journal, but perhaps not applied again yet.
            self.memory().forget_deleted(extents[deleted].end);
            extents.drain(..=deleted);
        }
        let newest = extents.len().saturating_sub(1);
        for (at, extent) in extents.iter().enumerate() {
            let len = self.check_extent(extent)?;
            // It grew while the copy was made that goes on where it ended then.
            if at < newest && len.is_some_and(|len| len > extent.bytes) {
                self.recover_end(extent, &epochs, true)?;
                self.memory().unsynced.push(extent.id);
            }
        }
        let written_end = self.memory().written_end();
        // Segments are only dropped by a replicated decision, and only made by an append that is
        // replayed: files outside of the state's range are what a crash left of either.
        let first = extents.first().map_or(written_end, |extent| extent.id.base);
        let dropped = logs
            .iter()
            .map(|id| id.base)
            .chain(staged.iter().map(|one| one.base));
        if dropped.into_iter().any(|base| base < first) {
            self.advance_marker(files, first)?;
        }
        let is_outside = |base: Offset| base < first || base >= written_end;
        others.extend(logs.into_iter().map(|id| (id, log_name(id))));
        for (id, name) in others {
            let path = dir.join(&name);
            let is_known = extents.iter().any(|extent| extent.id == id);
            // Compaction was on its way, or had replaced it and not deleted it yet.
            let is_replaced = !is_known
                && (id.version != 0
                    || extents.iter().any(|extent| {
                        extent.id.version != 0 && extent.id.base <= id.base && id.base < extent.end
                    }));
            if is_outside(id.base) || is_replaced || (is_copied && !is_known) {
                disk.remove_file(&path).on("remove", &path)?;
            } else if !is_known {
                tracing::warn!(partition = %self.shared.id, name, "file of no segment");
            }
        }
        if let Some(active) = extents.last() {
            self.recover_end(active, &epochs, false)?;
        }
        self.remove_staged(has_staged_dir, &staged)?;
        // From here on captured states name the files as they are now; the directory is synced
        // before such a state is believed.
        let mut memory = self.memory();
        memory.segments.iter_mut().for_each(|one| one.staged = None);
        drop(memory);
        self.shared.is_opened.store(true, Ordering::Release);
        Ok(())
    }

    /// What must be on disk of each segment, and the epochs of all of it.
    fn extents(&self) -> (Vec<Extent>, Epochs) {
        let memory = self.memory();
        let written_end = memory.written_end();
        let extents = memory.segments.iter().map(|segment| Extent {
            id: segment.id(),
            end: segment.end.min(written_end),
            bytes: memory.written_bytes(segment),
        });
        (
            extents.filter(|extent| extent.bytes > 0).collect(),
            memory.epochs.clone(),
        )
    }

    /// Checks that a segment's file is there and long enough; returns its length.
    fn check_extent(&self, extent: &Extent) -> Result<Option<u64>, FileError> {
        let path = self.log_path(extent.id);
        let found = match self.shared.core.disk.open(&path, OpenMode::Read) {
            Ok(file) => Some(file.len().on("measure", &path)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).on("open", &path),
        };
        if found.is_none_or(|len| len < extent.bytes) {
            self.note_damage(Damage {
                file: path,
                position: found.unwrap_or(0),
                expected: format!("{} bytes", extent.bytes),
                found: found.map_or("no file".to_owned(), |len| format!("{len} bytes")),
            });
        }
        Ok(found)
    }

    /// Brings the files of a copy that the state names to their places. Adds their segments to
    /// `logs` and returns what else is staged. May be interrupted and repeated: what is not staged
    /// any more has been brought in.
    fn bring_in_staged(&self, logs: &mut Vec<SegmentId>) -> Result<Vec<StagedName>, FileError> {
        let disk = &self.shared.core.disk;
        let dir = self.dir().join(STAGED_DIR);
        let mut staged: Vec<StagedName> = disk
            .read_dir(&dir)
            .on("list", &dir)?
            .into_iter()
            .filter_map(|entry| parse_staged_name(&entry.name))
            .collect();
        let wanted: Vec<(Offset, u64)> = self
            .memory()
            .segments
            .iter()
            .filter_map(|segment| Some((segment.base, segment.staged?)))
            .collect();
        let has_wanted = !wanted.is_empty();
        for (base, copy) in wanted {
            let name = |is_log| StagedName { base, copy, is_log };
            if !staged.contains(&name(true)) {
                continue;
            }
            let index = self.index_path(base.into());
            if staged.contains(&name(false)) {
                let path = dir.join(staged_index_name(base, copy));
                disk.rename(&path, &index).on("bring in", &path)?;
            } else if disk.exists(&index).on("look for", &index)? {
                // That of another file; or brought in before a crash: it is only a cache.
                disk.remove_file(&index).on("remove", &index)?;
            }
            let path = dir.join(staged_log_name(base, copy));
            disk.rename(&path, &self.log_path(base.into()))
                .on("bring in", &path)?;
            staged.retain(|one| (one.base, one.copy) != (base, copy));
            if !logs.contains(&base.into()) {
                logs.push(base.into());
            }
        }
        self.shared.core.fd_cache.forget_log(self.shared.id);
        if has_wanted {
            // Or `staged` might be gone after a crash and the files still in it.
            let dir = self.dir();
            disk.sync_dir(&dir).on("sync", &dir)?;
        }
        Ok(staged)
    }

    /// Removes what is staged, unless a copy is on its way.
    fn remove_staged(&self, has_dir: bool, staged: &[StagedName]) -> Result<(), FileError> {
        let core = &self.shared.core;
        if !has_dir {
            return Ok(());
        }
        let dir = self.dir().join(STAGED_DIR);
        let Some(copy) = core.copy_of(self.shared.id) else {
            return core.disk.remove_dir_all(&dir).on("remove", &dir);
        };
        for one in staged.iter().filter(|one| one.copy != copy) {
            let name = if one.is_log {
                staged_log_name(one.base, one.copy)
            } else {
                staged_index_name(one.base, one.copy)
            };
            let path = dir.join(name);
            core.disk.remove_file(&path).on("remove", &path)?;
        }
        Ok(())
    }

    /// Cuts a segment at the end of the state and completes its index; with the last entry of a
    /// sealed one, if it is.
    fn recover_end(
        &self,
        extent: &Extent,
        epochs: &Epochs,
        is_sealed: bool,
    ) -> Result<(), FileError> {
        let (entries, is_complete) = self.recover_index(extent, epochs, is_sealed)?;
        if let Some(segment) = self.memory().segment_in(extent.id) {
            segment.index_entries = Some(entries);
            segment.is_index_complete = is_complete;
        }
        Ok(())
    }

    /// Returns the number of index entries, and whether they are those of a sealed segment.
    fn recover_index(
        &self,
        active: &Extent,
        epochs: &Epochs,
        is_sealed: bool,
    ) -> Result<(u32, bool), FileError> {
        let disk = &self.shared.core.disk;
        let path = self.log_path(active.id);
        let file = match disk.open(&path, OpenMode::ReadWrite) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((0, false)),
            Err(error) => return Err(error).on("open", &path),
        };
        if file.len().on("measure", &path)? > active.bytes {
            file.set_len(active.bytes).on("cut", &path)?;
        }
        let index_path = self.index_path(active.id);
        let mut entries = match disk.read_file(&index_path) {
            Ok(bytes) => good_entries(&bytes, active.id.base, active.bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).on("read", &index_path),
        };
        let mut kept = entries.len();
        match self.index_rest(&file, active.id, active.bytes, epochs, &mut entries) {
            Ok(rest) if rest.end == active.end => {}
            Ok(rest) => self.note_damage(Damage {
                file: path,
                position: active.bytes,
                expected: format!("end offset {}", active.end),
                found: format!("end offset {}", rest.end),
            }),
            Err(ReadError::Corrupt { .. }) if kept > 0 => {
                // Perhaps an entry is wrong rather than the segment.
                entries.clear();
                kept = 0;
                if let Err(error) =
                    self.index_rest(&file, active.id, active.bytes, epochs, &mut entries)
                {
                    self.note_read_error(error)?;
                }
            }
            Err(error) => self.note_read_error(error)?,
        }
        let mut is_complete = false;
        if is_sealed {
            let max_timestamp_before = self
                .memory()
                .segment(active.id.base)
                .map_or(-1, |segment| segment.max_timestamp);
            entries.push(IndexEntry {
                offset: active.end,
                position: active.bytes,
                max_timestamp_before,
            });
            is_complete = true;
        }
        match self.store_entries(active.id, &entries, kept) {
            Ok(()) => {}
            // Reads go on on a full disk: they walk further.
            Err(error) if is_disk_full(&error.source) => {
                entries.truncate(kept);
                is_complete = false;
            }
            Err(error) => return Err(error),
        }
        let count = u32::try_from(entries.len()).expect("entries are a batch apart");
        Ok((count, is_complete))
    }

    /// Makes an index file hold `entries`, the first `kept` of which it has.
    fn store_entries(
        &self,
        id: SegmentId,
        entries: &[IndexEntry],
        kept: usize,
    ) -> Result<(), FileError> {
        if entries.is_empty() {
            return Ok(());
        }
        let path = self.index_path(id);
        let file = self
            .shared
            .core
            .disk
            .open(&path, OpenMode::Create)
            .on("open", &path)?;
        let len = (INDEX_HEADER_BYTES + entries.len() * INDEX_ENTRY_BYTES) as u64;
        if file.len().on("measure", &path)? > len {
            // Not cut: a reader of a log before this one may have it mapped.
            return self.replace_index(id, entries);
        }
        if entries.len() > kept {
            file.write_all_at(&encode_index(id.base, entries), 0)
                .on("write", &path)?;
        }
        Ok(())
    }

    /// Walks the first `bytes` of a segment from its last known entry on and adds the entries that
    /// are missing.
    fn index_rest(
        &self,
        file: &DiskFile,
        id: SegmentId,
        bytes: u64,
        epochs: &Epochs,
        entries: &mut Vec<IndexEntry>,
    ) -> Result<Rest, ReadError> {
        let path = self.log_path(id);
        let last = entries.last().copied();
        let from = last.unwrap_or(IndexEntry {
            offset: id.base,
            position: 0,
            max_timestamp_before: -1,
        });
        let mut walk = Walk::new(WalkSpan {
            file,
            path: &path,
            position: from.position,
            offset: from.offset,
            end_position: bytes,
            epochs: Some(epochs),
            chunk_bytes: SCAN_CHUNK_BYTES,
        });
        let mut pacer = IndexPacer::new(self.shared.core.config.index_interval_bytes);
        let mut max_timestamp_before = from.max_timestamp_before;
        let mut digest = 0;
        while let Some(batch) = walk.next()? {
            let length = (batch.end - batch.start) as u64;
            let wants_entry = pacer.wants_entry(batch.position, length);
            if wants_entry && batch.position > from.position {
                entries.push(IndexEntry {
                    offset: Offset(batch.header.base_offset),
                    position: batch.position,
                    max_timestamp_before,
                });
            }
            max_timestamp_before = max_timestamp_before.max(batch.header.max_timestamp);
            let head = batch.chunk[batch.start..]
                .first_chunk()
                .expect("a batch has a header");
            digest = super::segment_format::digest_after(digest, head);
        }
        Ok(Rest {
            end: walk.offset(),
            digest: last.is_none().then_some(digest),
        })
    }

    /// Notes damage; passes on what is the disk's failure.
    fn note_read_error(&self, error: ReadError) -> Result<(), FileError> {
        match error {
            ReadError::Corrupt {
                file,
                position,
                expected,
                found,
            } => {
                self.note_damage(Damage {
                    file,
                    position,
                    expected,
                    found,
                });
                Ok(())
            }
            ReadError::Io {
                file,
                action,
                source,
            } => {
                let source = io::Error::new(source.kind(), source);
                Err(FileError {
                    file,
                    action,
                    source,
                })
            }
            ReadError::OutOfRange { .. } => Ok(()),
        }
    }

    /// Builds a segment's index anew by walking all of it, checks its digest, and replaces the
    /// index file. Returns the entries.
    pub(crate) fn rebuild_index(&self, id: SegmentId) -> Result<Vec<IndexEntry>, ReadError> {
        let mut files = self.files();
        self.ensure_open(&mut files)?;
        let (bytes, end, max_timestamp, digest, is_sealed, epochs) = {
            let memory = self.memory();
            let Some(segment) = memory.segment(id.base).filter(|one| one.id() == id) else {
                return Ok(Vec::new());
            };
            let bytes = memory.written_bytes(segment);
            let is_newest = memory.segments.last().map(Segment::id) == Some(id);
            let digest = segment.digest.filter(|_| bytes == segment.bytes);
            let is_sealed = !is_newest && bytes == segment.bytes;
            (
                bytes,
                segment.end,
                segment.max_timestamp,
                digest,
                is_sealed,
                memory.epochs.clone(),
            )
        };
        tracing::warn!(partition = %self.shared.id, segment = id.base.0, "rebuilding an index");
        let path = self.log_path(id);
        let mut entries = Vec::new();
        let found = self
            .open_log(id)
            .map_err(|error| self.missing_is_damage(error, bytes))
            .and_then(|file| self.index_rest(&file, id, bytes, &epochs, &mut entries));
        if let Some(segment) = self.memory().segment_in(id) {
            segment.is_index_rebuilt = true;
        }
        let found = found?;
        if let Some((expected, found)) = digest.zip(found.digest).filter(|(a, b)| a != b) {
            return Err(digest_damage(&path, expected, found).into());
        }
        if is_sealed {
            entries.push(IndexEntry {
                offset: end,
                position: bytes,
                max_timestamp_before: max_timestamp,
            });
        }
        let replaced = self.replace_index(id, &entries);
        let cache = &self.shared.core.fd_cache;
        let log = self.shared.id;
        for kind in [FileKind::Index, FileKind::MappedIndex] {
            let segment = id;
            cache.forget(FileKey { log, segment, kind });
        }
        let mut memory = self.memory();
        if let Some(segment) = memory.segment_in(id) {
            match replaced {
                Ok(()) => {
                    let count = u32::try_from(entries.len()).expect("entries are a batch apart");
                    segment.index_entries = Some(count);
                    segment.is_index_complete = is_sealed;
                }
                Err(error) => tracing::warn!(
                    file = %error.file.display(), error = %error.source,
                    "cannot {} an index; it is rebuilt again when it is needed", error.action
                ),
            }
        }
        Ok(entries)
    }

    fn replace_index(&self, id: SegmentId, entries: &[IndexEntry]) -> Result<(), FileError> {
        let disk = &self.shared.core.disk;
        let path = self.index_path(id);
        let temporary = self.dir().join(format!("{}.new", index_name(id)));
        let file = disk
            .open(&temporary, OpenMode::Create)
            .on("open", &temporary)?;
        file.set_len(0).on("cut", &temporary)?;
        file.write_all_at(&encode_index(id.base, entries), 0)
            .on("write", &temporary)?;
        disk.rename(&temporary, &path).on("replace", &path)
    }

    /// That a segment's file is missing is damage, not a failure of the disk.
    pub(crate) fn missing_is_damage(&self, error: FileError, bytes: u64) -> ReadError {
        if error.source.kind() != io::ErrorKind::NotFound {
            return error.into();
        }
        let (expected, found) = (format!("{bytes} bytes"), "no file".to_owned());
        Damage {
            file: error.file,
            position: 0,
            expected,
            found,
        }
        .into()
    }

    /// A segment's file, from the cache or opened.
    pub(crate) fn open_log(&self, id: SegmentId) -> Result<DiskFile, FileError> {
        let core = &self.shared.core;
        let key = FileKey {
            log: self.shared.id,
            segment: id,
            kind: FileKind::Log,
        };
        if let Some(Opened::File(file)) = core.fd_cache.get(key) {
            return Ok(file);
        }
        let path = self.log_path(id);
        let stamp = core.fd_cache.stamp();
        let file = core
            .disk
            .open(&path, OpenMode::ReadWrite)
            .on("open", &path)?;
        core.fd_cache.insert(key, Opened::File(file.clone()), stamp);
        Ok(file)
    }

    /// Makes the directory with its `.start` file, unless it is there.
    pub(crate) fn ensure_dir(&self, files: &mut Files) -> Result<bool, FileError> {
        let dir = self.dir();
        let disk = &self.shared.core.disk;
        let is_new = !files.is_dir_made;
        if is_new {
            disk.create_dir_all(&dir).on("make", &dir)?;
            files.is_dir_made = true;
            self.shared.core.note_dir_made();
        }
        if files.marker.is_none() {
            let path = dir.join(start_name(Offset(0)));
            disk.open(&path, OpenMode::Create).on("make", &path)?;
            files.marker = Some(Offset(0));
            return Ok(true);
        }
        Ok(is_new)
    }

    /// Says durably that segments below `to` may be missing. By a rename, which a full disk
    /// allows.
    pub(crate) fn advance_marker(&self, files: &mut Files, to: Offset) -> Result<(), FileError> {
        self.ensure_dir(files)?;
        let current = files.marker.unwrap_or(Offset(0));
        if to <= current {
            return Ok(());
        }
        let dir = self.dir();
        let disk = &self.shared.core.disk;
        let path = dir.join(start_name(to));
        disk.rename(&dir.join(start_name(current)), &path)
            .on("rename", &path)?;
        files.marker = Some(to);
        disk.sync_dir(&dir).on("sync", &dir)
    }

    /// Deletes the files of dropped segments; `first` is the base of the first that stays.
    pub(crate) fn delete_segments(
        &self,
        dropped: &[SegmentId],
        first: Offset,
    ) -> Result<(), FileError> {
        let mut files = self.files();
        self.ensure_open(&mut files)?;
        if !files.is_dir_made || self.memory().is_removed {
            return Ok(());
        }
        self.advance_marker(&mut files, first)?;
        self.unlink(dropped)
    }

    /// Deletes the files of segments.
    pub(crate) fn unlink(&self, segments: &[SegmentId]) -> Result<(), FileError> {
        let core = &self.shared.core;
        let dir = self.dir();
        for id in segments {
            core.fd_cache.forget_segment(self.shared.id, *id);
            for name in [log_name(*id), index_name(*id)] {
                let path = dir.join(name);
                match core.disk.remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(error).on("remove", &path);
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

pub(crate) fn digest_damage(path: &Path, expected: u32, found: u32) -> Damage {
    Damage {
        file: path.to_owned(),
        position: 0,
        expected: format!("digest {expected:08x}"),
        found: format!("digest {found:08x}"),
    }
}

fn encode_index(base: Offset, entries: &[IndexEntry]) -> Vec<u8> {
    let mut bytes = encode_header(base).to_vec();
    entries
        .iter()
        .for_each(|entry| bytes.extend_from_slice(&entry.encode(base)));
    bytes
}

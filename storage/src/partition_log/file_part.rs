//! [`FilePart`]: the part of a segment that is read from its file, and finding a place in it by
//! the sparse index.
//!
//! Whatever is wrong with an index, the answer is right: an index that is damaged, or leads to
//! anything but the batch it names, is rebuilt from the segment.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::epochs::Epochs;
use super::index::{
    DamagedIndex, INDEX_ENTRY_BYTES, INDEX_HEADER_BYTES, IndexEntry, check_header, last_before,
};
use super::log::Memory;
use super::segment::Segment;
use super::segment_format::SegmentId;
use super::walk::{Walk, WalkSpan};
use super::{PartitionLog, ReadError};
use crate::Offset;
use crate::bugs::{self, Bug};
use crate::disk::{DiskFile, OpenMode};
use crate::fd_cache::{FileKey, FileKind, Opened};

/// Bytes read at a time while something is looked for.
pub(crate) const SEARCH_CHUNK_BYTES: usize = 64 << 10;

/// The part of a segment that is read from its file.
#[derive(Debug, Clone)]
pub(crate) struct FilePart {
    pub(crate) id: SegmentId,
    /// Where the part in the file ends; the rest is in the tail.
    end_position: u64,
    /// Offset there, exclusive.
    pub(crate) end_offset: Offset,
    /// Bytes and offset where the segment ends.
    bytes: u64,
    end: Offset,
    is_sealed: bool,
    index_entries: Option<u32>,
    is_index_complete: bool,
    is_index_rebuilt: bool,
    epochs: Epochs,
}

/// Where a walk along a file begins.
#[derive(Debug, Clone, Copy)]
struct WalkStart {
    position: u64,
    offset: Offset,
}

impl FilePart {
    /// What only the file of a segment has; `None` when the tail holds all of it.
    pub(crate) fn of(memory: &Memory, segment: &Segment) -> Option<FilePart> {
        let (end_position, end_offset) = match memory.tail.first() {
            Some(batch) if batch.segment == segment.base => (batch.position, batch.base),
            Some(batch) if batch.segment < segment.base => return None,
            _ => (segment.bytes, segment.end),
        };
        let is_newest = memory
            .segments
            .last()
            .is_some_and(|last| last.base == segment.base);
        (end_position > 0).then(|| FilePart {
            id: segment.id(),
            end_position,
            end_offset,
            bytes: segment.bytes,
            end: segment.end,
            is_sealed: !is_newest && memory.written_bytes(segment) == segment.bytes,
            index_entries: segment.index_entries,
            is_index_complete: segment.is_index_complete,
            is_index_rebuilt: segment.is_index_rebuilt,
            epochs: memory.epochs.clone(),
        })
    }
}

impl PartitionLog {
    /// Looks at the files unless that has happened or none is needed. What it finds may change
    /// which segments there are, so this comes before asking for them.
    pub(crate) fn open_if_needed(&self) -> Result<(), ReadError> {
        let needs_files = {
            let memory = self.memory();
            let oldest = memory.segments.first();
            oldest.is_some_and(|oldest| FilePart::of(&memory, oldest).is_some())
        };
        if needs_files && !self.is_opened() {
            self.ensure_open(&mut self.files())?;
        }
        Ok(())
    }

    /// Walks a segment's file, from about the batch that holds `offset` and the first that reaches
    /// `timestamp_ms`, whichever comes later, until `step` breaks or the part ends. When the very
    /// first batch is not what the index says, the index is rebuilt and the walk begins again.
    pub(crate) fn walk_file(
        &self,
        part: &FilePart,
        offset: Option<Offset>,
        timestamp_ms: Option<i64>,
        chunk_bytes: usize,
        step: &mut dyn FnMut(&mut Walk<'_>) -> Result<ControlFlow<()>, ReadError>,
    ) -> Result<(), ReadError> {
        let file = self
            .open_log(part.id)
            .map_err(|error| self.missing_is_damage(error, part.bytes))?;
        let path = self.log_path(part.id);
        // The last batch before an entry is where the entry after the right one skips something.
        let too_far = i64::from(bugs::is_on(Bug::IndexOffByOne));
        let before = |entry: &IndexEntry| {
            entry.position < part.end_position
                && (offset.is_some_and(|offset| entry.offset <= offset.plus(too_far))
                    || timestamp_ms.is_some_and(|wanted| entry.max_timestamp_before < wanted))
        };
        let mut start = self.locate(part, &before)?;
        loop {
            let mut walk = Walk::new(WalkSpan {
                file: &file,
                path: &path,
                position: start.position,
                offset: start.offset,
                end_position: part.end_position,
                epochs: Some(&part.epochs),
                chunk_bytes,
            });
            loop {
                let position = walk.position();
                match step(&mut walk) {
                    Ok(ControlFlow::Continue(())) => {}
                    Ok(ControlFlow::Break(())) => return Ok(()),
                    Err(ReadError::Corrupt { .. })
                        if position == start.position
                            && position > 0
                            && !self.is_index_rebuilt(part.id) =>
                    {
                        let entries = self.rebuild_index(part.id)?;
                        start = start_in(part, &entries, &before);
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }

    fn is_index_rebuilt(&self, id: SegmentId) -> bool {
        self.memory()
            .segment_in(id)
            .is_none_or(|segment| segment.is_index_rebuilt)
    }

    /// Where to begin a walk so that it meets everything from the last batch `before` on.
    fn locate(
        &self,
        part: &FilePart,
        before: &dyn Fn(&IndexEntry) -> bool,
    ) -> Result<WalkStart, ReadError> {
        let first = WalkStart {
            position: 0,
            offset: part.id.base,
        };
        if part.index_entries == Some(0) {
            return Ok(first);
        }
        match self.search_index(part, before) {
            Ok(found) => Ok(found.map_or(first, WalkStart::from)),
            Err(SearchError::Io(error)) => Err(error),
            Err(SearchError::Damaged) if part.is_index_rebuilt => Ok(first),
            Err(SearchError::Damaged) => {
                let entries = self.rebuild_index(part.id)?;
                Ok(start_in(part, &entries, before))
            }
        }
    }

    fn search_index(
        &self,
        part: &FilePart,
        before: &dyn Fn(&IndexEntry) -> bool,
    ) -> Result<Option<IndexEntry>, SearchError> {
        let is_final = part.is_sealed && (part.is_index_complete || part.index_entries.is_none());
        let opened = self.open_index(part.id, is_final)?;
        let mut bytes = [0; INDEX_ENTRY_BYTES];
        let mut entry = |n: u32| -> Result<IndexEntry, SearchError> {
            let at = INDEX_HEADER_BYTES as u64 + u64::from(n) * INDEX_ENTRY_BYTES as u64;
            match &opened {
                Opened::Map(map) => {
                    let at = usize::try_from(at).map_err(|_| SearchError::Damaged)?;
                    Ok(IndexEntry::decode(
                        map.get(at..).unwrap_or_default(),
                        part.id.base,
                    )?)
                }
                Opened::File(file) => {
                    self.read_index(file, part.id, &mut bytes, at)?;
                    Ok(IndexEntry::decode(&bytes, part.id.base)?)
                }
            }
        };
        let count = match part.index_entries {
            Some(count) => count,
            None => {
                let len = self.index_len(&opened, part.id)?;
                let count =
                    len.saturating_sub(INDEX_HEADER_BYTES as u64) / INDEX_ENTRY_BYTES as u64;
                let count = u32::try_from(count).map_err(|_| SearchError::Damaged)?;
                let last = entry(count.checked_sub(1).ok_or(SearchError::Damaged)?)?;
                if (last.position, last.offset) != (part.bytes, part.end) {
                    return Err(SearchError::Damaged);
                }
                if let Some(segment) = self.memory().segment_in(part.id) {
                    segment.index_entries = Some(count);
                    segment.is_index_complete = true;
                }
                count
            }
        };
        last_before(count, entry, before)
    }

    /// The index of a segment, opened with a good header; mapped when it is never written again.
    fn open_index(&self, id: SegmentId, is_final: bool) -> Result<Opened, SearchError> {
        let core = &self.shared.core;
        let log = self.shared.id;
        let wants_map = is_final && core.config.use_mmap;
        let kind = if wants_map {
            FileKind::MappedIndex
        } else {
            FileKind::Index
        };
        let key = FileKey {
            log,
            segment: id,
            kind,
        };
        if let Some(opened) = core.fd_cache.get(key) {
            return Ok(opened);
        }
        let path = self.index_path(id);
        let stamp = core.fd_cache.stamp();
        let file = match core.disk.open(&path, OpenMode::ReadWrite) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(SearchError::Damaged);
            }
            Err(error) => return Err(ReadError::io(&path, "open", error).into()),
        };
        let mut header = [0; INDEX_HEADER_BYTES];
        self.read_index(&file, id, &mut header, 0)?;
        check_header(&header, id.base)?;
        let map = if wants_map {
            file.map()
                .map_err(|error| ReadError::io(&path, "map", error))?
        } else {
            None
        };
        let opened = map.map_or(Opened::File(file), |map| Opened::Map(Arc::new(map)));
        core.fd_cache.insert(key, opened.clone(), stamp);
        Ok(opened)
    }

    fn read_index(
        &self,
        file: &DiskFile,
        id: SegmentId,
        bytes: &mut [u8],
        position: u64,
    ) -> Result<(), SearchError> {
        match file.read_exact_at(bytes, position) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(SearchError::Damaged)
            }
            Err(error) => Err(ReadError::io(&self.index_path(id), "read", error).into()),
        }
    }

    fn index_len(&self, opened: &Opened, id: SegmentId) -> Result<u64, ReadError> {
        match opened {
            Opened::Map(map) => Ok(map.len() as u64),
            Opened::File(file) => file
                .len()
                .map_err(|error| ReadError::io(&self.index_path(id), "measure", error)),
        }
    }
}

enum SearchError {
    Damaged,
    Io(ReadError),
}

impl From<DamagedIndex> for SearchError {
    fn from(DamagedIndex: DamagedIndex) -> SearchError {
        SearchError::Damaged
    }
}

impl From<ReadError> for SearchError {
    fn from(error: ReadError) -> SearchError {
        SearchError::Io(error)
    }
}

impl From<IndexEntry> for WalkStart {
    fn from(entry: IndexEntry) -> WalkStart {
        WalkStart {
            position: entry.position,
            offset: entry.offset,
        }
    }
}

fn start_in(
    part: &FilePart,
    entries: &[IndexEntry],
    before: &dyn Fn(&IndexEntry) -> bool,
) -> WalkStart {
    let after = entries.partition_point(before);
    let entry = after.checked_sub(1).and_then(|at| entries.get(at)).copied();
    entry.map_or(
        WalkStart {
            position: 0,
            offset: part.id.base,
        },
        WalkStart::from,
    )
}

//! [`FdCache`]: open segment and index files, the most recently used ones.
//!
//! Bounds what partition logs keep open or mapped. A file that someone still uses stays open
//! behind its clone when it leaves the cache; readers hold a few at a time.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::LogId;
use crate::disk::DiskFile;
use crate::partition_log::segment_format::SegmentId;

/// Which file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FileKey {
    pub(crate) log: LogId,
    /// The segment.
    pub(crate) segment: SegmentId,
    pub(crate) kind: FileKind,
}

/// Which of a segment's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FileKind {
    /// Record batches.
    Log,
    /// The sparse index.
    Index,
    /// The sparse index of a sealed segment, mapped.
    MappedIndex,
}

/// Something kept open.
#[derive(Debug, Clone)]
pub(crate) enum Opened {
    File(DiskFile),
    Map(Arc<memmap2::Mmap>),
}

/// The cache. Opening happens outside of its lock.
#[derive(Debug)]
pub(crate) struct FdCache {
    files_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    files: HashMap<FileKey, (Opened, u64)>,
    /// When each was last used, oldest first.
    by_use: BTreeMap<u64, FileKey>,
    uses: u64,
    /// Times that files were forgotten: one opened before that may be another by now.
    forgets: u64,
}

impl FdCache {
    pub(crate) fn new(files_max: usize) -> FdCache {
        FdCache {
            files_max: files_max.max(1),
            state: Mutex::default(),
        }
    }

    pub(crate) fn get(&self, key: FileKey) -> Option<Opened> {
        let mut state = self.state();
        let state = &mut *state;
        let (opened, used) = state.files.get_mut(&key)?;
        state.by_use.remove(used);
        state.uses += 1;
        *used = state.uses;
        state.by_use.insert(state.uses, key);
        Some(opened.clone())
    }

    /// To be taken before a file is opened that is then inserted.
    pub(crate) fn stamp(&self) -> u64 {
        self.state().forgets
    }

    /// Keeps a file, unless any was forgotten since `stamp`: its name may lead elsewhere now.
    pub(crate) fn insert(&self, key: FileKey, opened: Opened, stamp: u64) {
        let mut closing = Vec::new();
        let mut state = self.state();
        if state.forgets != stamp {
            return;
        }
        closing.extend(state.remove(&key));
        while state.files.len() >= self.files_max {
            let Some((_, oldest)) = state.by_use.pop_first() else {
                break;
            };
            closing.extend(state.files.remove(&oldest));
        }
        state.uses += 1;
        let used = state.uses;
        state.by_use.insert(used, key);
        state.files.insert(key, (opened, used));
        drop(state);
        drop(closing);
    }

    pub(crate) fn forget(&self, key: FileKey) {
        let closing = {
            let mut state = self.state();
            state.forgets += 1;
            state.remove(&key)
        };
        drop(closing);
    }

    /// Forgets all files of one segment.
    pub(crate) fn forget_segment(&self, log: LogId, segment: SegmentId) {
        for kind in [FileKind::Log, FileKind::Index, FileKind::MappedIndex] {
            self.forget(FileKey { log, segment, kind });
        }
    }

    pub(crate) fn forget_log(&self, log: LogId) {
        let mut state = self.state();
        state.forgets += 1;
        let keys: Vec<FileKey> = state
            .files
            .keys()
            .filter(|key| key.log == log)
            .copied()
            .collect();
        let closing: Vec<_> = keys.iter().filter_map(|key| state.remove(key)).collect();
        drop(state);
        drop(closing);
    }

    pub(crate) fn clear(&self) {
        let closing = {
            let mut state = self.state();
            let forgets = state.forgets + 1;
            let emptied = State {
                forgets,
                ..State::default()
            };
            std::mem::replace(&mut *state, emptied)
        };
        drop(closing);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.state().files.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nothing panics while it holds the cache")
    }
}

impl State {
    fn remove(&mut self, key: &FileKey) -> Option<(Opened, u64)> {
        let removed = self.files.remove(key)?;
        self.by_use.remove(&removed.1);
        Some(removed)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::disk::{Disk, OpenMode, SimDisk};
    use crate::{Offset, PartitionId, TopicId};

    fn key(n: i64) -> FileKey {
        let partition = PartitionId {
            topic: TopicId([1; 16]),
            index: 0,
        };
        FileKey {
            log: partition.into(),
            segment: Offset(n).into(),
            kind: FileKind::Log,
        }
    }

    fn file() -> Opened {
        let disk = Disk::Sim(SimDisk::new(1));
        Opened::File(disk.open(Path::new("/a"), OpenMode::Create).unwrap())
    }

    #[test]
    fn the_least_recently_used_file_goes_first() {
        let cache = FdCache::new(2);
        cache.insert(key(1), file(), 0);
        cache.insert(key(2), file(), 0);
        assert!(cache.get(key(1)).is_some());
        cache.insert(key(3), file(), 0);
        assert!(cache.get(key(2)).is_none());
        assert!(cache.get(key(1)).is_some() && cache.get(key(3)).is_some());
        assert_eq!(cache.len(), 2);
    }

    #[test]
    fn forgotten_files_are_gone() {
        let cache = FdCache::new(9);
        (0..4).for_each(|n| cache.insert(key(n), file(), 0));
        let stamp = cache.stamp();
        cache.forget_segment(key(0).log, Offset(0).into());
        assert_eq!(cache.len(), 3);
        // Opened before, inserted after: it may be what was forgotten.
        cache.insert(key(0), file(), stamp);
        assert_eq!(cache.len(), 3);
        cache.forget_log(key(0).log);
        assert_eq!(cache.len(), 0);
    }
}

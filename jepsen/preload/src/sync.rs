//! Syncs: what they cover goes to the platter, unless they fail or lie.

use std::collections::HashMap;
use std::ffi::c_int;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use jepsen_control::FileId;
use jepsen_control::control::Word;
use jepsen_control::log::{Event, Fate};
use jepsen_control::names::Node;
use jepsen_control::ranges::Ranges;

use crate::faults::SyncFate;
use crate::files::Tracked;
use crate::state::{Shared, lock};
use crate::sys::{self, Errno, OwnFile};

/// Bytes copied to the platter at a time.
const CHUNK_BYTES: usize = 64 << 10;

impl Shared {
    /// `fsync` and `fdatasync` of what a descriptor leads to; `call` makes it.
    pub(crate) fn sync(
        &self,
        fd: c_int,
        tracked: &'static Tracked,
        call: impl FnOnce() -> c_int,
    ) -> c_int {
        match tracked.file {
            Some(file) => self.sync_file(fd, tracked, file, call),
            None => self.sync_dir(fd, call),
        }
    }

    fn sync_file(
        &self,
        fd: c_int,
        tracked: &Tracked,
        file: FileId,
        call: impl FnOnce() -> c_int,
    ) -> c_int {
        self.count(Word::Syncs);
        match self.sync_fate() {
            SyncFate::Lies => {
                self.has_lied.store(true, Ordering::SeqCst);
                lock(&tracked.unsynced).is_lied = true;
                return 0;
            }
            SyncFate::Fails => {
                let len = self.reach(fd, file);
                let taken = lock(&tracked.unsynced).take(len);
                self.doubt(tracked, file, &taken);
                sys::set_errno(libc::EIO);
                return -1;
            }
            SyncFate::Works => self.settle_lies(),
        }
        let len = self.reach(fd, file);
        let taken = lock(&tracked.unsynced).take(len);
        let result = self.really(call);
        if result < 0 {
            let errno = sys::errno();
            self.doubt(tracked, file, &taken);
            sys::set_errno(errno);
        } else if let Err(errno) = OwnFile::reopen(fd)
            .and_then(|source| self.copy_to_platter(tracked, file, &source, &taken))
        {
            self.trouble(&format!("file {file} cannot be copied: error {errno}"));
        }
        result
    }

    fn sync_dir(&self, fd: c_int, call: impl FnOnce() -> c_int) -> c_int {
        let Some(path) = self.below_fd(fd) else {
            return call();
        };
        self.count(Word::DirSyncs);
        match self.sync_fate() {
            SyncFate::Lies => {
                self.has_lied.store(true, Ordering::SeqCst);
                let mut dirs = lock(&self.lied_dirs);
                if !dirs.contains(&path) {
                    dirs.push(path);
                }
                return 0;
            }
            SyncFate::Fails => {
                sys::set_errno(libc::EIO);
                return -1;
            }
            SyncFate::Works => self.settle_lies(),
        }
        let mut log = lock(&self.names);
        let Some(directory) = log.names.directory(&path) else {
            drop(log);
            self.trouble(&format!("{path} is synced and not known"));
            return call();
        };
        let begun = log.begin(&Event::SyncDirectory { path }, Fate::Open);
        drop(log);
        let result = self.really(call);
        match begun {
            Err(errno) => self.trouble(&format!("a sync is not in the log: error {errno}")),
            Ok(position) if result >= 0 => self.directory_is_synced(directory, position),
            Ok(position) => {
                let errno = sys::errno();
                if lock(&self.names).finish(position, Fate::Failed).is_err() {
                    self.trouble("a failed sync is not settled");
                }
                sys::set_errno(errno);
            }
        }
        result
    }

    /// `syncfs`: all files and all names.
    pub(crate) fn sync_all(&self, call: impl FnOnce() -> c_int) -> c_int {
        self.count(Word::DirSyncs);
        match self.sync_fate() {
            SyncFate::Lies => {
                self.has_lied.store(true, Ordering::SeqCst);
                for tracked in self.all_files() {
                    lock(&tracked.unsynced).is_lied = true;
                }
                let mut dirs = lock(&self.lied_dirs);
                let log = lock(&self.names);
                dirs.clear();
                dirs.push(String::new());
                for (path, node) in log.names.walk() {
                    if let Node::Directory(_) = node {
                        dirs.push(path);
                    }
                }
                return 0;
            }
            SyncFate::Fails => {
                let paths = self.paths();
                for tracked in self.all_files() {
                    let Some(file) = tracked.file else { continue };
                    let len = self.reach_of(&paths, file);
                    let taken = lock(&tracked.unsynced).take(len);
                    self.doubt(tracked, file, &taken);
                }
                sys::set_errno(libc::EIO);
                return -1;
            }
            SyncFate::Works => self.settle_lies(),
        }
        let begun = lock(&self.names).begin(&Event::SyncAll, Fate::Open);
        let paths = self.paths();
        let mut all = Vec::new();
        for tracked in self.all_files() {
            if let Some(file) = tracked.file {
                let len = self.reach_of(&paths, file);
                all.push((tracked, file, lock(&tracked.unsynced).take(len)));
            }
        }
        let result = self.really(call);
        if result < 0 {
            let errno = sys::errno();
            for (tracked, file, taken) in all {
                self.doubt(tracked, file, &taken);
            }
            sys::set_errno(errno);
            return result;
        }
        for (tracked, file, taken) in all {
            self.copy_by_path(&paths, tracked, file, &taken);
        }
        let mut log = lock(&self.names);
        match begun.and_then(|position| log.finish(position, Fate::Done).map(|()| position)) {
            Ok(position) => {
                log.names.apply(position, &Event::SyncAll);
                self.forget_unnamed(&mut log);
            }
            Err(errno) => self.trouble(&format!("a sync is not in the log: error {errno}")),
        }
        result
    }

    /// What a disk that lied has by now, once it does its work again.
    fn settle_lies(&self) {
        if !self.has_lied.swap(false, Ordering::SeqCst) {
            return;
        }
        let paths = self.paths();
        for tracked in self.all_files() {
            let Some(file) = tracked.file else { continue };
            let len = self.reach_of(&paths, file);
            let taken = {
                let mut unsynced = lock(&tracked.unsynced);
                if !std::mem::take(&mut unsynced.is_lied) {
                    continue;
                }
                unsynced.take(len)
            };
            self.copy_by_path(&paths, tracked, file, &taken);
        }
        let dirs = std::mem::take(&mut *lock(&self.lied_dirs));
        for path in dirs {
            let mut log = lock(&self.names);
            let event = Event::SyncDirectory { path };
            if let Event::SyncDirectory { path } = &event
                && log.names.directory(path).is_none()
            {
                continue;
            }
            match log.begin(&event, Fate::Done) {
                Ok(position) => {
                    log.names.apply(position, &event);
                    self.forget_unnamed(&mut log);
                }
                Err(errno) => self.trouble(&format!("a sync is not in the log: error {errno}")),
            }
        }
    }

    fn really(&self, call: impl FnOnce() -> c_int) -> c_int {
        if self.setting(Word::SyncsNotReal) == 1 {
            0
        } else {
            call()
        }
    }

    fn all_files(&self) -> Vec<&'static Tracked> {
        lock(&self.files).values().copied().collect()
    }

    /// Where each file is.
    fn paths(&self) -> HashMap<FileId, PathBuf> {
        let log = lock(&self.names);
        let mut paths: HashMap<FileId, PathBuf> = log
            .names
            .unnamed()
            .into_iter()
            .map(|file| (file, self.side.kept(file)))
            .collect();
        for (path, node) in log.names.walk() {
            if let Node::File(file) = node {
                paths.insert(file, self.dir.join(path));
            }
        }
        paths
    }

    /// Up to where the bytes of a file and of its platter may differ.
    fn reach(&self, fd: c_int, file: FileId) -> u64 {
        let platter = sys::stat_path(&self.side.platter(file)).map_or(0, |stat| stat.len);
        sys::stat_fd(fd).map_or(platter, |stat| stat.len.max(platter))
    }

    fn reach_of(&self, paths: &HashMap<FileId, PathBuf>, file: FileId) -> u64 {
        let platter = sys::stat_path(&self.side.platter(file)).map_or(0, |stat| stat.len);
        paths
            .get(&file)
            .and_then(|path| sys::stat_path(path).ok())
            .map_or(platter, |stat| stat.len.max(platter))
    }

    /// These sectors are marked clean and may never have reached the disk.
    fn doubt(&self, tracked: &Tracked, file: FileId, taken: &Ranges) {
        for (start, end) in taken.iter() {
            self.tell_log(&Event::Doubt { file, start, end });
        }
        let mut unsynced = lock(&tracked.unsynced);
        // What was written again since then is dirty, and not in doubt.
        let rewritten = unsynced.dirty.clone();
        unsynced.doubtful.add_all(taken);
        for (start, end) in rewritten.iter() {
            if unsynced.doubtful.remove(start, end) {
                self.tell_log(&Event::Trust { file, start, end });
            }
        }
    }

    fn copy_by_path(
        &self,
        paths: &HashMap<FileId, PathBuf>,
        tracked: &Tracked,
        file: FileId,
        taken: &Ranges,
    ) {
        let copied = match paths.get(&file) {
            Some(path) => OwnFile::open(path, libc::O_RDONLY)
                .and_then(|source| self.copy_to_platter(tracked, file, &source, taken)),
            None => Err(libc::ENOENT),
        };
        if let Err(errno) = copied
            && !tracked.is_gone.load(Ordering::Relaxed)
        {
            self.trouble(&format!("file {file} cannot be copied: error {errno}"));
        }
    }

    /// Brings sectors and the length of a file to its platter.
    fn copy_to_platter(
        &self,
        tracked: &Tracked,
        file: FileId,
        source: &OwnFile,
        taken: &Ranges,
    ) -> Result<(), Errno> {
        // Nobody writes meanwhile, so that no sector is copied while it is half written.
        let mut unsynced = lock(&tracked.unsynced);
        unsynced.is_lied = false;
        if tracked.is_gone.load(Ordering::Relaxed) {
            return Ok(());
        }
        let len = source.len()?;
        let platter = OwnFile::open(&self.side.platter(file), libc::O_RDWR | libc::O_CREAT)?;
        if platter.len()? > len {
            platter.set_len(len)?;
        }
        let mut buffer = vec![0; CHUNK_BYTES];
        for (start, end) in taken.iter() {
            let end = end.min(len);
            let mut position = start;
            while position < end {
                let want = usize::try_from(end - position)
                    .unwrap_or(CHUNK_BYTES)
                    .min(CHUNK_BYTES);
                let count = source.read_at(&mut buffer[..want], position)?;
                if count == 0 {
                    return Err(libc::EIO);
                }
                let bytes = &buffer[..count];
                if bytes.iter().all(|byte| *byte == 0) {
                    platter.punch(position, count as u64)?;
                } else {
                    platter.write_all_at(bytes, position)?;
                }
                position += count as u64;
            }
        }
        if platter.len()? != len {
            platter.set_len(len)?;
        }
        Ok(())
    }
}

//! The journal's files: the spare ones ahead of need, their recycling, and the thread that does
//! both, so that the flusher never waits for either as long as there is space.
//!
//! A file in use is named `<sequence>.journal` and has a durable header before that name. Anything
//! named `.spare` is raw material whose bytes mean nothing. Files are taken out of use oldest
//! first, each durably before the next, so those in use always follow one another without a gap.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::format::{self, FileIdentity};
use super::{JournalConfig, JournalError};
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::turns::Condvar;

const IN_USE_SUFFIX: &str = ".journal";
const SPARE_SUFFIX: &str = ".spare";
/// How long to wait before trying again to make a spare file.
const RETRY: Duration = Duration::from_millis(200);
/// Zeros are written and synced this many bytes at a time, so that they hardly delay the flusher.
const FILL_BYTES: u64 = 2 << 20;
/// A small file kept so that a node can start on a full disk, where everything else depends on it.
const RESERVE_NAME: &str = "reserve.spare";
/// The reserve is this part of a file, but not less than [`RESERVE_BYTES_MIN`].
const RESERVE_DIVISOR: u64 = 64;
const RESERVE_BYTES_MIN: u64 = 8 << 10;

/// An open file of the journal.
#[derive(Debug, Clone)]
pub(super) struct JournalFile {
    pub(super) identity: FileIdentity,
    pub(super) path: PathBuf,
    pub(super) file: DiskFile,
    /// Bytes reserved for it.
    pub(super) len: u64,
}

/// What a name in the journal's directory stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NameKind {
    InUse { sequence: u64 },
    Spare,
    Reserve,
    Foreign,
}

/// What a name stands for, and the number in it.
pub(super) fn name_kind(name: &str) -> (NameKind, Option<u64>) {
    if name == RESERVE_NAME {
        return (NameKind::Reserve, None);
    }
    let number = |digits: &str| (digits.len() == 20).then(|| digits.parse().ok()).flatten();
    if let Some(digits) = name.strip_suffix(SPARE_SUFFIX) {
        return (NameKind::Spare, number(digits));
    }
    match name.strip_suffix(IN_USE_SUFFIX).and_then(number) {
        Some(sequence) => (NameKind::InUse { sequence }, Some(sequence)),
        None => (NameKind::Foreign, None),
    }
}

fn in_use_path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence:020}{IN_USE_SUFFIX}"))
}

fn spare_path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence:020}{SPARE_SUFFIX}"))
}

/// A file to be made into a spare one: its bytes up to `written_to` have been written before.
#[derive(Debug)]
struct Raw {
    path: PathBuf,
    written_to: u64,
}

/// A file out of use that still has its name, and the one it gets.
#[derive(Debug)]
struct Retired {
    path: PathBuf,
    spare_path: PathBuf,
    written_to: u64,
}

#[derive(Debug)]
struct Spare {
    file: JournalFile,
    written_to: u64,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<Spare>,
    raw: Vec<Raw>,
    /// Files out of use, oldest first.
    retired: VecDeque<Retired>,
    /// Above every number that any file has had.
    next_number: u64,
    has_reserve: bool,
    /// The flusher waits for a file.
    is_wanted: bool,
    /// A spare is out of `ready` while zeros are written to it. Later ones must not overtake it.
    is_filling: bool,
    /// It is time to write zeros to the spares.
    fill_due: bool,
    /// Why the last attempt to make or recycle a file failed.
    error: Option<JournalError>,
    /// The flusher is to give up rather than wait for space.
    closing: bool,
    /// The spares thread is to end.
    stopped: bool,
}

impl State {
    /// A number that no file has had: names never collide, and later files have higher ones.
    fn take_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number - 1
    }

    fn retired(&mut self, dir: &Path, path: PathBuf, written_to: u64) -> Retired {
        Retired {
            path,
            spare_path: spare_path(dir, self.take_number()),
            written_to,
        }
    }
}

/// The spare files. Shared by the flusher and the spares thread.
#[derive(Debug)]
pub(super) struct Pool {
    disk: Disk,
    config: JournalConfig,
    state: Mutex<State>,
    changed: Condvar,
    short_of_space: AtomicBool,
}

impl Pool {
    /// A pool that may use the given `.spare` files and numbers from `next_number` on.
    pub(super) fn new(
        disk: Disk,
        config: JournalConfig,
        spares: Vec<PathBuf>,
        has_reserve: bool,
        next_number: u64,
    ) -> Pool {
        let raw = spares
            .into_iter()
            .map(|path| Raw {
                path,
                written_to: 0,
            })
            .collect();
        Pool {
            disk,
            config,
            state: Mutex::new(State {
                raw,
                next_number,
                has_reserve,
                ..State::default()
            }),
            changed: Condvar::new(),
            short_of_space: AtomicBool::new(false),
        }
    }

    pub(super) fn is_short_of_space(&self) -> bool {
        self.short_of_space.load(Ordering::Relaxed)
    }

    /// Adds a `.spare` file.
    pub(super) fn add_raw(&self, path: PathBuf) {
        self.lock().raw.push(Raw {
            path,
            written_to: 0,
        });
    }

    /// Makes the first file in use, on the caller's thread. On a full disk it may be a small one,
    /// in the end the reserve.
    pub(super) fn first_file(&self) -> Result<JournalFile, JournalError> {
        let mut bytes = self.config.file_bytes;
        loop {
            let raw = self.lock().raw.pop();
            let error = match self.prepare(raw, bytes) {
                Ok(spare) => return self.put_in_use(spare),
                Err(error) => error,
            };
            if !is_short_of_space(&error) {
                return Err(error);
            }
            if bytes / 2 >= self.reserve_bytes() {
                bytes /= 2;
            } else if std::mem::take(&mut self.lock().has_reserve) {
                tracing::warn!("journal starts in its reserve, for there is no other space");
                self.add_raw(self.config.dir.join(RESERVE_NAME));
                bytes = self.reserve_bytes();
            } else {
                return Err(error);
            }
        }
    }

    fn reserve_bytes(&self) -> u64 {
        (self.config.file_bytes / RESERVE_DIVISOR)
            .max(RESERVE_BYTES_MIN)
            .min(self.config.file_bytes)
    }

    /// The next file in use. Waits while there is no space for one, unless the journal closes.
    pub(super) fn next_file(&self) -> Result<JournalFile, JournalError> {
        let mut state = self.lock();
        state.is_wanted = true;
        self.changed.notify_all();
        let spare = loop {
            if !state.is_filling
                && let Some(spare) = state.ready.pop_front()
            {
                break Ok(spare);
            }
            if let Some(error) = &state.error
                && (state.closing || !is_short_of_space(error))
            {
                break Err(error.clone());
            }
            if state.stopped {
                break Err(JournalError::Closed);
            }
            state = self
                .changed
                .wait(&self.state, state)
                .unwrap_or_else(PoisonError::into_inner);
        };
        state.is_wanted = false;
        state.fill_due = false;
        drop(state);
        self.changed.notify_all();
        self.put_in_use(spare?)
    }

    /// Makes a file in use longer, for a round that fits no ordinary one. Waits like `next_file`.
    pub(super) fn extend(&self, file: &mut JournalFile, len: u64) -> Result<(), JournalError> {
        loop {
            let result = file.file.allocate(0, len);
            let error = match result.map_err(JournalError::io("reserve space for", &file.path)) {
                Ok(()) => {
                    file.len = len;
                    return Ok(());
                }
                Err(error) => error,
            };
            let state = self.lock();
            if state.closing || !is_short_of_space(&error) {
                return Err(error);
            }
            self.short_of_space.store(true, Ordering::Relaxed);
            drop(
                self.changed
                    .wait_timeout(&self.state, state, RETRY)
                    .unwrap_or_else(PoisonError::into_inner),
            );
        }
    }

    /// Gives back files that are out of use, oldest first. `used_bytes` of each were written.
    pub(super) fn retire(&self, files: impl IntoIterator<Item = (PathBuf, u64)>) {
        let mut state = self.lock();
        for (path, written_to) in files {
            let retired = state.retired(&self.config.dir, path, written_to);
            state.retired.push_back(retired);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Says that the next file will be needed in a while: time to write zeros to it.
    pub(super) fn fill(&self) {
        self.lock().fill_due = true;
        self.changed.notify_all();
    }

    /// From now on nobody waits for space: what needs it fails.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.changed.notify_all();
    }

    /// Ends the spares thread, once the flusher is gone.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    /// The spares thread.
    pub(super) fn run(&self) {
        while let Some(job) = self.next_job() {
            let result = match job {
                Job::Recycle(retired) => self.recycle(retired),
                Job::Prepare(raw) => self.make_ready(raw),
                Job::Remove(raw) => self.remove(&raw.path),
                Job::Reserve => self.make_reserve(),
                Job::Fill(spare) => self.fill_some(spare),
            };
            let Err(error) = result else {
                continue;
            };
            tracing::debug!(%error, "journal cannot prepare a file, trying again");
            let state = self.lock();
            if !state.stopped {
                let waited = self.changed.wait_timeout(&self.state, state, RETRY);
                drop(waited.unwrap_or_else(PoisonError::into_inner));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_job(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return None;
            }
            if let Some(retired) = state.retired.pop_front() {
                return Some(Job::Recycle(retired));
            }
            if state.ready.len() < self.config.spare_files.max(usize::from(state.is_wanted)) {
                return Some(Job::Prepare(state.raw.pop()));
            }
            if let Some(raw) = state.raw.pop() {
                return Some(Job::Remove(raw));
            }
            if !state.has_reserve {
                return Some(Job::Reserve);
            }
            if state.fill_due {
                let unwritten = state
                    .ready
                    .iter()
                    .position(|spare| spare.written_to < spare.file.len);
                if let Some(spare) = unwritten.and_then(|at| state.ready.remove(at)) {
                    state.is_filling = true;
                    return Some(Job::Fill(spare));
                }
                state.fill_due = false;
            }
            state = self
                .changed
                .wait(&self.state, state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes a file's old name away, durably, before anything else happens to it or to the next.
    fn recycle(&self, retired: Retired) -> Result<(), JournalError> {
        let result = self.rename_retired(&retired);
        let mut state = self.lock();
        match result {
            Ok(()) => {
                let Retired {
                    spare_path,
                    written_to,
                    ..
                } = retired;
                state.raw.push(Raw {
                    path: spare_path,
                    written_to,
                });
                state.error = None;
                Ok(())
            }
            Err(error) => {
                state.retired.push_front(retired);
                state.error = Some(error.clone());
                drop(state);
                self.changed.notify_all();
                Err(error)
            }
        }
    }

    fn rename_retired(&self, retired: &Retired) -> Result<(), JournalError> {
        let Retired {
            path, spare_path, ..
        } = retired;
        // A second attempt may find it renamed already, but not durably.
        if self
            .disk
            .exists(path)
            .map_err(JournalError::io("look up", path))?
        {
            self.disk
                .rename(path, spare_path)
                .map_err(JournalError::io("rename", path))?;
        }
        self.sync_dir()
    }

    /// Makes a file in use that holds nothing into a spare one, on the caller's thread.
    pub(super) fn take_out_of_use(&self, path: PathBuf) -> Result<(), JournalError> {
        let retired = self.lock().retired(&self.config.dir, path, 0);
        self.rename_retired(&retired)?;
        self.lock().raw.push(Raw {
            path: retired.spare_path,
            written_to: 0,
        });
        Ok(())
    }

    fn make_ready(&self, raw: Option<Raw>) -> Result<(), JournalError> {
        let result = self.prepare(raw, self.config.file_bytes);
        let was_short = self.short_of_space.swap(result.is_err(), Ordering::Relaxed);
        let mut state = self.lock();
        let result = match result {
            Ok(spare) => {
                state.ready.push_back(spare);
                state.error = None;
                Ok(())
            }
            Err(error) => {
                state.error = Some(error.clone());
                Err(error)
            }
        };
        drop(state);
        self.changed.notify_all();
        match &result {
            Ok(()) if was_short => tracing::info!("journal has space again"),
            Err(error) if !was_short => {
                tracing::warn!(%error, "journal has no space for a spare file, refusing new data");
            }
            _ => {}
        }
        result
    }

    /// Makes a file of `bytes` with a fresh header, durable but for its name. For want of space a
    /// raw file stays for another attempt; else what failed is removed.
    fn prepare(&self, raw: Option<Raw>, bytes: u64) -> Result<Spare, JournalError> {
        let sequence = self.lock().take_number();
        let mode = if raw.is_some() {
            OpenMode::ReadWrite
        } else {
            OpenMode::CreateNew
        };
        let path = spare_path(&self.config.dir, sequence);
        let raw = raw.unwrap_or(Raw {
            path,
            written_to: 0,
        });
        let salt = RandomState::new().hash_one((sequence, &raw.path));
        let identity = FileIdentity { sequence, salt };
        match self.write_header(&raw.path, mode, identity, bytes) {
            Ok(file) => Ok(Spare {
                written_to: raw
                    .written_to
                    .clamp(format::FILE_HEADER_BYTES as u64, bytes),
                file: JournalFile {
                    identity,
                    path: raw.path,
                    file,
                    len: bytes,
                },
            }),
            Err(error) => {
                if mode == OpenMode::ReadWrite && is_short_of_space(&error) {
                    self.lock().raw.push(raw);
                } else if let Err(removal) = self.remove(&raw.path) {
                    tracing::debug!(%removal, "journal leaves an unfinished spare file");
                }
                Err(error)
            }
        }
    }

    fn write_header(
        &self,
        path: &Path,
        mode: OpenMode,
        identity: FileIdentity,
        bytes: u64,
    ) -> Result<DiskFile, JournalError> {
        let file = self
            .disk
            .open(path, mode)
            .map_err(JournalError::io("open", path))?;
        if file.len().map_err(JournalError::io("look up", path))? > bytes {
            file.set_len(bytes)
                .map_err(JournalError::io("shorten", path))?;
        }
        file.allocate(0, bytes)
            .map_err(JournalError::io("reserve space for", path))?;
        file.write_all_at(&format::encode_file_header(identity, bytes), 0)
            .map_err(JournalError::io("write", path))?;
        file.sync_data().map_err(JournalError::io("sync", path))?;
        Ok(file)
    }

    fn make_reserve(&self) -> Result<(), JournalError> {
        let path = self.config.dir.join(RESERVE_NAME);
        let file = self
            .disk
            .open(&path, OpenMode::Create)
            .map_err(JournalError::io("open", &path))?;
        file.allocate(0, self.reserve_bytes())
            .map_err(JournalError::io("reserve space for", &path))?;
        self.lock().has_reserve = true;
        Ok(())
    }

    fn put_in_use(&self, spare: Spare) -> Result<JournalFile, JournalError> {
        let mut file = spare.file;
        let path = in_use_path(&self.config.dir, file.identity.sequence);
        self.disk
            .rename(&file.path, &path)
            .map_err(JournalError::io("rename", &file.path))?;
        self.sync_dir()?;
        file.path = path;
        Ok(file)
    }

    fn remove(&self, path: &Path) -> Result<(), JournalError> {
        match self.disk.remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(JournalError::io("remove", path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Writes some zeros and puts the spare back. A file that cannot be filled is used as it is:
    /// a real fault shows again when it counts.
    fn fill_some(&self, mut spare: Spare) -> Result<(), JournalError> {
        let file = &spare.file;
        let end = file.len.min(spare.written_to + FILL_BYTES);
        let zeros = Bytes::from(vec![
            0;
            usize::try_from(end - spare.written_to).unwrap_or(0)
        ]);
        let result = file
            .file
            .write_vectored_all_at(&[zeros], spare.written_to)
            .and_then(|()| file.file.sync_data());
        let result = result.map_err(JournalError::io("fill", &file.path));
        spare.written_to = if result.is_ok() { end } else { file.len };
        let mut state = self.lock();
        let sequence = spare.file.identity.sequence;
        let at = state
            .ready
            .partition_point(|it| it.file.identity.sequence < sequence);
        state.ready.insert(at, spare);
        state.is_filling = false;
        self.changed.notify_all();
        result
    }

    fn sync_dir(&self) -> Result<(), JournalError> {
        let dir = &self.config.dir;
        self.disk
            .sync_dir(dir)
            .map_err(JournalError::io("sync", dir))
    }
}

/// What the spares thread does next.
enum Job {
    Recycle(Retired),
    Prepare(Option<Raw>),
    Remove(Raw),
    Reserve,
    Fill(Spare),
}

pub(super) fn is_short_of_space(error: &JournalError) -> bool {
    matches!(error, JournalError::Io { source, .. }
        if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
}

//! The disk as the rest of the crate sees it: the machine's files, or a simulated disk that can
//! lose power, run full, fail a sync and flip bits.
//!
//! A plain value rather than a type parameter, so that nothing above it is generic. Nothing else
//! in the workspace may name `std::fs`. Every call may block; none retries a failed sync. Creating,
//! renaming and removing a name is durable only once [`Disk::sync_dir`] ran on its directory.

mod mmap;
mod real;
mod sim;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::bugs::{self, Bug};

pub use sim::{OpKind, SimDisk};

/// Which disk to use. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Disk {
    /// The machine's file system.
    Real,
    /// A disk in memory, shared by all clones, for tests.
    Sim(SimDisk),
}

/// How [`Disk::open`] opens a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// For reading; the file must exist.
    Read,
    /// For reading and writing; the file must exist.
    ReadWrite,
    /// For reading and writing; made empty when absent, kept as it is otherwise.
    Create,
    /// For reading and writing; refused when the name is taken.
    CreateNew,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The last component of the path.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
}

impl Disk {
    /// Opens a file.
    pub fn open(&self, path: &Path, mode: OpenMode) -> io::Result<DiskFile> {
        Ok(match self {
            Disk::Real => DiskFile {
                handle: Handle::Real(Arc::new(real::open(path, mode)?)),
            },
            Disk::Sim(sim) => DiskFile {
                handle: Handle::Sim(Arc::new(sim.open(path, mode)?)),
            },
        })
    }

    /// Makes a directory and those above it. Their names are not synced.
    pub fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        match self {
            Disk::Real => real::create_dir_all(path),
            Disk::Sim(sim) => sim.create_dir_all(path),
        }
    }

    /// The names in a directory, sorted.
    pub fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = match self {
            Disk::Real => real::read_dir(path)?,
            Disk::Sim(sim) => sim.read_dir(path)?,
        };
        entries.sort();
        Ok(entries)
    }

    /// Renames a file or directory, replacing a file of the new name atomically.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        match self {
            Disk::Real => real::rename(from, to),
            Disk::Sim(sim) => sim.rename(from, to),
        }
    }

    /// Removes a file's name. Files already open stay readable.
    pub fn remove_file(&self, path: &Path) -> io::Result<()> {
        match self {
            Disk::Real => real::remove_file(path),
            Disk::Sim(sim) => sim.remove_file(path),
        }
    }

    /// Removes a directory with everything in it.
    pub fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        match self {
            Disk::Real => real::remove_dir_all(path),
            Disk::Sim(sim) => sim.remove_dir_all(path),
        }
    }

    /// Makes the names in a directory durable.
    pub fn sync_dir(&self, path: &Path) -> io::Result<()> {
        match self {
            Disk::Real => real::sync_dir(path),
            Disk::Sim(sim) => sim.sync_dir(path),
        }
    }

    /// What differs between two boots of the machine, between which unsynced writes may be lost.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn boot_id(&self) -> io::Result<String> {
        match self {
            Disk::Real => real::boot_id(),
            Disk::Sim(sim) => Ok(format!("power-cut-{}", sim.power_cuts())),
        }
    }

    /// Whether [`Disk::sync_file_system`] can be used.
    #[must_use]
    pub fn can_sync_file_system(&self) -> bool {
        matches!(self, Disk::Real)
    }

    /// Makes everything durable that the file system holding `path` has, names included.
    pub fn sync_file_system(&self, path: &Path) -> io::Result<()> {
        match self {
            Disk::Real => real::sync_file_system(path),
            Disk::Sim(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Whether anything has this name.
    pub fn exists(&self, path: &Path) -> io::Result<bool> {
        match self {
            Disk::Real => path.try_exists(),
            Disk::Sim(sim) => sim.exists(path),
        }
    }

    /// Bytes that may still be written to the file system that holds `path`.
    pub fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        match self {
            Disk::Real => real::free_bytes(path),
            Disk::Sim(sim) => sim.free_bytes(),
        }
    }

    /// Bytes of the file system that holds `path`: in all, and those that may still be written.
    pub fn space(&self, path: &Path) -> io::Result<(u64, u64)> {
        match self {
            Disk::Real => real::space(path),
            Disk::Sim(sim) => sim.space(),
        }
    }

    /// The whole of a file.
    pub fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, OpenMode::Read)?;
        let len = usize::try_from(file.len()?).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Replaces a file by `bytes`, so that after a crash it holds the old bytes or the new, whole.
    /// Durable on return. Uses the name `<path>.tmp`.
    pub fn write_file_atomic(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        let file = self.open(&temporary, OpenMode::Create)?;
        file.set_len(0)?;
        file.write_all_at(bytes, 0)?;
        file.sync_data()?;
        drop(file);
        self.rename(&temporary, path)?;
        if bugs::is_on(Bug::RenameNotSynced) {
            return Ok(());
        }
        self.sync_dir(path.parent().unwrap_or(Path::new(".")))
    }
}

/// An open file. Clones share it; it closes (and gives its lock back) with the last of them.
#[derive(Clone, Debug)]
pub struct DiskFile {
    handle: Handle,
}

#[derive(Clone, Debug)]
enum Handle {
    Real(Arc<real::RealFile>),
    Sim(Arc<sim::SimFile>),
}

impl DiskFile {
    /// Reads at most `buffer.len()` bytes; 0 only at the end of the file.
    pub fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        match &self.handle {
            Handle::Real(file) => file.read_at(buffer, position),
            Handle::Sim(file) => file.read_at(buffer, position),
        }
    }

    /// Fills `buffer`, or errs with `UnexpectedEof`.
    pub fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_at(&mut buffer[filled..], position + filled as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes all of `bytes`; part of them may be written when it errs.
    pub fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        match &self.handle {
            Handle::Real(file) => file.write_all_at(bytes, position),
            Handle::Sim(file) => file.write_all_at(bytes, position),
        }
    }

    /// Writes all pieces, one behind the other, in as few calls as the system allows.
    pub fn write_vectored_all_at(&self, pieces: &[Bytes], position: u64) -> io::Result<()> {
        match &self.handle {
            Handle::Real(file) => file.write_vectored_all_at(pieces, position),
            Handle::Sim(file) => file.write_all_at(&pieces.concat(), position),
        }
    }

    /// Makes the file's bytes and length durable. After an error what was written since the last
    /// good sync is in doubt for ever: a second sync proves nothing.
    pub fn sync_data(&self) -> io::Result<()> {
        match &self.handle {
            Handle::Real(file) => file.sync_data(),
            Handle::Sim(file) => file.sync_data(),
        }
    }

    /// Cuts the file, or extends it by a hole that reads as zeros.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        match &self.handle {
            Handle::Real(file) => file.set_len(len),
            Handle::Sim(file) => file.set_len(len),
        }
    }

    /// Length in bytes.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a file's length is asked for by errors too"
    )]
    pub fn len(&self) -> io::Result<u64> {
        match &self.handle {
            Handle::Real(file) => file.len(),
            Handle::Sim(file) => file.len(),
        }
    }

    /// Reserves space for a range, extending the file when the range ends beyond it.
    pub fn allocate(&self, position: u64, len: u64) -> io::Result<()> {
        match &self.handle {
            Handle::Real(file) => file.allocate(position, len),
            Handle::Sim(file) => file.allocate(position, len),
        }
    }

    /// Takes the file's lock for this process; false when another holds it.
    pub fn try_lock_exclusive(&self) -> io::Result<bool> {
        match &self.handle {
            Handle::Real(file) => file.try_lock_exclusive(),
            Handle::Sim(file) => file.try_lock_exclusive(),
        }
    }

    /// Maps the whole file read-only; `None` on a simulated disk, where callers read instead.
    /// The file must never be cut while the mapping lives.
    #[cfg_attr(not(test), allow(dead_code, reason = "for sealed segments"))]
    pub(crate) fn map(&self) -> io::Result<Option<memmap2::Mmap>> {
        match &self.handle {
            Handle::Real(file) => mmap::map(file).map(Some),
            Handle::Sim(_) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests;

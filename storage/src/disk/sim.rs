//! placeholder
use std::io;
use std::path::Path;

use super::{DirEntry, OpenMode};

/// A disk in memory.
#[derive(Clone, Debug)]
pub struct SimDisk;
/// Kinds of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpKind {
    /// A write.
    Write,
}
#[derive(Debug)]
pub(super) struct SimFile;
fn no<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}
#[expect(unused_variables, clippy::unused_self, reason = "placeholder")]
impl SimDisk {
    pub(super) fn open(&self, path: &Path, mode: OpenMode) -> io::Result<SimFile> {
        no()
    }
    pub(super) fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        no()
    }
    pub(super) fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        no()
    }
    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        no()
    }
    pub(super) fn remove_file(&self, path: &Path) -> io::Result<()> {
        no()
    }
    pub(super) fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        no()
    }
    pub(super) fn sync_dir(&self, path: &Path) -> io::Result<()> {
        no()
    }
    pub(super) fn exists(&self, path: &Path) -> io::Result<bool> {
        no()
    }
    pub(super) fn free_bytes(&self) -> io::Result<u64> {
        no()
    }
}
#[expect(unused_variables, clippy::unused_self, reason = "placeholder")]
impl SimFile {
    pub(super) fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        no()
    }
    pub(super) fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        no()
    }
    pub(super) fn sync_data(&self) -> io::Result<()> {
        no()
    }
    pub(super) fn set_len(&self, len: u64) -> io::Result<()> {
        no()
    }
    pub(super) fn len(&self) -> io::Result<u64> {
        no()
    }
    pub(super) fn allocate(&self, position: u64, len: u64) -> io::Result<()> {
        no()
    }
    pub(super) fn try_lock_exclusive(&self) -> io::Result<bool> {
        no()
    }
}

//! The machine's files: thin, synchronous calls into the operating system (Linux).
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "this is the one place that touches files"
)]

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;

use super::{DirEntry, OpenMode};

/// Pieces given to one `pwritev`; Linux takes at most 1024 (`IOV_MAX`).
const SLICES_PER_WRITE_MAX: usize = 1024;

#[derive(Debug)]
pub(super) struct RealFile {
    file: File,
}

pub(super) fn open(path: &Path, mode: OpenMode) -> io::Result<RealFile> {
    let mut options = OpenOptions::new();
    options.read(true);
    match mode {
        OpenMode::Read => &mut options,
        OpenMode::ReadWrite => options.write(true),
        OpenMode::Create => options.write(true).create(true),
        OpenMode::CreateNew => options.write(true).create_new(true),
    };
    Ok(RealFile {
        file: options.open(path)?,
    })
}

/// Where Linux says which boot this is.
const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";

pub(super) fn boot_id() -> io::Result<String> {
    let text = fs::read_to_string(BOOT_ID_FILE)?;
    match text.trim() {
        "" => Err(io::ErrorKind::UnexpectedEof.into()),
        id => Ok(id.to_owned()),
    }
}

pub(super) fn create_dir_all(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

pub(super) fn read_dir(path: &Path) -> io::Result<Vec<DirEntry>> {
    fs::read_dir(path)?
        .map(|entry| {
            let entry = entry?;
            Ok(DirEntry {
                name: entry.file_name().to_string_lossy().into_owned(),
                is_dir: entry.file_type()?.is_dir(),
            })
        })
        .collect()
}

pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)
}

pub(super) fn remove_file(path: &Path) -> io::Result<()> {
    fs::remove_file(path)
}

pub(super) fn remove_dir_all(path: &Path) -> io::Result<()> {
    fs::remove_dir_all(path)
}

pub(super) fn sync_file_system(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(path)?)?)
}

pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    File::open(path)?.sync_all()
}

pub(super) fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

pub(super) fn space(path: &Path) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::statvfs(path)?;
    Ok((
        stat.f_blocks.saturating_mul(stat.f_frsize),
        stat.f_bavail.saturating_mul(stat.f_frsize),
    ))
}

impl RealFile {
    pub(super) fn std_file(&self) -> &File {
        &self.file
    }

    pub(super) fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buffer, position)
    }

    pub(super) fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, position)
    }

    pub(super) fn write_vectored_all_at(
        &self,
        pieces: &[Bytes],
        mut position: u64,
    ) -> io::Result<()> {
        for chunk in pieces.chunks(SLICES_PER_WRITE_MAX) {
            let mut slices: Vec<IoSlice<'_>> =
                chunk.iter().map(|piece| IoSlice::new(piece)).collect();
            let mut rest = slices.as_mut_slice();
            // Drops leading empty pieces, so that a write of 0 bytes means trouble.
            IoSlice::advance_slices(&mut rest, 0);
            while !rest.is_empty() {
                let written = match rustix::io::pwritev(&self.file, rest, position) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(written) => written,
                    Err(rustix::io::Errno::INTR) => continue,
                    Err(error) => return Err(error.into()),
                };
                position += written as u64;
                IoSlice::advance_slices(&mut rest, written);
            }
        }
        Ok(())
    }

    pub(super) fn sync_data(&self) -> io::Result<()> {
        // Not `File::sync_data`: that one starts over on EINTR, and a failed sync is never retried.
        Ok(rustix::fs::fdatasync(&self.file)?)
    }

    pub(super) fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    pub(super) fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    pub(super) fn allocate(&self, position: u64, len: u64) -> io::Result<()> {
        loop {
            match rustix::fs::fallocate(
                &self.file,
                rustix::fs::FallocateFlags::empty(),
                position,
                len,
            ) {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                // The file system can't reserve; the writes themselves will find the space or not.
                Err(rustix::io::Errno::OPNOTSUPP) => {
                    return if self.len()? < position + len {
                        self.set_len(position + len)
                    } else {
                        Ok(())
                    };
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(super) fn try_lock_exclusive(&self) -> io::Result<bool> {
        match self.file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

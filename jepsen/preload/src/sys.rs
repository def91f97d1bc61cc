//! System calls, made without libc's functions, which this library has replaced.
//!
//! Those for the node return what the node gets, -1 and `errno` on failure; those for the library's
//! own files return an error number.

use std::ffi::{CStr, CString, c_int, c_long, c_uint};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// An error number.
pub(crate) type Errno = c_int;

pub(crate) const CWD: c_int = libc::AT_FDCWD;

/// Sets `errno`, for a call that returns -1.
pub(crate) fn set_errno(errno: Errno) {
    // SAFETY: libc's own thread-local number, always there.
    unsafe { *libc::__errno_location() = errno };
}

pub(crate) fn errno() -> Errno {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() }
}

fn checked(result: c_long) -> Result<c_long, Errno> {
    if result < 0 { Err(errno()) } else { Ok(result) }
}

fn to_int(result: c_long) -> c_int {
    c_int::try_from(result).unwrap_or(-1)
}

pub(crate) fn c_path(path: &Path) -> Result<CString, Errno> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| libc::EINVAL)
}

pub(crate) fn openat(dir: c_int, path: &CStr, flags: c_int, mode: c_uint) -> c_int {
    // SAFETY: `path` ends with a zero byte and lives until the call returns.
    to_int(unsafe { libc::syscall(libc::SYS_openat, dir, path.as_ptr(), flags, mode) })
}

pub(crate) fn close(fd: c_int) -> c_int {
    // SAFETY: takes a number; the caller gives up the descriptor.
    to_int(unsafe { libc::syscall(libc::SYS_close, fd) })
}

pub(crate) fn fsync(fd: c_int) -> c_int {
    // SAFETY: takes a number.
    to_int(unsafe { libc::syscall(libc::SYS_fsync, fd) })
}

pub(crate) fn fdatasync(fd: c_int) -> c_int {
    // SAFETY: takes a number.
    to_int(unsafe { libc::syscall(libc::SYS_fdatasync, fd) })
}

pub(crate) fn syncfs(fd: c_int) -> c_int {
    // SAFETY: takes a number.
    to_int(unsafe { libc::syscall(libc::SYS_syncfs, fd) })
}

pub(crate) fn ftruncate(fd: c_int, len: i64) -> c_int {
    // SAFETY: takes numbers.
    to_int(unsafe { libc::syscall(libc::SYS_ftruncate, fd, len) })
}

pub(crate) fn fallocate(fd: c_int, mode: c_int, position: i64, len: i64) -> c_int {
    // SAFETY: takes numbers.
    to_int(unsafe { libc::syscall(libc::SYS_fallocate, fd, mode, position, len) })
}

pub(crate) fn unlinkat(dir: c_int, path: &CStr, flags: c_int) -> c_int {
    // SAFETY: `path` ends with a zero byte and lives until the call returns.
    to_int(unsafe { libc::syscall(libc::SYS_unlinkat, dir, path.as_ptr(), flags) })
}

pub(crate) fn mkdirat(dir: c_int, path: &CStr, mode: c_uint) -> c_int {
    // SAFETY: as above.
    to_int(unsafe { libc::syscall(libc::SYS_mkdirat, dir, path.as_ptr(), mode) })
}

pub(crate) fn renameat2(
    from_dir: c_int,
    from: &CStr,
    to_dir: c_int,
    to: &CStr,
    flags: c_uint,
) -> c_int {
    // SAFETY: both paths end with a zero byte and live until the call returns.
    to_int(unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            from_dir,
            from.as_ptr(),
            to_dir,
            to.as_ptr(),
            flags,
        )
    })
}

pub(crate) fn link(from: &CStr, to: &CStr) -> Result<(), Errno> {
    // SAFETY: both paths end with a zero byte and live until the call returns.
    checked(unsafe {
        libc::syscall(
            libc::SYS_linkat,
            CWD,
            from.as_ptr(),
            CWD,
            to.as_ptr(),
            0 as c_int,
        )
    })
    .map(drop)
}

/// Waits; a signal may end it early.
pub(crate) fn sleep_ms(ms: u64) {
    let time = libc::timespec {
        tv_sec: i64::try_from(ms / 1000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(ms % 1000 * 1_000_000).unwrap_or(0),
    };
    // SAFETY: `time` lives until the call returns; where time is left over is not asked.
    unsafe {
        libc::syscall(
            libc::SYS_nanosleep,
            &raw const time,
            std::ptr::null_mut::<libc::timespec>(),
        )
    };
}

/// Of a file: number, length, kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stat {
    pub(crate) inode: u64,
    pub(crate) len: u64,
    pub(crate) mode: u32,
}

impl Stat {
    pub(crate) fn is_dir(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFDIR
    }

    pub(crate) fn is_file(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFREG
    }
}

fn statx(dir: c_int, path: &CStr, flags: c_int) -> Result<Stat, Errno> {
    let mut found = std::mem::MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: `path` ends with a zero byte, `found` has the size of what the kernel writes.
    checked(unsafe {
        libc::syscall(
            libc::SYS_statx,
            dir,
            path.as_ptr(),
            flags,
            libc::STATX_BASIC_STATS,
            found.as_mut_ptr(),
        )
    })?;
    // SAFETY: it was zeroed, and then filled by the kernel.
    let found = unsafe { found.assume_init() };
    Ok(Stat {
        inode: found.stx_ino,
        len: found.stx_size,
        mode: u32::from(found.stx_mode),
    })
}

pub(crate) fn stat_fd(fd: c_int) -> Result<Stat, Errno> {
    statx(fd, c"", libc::AT_EMPTY_PATH)
}

pub(crate) fn stat_path(path: &Path) -> Result<Stat, Errno> {
    statx(CWD, &c_path(path)?, libc::AT_SYMLINK_NOFOLLOW)
}

/// What a symbolic link says.
pub(crate) fn readlink(path: &CStr) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0_u8; 4096];
    // SAFETY: `path` ends with a zero byte, and the kernel writes at most the buffer's length.
    let len = checked(unsafe {
        libc::syscall(
            libc::SYS_readlinkat,
            CWD,
            path.as_ptr(),
            buffer.as_mut_ptr(),
            buffer.len(),
        )
    })?;
    buffer.truncate(usize::try_from(len).unwrap_or(0));
    Ok(buffer)
}

/// A file of the library's own; closed when dropped.
#[derive(Debug)]
pub(crate) struct OwnFile(c_int);

impl OwnFile {
    pub(crate) fn open(path: &Path, flags: c_int) -> Result<OwnFile, Errno> {
        let fd = openat(CWD, &c_path(path)?, flags | libc::O_CLOEXEC, 0o644);
        if fd < 0 {
            Err(errno())
        } else {
            Ok(OwnFile(fd))
        }
    }

    /// The file behind a descriptor of the node, opened anew for reading.
    pub(crate) fn reopen(fd: c_int) -> Result<OwnFile, Errno> {
        OwnFile::open(Path::new(&format!("/proc/self/fd/{fd}")), libc::O_RDONLY)
    }

    pub(crate) fn fd(&self) -> c_int {
        self.0
    }

    pub(crate) fn len(&self) -> Result<u64, Errno> {
        Ok(stat_fd(self.0)?.len)
    }

    /// Reads until the buffer is full or the file ends.
    pub(crate) fn read_at(&self, buffer: &mut [u8], position: u64) -> Result<usize, Errno> {
        let mut filled = 0;
        while filled < buffer.len() {
            let rest = &mut buffer[filled..];
            // SAFETY: the kernel writes at most the rest's length.
            match checked(unsafe {
                libc::syscall(
                    libc::SYS_pread64,
                    self.0,
                    rest.as_mut_ptr(),
                    rest.len(),
                    position + filled as u64,
                )
            }) {
                Ok(0) => break,
                Ok(count) => filled += usize::try_from(count).unwrap_or(0),
                Err(libc::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(filled)
    }

    pub(crate) fn write_all_at(&self, bytes: &[u8], position: u64) -> Result<(), Errno> {
        let mut written = 0;
        while written < bytes.len() {
            let rest = &bytes[written..];
            // SAFETY: the kernel reads the rest, which lives until the call returns.
            match checked(unsafe {
                libc::syscall(
                    libc::SYS_pwrite64,
                    self.0,
                    rest.as_ptr(),
                    rest.len(),
                    position + written as u64,
                )
            }) {
                Ok(0) => return Err(libc::EIO),
                Ok(count) => written += usize::try_from(count).unwrap_or(0),
                Err(libc::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    pub(crate) fn set_len(&self, len: u64) -> Result<(), Errno> {
        let len = i64::try_from(len).map_err(|_| libc::EFBIG)?;
        if ftruncate(self.0, len) < 0 {
            return Err(errno());
        }
        Ok(())
    }

    /// Makes the bytes zeros without keeping any; the length stays.
    pub(crate) fn punch(&self, position: u64, len: u64) -> Result<(), Errno> {
        let (position, len) = (
            i64::try_from(position).map_err(|_| libc::EFBIG)?,
            i64::try_from(len).map_err(|_| libc::EFBIG)?,
        );
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        if fallocate(self.0, mode, position, len) < 0 {
            return Err(errno());
        }
        Ok(())
    }
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        close(self.0);
    }
}

//! The functions that take the place of libc's.
//!
//! Each passes on what is not about the data directory. Those with a variable number of arguments
//! are declared with all of them, which the calling conventions of Linux's 64-bit targets allow.

use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_void};
use std::sync::atomic::AtomicUsize;

use jepsen_control::BOOT_ID_FILE;
use jepsen_control::control::Word;

use crate::files::{set_descriptor, tracked, tracked_file};
use crate::state::{Shared, shared};
use crate::sys::{self, CWD};
use crate::{clock, sys::errno};

/// Pieces of one vectored write.
const IOV_MAX: usize = 1024;

fn to_int(result: c_long) -> c_int {
    c_int::try_from(result).unwrap_or(-1)
}

fn to_size(result: c_long) -> isize {
    isize::try_from(result).unwrap_or(-1)
}

/// # Safety
/// `path` points to a string that ends with a zero byte, as libc asks.
unsafe fn c_str<'a>(path: *const c_char) -> Option<&'a CStr> {
    // SAFETY: the caller's promise.
    (!path.is_null()).then(|| unsafe { CStr::from_ptr(path) })
}

/// What a call about a path concerns.
fn concerned(dir: c_int, path: &CStr) -> Option<(&'static Shared, String)> {
    let shared = shared()?;
    let saved = errno();
    let below = shared.below(dir, path);
    sys::set_errno(saved);
    Some((shared, below?))
}

/// # Safety
/// As libc's `openat`.
unsafe fn open_any(dir: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    // SAFETY: as libc asks of the caller.
    let Some(path) = (unsafe { c_str(path) }) else {
        sys::set_errno(libc::EFAULT);
        return -1;
    };
    let fd = if let Some(shared) = shared()
        && path.to_bytes() == BOOT_ID_FILE.as_bytes()
        && let Ok(boot_id) = sys::c_path(&shared.side.boot_id())
    {
        shared.count(Word::BootIdReads);
        sys::openat(CWD, &boot_id, flags, mode)
    } else if let Some((shared, below)) = concerned(dir, path) {
        return shared.open(below, flags, || sys::openat(dir, path, flags, mode));
    } else {
        sys::openat(dir, path, flags, mode)
    };
    if fd >= 0 {
        set_descriptor(fd, None);
    }
    fd
}

/// Functions that open.
macro_rules! open_functions {
    ($($open:ident $openat:ident $creat:ident)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $open(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
            // SAFETY: as libc asks of the caller.
            unsafe { open_any(CWD, path, flags, mode) }
        }

        #[unsafe(no_mangle)]
        unsafe extern "C" fn $openat(
            dir: c_int,
            path: *const c_char,
            flags: c_int,
            mode: c_uint,
        ) -> c_int {
            // SAFETY: as libc asks of the caller.
            unsafe { open_any(dir, path, flags, mode) }
        }

        #[unsafe(no_mangle)]
        unsafe extern "C" fn $creat(path: *const c_char, mode: c_uint) -> c_int {
            let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
            // SAFETY: as libc asks of the caller.
            unsafe { open_any(CWD, path, flags, mode) }
        }
    )*};
}

open_functions! { open openat creat open64 openat64 creat64 }

#[unsafe(no_mangle)]
extern "C" fn close(fd: c_int) -> c_int {
    // Before the number can be given to somebody else.
    set_descriptor(fd, None);
    sys::close(fd)
}

fn raw_write(fd: c_int, bytes: *const c_void, count: usize) -> isize {
    // SAFETY: the caller's pointer and length are passed on, the length perhaps smaller.
    to_size(unsafe { libc::syscall(libc::SYS_write, fd, bytes, count) })
}

#[unsafe(no_mangle)]
extern "C" fn write(fd: c_int, bytes: *const c_void, count: usize) -> isize {
    match (shared(), tracked_file(fd)) {
        (Some(shared), Some(file)) => shared.write(fd, file, count as u64, None, |at_most| {
            raw_write(fd, bytes, limit(at_most))
        }),
        _ => raw_write(fd, bytes, count),
    }
}

fn limit(at_most: u64) -> usize {
    usize::try_from(at_most).unwrap_or(usize::MAX)
}

fn pwrite_any(fd: c_int, bytes: *const c_void, count: usize, position: i64) -> isize {
    let raw = |count: usize| -> isize {
        // SAFETY: the caller's pointer and length are passed on, the length perhaps smaller.
        to_size(unsafe { libc::syscall(libc::SYS_pwrite64, fd, bytes, count, position) })
    };
    match (shared(), tracked_file(fd), u64::try_from(position)) {
        (Some(shared), Some(file), Ok(at)) => {
            shared.write(fd, file, count as u64, Some(at), |at_most| {
                raw(limit(at_most))
            })
        }
        _ => raw(count),
    }
}

/// A vectored write; position -1: where the descriptor stands.
///
/// # Safety
/// `pieces` points to `count` pieces that may be read, as libc asks.
unsafe fn write_pieces(
    fd: c_int,
    pieces: *const libc::iovec,
    count: c_int,
    position: i64,
    flags: c_int,
) -> isize {
    let raw = |pieces: *const libc::iovec, count: usize| -> isize {
        // SAFETY: the caller's pieces, or the first of them, perhaps with a shorter last one.
        to_size(unsafe {
            if position < 0 && flags == 0 {
                libc::syscall(libc::SYS_writev, fd, pieces, count)
            } else {
                libc::syscall(
                    libc::SYS_pwritev2,
                    fd,
                    pieces,
                    count,
                    position,
                    0_i64,
                    flags,
                )
            }
        })
    };
    let len = usize::try_from(count).unwrap_or(usize::MAX);
    let (Some(shared), Some(file)) = (shared(), tracked_file(fd)) else {
        return raw(pieces, len);
    };
    if len == 0 || len > IOV_MAX || pieces.is_null() {
        return raw(pieces, len);
    }
    // SAFETY: as libc asks of the caller; checked not to be null.
    let given = unsafe { std::slice::from_raw_parts(pieces, len) };
    let want: u64 = given.iter().map(|piece| piece.iov_len as u64).sum();
    shared.write(fd, file, want, u64::try_from(position).ok(), |at_most| {
        if at_most == want {
            return raw(pieces, len);
        }
        let mut left = limit(at_most);
        let mut some = Vec::with_capacity(len);
        for piece in given {
            if left == 0 {
                break;
            }
            let iov_len = piece.iov_len.min(left);
            left -= iov_len;
            some.push(libc::iovec {
                iov_base: piece.iov_base,
                iov_len,
            });
        }
        raw(some.as_ptr(), some.len())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn writev(fd: c_int, pieces: *const libc::iovec, count: c_int) -> isize {
    // SAFETY: as libc asks of the caller.
    unsafe { write_pieces(fd, pieces, count, -1, 0) }
}

/// Functions that exist twice on a 64-bit machine.
macro_rules! twice {
    ($($plain:ident $large:ident ( $($arg:ident : $type:ty),* ) -> $result:ty $body:block)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $plain($($arg: $type),*) -> $result $body

        #[unsafe(no_mangle)]
        unsafe extern "C" fn $large($($arg: $type),*) -> $result $body
    )*};
}

twice! {
    pwrite pwrite64(fd: c_int, bytes: *const c_void, count: usize, position: i64) -> isize {
        pwrite_any(fd, bytes, count, position)
    }

    pwritev pwritev64(
        fd: c_int, pieces: *const libc::iovec, count: c_int, position: i64
    ) -> isize {
        if position < 0 {
            sys::set_errno(libc::EINVAL);
            return -1;
        }
        // SAFETY: as libc asks of the caller.
        unsafe { write_pieces(fd, pieces, count, position, 0) }
    }

    pwritev2 pwritev64v2(
        fd: c_int, pieces: *const libc::iovec, count: c_int, position: i64, flags: c_int
    ) -> isize {
        // SAFETY: as libc asks of the caller.
        unsafe { write_pieces(fd, pieces, count, position, flags) }
    }

    ftruncate ftruncate64(fd: c_int, len: i64) -> c_int {
        let raw = || sys::ftruncate(fd, len);
        match (shared(), tracked_file(fd)) {
            (Some(shared), Some(file)) => shared.set_len(fd, file, len, raw),
            _ => raw(),
        }
    }

    truncate truncate64(path: *const c_char, len: i64) -> c_int {
        // SAFETY: as libc asks of the caller.
        if let Some(path) = unsafe { c_str(path) }
            && let Some((shared, _)) = concerned(CWD, path)
        {
            shared.trouble("truncate by path");
        }
        // SAFETY: the caller's pointer is passed on.
        to_int(unsafe { libc::syscall(libc::SYS_truncate, path, len) })
    }

    fallocate fallocate64(fd: c_int, mode: c_int, position: i64, len: i64) -> c_int {
        allocate_any(fd, mode, position, len)
    }

    posix_fallocate posix_fallocate64(fd: c_int, position: i64, len: i64) -> c_int {
        let saved = errno();
        let result = allocate_any(fd, 0, position, len);
        let failed = errno();
        sys::set_errno(saved);
        if result < 0 { failed } else { 0 }
    }

    statvfs statvfs64(path: *const c_char, found: *mut libc::statvfs) -> c_int {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let real = clock::next(&NEXT, c"statvfs");
        // SAFETY: libc's function of this name has this type; the caller's pointers are passed on.
        let result = unsafe {
            std::mem::transmute::<
                usize,
                unsafe extern "C" fn(*const c_char, *mut libc::statvfs) -> c_int,
            >(real)(path, found)
        };
        // SAFETY: as libc asks of the caller.
        let path = unsafe { c_str(path) };
        if result == 0
            && let Some(path) = path
            && let Some((shared, _)) = concerned(CWD, path)
            && shared.is_full()
        {
            // SAFETY: filled by the call above.
            let found = unsafe { &mut *found };
            found.f_bfree = 0;
            found.f_bavail = 0;
        }
        result
    }

    fstatvfs fstatvfs64(fd: c_int, found: *mut libc::statvfs) -> c_int {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let real = clock::next(&NEXT, c"fstatvfs");
        // SAFETY: as above.
        let result = unsafe {
            std::mem::transmute::<usize, unsafe extern "C" fn(c_int, *mut libc::statvfs) -> c_int>(
                real,
            )(fd, found)
        };
        if result == 0
            && tracked(fd).is_some()
            && let Some(shared) = shared()
            && shared.is_full()
        {
            // SAFETY: filled by the call above.
            let found = unsafe { &mut *found };
            found.f_bfree = 0;
            found.f_bavail = 0;
        }
        result
    }
}

fn allocate_any(fd: c_int, mode: c_int, position: i64, len: i64) -> c_int {
    let raw = || sys::fallocate(fd, mode, position, len);
    match (shared(), tracked_file(fd)) {
        (Some(shared), Some(file)) => shared.allocate(fd, file, mode, (position, len), raw),
        _ => raw(),
    }
}

#[unsafe(no_mangle)]
extern "C" fn fsync(fd: c_int) -> c_int {
    match (shared(), tracked(fd)) {
        (Some(shared), Some(file)) => shared.sync(fd, file, || sys::fsync(fd)),
        _ => sys::fsync(fd),
    }
}

#[unsafe(no_mangle)]
extern "C" fn fdatasync(fd: c_int) -> c_int {
    match (shared(), tracked(fd)) {
        (Some(shared), Some(file)) => shared.sync(fd, file, || sys::fdatasync(fd)),
        _ => sys::fdatasync(fd),
    }
}

#[unsafe(no_mangle)]
extern "C" fn syncfs(fd: c_int) -> c_int {
    match (shared(), tracked(fd)) {
        (Some(shared), Some(_)) => shared.sync_all(|| sys::syncfs(fd)),
        _ => sys::syncfs(fd),
    }
}

/// It promises nothing that outlives a loss of power, so it is passed on and counts for nothing.
#[unsafe(no_mangle)]
extern "C" fn sync_file_range(fd: c_int, position: i64, len: i64, flags: c_uint) -> c_int {
    // SAFETY: takes numbers.
    to_int(unsafe { libc::syscall(libc::SYS_sync_file_range, fd, position, len, flags) })
}

/// # Safety
/// As libc's `renameat2`.
unsafe fn rename_any(
    from_dir: c_int,
    from: *const c_char,
    to_dir: c_int,
    to: *const c_char,
    flags: c_uint,
) -> c_int {
    // SAFETY: as libc asks of the caller.
    let (Some(from), Some(to)) = (unsafe { (c_str(from), c_str(to)) }) else {
        sys::set_errno(libc::EFAULT);
        return -1;
    };
    let raw = || sys::renameat2(from_dir, from, to_dir, to, flags);
    match (concerned(from_dir, from), concerned(to_dir, to)) {
        (None, None) => raw(),
        (Some((shared, from)), to) => shared.rename(Some(from), to.map(|to| to.1), flags, raw),
        (None, Some((shared, to))) => shared.rename(None, Some(to), flags, raw),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: as libc asks of the caller.
    unsafe { rename_any(CWD, from, CWD, to, 0) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn renameat(
    from_dir: c_int,
    from: *const c_char,
    to_dir: c_int,
    to: *const c_char,
) -> c_int {
    // SAFETY: as libc asks of the caller.
    unsafe { rename_any(from_dir, from, to_dir, to, 0) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn renameat2(
    from_dir: c_int,
    from: *const c_char,
    to_dir: c_int,
    to: *const c_char,
    flags: c_uint,
) -> c_int {
    // SAFETY: as libc asks of the caller.
    unsafe { rename_any(from_dir, from, to_dir, to, flags) }
}

/// # Safety
/// As libc's `unlinkat`.
unsafe fn unlink_any(dir: c_int, path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: as libc asks of the caller.
    let Some(path) = (unsafe { c_str(path) }) else {
        sys::set_errno(libc::EFAULT);
        return -1;
    };
    let raw = || sys::unlinkat(dir, path, flags);
    match concerned(dir, path) {
        None => raw(),
        Some((shared, below)) if flags & libc::AT_REMOVEDIR != 0 => shared.rmdir(below, raw),
        Some((shared, below)) => shared.unlink(below, raw),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: as libc asks of the caller.
    unsafe { unlink_any(CWD, path, 0) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn unlinkat(dir: c_int, path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: as libc asks of the caller.
    unsafe { unlink_any(dir, path, flags) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn rmdir(path: *const c_char) -> c_int {
    // SAFETY: as libc asks of the caller.
    unsafe { unlink_any(CWD, path, libc::AT_REMOVEDIR) }
}

/// # Safety
/// As libc's `mkdirat`.
unsafe fn mkdir_any(dir: c_int, path: *const c_char, mode: c_uint) -> c_int {
    // SAFETY: as libc asks of the caller.
    let Some(path) = (unsafe { c_str(path) }) else {
        sys::set_errno(libc::EFAULT);
        return -1;
    };
    let raw = || sys::mkdirat(dir, path, mode);
    match concerned(dir, path) {
        None => raw(),
        Some((shared, below)) => shared.mkdir(below, raw),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mkdir(path: *const c_char, mode: c_uint) -> c_int {
    // SAFETY: as libc asks of the caller.
    unsafe { mkdir_any(CWD, path, mode) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mkdirat(dir: c_int, path: *const c_char, mode: c_uint) -> c_int {
    // SAFETY: as libc asks of the caller.
    unsafe { mkdir_any(dir, path, mode) }
}

#[unsafe(no_mangle)]
extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    clock::read(clock, time)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn gettimeofday(time: *mut libc::timeval, zone: *mut c_void) -> c_int {
    let _ = zone;
    if !time.is_null() {
        let now = clock::wall();
        let found = libc::timeval {
            tv_sec: now.tv_sec,
            tv_usec: now.tv_nsec / 1000,
        };
        // SAFETY: as libc asks of the caller; checked not to be null.
        unsafe { time.write(found) };
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn time(found: *mut libc::time_t) -> libc::time_t {
    let now = clock::wall().tv_sec;
    if !found.is_null() {
        // SAFETY: as libc asks of the caller; checked not to be null.
        unsafe { found.write(now) };
    }
    now
}

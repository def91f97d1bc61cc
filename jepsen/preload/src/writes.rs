//! Bytes, lengths and space of files.

use std::ffi::c_int;

use jepsen_control::FileId;
use jepsen_control::control::Word;
use jepsen_control::log::{Event, Fate};

use crate::faults::WriteFate;
use crate::files::{Tracked, Unsynced};
use crate::state::{Shared, lock};
use crate::sys;

impl Shared {
    /// A write of `want` bytes at `position`, or where the descriptor stands. `call` makes it, of at
    /// most so many bytes.
    pub(crate) fn write(
        &self,
        fd: c_int,
        (tracked, file): (&Tracked, FileId),
        want: u64,
        position: Option<u64>,
        call: impl FnOnce(u64) -> isize,
    ) -> isize {
        self.count(Word::Writes);
        let mut unsynced = lock(&tracked.unsynced);
        let position = match position {
            Some(position) => position,
            None => match stands_at(fd) {
                Some(position) => position,
                None => {
                    self.trouble("a write whose place is not known");
                    return call(want);
                }
            },
        };
        let at_most = match self.write_fate() {
            _ if want == 0 => want,
            WriteFate::Works => want,
            WriteFate::Fails => {
                self.count(Word::WriteErrors);
                sys::set_errno(libc::EIO);
                return -1;
            }
            WriteFate::Short if want < 2 => want,
            WriteFate::Short => {
                self.count(Word::ShortWrites);
                want / 2
            }
            WriteFate::Full => {
                let fits = sys::stat_fd(fd).map_or(0, |stat| stat.len.saturating_sub(position));
                if fits >= want {
                    want
                } else {
                    self.count(Word::FullErrors);
                    if fits == 0 {
                        sys::set_errno(libc::ENOSPC);
                        return -1;
                    }
                    fits
                }
            }
        };
        let result = call(at_most);
        if let Ok(written) = u64::try_from(result) {
            self.count_many(Word::WrittenBytes, written);
            self.changed(&mut unsynced, file, position, position + written);
        }
        result
    }

    /// Notes that bytes are not what was synced.
    fn changed(&self, unsynced: &mut Unsynced, file: FileId, start: u64, end: u64) {
        unsynced.dirty.add(start, end);
        if unsynced.doubtful.remove(start, end) {
            self.tell_log(&Event::Trust { file, start, end });
        }
    }

    /// Writes down what became of bytes in doubt.
    pub(crate) fn tell_log(&self, event: &Event) {
        let errno = sys::errno();
        if let Err(errno) = lock(&self.names).begin(event, Fate::Done) {
            self.trouble(&format!("{event:?} is not in the log: error {errno}"));
        }
        sys::set_errno(errno);
    }

    pub(crate) fn set_len(
        &self,
        fd: c_int,
        (tracked, file): (&Tracked, FileId),
        len: i64,
        call: impl FnOnce() -> c_int,
    ) -> c_int {
        self.count(Word::LengthChanges);
        let mut unsynced = lock(&tracked.unsynced);
        let before = sys::stat_fd(fd);
        let result = call();
        if result >= 0
            && let (Ok(before), Ok(len)) = (before, u64::try_from(len))
            && len < before.len
        {
            self.changed(&mut unsynced, file, len, before.len);
        }
        result
    }

    /// Space is reserved, or (by `mode`) bytes are made zeros.
    pub(crate) fn allocate(
        &self,
        fd: c_int,
        (tracked, file): (&Tracked, FileId),
        mode: c_int,
        (position, len): (i64, i64),
        call: impl FnOnce() -> c_int,
    ) -> c_int {
        self.count(Word::LengthChanges);
        let mut unsynced = lock(&tracked.unsynced);
        let (Ok(position), Ok(len)) = (u64::try_from(position), u64::try_from(len)) else {
            return call();
        };
        let end = position.saturating_add(len);
        if self.is_full() && sys::stat_fd(fd).is_ok_and(|stat| stat.len < end) {
            self.count(Word::FullErrors);
            sys::set_errno(libc::ENOSPC);
            return -1;
        }
        let result = call();
        if result >= 0 && mode & !libc::FALLOC_FL_KEEP_SIZE != 0 {
            self.changed(&mut unsynced, file, position, end);
        }
        result
    }
}

/// Where a write without a position goes.
fn stands_at(fd: c_int) -> Option<u64> {
    // SAFETY: takes numbers.
    let flags = unsafe { libc::syscall(libc::SYS_fcntl, fd, libc::F_GETFL) };
    if flags < 0 {
        return None;
    }
    if flags & i64::from(libc::O_APPEND) != 0 {
        return Some(sys::stat_fd(fd).ok()?.len);
    }
    // SAFETY: takes numbers.
    let position = unsafe { libc::syscall(libc::SYS_lseek, fd, 0_i64, libc::SEEK_CUR) };
    u64::try_from(position).ok()
}

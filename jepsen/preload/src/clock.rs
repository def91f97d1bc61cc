//! The wall clock, off by what the harness says. The monotonic one is not touched.

use std::ffi::{CStr, c_int};
use std::sync::atomic::{AtomicUsize, Ordering};

use jepsen_control::control::Word;

use crate::state::shared;

type ClockGettime = extern "C" fn(libc::clockid_t, *mut libc::timespec) -> c_int;

/// The next function of that name behind this library's; 0 when there is none.
pub(crate) fn next(cache: &AtomicUsize, name: &CStr) -> usize {
    let known = cache.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    // SAFETY: the name ends with a zero byte.
    let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) } as usize;
    cache.store(found, Ordering::Relaxed);
    found
}

fn real_clock(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let found = next(&NEXT, c"clock_gettime");
    if found == 0 {
        // SAFETY: the caller's pointer is passed on.
        let result = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
        return c_int::try_from(result).unwrap_or(-1);
    }
    // SAFETY: libc's function of this name has this type.
    let real = unsafe { std::mem::transmute::<usize, ClockGettime>(found) };
    real(clock, time)
}

/// What `clock_gettime` answers.
pub(crate) fn read(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    let result = real_clock(clock, time);
    let is_wall = clock == libc::CLOCK_REALTIME || clock == libc::CLOCK_REALTIME_COARSE;
    if result == 0
        && is_wall
        && let Some(shared) = shared()
    {
        // SAFETY: the call above has just filled it.
        let time = unsafe { &mut *time };
        let word = shared.setting(Word::ClockOffsetMs);
        let offset_ms = word.cast_signed();
        shared.note(Word::ClockSeenMs, word);
        if offset_ms != 0 {
            shared.count(Word::ClockReads);
            let nanos = time.tv_nsec + offset_ms.rem_euclid(1000) * 1_000_000;
            time.tv_sec = time
                .tv_sec
                .saturating_add(offset_ms.div_euclid(1000))
                .saturating_add(nanos.div_euclid(1_000_000_000));
            time.tv_nsec = nanos.rem_euclid(1_000_000_000);
        }
    }
    result
}

/// The wall clock, for functions that answer in other units.
pub(crate) fn wall() -> libc::timespec {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    read(libc::CLOCK_REALTIME, &raw mut time);
    time
}

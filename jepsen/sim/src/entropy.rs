//! Randomness and time of the whole process, once a simulation has begun in it.
//!
//! std, tokio and openraft take their random numbers from `getrandom` and their time from
//! `clock_gettime`. Both functions are defined here, so that they are linked in place of libc's:
//! until [`begin`] they pass on to the kernel, afterwards they follow from the seed and from
//! [`set_now_us`]. The one file of the crate with `unsafe`.
#![allow(
    unsafe_code,
    unreachable_pub,
    reason = "defines two functions of libc, which the linker sees"
)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use jepsen_workload::random::Random;
use libc::{c_int, c_long, c_uint, c_void, clockid_t, size_t, ssize_t, timespec};

/// 2025-06-01, as seconds since the epoch: the wall clock when a simulation begins.
const EPOCH_S: u64 = 1_748_736_000;
/// Monotonic clocks begin so far from 0, so that what looks back finds a time.
const MONOTONIC_S: u64 = 100_000;

static BEGUN: AtomicBool = AtomicBool::new(false);
static NOW_NS: AtomicU64 = AtomicU64::new(0);
static RANDOM: Mutex<Option<Random>> = Mutex::new(None);

/// Begins the simulation in this process: from here on its randomness follows from `seed` and its
/// time stands until the world moves it. To be called once, before any thread of the simulation starts.
pub fn begin(seed: u64) {
    *RANDOM.lock().unwrap_or_else(PoisonError::into_inner) = Some(Random::new(seed));
    BEGUN.store(true, Ordering::SeqCst);
}

/// Whether a simulation has begun in this process.
#[must_use]
pub fn is_simulated() -> bool {
    BEGUN.load(Ordering::SeqCst)
}

/// Sets the time since the simulation began.
pub(crate) fn set_now_us(now_us: u64) {
    NOW_NS.store(now_us.saturating_mul(1_000), Ordering::SeqCst);
}

/// Microseconds since the simulation began.
pub(crate) fn now_us() -> u64 {
    NOW_NS.load(Ordering::SeqCst) / 1_000
}

/// The kernel's monotonic clock in microseconds, simulated or not: to measure a run's real time.
pub(crate) fn real_us() -> u64 {
    let mut at = timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes one timespec to where `at` stands.
    unsafe {
        libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_MONOTONIC, &raw mut at);
    }
    u64::try_from(at.tv_sec).unwrap_or(0) * 1_000_000
        + u64::try_from(at.tv_nsec / 1_000).unwrap_or(0)
}

/// As getrandom(2).
///
/// # Safety
/// `buffer` is writable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, len: size_t, flags: c_uint) -> ssize_t {
    if !BEGUN.load(Ordering::SeqCst) {
        // SAFETY: passed on as it came, under the caller's promise.
        let got: c_long = unsafe { libc::syscall(libc::SYS_getrandom, buffer, len, flags) };
        return ssize_t::try_from(got).unwrap_or(-1);
    }
    if len == 0 {
        return 0;
    }
    // SAFETY: the caller promises that so many bytes may be written; they are bytes, which any
    // pattern is valid for.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), len) };
    let mut random = RANDOM.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(random) = random.as_mut() {
        for chunk in bytes.chunks_mut(8) {
            let drawn = random.next_u64().to_le_bytes();
            chunk.copy_from_slice(&drawn[..chunk.len()]);
        }
    }
    ssize_t::try_from(len).unwrap_or(ssize_t::MAX)
}

/// As clock_gettime(2).
///
/// # Safety
/// `at` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, at: *mut timespec) -> c_int {
    if !BEGUN.load(Ordering::SeqCst) {
        // SAFETY: passed on as it came, under the caller's promise.
        let done: c_long = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, at) };
        return c_int::try_from(done).unwrap_or(-1);
    }
    let now_ns = NOW_NS.load(Ordering::SeqCst);
    let origin_s = match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => EPOCH_S,
        _ => MONOTONIC_S,
    };
    let now = timespec {
        tv_sec: i64::try_from(origin_s + now_ns / 1_000_000_000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(now_ns % 1_000_000_000).unwrap_or(0),
    };
    // SAFETY: the caller promises that a timespec may be written there.
    unsafe { at.write(now) };
    0
}

//! Fetches that wait for a partition to grow.
//!
//! A waiting fetch is one [`Waiter`], registered with each of its partitions. It is woken when
//! enough bytes have come over all of them, or when something else happened that it must look at.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// One waiting fetch.
#[derive(Debug)]
pub(crate) struct Waiter {
    missing_bytes: AtomicI64,
    wake: Notify,
}

impl Waiter {
    /// A fetch that still lacks this many bytes.
    pub(crate) fn new(missing_bytes: usize) -> Arc<Waiter> {
        Arc::new(Waiter {
            missing_bytes: AtomicI64::new(i64::try_from(missing_bytes).unwrap_or(i64::MAX)),
            wake: Notify::new(),
        })
    }

    /// Asks to be woken again only after this many more bytes.
    pub(crate) fn rearm(&self, missing_bytes: usize) {
        let missing = i64::try_from(missing_bytes).unwrap_or(i64::MAX);
        self.missing_bytes.store(missing, Ordering::Release);
    }

    /// Returns once enough came or something happened; a wake-up before the call counts.
    /// Cancel-safe.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }
}

/// The waiting fetches of one partition.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    waiting: Mutex<BTreeMap<u64, Arc<Waiter>>>,
}

/// Numbers registrations; only uniqueness matters.
static NEXT: AtomicU64 = AtomicU64::new(0);

impl Waiters {
    /// Registers a fetch; the number takes it out again.
    pub(crate) fn register(&self, waiter: &Arc<Waiter>) -> u64 {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.insert(number, Arc::clone(waiter));
        number
    }

    /// Takes a fetch out.
    pub(crate) fn remove(&self, number: u64) {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&number);
    }

    /// The partition grew by this many bytes.
    pub(crate) fn grew(&self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for waiter in waiting.values() {
            if waiter.missing_bytes.fetch_sub(bytes, Ordering::AcqRel) <= bytes {
                waiter.wake.notify_one();
            }
        }
    }

    /// Something happened that every waiting fetch must look at: the leader changed, or the
    /// partition is gone.
    pub(crate) fn wake_all(&self) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.values().for_each(|waiter| waiter.wake.notify_one());
    }
}

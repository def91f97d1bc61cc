//! How fast a node may fetch what it lacks, and how much of it may be in memory at once; shared by
//! all shards of the node.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use storage::clock::Clock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that are asked for or wait to be written, all shards together.
const IN_FLIGHT_BYTES_MAX: usize = 32 << 20;
/// What one permit stands for.
const PERMIT_BYTES: usize = 4 << 10;

/// A token bucket that may go into debt: what was taken is waited for afterwards.
#[derive(Debug)]
pub(crate) struct Throttle {
    /// 0 does not limit.
    bytes_per_second: u64,
    clock: Clock,
    bucket: Mutex<Bucket>,
    in_flight: Arc<Semaphore>,
}

#[derive(Debug)]
struct Bucket {
    // At most one second's worth; negative: debt.
    bytes: i64,
    filled_ms: i64,
}

impl Throttle {
    /// `bytes_per_second` 0 does not limit.
    pub(crate) fn new(bytes_per_second: u64, clock: Clock) -> Throttle {
        let filled_ms = clock.monotonic_ms();
        Throttle {
            bytes_per_second,
            clock,
            bucket: Mutex::new(Bucket {
                bytes: 0,
                filled_ms,
            }),
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT_BYTES_MAX / PERMIT_BYTES)),
        }
    }

    /// Room in memory for an answer of about this size; given back when dropped.
    pub(crate) async fn room_for(&self, bytes: usize) -> OwnedSemaphorePermit {
        let permits = bytes.clamp(1, IN_FLIGHT_BYTES_MAX).div_ceil(PERMIT_BYTES);
        let permits = u32::try_from(permits).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.in_flight).acquire_many_owned(permits);
        room.await.expect("the semaphore is never closed")
    }

    /// Accounts for bytes that came, and waits as long as they were too many.
    pub(crate) async fn spend(&self, bytes: usize) {
        let wait_ms = self.spend_at(bytes, self.clock.monotonic_ms());
        if wait_ms > 0 {
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
    }

    fn spend_at(&self, bytes: usize, now_ms: i64) -> u64 {
        let Ok(rate @ 1..) = i64::try_from(self.bytes_per_second) else {
            return 0;
        };
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed_ms = now_ms.saturating_sub(bucket.filled_ms).max(0);
        let fill = rate.saturating_mul(elapsed_ms) / 1_000;
        bucket.filled_ms = now_ms.max(bucket.filled_ms);
        bucket.bytes = bucket.bytes.saturating_add(fill).min(rate);
        bucket.bytes = bucket
            .bytes
            .saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
        let debt = bucket.bytes.saturating_neg().max(0);
        u64::try_from(debt.saturating_mul(1_000) / rate).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_the_rate_is_waited_for() {
        let throttle = Throttle::new(1_000, Clock::manual(0));
        assert_eq!(throttle.spend_at(500, 0), 500);
        assert_eq!(throttle.spend_at(500, 500), 500);
        assert_eq!(throttle.spend_at(0, 1_000), 0);
        // An idle second fills it, no more than that.
        assert_eq!(throttle.spend_at(1_000, 100_000), 0);
        assert_eq!(throttle.spend_at(1, 100_000), 1);
    }

    #[test]
    fn no_rate_is_no_limit() {
        let throttle = Throttle::new(0, Clock::manual(0));
        assert_eq!(throttle.spend_at(usize::MAX, 0), 0);
        assert_eq!(throttle.spend_at(usize::MAX, 0), 0);
    }
}

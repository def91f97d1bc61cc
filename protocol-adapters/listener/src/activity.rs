//! When a connection was last heard of, and when that is too long ago.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use storage::clock::Clock;

/// What a connection's handler reports its progress to. Clones report for the same connection.
#[derive(Debug, Clone)]
pub struct Activity {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    opened_ms: i64,
    last_ms: AtomicI64,
    established: AtomicBool,
    handshake_ms_max: i64,
    idle_ms_max: i64,
}

/// Why a connection was closed from this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expired {
    /// It was not established in time.
    Handshake,
    /// Nothing moved for too long.
    Idle,
}

impl Activity {
    /// A connection opened now. A limit of 0 or less is no limit.
    pub(crate) fn new(clock: &Clock, handshake_ms_max: i64, idle_ms_max: i64) -> Activity {
        let now = clock.monotonic_ms();
        Activity {
            shared: Arc::new(Shared {
                clock: clock.clone(),
                opened_ms: now,
                last_ms: AtomicI64::new(now),
                established: AtomicBool::new(false),
                handshake_ms_max,
                idle_ms_max,
            }),
        }
    }

    /// Something was read or written: the idle deadline starts anew.
    pub fn touch(&self) {
        self.shared
            .last_ms
            .store(self.shared.clock.monotonic_ms(), Ordering::Relaxed);
    }

    /// The peer has shown that it speaks the protocol: the handshake deadline no longer applies.
    pub fn established(&self) {
        self.shared.established.store(true, Ordering::Relaxed);
        self.touch();
    }

    /// The deadline that has passed at `now_ms`, or else how long until the next look is due
    /// (`None`: no deadline applies).
    fn look(&self, now_ms: i64) -> Result<Expired, Option<i64>> {
        let shared = &*self.shared;
        let mut wait_ms = None;
        let mut due = |since_ms: i64, limit_ms: i64| {
            if limit_ms <= 0 {
                return false;
            }
            let left_ms = since_ms.saturating_add(limit_ms).saturating_sub(now_ms);
            wait_ms = Some(wait_ms.map_or(left_ms, |wait: i64| wait.min(left_ms)));
            left_ms <= 0
        };
        if !shared.established.load(Ordering::Relaxed)
            && due(shared.opened_ms, shared.handshake_ms_max)
        {
            return Ok(Expired::Handshake);
        }
        if due(shared.last_ms.load(Ordering::Relaxed), shared.idle_ms_max) {
            return Ok(Expired::Idle);
        }
        Err(wait_ms)
    }

    /// Returns when a deadline has passed. Cancel-safe.
    pub(crate) async fn expired(&self) -> Expired {
        loop {
            match self.look(self.shared.clock.monotonic_ms()) {
                Ok(expired) => return expired,
                Err(Some(wait_ms)) => {
                    let wait_ms = u64::try_from(wait_ms).unwrap_or(0).max(1);
                    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                }
                // `established` may still lift the handshake's deadline, never bring a new one.
                Err(None) => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshake_deadline_holds_until_established() {
        let clock = Clock::manual(1_000);
        let activity = Activity::new(&clock, 10, 100);
        assert_eq!(activity.look(1_009), Err(Some(1)));
        assert_eq!(activity.look(1_010), Ok(Expired::Handshake));
        activity.established();
        assert_eq!(activity.look(1_010), Err(Some(90)));
    }

    #[test]
    fn touching_starts_the_idle_deadline_anew() {
        let clock = Clock::manual(0);
        let activity = Activity::new(&clock, 0, 100);
        assert_eq!(activity.look(100), Ok(Expired::Idle));
        clock.advance_ms(60);
        activity.touch();
        assert_eq!(activity.look(100), Err(Some(60)));
        assert_eq!(activity.look(160), Ok(Expired::Idle));
    }

    #[test]
    fn without_limits_nothing_expires() {
        let activity = Activity::new(&Clock::manual(0), 0, 0);
        assert_eq!(activity.look(i64::MAX), Err(None));
    }
}

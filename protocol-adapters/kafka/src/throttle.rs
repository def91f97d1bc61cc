//! How long a connection is not read from because its client has used more than its quota.
//!
//! Shared by the handlers of a connection, which mute it, and its loop, which obeys (KIP-219: the
//! answer leaves at once and says how long; the broker holds the client to it all the same).

use std::sync::atomic::{AtomicI64, Ordering};

/// Until when one connection is muted.
#[derive(Debug)]
pub(crate) struct Throttle {
    until_ms: AtomicI64, // only rises
}

impl Default for Throttle {
    fn default() -> Throttle {
        Throttle {
            until_ms: AtomicI64::new(i64::MIN),
        }
    }
}

impl Throttle {
    /// Takes nothing more from the connection for this long; answers what its client is told.
    pub(crate) fn mute(&self, ms: u64, now_ms: i64) -> i32 {
        let told_ms = i32::try_from(ms).unwrap_or(i32::MAX);
        if told_ms > 0 {
            let until_ms = now_ms.saturating_add(i64::from(told_ms));
            self.until_ms.fetch_max(until_ms, Ordering::AcqRel);
        }
        told_ms
    }

    /// How long it is still muted; `None` when it is not.
    pub(crate) fn left_ms(&self, now_ms: i64) -> Option<i64> {
        let left_ms = self.until_ms.load(Ordering::Acquire).saturating_sub(now_ms);
        (left_ms > 0).then_some(left_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_of_several_holds() {
        let throttle = Throttle::default();
        assert_eq!(throttle.left_ms(0), None);
        assert_eq!(throttle.mute(0, 10), 0);
        assert_eq!(throttle.left_ms(10), None);
        assert_eq!(throttle.mute(100, 10), 100);
        assert_eq!(throttle.mute(20, 50), 20);
        assert_eq!(throttle.left_ms(60), Some(50));
        assert_eq!(throttle.left_ms(110), None);
        assert_eq!(throttle.mute(u64::MAX, 0), i32::MAX);
    }
}

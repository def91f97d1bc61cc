//! How often refused connections are told of: the first at once, then at most one summary per
//! reason in a while. A flood costs counting, not log lines. Pure; the clock is the caller's.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Between two lines of the same reason.
pub(super) const QUIET: Duration = Duration::from_secs(10);

/// What was told and what was held back, by reason.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    reasons: Mutex<BTreeMap<&'static str, Reason>>,
}

#[derive(Debug)]
struct Reason {
    quiet_until: Instant,
    held_back: u64,
}

/// What to do about one refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Telling {
    /// Tell of it.
    Now,
    /// It is the first held back: summarize then.
    SummaryAt(Instant),
    /// It is counted into a summary that is due already.
    Counted,
}

impl Throttle {
    fn reasons(&self) -> MutexGuard<'_, BTreeMap<&'static str, Reason>> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, reason: &'static str, now: Instant) -> Telling {
        let mut reasons = self.reasons();
        let held = reasons.entry(reason).or_insert(Reason {
            quiet_until: now,
            held_back: 0,
        });
        if held.held_back == 0 && held.quiet_until <= now {
            held.quiet_until = now + QUIET;
            return Telling::Now;
        }
        held.held_back += 1;
        if held.held_back == 1 {
            Telling::SummaryAt(held.quiet_until)
        } else {
            Telling::Counted
        }
    }

    /// How many were held back since the last line; a line with this number is written now.
    pub(super) fn summarize(&self, reason: &'static str, now: Instant) -> u64 {
        let mut reasons = self.reasons();
        let Some(held) = reasons.get_mut(reason) else {
            return 0;
        };
        held.quiet_until = now + QUIET;
        std::mem::take(&mut held.held_back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_of_once_and_then_in_sums() {
        let throttle = Throttle::default();
        let start = Instant::now();
        assert_eq!(throttle.note("a", start), Telling::Now);
        assert_eq!(throttle.note("b", start), Telling::Now);
        let due = start + QUIET;
        assert_eq!(throttle.note("a", start), Telling::SummaryAt(due));
        for _ in 0..1_000 {
            assert_eq!(throttle.note("a", start), Telling::Counted);
        }
        // Late: still in the sum.
        assert_eq!(throttle.note("a", due), Telling::Counted);
        assert_eq!(throttle.summarize("a", due), 1_002);
        assert_eq!(throttle.note("a", due), Telling::SummaryAt(due + QUIET));
        assert_eq!(throttle.summarize("a", due + QUIET), 1);
        assert_eq!(throttle.note("a", due + 2 * QUIET), Telling::Now);
        assert_eq!(throttle.note("b", due), Telling::Now);
    }
}

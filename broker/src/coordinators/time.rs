//! The time that an instance is told: the time of day, without its jumps.
//!
//! It runs as the monotonic clock does and is drawn towards the wall clock by an eighth of what has
//! passed at most. So it never falls while an instance leads, timers run by it, and a clock that is
//! set an hour ahead makes nobody's session end.

use storage::clock::Clock;

/// How often it is compared with the wall clock.
const COMPARE_MS: i64 = 1_000;
/// Which part of the time that has passed it may be drawn by.
const DRAWN: i64 = 8;

/// A clock for one leading instance.
#[derive(Debug)]
pub(super) struct SteadyClock {
    clock: Clock,
    // Time of day at the origin of the monotonic clock.
    offset_ms: i64,
    compared_ms: i64,
    last_ms: i64,
}

impl SteadyClock {
    /// Begins at the wall clock's time.
    pub(super) fn new(clock: Clock) -> SteadyClock {
        let (monotonic_ms, wall_ms) = (clock.monotonic_ms(), clock.wall_ms());
        SteadyClock {
            clock,
            offset_ms: wall_ms.saturating_sub(monotonic_ms),
            compared_ms: monotonic_ms,
            last_ms: wall_ms,
        }
    }

    /// Milliseconds since the Unix epoch; never less than before.
    pub(super) fn now_ms(&mut self) -> i64 {
        let monotonic_ms = self.clock.monotonic_ms();
        let passed_ms = monotonic_ms.saturating_sub(self.compared_ms);
        let mut now_ms = monotonic_ms.saturating_add(self.offset_ms);
        if passed_ms >= COMPARE_MS {
            self.compared_ms = monotonic_ms;
            let ahead_ms = self.clock.wall_ms().saturating_sub(now_ms);
            let drawn_ms = ahead_ms.clamp(-passed_ms / DRAWN, passed_ms / DRAWN);
            self.offset_ms = self.offset_ms.saturating_add(drawn_ms);
            now_ms = now_ms.saturating_add(drawn_ms);
        }
        self.last_ms = self.last_ms.max(now_ms);
        self.last_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_that_jumps_is_followed_slowly_and_never_back() {
        let wall = Clock::skewed(0);
        let mut steady = SteadyClock::new(wall.clone());
        let begin_ms = steady.now_ms();
        wall.set_wrong_by_ms(3_600_000);
        assert!(steady.now_ms() < begin_ms + 60_000);
        wall.set_wrong_by_ms(-3_600_000);
        let mut last_ms = begin_ms;
        for _ in 0..1_000 {
            let now_ms = steady.now_ms();
            assert!(now_ms >= last_ms);
            last_ms = now_ms;
        }
    }

    #[test]
    fn the_wall_clock_is_reached_in_the_end() {
        let clock = Clock::manual(1_000);
        let mut steady = SteadyClock::new(clock.clone());
        assert_eq!(steady.now_ms(), 1_000);
        // As if the wall clock had been set ahead by 250 ms.
        steady.offset_ms -= 250;
        let mut behind_ms = 250;
        while behind_ms > 0 {
            clock.advance_ms(1_000);
            let now_behind_ms = clock.wall_ms() - steady.now_ms();
            assert!((0..behind_ms).contains(&now_behind_ms), "{now_behind_ms}");
            assert!(behind_ms - now_behind_ms <= 125);
            behind_ms = now_behind_ms;
        }
    }
}

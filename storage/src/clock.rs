//! The one source of time. Pure code takes `now` as an argument; shells ask a [`Clock`].

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A clock: the machine's, or one that a test moves by hand. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Clock {
    /// The machine's clocks; the [`Instant`] is the origin of [`Clock::monotonic_ms`].
    System(Instant),
    /// Both clocks read this many milliseconds; clones share it.
    Manual(Arc<AtomicI64>),
    /// The machine's clocks with a wall clock that is wrong by this many milliseconds; clones
    /// share it.
    Skewed(Instant, Arc<AtomicI64>),
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the clock"
    )]
    pub fn system() -> Clock {
        Clock::System(Instant::now())
    }

    /// A clock that stands at `ms` until [`Clock::advance_ms`] moves it.
    #[must_use]
    pub fn manual(ms: i64) -> Clock {
        Clock::Manual(Arc::new(AtomicI64::new(ms)))
    }

    /// The machine's clocks, but a wall clock that is ahead by so much, behind when it is negative,
    /// until [`Clock::advance_ms`] sets it on.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the clock"
    )]
    pub fn skewed(ms: i64) -> Clock {
        Clock::Skewed(Instant::now(), Arc::new(AtomicI64::new(ms)))
    }

    /// Wall-clock time, milliseconds since the Unix epoch. May jump either way.
    #[must_use]
    pub fn wall_ms(&self) -> i64 {
        match self {
            Clock::System(_) => machine_wall_ms(),
            Clock::Manual(ms) => ms.load(Ordering::SeqCst),
            Clock::Skewed(_, ms) => machine_wall_ms().saturating_add(ms.load(Ordering::SeqCst)),
        }
    }

    /// Milliseconds since some fixed origin; never goes back.
    #[must_use]
    pub fn monotonic_ms(&self) -> i64 {
        match self {
            Clock::System(origin) | Clock::Skewed(origin, _) => {
                i64::try_from(origin.elapsed().as_millis()).unwrap_or(i64::MAX)
            }
            Clock::Manual(ms) => ms.load(Ordering::SeqCst),
        }
    }

    /// As [`Clock::monotonic_ms`], in microseconds.
    #[must_use]
    pub fn monotonic_us(&self) -> i64 {
        match self {
            Clock::System(origin) | Clock::Skewed(origin, _) => {
                i64::try_from(origin.elapsed().as_micros()).unwrap_or(i64::MAX)
            }
            Clock::Manual(ms) => ms.load(Ordering::SeqCst).saturating_mul(1_000),
        }
    }

    /// Moves a manual clock, or a skewed one's wall clock, forward by `ms`; does nothing to the
    /// machine's.
    pub fn advance_ms(&self, ms: i64) {
        if let Clock::Manual(now) | Clock::Skewed(_, now) = self {
            now.fetch_add(ms, Ordering::SeqCst);
        }
    }

    /// Sets by how much the wall clock of a skewed one is ahead; does nothing to others.
    pub fn set_wrong_by_ms(&self, ms: i64) {
        if let Clock::Skewed(_, wrong) = self {
            wrong.store(ms, Ordering::SeqCst);
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the clock"
)]
fn machine_wall_ms() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    elapsed.map_or(0, |elapsed| {
        i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skewed_clock_is_wrong_about_the_hour_only() {
        let (right, wrong) = (Clock::system(), Clock::skewed(3_600_000));
        let ahead_ms = wrong.wall_ms() - right.wall_ms();
        assert!((3_500_000..3_700_000).contains(&ahead_ms), "{ahead_ms}");
        wrong.clone().advance_ms(-7_200_000);
        assert!(wrong.wall_ms() < right.wall_ms());
        wrong.set_wrong_by_ms(0);
        assert!((wrong.wall_ms() - right.wall_ms()).abs() < 100_000);
        let first = wrong.monotonic_ms();
        assert!(first >= 0 && wrong.monotonic_ms() >= first);
    }
}

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
    /// A simulation's time, with a wall clock that is wrong by this many milliseconds; clones share
    /// it.
    Virtual(VirtualTime, Arc<AtomicI64>),
}

/// The time of a simulation, for all its clocks. Clones share it.
#[derive(Debug, Clone)]
pub struct VirtualTime {
    now_us: Arc<AtomicI64>,
    /// What a wall clock that is right says at the beginning.
    epoch_ms: i64,
}

impl VirtualTime {
    /// At 0, when wall clocks say `epoch_ms`.
    #[must_use]
    pub fn new(epoch_ms: i64) -> VirtualTime {
        VirtualTime {
            now_us: Arc::default(),
            epoch_ms,
        }
    }

    /// Moves the time on, never back.
    pub fn advance_to_us(&self, now_us: i64) {
        self.now_us.fetch_max(now_us, Ordering::SeqCst);
    }

    /// Microseconds since the beginning.
    #[must_use]
    pub fn now_us(&self) -> i64 {
        self.now_us.load(Ordering::SeqCst)
    }

    /// A clock that is right until [`Clock::advance_ms`] or [`Clock::set_wrong_by_ms`] changes its
    /// wall clock, which others do not share.
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock::Virtual(self.clone(), Arc::default())
    }
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
            Clock::Virtual(time, ms) => {
                let right_ms = time.epoch_ms.saturating_add(time.now_us() / 1_000);
                right_ms.saturating_add(ms.load(Ordering::SeqCst))
            }
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
            Clock::Virtual(time, _) => time.now_us() / 1_000,
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
            Clock::Virtual(time, _) => time.now_us(),
        }
    }

    /// Moves a manual clock, or a skewed or virtual one's wall clock, forward by `ms`; does nothing
    /// to the machine's.
    pub fn advance_ms(&self, ms: i64) {
        if let Clock::Manual(now) | Clock::Skewed(_, now) | Clock::Virtual(_, now) = self {
            now.fetch_add(ms, Ordering::SeqCst);
        }
    }

    /// Sets by how much the wall clock of a skewed or a virtual one is ahead; does nothing to
    /// others.
    pub fn set_wrong_by_ms(&self, ms: i64) {
        if let Clock::Skewed(_, wrong) | Clock::Virtual(_, wrong) = self {
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
        let first = wrong.monotonic_ms();
        assert!(first >= 0 && wrong.monotonic_ms() >= first);
    }

    #[test]
    fn virtual_clocks_share_the_time_and_each_has_its_own_error() {
        let time = VirtualTime::new(1_000_000);
        let (right, wrong) = (time.clock(), time.clock());
        time.advance_to_us(2_500);
        wrong.clone().advance_ms(-60_000);
        assert_eq!((right.wall_ms(), wrong.wall_ms()), (1_000_002, 940_002));
        assert_eq!((wrong.monotonic_ms(), wrong.monotonic_us()), (2, 2_500));
        wrong.set_wrong_by_ms(0);
        time.advance_to_us(1);
        assert_eq!(wrong.wall_ms(), 1_000_002);
    }
}

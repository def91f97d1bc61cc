//! How fast ranges are served: so that producers hardly notice.
//!
//! While nothing is served, the times that produces of ordinary size take here are kept for some
//! seconds; when serving begins, 99 of a hundred of them were within the normal time. While ranges
//! are served, more than one produce in a hundred well above that time slows the serving down,
//! fewer let it go faster: a rate that falls by a part and rises in small steps, as TCP's does. A
//! node without producers serves as fast as it can.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use storage::clock::Clock;

/// Where the rate begins, after this long without a range, while there are producers.
const BYTES_PER_SECOND_FIRST: f64 = 32.0 * 1_048_576.0;
const FORGET_AFTER_US: i64 = 10_000_000;
/// What is always served: catching up must come to its end.
pub(crate) const BYTES_PER_SECOND_MIN: f64 = 8.0 * 1_048_576.0;
const BYTES_PER_SECOND_MAX: f64 = 4_096.0 * 1_048_576.0;
/// Time over which produces are counted before the rate is changed,
const WINDOW_US: i64 = 100_000;
/// and how many there must be, unless the window is five times as long.
const WINDOW_PRODUCES: u64 = 200;
/// Slow ones among them that may be chance.
const CHANCE: u64 = 1;
/// What the rate falls to, of what it was.
const FALL: f64 = 0.5;
/// What the rate rises by: this part of it, and these bytes a second.
const RISE: (f64, f64) = (0.05, 1_048_576.0);
/// The part that it rises by while nobody produces.
const RISE_ALONE: f64 = 1.0;
/// So long after the last range a produce still counts as one beside it.
const BESIDE_US: i64 = 1_000_000;
/// A produce that takes more than so many halves of its normal time is slow. That is less than the
/// twice that producers shall keep to: the rate swings around where it is met.
const SLOW_HALVES: i64 = 3;
/// Produces above this size take as long as they take.
const ORDINARY_BYTES_MAX: usize = 64 << 10;
/// Produces that must have been seen before there is a normal time,
const LEARNT: u64 = 100;
/// within the last one or two of these.
const LEARNT_OVER_US: i64 = 5_000_000;
/// Of a hundred, so many are done within the normal time.
const WITHIN: u64 = 99;

/// The pace of the ranges that a node serves, shared by all of them.
#[derive(Debug)]
pub(crate) struct Pace {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    times: Times,
    /// Microseconds; `None` while too little was seen, and then nobody waits.
    normal_us: Option<i64>,
    window: Window,
    bytes_per_second: f64,
    /// When the next range may begin, and when the last one did.
    free_us: i64,
    served_us: Option<i64>,
}

/// How long produces took lately: counts by magnitude, four to each power of two.
#[derive(Debug)]
struct Times {
    began_us: i64,
    now: [u32; Times::COUNT],
    before: [u32; Times::COUNT],
}

impl Default for Times {
    fn default() -> Times {
        Times {
            began_us: 0,
            now: [0; Times::COUNT],
            before: [0; Times::COUNT],
        }
    }
}

impl Times {
    /// Up to more than an hour.
    const COUNT: usize = 128;

    fn add(&mut self, took_us: i64, now_us: i64) {
        self.turn(now_us);
        let magnitude = Times::magnitude(took_us);
        self.now[magnitude] = self.now[magnitude].saturating_add(1);
    }

    fn turn(&mut self, now_us: i64) {
        let age_us = now_us.saturating_sub(self.began_us);
        if age_us >= LEARNT_OVER_US {
            let now = std::mem::replace(&mut self.now, [0; Times::COUNT]);
            self.before = if age_us < 2 * LEARNT_OVER_US {
                now
            } else {
                [0; Times::COUNT]
            };
            self.began_us = now_us;
        }
    }

    fn magnitude(took_us: i64) -> usize {
        let us = u64::try_from(took_us).unwrap_or(0).max(4);
        let power = us.ilog2();
        let quarter = (us >> (power - 2)) & 3;
        let magnitude = u64::from(power) * 4 + quarter;
        usize::try_from(magnitude).map_or(Times::COUNT - 1, |at| at.min(Times::COUNT - 1))
    }

    /// The least time that is above all of a magnitude, microseconds.
    fn above(magnitude: usize) -> i64 {
        let (power, quarter) = (magnitude / 4, magnitude % 4);
        let quarters = i64::try_from(5 + quarter).unwrap_or(8);
        quarters << power.saturating_sub(2)
    }

    /// What most of them took at most, when there were enough.
    fn normal_us(&mut self, now_us: i64) -> Option<i64> {
        self.turn(now_us);
        let counts = || {
            let both = self.now.iter().zip(&self.before);
            both.map(|(now, before)| u64::from(*now) + u64::from(*before))
        };
        let total: u64 = counts().sum();
        let mut below = 0;
        let at = counts().position(|count| {
            below += count;
            below * 100 >= total * WITHIN
        })?;
        (total >= LEARNT).then(|| Times::above(at))
    }
}

#[derive(Debug, Default)]
struct Window {
    began_us: i64,
    produces: u64,
    slow: u64,
}

impl Pace {
    pub(crate) fn new(clock: Clock) -> Pace {
        Pace {
            clock,
            state: Mutex::default(),
        }
    }

    /// A moment to give back to [`Pace::produced`].
    pub(crate) fn now_us(&self) -> i64 {
        self.clock.monotonic_us()
    }

    /// A produce of so many bytes that began then is done. Never waits: one that finds another at it
    /// is not counted.
    pub(crate) fn produced(&self, bytes: usize, began_us: i64) {
        if bytes > ORDINARY_BYTES_MAX {
            return;
        }
        if let Ok(mut state) = self.state.try_lock() {
            let now_us = self.clock.monotonic_us();
            state.produced(now_us.saturating_sub(began_us), now_us);
        }
    }

    /// Waits for the turn of a range of so many bytes.
    pub(crate) async fn turn(&self, bytes: usize) {
        self.turn_at_least(bytes, BYTES_PER_SECOND_MIN).await;
    }

    /// The same for work that would never come to its end at less than this rate.
    pub(crate) async fn turn_at_least(&self, bytes: usize, bytes_per_second: f64) {
        let wait_us = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.turn(bytes, bytes_per_second, self.clock.monotonic_us())
        };
        if wait_us > 0 {
            tokio::time::sleep(Duration::from_micros(wait_us)).await;
        }
    }
}

impl State {
    fn produced(&mut self, took_us: i64, now_us: i64) {
        let is_beside = self
            .served_us
            .is_some_and(|served_us| now_us.saturating_sub(served_us) < BESIDE_US);
        if !is_beside {
            self.times.add(took_us, now_us);
            return;
        }
        let is_slow = self
            .normal_us
            .is_some_and(|normal_us| 2 * took_us > SLOW_HALVES * normal_us);
        self.window.produces += 1;
        self.window.slow += u64::from(is_slow);
        self.adjust(now_us);
    }

    /// Changes the rate once enough was seen.
    fn adjust(&mut self, now_us: i64) {
        let age_us = now_us.saturating_sub(self.window.began_us);
        let Window { produces, slow, .. } = self.window;
        if age_us < WINDOW_US || (produces < WINDOW_PRODUCES && age_us < 5 * WINDOW_US) {
            return;
        }
        let is_slow = slow > CHANCE && slow * 100 >= produces;
        let rise = if produces == 0 { RISE_ALONE } else { RISE.0 };
        self.bytes_per_second = if is_slow {
            self.bytes_per_second * FALL
        } else {
            self.bytes_per_second * (1.0 + rise) + RISE.1
        }
        .clamp(BYTES_PER_SECOND_MIN, BYTES_PER_SECOND_MAX);
        self.window = Window {
            began_us: now_us,
            ..Window::default()
        };
    }

    /// How long a range has to wait, microseconds.
    fn turn(&mut self, bytes: usize, at_least: f64, now_us: i64) -> u64 {
        let is_first = self
            .served_us
            .is_none_or(|served_us| now_us.saturating_sub(served_us) > FORGET_AFTER_US);
        if is_first {
            // Nobody to be careful of: as fast as goes, until somebody comes.
            self.normal_us = self.times.normal_us(now_us);
            self.bytes_per_second = match self.normal_us {
                None => BYTES_PER_SECOND_MAX,
                Some(_) => BYTES_PER_SECOND_FIRST,
            };
            self.window = Window {
                began_us: now_us,
                ..Window::default()
            };
        }
        self.adjust(now_us);
        let from_us = self.free_us.max(now_us);
        #[expect(
            clippy::cast_precision_loss,
            reason = "bytes of a range: far below 2^52"
        )]
        let takes = bytes as f64 * 1_000_000.0 / self.bytes_per_second.max(at_least);
        #[expect(clippy::cast_possible_truncation, reason = "seconds at most")]
        let takes_us = takes as i64;
        self.free_us = from_us.saturating_add(takes_us);
        self.served_us = Some(from_us);
        u64::try_from(from_us.saturating_sub(now_us)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: usize = 4 << 20;

    /// A node whose produces take 1 to 2 ms.
    fn learnt() -> State {
        let mut state = State::default();
        for number in 0..5_000 {
            state.produced(1_000 + (number * 37) % 1_000, number * 100);
        }
        state
    }

    #[test]
    fn the_normal_time_is_what_most_took_lately() {
        let mut times = Times::default();
        for number in 0..1_000 {
            times.add(50_000, number * 1_000);
        }
        for number in 0..1_000 {
            times.add(1_000 + number % 1_000, 7_000_000 + number * 1_000);
        }
        // Slow ones of a moment ago still count,
        assert!(times.normal_us(8_000_000).is_some_and(|us| us > 40_000));
        for number in 0..1_000 {
            times.add(1_000 + number % 1_000, 13_000_000 + number);
        }
        // not those of long ago.
        let normal = times.normal_us(13_500_000);
        assert!(
            normal.is_some_and(|us| (1_900..2_600).contains(&us)),
            "{normal:?}"
        );
        assert_eq!(times.normal_us(60_000_000), None);
    }

    #[test]
    fn a_magnitude_holds_what_is_below_its_end() {
        for us in [
            0,
            4,
            5,
            7,
            8,
            9,
            1_000,
            1_023,
            1_024,
            123_456,
            10_000_000,
            i64::MAX,
        ] {
            let at = Times::magnitude(us);
            assert!(Times::above(at) > us || at == Times::COUNT - 1, "{us}");
            assert!(
                Times::above(at) <= us.max(4).saturating_add(us / 4 + 1) || at == Times::COUNT - 1,
                "{us}"
            );
        }
    }

    /// Serves for some seconds while each produce takes what `takes_us` says for the rate.
    fn serve(state: &mut State, from_us: i64, seconds: i64, takes_us: impl Fn(f64) -> i64) {
        let mut now_us = from_us;
        while now_us < from_us + seconds * 1_000_000 {
            now_us += 1_000;
            if state.free_us <= now_us {
                state.turn(RANGE, BYTES_PER_SECOND_MIN, now_us);
            }
            state.produced(takes_us(state.bytes_per_second), now_us);
        }
    }

    #[test]
    fn without_producers_nothing_waits() {
        let mut state = State::default();
        let waits: u64 = (0..100)
            .map(|at| state.turn(RANGE, BYTES_PER_SECOND_MIN, at * 10_000))
            .sum();
        assert_eq!(waits, 0);
    }

    #[test]
    fn producers_that_do_not_notice_let_it_go_faster() {
        let mut state = learnt();
        serve(&mut state, 1_000_000, 20, |_| 1_500);
        assert!(state.bytes_per_second > 1e9, "{state:?}");
    }

    #[test]
    fn producers_that_suffer_slow_it_down_and_it_never_stops() {
        let mut state = learnt();
        serve(&mut state, 1_000_000, 5, |_| 10_000);
        assert!(state.bytes_per_second <= BYTES_PER_SECOND_MIN + RISE.1);
        let takes_us = |state: &mut State, at_least| {
            let before_us = state.free_us;
            state.turn(RANGE, at_least, before_us);
            state.free_us - before_us
        };
        let slow_us = takes_us(&mut state, BYTES_PER_SECOND_MIN);
        assert!(slow_us < 1_000_000);
        let least_us = takes_us(&mut state, 4.0 * BYTES_PER_SECOND_MIN);
        assert!(least_us < slow_us / 3, "{least_us} {slow_us}");
    }

    #[test]
    fn once_producers_have_gone_it_is_soon_as_fast_as_goes() {
        let mut state = learnt();
        serve(&mut state, 1_000_000, 5, |_| 10_000);
        let slow = state.bytes_per_second;
        for ms in 0..4_000 {
            state.turn(1, BYTES_PER_SECOND_MIN, 6_000_000 + ms * 1_000);
        }
        let fast = state.bytes_per_second;
        assert!(fast > 32.0 * slow, "{slow} {fast}");
    }

    #[test]
    fn it_finds_the_rate_that_producers_bear() {
        let mut state = learnt();
        let bears = 200e6;
        serve(&mut state, 1_000_000, 20, |rate| {
            if rate > bears { 8_000 } else { 1_500 }
        });
        let rate = state.bytes_per_second;
        assert!((0.5 * bears..1.2 * bears).contains(&rate), "{rate}");
    }

    #[test]
    fn what_it_was_is_forgotten_after_a_rest() {
        let mut state = learnt();
        serve(&mut state, 1_000_000, 5, |_| 10_000);
        for number in 0..1_000 {
            state.produced(1_500, 99_000_000 + number * 1_000);
        }
        state.turn(RANGE, BYTES_PER_SECOND_MIN, 100_000_000);
        assert!((state.bytes_per_second - BYTES_PER_SECOND_FIRST).abs() < 1.0);
    }
}

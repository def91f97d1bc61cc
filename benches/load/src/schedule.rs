//! When records are due: by the schedule alone, whatever becomes of those before.
//!
//! A generator that waits for an answer before it thinks of the next record measures only what the
//! broker lets it see (coordinated omission). Here records that became due during a stall are
//! handed out after it with the times at which they should have gone.

use crate::settings::Until;

/// The records of one generator, of several that share a rate.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Microseconds between two records of this generator; `None`: closed-loop.
    every_us: Option<f64>,
    first_us: f64,
    start_us: i64,
    measure_from_us: i64,
    until: Until,
    next: u32,
    // Whole steps of 2^31 records, so that no time is rounded twice.
    rounds: u32,
    measured: u64,
}

/// What a [`Schedule`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// A record is due, since then (microseconds).
    Due(i64),
    /// The next one is due then.
    At(i64),
    /// There are no more.
    Over,
}

impl Schedule {
    /// The part of generator `client` of `clients`. Times are microseconds of one clock. `until`
    /// is of all generators; measured is what is due `warm_up_us` after the start, or later.
    #[must_use]
    pub fn new(
        start_us: i64,
        warm_up_us: i64,
        rate: Option<f64>,
        until: Until,
        (client, clients): (u32, u32),
    ) -> Schedule {
        let (client, clients) = (client.min(clients.max(1) - 1), clients.max(1));
        let until = match until {
            Until::Records(all) => {
                let (each, rest) = (all / u64::from(clients), all % u64::from(clients));
                Until::Records(each + u64::from(u64::from(client) < rest))
            }
            elapsed => elapsed,
        };
        let between_us = rate.map(|rate| 1e6 / rate);
        Schedule {
            every_us: between_us.map(|between| between * f64::from(clients)),
            first_us: as_f64(start_us) + between_us.unwrap_or(0.0) * f64::from(client),
            start_us,
            measure_from_us: start_us.saturating_add(warm_up_us),
            until,
            next: 0,
            rounds: 0,
            measured: 0,
        }
    }

    /// Takes the next record, if it is due by now.
    pub fn next(&mut self, now_us: i64) -> Next {
        let due_us = match self.every_us {
            Some(every_us) => {
                let number = f64::from(self.rounds) * f64::from(1u32 << 31) + f64::from(self.next);
                whole(self.first_us + number * every_us)
            }
            None => now_us.max(self.start_us),
        };
        let over = match self.until {
            Until::Records(count) => self.measured >= count,
            Until::ElapsedUs(elapsed_us) => {
                due_us >= self.measure_from_us.saturating_add(elapsed_us)
            }
        };
        if over {
            return Next::Over;
        }
        if due_us > now_us {
            return Next::At(due_us);
        }
        self.next += 1;
        if self.next == 1 << 31 {
            (self.next, self.rounds) = (0, self.rounds + 1);
        }
        self.measured += u64::from(due_us >= self.measure_from_us);
        Next::Due(due_us)
    }
}

/// Microseconds of a run are far below 2^52.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn as_f64(us: i64) -> f64 {
    us as f64
}

#[expect(clippy::cast_possible_truncation, reason = "`as` saturates")]
fn whole(us: f64) -> i64 {
    us as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(schedule: &mut Schedule, now_us: i64) -> Vec<i64> {
        std::iter::from_fn(|| match schedule.next(now_us) {
            Next::Due(due_us) => Some(due_us),
            Next::At(_) | Next::Over => None,
        })
        .collect()
    }

    #[test]
    fn a_stall_hides_no_record_and_shortens_no_latency() {
        let mut schedule = Schedule::new(1_000, 0, Some(1_000.0), Until::Records(5_000), (0, 1));
        assert_eq!(due(&mut schedule, 1_000), [1_000]);
        assert_eq!(schedule.next(1_000), Next::At(2_000));
        assert_eq!(due(&mut schedule, 3_999), [2_000, 3_000]);
        // Nobody asks for a second: all that became due meanwhile is handed out, with its times.
        let late = due(&mut schedule, 1_003_000);
        assert_eq!(late.len(), 1_000);
        assert!(
            late.iter()
                .zip(4..)
                .all(|(due_us, ms)| *due_us == ms * 1_000)
        );
        let waited_half = late.iter().filter(|due_us| 1_003_000 - **due_us >= 500_000);
        assert_eq!(waited_half.count(), 500);
    }

    #[test]
    fn generators_share_a_rate_and_a_count() {
        let mut all: Vec<i64> = Vec::new();
        for client in 0..3 {
            let until = Until::Records(100);
            let mut schedule = Schedule::new(0, 0, Some(100.0), until, (client, 3));
            all.extend(due(&mut schedule, i64::MAX / 2));
            assert_eq!(schedule.next(i64::MAX / 2), Next::Over);
        }
        all.sort_unstable();
        assert!(all.iter().zip(0..).all(|(due_us, n)| *due_us == n * 10_000));
        assert_eq!(all.len(), 100);
    }

    #[test]
    fn the_warm_up_comes_on_top() {
        let mut schedule = Schedule::new(0, 50_000, Some(1_000.0), Until::Records(10), (0, 1));
        assert_eq!(due(&mut schedule, 1_000_000).len(), 60);
        let until = Until::ElapsedUs(10_000);
        let mut schedule = Schedule::new(0, 50_000, Some(1_000.0), until, (0, 1));
        assert_eq!(due(&mut schedule, 1_000_000).len(), 60);
    }

    #[test]
    fn closed_loop_is_always_due_until_it_is_over() {
        let mut schedule = Schedule::new(3, 7, None, Until::Records(1), (0, 1));
        assert_eq!(schedule.next(2), Next::At(3));
        assert_eq!(schedule.next(5), Next::Due(5));
        assert_eq!(schedule.next(10), Next::Due(10));
        assert_eq!(schedule.next(11), Next::Over);
        let mut schedule = Schedule::new(0, 10, None, Until::ElapsedUs(10), (0, 1));
        assert_eq!(schedule.next(19), Next::Due(19));
        assert_eq!(schedule.next(20), Next::Over);
    }
}

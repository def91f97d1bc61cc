//! How much of a rate is left. Pure: time is an argument.
//!
//! As in Kafka, ten seconds' worth may be used at once; what goes beyond is waited for. What is
//! owed has a bound, so that nobody waits for ever for one large request.

/// Seconds of a rate that may be used at once.
pub(super) const BURST_SECONDS: u64 = 10;
/// Longest wait.
pub(super) const WAIT_MS_MAX: u64 = 3_600_000;

/// What one client, or several together, may still use of one quota.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    left_milli: i128, // thousandths; below 0: owed
    at_ms: i64,
}

impl Bucket {
    /// Full.
    pub(super) fn new(rate: u64, now_ms: i64) -> Bucket {
        Bucket {
            left_milli: burst_milli(rate),
            at_ms: now_ms,
        }
    }

    /// Uses an amount; says how long to wait before more is used.
    pub(super) fn spend(&mut self, amount: u64, rate: u64, now_ms: i64) -> u64 {
        self.refill(rate, now_ms);
        let floor = -i128::from(rate) * i128::from(WAIT_MS_MAX);
        self.left_milli = (self.left_milli - i128::from(amount) * 1000).max(floor);
        self.wait_ms(rate)
    }

    /// Uses an amount if there is as much; else says how long to wait until there is.
    pub(super) fn take(&mut self, amount: u64, rate: u64, now_ms: i64) -> Result<(), u64> {
        self.refill(rate, now_ms);
        let after = Bucket {
            left_milli: self.left_milli - i128::from(amount) * 1000,
            at_ms: self.at_ms,
        };
        match after.wait_ms(rate) {
            0 => {
                *self = after;
                Ok(())
            }
            wait_ms => Err(wait_ms.min(WAIT_MS_MAX)),
        }
    }

    /// Whether a new one would be the same.
    pub(super) fn is_full(&self, rate: u64, now_ms: i64) -> bool {
        let mut now = *self;
        now.refill(rate, now_ms);
        now.left_milli == burst_milli(rate)
    }

    /// When it was last used.
    pub(super) fn at_ms(&self) -> i64 {
        self.at_ms
    }

    fn refill(&mut self, rate: u64, now_ms: i64) {
        let passed_ms = i128::from(now_ms.saturating_sub(self.at_ms).max(0));
        let gained = i128::from(rate) * passed_ms;
        self.left_milli = (self.left_milli + gained).min(burst_milli(rate));
        self.at_ms = self.at_ms.max(now_ms);
    }

    fn wait_ms(&self, rate: u64) -> u64 {
        if self.left_milli >= 0 {
            return 0;
        }
        let rate = u128::from(rate.max(1));
        let wait_ms = self.left_milli.unsigned_abs().div_ceil(rate);
        u64::try_from(wait_ms).unwrap_or(WAIT_MS_MAX)
    }
}

fn burst_milli(rate: u64) -> i128 {
    i128::from(rate) * 1000 * i128::from(BURST_SECONDS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ten_seconds_are_free_and_the_rest_is_waited_for() {
        let mut bucket = Bucket::new(100, 0);
        assert_eq!(bucket.spend(1_000, 100, 0), 0);
        assert_eq!(bucket.spend(50, 100, 0), 500);
        assert_eq!(bucket.spend(0, 100, 400), 100);
        assert_eq!(bucket.spend(1, 100, 500), 10);
    }

    #[test]
    fn idle_time_fills_it_and_no_more() {
        let mut bucket = Bucket::new(100, 0);
        bucket.spend(1_000, 100, 0);
        assert!(!bucket.is_full(100, 9_999));
        assert!(bucket.is_full(100, 10_000));
        assert_eq!(bucket.spend(1_001, 100, 1_000_000), 10);
    }

    #[test]
    fn what_is_owed_has_a_bound() {
        let mut bucket = Bucket::new(1, 0);
        assert_eq!(bucket.spend(u64::MAX, 1, 0), WAIT_MS_MAX);
        assert_eq!(bucket.spend(1, 1, 0), WAIT_MS_MAX);
        let mut bucket = Bucket::new(1, 0);
        assert_eq!(bucket.take(u64::MAX, 1, 0), Err(WAIT_MS_MAX));
    }

    #[test]
    fn what_is_refused_uses_nothing() {
        let mut bucket = Bucket::new(1, 0);
        assert_eq!(bucket.take(10, 1, 0), Ok(()));
        assert_eq!(bucket.take(1, 1, 0), Err(1_000));
        assert_eq!(bucket.take(1, 1, 999), Err(1));
        assert_eq!(bucket.take(1, 1, 1_000), Ok(()));
    }

    #[test]
    fn a_clock_that_stands_or_goes_back_gives_nothing() {
        let mut bucket = Bucket::new(100, 5_000);
        bucket.spend(1_000, 100, 5_000);
        assert_eq!(bucket.spend(1, 100, 0), 10);
        assert_eq!(bucket.at_ms(), 5_000);
    }

    proptest! {
        #[test]
        fn who_waits_as_told_never_exceeds_rate_and_burst(
            rate in 1_u64..1_000_000,
            amounts in proptest::collection::vec(1_u64..2_000_000, 1..50),
        ) {
            let mut bucket = Bucket::new(rate, 0);
            let (mut now_ms, mut used) = (0_i64, 0_u128);
            for amount in amounts {
                let wait_ms = bucket.spend(amount, rate, now_ms);
                used += u128::from(amount);
                if wait_ms < WAIT_MS_MAX {
                    now_ms += i64::try_from(wait_ms).unwrap();
                    let allowed = u128::from(rate) * (10_000 + u128::try_from(now_ms).unwrap());
                    prop_assert!(used * 1000 <= allowed, "{used} by {now_ms}");
                } else {
                    break;
                }
            }
        }
    }
}

//! Latencies in a histogram of high dynamic range: three digits, a microsecond to an hour.

use hdrhistogram::Histogram;

/// Longer ones count as this.
const LONGEST_US: u64 = 3_600_000_000;
const DIGITS: u8 = 3;

/// Latencies, however many, in memory of one size.
#[derive(Debug, Clone)]
pub struct Latencies {
    histogram: Histogram<u64>,
}

/// What is told of them, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// How many there are.
    pub samples: u64,
    /// Half of them are no longer than this,
    pub p50_us: u64,
    /// nine of ten,
    pub p90_us: u64,
    /// 99 of a hundred,
    pub p99_us: u64,
    /// 999 of a thousand,
    pub p999_us: u64,
    /// and all.
    pub max_us: u64,
}

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies {
            histogram: Histogram::new_with_bounds(1, LONGEST_US, DIGITS)
                .expect("the bounds and digits are valid"),
        }
    }
}

impl Latencies {
    /// Takes one note, in microseconds; a negative one counts as 0.
    pub fn record(&mut self, us: i64) {
        self.histogram
            .saturating_record(u64::try_from(us).unwrap_or(0));
    }

    /// Takes over those of another.
    pub fn merge(&mut self, other: &Latencies) {
        self.histogram
            .add(&other.histogram)
            .expect("both have the same bounds");
    }

    /// What is told of them; `None` when there are none.
    #[must_use]
    pub fn figures(&self) -> Option<Figures> {
        let at = |quantile| self.histogram.value_at_quantile(quantile);
        (!self.histogram.is_empty()).then(|| Figures {
            samples: self.histogram.len(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.histogram.max(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_the_samples_to_three_digits() {
        let (mut left, mut right) = (Latencies::default(), Latencies::default());
        assert_eq!(left.figures(), None);
        for us in 1..=10_000 {
            match us % 2 {
                0 => left.record(us),
                _ => right.record(us),
            }
        }
        left.merge(&right);
        let figures = left.figures().expect("there are samples");
        assert_eq!(figures.samples, 10_000);
        let near = |told: u64, exact: u64| told.abs_diff(exact) * 1_000 <= exact;
        assert!(near(figures.p50_us, 5_000), "{figures:?}");
        assert!(near(figures.p90_us, 9_000), "{figures:?}");
        assert!(near(figures.p99_us, 9_900), "{figures:?}");
        assert!(near(figures.p999_us, 9_990), "{figures:?}");
        assert!(near(figures.max_us, 10_000), "{figures:?}");
    }

    #[test]
    fn what_lies_outside_counts_as_the_nearest() {
        let mut latencies = Latencies::default();
        latencies.record(-5);
        latencies.record(i64::MAX);
        let figures = latencies.figures().expect("there are samples");
        assert_eq!((figures.samples, figures.p50_us), (2, 0));
        assert!(figures.max_us.abs_diff(LONGEST_US) * 1_000 <= LONGEST_US);
    }
}

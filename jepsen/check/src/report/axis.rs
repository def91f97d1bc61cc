//! Axes: where a time or an amount stands in a picture, and which of them are written beside it.

/// Labels beside an axis of time, about as many.
const TIME_TICKS_MAX: u64 = 14;

/// Time, from left to right.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeAxis {
    pub(super) left: f64,
    pub(super) width: f64,
    pub(super) end_us: u64,
}

impl TimeAxis {
    /// Where a time stands.
    pub(super) fn x(&self, time_us: u64) -> f64 {
        self.left + self.width * (time_us.min(self.end_us) as f64 / self.end_us.max(1) as f64)
    }

    pub(super) fn right(&self) -> f64 {
        self.left + self.width
    }

    /// Which of `bins` equal parts a time falls into.
    pub(super) fn bin(&self, time_us: u64, bins: usize) -> usize {
        let bin = u128::from(time_us) * bins as u128 / u128::from(self.end_us.max(1));
        usize::try_from(bin)
            .unwrap_or(usize::MAX)
            .min(bins.saturating_sub(1))
    }

    /// Times to write, with their words.
    pub(super) fn ticks(&self) -> Vec<(u64, String)> {
        let step_us = (0..)
            .flat_map(|power: u32| [1, 2, 5].map(|one| one * 10_u64.pow(power.min(18))))
            .find(|step| self.end_us / step <= TIME_TICKS_MAX)
            .unwrap_or(self.end_us.max(1));
        (0..=self.end_us / step_us)
            .map(|at| (at * step_us, seconds_tick(at * step_us, step_us)))
            .collect()
    }
}

fn seconds_tick(time_us: u64, step_us: u64) -> String {
    let digits = match step_us {
        1_000_000.. => 0,
        100_000.. => 1,
        1_000.. => 3,
        _ => 6,
    };
    format!("{:.digits$} s", time_us as f64 / 1e6)
}

/// Amounts, from the bottom up.
#[derive(Debug, Clone, Copy)]
pub(super) struct AmountAxis {
    pub(super) top: f64,
    pub(super) height: f64,
    low: f64,
    high: f64,
    is_log: bool,
}

impl AmountAxis {
    /// From 0 to `max` or a rounder number above; to 1 where there is nothing.
    pub(super) fn linear(top: f64, height: f64, max: f64) -> AmountAxis {
        let high = if max > 0.0 { round_up(max) } else { 1.0 };
        AmountAxis {
            top,
            height,
            low: 0.0,
            high,
            is_log: false,
        }
    }

    /// From `low` to `high`, as they are.
    pub(super) fn between(top: f64, height: f64, low: f64, high: f64) -> AmountAxis {
        AmountAxis {
            top,
            height,
            low,
            high: high.max(low + 1.0),
            is_log: false,
        }
    }

    /// Powers of ten around what lies between `min` and `max`.
    pub(super) fn log(top: f64, height: f64, min: f64, max: f64) -> AmountAxis {
        let low = min.max(1.0).log10().floor();
        let high = max.max(1.0).log10().ceil().max(low + 1.0);
        AmountAxis {
            top,
            height,
            low,
            high,
            is_log: true,
        }
    }

    /// Where an amount stands.
    pub(super) fn y(&self, amount: f64) -> f64 {
        let at = if self.is_log {
            amount.max(1.0).log10()
        } else {
            amount
        };
        let share = ((at - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        self.top + self.height * (1.0 - share)
    }

    pub(super) fn bottom(&self) -> f64 {
        self.top + self.height
    }

    /// Amounts to write.
    pub(super) fn ticks(&self) -> Vec<f64> {
        if self.is_log {
            let mut ticks = Vec::new();
            let mut power = self.low;
            while power <= self.high {
                ticks.push(10_f64.powf(power));
                power += 1.0;
            }
            return ticks;
        }
        let parts = if self.height < 70.0 { 2 } else { 4 };
        (0..=parts)
            .map(|part| self.low + (self.high - self.low) * f64::from(part) / f64::from(parts))
            .collect()
    }
}

/// The next of 1, 2, 4, 10, 20, 40, ...: so that halves and quarters are round as well.
fn round_up(amount: f64) -> f64 {
    let power = 10_f64.powf(amount.log10().floor());
    [1.0, 2.0, 4.0, 10.0]
        .map(|one| one * power)
        .into_iter()
        .find(|round| *round >= amount)
        .unwrap_or(amount)
}

/// A duration in the unit that suits it.
pub(super) fn duration(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{:.1} ms", us as f64 / 1e3),
        10_000..1_000_000 => format!("{} ms", us / 1_000),
        1_000_000..10_000_000 => format!("{:.2} s", us as f64 / 1e6),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}

/// A point in time of the run.
pub(super) fn moment(us: u64) -> String {
    format!("{:.3} s", us as f64 / 1e6)
}

/// An amount with its thousands told apart.
pub(super) fn count(amount: u64) -> String {
    let digits = amount.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_has_a_handful_of_round_labels() {
        let axis = TimeAxis {
            left: 100.0,
            width: 1000.0,
            end_us: 61_000_000,
        };
        let ticks = axis.ticks();
        assert_eq!(ticks[1], (5_000_000, "5 s".to_owned()));
        assert_eq!(ticks.len(), 13);
        let short = TimeAxis { end_us: 1, ..axis };
        assert!(short.ticks().len() <= 15);
        assert!(
            TimeAxis {
                end_us: u64::MAX,
                ..axis
            }
            .ticks()
            .len()
                <= 15
        );
    }

    #[test]
    fn every_time_has_a_bin() {
        let axis = TimeAxis {
            left: 0.0,
            width: 10.0,
            end_us: 1_000,
        };
        assert_eq!(axis.bin(0, 10), 0);
        assert_eq!(axis.bin(999, 10), 9);
        assert_eq!(axis.bin(5_000, 10), 9);
    }

    #[test]
    fn amounts_stand_between_top_and_bottom() {
        let axis = AmountAxis::log(10.0, 100.0, 900.0, 2_000_000.0);
        assert_eq!(axis.ticks(), [100.0, 1e3, 1e4, 1e5, 1e6, 1e7]);
        assert!((axis.y(100.0) - 110.0).abs() < 0.01 && (axis.y(1e9) - 10.0).abs() < 0.01);
        assert!((AmountAxis::linear(0.0, 100.0, 35.0).y(20.0) - 50.0).abs() < 0.01);
        assert!(AmountAxis::linear(0.0, 100.0, f64::NAN).y(1.0).is_finite());
    }

    #[test]
    fn durations_choose_their_unit() {
        assert_eq!(duration(950), "950 µs");
        assert_eq!(duration(1_234), "1.2 ms");
        assert_eq!(duration(45_600), "45 ms");
        assert_eq!(duration(1_234_567), "1.23 s");
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
    }
}

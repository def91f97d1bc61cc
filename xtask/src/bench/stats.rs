//! What is told of a handful of figures: their median and their spread.

/// Median, least and most of a few figures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Stats {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Stats {
    /// `None`: there is no figure, or one that is not a number.
    pub(super) fn of(figures: &[f64]) -> Option<Stats> {
        if figures.is_empty() || figures.iter().any(|figure| !figure.is_finite()) {
            return None;
        }
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        };
        Some(Stats {
            median,
            min: sorted[0],
            max: sorted[sorted.len() - 1],
        })
    }

    /// Of the ratios of each round: figures of one round belong together, those of two do not.
    pub(super) fn of_ratios(ours: &[f64], theirs: &[f64]) -> Option<Stats> {
        if ours.len() != theirs.len() {
            return None;
        }
        let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a / b).collect();
        Stats::of(&ratios)
    }
}

/// A figure with three digits that count, and more before the point when there are.
pub(super) fn shown(figure: f64) -> String {
    let decimals = match figure.abs() {
        size if size >= 99.95 || size == 0.0 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.9995 => 2,
        _ => 3,
    };
    format!("{figure:.decimals$}")
}

/// Median and, where there is more than one figure, least and most.
pub(super) fn spread(stats: Stats) -> String {
    let [median, min, max] = [stats.median, stats.min, stats.max].map(shown);
    format!("{median} ({min} to {max})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two() {
        let odd = Stats::of(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!((odd.median, odd.min, odd.max), (2.0, 1.0, 3.0));
        assert_eq!(Stats::of(&[4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
        assert_eq!(Stats::of(&[7.0]).unwrap().median, 7.0);
        assert_eq!(Stats::of(&[]), None);
        assert_eq!(Stats::of(&[1.0, f64::NAN]), None);
    }

    #[test]
    fn ratios_are_those_of_the_rounds_not_of_the_medians() {
        // The machine was slow in the second round, for both.
        let ratios = Stats::of_ratios(&[200.0, 20.0, 190.0], &[100.0, 10.0, 100.0]).unwrap();
        assert_eq!((ratios.median, ratios.min, ratios.max), (2.0, 1.9, 2.0));
        assert_eq!(Stats::of_ratios(&[1.0], &[1.0, 2.0]), None);
        assert_eq!(Stats::of_ratios(&[1.0], &[0.0]), None);
        assert_eq!(Stats::of_ratios(&[], &[]), None);
    }

    #[test]
    fn figures_have_three_digits_that_count() {
        let pairs = [
            (1_234.5, "1234"),
            (99.96, "100"),
            (99.94, "99.9"),
            (9.996, "10.0"),
            (1.2345, "1.23"),
            (0.99951, "1.00"),
            (0.1234, "0.123"),
            (0.0, "0"),
        ];
        for (figure, text) in pairs {
            assert_eq!(shown(figure), text);
        }
        let stats = Stats::of(&[1.0, 2.0, 30.0]).unwrap();
        assert_eq!(spread(stats), "2.00 (1.00 to 30.0)");
    }
}

//! The table of rebalance times, the protocols side by side.

use super::rebalance::{Cause, Rebalance};

/// Median and maximum of each cause's times, and how long a partition was without an owner at the
/// longest, in seconds, for each of the named runs.
pub(super) fn shown(runs: &[(&str, Vec<Rebalance>)]) -> String {
    let mut text = format!("{:<42}", "rebalance, in s");
    for (name, _) in runs {
        text += &row(&format!("{name} median"), "max", "unowned");
    }
    text.push('\n');
    for cause in Cause::ALL {
        let cells: Vec<Option<String>> = runs.iter().map(|(_, found)| cell(found, cause)).collect();
        if cells.iter().all(Option::is_none) {
            continue;
        }
        text += &format!("{:<42}", cause.name());
        for cell in cells {
            text += &cell.unwrap_or_else(|| row("-", "-", "-"));
        }
        text.push('\n');
    }
    text
}

fn row(median: &str, max: &str, unowned: &str) -> String {
    format!(" | {median:>15} {max:>7} {unowned:>7}")
}

fn cell(found: &[Rebalance], cause: Cause) -> Option<String> {
    let ours = found.iter().filter(|one| one.cause == cause);
    let mut times: Vec<u64> = ours.clone().filter_map(|one| one.took_ns).collect();
    times.sort_unstable();
    let unowned = ours.map(|one| one.unowned_ns).max().unwrap_or(0);
    let max = times.last()?;
    let median = times[times.len() / 2];
    let [median, max, unowned] = [median, *max, unowned].map(seconds);
    Some(row(&median, &max, &unowned))
}

fn seconds(ns: u64) -> String {
    let ms = ns / 1_000_000;
    format!("{}.{:02}", ms / 1000, ms % 1000 / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_side_by_side() {
        let one = |ms: u64| Rebalance {
            cause: Cause::BatchLeaves,
            took_ns: Some(ms * 1_000_000),
            unowned_ns: 250_000_000,
        };
        let runs = [
            ("classic", vec![one(3_000), one(1_000), one(2_000)]),
            ("consumer", Vec::new()),
        ];
        let text = shown(&runs);
        let lines: Vec<Vec<&str>> =
            (text.lines().map(|line| line.split_whitespace().collect())).collect();
        assert_eq!(lines.len(), 2, "{text}");
        let expected = "a batch leaves | 2.00 3.00 0.25 | - - -";
        assert_eq!(lines[1].join(" "), expected);
    }
}

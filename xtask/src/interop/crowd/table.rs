//! The table of rebalance times, the protocols side by side.

use super::rebalance::{Cause, Rebalance};

const HEADS: [&str; 4] = ["median", "max", "no owner", "no commit"];

/// Median and maximum of each cause's times, and how long a partition was without an owner and the
/// group without a commit at the longest, all in seconds, for each of the named runs.
pub(super) fn shown(runs: &[(&str, Vec<Rebalance>)]) -> String {
    let mut lines = vec![vec![String::new()], vec!["rebalance, in s".to_owned()]];
    for (name, _) in runs {
        lines[0].push(format!(" | {name:<39}"));
        lines[1].push(row(HEADS));
    }
    for cause in Cause::ALL {
        let cells: Vec<Option<String>> = runs.iter().map(|(_, found)| cell(found, cause)).collect();
        if cells.iter().any(Option::is_some) {
            let cells = cells.into_iter();
            let cells = cells.map(|cell| cell.unwrap_or_else(|| row(["-"; 4])));
            lines.push([cause.name().to_owned()].into_iter().chain(cells).collect());
        }
    }
    let line = |cells: &Vec<String>| {
        let (head, rest) = cells.split_first().expect("every line has a head");
        let line = format!("{head:<40}{}", rest.concat());
        format!("{}\n", line.trim_end())
    };
    lines.iter().map(line).collect()
}

fn row([median, max, unowned, uncommitted]: [&str; 4]) -> String {
    format!(" | {median:>9} {max:>9} {unowned:>9} {uncommitted:>9}")
}

fn cell(found: &[Rebalance], cause: Cause) -> Option<String> {
    let ours: Vec<&Rebalance> = found.iter().filter(|one| one.cause == cause).collect();
    // What never settled is the longest.
    let mut times: Vec<u64> = (ours.iter().map(|one| one.took_ns.unwrap_or(u64::MAX))).collect();
    times.sort_unstable();
    let median = times.get(times.len() / 2)?;
    let longest = |of: fn(&Rebalance) -> u64| ours.iter().map(|one| of(one)).max().unwrap_or(0);
    let unowned = longest(|one| one.unowned_ns);
    let uncommitted = longest(|one| one.uncommitted_ns);
    let cells = [*median, *times.last()?, unowned, uncommitted].map(seconds);
    Some(row(cells.each_ref().map(String::as_str)))
}

fn seconds(ns: u64) -> String {
    let ms = ns / 1_000_000;
    match ns {
        u64::MAX => "never".to_owned(),
        _ => format!("{}.{:02}", ms / 1000, ms % 1000 / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_side_by_side() {
        let one = |ms: Option<u64>| Rebalance {
            cause: Cause::BatchLeaves,
            took_ns: ms.map(|ms| ms * 1_000_000),
            unowned_ns: 250_000_000,
            uncommitted_ns: 1_250_000_000,
        };
        let runs = [
            (
                "classic",
                vec![one(None), one(Some(1_000)), one(Some(2_000))],
            ),
            ("consumer", Vec::new()),
        ];
        let text = shown(&runs);
        let lines = text.lines().map(|line| line.split_whitespace().collect());
        let lines: Vec<Vec<&str>> = lines.collect();
        assert_eq!(lines.len(), 3, "{text}");
        let expected = "a batch leaves | 2.00 never 0.25 1.25 | - - - -";
        assert_eq!(lines[2].join(" "), expected);
    }
}

//! `docs/compatibility.md`: client by version by behaviour, from the rows of a report.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::client::CODECS;
use super::report::{Outcome, Report, Row};
use super::{CLIENTS, SLOWEST};

const HEAD: &str = "\
# Compatibility

What real Kafka clients do with Braidlog, each installed in the version named here.
A number says how many checks of that behaviour passed; what failed or was not run has its reason below the client's table.
Against several nodes every client also sends while nodes are killed, paused and cut off, leaders among them, and what it sent is read back from every replica.
A group's coordinator is killed among them, too, and the group has to go on.
Kafka Connect and Spark Structured Streaming have behaviours of their own only; they are run with `--all`.
";

/// A behaviour's checks in one run.
#[derive(Default)]
struct Tally {
    passed: u32,
    failed: u32,
    not_run: u32,
}

impl Tally {
    fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Passed => self.passed += 1,
            Outcome::Failed(_) => self.failed += 1,
            Outcome::NotRun(_) => self.not_run += 1,
        }
    }

    fn shown(&self) -> String {
        match (self.passed, self.failed, self.not_run) {
            (0, 0, 0) => "–".to_owned(),
            (0, 0, _) => "not run".to_owned(),
            (1, 0, 0) => "passed".to_owned(),
            (passed, 0, 0) => format!("passed ({passed})"),
            (passed, 0, not_run) => format!("passed ({passed}), not run ({not_run})"),
            (0, failed, _) => format!("**failed** ({failed})"),
            (passed, failed, _) => format!("**failed** ({failed}), passed ({passed})"),
        }
    }
}

/// Writes the page, which names the options of the run that it tells of.
pub(crate) fn write(report: &Report, path: &Path, options: &str) -> Result<(), String> {
    fs::write(path, page(report, options))
        .map_err(|e| format!("cannot write {}: {e}", path.display()))
}

fn page(report: &Report, options: &str) -> String {
    let rows = report.rows();
    let runs: Vec<usize> = rows
        .iter()
        .map(|row| row.nodes)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let mut page = HEAD.to_owned();
    let mut line = |text: String| {
        page.push_str(&text);
        page.push('\n');
    };
    line(format!(
        "This page was written by `cargo xtask interop {options}`; with `--all` it has one node and three, and all that is left out here; do not edit it.\n"
    ));
    line(header("client | version", &runs));
    let clients = CLIENTS.iter().chain(&SLOWEST).chain(&["node"]);
    let present = clients.filter(|client| rows.iter().any(|row| row.client == **client));
    let present: Vec<&str> = present.copied().collect();
    for client in &present {
        let version = match *client {
            "node" => "Braidlog itself",
            client => report.version(client).unwrap_or("not installed"),
        };
        let cells = runs
            .iter()
            .map(|nodes| tally(rows, client, *nodes, |_| true).shown());
        line(format!(
            "| {client} | {version} | {} |",
            cells.collect::<Vec<_>>().join(" | ")
        ));
    }
    for client in present {
        line(format!("\n## {client}\n"));
        if let Some(version) = report.version(client) {
            line(format!("{version}.\n"));
        }
        line(header("behaviour", &runs));
        let own = || rows.iter().filter(|row| row.client == client);
        for family in in_order(own().map(|row| family(&row.behaviour))) {
            let cells = runs.iter().map(|nodes| {
                let is_in = |row: &Row| self::family(&row.behaviour) == family;
                tally(rows, client, *nodes, is_in).shown()
            });
            line(format!(
                "| {family} | {} |",
                cells.collect::<Vec<_>>().join(" | ")
            ));
        }
        let reasons = reasons(own());
        if !reasons.is_empty() {
            line(String::new());
        }
        reasons.into_iter().for_each(&mut line);
    }
    page
}

fn header(first: &str, runs: &[usize]) -> String {
    let nodes = runs.iter().map(|nodes| match nodes {
        1 => "one node".to_owned(),
        nodes => format!("{nodes} nodes"),
    });
    let columns = first.split(" | ").map(str::to_owned).chain(nodes);
    let columns: Vec<String> = columns.collect();
    format!(
        "| {} |\n|{}",
        columns.join(" | "),
        " --- |".repeat(columns.len())
    )
}

fn tally(rows: &[Row], client: &str, nodes: usize, is_in: impl Fn(&Row) -> bool) -> Tally {
    let mut tally = Tally::default();
    let rows = rows
        .iter()
        .filter(|row| row.client == client && row.nodes == nodes);
    rows.filter(|row| is_in(row))
        .for_each(|row| tally.add(&row.outcome));
    tally
}

/// What failed and what was not run, and why, each reason once.
fn reasons<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<String> {
    let mut found: BTreeMap<(bool, &str), BTreeSet<String>> = BTreeMap::new();
    for row in rows {
        let (is_skip, why) = match &row.outcome {
            Outcome::Passed => continue,
            Outcome::Failed(why) => (false, why),
            Outcome::NotRun(why) => (true, why),
        };
        let behaviours = found.entry((is_skip, why)).or_default();
        behaviours.insert(family(&row.behaviour));
    }
    let line = |((is_skip, why), behaviours): ((bool, &str), BTreeSet<String>)| {
        let mut line = String::from(if is_skip { "- Not run: " } else { "- Failed: " });
        let behaviours: Vec<String> = behaviours.into_iter().collect();
        write!(
            line,
            "{}: {}",
            behaviours.join("; "),
            why.replace('|', "\\|")
        )
        .expect("a string takes everything");
        line
    };
    found.into_iter().map(line).collect()
}

/// What a behaviour is called when it is tried with every codec, every other client and every node.
fn family(behaviour: &str) -> String {
    if let Some((_, rest)) = behaviour.split_once(" topics that ") {
        return match rest.contains("under faults") {
            true => "read from every replica what was sent under faults".to_owned(),
            false => behaviour.to_owned(),
        };
    }
    match behaviour.rsplit_once(", ") {
        Some((what, codec)) if behaviour.starts_with("send ") && CODECS.contains(&codec) => {
            format!("{what}, every codec")
        }
        _ if behaviour.starts_with("read ") => match behaviour.split_once(" of ") {
            Some((what, _)) => format!("{what} of others"),
            None => behaviour.to_owned(),
        },
        _ => behaviour.to_owned(),
    }
}

fn in_order(all: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = Vec::new();
    for one in all {
        if !seen.contains(&one) {
            seen.push(one);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaviours_of_one_kind_are_one_row() {
        for (behaviour, expected) in [
            ("send words, gzip", "send words, every codec"),
            ("read words of kafkajs, zstd", "read words of others"),
            ("read 64 MiB of java, lz4", "read 64 MiB of others"),
            (
                "send keys, headers, nulls and timestamps",
                "send keys, headers, nulls and timestamps",
            ),
            (
                "read 3 topics that java filled under faults, from node 2",
                "read from every replica what was sent under faults",
            ),
            (
                "read from beginning, middle and end",
                "read from beginning, middle and end",
            ),
            (
                "send while nodes are killed, paused and cut off",
                "send while nodes are killed, paused and cut off",
            ),
        ] {
            assert_eq!(family(behaviour), expected);
        }
    }

    #[test]
    fn a_page_has_counts_and_reasons() {
        let mut report = Report::default();
        report.note_version("kcat", "kcat 1.7.1".to_owned());
        report.begin(1);
        report.add("kcat", "send words, gzip", Outcome::Passed);
        report.add(
            "kcat",
            "send words, zstd",
            Outcome::Failed("a | b".to_owned()),
        );
        report.begin(3);
        report.add(
            "kcat",
            "offsets for times",
            Outcome::NotRun("no such API".to_owned()),
        );
        let page = page(&report, "--quick");
        for line in [
            "This page was written by `cargo xtask interop --quick`; with `--all` it has one node and three, and all that is left out here; do not edit it.",
            "| client | version | one node | 3 nodes |",
            "| kcat | kcat 1.7.1 | **failed** (1), passed (1) | not run |",
            "| send words, every codec | **failed** (1), passed (1) | – |",
            "- Failed: send words, every codec: a \\| b",
            "- Not run: offsets for times: no such API",
        ] {
            assert!(
                page.lines().any(|found| found == line),
                "no {line} in\n{page}"
            );
        }
        assert!(!page.contains("## java"));
    }
}

//! One line a client and behaviour, and the totals.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use super::client::UNABLE;

/// How a behaviour turned out.
#[derive(Clone)]
pub(crate) enum Outcome {
    /// It is as it should be.
    Passed,
    /// It is not, and why.
    Failed(String),
    /// It was not tried, and why.
    NotRun(String),
}

impl From<Result<(), String>> for Outcome {
    fn from(result: Result<(), String>) -> Self {
        match result {
            Ok(()) => Self::Passed,
            Err(why) => match why.strip_prefix(UNABLE) {
                Some(why) => Self::NotRun(why.to_owned()),
                None => Self::Failed(why),
            },
        }
    }
}

/// One behaviour of one client.
pub(crate) struct Row {
    /// Against so many nodes.
    pub(crate) nodes: usize,
    /// Or `node`.
    pub(crate) client: String,
    /// What was tried.
    pub(crate) behaviour: String,
    /// How it turned out.
    pub(crate) outcome: Outcome,
    /// How long it took, when that was measured.
    took: Option<Duration>,
}

impl Row {
    fn print(&self) {
        let took = self
            .took
            .map(|took| format!(" ({:.1} s)", took.as_secs_f64()));
        let shown = match &self.outcome {
            Outcome::Passed => format!("passed{}", took.unwrap_or_default()),
            Outcome::Failed(why) => format!("failed: {why}"),
            Outcome::NotRun(reason) => format!("not run: {reason}"),
        };
        println!("{}: {}: {shown}", self.client, self.behaviour);
        // A reader of a pipe should see lines when they happen; nothing is lost if it went away.
        let _ = std::io::stdout().flush();
    }
}

/// Prints outcomes as they come and keeps them.
#[derive(Default)]
pub(crate) struct Report {
    nodes: usize,
    /// Nothing is printed.
    is_silent: bool,
    rows: Vec<Row>,
    versions: BTreeMap<&'static str, String>,
}

impl Report {
    /// What follows is against so many nodes.
    pub(crate) fn begin(&mut self, nodes: usize) {
        self.nodes = nodes;
    }

    /// A report that prints nothing: another takes its rows over.
    pub(crate) fn silent() -> Self {
        Self {
            is_silent: true,
            ..Self::default()
        }
    }

    /// Prints and keeps the rows of another.
    pub(crate) fn take_over(&mut self, other: Self) {
        for row in other.rows {
            self.add_timed(&row.client, &row.behaviour, row.outcome, row.took);
        }
    }

    /// Keeps a client's version.
    pub(crate) fn note_version(&mut self, client: &'static str, version: String) {
        self.versions.insert(client, version);
    }

    /// Everything so far, in its order.
    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// A client's version, if it was installed.
    pub(crate) fn version(&self, client: &str) -> Option<&str> {
        self.versions.get(client).map(String::as_str)
    }

    /// Prints one outcome.
    pub(crate) fn add(&mut self, client: &str, behaviour: &str, outcome: impl Into<Outcome>) {
        self.add_timed(client, behaviour, outcome, None);
    }

    /// Prints one outcome and how long it took.
    pub(crate) fn add_timed(
        &mut self,
        client: &str,
        behaviour: &str,
        outcome: impl Into<Outcome>,
        took: Option<Duration>,
    ) {
        let row = Row {
            nodes: self.nodes,
            client: client.to_owned(),
            behaviour: behaviour.to_owned(),
            outcome: outcome.into(),
            took,
        };
        if !self.is_silent {
            row.print();
        }
        self.rows.push(row);
    }

    /// Prints the failures again, then the totals; true when nothing failed.
    pub(crate) fn close(self) -> bool {
        let (mut passed, mut failed, mut skipped) = (0, Vec::new(), 0);
        for row in &self.rows {
            match &row.outcome {
                Outcome::Passed => passed += 1,
                Outcome::Failed(why) => {
                    failed.push(format!("{}: {}: failed: {why}", row.client, row.behaviour));
                }
                Outcome::NotRun(_) => skipped += 1,
            }
        }
        if !failed.is_empty() {
            println!("\nWhat failed:");
            for line in &failed {
                println!("  {line}");
            }
            println!();
        }
        println!(
            "{passed} passed, {} failed, {skipped} skipped",
            failed.len()
        );
        failed.is_empty()
    }
}

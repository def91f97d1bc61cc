//! One line a client and behaviour, and the totals.

use std::io::Write;
use std::time::Duration;

/// How a behaviour turned out.
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
            Err(why) => Self::Failed(why),
        }
    }
}

/// Prints outcomes as they come and counts them.
#[derive(Default)]
pub(crate) struct Report {
    passed: u32,
    failed: Vec<String>,
    skipped: u32,
}

impl Report {
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
        let took = took
            .map(|took| format!(" ({:.1} s)", took.as_secs_f64()))
            .unwrap_or_default();
        let outcome = match outcome.into() {
            Outcome::Passed => {
                self.passed += 1;
                format!("passed{took}")
            }
            Outcome::Failed(why) => {
                let line = format!("failed: {why}");
                self.failed.push(format!("{client}: {behaviour}: {line}"));
                line
            }
            Outcome::NotRun(reason) => {
                self.skipped += 1;
                format!("not run: {reason}")
            }
        };
        println!("{client}: {behaviour}: {outcome}");
        // A reader of a pipe should see lines when they happen; nothing is lost if it went away.
        let _ = std::io::stdout().flush();
    }

    /// Prints the failures again, then the totals; true when nothing failed.
    pub(crate) fn close(self) -> bool {
        if !self.failed.is_empty() {
            println!("\nWhat failed:");
            for line in &self.failed {
                println!("  {line}");
            }
            println!();
        }
        println!(
            "{} passed, {} failed, {} skipped",
            self.passed,
            self.failed.len(),
            self.skipped
        );
        self.failed.is_empty()
    }
}

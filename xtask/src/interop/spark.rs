//! Spark Structured Streaming through PySpark and its Kafka connector: batches and streams, with
//! kcat on the other side of each. It has behaviours of its own only.

use super::client::Client;
use super::driver::Driver;
use super::install::{self, Workshop};
use super::report::{Outcome, Report};

/// The name of its lines.
pub(crate) const NAME: &str = "spark";

/// Installs it, and runs its behaviours on topics whose names begin with `prefix`.
pub(crate) fn run(workshop: &Workshop, bootstrap: &str, prefix: &str, report: &mut Report) {
    let started = install::spark(workshop).and_then(|program| {
        let mut driver = Driver::new(program, bootstrap);
        Ok((driver.version()?, driver))
    });
    match started {
        Ok((version, mut driver)) => {
            println!("client {NAME}: {version}");
            report.note_version(NAME, version);
            driver.checks(prefix, report);
        }
        Err(why) => report.add(NAME, "all behaviours", Outcome::NotRun(why)),
    }
}
